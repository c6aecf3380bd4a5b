"""Write requirements.lock: the exact versions installed in this environment, as a pip constraints file."""

import subprocess
import sys
from pathlib import Path

HEADER = """\
# The versions the book was built and tested with. Written by `make lock`; used as constraints:
#     pip install -c requirements.lock -e '.[book,test]'
# To move to newer ones: rm -r .venv, install without `-c`, `make test`, `make lock`.
"""


def pinned(freeze: str) -> list[str]:
    """The `name==version` lines of `pip freeze`, without local versions (`+cpu`) and without the package."""
    lines = [line.split("+")[0].strip() for line in freeze.splitlines()]
    return sorted((line for line in lines if "==" in line and "@" not in line
                   and not line.startswith(("#", "-", "zfrepro"))), key=str.lower)


if __name__ == "__main__":
    freeze = subprocess.run([sys.executable, "-m", "pip", "freeze", "--exclude-editable"],
                            check=True, capture_output=True, text=True).stdout
    lock = Path(__file__).resolve().parents[1] / "requirements.lock"
    lock.write_text(HEADER + "\n".join(pinned(freeze)) + "\n")
    print(f"{lock.name}: {len(pinned(freeze))} packages")
