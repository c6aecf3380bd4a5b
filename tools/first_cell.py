"""The first cell of every notebook: it installs the package where it is missing, as on Colab, and else does nothing.

    python tools/first_cell.py            write it into book/*.ipynb, for instance after the repository has moved

The address comes from `repository` in _config.yml, from which the launch buttons take it too: a fork changes it there.
"""

import sys
from pathlib import Path

import nbformat
import yaml

ROOT = Path(__file__).resolve().parents[1]
CELL_ID = "install"

# The clone has another name than the package, or Python would take the folder for it. It is installed in place since
# the records lie beside the package; `sys.path` is for this kernel, which started before the installation.
SOURCE = """\
import subprocess
import sys
from importlib.util import find_spec

if find_spec("zfrepro") is None:  # as on Colab: fetch the book with its records, and install the package from it
    address = "{url}"
    subprocess.run(["git", "clone", "--depth=1", "--branch={branch}", address, "zfrepro-book"], check=True)
    subprocess.run([sys.executable, "-m", "pip", "install", "-e", "zfrepro-book", {more}], check=True)
    sys.path.insert(0, "zfrepro-book")"""
MORE = ("captum", "myst-nb")
"""What pages import besides the package and what it requires. Not the extra `book`, which would replace Colab's own
Jupyter."""


def source(root: Path = ROOT) -> str:
    """The cell's code, for the repository that `_config.yml` names."""
    repository = yaml.safe_load((root / "_config.yml").read_text())["repository"]
    more = ", ".join(f'"{name}"' for name in MORE)
    return SOURCE.format(url=repository["url"], branch=repository["branch"], more=more)


def with_first_cell(notebook: nbformat.NotebookNode, code: str) -> nbformat.NotebookNode:
    """The notebook with `code` as its first cell, hidden on the page, in the place of an older one."""
    cell = nbformat.v4.new_code_cell(code, id=CELL_ID, metadata={"tags": ["remove-cell"]})
    notebook.cells = [cell, *(other for other in notebook.cells if other.get("id") != CELL_ID)]
    return notebook


def main() -> int:
    code = source()
    for file in sorted((ROOT / "book").rglob("*.ipynb")):
        old = file.read_text(encoding="utf-8")
        new = nbformat.writes(with_first_cell(nbformat.reads(old, as_version=4), code)) + "\n"
        if new != old:
            file.write_text(new, encoding="utf-8")
            print(f"wrote {file.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
