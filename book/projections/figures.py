"""Tiles and interval plots of the chapter on projections."""

from matplotlib.figure import Figure
from torch import Tensor

from book.projections import controls
from book.projections.claims import LAYERS
from book.projections.measure import RULES
from zfrepro import plots
from zfrepro.claims import Record, lookup
from zfrepro.deconvnet import Units
from zfrepro.networks import Network

SIDE = 162  # px of a tile: six times the field of layer 2


def tile(network: Network, layer: str, unit: Units, picture: Tensor) -> Tensor:
    """Return one unit's projection (1, 3, S, S) as a tile, cut to its field: (3, T, T)."""
    cut = controls.cut_to_field(network, layer, unit, picture)[0]
    return plots.enlarge(plots.display(cut), SIDE)


def patch(network: Network, layer: str, unit: Units, image: Tensor) -> Tensor:
    """Return what one unit sees of an image, uint8 (1, 3, S, S), as a tile: (3, T, T)."""
    cut = controls.cut_to_field(network, layer, unit, image, fill=128)[0]
    return plots.enlarge(plots.as_colours(cut), SIDE)


BY_LAYER = {layer: f"layer {layer[-1]}" for layer in LAYERS}
BY_RULE = {rule: rule for rule in RULES}
INTERVALS: dict[str, tuple[str, dict[str, str], dict[str, str], str]] = {
    "switches": ("switches-{0}/rank/{1}", BY_LAYER, {
        "another unit": "another unit, same switches",
        "another image's": "same unit, another image's switches",
        "another unit and image": "both exchanged",
    }, "rank correlation with the projection"),
    "coherence": ("rules-{0}/coherence/{1}", BY_LAYER, {
        name: name for name in ("deconvnet", "forward mask", "guided", "image")
    }, "coherence"),
    "deletion": ("deletion-{0}/deconvnet_minus/{1}", BY_LAYER, {
        "random": "minus random order",
        "another unit": "minus another unit's projection",
        "gradient": "minus gradient",
    }, "mean activation left, difference"),
    "parts": ("truth-{0}/shares/{1}", BY_LAYER, {
        "deconvnet": "deconvnet",
        "another unit": "another unit's deconvnet",
        "contrast": "edge detector",
        "area": "area (chance)",
    }, "share of energy inside the part"),
    "pooling": ("random-conv5/above_other_image/{0}, {1}", {
        f"{rule}, {weights}": f"{rule}, {weights} weights"
        for rule in ("deconvnet", "guided") for weights in ("trained", "random")
    }, {"max": "max-pooling", "none": "no max-pooling"},
        "SSIM with the image, less that with another image"),
    "adversarial": ("adversarial/moved/{0}, {1}", {
        "noise": "noise", "adversarial": "class flipped", "another image": "another image",
    }, BY_RULE, "cosine before and after"),
    "cascade": ("cascade-fc8/curves/{1}, {0}", {
        "fc8": "fc8", "conv5": "fc8 to conv5", "conv3": "fc8 to conv3", "conv1": "fc8 to conv1",
    }, BY_RULE, "rank correlation with the trained network's"),
}  # fmt: skip
"""Figure -> the path in the record of a row and a series, what these are called, and the unit."""


def intervals(name: str, record: Record) -> Figure:
    """Draw one of `INTERVALS`."""
    path, rows, series, unit = INTERVALS[name]
    by_row = {
        label: {group: lookup(record, path.format(row, key)) for key, group in series.items()}
        for row, label in rows.items()
    }
    zero = None if name in ("coherence", "parts") else 0.0  # of a share, zero means nothing
    return plots.intervals_by_group(by_row, unit=unit, zero=zero)
