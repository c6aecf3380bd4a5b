"""Recorded: what the changes of Table 2 do to the features, and how sure the errors are of the validation images.

python -m zfrepro sweep ablation --dataset diorama
python -m zfrepro measure ablation --dataset diorama --runs runs/ablation-micro/diorama-*
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zfrepro import contrasts as ablation
from zfrepro import data
from zfrepro.data import Dataset
from zfrepro.evolution import cka, layer_features, probe_accuracy
from zfrepro.measure import Parts, Study
from zfrepro.networks import ARCHITECTURES
from zfrepro.stats import rounded
from zfrepro.weights import Trained, load_weights

COMPARED = 500  # validation images on which layers are compared and probes are tested
PROBED = 1000  # training images a probe is fitted to

Networks = dict[str, dict[int, Trained]]  # by row of Table 2 and seed


def parts(study: Study) -> Parts:
    """CKA of layers with the base's, a probe of the last conv layer's maps, and the error that the images add."""
    networks = loaded(study.runs, study.device)
    size = next(iter(next(iter(networks.values())).values())).recipe.image_size
    dataset = data.load(study.dataset.name, size, root=study.root, progress=study.progress)
    return {
        "runs": lambda: {name: sorted(by_seed) for name, by_seed in networks.items()},
        "features": lambda: features(networks, dataset, study.images or COMPARED),
        "probe": lambda: probes(networks, dataset, study.images or COMPARED),
        "images_error": lambda: images_error(networks, dataset),
    }


def loaded(runs: tuple[Path, ...], device: torch.device | None = None) -> Networks:
    """The networks of a sweep's runs, rows in the order of Table 2.

    Raises:
        ValueError: no runs, or not of rows of Table 2.
    """
    if not runs:
        raise ValueError("ablation needs --runs, the folders of finished runs of `sweep ablation`")
    found: Networks = {name: {} for name in ARCHITECTURES}
    for run in runs:
        trained = load_weights(run / "weights.safetensors", device=device)
        if trained.recipe.arch not in found:
            raise ValueError(f"{run}: {trained.recipe.arch} is no row of Table 2")
        found[trained.recipe.arch][trained.recipe.seed] = trained
    return {name: by_seed for name, by_seed in found.items() if by_seed}


def pairs(networks: Networks, name: str) -> Iterator[tuple[Trained, Trained]]:
    """Each network of a row with one of its base, of another seed: one seed gives both the same first filters.

    It is the base's next seed, and after the last the first, so that of three seeds each serves once. Of a base with
    two seeds that would be the same pair both ways, which is one.
    """
    base, seen = networks.get(ablation.base_of(name), {}), set()
    for seed, own in sorted(networks[name].items()):
        others = sorted((other <= seed, other) for other in base if other != seed)
        pair = (own, base[others[0][1]]) if others else ()
        if pair and frozenset(map(id, pair)) not in seen:
            seen.add(frozenset(map(id, pair)))
            yield pair


def features(networks: Networks, dataset: Dataset, images: int) -> dict[str, Any]:
    """Row -> layer -> linear CKA with the same layer of the base, a value a pair; of a base, with its other seeds."""
    seen = dataset.val.shuffled(images).images
    kept: dict[int, dict[str, Tensor]] = {}

    def of(trained: Trained) -> dict[str, Tensor]:
        if id(trained) not in kept:
            kept[id(trained)] = layer_features(trained, seen)
        return kept[id(trained)]

    found: dict[str, Any] = {}
    for name in networks:
        found[name] = {}
        for own, base in pairs(networks, name):
            a, b = of(own), of(base)
            for layer in (layer for layer in a if layer in b):
                found[name].setdefault(layer, []).append(rounded(cka(a[layer], b[layer])))
    return {"cka": found, "images": len(seen)}


def probes(networks: Networks, dataset: Dataset, images: int) -> dict[str, Any]:
    """Row -> seed -> validation accuracy in per cent of a linear classifier on the maps that leave the conv layers."""
    train, val = dataset.train.shuffled(PROBED), dataset.val.shuffled(images)

    def of(trained: Trained) -> float:
        a, b = (pooled(trained, split.images) for split in (train, val))
        return round(probe_accuracy(a, train.labels, b, val.labels), 2)

    found = {name: {str(seed): of(trained) for seed, trained in own.items()} for name, own in networks.items()}
    return {"accuracy": found, "layer": "pool5", "train": len(train), "val": len(val)}


@torch.no_grad()
def pooled(trained: Trained, images: Tensor, batch: int = 64) -> Tensor:
    """What the first fully connected layer sees of stored images, uint8 (N, 3, R, R) -> (N, D)."""
    network, last = trained.network, trained.network.architecture.convs[-1]
    rows = []
    for part in images.split(batch):
        maps = network.features(trained.normalised(part), [last.name])[last.name]
        rows.append(network.shrink(last, maps).flatten(1).float().cpu())
    return torch.cat(rows)


def images_error(networks: Networks, dataset: Dataset) -> dict[str, Any]:
    """Row -> standard error in points of its difference to the base, over validation images, its seeds as they are.

    The errors of two networks on one image go together, so it is smaller than that of either.
    """
    wrong = {name: {seed: _wrong(own[seed], dataset) for seed in own} for name, own in networks.items()}
    found: dict[str, float | None] = {}
    for name, own in wrong.items():
        base = wrong.get(ablation.base_of(name), {})
        seeds = set(own) & set(base)
        if name not in ablation.BASES and seeds:
            differences = torch.stack([own[seed] - base[seed] for seed in seeds]).mean(0)
            found[name] = rounded(differences.std().item() / math.sqrt(len(differences)), 3)
    return {"standard_error": found, "images": len(dataset.val)}


def _wrong(trained: Trained, dataset: Dataset) -> Tensor:
    return 100.0 * (trained.probabilities(dataset.val.images).argmax(1) != dataset.val.labels)
