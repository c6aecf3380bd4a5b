"""The tools behind `make`: what is cached and what is not, runs compared, and installations on poor
machines."""

import ast
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
from PIL import Image

from tests.chromium import ROOT
from tests.photographs import photographs

sys.path.insert(0, str(ROOT / "tools"))

import book_extension  # noqa: E402
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
    for file in ("zfrepro/a.py", "results/a.json", "elsewhere/a.json", "book/gallery/figures.py"):
        write(tmp_path / file, "1")
    photographs(tmp_path / "photos", "imagenet")
    monkeypatch.setenv("ZFREPRO_DATASET", "imagenet")
    monkeypatch.setenv("ZFREPRO_DATA", str(tmp_path / "photos"))
    monkeypatch.setenv("ZFREPRO_RESULTS", str(tmp_path / "elsewhere"))
    return tmp_path


CAT = "photos/imagenet/train/class0"
CHANGES = (
    "zfrepro/a.py", "diorama/a.py", "book/gallery/figures.py", "book/_static/a.js",
    "results/a.json", "elsewhere/a.json", f"{CAT}/0.png", f"{CAT}/new.png",
    "$DATASET", "$RESULTS", "$SKIP_DAMAGED", "an installed version",
)  # fmt: skip
"""Files, variables and more that decide what pages show."""
CHANGES_NOTHING = ("zfrepro/__pycache__/a.pyc", f"{CAT}/boxes.txt", "book/a.ipynb", "$CACHE")


class Newer(importlib.metadata.Distribution):
    name, version = "torch", "99"
    read_text = locate_file = None


@pytest.mark.parametrize("dataset", ["imagenet", "photos/imagenet"])
@pytest.mark.parametrize("what", (*CHANGES, *CHANGES_NOTHING))
def test_the_cache_is_emptied_when_what_pages_read_has_changed_only(
    checkout, monkeypatch, what, dataset
):
    monkeypatch.chdir(checkout)
    monkeypatch.setenv("ZFREPRO_DATASET", dataset)
    before = notebooks.cache_key(checkout)
    assert notebooks.cache_key(checkout) == before
    if what.startswith("$"):
        monkeypatch.setenv(f"ZFREPRO_{what[1:]}", "caltech101")
    elif "/" in what:
        write(checkout / what, "22")
    else:
        installed = list(importlib.metadata.distributions())
        monkeypatch.setattr(importlib.metadata, "distributions", lambda: [*installed, Newer()])
    assert (notebooks.cache_key(checkout) != before) == (what in CHANGES)


def test_a_shallow_clone_writes_no_log(monkeypatch):
    monkeypatch.setattr(make.records, "write_json", None)  # calling it would fail
    monkeypatch.setattr(subprocess, "check_output", lambda *_, **__: "true\n")
    with pytest.raises(SystemExit, match="git fetch --unshallow"):
        make.rules()


def test_a_large_picture_becomes_webp_and_another_of_a_like_name_stays(tmp_path):
    pictures = tmp_path / "_images"
    pictures.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    Image.fromarray(noise).save(pictures / "a.png")
    Image.fromarray(noise[:9]).save(pictures / "a-a.png")
    (tmp_path / "p.html").write_text('<img src="_images/a.png"><img src="../_images/a-a.png">')
    book_extension.finish(SimpleNamespace(outdir=tmp_path), None)
    assert sorted(file.name for file in pictures.iterdir()) == ["a-a.png", "a.webp"]
    text = (tmp_path / "p.html").read_text()
    assert text == '<img src="_images/a.webp"><img src="../_images/a-a.png">'


def test_two_runs_are_compared_by_what_they_show(tmp_path):
    def differing(*texts: str) -> list[str]:
        pages = [page(tmp_path / str(i), "gallery", "1", "2") for i in range(2)]
        for file, text in zip(pages, texts, strict=True):
            notebook = nbformat.read(file, 4)
            notebook.cells[1].outputs = [nbformat.v4.new_output("stream", name="stdout", text=text)]
            nbformat.write(notebook, file)
        return make.differing(*pages)

    assert differing("9.5 at 0x7f00aa", "9.5 at 0x7f11bb") == []
    (line,) = differing("9.5", "9.6")
    assert line.startswith("gallery, cell-1") and "9.5" in line and "9.6" in line


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_begins_with_the_cell_that_installs(path):
    first, *others = nbformat.read(path, as_version=4).cells
    code = [ast.unparse(ast.parse(source)) for source in (first.source, notebooks.install_cell())]
    cell = (first.id, first.metadata.get("tags"), code[0])
    assert cell == ("install", ["remove-cell"], code[1]), "python tools/make.py cells"
    assert "install" not in [cell.id for cell in others]


def test_the_cell_installs_where_the_package_is_missing_and_goes_on_where_that_failed(
    monkeypatch, tmp_path
):
    ran: list[list[str]] = []

    def fails_once(command, check):
        ran.append(command)
        if command[0] == "git":
            (tmp_path / command[-1]).mkdir()  # as git does, which refuses a folder that is there
        elif len(ran) == 2:
            raise subprocess.CalledProcessError(1, command)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "run", fails_once)
    monkeypatch.setattr(sys, "path", before := list(sys.path))
    code = notebooks.install_cell({"repository": {"url": "https://a.org/b", "branch": "try"}})
    exec(code, {})
    assert not ran and sys.path == before  # it is installed here
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(subprocess.CalledProcessError):
        exec(code, {})
    exec(code, {})
    clone, install, again = ran
    assert clone[:2] == ["git", "clone"] and {"--branch=try", "https://a.org/b"} < set(clone)
    assert install == again and install[:4] == [sys.executable, "-m", "pip", "install"]
    assert install[-1] == f"{clone[-1]}[pages]" and sys.path[0] == clone[-1]
    assert not clone[-1].isidentifier()  # or the folder would look like the package, the next time


def programs(folder: Path, **bodies: str) -> Path:
    """A folder with shell scripts of these names and bodies, and what a script needs."""
    folder.mkdir()
    for name in ("id", "chmod"):
        (folder / name).symlink_to(shutil.which(name))
    for name, body in bodies.items():
        file = folder / name.replace("_", "-")
        file.write_text(f"#!/bin/sh\n{body}\n")
        file.chmod(0o755)
    return folder


def shell(folder: Path, script: str, *words: str) -> subprocess.CompletedProcess:
    """Run a script of tools/ with the programs in a folder and no others."""
    command = ["/bin/sh", str(ROOT / "tools" / script), *words]
    return subprocess.run(
        command, cwd=folder, env={"PATH": str(folder)}, capture_output=True, text=True
    )


RUNS, FAILS = "exit 0", "exit 1"
INSTALLS = 'case "$*" in *install*) echo "#!/bin/sh" > {0}/chromium; chmod +x {0}/chromium;; esac'


@pytest.mark.parametrize(
    "bodies, words",
    [
        ({"google_chrome": RUNS, "apt_get": FAILS}, []),
        ({"apt_get": INSTALLS, "sudo": 'shift; "$@"'}, ["installing"]),
        ({"chromium_browser": FAILS, "apt_get": RUNS, "npx": RUNS, "sudo": RUNS}, ["installing"]),
        ({"apt_get": FAILS, "npx": FAILS, "sudo": FAILS}, ["installing", "NO BROWSER"]),
    ],
    ids=["one is there", "Debian's", "a stub, then Playwright's", "both fail"],
)
def test_a_browser_is_found_or_fetched_or_its_lack_said(tmp_path, bodies, words):
    folder = tmp_path / "bin"
    programs(folder, **{name: body.format(folder) for name, body in bodies.items()})
    done = shell(folder, "chromium.sh")
    assert done.returncode == 0 and not done.stderr
    lines = done.stdout.splitlines()
    assert all(word in line for word, line in zip(words, lines, strict=True))


OLD = 'case "$*" in *version_info*) exit 1;; --version) echo Python 3.9;; esac'


@pytest.mark.parametrize(
    "body, remedy",
    [(None, "Install Python 3.11"), (OLD, "Python 3.9 is too old"),
     ('case "$*" in *ensurepip*) exit 1;; esac', "apt install python3-venv")],
    ids=["missing", "old", "no venv"],
)  # fmt: skip
def test_setup_says_in_one_line_what_to_do(tmp_path, body, remedy):
    folder = programs(tmp_path / "bin", **({"python3": body} if body else {}))
    done = shell(folder, "setup.sh", "python3", str(tmp_path / "venv"))
    assert done.returncode == 1 and remedy in done.stderr and len(done.stderr.splitlines()) == 1
    assert ("note: no C compiler" in done.stdout) == ("venv" in remedy)  # which comes before
