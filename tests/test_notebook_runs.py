"""Notebooks are run ahead of the book and once: what is cached, what is not, and when the cache is emptied."""

from pathlib import Path

import nbformat
import pytest

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


def test_the_cache_is_emptied_when_what_the_pages_read_has_changed(tmp_path, monkeypatch):
    import refresh_cache

    build = tmp_path / "_build"
    kept = build / ".jupyter_cache" / "global.db"
    assert not refresh_cache.refresh(build)
    kept.parent.mkdir()
    kept.touch()
    assert refresh_cache.refresh(build) and kept.exists()
    monkeypatch.setenv("ZFREPRO_DATASET", "imagenette")
    assert not refresh_cache.refresh(build) and not kept.exists()
