import sys

from zfrepro.cli import main

if __name__ == "__main__":
    sys.exit(main())
