"""How notebooks are run, and their cache, emptied when what they read has changed.

jupyter-cache compares code cells only. What the cells read lies elsewhere: modules, records, the
versions installed, the ZFREPRO_ variables and the photographs that they name. One key covers all of
it.
"""

import hashlib
import importlib.metadata
import os
import shutil
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import nbformat
import yaml
from jupyter_cache import get_cache
from jupyter_cache.executors import load_executor
from tqdm import tqdm

from zfrepro import data, device

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "_build"
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text())
TIMEOUT = CONFIG["execute"]["timeout"]  # seconds a cell
READ_BY_NOTEBOOKS = ("zfrepro", "diorama", "book", "results")
CHANGES_NO_PAGE = {"ZFREPRO_CACHE", "ZFREPRO_COMMIT", "ZFREPRO_HTML"}
CORES = device.cores()
WORKERS = min(CORES, 4)  # a kernel takes about a GiB
SETTINGS = {
    # More threads than cores would wait for each other, and must not spin while they do.
    "OMP_NUM_THREADS": str(CORES // WORKERS),
    "OMP_WAIT_POLICY": "PASSIVE",
    # glibc keeps what was freed: fresh pages cost up to a tenth of a small training's time.
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
    "ZFREPRO_PAGES": "1",  # they load explorer.js themselves
}
"""The environment of each kernel."""


def read_files(root: Path = ROOT) -> list[Path]:
    """Return what notebooks import or open; notebooks themselves are compared cell by cell."""
    tops = [root / top for top in READ_BY_NOTEBOOKS]
    if records := os.environ.get("ZFREPRO_RESULTS"):
        tops.append(Path(records))
    files = sorted(file for top in tops for file in top.rglob("*") if file.is_file())
    hidden = ("__pycache__", ".ipynb_checkpoints")
    return [file for file in files if file.suffix != ".ipynb" and not set(hidden) & set(file.parts)]


def photographs() -> list[str]:
    """Return a hash of each set of photographs that pages show, or what is wrong with it."""
    chosen = data.default_name()
    if chosen == "diorama":
        return []
    hashes = []
    for name in (chosen, "caltech101"):
        try:
            hashes.append(data.load(name, parts=()).fingerprint)
        except (OSError, ValueError) as error:
            hashes.append(str(error))
    return hashes


def cache_key(root: Path = ROOT) -> str:
    """Return the SHA-256 of everything that notebooks read besides their own cells."""
    installed = {(d.name, d.version) for d in importlib.metadata.distributions()}
    chosen = {(k, v) for k, v in os.environ.items() if k.startswith("ZFREPRO_") and v}
    variables = sorted((k, v) for k, v in chosen if k not in CHANGES_NO_PAGE)
    digest = hashlib.sha256(repr((sorted(installed), variables, photographs())).encode())
    for file in read_files(root):
        digest.update(f"{file}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def run_one(page: Path, cache: Path) -> None:
    """Run a notebook in its folder, and cache it if no cell raised."""
    os.environ.update(SETTINGS)
    executor = load_executor("local-serial", get_cache(cache))
    executor.run_and_cache(filter_uris=[str(page)], timeout=TIMEOUT)


def fill_cache(folder: Path = ROOT / "book", build: Path = BUILD, root: Path = ROOT) -> int:
    """Run the notebooks that are not cached, one on each core.

    A notebook that fails is left out of the cache: jupyter-book runs it again and reports the cell.
    The key is stored after all else, so that what a killed run left is not used.

    Returns:
        How many notebooks had to be run.
    """
    cache, stamp, key = build / ".jupyter_cache", build / "cache-key", cache_key(root)
    build.mkdir(exist_ok=True)
    if not stamp.is_file() or stamp.read_text() != key:
        shutil.rmtree(cache, ignore_errors=True)
    stamp.unlink(missing_ok=True)
    project = get_cache(cache)
    pages = [project.add_nb_to_project(str(page)) for page in sorted(folder.rglob("*.ipynb"))]
    keys = {page.pk for page in pages}
    missing = [Path(page.uri) for page in project.list_unexecuted() if page.pk in keys]
    with ProcessPoolExecutor(WORKERS) as pool:
        jobs = [pool.submit(run_one, page, cache) for page in missing]
        for job in tqdm(as_completed(jobs), "notebooks", len(jobs), disable=not jobs):
            job.result()
    stamp.write_text(key)
    return len(missing)


# The clone has another name than the package, or Python would take the folder for it. The package
# is installed in place, since the records lie beside it; `sys.path` is for the kernel that runs
# already. The extra `book` would replace Colab's own Jupyter.
INSTALL_CELL = """\
import os
import subprocess
import sys
from importlib.util import find_spec

if find_spec("zfrepro") is None:  # as on Colab: fetch the book with its records
    address = "{url}"
    clone = ["git", "clone", "--depth=1", "--branch={branch}", address, "zfrepro-book"]
    if not os.path.isdir("zfrepro-book"):  # left by an install that failed
        subprocess.run(clone, check=True)
    install = [sys.executable, "-m", "pip", "install", "-e", "zfrepro-book[pages]"]
    subprocess.run(install, check=True)
    sys.path.insert(0, "zfrepro-book")"""


def install_cell(config: dict = CONFIG) -> str:
    """Return the code of every first cell, for the repository that `_config.yml` names."""
    return INSTALL_CELL.format(**config["repository"])


def write_install_cells(folder: Path = ROOT / "book") -> None:
    """Put the cell that installs the package first in every notebook."""
    for file in sorted(folder.rglob("*.ipynb")):
        notebook = nbformat.read(file, as_version=4)
        cell = nbformat.v4.new_code_cell(
            install_cell(),
            id="install",
            metadata={"jupyter": {"source_hidden": True}, "tags": ["remove-cell"]},
        )
        cells = [cell, *(other for other in notebook.cells if other.get("id") != "install")]
        if cells != notebook.cells:
            notebook.cells = cells
            nbformat.write(notebook, file)
