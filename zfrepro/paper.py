"""Numbers that Zeiler & Fergus print, as data, each with its place in the paper. Errors are in per cent.

Sections and figures are numbered as in the ECCV text.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Errors:
    """Errors on ImageNet 2012 in per cent; None where the paper prints no number."""

    train1: float | None = None  # top-1, training images
    val1: float | None = None  # top-1, validation images
    val5: float | None = None  # top-5, validation images
    test5: float | None = None  # top-5, test images


TABLE1: dict[str, Errors] = {
    "gunji": Errors(test5=26.2),
    "decaf": Errors(test5=19.2),
    "krizhevsky-1": Errors(val1=40.7, val5=18.2),
    "krizhevsky-5": Errors(val1=38.1, val5=16.4, test5=16.4),
    "krizhevsky-2011-1": Errors(val1=39.0, val5=16.6),
    "krizhevsky-2011-7": Errors(val1=36.7, val5=15.4, test5=15.3),
    "replication": Errors(val1=40.5, val5=18.1),
    "zfnet": Errors(val1=38.4, val5=16.5),
    "zfnet-5": Errors(val1=36.7, val5=15.3, test5=15.3),
    "zfnet-wide": Errors(val1=37.5, val5=16.0, test5=16.1),
    "both-6": Errors(val1=36.0, val5=14.7, test5=14.8),
    "howard": Errors(test5=13.5),
    "clarifai": Errors(test5=11.7),
}
"""Table 1, ImageNet 2012. A number in a name is how many networks are averaged; `2011` marks extra training images."""

TABLE2: dict[str, Errors] = {
    "krizhevsky": Errors(35.1, 40.5, 18.1),
    "krizhevsky-without-3-4": Errors(41.8, 45.4, 22.1),
    "krizhevsky-without-7": Errors(27.4, 40.0, 18.4),
    "krizhevsky-without-6-7": Errors(27.4, 44.8, 22.4),
    "krizhevsky-without-3-4-6-7": Errors(71.1, 71.3, 50.1),
    "krizhevsky-fc2048": Errors(40.3, 41.7, 18.8),
    "krizhevsky-fc8192": Errors(26.8, 40.0, 18.1),
    "zfnet": Errors(33.1, 38.4, 16.5),
    "zfnet-fc2048": Errors(38.2, 40.2, 17.6),
    "zfnet-fc8192": Errors(22.0, 38.8, 17.0),
    "zfnet-wide": Errors(18.8, 37.5, 16.0),
    "zfnet-wide-fc8192": Errors(10.0, 38.3, 16.9),
}
"""Table 2, the ablations, by the names of `networks.ARCHITECTURES`. The 27.4 printed twice may be a slip."""

FIG3_SIZES: dict[str, int] = {
    "conv1": 110, "pool1": 55, "conv2": 26, "pool2": 13, "conv3": 13, "conv4": 13, "conv5": 13, "pool5": 6,
}  # fmt: skip
"""Fig. 3: side in units of each stage's feature maps, for an image of 224 px."""

FIG3_MAPS: dict[str, int] = {"conv1": 96, "conv2": 256, "conv3": 384, "conv4": 384, "conv5": 256}
"""Fig. 3: feature maps of each conv layer."""

FIG3_KERNELS: dict[str, tuple[int, int]] = {
    "conv1": (7, 2), "pool1": (3, 2), "conv2": (5, 2), "pool2": (3, 2), "conv3": (3, 1), "conv4": (3, 1),
    "conv5": (3, 1), "pool5": (3, 2),
}  # fmt: skip
"""Fig. 3: filter or window side and stride of each stage."""

PATCH_SIZES: dict[str, dict[str, int]] = {
    "zfnet": {"conv1": 7, "conv2": 27, "conv5": 139},
    "krizhevsky": {"conv1": 11, "conv2": 51},
}
"""Side in pixels of the tiles in Fig. 4 (layers 1, 2), Fig. 5 (Krizhevsky's, to a pixel or so in layer 2) and
Fig. 6(c) (layer 5). Not printed as numbers: measured on the bitmaps in the published PDF."""

CLIP_RADIUS: float = 0.1
"""Section 3: the root mean square to which a filter that exceeds it is rescaled."""

CORRESPONDENCE: dict[str, dict[str, tuple[float, float]]] = {
    "conv5": {
        "right eye": (0.067, 0.007),
        "left eye": (0.069, 0.007),
        "nose": (0.079, 0.017),
        "random": (0.107, 0.017),
    },
    "fc7": {
        "right eye": (0.069, 0.015),
        "left eye": (0.068, 0.013),
        "nose": (0.069, 0.011),
        "random": (0.073, 0.014),
    },
}
"""The correspondence table of the arXiv text (Table 1 of its last version, Table 3 of its first; not in the ECCV text):
mean feature sign change over five dogs, lower is more consistent, and a spread the paper does not define."""
