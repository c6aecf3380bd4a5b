"""Measure what the changes of Table 2 do to the features, and what other images would change.

python -m zfrepro sweep ablation --dataset diorama
python -m zfrepro measure ablation --dataset diorama --runs runs/ablation-micro/diorama-*
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from book.ablation.claims import BASES, base_of
from zfrepro.data import Dataset
from zfrepro.evolution import cka, layer_features
from zfrepro.measure import Parts, Study
from zfrepro.networks import ARCHITECTURES
from zfrepro.stats import rounded
from zfrepro.weights import Trained, load_weights

COMPARED = 500  # validation images on which layers are compared

Networks = dict[str, dict[int, Trained]]  # by row of Table 2 and seed


def parts(study: Study) -> Parts:
    """Return the measurements: CKA of layers with the base's, and the error that images add."""
    networks = loaded(study.runs, study.device)
    size = next(iter(next(iter(networks.values())).values())).recipe.image_size
    dataset = study.load(size)
    return {
        "runs": lambda: {name: sorted(by_seed) for name, by_seed in networks.items()},
        "features": lambda: features(networks, dataset, study.images or COMPARED),
        "images_error": lambda: images_error(networks, dataset),
    }


def loaded(runs: tuple[Path, ...], device: torch.device | None = None) -> Networks:
    """Load the networks of a sweep's runs, rows in the order of Table 2.

    Raises:
        ValueError: no runs, or not of rows of Table 2.
    """
    if not runs:
        raise ValueError("ablation needs --runs, the folders of finished runs of `sweep ablation`")
    networks: Networks = {name: {} for name in ARCHITECTURES}
    for run in runs:
        trained = load_weights(run / "weights.safetensors", device=device)
        if trained.recipe.arch not in networks:
            raise ValueError(f"{run}: {trained.recipe.arch} is no row of Table 2")
        networks[trained.recipe.arch][trained.recipe.seed] = trained
    return {name: by_seed for name, by_seed in networks.items() if by_seed}


def pairs(networks: Networks, name: str) -> Iterator[tuple[Trained, Trained]]:
    """Yield each network of a row with one of its base, of another seed.

    One seed would give both the same first filters. It is the base's next seed, and after the last
    the first. Of a base with two seeds that would be the same pair both ways, which is one.
    """
    base, seen = networks.get(base_of(name), {}), set()
    for seed, network in sorted(networks[name].items()):
        other_seeds = sorted((other <= seed, other) for other in base if other != seed)
        pair = (network, base[other_seeds[0][1]]) if other_seeds else ()
        if pair and frozenset(map(id, pair)) not in seen:
            seen.add(frozenset(map(id, pair)))
            yield pair


def features(networks: Networks, dataset: Dataset, images: int) -> dict[str, Any]:
    """Return row -> layer -> linear CKA with that layer of the base, one value a pair.

    A base is compared with its own other seeds.
    """
    seen = dataset.val.shuffled(images).images
    layers = {
        id(trained): layer_features(trained, seen)
        for by_seed in networks.values()
        for trained in by_seed.values()
    }
    by_row: dict[str, Any] = {}
    for name in networks:
        by_row[name] = {}
        for network, base in pairs(networks, name):
            of_base = layers[id(base)]
            for layer, values in layers[id(network)].items():
                if layer in of_base:
                    by_row[name].setdefault(layer, []).append(rounded(cka(values, of_base[layer])))
    return {"cka": by_row, "images": len(seen)}


def images_error(networks: Networks, dataset: Dataset) -> dict[str, Any]:
    """Return row -> standard error of its difference to the base over images, in points.

    Seeds stay as they are. The errors of two networks on one image go together, so it is smaller
    than that of either.
    """
    wrong = {
        name: {seed: _wrong(trained, dataset) for seed, trained in by_seed.items()}
        for name, by_seed in networks.items()
    }
    errors: dict[str, float | None] = {}
    for name, by_seed in wrong.items():
        base = wrong.get(base_of(name), {})
        seeds = set(by_seed) & set(base)
        if name not in BASES and seeds:
            differences = torch.stack([by_seed[seed] - base[seed] for seed in seeds]).mean(0)
            errors[name] = rounded(differences.std().item() / math.sqrt(len(differences)), 3)
    return {"standard_error": errors, "images": len(dataset.val)}


def _wrong(trained: Trained, dataset: Dataset) -> Tensor:
    return 100.0 * (trained.predict_proba(dataset.val.images).argmax(1) != dataset.val.labels)
