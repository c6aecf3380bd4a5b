import sys

from zfrepro.commands import main

if __name__ == "__main__":
    sys.exit(main())
