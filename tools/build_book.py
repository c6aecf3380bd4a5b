"""Build the book into _build/html. A warning, or a cell that raises, makes the build fail.

    python tools/build_book.py                    run the notebooks that are not in the cache, then build
    python tools/build_book.py .executed    build from notebooks that already carry their outputs
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from refresh_cache import ROOT, refresh
from run_notebooks import SETTINGS, run_notebooks

BUILD = ROOT / "_build"


def build(source: Path = ROOT) -> int:
    """Run jupyter-book on `source`, with the pages placed in _build/html. Returns its exit status."""
    # From scratch each time: Sphinx forgets the warnings of pages it does not read again, and does not
    # notice that a notebook's outputs changed when its cells did not. Executed notebooks stay cached.
    for leftover in ("html", "jupyter_execute"):
        shutil.rmtree(BUILD / leftover, ignore_errors=True)
    jupyter_book = str(Path(sys.executable).with_name("jupyter-book"))
    command = [jupyter_book, "build", str(source), "--path-output", str(ROOT), "--all", "-W", "-n", "--keep-going"]
    status = subprocess.run(command, cwd=ROOT, env=os.environ | SETTINGS).returncode
    if status:
        for report in sorted((BUILD / "html" / "reports").rglob("*.err.log")):
            print(f"\n--- {report.relative_to(ROOT)}\n{report.read_text()}", file=sys.stderr)
        print("zfrepro: the book was not built: the warnings above are errors.", file=sys.stderr)
    else:
        print(f"zfrepro: the book is in {(BUILD / 'html' / 'index.html').relative_to(ROOT)}")
    return status


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(build(Path(sys.argv[1]).resolve()))
    refresh()
    run_notebooks()
    sys.exit(build())
