"""Many trainings with one budget that differ in the network and the seed; every run is filed as soon as it is done.

    python -m zfrepro sweep ablation --dataset diorama --jobs 2
    python -m zfrepro sweep training --dataset imagenet20 --data DIR --jobs 2

Each run is the command `train` in a process of its own, with its own folder, so a killed sweep repeats nothing.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from zfrepro import device as devices
from zfrepro import ensembles, records
from zfrepro.cli import SCALES, command_of
from zfrepro.networks import ARCHITECTURES, STEMS
from zfrepro.receptive_field import multiply_adds
from zfrepro.training import MODERN, Recipe

SWEEPS: dict[str, tuple[str, ...]] = {
    "ablation": tuple(ARCHITECTURES),
    "architecture": tuple(STEMS),
    "training": ("krizhevsky", "zfnet", "zfnet-wide", "zfnet-ten-crops", "zfnet-random-crops", "zfnet-unclipped"),
}
"""Chapter -> the networks that are compared, by name: those of `ARCHITECTURES`, `STEMS` and `VARIANTS`."""

VARIANTS: dict[str, dict[str, Any]] = {
    "zfnet-ten-crops": {"arch": "zfnet", "crops": "ten"},
    "zfnet-random-crops": {"arch": "zfnet", "crops": "random"},
    "zfnet-unclipped": {"arch": "zfnet", "clip": 0.0},
}
"""What a run changes besides its network: both readings of the paper's crops, and no clipping of filters."""

SEEDS: dict[str, int] = {"ablation": 3, "architecture": 3, "training": 5}
"""Chapter -> runs of each network, when nobody says how many."""

BUDGETS: dict[str, dict[str, Any]] = {
    "diorama": {"epochs": 16, "batch": 32, "lr": 0.03, "dropout": 0.0, "label_smoothing": 0.0, "area": 0.5},
    "imagenet20": {"epochs": 8, "batch": 32, "lr": 0.03, "dropout": 0.25, "area": 0.4},
}
"""World -> what its runs change of the modern recipe: some 100,000 images each, minutes on one core."""

LARGE: dict[str, Any] = {"epochs": 10, "batch": 64, "lr": 0.02}
"""What runs of the paper's size change besides, for a GPU: larger batches, and more images for more weights."""


class SweepError(Exception):
    """A sweep that cannot go on or did not finish, with the remedy in one line."""


def recipes(
    sweep: str, dataset: str, seeds: Iterable[int] | None = None, scale: str = "micro", epochs: int | None = None,
    networks: Sequence[str] | None = None,
) -> list[Recipe]:  # fmt: skip
    """The runs of a sweep, all networks of one seed before the next seed, so that a part of them is a comparison too.

    Variants come last, for without the networks that they vary they say nothing.

    Args:
        seeds: default 0, 1, ... up to `SEEDS`.
        networks: some of the sweep's, by name; default all.

    Raises:
        ValueError: unknown sweep, or a network that is not in it.
    """
    if sweep not in SWEEPS:
        raise ValueError(f"no sweep called {sweep!r}; there are: {', '.join(SWEEPS)}")
    if unknown := [name for name in networks or () if name not in SWEEPS[sweep]]:
        raise ValueError(f"{sweep} has no {', '.join(unknown)}; it has: {', '.join(SWEEPS[sweep])}")
    options = MODERN | SCALES[scale] | BUDGETS.get(dataset, {}) | {"dataset": dataset}
    options |= LARGE if scale == "paper" else {}
    options |= {"epochs": epochs} if epochs else {}
    seeds = range(SEEDS[sweep]) if seeds is None else list(seeds)
    names = networks or SWEEPS[sweep]
    pairs = sorted(((name, seed) for seed in seeds for name in names), key=lambda pair: pair[0] in VARIANTS)
    return [Recipe(**options | {"arch": name} | VARIANTS.get(name, {}) | {"seed": seed}) for name, seed in pairs]


def record_name(sweep: str, dataset: str, scale: str = "micro") -> str:
    """Where a sweep is filed, below `results/`. Table 1 has a record for each size of networks, which its page shows
    side by side; the others have one, which `--fresh` begins anew for another size."""
    apart = sweep == "training" and scale != "micro"
    return f"sweeps/{sweep}-{dataset}" + (f"-{scale}" if apart else "")


def name_of(recipe: Recipe, sweep: str) -> str:
    """What a run is called in a sweep: its variant, else its network."""
    variants = {name: changes for name, changes in VARIANTS.items() if name in SWEEPS[sweep]}
    fits = (name for name, own in variants.items() if all(getattr(recipe, k) == v for k, v in own.items()))
    return next(fits, recipe.arch)


def shared(recipe: Recipe) -> dict[str, Any]:
    """What the runs of a sweep have in common; the first of them, which is no variant, speaks for all."""
    return {name: value for name, value in asdict(recipe).items() if name not in ("arch", "seed")}


def row(record: dict[str, Any]) -> dict[str, Any]:
    """What a sweep keeps of the record of a training."""
    recipe = record["recipe"]
    origin = ("command", "commit", "versions", "date", "device", "precision", "seconds")
    kept = (*origin, "parameters", "multiply_adds", "errors")
    history = {name: [round(epoch[name], 3) for epoch in record["history"]] for name in ("loss", "val_top1_error")}
    return {"arch": recipe["arch"], "seed": recipe["seed"], **{k: record[k] for k in kept}, "history": history}


def read(target: Path, recipe: Recipe) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """The runs that a sweep's record already holds and the data they saw; none when there is no record.

    Raises:
        SweepError: they were trained with other options.
    """
    if not target.exists():
        return [], None
    found = records.read_json(target)
    theirs = found.get("recipe", {})
    differing = [name for name, value in shared(recipe).items() if theirs.get(name) != value]
    if differing:
        raise SweepError(f"{target}: its runs have another {', '.join(differing)}; --fresh starts a new record")
    return found["runs"], found["dataset"]


def write(
    target: Path, sweep: str, recipe: Recipe, scale: str, dataset: dict[str, Any], runs: list[dict],
    averages: list[dict] | None = None,
) -> None:  # fmt: skip
    """File the runs, in the order of networks and then of seeds, and what averages of them reach."""
    order = SWEEPS[sweep]
    runs = sorted(runs, key=lambda run: (order.index(run["arch"]), run["seed"]))
    content = {"kind": "sweep", "chapter": sweep, "scale": scale, "dataset": dataset, "recipe": shared(recipe)}
    content |= {"ensembles": averages} if averages else {}
    records.write_json(target, content | {"runs": runs})


def run(
    sweep: str, chosen: list[Recipe], folder: Path, target: Path, *, jobs: int = 1, options: Iterable[str] = (),
    device: str | None = None, fresh: bool = False, say: Callable[[str], None] = print,
) -> None:  # fmt: skip
    """Train what `target` does not hold yet, `jobs` at a time, and add each run to it when it is done.

    Args:
        folder: of the runs' own folders.
        target: the sweep's record.
        options: more words for every `train`, such as --data DIR.
        device: where they run, as for `device.pick`.
        fresh: start a new record; runs whose folders are whole are filed again, not trained again.
    Raises:
        SweepError: the record is of other options or other data, or some runs failed; the others are filed.
    """
    runs, data = ([], None) if fresh else read(target, chosen[0])
    earlier = records.read_json(target).get("ensembles") if runs else None
    own = {(name_of(recipe, sweep), recipe.seed): recipe for recipe in chosen}
    there = {(run["arch"], run["seed"]) for run in runs}
    waiting = [key for key in own if key not in there]
    say(f"{sweep} on {chosen[0].dataset}: {len(chosen)} runs, {len(chosen) - len(waiting)} of them done before")
    here = devices.precision(devices.pick(device), chosen[0].precision)
    if there and waiting and (others := {run.get("precision", chosen[0].precision) for run in runs} - {here}):
        say(f"some runs of the record are in {', '.join(others)}, those to come in {here}: compare within either")
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that `finally` ends the runs too
    began, done, todo = time.monotonic(), 0.0, sum(_cost(own[key]) for key in waiting)
    threads = max(1, devices.cores() // jobs)
    running: dict[subprocess.Popen, tuple[str, int]] = {}
    failed = []

    def place(key: tuple[str, int]) -> Path:
        return folder / f"{chosen[0].dataset}-{key[0]}-seed{key[1]}"

    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                key = waiting.pop(0)
                running[_start(own[key], place(key), threads, options)] = key
            process = _first_finished(running)
            key = running.pop(process)
            name = f"{key[0]} seed {key[1]}"
            if process.returncode:
                failed.append(name)
                say(f"{name} failed: {_last_line(place(key) / 'log.txt')}")
                continue
            record = records.read_json(place(key) / "record.json")
            if runs and record["dataset"] != data:
                raise SweepError(f"{target}: its runs saw other data than {name}; --fresh starts a new record")
            data = record["dataset"]
            runs.append(row(record) | {"arch": key[0], "jobs": jobs})
            there.add(key)
            if not earlier or all((place(filed) / ensembles.FILE).is_file() for filed in there):
                averages = ensembles.of_runs(sweep, {filed: place(filed) for filed in sorted(there)})
            else:  # runs made elsewhere cannot be averaged here: what was averaged there stays
                averages = earlier
            write(target, sweep, chosen[0], record["scale"], data, runs, averages)
            done += _cost(own[key])
            left = (time.monotonic() - began) / done * (todo - done)
            finished = len(there & own.keys())
            say(
                f"{finished}/{len(chosen)} {name}: top-1 error {record['errors']['one_crop']['top1_error']:.1f} % "
                f"in {record['seconds'] / 60:.1f} min; about {left / 60:.0f} min left"
            )
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()
        signal.signal(signal.SIGTERM, before)
    if failed:
        raise SweepError(f"{len(failed)} of {len(chosen)} runs failed, see {folder}: {', '.join(failed)}")


def _cost(recipe: Recipe) -> float:
    network = recipe.architecture()
    return recipe.epochs * (multiply_adds(network, recipe.image_size, 20) + 1e7)  # crops and pools cost something too


def _start(recipe: Recipe, own: Path, threads: int, options: Iterable[str]) -> subprocess.Popen:
    own.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, "-m", "zfrepro", *command_of(recipe).split()[3:], "--out", str(own), "--quiet", *options]
    words += ["--wait"]  # a sweep that was killed leaves its runs going
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    with open(own / "log.txt", "w") as log:
        return subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT, env=environment)


def _first_finished(running: Iterable[subprocess.Popen]) -> subprocess.Popen:
    while True:
        for process in running:
            if process.poll() is not None:
                return process
        time.sleep(0.05)


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
