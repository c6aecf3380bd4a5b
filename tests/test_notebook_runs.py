"""Notebooks are run ahead of the book and once: what is cached, what is not, and when the cache is emptied."""

import os
import shutil
from pathlib import Path

import nbformat
import pytest

from tests.photographs import photographs

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def tools(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))


def page(folder: Path, name: str, code: str) -> Path:
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)], metadata=kernel)
    path = folder / f"{name}.ipynb"
    nbformat.write(notebook, path)
    return path


def test_pages_that_run_are_cached_and_not_run_again(tmp_path):
    from run_notebooks import SETTINGS, is_cached, run_notebooks

    book, cache, log = tmp_path / "book", tmp_path / "cache", tmp_path / "log"
    book.mkdir()
    code = f"import os; print(os.environ['OMP_NUM_THREADS'], file=open({str(log)!r}, 'a'))"
    runs, raises = page(book, "runs", code), page(book, "raises", "1 / 0")
    before = runs.read_bytes()
    for _ in range(2):
        run_notebooks(book, cache)
        assert is_cached(runs, cache) and not is_cached(raises, cache)
    assert log.read_text().split() == [SETTINGS["OMP_NUM_THREADS"]]
    assert runs.read_bytes() == before, "sources stay without outputs"
    page(book, "runs", code + "  # changed")
    assert not is_cached(runs, cache)


@pytest.mark.parametrize("left", [None, '{"cells": ['])
def test_what_a_killed_run_left_of_a_page_is_run_again(tmp_path, left):
    from run_notebooks import is_cached, run_notebooks

    book, cache = tmp_path / "book", tmp_path / "cache"
    book.mkdir()
    runs = page(book, "runs", "1")
    run_notebooks(book, cache)
    (kept,) = cache.rglob("*.ipynb")
    kept.unlink() if left is None else kept.write_text(left)
    assert not is_cached(runs, cache)
    run_notebooks(book, cache)
    assert is_cached(runs, cache) and nbformat.read(kept, nbformat.NO_CONVERT).cells[0].execution_count == 1


def test_threads_are_not_more_than_cores():
    from run_notebooks import CORES, SETTINGS, WORKERS

    assert 1 <= WORKERS * int(SETTINGS["OMP_NUM_THREADS"]) <= CORES


@pytest.fixture
def filled(tmp_path, monkeypatch):
    """A checkout in small, photographs, records kept elsewhere, and a cache that was filled from them."""
    import refresh_cache

    for name in [name for name in os.environ if name.startswith("ZFREPRO_")]:
        monkeypatch.delenv(name)
    for file in ("zfrepro/a.py", "results/gallery/a.json", "requirements.lock", "book/_static/a.js", "kept/a.json"):
        write(tmp_path / file, "1")
    photographs(tmp_path / "photos", "imagenet")
    for label in range(2):
        for i in range(32):
            write(tmp_path / "photos" / "caltech101" / f"class{label}" / f"{i}.jpg", str(i))
    values = {"DATASET": "imagenet", "DATA": str(tmp_path / "photos"), "RESULTS": str(tmp_path / "kept")}
    for name, value in values.items():
        monkeypatch.setenv(f"ZFREPRO_{name}", value)
    assert not refresh_cache.refresh(tmp_path / "_build", tmp_path)
    write(tmp_path / "_build" / ".jupyter_cache" / "global.db", "")
    return tmp_path


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def kept(root: Path) -> bool:
    """Whether the cache survives."""
    import refresh_cache

    said = refresh_cache.refresh(root / "_build", root)
    assert said == (root / "_build" / ".jupyter_cache" / "global.db").exists()
    return said


CAT = "photos/imagenet/train/class0"
CHANGES = {
    "package": lambda root: write(root / "zfrepro" / "a.py", "2"),
    "data set": lambda root: write(root / "diorama" / "a.py", "2"),
    "new module": lambda root: write(root / "zfrepro" / "data" / "b.py", ""),
    "result": lambda root: write(root / "results" / "gallery" / "a.json", "2"),
    "lock": lambda root: write(root / "requirements.lock", "2"),
    "static": lambda root: write(root / "book" / "_static" / "a.js", "2"),
    "result elsewhere": lambda root: write(root / "kept" / "a.json", "2"),
    "photograph added": lambda root: write(root / CAT / "9.png", ""),
    "photograph removed": lambda root: (root / CAT / "0.png").unlink(),
    "photograph of another size": lambda root: write(root / CAT / "0.png", ""),
    "photograph renamed": lambda root: (root / CAT / "0.png").rename(root / CAT / "9.png"),
    "class emptied": lambda root: [file.unlink() for file in (root / CAT).iterdir()],
    "set removed": lambda root: shutil.rmtree(root / "photos" / "imagenet"),
    "target": lambda root: (root / "photos" / "caltech101" / "class1" / "3.jpg").unlink(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_cache_is_emptied_when_what_the_pages_read_has_changed(filled, change):
    assert kept(filled)
    CHANGES[change](filled)
    assert not kept(filled)
    write(filled / "_build" / ".jupyter_cache" / "global.db", "")
    assert kept(filled)


@pytest.mark.parametrize("name", ["DATASET", "DATA", "RESULTS", "SKIP_DAMAGED", "DEVICE"])
def test_the_cache_is_emptied_when_a_variable_has_changed(filled, monkeypatch, name):
    monkeypatch.setenv(f"ZFREPRO_{name}", "caltech101")
    assert not kept(filled)


def test_the_cache_is_kept_when_nothing_has_changed_that_pages_show(filled, monkeypatch):
    monkeypatch.setenv("ZFREPRO_CACHE", str(filled / "elsewhere"))
    monkeypatch.setenv("ZFREPRO_COMMIT", "0123456789ab")  # new for each image that is built
    monkeypatch.setenv("ZFREPRO_SKIP_DAMAGED", "")  # as if it were not set
    write(filled / "zfrepro" / "__pycache__" / "a.pyc", "")
    write(filled / CAT / "boxes.txt", "no image")
    write(filled / "photos" / "imagenette" / "train" / "a.png", "another set")
    assert kept(filled)
    monkeypatch.setenv("ZFREPRO_DATASET", "diorama")  # drawn: photographs do not matter
    assert not kept(filled)
    write(filled / "_build" / ".jupyter_cache" / "global.db", "")
    shutil.rmtree(filled / "photos")
    assert kept(filled)
