"""Run every notebook twice and compare all that they show: numbers, tables and pictures must be the same.

Outputs of cells with the tag `timing` may differ. What goes to standard error (progress) and the names that widgets
draw at random are not compared.
"""

import re
import shutil
import sys
import tempfile
from pathlib import Path

import nbformat
from run_tests import EXECUTED, notebooks

RANDOM = re.compile(r"0x[0-9a-f]{6,}|\b[0-9a-f]{32}\b|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""Addresses in memory, names of widgets' models."""


def shown(cell: nbformat.NotebookNode) -> list[str]:
    """What a cell shows, in text that is the same whenever it shows the same."""
    outputs = cell.get("outputs", [])
    printed = "".join(o.text for o in outputs if o.output_type == "stream" and o.name == "stdout")  # comes in any parts
    found = [f"{kind}: {content}" for o in outputs for kind, content in sorted(o.get("data", {}).items())]
    return [RANDOM.sub("...", text) for text in (printed, *found)]


def differing(one: Path, other: Path) -> list[str]:
    """`page, cell: how` for every cell of two runs of a notebook that shows something else."""
    pairs = zip(nbformat.read(one, 4).cells, nbformat.read(other, 4).cells, strict=True)
    found = []
    for a, b in pairs:
        if "timing" not in a.metadata.get("tags", []) and (first := shown(a)) != (second := shown(b)):
            texts = next(((x, y) for x, y in zip(first, second, strict=False) if x != y), (first, second))
            found.append(f"{one.stem}, {a.id}: {texts[0][:200]!r} is {texts[1][:200]!r} in the second run")
    return found


def main() -> int:
    """0 if both runs passed and showed the same."""
    with tempfile.TemporaryDirectory() as kept:
        if notebooks():
            return 1
        first = Path(shutil.copytree(EXECUTED / "book", Path(kept) / "book"))
        if notebooks():
            return 1
        pages = sorted((EXECUTED / "book").rglob("*.ipynb"))
        found = [line for page in pages for line in differing(first / page.name, page)]
    print(*found, sep="\n")
    print(f"{len(pages)} notebooks, run twice: {len(found)} cells show something else")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
