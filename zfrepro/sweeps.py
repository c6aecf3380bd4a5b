"""Train many networks with one budget, several seeds each; file every run as soon as it is done.

    python -m zfrepro sweep ablation --dataset diorama --jobs 2
    python -m zfrepro sweep training --dataset imagenet20 --data DIR --jobs 2

Each run is the command `train` in a process and a folder of its own, so a killed sweep repeats
nothing.
"""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from zfrepro import device as devices
from zfrepro import ensembles, records
from zfrepro.claims import DATASETS
from zfrepro.data import dataset_name, is_path
from zfrepro.networks import ARCHITECTURES, STEMS
from zfrepro.paper import Errors
from zfrepro.receptive_field import multiply_adds
from zfrepro.stats import Interval, pooled_sd, pooled_t
from zfrepro.training import MODERN, SCALES, Recipe, command_of

SWEEPS: dict[str, tuple[str, ...]] = {
    "ablation": tuple(ARCHITECTURES),
    "architecture": tuple(STEMS),
    "training": (
        "krizhevsky", "zfnet", "zfnet-wide",
        "zfnet-ten-crops", "zfnet-random-crops", "zfnet-unclipped",
        "zfnet-raw", "zfnet-raw-unclipped",
    ),
}  # fmt: skip
"""Chapter -> the networks that it compares: names of `ARCHITECTURES`, `STEMS` and `VARIANTS`."""

# the paper's inputs and decay; at a higher rate hardly anything is learnt from so few images
RAW = {"arch": "zfnet", "input_scale": 1.0, "weight_decay": 0.0, "init": "clean", "lr": 0.003}
VARIANTS: dict[str, dict[str, Any]] = {
    "zfnet-ten-crops": {"arch": "zfnet", "crops": "ten"},
    "zfnet-random-crops": {"arch": "zfnet", "crops": "random"},
    "zfnet-unclipped": {"arch": "zfnet", "clip": 0.0},
    "zfnet-raw": RAW,
    "zfnet-raw-unclipped": RAW | {"clip": 0.0},
}
"""What a run changes besides its network: the paper's crops in both readings, its raw inputs
without weight decay, no clipping."""

SEEDS: dict[str, int] = {"ablation": 3, "architecture": 3, "training": 5}
"""Chapter -> runs of each network, when nobody says how many."""

BUDGETS: dict[str, dict[str, Any]] = {
    "diorama": {
        "epochs": 16, "batch": 32, "lr": 0.03, "dropout": 0.0, "label_smoothing": 0.0, "area": 0.5,
    },
    "imagenet20": {"epochs": 8, "batch": 32, "lr": 0.03, "dropout": 0.25, "area": 0.4},
    # no dropout: it would slow down only the rows that keep layers 6 and 7
    "mini-imagenet": {"epochs": 20, "batch": 64, "lr": 0.03, "dropout": 0.0, "area": 0.4},
}  # fmt: skip
"""Data set -> what its runs change of the modern recipe. The first two see some 100,000 images."""

LARGE: dict[str, Any] = {"epochs": 10, "batch": 64, "lr": 0.02}
"""What runs of the paper's size change besides, for a GPU."""


class SweepError(ValueError):
    """A sweep that cannot go on or did not finish, with the remedy in one line."""


def recipes(
    sweep: str,
    dataset: str,
    seeds: Iterable[int] | None = None,
    scale: str = "micro",
    epochs: int | None = None,
    networks: Sequence[str] | None = None,
) -> list[Recipe]:
    """List the runs of a sweep, all networks of one seed before the next seed, variants last.

    So a part of the list is a comparison too. Default: all networks, seeds 0 and on up to `SEEDS`.
    """
    if sweep not in SWEEPS:
        raise ValueError(f"no sweep called {sweep!r}; there are: {', '.join(SWEEPS)}")
    names = tuple(dict.fromkeys(networks or SWEEPS[sweep]))
    if unknown := [name for name in names if name not in SWEEPS[sweep]]:
        raise ValueError(f"{sweep} has no {', '.join(unknown)}; it has: {', '.join(SWEEPS[sweep])}")
    budget = BUDGETS.get(dataset_name(dataset), {})
    options = MODERN | SCALES[scale] | budget | {"dataset": dataset}
    options |= LARGE if scale == "paper" else {}
    options |= {"epochs": epochs} if epochs else {}
    seeds = range(SEEDS[sweep]) if seeds is None else list(seeds)
    pairs = [(name, seed) for seed in seeds for name in names]
    return [
        Recipe(**options | {"arch": name} | VARIANTS.get(name, {}) | {"seed": seed})
        for name, seed in sorted(pairs, key=lambda pair: pair[0] in VARIANTS)
    ]


def record_name(sweep: str, dataset: str, scale: str = "micro") -> str:
    """Return where a sweep is filed, below `results/`; Table 1 has a record for each size."""
    apart = sweep == "training" and scale != "micro"
    return f"sweeps/{sweep}-{dataset_name(dataset)}" + (f"-{scale}" if apart else "")


def name_of(recipe: Recipe, sweep: str) -> str:
    """Return what a run is called in a sweep: its variant, else its network."""
    matching = [
        name for name in SWEEPS[sweep]
        if name in VARIANTS and VARIANTS[name].items() <= asdict(recipe).items()
    ]  # fmt: skip
    return max(matching, key=lambda name: len(VARIANTS[name]), default=recipe.arch)


def shared(recipe: Recipe) -> dict[str, Any]:
    """Return what the runs of a sweep have in common, from one that is no variant."""
    options = asdict(recipe) | {"dataset": dataset_name(recipe.dataset)}
    return {key: value for key, value in options.items() if key not in ("arch", "seed")}


# --- what a record says ----------------------------------------------------------------------


def recorded(sweep: str, scale: str = "micro") -> dict[str, dict[str, Any]]:
    """Return the records of a sweep, by data set; one that has not run is absent."""
    by_dataset = {}
    for dataset in DATASETS:
        with contextlib.suppress(FileNotFoundError):
            by_dataset[dataset] = records.read(record_name(sweep, dataset, scale))
    return by_dataset


def errors(
    record: Mapping[str, Any], part: str = "one_crop", kind: str = "top1_error"
) -> dict[str, dict[int, float]]:
    """Return the errors in a sweep's record in per cent: network -> seed -> error.

    Of `train` images at one crop, of validation images at `one_crop` or `ten_crops`.
    """
    by_network: dict[str, dict[int, float]] = {}
    for run in record["runs"]:
        by_network.setdefault(run["arch"], {})[run["seed"]] = run["errors"][part][kind]
    return by_network


def difference(
    record: Mapping[str, Any],
    weights: Mapping[str, float],
    part: str = "one_crop",
    kind: str = "top1_error",
) -> Interval:
    """Return a contrast of networks' errors in points, seed by seed; see `stats.pooled_t`."""
    return pooled_t(errors(record, part, kind), weights)


def lacking(record: Mapping[str, Any], networks: Iterable[str]) -> str:
    """Return why a record cannot compare some networks; empty if it can."""
    values = errors(record)
    if missing := [name for name in networks if name not in values]:
        return f"no run yet of {', '.join(missing)}"
    if not set.intersection(*(set(values[name]) for name in networks)):
        return f"no seed in common of {', '.join(networks)}"
    return "" if pooled_sd(values)[1] else "one seed only, so no difference has an interval"


def as_record(table: Mapping[str, Errors], dataset: str = "imagenet") -> dict[str, Any]:
    """Return a printed table of errors as a sweep's record, to put it through a claim's rule.

    A printed number has no spread: each network has two runs that are equal.
    """
    runs = []
    for name, row in table.items():
        validation = {"top1_error": row.val1, "top5_error": row.val5}
        parts = {"train": {"top1_error": row.train1}, "one_crop": validation}
        parts["ten_crops"] = validation
        runs += [{"arch": name, "seed": seed, "errors": parts} for seed in (0, 1)]
    return {"kind": "sweep", "dataset": {"name": dataset}, "runs": runs}


# --- running and filing ----------------------------------------------------------------------


def row(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a sweep keeps of the record of a training."""
    recipe = record["recipe"]
    origin = ("command", "commit", "versions", "date", "device", "precision", "seconds")
    values = {key: record[key] for key in (*origin, "parameters", "multiply_adds", "errors")}
    if is_path(recipe["dataset"]):  # where the images lie is this machine's own
        portable = f"DIR/{dataset_name(recipe['dataset'])}"
        values["command"] = values["command"].replace(recipe["dataset"], portable)
    history = {
        key: [round(epoch[key], 3) for epoch in record["history"]]
        for key in ("loss", "train_error", "val_top1_error")
    }
    return {"arch": recipe["arch"], "seed": recipe["seed"], **values, "history": history}


def read(
    target: Path, sweep: str, recipe: Recipe, fingerprint: str | None = None
) -> dict[str, Any]:
    """Return a sweep's record, or one of no runs.

    Raises SweepError if it is damaged, or of other networks, options or images than those of the
    fingerprint.
    """
    if not target.exists():
        return {"runs": [], "dataset": None}
    record = records.read_json(target)
    try:
        options, seen = dict(record["recipe"]), record["dataset"]["fingerprint"]
        known = errors(record).keys() <= set(SWEEPS[sweep])
    except (KeyError, TypeError, ValueError):
        known = False
    if not known:
        raise SweepError(
            f"{target}: not a whole record of {sweep} and its networks; check it out, or use "
            "--fresh"
        )
    if differing := [key for key, value in shared(recipe).items() if options.get(key) != value]:
        raise SweepError(
            f"{target}: its runs have another {', '.join(differing)}; --fresh starts a new record"
        )
    if fingerprint and seen != fingerprint:
        raise SweepError(f"{target}: its runs saw other images; --fresh starts a new record")
    return record


def write(target: Path, sweep: str, recipe: Recipe, content: Mapping[str, Any]) -> None:
    """File a sweep's record, its runs in the order of networks and then of seeds."""
    order = SWEEPS[sweep]
    runs = sorted(content["runs"], key=lambda run: (order.index(run["arch"]), run["seed"]))
    head = {"kind": "sweep", "chapter": sweep, "scale": content["scale"]}
    head |= {"dataset": content["dataset"], "recipe": shared(recipe)}
    head |= {"ensembles": content["ensembles"]} if content.get("ensembles") else {}
    records.write_json(target, head | {"runs": runs})


def run(
    sweep: str,
    chosen: Sequence[Recipe],
    folder: Path,
    target: Path,
    *,
    plain: Recipe | None = None,
    jobs: int = 1,
    options: Iterable[str] = (),
    device: str | None = None,
    fresh: bool = False,
    fingerprint: str | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Train what `target` does not hold yet, `jobs` at a time, and file each run when it is done.

    Args:
        folder: of the runs' own folders.
        target: the sweep's record.
        plain: a run that is no variant, for what all share; default, the first of `chosen`.
        options: more words for every `train`, such as --data DIR.
        device: where they run, as for `device.pick`.
        fresh: start a new record; runs whose folders are whole are filed again, not trained again.
        fingerprint: of the images, which must be those of the record.
    Raises:
        SweepError: the record is of other options or other data, or some runs failed; the others
            are filed.
    """
    first = plain or chosen[0]
    by_key = {(name_of(recipe, sweep), recipe.seed): recipe for recipe in chosen}
    folders = _places(folder, first, by_key)
    content = {"runs": [], "dataset": None} if fresh else read(target, sweep, first, fingerprint)
    averaged_before = content.get("ensembles")
    filed = {(run["arch"], run["seed"]) for run in content["runs"]}
    waiting = [key for key in by_key if key not in filed]
    done_before = len(chosen) - len(waiting)
    say(f"{sweep} on {first.dataset}: {len(chosen)} runs, {done_before} of them done before")
    precision = devices.precision(devices.pick(device), first.precision)
    differing = {run.get("precision", first.precision) for run in content["runs"]} - {precision}
    if waiting and differing:
        say(
            f"some runs of the record are in {', '.join(differing)}, "
            f"those to come in {precision}: compare within either"
        )
    began, cost, todo = time.monotonic(), 0.0, sum(_cost(by_key[key]) for key in waiting)
    threads = max(1, devices.cores() // jobs)
    failed = []
    with _processes() as running:
        while waiting or running:
            while waiting and len(running) < jobs:
                key = waiting.pop(0)
                running[_start(by_key[key], folders[key], threads, options)] = key
            process = _first_finished(running)
            key = running.pop(process)
            name = f"{key[0]} seed {key[1]}"
            if process.returncode:
                failed.append(name)
                say(f"{name} failed: {_last_line(folders[key] / 'log.txt')}")
                continue
            record = records.read_json(folders[key] / "record.json")
            if content["runs"] and record["dataset"] != content["dataset"]:
                raise SweepError(
                    f"{target}: its runs saw other data than {name}; --fresh starts a new record"
                )
            content |= {"dataset": record["dataset"], "scale": record["scale"]}
            content["runs"].append(row(record) | {"arch": key[0], "jobs": jobs})
            filed.add(key)
            # runs made elsewhere cannot be averaged here: what was averaged there stays
            places = _places(folder, first, filed)
            here = all((place / ensembles.FILE).is_file() for place in places.values())
            if here or not averaged_before:
                content["ensembles"] = ensembles.ensemble_errors(sweep, places)
            write(target, sweep, first, content)
            cost += _cost(by_key[key])
            left = (time.monotonic() - began) / cost * (todo - cost)
            error = record["errors"]["one_crop"]["top1_error"]
            say(
                f"{len(filed & by_key.keys())}/{len(chosen)} {name}: top-1 error {error:.1f} % "
                f"in {record['seconds'] / 60:.1f} min; about {left / 60:.0f} min left"
            )
    if failed:
        raise SweepError(
            f"{len(failed)} of {len(chosen)} runs failed, see {folder}: {', '.join(failed)}"
        )


def _places(
    folder: Path, recipe: Recipe, keys: Iterable[tuple[str, int]]
) -> dict[tuple[str, int], Path]:
    dataset = dataset_name(recipe.dataset)
    return {(name, seed): folder / f"{dataset}-{name}-seed{seed}" for name, seed in sorted(keys)}


@contextlib.contextmanager
def _processes() -> Iterator[dict[subprocess.Popen, tuple[str, int]]]:
    """Hold running processes; end them when the block is left, by an error or SIGTERM too."""
    running: dict[subprocess.Popen, tuple[str, int]] = {}
    handler = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that `finally` runs
    try:
        yield running
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()
        signal.signal(signal.SIGTERM, handler)


def _cost(recipe: Recipe) -> float:
    operations = multiply_adds(recipe.architecture(), recipe.image_size, 20)
    return recipe.epochs * (operations + 1e7)  # crops and pools cost something too


def _start(recipe: Recipe, folder: Path, threads: int, options: Iterable[str]) -> subprocess.Popen:
    folder.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, "-m", "zfrepro", *shlex.split(command_of(recipe))[3:]]
    words += ["--out", str(folder), "--quiet", *options]
    words += ["--wait"]  # a sweep that was killed leaves its runs going
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    with open(folder / "log.txt", "w") as log:
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
