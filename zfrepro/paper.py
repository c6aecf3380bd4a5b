"""Numbers that Zeiler & Fergus print, as data, each with its place in the paper.

Errors are in per cent; sections and figures are numbered as in the ECCV text."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Errors:
    """Errors on ImageNet 2012 in per cent; None where the paper prints no number."""

    name: str  # of the row, in the paper's words; empty where no table has it
    train1: float | None = None  # top-1, training images
    val1: float | None = None  # top-1, validation images
    val5: float | None = None  # top-5, validation images
    test5: float | None = None  # top-5, test images


def contrast(
    table: Mapping[str, Errors], weights: Mapping[str, float], column: str = "val1"
) -> float:
    """Return a contrast of printed errors in points; of a pair, weights are {new: 1, old: -1}."""
    return round(sum(w * getattr(table[name], column) for name, w in weights.items()), 1)


TABLE1: dict[str, Errors] = {
    "gunji": Errors("Gunji et al.", test5=26.2),
    "decaf": Errors("DeCAF", test5=19.2),
    "krizhevsky-1": Errors("Krizhevsky et al., 1 convnet", val1=40.7, val5=18.2),
    "krizhevsky-5": Errors("Krizhevsky et al., 5 convnets", val1=38.1, val5=16.4, test5=16.4),
    "krizhevsky-2011-1": Errors("Krizhevsky et al.*, 1 convnet", val1=39.0, val5=16.6),
    "krizhevsky-2011-7": Errors("Krizhevsky et al.*, 7 convnets", val1=36.7, val5=15.4, test5=15.3),
    "replication": Errors("Our replication of Krizhevsky et al., 1 convnet", val1=40.5, val5=18.1),
    "zfnet": Errors("1 convnet as per Fig. 3", val1=38.4, val5=16.5),
    "zfnet-5": Errors("5 convnets as per Fig. 3 – (a)", val1=36.7, val5=15.3, test5=15.3),
    "zfnet-wide": Errors(
        "1 convnet as per Fig. 3 but with layers 3,4,5: 512,1024,512 maps – (b)",
        val1=37.5,
        val5=16.0,
        test5=16.1,
    ),
    "both-6": Errors("6 convnets, (a) & (b) combined", val1=36.0, val5=14.7, test5=14.8),
    "howard": Errors("Howard", test5=13.5),
    "clarifai": Errors("Clarifai", test5=11.7),
}
"""Table 1, ImageNet 2012. A number in a key is how many networks are averaged; `2011` and * mark
extra training images of ImageNet 2011."""

TABLE2: dict[str, Errors] = {
    "krizhevsky": Errors("Our replication of Krizhevsky et al., 1 convnet", 35.1, 40.5, 18.1),
    "krizhevsky-without-3-4": Errors("Removed layers 3,4", 41.8, 45.4, 22.1),
    "krizhevsky-without-7": Errors("Removed layer 7", 27.4, 40.0, 18.4),
    "krizhevsky-without-6-7": Errors("Removed layers 6,7", 27.4, 44.8, 22.4),
    "krizhevsky-without-3-4-6-7": Errors("Removed layers 3,4,6,7", 71.1, 71.3, 50.1),
    "krizhevsky-fc2048": Errors("Adjust layers 6,7: 2048 units", 40.3, 41.7, 18.8),
    "krizhevsky-fc8192": Errors("Adjust layers 6,7: 8192 units", 26.8, 40.0, 18.1),
    "zfnet": Errors("Our Model (as per Fig. 3)", 33.1, 38.4, 16.5),
    "zfnet-fc2048": Errors("Adjust layers 6,7: 2048 units", 38.2, 40.2, 17.6),
    "zfnet-fc8192": Errors("Adjust layers 6,7: 8192 units", 22.0, 38.8, 17.0),
    "zfnet-wide": Errors("Adjust layers 3,4,5: 512,1024,512 maps", 18.8, 37.5, 16.0),
    "zfnet-wide-fc8192": Errors(
        "Adjust layers 6,7: 8192 units and layers 3,4,5: 512,1024,512 maps", 10.0, 38.3, 16.9
    ),
}
"""Table 2, the ablations, by the names of `networks.ARCHITECTURES`. The 27.4 printed twice may be a
slip."""

KRIZHEVSKY_WIDE = Errors("", val1=38.3, val5=16.4)
"""Krizhevsky's network with 512, 1024 and 512 maps in layers 3 to 5, from the first arXiv version.
"""

FIG3_SIZES: dict[str, int] = {
    "conv1": 110, "pool1": 55, "conv2": 26, "pool2": 13, "conv3": 13, "conv4": 13, "conv5": 13,
    "pool5": 6,
}  # fmt: skip
"""Fig. 3: side in units of each stage's feature maps, for an image of 224 px."""

PATCH_SIZES: dict[str, dict[str, int]] = {
    "zfnet": {"conv1": 7, "conv2": 27, "conv5": 139},
    "krizhevsky": {"conv1": 11, "conv2": 51},
}
"""Side in pixels of the tiles in Fig. 4 (layers 1, 2), Fig. 6 (Krizhevsky's, to a pixel or so in
layer 2) and Fig. 7(c) (layer 5). Not printed: measured on the bitmaps in the published PDF, where
the last two are Figs. 5 and 6."""

OCCLUSION: dict[str, dict[str, float]] = {
    "Pomeranian": {"min": 0.05, "median": 0.96, "max": 0.99, "kept": 0.977, "correlation": 0.66},
    "car wheel": {"min": 0.01, "median": 0.14, "max": 0.30, "kept": 0.143, "correlation": -0.39},
    "Afghan hound": {"min": 0.00, "median": 0.37, "max": 0.76, "kept": 0.847, "correlation": -0.19},
}
"""Fig. 7: lowest, median and highest probability of the true class over the positions of the
square, share of positions at which it wins, and correlation of panel (b) with panel (d). Not
printed: measured on the printed heat maps."""

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
"""The correspondence table of the arXiv text (Table 1 of its last version, Table 3 of its first;
not in the ECCV text): mean feature sign change over five dogs, lower is more consistent, and a
spread the paper does not define."""


# Transfer. Tables and figure are numbered as in the arXiv text, which has one table more.

MeanSd = tuple[float, float | None]
"""Mean per-class accuracy in per cent and its standard deviation, None where the paper prints none.
"""

CALTECH101: dict[str, dict[int, MeanSd]] = {
    "Bo et al.": {30: (81.4, 0.33)},
    "Jianchao et al.": {15: (73.2, None), 30: (84.3, None)},
    "from scratch": {15: (22.8, 1.5), 30: (46.5, 1.7)},
    "pretrained": {15: (83.8, 0.5), 30: (86.5, 0.5)},
}
"""Table 4: Caltech-101 by training images a class."""

CALTECH256: dict[str, dict[int, MeanSd]] = {
    "Sohn et al.": {15: (35.1, None), 30: (42.1, None), 45: (45.7, None), 60: (47.9, None)},
    "Bo et al.": {15: (40.5, 0.4), 30: (48.0, 0.2), 45: (51.9, 0.2), 60: (55.2, 0.3)},
    "from scratch": {15: (9.0, 1.4), 30: (22.5, 0.7), 45: (31.2, 0.5), 60: (38.8, 1.4)},
    "pretrained": {15: (65.7, 0.2), 30: (70.6, 0.2), 45: (72.7, 0.4), 60: (74.2, 0.3)},
}
"""Table 5: Caltech-256 by training images a class."""

VOC2012: dict[str, tuple[float, float, float]] = {
    "aeroplane": (92.0, 97.3, 96.0), "bicycle": (74.2, 84.2, 77.1), "bird": (73.0, 80.8, 88.4),
    "boat": (77.5, 85.3, 85.5), "bottle": (54.3, 60.8, 55.8), "bus": (85.2, 89.9, 85.8),
    "car": (81.9, 86.8, 78.6), "cat": (76.4, 89.3, 91.2), "chair": (65.2, 75.4, 65.0),
    "cow": (63.2, 77.8, 74.4), "diningtable": (63.2, 77.8, 67.7), "dog": (68.9, 83.0, 87.8),
    "horse": (78.2, 87.5, 86.0), "motorbike": (81.0, 90.1, 85.1), "person": (91.6, 95.0, 90.9),
    "pottedplant": (55.9, 57.8, 52.2), "sheep": (69.4, 79.2, 83.6), "sofa": (65.4, 73.4, 61.1),
    "train": (86.7, 94.5, 91.8), "tvmonitor": (77.4, 80.7, 76.1),
}  # fmt: skip
"""Table 6: PASCAL VOC 2012, Sande et al., Yan et al. and the paper's network. The first two numbers
of the dining table repeat the cow's; the printed means, 74.3 and 82.2, need 68.6 and 75.2."""
VOC2012_MEAN: tuple[float, float, float] = (74.3, 82.2, 79.0)

PROBES: dict[tuple[str, int], tuple[MeanSd, MeanSd]] = {
    ("svm", 1): ((44.8, 0.7), (24.6, 0.4)), ("svm", 2): ((66.2, 0.5), (39.6, 0.3)),
    ("svm", 3): ((72.3, 0.4), (46.0, 0.3)), ("svm", 4): ((76.6, 0.4), (51.3, 0.1)),
    ("svm", 5): ((86.2, 0.8), (65.6, 0.3)), ("svm", 7): ((85.5, 0.4), (71.7, 0.2)),
    ("softmax", 5): ((82.9, 0.4), (65.7, 0.5)), ("softmax", 7): ((85.4, 0.4), (72.6, 0.1)),
}  # fmt: skip
"""Table 7: classifier and layer -> Caltech-101 at 30 images a class, Caltech-256 at 60."""

FEW_SHOT: dict[int, float] = {
    1: 27.3, 2: 39.3, 3: 46.2, 4: 51.9, 5: 55.0, 6: 57.0, 7: 58.9, 10: 62.6, 15: 65.7, 30: 70.6,
    45: 72.7, 60: 74.2,
}  # fmt: skip
"""Fig. 9: Caltech-256 by training images a class, read off the published figure; from 15 on also
in Table 5."""
FEW_SHOT_BEST: float = 55.2
"""Fig. 9: the dashed line, Bo et al. with 60 images a class."""
RANDOM_STAGES: float = 62.9
"""Jarrett et al. 2009, random filters: Caltech-101 with 30 images a class."""
