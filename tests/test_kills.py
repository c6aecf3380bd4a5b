"""Work killed at random moments, again and again: it loses at most one unit, and no later run
trusts what was left.

Each kill is a SIGKILL of the process and its children. Processes are forked from one that has torch
loaded, since starting Python would take longer than the work."""

import contextlib
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.datasets import tiny
from tests.photographs import photographs
from tests.test_sweeps import record_of
from zfrepro import data, records, sweeps
from zfrepro.data import photos

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")

LOG = "log"  # in a folder of work: a line for each unit begun


def begun(folder: Path) -> list[str]:
    return (folder / LOG).read_text().split() if (folder / LOG).exists() else []


def begin(folder: Path, unit: str) -> None:
    """Note a unit of work, in one write that a kill cannot cut."""
    with open(folder / LOG, "ab", buffering=0) as log:
        log.write(f"{unit}\n".encode())


def _alone(work: Callable[[Path], None], folder: Path, ready) -> None:
    os.setsid()  # so that its children are killed with it
    torch.set_num_threads(1)
    ready.send(True)
    work(folder)


@pytest.fixture(scope="module")
def server():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "zfrepro.training", "tests.test_kills"])
    return context


def kill_at_random(
    server, work: Callable[[Path], None], root: Path, times: int, longest: float,
    check: Callable[[Path, int], None],
) -> list[Path]:  # fmt: skip
    """Start `work` on a folder and kill it within `longest` seconds, again and again, then let it
    end. After each, `check` is given the folder and the number of kills it has seen.

    Returns the folders, all finished: work that ends before its kill takes a new one.
    """
    moments, kills, folders, seen = random.Random(times), 0, [], -1
    while True:
        if seen < 0:  # the first, or the one before is finished
            folders.append(root / f"work{len(folders)}")
            folders[-1].mkdir(parents=True)
            seen = 0
        receiver, sender = server.Pipe(duplex=False)
        process = server.Process(target=_alone, args=(work, folders[-1], sender))
        process.start()
        assert receiver.poll(120) and receiver.recv()
        process.join(moments.uniform(0, longest) if kills < times else 300)
        if process.is_alive():
            with contextlib.suppress(ProcessLookupError):  # it may end by itself just before
                os.killpg(process.pid, signal.SIGKILL)
        process.join()
        killed = process.exitcode == -signal.SIGKILL
        assert killed or process.exitcode == 0
        kills, seen = kills + killed, seen + killed
        check(folders[-1], seen)
        if not killed:
            if kills >= times:
                return folders
            seen = -1


# --- a sweep -------------------------------------------------------------------------------------

ARCHS = ("krizhevsky", "zfnet", "zfnet-wide")
CHOSEN = [tiny(arch=arch, seed=seed) for seed in (0, 1) for arch in ARCHS]
STUB = """
import os, sys, time
folder, log, name = sys.argv[1:]
if not os.path.exists(folder + "/record.json"):
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, (name + "\\n").encode())
    time.sleep(0.05)
    os.replace(folder + "/to-be.json", folder + "/record.json")
"""


def sweep(folder: Path) -> None:
    def start(recipe, run, threads, options):  # in place of a training
        run.mkdir(parents=True, exist_ok=True)
        if not (run / "record.json").exists():
            (run / "to-be.json").write_text(json.dumps(record_of(recipe)))
        words = [str(run), str(folder / LOG), f"{recipe.arch}-{recipe.seed}"]
        return subprocess.Popen([sys.executable, "-S", "-c", STUB, *words])

    sweeps._start = start
    sweeps.run("ablation", CHOSEN, folder / "runs", folder / "results.json", say=lambda *_: None)


def test_a_sweep(server, tmp_path):
    def check(folder: Path, kills: int) -> None:
        done = {file.parent.name for file in folder.glob("runs/*/record.json")}
        filed = sweeps.read(folder / "results.json", CHOSEN[0])["runs"]
        names = {f"diorama-{run['arch']}-seed{run['seed']}" for run in filed}
        assert len(names) == len(filed) and names <= done
        assert len(done) - len(names) <= 1  # one may have ended and not been filed yet
        # none is trained again but those that were killed
        assert len(begun(folder)) - len(done) <= kills

    for folder in kill_at_random(server, sweep, tmp_path, 4, 0.8, check):
        assert len(records.read_json(folder / "results.json")["runs"]) == len(CHOSEN)


# --- caches of images ----------------------------------------------------------------------------


def decode(folder: Path) -> None:
    def slowly(file: Path, size: int) -> np.ndarray:
        begin(folder, file.parts[-3])
        time.sleep(0.005)
        return quick(file, size)

    quick, photos.decode = photos.decode, slowly
    os.environ["ZFREPRO_CACHE"] = str(folder / "cache")
    data.load("imagenet", 28, root=folder.parent / "photos", progress=False)


def test_the_cache_of_photographs(server, tmp_path, monkeypatch):
    photographs(tmp_path / "photos", train=30, val=30)
    monkeypatch.setenv("ZFREPRO_CACHE", str(tmp_path / "cache"))
    whole = data.load("imagenet", 28, root=tmp_path / "photos", progress=False)

    def check(folder: Path, kills: int) -> None:
        stored = {file.name.split("-")[0]: np.load(file) for file in folder.rglob("*.npy")}
        for part, images in stored.items():  # half a split is never under the name of one
            assert np.array_equal(images, getattr(whole, part).images.permute(0, 2, 3, 1).numpy())
        for part in ("train", "val"):  # a kill costs the split it falls on, no other
            assert begun(folder).count(part) <= 90 * (kills + (part in stored))

    kill_at_random(server, decode, tmp_path, 3, 0.25, check)
