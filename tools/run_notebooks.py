"""Run the notebooks that are not in the book's cache, one on each core, so that jupyter-book finds them all there.

jupyter-book itself runs one after the other, and a notebook keeps hardly more than one core busy. A notebook that
fails is left out of the cache: jupyter-book then runs it again and reports the cell.
"""

import os
import shutil
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import nbformat
import yaml
from jupyter_cache import get_cache
from jupyter_cache.cache.db import NbCacheRecord
from jupyter_cache.executors import load_executor
from refresh_cache import ROOT
from tqdm import tqdm

from zfrepro import device

CACHE = ROOT / "_build" / ".jupyter_cache"  # where jupyter-book looks
TIMEOUT = yaml.safe_load((ROOT / "_config.yml").read_text())["execute"]["timeout"]  # seconds a cell
CORES = device.cores()
WORKERS = min(CORES, 4)  # a kernel takes about a GiB
SETTINGS = {
    # More threads than cores would wait for each other, and beside any other job they must not spin while they do.
    "OMP_NUM_THREADS": str(CORES // WORKERS),
    "OMP_WAIT_POLICY": "PASSIVE",
    # glibc keeps what was freed: to get fresh pages from the system takes up to a tenth of a small training's time.
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
}
"""The environment of each kernel."""


def run_one(page: Path, cache: Path) -> None:
    """Run a notebook where it lies, and cache it if no cell raised."""
    os.environ.update(SETTINGS)
    load_executor("local-serial", get_cache(cache)).run_and_cache(filter_uris=[str(page)], timeout=TIMEOUT)


def is_cached(page: Path, cache: Path) -> bool:
    """Whether a whole result is kept; what a killed run left of one, at which jupyter-book would fail, is removed."""
    kept = get_cache(cache)
    try:
        record = kept.match_cache_notebook(nbformat.read(page, nbformat.NO_CONVERT))
    except KeyError:
        return False
    try:
        kept.get_cache_bundle(record.pk)
    except (KeyError, ValueError):
        NbCacheRecord.remove_records([record.pk], kept.db)
        shutil.rmtree(cache / "executed" / record.hashkey, ignore_errors=True)
        return False
    return True


def run_notebooks(folder: Path = ROOT / "book", cache: Path = CACHE) -> None:
    """Fill the cache with every notebook of the folder that runs to its end."""
    missing = [page for page in sorted(folder.rglob("*.ipynb")) if not is_cached(page, cache)]
    for page in missing:
        get_cache(cache).add_nb_to_project(str(page))
    with ProcessPoolExecutor(WORKERS) as pool:
        pending = [pool.submit(run_one, page, cache) for page in missing]
        for done in tqdm(as_completed(pending), "notebooks", len(pending), disable=not pending):
            done.result()


if __name__ == "__main__":
    run_notebooks()
