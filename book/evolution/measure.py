"""Recorded: how settled each layer is after 1, 2, 5, ... epochs, and what freezing the lower layers costs (Fig. 4).

python -m zfrepro train --recipe modern --scale mini --dataset diorama ... --keep --seed 0 --out runs/evolution-0
python -m zfrepro measure evolution --dataset diorama --runs runs/evolution-0 runs/evolution-1 runs/evolution-2
"""

import base64
import io
import itertools
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from zfrepro import data, plots, records
from zfrepro.data import Dataset
from zfrepro.evolution import (
    Snapshot,
    cka,
    cosine,
    grow,
    jumps,
    layer_features,
    probe_accuracy,
    project,
    snapshots,
    strongest,
)
from zfrepro.measure import Parts, Study
from zfrepro.training import MODERN, Recipe, errors

COMPARED = 1000  # validation images on which layers are compared and probes are tested
PROBED = 1000  # training images a probe is fitted to
SMALL = 800  # training images of the page's network
MAPS = 6  # a layer in the figure, as in the paper
TILE = 48  # pixels; the pictures of deeper layers are reduced to it for the record
PROJECTED = 32  # maps a layer whose projections are compared between snapshots
FROZEN = ("conv1", "conv2")
FROZEN_AFTER = (10, 20, 30)  # epochs of the page's network


def parts(study: Study) -> Parts:
    """The figure of the first run, the curves of every run, and the freezing experiment, which needs no run."""

    def images(recipe: Recipe) -> Dataset:
        return data.load(study.dataset.name, recipe.image_size, root=study.root, progress=study.progress)

    def figure() -> dict[str, Any]:
        if not study.runs:
            raise ValueError("evolution needs --runs, the folders of finished `train --keep` runs, one a seed")
        first = snapshots(study.runs[0])[0].trained.recipe
        return pictures(study.runs[0], images(first), study.seed)

    found: Parts = {"pictures": figure}
    for run in study.runs:
        recipe = snapshots(run)[0].trained.recipe
        found[f"seed{recipe.seed}"] = lambda run=run, recipe=recipe: curves(
            run, images(recipe), study.images or COMPARED, study.progress
        )
    page = small_recipe(study.dataset.name)
    return found | {"freezing": lambda: freezing(images(page), study.progress)}


def small_recipe(dataset: str, seed: int = 0) -> Recipe:
    """A quarter-width ZFNet that learns something in a minute on two cores: the one the page trains."""
    own = {"dataset": dataset, "image_size": 96, "width": 0.25, "units": 128, "epochs": 40, "batch": 32,
           "dropout": 0.0, "label_smoothing": 0.0, "area": 0.5, "seed": seed}  # fmt: skip
    return Recipe(**(MODERN | own))


def small_set(dataset: Dataset, seed: int = 0, count: int = SMALL) -> Dataset:
    """The images that the page's network learns from."""
    train = dataset.train.shuffled(count, seed)
    return Dataset(dataset.name, dataset.classes, train, dataset.val, dataset.image_size, dataset.fingerprint)


def figure_maps(network, seed: int, count: int = MAPS) -> dict[str, list[int]]:
    """The same random maps of each layer at every epoch."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randperm(conv.out_channels, generator=generator)[:count].sort().values.tolist()
        for name, conv in network.convs.items()
    }


def rows_of(kept: list[Snapshot], images: Tensor, maps: dict[str, list[int]], progress: bool = False):
    """Of some maps, at every snapshot: layer -> (projections (M, E, 3, F, F), the strongest images (M, E))."""
    found: dict[str, list] = {name: [] for name in maps}
    for snapshot in kept:
        tops = strongest(snapshot.trained, images, progress=progress)
        for name, chosen in maps.items():
            found[name].append((project(snapshot.trained, images, tops[name], chosen), tops[name].images[chosen, 0]))
    return {name: tuple(torch.stack(part, 1) for part in zip(*own, strict=True)) for name, own in found.items()}


def pictures(run: Path, dataset: Dataset, seed: int) -> dict[str, Any]:
    """The paper's figure: a sheet of projections, row a map, column an epoch, and which image was strongest."""
    kept = snapshots(run)
    maps = figure_maps(kept[-1].trained.network, seed)
    found = {"epochs": [s.epoch for s in kept], "maps": maps, "images": {}, "sheets": {}}
    for name, (projections, images) in rows_of(kept, dataset.train.images, maps).items():
        found["images"][name] = images.tolist()
        tiles = plots.shown(projections).flatten(0, 1)
        if tiles.shape[-1] > TILE:
            tiles = interpolate(tiles, size=(TILE, TILE), mode="area")
        found["sheets"][name] = encoded(plots.tiled(tiles, len(kept), gap=1))
    return found


def encoded(picture: Tensor) -> str:
    """A picture of 0 to 1, (3, H, W), as base64 JPEG, a third of the size of a PNG of such noisy pictures."""
    file = io.BytesIO()
    levels = (picture * 255).round().to(torch.uint8)
    Image.fromarray(plots.array(levels)).save(file, "JPEG", quality=85, subsampling=0, optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def curves(run: Path, dataset: Dataset, compared: int, progress: bool) -> dict[str, Any]:
    """Of one run, by layer and epoch: CKA with the final self, probe accuracy, and change between snapshots."""
    kept = snapshots(run)
    val, train = dataset.val.shuffled(compared), dataset.train.shuffled(PROBED)
    final = layer_features(kept[-1].trained, val.images)
    trained = records.read_json(run / "record.json")
    found: dict[str, Any] = {
        "epochs": [s.epoch for s in kept], "compared": len(val), "probed": len(train),
        "command": trained["command"], "weights_sha256": trained["weights_sha256"],
        "precision": trained.get("precision"),
        "val_error": [trained["history"][s.epoch - 1]["val_top1_error"] for s in kept],
        "cka": {n: [] for n in final}, "probe": {n: [] for n in final}, "changed": {}, "cosine": {}, "same_cosine": {},
    }  # fmt: skip
    tops, projected = [], []
    for snapshot in kept:
        own, seen = (layer_features(snapshot.trained, split.images) for split in (val, train))
        for name in final:
            found["cka"][name].append(round(cka(own[name], final[name]), 4))
            accuracy = probe_accuracy(seen[name], train.labels, own[name], val.labels)
            found["probe"][name].append(round(accuracy, 2))
        tops.append(strongest(snapshot.trained, dataset.train.images, progress=progress))
        maps = figure_maps(snapshot.trained.network, 1, PROJECTED)
        projected.append({n: project(snapshot.trained, dataset.train.images, tops[-1][n], maps[n]) for n in maps})
    for name, chosen in maps.items():
        moved = [jumps(a[name], b[name]) for a, b in itertools.pairwise(tops)]
        alike = [cosine(a[name], b[name]) for a, b in itertools.pairwise(projected)]
        found["changed"][name] = [round(100 * m.float().mean().item(), 2) for m in moved]
        found["cosine"][name] = [round(c.nanmean().item(), 4) for c in alike]
        same = [c[~m[chosen]] for c, m in zip(alike, moved, strict=True)]
        found["same_cosine"][name] = [round(c.nanmean().item(), 4) if c.isfinite().any() else None for c in same]
    return found


def freezing(dataset: Dataset, progress: bool, seeds: int = 3) -> dict[str, Any]:
    """What it costs the page's small network when its lower layers stop learning after 10, 20 or 30 epochs.

    Returns:
        accuracy: epoch of the freezing, "never" for none -> validation accuracy in per cent, one a seed.
        cka: layer -> epoch -> how near it was, when frozen, to the final self that it has if it goes on learning.
    """
    accuracy: dict[str, list[float]] = {name: [] for name in ("never", *map(str, FROZEN_AFTER))}
    alike: dict[str, dict[str, list[float]]] = {layer: {str(e): [] for e in FROZEN_AFTER} for layer in FROZEN}
    compared = dataset.val.shuffled(COMPARED).images
    for seed, after in itertools.product(range(seeds), (0, *FROZEN_AFTER)):
        recipe = small_recipe(dataset.name, seed)
        *before, last = grow(
            recipe, small_set(dataset, seed), (recipe.epochs,) if after else (*FROZEN_AFTER, recipe.epochs),
            device=torch.device("cpu"), frozen=FROZEN if after else (), frozen_after=after, progress=progress,
        )  # fmt: skip
        wrong = errors(last.trained.probabilities(dataset.val.images), dataset.val.labels)["top1_error"]
        accuracy[str(after) if after else "never"].append(round(100 - wrong, 2))
        final = layer_features(last.trained, compared) if before else {}
        for snapshot in before:
            own = layer_features(snapshot.trained, compared)
            for layer in FROZEN:
                alike[layer][str(snapshot.epoch)].append(round(cka(own[layer], final[layer]), 4))
    return {"accuracy": accuracy, "cka": alike, "seeds": seeds, "epochs": recipe.epochs, "images": SMALL}
