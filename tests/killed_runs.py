"""Work that is killed and started again; a program of its own, for `test_survival`.

    python -m tests.killed_runs FOLDER train --dataset ...

All work is done by forks of this process, which loads torch once and never trains itself. For each
moment a folder of its name holds the run that was killed there and then finished; `whole` holds one
that was left alone. Prints, as JSON, the exit codes of the starts of each."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from tests.datasets import tiny
from tests.test_sweeps import ARCHS, record_of
from zfrepro import data, distributed, ensembles, records, sweeps, weights  # noqa: F401
from zfrepro.cli import main
from zfrepro.data import photos

ROOT, WORDS = Path(sys.argv[1]), sys.argv[2:]
MOST = 16  # starts of work that is killed at no particular moment, the last after a minute


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_step(number: int, action: Callable[[], None]) -> None:
    """Act after so many steps of this start of the training."""
    step, left = torch.optim.SGD.step, [number]

    def counted(*arguments):
        step(*arguments)
        left[0] -= 1
        if not left[0]:
            action()

    torch.optim.SGD.step = counted


def at_rename(name: str, number: int) -> None:
    """Die when a file is written for the n-th time, just before it gets its name."""
    replace, left = os.replace, [number]

    def counted(source, target):
        left[0] -= Path(target).name == name
        if not left[0]:
            die()
        replace(source, target)

    records.os.replace = counted


MOMENTS: dict[str, Callable[[], None]] = {
    "in the second epoch": lambda: at_step(5, die),
    "a checkpoint half written": lambda: at_rename("checkpoint.safetensors", 2),
    "weights half written": lambda: at_rename("weights.safetensors", 1),
    "before the record": lambda: at_rename("record.json", 1),
}


def train(folder: Path) -> int:
    return main([*WORDS, "--out", str(folder)])


def decode(folder: Path) -> int:
    """Fill a cache of photographs, slowly."""
    quick = photos.decode
    photos.decode = lambda file, size: time.sleep(0.05) or quick(file, size)
    os.environ["ZFREPRO_CACHE"] = str(folder)
    data.load("imagenet", 28, progress=False)
    return 0


STUB = "import os, sys, time; time.sleep(0.05); os.replace(sys.argv[1], sys.argv[2])"


def sweep(folder: Path) -> int:
    """Run a sweep of stubs that only write their record, and note each that is begun."""

    def begin(recipe, run, threads, options):
        run.mkdir(parents=True, exist_ok=True)
        (run / "to-be.json").write_text(json.dumps(record_of(recipe)))
        with open(folder / "begun", "ab", buffering=0) as log:
            log.write(b"one\n")  # which a kill cannot cut
        files = (str(run / "to-be.json"), str(run / "record.json"))
        return subprocess.Popen([sys.executable, "-S", "-c", STUB, *files])

    sweeps._start = begin
    chosen = [tiny(arch=arch, seed=seed) for seed in (0, 1) for arch in ARCHS]
    target, say = folder / "results.json", lambda *_: None
    sweeps.run("ablation", chosen, folder / "runs", target, say=say)
    return 0


def start(
    name: str, arrange: Callable[[], None] = lambda: None, work: Callable[[Path], int] = train
) -> int:
    """Fork some work on the folder of that name. Returns the process, head of its own group."""
    process = os.fork()
    if process:
        os.setpgid(process, process)
        return process
    code = 70
    try:
        arrange()
        code = work(ROOT / name)
    finally:
        os._exit(code)


def ended(process: int) -> int:
    """Wait; the exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def killed_again_and_again(name: str, work: Callable[[Path], int] = train) -> list[int]:
    """Kill each start a little later than the one before, until one is done."""
    codes: list[int] = []
    while len(codes) < MOST and 0 not in codes:
        process = start(name, work=work)
        time.sleep(0.05 * 1.6 ** len(codes))
        os.killpg(process, signal.SIGKILL)
        codes.append(ended(process))
        for file in (ROOT / name).rglob("*.npy"):
            np.load(file)  # half a cache is never under the name of one
    return codes


def two_at_once(name: str) -> list[int]:
    """While one run pauses, another starts in its folder; then the first is killed and a third
    finishes.
    """
    paused = ROOT / "paused"

    def pause() -> None:
        paused.touch()
        time.sleep(600)

    first = start(name, lambda: at_step(5, pause))
    while not paused.exists():
        time.sleep(0.01)
    codes = [ended(start(name))]
    os.kill(first, signal.SIGKILL)
    return [*codes, ended(first), ended(start(name))]


if __name__ == "__main__":
    codes = {"whole": [ended(start("whole"))]}
    for moment, arrange in MOMENTS.items():
        codes[moment] = [ended(start(moment, arrange)), ended(start(moment))]
    codes["again and again"] = killed_again_and_again("again and again")
    for work in (decode, sweep):
        codes[work.__name__] = killed_again_and_again(work.__name__, work)
    codes["two at once"] = two_at_once("two at once")
    print(json.dumps(codes))
