"""The book's sources: no stored outputs, short cells, described figures, chapters that end as they should."""

from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "book").rglob("*.ipynb"))
LONGEST_CELL = 15
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def toc_files() -> list[str]:
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())

    def files(entries):
        for entry in entries:
            if "file" in entry:
                yield entry["file"]
            for below in ("chapters", "sections", "parts"):
                yield from files(entry.get(below, []))

    return [toc["root"], *files([{key: toc[key] for key in ("chapters", "parts") if key in toc}])]


def code_cells(path: Path) -> list:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def headings(path: Path) -> list[str]:
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]
    lines = "\n".join(cell.source for cell in cells).splitlines()
    return [line.removeprefix("## ").strip() for line in lines if line.startswith("## ")]


def test_toc_names_existing_pages_once():
    pages = toc_files()
    assert len(pages) == len(set(pages))
    for page in pages:
        assert any((ROOT / page).with_suffix(suffix).is_file() for suffix in (".ipynb", ".md")), page


@each_notebook
def test_notebook_is_in_the_toc(path):
    assert str(path.relative_to(ROOT).with_suffix("")) in toc_files()


@each_notebook
def test_notebook_is_valid_and_names_its_kernel(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"


@each_notebook
def test_notebook_is_stored_without_outputs(path):
    # remedy: nbstripout book/*.ipynb
    dirty = [n for n, cell in enumerate(code_cells(path)) if cell.outputs or cell.execution_count is not None]
    assert not dirty
    assert "widgets" not in nbformat.read(path, as_version=4).metadata


@each_notebook
def test_cells_are_short(path):
    # remedy: what is longer belongs in the package
    lengths = {n: len(cell.source.splitlines()) for n, cell in enumerate(code_cells(path))}
    assert not {n: lines for n, lines in lengths.items() if lines > LONGEST_CELL}


@each_notebook
def test_figures_have_alt_text_a_name_and_a_caption(path):
    for cell in code_cells(path):
        shown = cell.metadata.get("mystnb", {})
        if "figure" not in shown:
            continue
        start = cell.source[:60]
        assert len(shown.get("image", {}).get("alt", "")) >= 15, start
        assert shown["figure"].get("name", "").startswith("fig-"), start
        assert len(shown["figure"].get("caption", "")) >= 15, start


@each_notebook
def test_a_cell_that_draws_is_a_figure_or_says_why_not(path):
    # matplotlib in a cell without `mystnb.figure` gives a picture whose alt text is a hash
    for cell in code_cells(path):
        draws = "plt.show(" in cell.source or ".imshow(" in cell.source or "plt.subplots(" in cell.source
        hidden = {"remove-output", "remove-cell"} & set(cell.metadata.get("tags", []))
        assert not draws or hidden or "figure" in cell.metadata.get("mystnb", {}), cell.source[:60]


@each_notebook
def test_chapter_ends_with_what_we_learned_and_exercises(path):
    if path.stem in ("index", "status", "folklore"):
        pytest.skip("not a chapter")
    assert headings(path)[-2:] == ["What we learned", "Exercises"]
