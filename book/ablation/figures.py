"""Draw and tabulate Table 2, and what each change does."""

from collections.abc import Mapping, Sequence
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import HTML
from matplotlib.figure import Figure

from book.ablation.claims import (
    ALL,
    BASES,
    FULL,
    INTERACTION,
    MIDDLE,
    NAMES,
    ONE_FULL,
    WIDE,
    WIDEST,
    base_of,
    change,
    printed,
)
from zfrepro import page, plots, receptive_field, records, sweeps
from zfrepro.claims import DATASETS, Record
from zfrepro.networks import ARCHITECTURES, Architecture, architecture
from zfrepro.paper import TABLE2

COLUMNS = {
    "train1": ("train", "top1_error"),
    "val1": ("one_crop", "top1_error"),
    "val5": ("one_crop", "top5_error"),
}
"""Column of Table 2 -> errors in a record."""

LINES = {
    "krizhevsky": "Krizhevsky et al.",
    "krizhevsky-without-3-4": "removed layers 3,4",
    "krizhevsky-without-7": "removed layer 7",
    "krizhevsky-without-6-7": "removed layers 6,7",
    "krizhevsky-without-3-4-6-7": "removed layers 3,4,6,7",
    "krizhevsky-fc2048": "layers 6,7: half the units",
    "krizhevsky-fc8192": "layers 6,7: twice the units",
    "zfnet": "our model (Fig. 3)",
    "zfnet-fc2048": "layers 6,7: half the units",
    "zfnet-fc8192": "layers 6,7: twice the units",
    "zfnet-wide": "layers 3,4,5: wide",
    "zfnet-wide-fc8192": "wide, twice the units",
}
CURVES = {name: LINES[name] for name in ("krizhevsky", MIDDLE, FULL, ALL)}
CURVES |= {"krizhevsky": "AlexNet", "zfnet": "ZFNet", WIDE: "ZFNet, wide layers 3,4,5"}

SHORT = {"krizhevsky": "AlexNet", "zfnet": "ZFNet"}
CONTRASTS: dict[str, dict[str, float]] = {
    **{
        f"{SHORT[base_of(name)]}, {LINES[name]}": change(name)
        for name in TABLE2
        if name not in BASES
    },
    "twice the units in wide ZFNet": change(WIDEST, WIDE),
    "3,4,6,7 beyond the sum of both pairs": INTERACTION,
}
"""What is compared with what, in the order of the figure."""


def columns() -> dict[str, Record]:
    """Return the records of the sweep by the name of their data set."""
    return {DATASETS[name]: record for name, record in sweeps.recorded("ablation").items()}


def shown(column: str) -> str:
    """Return the name of a data set as it stands in a sentence."""
    return "the diorama" if column == "Diorama" else column


def means(record: Record | None, column: str = "val1") -> dict[str, float]:
    """Return a column of Table 2 by network: our mean errors in per cent, or the paper's."""
    if record is None:
        return {name: getattr(row, column) for name, row in TABLE2.items()}
    errors = sweeps.errors(record, *COLUMNS[column])
    return {name: float(np.mean(list(row.values()))) for name, row in errors.items()}


# --- Table 2 ---------------------------------------------------------------------------------


def table2(by_dataset: Mapping[str, Record]) -> Figure:
    """Draw Table 2: training error (hollow) and validation error (filled) of each network."""
    panels = {"the paper, ImageNet": None, **by_dataset}
    figure, axes = plt.subplots(1, len(panels), figsize=(plots.WIDTH, 3.4), sharey=True)
    heights = {name: y + 0.7 * (base_of(name) == "zfnet") for y, name in enumerate(TABLE2)}
    for ax, (title, record) in zip(axes, panels.items(), strict=True):
        train, val = means(record, "train1"), means(record)
        for name in val:
            y, colour = heights[name], plots.PALETTE[BASES.index(base_of(name))]
            ax.plot([train[name], val[name]], [y, y], color=colour, lw=1.4)
            ax.plot(train[name], y, "o", mfc="none", mec=colour, ms=5.5)
            ax.plot(val[name], y, "o", color=colour, ms=5.5)
        for base in [base for base in BASES if base in val]:
            ends = [y for name, y in heights.items() if base_of(name) == base]
            ends = (min(ends) - 0.3, max(ends) + 0.3)
            ax.plot([val[base]] * 2, ends, color=plots.TEXT, lw=0.9, ls=":", zorder=0)
        ax.set(title=title, xlabel="top-1 error, %")
        ax.grid(axis="x")
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
    axes[0].set_yticks(list(heights.values()), [LINES[name] for name in TABLE2])
    axes[0].invert_yaxis()
    figure.tight_layout(pad=0.4)
    return plots.detached(figure)


def as_table(by_dataset: Mapping[str, Record]) -> HTML:
    """Return Table 2 with our means beside the paper's numbers, in the paper's wording."""
    rows = []
    for name, of_paper in TABLE2.items():
        row = {"Error %": of_paper.name}
        for title, record in {"the paper": None, **by_dataset}.items():
            cells = [means(record, column).get(name) for column in COLUMNS]
            complete = None not in cells
            row[title] = "\u00a0/\u00a0".join(f"{cell:.1f}" for cell in cells) if complete else None
        rows.append(row)
    caption = (
        "Table 2: Train Top-1 / Val Top-1 / Val Top-5, the paper's and ours. Ours have half and "
        "twice the units of the unchanged network in place of 2048 and 8192"
    )
    return page.table(rows, caption=caption)


def with_spread(record: Record, title: str) -> HTML:
    """Return each network's errors, mean and standard deviation over seeds, size and cost."""
    labels = {**COLUMNS, "ten crops": ("ten_crops", "top1_error")}
    rows = []
    for name in means(record):
        runs = [run for run in record["runs"] if run["arch"] == name]
        row: dict[str, object] = {"network": f"{NAMES[base_of(name)]}: {LINES[name]}"}
        row["seeds"] = len(runs)
        for label, (part, kind) in labels.items():
            row[label] = plots.mean_sd([run["errors"][part][kind] for run in runs])
        row["thousand parameters"] = round(runs[0]["parameters"] / 1e3)
        row["million multiply-adds"] = runs[0]["multiply_adds"] / 1e6
        row["minutes"] = float(np.mean([run["seconds"] for run in runs])) / 60
        rows.append(row)
    return page.table(rows, caption=f"Errors in per cent and costs on {title}")


def effects(by_dataset: Mapping[str, Record]) -> Figure:
    """Draw what each change does to the validation top-1 error, beside the paper's change."""
    rows = {label: partial(sweeps.difference, weights=w) for label, w in CONTRASTS.items()}
    by_label = {label: printed(weights) for label, weights in CONTRASTS.items()}
    unit = "change of validation top-1 error with one crop, points"
    return plots.intervals_by_dataset(by_dataset, rows, by_label, unit=unit)


DEPTH = ("krizhevsky", ONE_FULL, MIDDLE, FULL, ALL)  # fewer and fewer layers


def longer() -> Record:
    """Return the record of longer trainings of `DEPTH` on mini-ImageNet's 100 classes."""
    return records.read("sweeps/ablation-mini-imagenet")


def source(record: Record) -> str:
    """Return what the networks of `longer` were trained on, in words."""
    images, size = record["dataset"]["train"], record["recipe"]["image_size"]
    return f"mini-ImageNet (100 classes, {images:,} training images, {size} px)"


def seeds(record: Record) -> str:
    """Return how many seeds a record has of its networks, in words."""
    count = len({run["seed"] for run in record["runs"]})
    return "one seed" if count == 1 else f"{count} seeds"


def behind(record: Record, name: str) -> np.ndarray:
    """Return a network's validation error less its base's after each epoch, points; over seeds."""
    errors = [
        np.mean([r["history"]["val_top1_error"] for r in record["runs"] if r["arch"] == arch], 0)
        for arch in (name, base_of(name))
    ]
    return errors[0] - errors[1]


def at_the_end(record: Record, names: Sequence[str] = DEPTH[1:]) -> str:
    """Return the errors of finished networks less their base's, with one crop and with ten."""
    differences = {
        name: [sweeps.difference(record, change(name), part) for part in ("one_crop", "ten_crops")]
        for name in names
    }
    texts = (
        f"{LINES[name]} {' and '.join(f'{each.estimate:+.1f}' for each in pair)}"
        for name, pair in differences.items()
    )
    clear = any(each.low > 0 or each.high < 0 for pair in differences.values() for each in pair)
    return f"{'; '.join(texts)} points ({seeds(record)}{'' if clear else '; no clear difference'})"


def curves(record: Record) -> Figure:
    """Draw top-1 errors of the networks without layers: the paper's, then ours after each epoch.

    Mean over seeds, band from best to worst. Training errors are of the views that were learned
    from; the paper's (hollow) and its validation errors (filled) are of the finished networks.
    """
    figure, axes = plt.subplots(
        1, 3, figsize=(plots.WIDTH, 3.6), width_ratios=(1, 2, 2), layout="constrained"
    )
    axes[2].sharey(axes[1])
    million = record["dataset"]["train"] / 1e6
    for place, (name, colour) in enumerate(zip(DEPTH, plots.PALETTE, strict=False)):
        label = "AlexNet" if name == "krizhevsky" else LINES[name]
        printed = TABLE2[name]
        axes[0].plot(place, printed.train1, "o", mfc="none", mec=colour)
        axes[0].plot(place, printed.val1, "o", color=colour, label=label)
        runs = [run["history"] for run in record["runs"] if run["arch"] == name]
        for ax, key in zip(axes[1:], ("train_error", "val_top1_error"), strict=True):
            if runs:
                plots.mean_and_range(ax, [run[key] for run in runs], million, color=colour)
    axes[0].set(title="the paper", xticks=[], xlim=(-0.7, 4.7), ylabel="top-1 error, %")
    axes[2].tick_params(labelleft=False)
    axes[1].set(title="ours, training images", xlabel="images seen, millions")
    axes[2].set(title="ours, validation images", xlabel="images seen, millions")
    for ax in axes:
        ax.grid(axis="y")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return plots.detached(figure)


# --- sizes -----------------------------------------------------------------------------------


def parameters(network: Architecture, image_size: int, classes: int) -> dict[str, int]:
    """Return weights and biases of each layer, pools left out."""
    rows = receptive_field.table(network, image_size, classes)
    return {row["layer"]: row["parameters"] for row in rows if row["parameters"]}


def held(
    network: Architecture, layers: Sequence[str], image_size: int = 224, classes: int = 1000
) -> float:
    """Return the share of a network's parameters that some of its layers hold, in per cent."""
    count = parameters(network, image_size, classes)
    return 100 * sum(count[layer] for layer in layers) / sum(count.values())


def sizes() -> HTML:
    """Return the twelve networks at the paper's size and at ours as a table."""
    rows = []
    for name, full in ARCHITECTURES.items():
        row: dict[str, object] = {"network": f"{NAMES[base_of(name)]}: {LINES[name]}"}
        row["layers with weights"] = len(full.convs) + len(full.fulls) + 1
        small = architecture(name, width=0.25, units=256)
        versions = {"paper": (full, 224, 1000), "ours": (small, 96, 20)}
        for title, version in versions.items():
            millions = sum(parameters(*version).values()) / 1e6
            dense = [layer for layer in parameters(*version) if layer.startswith("fc")]
            row[f"{title}: million parameters"] = f"{millions:.2f}"
            row[f"{title}: in layers 6 to 8, %"] = round(held(version[0], dense, *version[1:]))
            operations = receptive_field.multiply_adds(*version)
            row[f"{title}: million multiply-adds"] = round(operations / 1e6)
        rows.append(row)
    return page.table(rows, caption="The twelve networks, at the paper's size and at ours")


# --- features --------------------------------------------------------------------------------
