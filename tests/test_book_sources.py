"""The book's sources: pages that open with their answer, short cells, described figures, no typed
results."""

import re
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "book").rglob("*.ipynb"))
CHAPTERS = [path for path in NOTEBOOKS if path.parent.name == path.stem]
LONGEST_CELL, WIDEST_CODE = 25, 88
HIDDEN = {"remove-cell", "remove-input", "hide-input", "hide-cell"}
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
each_chapter = pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)


def code_cells(path: Path) -> list:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def tags(cell) -> set[str]:
    return set(cell.metadata.get("tags", []))


def test_the_table_of_contents_names_every_page_once():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    pages = [toc["root"], *(entry["file"] for entry in toc["chapters"])]
    sources = [file for kind in ("*.ipynb", "*.md") for file in (ROOT / "book").rglob(kind)]
    names = [str(file.relative_to(ROOT).with_suffix("")) for file in sources]
    assert sorted(pages) == sorted(names)


@each_notebook
def test_a_notebook_is_valid_and_stored_without_outputs(path):
    # remedy: nbstripout --keep-id book/*.ipynb book/*/*.ipynb
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3" and "widgets" not in notebook.metadata
    dirty = [
        cell.id for cell in code_cells(path) if cell.outputs or cell.execution_count is not None
    ]
    assert not dirty


@each_notebook
def test_code_is_short_and_fits_the_column_or_is_collapsed_in_jupyterlab(path):
    # remedy: what is longer belongs in a module of the chapter
    for cell in code_cells(path):
        lines = cell.source.splitlines()
        assert len(lines) <= LONGEST_CELL, cell.id
        if tags(cell) & HIDDEN:
            assert cell.metadata.get("jupyter") == {"source_hidden": True}, cell.id
        else:
            assert max(map(len, lines), default=0) <= WIDEST_CODE, cell.id


@each_chapter
def test_a_chapter_opens_with_its_title_and_its_answer(path):
    cells = nbformat.read(path, as_version=4).cells
    seen = [cell for cell in cells if not tags(cell) & {"remove-cell", "remove-output"}]
    title, answer = seen[:2]
    assert re.fullmatch(r"(\(.+\)=\n)?# .+\n*", title.source)
    assert "page.answer(" in answer.source


@each_notebook
def test_figures_have_alt_text_a_name_and_a_caption(path):
    for cell in code_cells(path):
        shown = cell.metadata.get("mystnb", {})
        if "figure" in shown:
            assert len(shown.get("image", {}).get("alt", "")) >= 15, cell.id
            assert shown["figure"].get("name", "").startswith("fig-"), cell.id
            assert len(shown["figure"].get("caption", "")) >= 15, cell.id


EVERYWHERE = {"95 %"}  # the level of an interval
ALLOWED = {  # not measured here
    "architecture": {"0.125": "half of one over the stride", "0.25": "the same"},
    "evolution": {"0.9": "a definition"},
    "index": {"4.0": "the version of a licence"},
}  # fmt: skip
NOT_OURS = [
    re.compile(
        r":::+\{admonition\}[^\n]*\n:class: paper-says.*?^:::+$", re.S | re.M
    ),  # what the paper says
    re.compile(r"```+\{(?:exercise|solution)\}.*?^```+$", re.S | re.M),  # worked by hand
    re.compile(r"^(`{3,}).*?^\1$", re.S | re.M),  # code
    re.compile(r"\$\$.*?\$\$|\$[^$]+\$", re.S),
    re.compile(r"\{\w+(?::\w+)*\}`[^`]*`|`[^`]+`"),  # roles and code
    re.compile(r"[\d.]+ million"),  # how many images ImageNet has
    re.compile(r"(?:[Ss]ections?|Sect\.|Figs?\.|Figures?|Tables?) [\d.]+\w*"),  # a place
]
NUMBER = re.compile(
    r"(?<![\w.])[-−+]?\d+(?:,\d{3})*(?:\.\d+)?(?: ?%| per cent)|(?<![\w.])\d+\.\d+(?![\w.])"
)


def typed_numbers(text: str) -> list[str]:
    """Numbers in prose that look like a result: decimals and per cents."""
    for pattern in NOT_OURS:
        text = pattern.sub(" ", text)
    return [number.strip() for number in NUMBER.findall(text)]


def test_results_are_found_and_what_is_not_ours_is_left():
    text = "The error dropped to 12.3 % and by 0.4 points, 95 % sure"
    assert typed_numbers(text) == ["12.3 %", "0.4", "95 %"]
    assert typed_numbers("See Section 4.2, $a = 0.5$ and `0.5`, in 3 runs") == []
    box = ":::{admonition} The paper\n:class: paper-says\n40.5 %\n:::\nand 1.5"
    assert typed_numbers(box) == ["1.5"]


@each_notebook
def test_no_page_states_a_result_that_was_typed(path):
    cells = [
        cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"
    ]
    allowed = EVERYWHERE | set(ALLOWED.get(path.stem, {}))
    typed = {number for cell in cells for number in typed_numbers(cell.source)} - allowed
    assert not typed, "print these from a record or a live value"
