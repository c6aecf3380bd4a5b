"""The tools behind `make`: what is cached and what is not, runs compared, and installations on poor
machines."""

import ast
import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from tests.chromium import ROOT
from tests.photographs import photographs

sys.path.insert(0, str(ROOT / "tools"))

import browser  # noqa: E402
import make  # noqa: E402
import notebooks  # noqa: E402

NOTEBOOKS = sorted((ROOT / "book").rglob("*.ipynb"))


def page(folder: Path, name: str, *code: str) -> Path:
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    cells = [nbformat.v4.new_code_cell(source, id=f"cell-{i}") for i, source in enumerate(code)]
    folder.mkdir(exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / f"{name}.ipynb")
    return folder / f"{name}.ipynb"


def test_pages_that_run_are_cached_and_run_again_only_if_they_changed(tmp_path):
    book, build, log = tmp_path / "book", tmp_path / "_build", tmp_path / "log"
    code = f"import os; print(os.environ['OMP_NUM_THREADS'], file=open({str(log)!r}, 'a'))"
    runs = page(book, "runs", code)
    source = runs.read_bytes()
    page(book, "raises", "1 / 0")
    assert notebooks.fill_cache(book, build, tmp_path) == 2
    assert notebooks.fill_cache(book, build, tmp_path) == 1  # the one that raised
    assert log.read_text().split() == [notebooks.SETTINGS["OMP_NUM_THREADS"]]
    assert runs.read_bytes() == source, "sources stay without outputs"
    page(book, "raises", "2")
    (build / "cache-key").unlink()  # as when a run was killed: what it left is not used
    assert notebooks.fill_cache(book, build, tmp_path) == 2
    assert len(log.read_text().split()) == 2


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """A checkout in small, photographs, and records kept elsewhere."""
    for name in [name for name in os.environ if name.startswith("ZFREPRO_")]:
        monkeypatch.delenv(name)
    for file in (
        "zfrepro/a.py",
        "results/gallery/a.json",
        "kept/a.json",
        "book/gallery/figures.py",
    ):
        write(tmp_path / file, "1")
    photographs(tmp_path / "photos", "imagenet")
    for name, value in {
        "DATASET": "imagenet",
        "DATA": tmp_path / "photos",
        "RESULTS": tmp_path / "kept",
    }.items():
        monkeypatch.setenv(f"ZFREPRO_{name}", str(value))
    return tmp_path


CAT = "photos/imagenet/train/class0"


@pytest.mark.parametrize(
    "file",
    ["zfrepro/a.py", "zfrepro/data/new.py", "diorama/a.py", "book/gallery/figures.py",
    "book/_static/a.js",
     "results/gallery/a.json", "kept/a.json", f"{CAT}/0.png", f"{CAT}/new.png"],
)  # fmt: skip
def test_the_cache_is_emptied_when_a_file_has_changed_that_pages_read(checkout, file):
    before = notebooks.cache_key(checkout)
    assert notebooks.cache_key(checkout) == before
    write(checkout / file, "22")
    assert notebooks.cache_key(checkout) != before


@pytest.mark.parametrize("name", ["DATASET", "DATA", "RESULTS", "SKIP_DAMAGED", "DEVICE"])
def test_the_cache_is_emptied_when_a_variable_has_changed(checkout, monkeypatch, name):
    before = notebooks.cache_key(checkout)
    monkeypatch.setenv(f"ZFREPRO_{name}", "caltech101")
    assert notebooks.cache_key(checkout) != before


def test_the_cache_is_emptied_when_another_version_is_installed(checkout, monkeypatch):
    class Newer(importlib.metadata.Distribution):
        name, version = "torch", "99"
        read_text = locate_file = None

    before, installed = notebooks.cache_key(checkout), list(importlib.metadata.distributions())
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: [*installed, Newer()])
    assert notebooks.cache_key(checkout) != before


def test_the_cache_is_kept_when_nothing_has_changed_that_pages_show(checkout, monkeypatch):
    before = notebooks.cache_key(checkout)
    monkeypatch.setenv("ZFREPRO_CACHE", str(checkout / "elsewhere"))
    monkeypatch.setenv("ZFREPRO_SKIP_DAMAGED", "")  # as if it were not set
    for file in (
        "zfrepro/__pycache__/a.pyc",
        f"{CAT}/boxes.txt",
        "photos/imagenette/train/a.png",
        "book/a.ipynb",
    ):
        write(checkout / file, "22")
    assert notebooks.cache_key(checkout) == before


def run_twice(tmp_path: Path, first: str, second: str) -> list[str]:
    pages = [page(tmp_path / name, "gallery", "1", "2") for name in ("first", "second")]
    for file, text in zip(pages, (first, second), strict=True):
        notebook = nbformat.read(file, 4)
        notebook.cells[1].outputs = [nbformat.v4.new_output("stream", name="stdout", text=text)]
        nbformat.write(notebook, file)
    return make.differing(*pages)


def test_two_runs_are_compared_by_what_they_show(tmp_path):
    assert run_twice(tmp_path, "9.5 at 0x7f00aa", "9.5 at 0x7f11bb") == []
    (line,) = run_twice(tmp_path, "9.5", "9.6")
    assert line.startswith("gallery, cell-1") and "9.5" in line and "9.6" in line


def test_the_lock_holds_exact_versions_only():
    freeze = "b==1.0+cpu\nA==2\n-e git+x@y#egg=z\nc @ file:///tmp/c\nzfrepro==1\n# a comment"
    assert make.pinned(freeze) == ["A==2", "b==1.0"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_begins_with_the_cell_that_installs(path):
    first, *others = nbformat.read(path, as_version=4).cells
    remedy = "python tools/make.py cells"
    assert first.cell_type == "code" and first.id == "install" not in [
        cell.id for cell in others
    ], remedy
    assert first.metadata.get("tags") == ["remove-cell"], remedy
    assert ast.unparse(ast.parse(first.source)) == ast.unparse(
        ast.parse(notebooks.install_cell())
    ), remedy


@pytest.mark.parametrize("missing", [True, False])
def test_the_cell_installs_only_where_the_package_is_missing(monkeypatch, missing):
    ran: list[list[str]] = []
    monkeypatch.setattr(
        subprocess, "run", lambda words, check: ran.append(words) if check else None
    )
    monkeypatch.setattr(sys, "path", before := list(sys.path))
    if missing:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    fork = {"repository": {"url": "https://example.org/me/mine", "branch": "try"}}
    exec(notebooks.install_cell(fork), {})
    if not missing:
        assert not ran and sys.path == before
        return
    clone, install = ran
    assert clone[:2] == ["git", "clone"]
    assert {"--branch=try", "https://example.org/me/mine"} < set(clone)
    assert install[:4] == [sys.executable, "-m", "pip", "install"]
    assert install[install.index("-e") + 1] == f"{clone[-1]}[pages]" and sys.path[0] == clone[-1]
    assert not clone[
        -1
    ].isidentifier()  # or the folder would itself look like the package, the next time


def test_the_cell_goes_on_where_an_install_failed(monkeypatch, tmp_path):
    ran: list[str] = []

    def fails_once(command, check):
        ran.append(command[0])
        if command[0] == "git":
            (tmp_path / command[-1]).mkdir()  # as git does, which refuses a folder that is there
        elif ran.count(sys.executable) == 1:
            raise subprocess.CalledProcessError(1, command)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(subprocess, "run", fails_once)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(subprocess.CalledProcessError):
        exec(notebooks.install_cell(), {})
    exec(notebooks.install_cell(), {})
    assert ran == ["git", sys.executable, sys.executable]


def programs(folder: Path, **bodies: str) -> Path:
    """A folder with shell scripts of these names and bodies, and nothing else but what a script
    needs.
    """
    folder.mkdir()
    for name in ("id", "chmod"):
        (folder / name).symlink_to(
            next(f"{d}/{name}" for d in ("/usr/bin", "/bin") if Path(d, name).exists())
        )
    for name, body in bodies.items():
        file = folder / name.replace("_", "-")
        file.write_text(f"#!/bin/sh\n{body}\n")
        file.chmod(0o755)
    return folder


RUNS, FAILS = "exit 0", "exit 1"
INSTALLS = 'case "$*" in *install*) echo "#!/bin/sh" > {0}/chromium; chmod +x {0}/chromium;; esac'


@pytest.mark.parametrize(
    "bodies, words",
    [
        ({"google_chrome": RUNS, "apt_get": FAILS}, []),
        ({"apt_get": INSTALLS, "sudo": 'shift; "$@"'}, ["installing"]),
        ({"chromium_browser": FAILS, "apt_get": RUNS, "npx": RUNS, "sudo": RUNS}, ["installing"]),
        ({"apt_get": FAILS, "npx": FAILS, "sudo": FAILS}, ["installing", "NO BROWSER"]),
        ({}, ["installing", "NO BROWSER"]),
    ],
    ids=["one is there", "Debian's", "a stub, then Playwright's", "both fail", "nothing"],
)
def test_a_browser_is_found_or_fetched_or_its_lack_said(tmp_path, bodies, words):
    folder = tmp_path / "bin"
    programs(folder, **{name: body.format(folder) for name, body in bodies.items()})
    command = ["/bin/sh", str(ROOT / "tools" / "chromium.sh")]
    found = subprocess.run(command, env={"PATH": str(folder)}, capture_output=True, text=True)
    assert found.returncode == 0 and not found.stderr
    lines = found.stdout.splitlines()
    assert len(lines) == len(words)
    assert all(word in line for word, line in zip(words, lines, strict=True))


def test_a_program_that_does_not_run_is_no_browser(tmp_path, monkeypatch):
    folder = programs(tmp_path / "bin", chromium=FAILS, google_chrome=RUNS)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(browser, "PLAYWRIGHT", tmp_path)
    find = browser.program.__wrapped__  # without its memory
    assert find() == str(folder / "google-chrome")
    (folder / "google-chrome").unlink()
    assert find() is None


OLD = 'case "$*" in *version_info*) exit 1;; --version) echo Python 3.9;; esac'


@pytest.mark.parametrize(
    "body, remedy",
    [(None, "Install Python 3.11"), (OLD, "Python 3.9 is too old"),
     ('case "$*" in *ensurepip*) exit 1;; esac', "apt install python3-venv")],
    ids=["missing", "old", "no venv"],
)  # fmt: skip
def test_setup_says_in_one_line_what_to_do(tmp_path, body, remedy):
    folder = programs(tmp_path / "bin", **({"python3": body} if body else {}), cc=RUNS)
    command = ["/bin/sh", str(ROOT / "tools" / "setup.sh"), "python3", str(tmp_path / "venv")]
    found = subprocess.run(
        command, cwd=tmp_path, env={"PATH": str(folder)}, capture_output=True, text=True
    )
    assert found.returncode == 1 and remedy in found.stderr and len(found.stderr.splitlines()) == 1
