"""Trainings that are killed at chosen moments and started again; a program of its own, for
`test_survival`.

    python -m tests.killed_runs FOLDER train --dataset ...

Each training is a fork of this process, which loads torch once and never trains itself. For each
moment a folder of its name holds the run that was killed there and then finished; `whole` holds one
that was left alone. Prints, as JSON, the exit codes of the starts of each."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from zfrepro import data, distributed, ensembles, records, weights  # noqa: F401
from zfrepro.cli import main

ROOT, WORDS = Path(sys.argv[1]), sys.argv[2:]
MOST = 12  # starts of a run that is killed at no particular moment


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


def start(name: str, arrange: Callable[[], None] = lambda: None) -> int:
    """Fork a training in the folder of that name. Returns the process."""
    process = os.fork()
    if process:
        return process
    code = 70
    try:
        arrange()
        code = main([*WORDS, "--out", str(ROOT / name)])
    finally:
        os._exit(code)


def ended(process: int) -> int:
    """Wait; the exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def killed_again_and_again(name: str) -> list[int]:
    """Kill each start a little later than the one before, until one is done."""
    codes: list[int] = []
    while len(codes) < MOST and 0 not in codes:
        process = start(name)
        time.sleep(0.05 * 1.6 ** len(codes))
        os.kill(process, signal.SIGKILL)
        codes.append(ended(process))
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
    codes["two at once"] = two_at_once("two at once")
    print(json.dumps(codes))
