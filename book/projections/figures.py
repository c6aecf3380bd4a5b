"""Tiles and rows of plots of the chapter on projections."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from book.projections import controls
from book.projections.claims import LAYERS
from book.projections.measure import RULES
from zfrepro import plots
from zfrepro.deconvnet import Units
from zfrepro.networks import Network
from zfrepro.stats import Interval

Record = Mapping[str, Any]
Row = tuple[str, Interval, float | None]  # of `plots.intervals`
Rows = tuple[list[Row], list[str]]  # and the group of each
SIDE = 162  # px of a tile: six times the field of layer 2


def tile(network: Network, layer: str, unit: Units, picture: Tensor) -> Tensor:
    """Return one unit's projection (1, 3, S, S) as a tile, cut to its field: (3, T, T)."""
    cut = controls.cut_to_field(network, layer, unit, picture)[0]
    return plots.enlarge(plots.display(cut), SIDE)


def patch(network: Network, layer: str, unit: Units, image: Tensor) -> Tensor:
    """Return what one unit sees of an image, uint8 (1, 3, S, S), as a tile: (3, T, T)."""
    cut = controls.cut_to_field(network, layer, unit, image, fill=128)[0]
    return plots.enlarge(plots.as_colours(cut), SIDE)


def _by_layer(record: Record, path: str, series: Mapping[str, str]) -> Rows:
    """Return a row a layer and series; `series` names what `record[path-LAYER]` holds."""
    rows, groups = [], []
    for layer, (name, group) in itertools.product(LAYERS, series.items()):
        found: Any = record[f"{path.split('/')[0]}-{layer}"]
        for key in (*path.split("/")[1:], name):
            found = found[key]
        label = layer.replace("conv", "layer ") if group == next(iter(series.values())) else ""
        rows.append((label, Interval.of(found), None))
        groups.append(group)
    return rows, groups


def switch_rows(record: Record) -> Rows:
    """Return correlations with a unit's own projection when switches or unit are exchanged."""
    series = {
        "another unit": "another unit, same switches",
        "another image's": "same unit, another image's switches",
        "another unit and image": "both exchanged",
    }
    return _by_layer(record, "switches/rank", series)


def coherence_rows(record: Record) -> Rows:
    """Return how clear the projections of each rule are, and the image."""
    names = ("deconvnet", "forward mask", "guided", "image")
    return _by_layer(record, "rules/coherence", dict(zip(names, names, strict=True)))


def deletion_rows(record: Record) -> Rows:
    """Return the mean height of the deletion curve, deconvnet minus other orders."""
    series = {
        "random": "minus random order",
        "another unit": "minus another unit's projection",
        "gradient": "minus gradient",
    }
    return _by_layer(record, "deletion/deconvnet_minus", series)


def part_rows(record: Record) -> Rows:
    """Return the share of energy inside the part that the unit responds to."""
    names = ("deconvnet", "another unit", "contrast", "area")
    groups = ("deconvnet", "another unit's deconvnet", "edge detector", "area (chance)")
    return _by_layer(record, "truth/shares", dict(zip(names, groups, strict=True)))


def pooling_rows(record: Record, layer: str = "conv5") -> Rows:
    """Return the similarity to the image above that to another, by rule, weights and pooling."""
    rows, groups = [], []
    table = record[f"random-{layer}"]["above_other_image"]
    for rule, weights in itertools.product(("deconvnet", "guided"), ("trained", "random")):
        for pooling, group in (("max", "max-pooling"), ("none", "no max-pooling")):
            label = f"{rule}, {weights} weights" if pooling == "max" else ""
            rows.append((label, Interval.of(table[f"{rule}, {weights}, {pooling}"]), None))
            groups.append(group)
    return rows, groups


def adversarial_rows(record: Record) -> Rows:
    """Return the cosine of the true class's pictures before and after each change."""
    rows, groups = [], []
    changes = {"noise": "noise", "adversarial": "class flipped", "another image": "another image"}
    for (change, label), rule in itertools.product(changes.items(), RULES):
        found = record["adversarial"]["moved"][f"{change}, {rule}"]
        rows.append((label if rule == RULES[0] else "", Interval.of(found), None))
        groups.append(rule)
    return rows, groups


def cascade_rows(
    record: Record, stages: Sequence[str] = ("fc8", "conv5", "conv3", "conv1")
) -> Rows:
    """Return correlations with the trained network's class picture as layers become random."""
    rows, groups = [], []
    for stage, rule in itertools.product(stages, RULES):
        label = f"fc8 to {stage}" if rule == RULES[0] else ""
        own = Interval.of(record["cascade-fc8"]["curves"][f"{rule}, {stage}"])
        rows.append((label.replace("fc8 to fc8", "fc8"), own, None))
        groups.append(rule)
    return rows, groups
