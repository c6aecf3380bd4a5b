"""Recorded of a network trained on ImageNet: what it looks for (Fig. 2), how well it knows our
classes, and how alike its layers and our ZFNet's are.

Projections are kept; photographs and weights are not.
"""

import functools
from typing import Any

import torch
from torch import Tensor

from zfrepro import evolution, gallery, plots, training
from zfrepro.data import Split
from zfrepro.measure import Parts, Study
from zfrepro.stats import rounded

REVISION = 2  # projections as they are drawn
LAYERS = ("conv2", "conv4", "conv5")  # ends of the early, the middle and the last stage
IMAGES, CANDIDATES, SHOWN = 500, 10, 6


def parts(study: Study) -> Parts:
    """Return the measurements.

    Raises:
        ValueError: the study is of our own networks.
    """
    if not study.adapted:
        raise ValueError("own_network: name a network that others trained with --network")
    return {
        "accuracy": functools.partial(accuracy, study),
        "cka": functools.partial(alike, study),
        "maps": functools.partial(maps, study),
    }


def accuracy(study: Study) -> dict[str, Any]:
    """Return errors in per cent among the data set's classes, of images it has seen and has not."""
    validation, rows = study.dataset.val, study.rows
    probabilities = study.trained.predict_proba(validation.images, progress=study.progress)
    groups = {"unseen": rows, "seen": ~rows}
    return {
        name: {"n": int(mask.sum())} | training.errors(probabilities[mask], validation.labels[mask])
        for name, mask in groups.items()
        if mask.any()
    }


def alike(study: Study) -> dict[str, dict[str, float]]:
    """Return linear CKA between each of its layers and each of our ZFNet's, on the same images."""
    adapted, ours = (
        evolution.layer_features(trained, split.images)
        for trained, split in ((study.trained, study.val), (study.ours, study.our_images()))
    )
    return {
        layer: {name: rounded(evolution.cka(a, b)) for name, b in ours.items()}
        for layer, a in adapted.items()
    }


def maps(study: Study) -> dict[str, dict[str, Any]]:
    """Return the number of a map of each layer and its strongest projections, on a sheet.

    Of the ten maps with the largest ninth-strongest activation, the one whose projections are most
    alike. They are drawn in grey, the mean of the colours.
    """
    trained = study.trained
    split: Split = study.dataset.val.shuffled(study.images or IMAGES, study.seed)

    def fetch(indices: Tensor) -> Tensor:
        return trained.preprocess(split.images[indices])

    batches = map(fetch, torch.arange(len(split)).split(32))
    tops = gallery.top_units(trained.network, batches, LAYERS, progress=study.progress)
    drawn = {}
    for layer, top in tops.items():
        strongest = top.values[:, -1].argsort(descending=True)[:CANDIDATES].tolist()
        projected = gallery.projections(trained.network, fetch, top, strongest)
        best = int(gallery.mean_pairwise_correlation(projected).nan_to_num(-1).argmax())
        grey = projected[[best]].mean(2, keepdim=True).expand(-1, -1, 3, -1, -1)
        shown = plots.resized(plots.display(grey)[0, :SHOWN])
        sheet = plots.as_jpeg(plots.tiled(shown, 2, gap=2))
        drawn[layer] = {"map": strongest[best], "sheet": sheet}
    return drawn
