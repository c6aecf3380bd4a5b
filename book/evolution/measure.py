"""Recorded: Fig. 4, and the convergence of each layer.

python -m zfrepro train --recipe modern --scale mini --dataset diorama ... --keep --out runs/e-0
python -m zfrepro measure evolution --dataset diorama --runs runs/e-0 runs/e-1 runs/e-2
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from zfrepro import plots, records
from zfrepro.data import Dataset
from zfrepro.evolution import (
    cka,
    cosine,
    layer_features,
    project,
    snapshots,
    strongest,
    strongest_projections,
)
from zfrepro.gallery import Top
from zfrepro.measure import Parts, Study
from zfrepro.training import MODERN, Recipe
from zfrepro.weights import Trained

REVISION = 2  # without each run's errors, which nothing read
OURS_ONLY = True  # takes no network that others trained: nobody kept its epochs
COMPARED = 1000  # validation images on which layers are compared
IMAGE_SIZE = 96  # of the small network, and of runs that are not named by their size
MAPS = 6  # a layer in the figure, as in the paper
TILE = 96  # pixels; the pictures of deeper layers are reduced to it for the record
PROJECTED = 32  # maps a layer whose projections are compared between snapshots


def parts(study: Study) -> Parts:
    """Return the measurements: the figure of the first run, and curves of every run."""
    recipes = {run: snapshots(run)[0].trained.recipe for run in study.runs}

    def images(recipe: Recipe) -> Dataset:
        return study.load(recipe.image_size)

    def figure() -> dict[str, Any]:
        if not recipes:
            raise ValueError(
                "evolution needs --runs, the folders of finished `train --keep` runs, one a seed"
            )
        run, recipe = next(iter(recipes.items()))
        return pictures(run, images(recipe), study.seed)

    compared = study.images or COMPARED

    def over_epochs(run: Path, recipe: Recipe) -> dict[str, Any]:
        return curves(run, images(recipe), compared, study.progress)

    measurements: Parts = {"pictures": figure}
    measurements |= {part_of(r): partial(over_epochs, run, r) for run, r in recipes.items()}
    if zfnet := study.networks.get("zfnet"):
        ends = [snapshots(run)[-1].trained for run in study.runs]
        alike = [end for end in ends if replace(end.recipe, seed=zfnet.recipe.seed) == zfnet.recipe]
        if alike:
            measurements["between"] = lambda: between([zfnet, *alike], study.dataset, compared)
    return measurements


def part_of(recipe: Recipe) -> str:
    """Return the name of a run's part: `seed0` of a run of 96 px along a cosine.

    Others say first what sets them apart: `224px seed0`, `plateau seed0`.
    """
    size = f"{recipe.image_size}px " if recipe.image_size != IMAGE_SIZE else ""
    schedule = f"{recipe.schedule} " if recipe.schedule != "cosine" else ""
    return f"{size}{schedule}seed{recipe.seed}"


def small_recipe(dataset: str, seed: int = 0) -> Recipe:
    """Return the recipe of a quarter-width ZFNet that learns something in a minute on two cores."""
    changes = {
        "dataset": dataset, "image_size": IMAGE_SIZE, "width": 0.25, "units": 128, "epochs": 40,
        "batch": 32, "dropout": 0.0, "label_smoothing": 0.0, "area": 0.5, "ema": 0.0, "seed": seed,
    }  # fmt: skip
    return Recipe(**(MODERN | changes))


def figure_maps(network, seed: int, count: int = MAPS) -> dict[str, list[int]]:
    """Return random maps of each conv layer, the same at every epoch."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randperm(conv.out_channels, generator=generator)[:count].sort().values.tolist()
        for name, conv in network.convs.items()
    }


def pictures(run: Path, dataset: Dataset, seed: int) -> dict[str, Any]:
    """Return Fig. 4: a sheet of projections, row a map, column an epoch, with the images."""
    checkpoints, trained = snapshots(run), records.read_json(run / "record.json")
    maps = figure_maps(checkpoints[-1].trained.network, seed)
    record: dict[str, Any] = {
        "command": trained["command"],
        "epochs": [s.epoch for s in checkpoints],
        "val_error": [trained["history"][s.epoch - 1]["val_top1_error"] for s in checkpoints],
        "maps": maps,
        "images": {},
        "sheets": {},
    }
    rows = strongest_projections(checkpoints, dataset.train.images, maps)
    for name, (projections, images) in rows.items():
        record["images"][name] = images.tolist()
        tiles = projections.flatten(0, 1)
        limits = torch.quantile(tiles.abs().flatten(1), 0.998, dim=1).clamp_min(1e-12)
        tiles = (0.5 + tiles / (2 * limits[:, None, None, None])).clamp(0, 1)  # displayed later
        if tiles.shape[-1] > TILE:
            tiles = interpolate(tiles, size=(TILE, TILE), mode="area")
        record["sheets"][name] = plots.as_jpeg(plots.tiled(tiles, len(checkpoints), gap=1))
    return record


def curves(run: Path, dataset: Dataset, compared: int, progress: bool) -> dict[str, Any]:
    """Return a run's CKA with its final layer, by layer and epoch, and how its projections change.

    Changes are those of the strongest images and of their projections.
    """
    checkpoints, trained = snapshots(run), records.read_json(run / "record.json")
    images, val = dataset.train.images, dataset.val.shuffled(compared)
    maps = figure_maps(checkpoints[-1].trained.network, 1, PROJECTED)
    by_epoch = [layer_features(snapshot.trained, val.images) for snapshot in checkpoints]
    record: dict[str, Any] = {
        "epochs": [s.epoch for s in checkpoints],
        "command": trained["command"],
        "weights_sha256": trained["weights_sha256"],
        "cka": {
            name: [round(cka(now[name], by_epoch[-1][name]), 4) for now in by_epoch]
            for name in maps
        },
    }
    for measure in ("changed", "cosine", "same_cosine"):
        record[measure] = {name: [] for name in maps}

    def projected(trained: Trained) -> dict[str, tuple[Top, Tensor]]:
        top = strongest(trained, images, progress=progress)
        return {name: (top[name], project(trained, images, top[name], maps[name])) for name in maps}

    for before, now in itertools.pairwise(projected(s.trained) for s in checkpoints):
        for name, chosen in maps.items():
            (top, picture), (new_top, new_picture) = before[name], now[name]
            changed = new_top.images[:, 0] != top.images[:, 0]  # the paper's jump
            alike = cosine(picture, new_picture)
            same = alike[~changed[chosen]].nanmean().item()
            record["changed"][name].append(round(100 * changed.float().mean().item(), 2))
            record["cosine"][name].append(round(alike.nanmean().item(), 4))
            record["same_cosine"][name].append(None if math.isnan(same) else round(same, 4))
    return record


def between(finals: Sequence[Trained], dataset: Dataset, compared: int) -> dict[str, list[float]]:
    """Return each layer's CKA between every two networks that differ in their seed alone, by layer.

    A layer that is more similar than this to its own end is closer to it than another training.
    """
    images = dataset.val.shuffled(compared).images
    features = [layer_features(trained, images) for trained in finals]
    return {
        name: [round(cka(a[name], b[name]), 4) for a, b in itertools.combinations(features, 2)]
        for name in finals[0].network.convs
    }
