"""Draw and tabulate Table 1, the crops that a network learns from, and the recorded runs."""

from collections.abc import Mapping
from dataclasses import asdict

import numpy as np
import torch
from IPython.display import HTML
from matplotlib.figure import Figure
from torch import Tensor

from book.training.claims import CLAIMS, UNCLIPPED, VIEW, averages, between
from zfrepro import page, paper, plots, sweeps
from zfrepro.claims import Record
from zfrepro.data.transforms import augment, crop, stored_size
from zfrepro.receptive_field import training_multiply_adds
from zfrepro.training import MODERN, Recipe

NAMES = {
    "krizhevsky": "AlexNet",
    "zfnet": "ZFNet (a)",
    "zfnet-wide": "wide ZFNet (b)",
    "zfnet-ten-crops": "(a), ten fixed crops",
    "zfnet-random-crops": "(a), random crops",
    "zfnet-unclipped": "(a), filters not rescaled",
    "zfnet-raw": "(a), raw inputs, no decay",
    "zfnet-raw-unclipped": "(a), the same, not rescaled",
}
LABELS = {
    "training-better": "ZFNet instead of AlexNet",
    "training-wide": "wide layers 3 to 5",
    "training-ensemble": "an average instead of one network",
    "training-both": "a wide network in the average",
}
VARIANTS = {
    "ten fixed instead of resized crops": {"zfnet-ten-crops": 1, "zfnet": -1},
    "random instead of resized crops": {"zfnet-random-crops": 1, "zfnet": -1},
    "random instead of ten fixed crops": {"zfnet-random-crops": 1, "zfnet-ten-crops": -1},
    "without rescaling filters": UNCLIPPED,
}
ROWS = {
    "replication": ("run", "krizhevsky"),
    "krizhevsky-5": ("average", "krizhevsky"),
    "zfnet": ("run", "zfnet"),
    "zfnet-5": ("average", "zfnet"),
    "zfnet-wide": ("run", "zfnet-wide"),
    "both-6": ("average", "both"),
}
"""Row of Table 1 -> what stands beside it."""

LARGE = "ImageNet-20, paper's size"


def columns() -> dict[str, Record]:
    """Return the records of the sweep by the name of their column."""
    small, large = sweeps.recorded("training"), sweeps.recorded("training", "paper")
    named = {"ImageNet-20": small.get("imagenet20"), LARGE: large.get("imagenet20")}
    named["Diorama"] = small.get("diorama")
    return {name: record for name, record in named.items() if record}


def on(column: str) -> str:
    """Return `on` with the name of a column, as it stands in a sentence."""
    return "on the diorama" if column == "Diorama" else f"on {column}"


# --- Table 1 ---------------------------------------------------------------------------------


def effects(records: Mapping[str, Record]) -> Figure:
    """Draw the four differences of Table 1 with their intervals, beside the paper's."""
    rows, groups = [], []
    for claim in (claim for claim in CLAIMS if claim.name in LABELS):
        for name, record in records.items():
            if not claim.untestable(record):
                rows.append((LABELS[claim.name], claim.drawn.of(record), claim.paper_effect))
                groups.append(name)
    return plots.intervals(rows, unit="change of top-1 error, points", groups=groups)


def variants(records: Mapping[str, Record]) -> Figure:
    """Draw what other crops, and filters that are not clipped, change in the error."""
    rows = {label: between(weights) for label, weights in VARIANTS.items()}
    return plots.intervals_by_dataset(records, rows, unit="change of top-1 error, points")


def error(record: Record, row: str, kind: str = "top1_error") -> float:
    """Return our error beside a row of Table 1 in per cent, the mean over runs or averages."""
    source, name = ROWS[row]
    if source == "average":
        values = averages(record, name, kind).values()
    else:
        values = sweeps.errors(record, VIEW, kind).get(name, {}).values()
    return float(np.mean(list(values))) if values else float("nan")


def table1(records: Mapping[str, Record]) -> HTML:
    """Return the rows of Table 1 that we can set ours beside, in the paper's wording."""
    rows = []
    for key in ROWS:
        printed = paper.TABLE1[key]
        row = {"Error %": printed.name}
        row["the paper"] = f"{printed.val1:.1f}\u00a0/\u00a0{printed.val5:.1f}"
        for name, record in records.items():
            pair = [error(record, key, kind) for kind in ("top1_error", "top5_error")]
            row[name] = "{:.1f}\u00a0/\u00a0{:.1f}".format(*pair)
        rows.append(row)
    return page.table(rows, caption="Table 1: Val Top-1 / Val Top-5 errors, the paper's and ours")


def table1_of_the_paper() -> HTML:
    """Return all rows and columns of the paper's Table 1."""
    rows = [
        {"Error %": row.name, "Val Top-1": row.val1, "Val Top-5": row.val5, "Test Top-5": row.test5}
        for row in paper.TABLE1.values()
    ]
    return page.table(rows, caption="Table 1 as the paper prints it; * with ImageNet 2011 added")


def by_network(records: Mapping[str, Record]) -> HTML:
    """Return errors with one crop and ten, mean and standard deviation over seeds, and costs."""
    rows = []
    for column, record in records.items():
        for name, label in NAMES.items():
            runs = [run for run in record["runs"] if run["arch"] == name]
            if not runs:
                continue
            row: dict[str, object] = {"data set": column, "network": label, "seeds": len(runs)}
            for view in ("one_crop", "ten_crops"):
                values = [run["errors"][view]["top1_error"] for run in runs]
                row[view.replace("_", " ")] = plots.mean_sd(values)
            seconds = float(np.mean([run["seconds"] for run in runs]))
            images = record["recipe"]["epochs"] * record["dataset"]["train"] / seconds
            row |= {"minutes each": seconds / 60, "images/s": round(images)}
            row["hardware"] = ", ".join(sorted({run["device"] for run in runs}))
            row["precision"] = ", ".join(sorted({run["precision"] for run in runs}))
            rows.append(row)
    return page.table(rows, caption="Each network of the sweep: top-1 errors in per cent and costs")


# --- the recipe ------------------------------------------------------------------------------

SAYS = {
    "crops": ("several crops and flips of each image", "ten fixed ones, or random ones"),
    "init": ("weights 0.01, biases 0", "a standard deviation, presumably"),
    "input_scale": ("mean image subtracted", ""),
    "schedule": ("lowered by hand when the validation error plateaus", "by how much, and when"),
    "patience": ("", "how long a plateau is"),
    "warmup": ("", "none mentioned"),
    "lr": ("0.01", ""),
    "momentum": ("0.9", ""),
    "weight_decay": ("", "none mentioned; Krizhevsky's has 0.0005"),
    "batch": ("128", ""),
    "epochs": ("70", ""),
    "dropout": ("0.5 in layers 6 and 7", ""),
    "clip": ("filters with an RMS above 0.1 rescaled", "how often; here after every step"),
    "label_smoothing": ("", "none mentioned"),
    "ema": ("", "none mentioned"),
    "area": ("", "of resized crops, which came later"),
    "precision": ("", "single, presumably"),
}


def recipe() -> HTML:
    """Return the paper's recipe, what it leaves open, and our two settings as a table."""
    default = asdict(Recipe())
    rows = [
        {
            "setting": name.replace("_", " "),
            "the paper": text or None,
            "left open": gap or None,
            "default": str(default[name]),
            "modern": str(MODERN[name]) if name in MODERN else None,
        }
        for name, (text, gap) in SAYS.items()
    ]
    return page.table(rows, caption="The paper's recipe, what it leaves open, and our settings")


def views(images: Tensor, size: int) -> Figure:
    """Draw four views of one image by each of the three ways to crop.

    images: uint8 (N, 3, R, R), as stored for inputs of `size` px; the first is drawn.
    """
    kinds = {"ten": "ten fixed", "random": "random", "resized": "resized"}
    whole = plots.as_colours(crop(images[:1], 0, 0, stored_size(size)))[0]
    rows = []
    for kind in kinds:
        generator = torch.Generator().manual_seed(0)
        pixels = images[:1].expand(4, -1, -1, -1).float()
        seen = augment(pixels, size, kind, generator).clamp(0, 255)
        rows.append([whole, *plots.as_colours(seen.round().byte())])
    names = ["as stored", *(f"view {i + 1}" for i in range(4))]
    return plots.grid(rows, names, list(kinds.values()))


# --- runs ------------------------------------------------------------------------------------


IMAGENET = 1_281_167  # training images of ILSVRC-2012
REPLICATED = {"krizhevsky": (38.07, 16.10), "zfnet": (39.21, 16.78), "later": (39.30, 17.05)}
"""Errors (top-1, top-5) on ImageNet's validation images with one crop by imgclsmob
(github.com/osmr/imgclsmob, Gluon), one network of each: Krizhevsky's with dense layers, the
paper's, and Krizhevsky's later variant of 2014."""


def imagenet_hours(record: Record) -> float:
    """Return hours of the paper's 70 epochs on ImageNet at the speed of a record's ZFNet runs.

    Operations alone are scaled; reading so many photographs may be slower.
    """
    recorded = Recipe(**record["recipe"] | {"arch": "zfnet"})
    seconds = np.mean([run["seconds"] for run in record["runs"] if run["arch"] == "zfnet"])
    images = recorded.epochs * record["dataset"]["train"]
    cost = training_multiply_adds(recorded.architecture(), recorded.image_size, classes=20)
    whole = training_multiply_adds(Recipe(arch="zfnet").architecture(), 224, classes=1000)
    return float(70 * IMAGENET * whole * seconds / (images * cost) / 3600)
