"""Tables 4 to 7 and Fig. 9 of the arXiv text, ours beside the paper's."""

import contextlib
from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from book.transfer.training import gains_by_likeness, spread
from zfrepro import paper, records
from zfrepro.plots import alone

LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7")
BLUE, ORANGE, GREEN, GREY, RED = "#4c72b0", "#dd8452", "#55a868", "#7f7f7f", "#c44e52"
Record = Mapping[str, Any]
Row = dict[str, object]


def printed(mean: float, deviation: float | None) -> str:
    """As the paper prints it: mean and standard deviation over folds."""
    return f"{mean:.1f}" if deviation is None or np.isnan(deviation) else f"{mean:.1f} ± {deviation:.1f}"


def folds(values: list[float] | None) -> str:
    """Mean and deviation over folds, or that there is no such record."""
    return "not run" if not values else printed(*spread(values))


def _cells(row: Mapping[int, paper.MeanSd], sizes: tuple[int, ...]) -> Row:
    return {f"{n} a class": printed(*row[n]) if n in row else None for n in sizes}


def table4(record: Record | None) -> list[Row]:
    """Table 4 with our rows below the paper's, at 15 and 30 images a class."""
    rows: list[Row] = [
        {"Caltech-101": name, "by": "paper", **_cells(row, (15, 30))} for name, row in paper.CALTECH101.items()
    ]
    return rows + ours(record, (15, 30), "Caltech-101")


def ours(record: Record | None, sizes: tuple[int, ...], head: str) -> list[Row]:
    """Our rows of Tables 4 and 5: from scratch, frozen, fine-tuned, and the control."""
    record = record or {}
    sources = {
        "from scratch": lambda n: record.get(f"scratch-{n}", {}).get("accuracy"),
        "untrained, frozen": lambda n: record.get("curve-untrained-softmax-fc7", {}).get(str(n)),
        "pretrained, frozen": lambda n: record.get("curve-softmax-fc7", {}).get(str(n)),
        "pretrained, fine-tuned": lambda n: record.get(f"tuned-{n}", {}).get("accuracy"),
    }
    return [{head: name, "by": "here", **{f"{n} a class": folds(of(n)) for n in sizes}} for name, of in sources.items()]


def captioned(caption: str, record: Record | None) -> str:
    """A caption that says so where our part of the table is empty."""
    return caption if record else f"{caption} Ours not run: the images are not at hand."


def table5(record: Record | None) -> list[Row]:
    """Table 5, with our rows, which are not run without the images."""
    sizes = (15, 30, 45, 60)
    rows: list[Row] = [
        {"Caltech-256": name, "by": "paper", **_cells(row, sizes)} for name, row in paper.CALTECH256.items()
    ]
    return rows + ours(record, sizes, "Caltech-256")


def table6(record: Record | None) -> list[Row]:
    """Table 6, average precision in per cent, with our column."""
    own = (record or {}).get("table6", {})
    names = ("Sande et al.", "Yan et al.", "paper")
    rows: list[Row] = []
    for name, values in (*paper.VOC2012.items(), ("mean", paper.VOC2012_MEAN)):
        here = own.get("mean") if name == "mean" else own.get("average_precision", {}).get(name)
        row: Row = {"class": name, **dict(zip(names, map("{:.1f}".format, values), strict=True))}
        rows.append(row | {"here": "not run" if here is None else f"{here:.1f}"})
    return rows


def table7(here: Mapping[str, Record]) -> list[Row]:
    """Table 7: classifier by layer, the paper's two columns and ours, one a record. here: heading -> record."""
    rows: list[Row] = []
    for kind, name in (("svm", "SVM"), ("softmax", "softmax")):
        for number, layer in enumerate(LAYERS, 1):
            theirs = paper.PROBES.get((kind, number))
            row: Row = {"classifier": f"{name} ({number})"}
            for i, head in enumerate(("Caltech-101, paper", "Caltech-256, paper")):
                row[head] = printed(*theirs[i]) if theirs else None
            for head, record in here.items():
                row[head] = folds(record.get(f"trained-{kind}-{layer}", {}).get("accuracy"))
            rows.append(row)
    return rows


def _curve(ax, values: Mapping[str, list[float]], label: str, colour: str, **style) -> None:
    numbers = sorted(map(int, values))
    means, spreads = zip(*(spread(values[str(n)]) for n in numbers), strict=True)
    ax.errorbar(numbers, means, spreads, label=label, color=colour, capsize=2, lw=1.5, ms=4, **{"marker": "o"} | style)


def few_shot(record: Record, title: str, width: float = 8) -> Figure:
    """Fig. 9: accuracy by training images a class. Left the paper's, on Caltech-256; right ours.

    Args:
        record: of the study, or what a page measures under the same names; what is missing is left out.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(width, 0.48 * width), width_ratios=(2, 3))
    left.plot(*zip(*paper.FEW_SHOT.items(), strict=True), "o-", color=BLUE, ms=4, label="frozen, new softmax")
    left.axhline(paper.FEW_SHOT_BEST, ls="--", color=GREY, label="best before, 60 a class")
    left.set_title("the paper, Caltech-256", fontsize=10)
    for key, label, colour, style in (
        ("curve-softmax-fc7", "layer 7, softmax", BLUE, {}),
        ("curve-svm-conv5", "layer 5, SVM", ORANGE, {"marker": "s"}),
        ("curve-untrained-svm-conv5", "layer 5, SVM, untrained", ORANGE, {"marker": "s", "ls": ":", "mfc": "white"}),
        ("curve-untrained-softmax-fc7", "layer 7, softmax, untrained", BLUE, {"ls": ":", "mfc": "white"}),
    ):
        if key in record:
            _curve(right, record[key], label, colour, **style)
    for prefix, label, colour, marker in (
        ("scratch-", "from scratch", RED, "D"), ("tuned-", "fine-tuned", GREEN, "^"),
    ):  # fmt: skip
        found = {key.removeprefix(prefix): v["accuracy"] for key, v in record.items() if key.startswith(prefix)}
        if found:
            _curve(right, found, label, colour, marker=marker, ls="none")
    right.set_title(title, fontsize=10)
    for ax in (left, right):
        ax.set(xlabel="training images a class", ylim=(0, 100))
        ax.set_xscale("log")
        ax.set_xticks([1, 2, 3, 5, 10, 15, 30, 60][: 8 if ax is left else 7])
        ax.set_xticks([], minor=True)
        ax.xaxis.set_major_formatter("{x:.0f}")
        if ax.get_legend_handles_labels()[0]:
            ax.legend(frameon=False, fontsize=8, loc="lower right" if ax is left else "upper left")
    left.set_ylabel("mean per-class accuracy, %")
    figure.tight_layout()
    return alone(figure)


def layers(here: Mapping[str, Record], width: float = 8) -> Figure:
    """Table 7 as curves over the layers, and what it lacks: the untrained network, and the source's own classes."""
    figure, axes = plt.subplots(1, len(here) + 1, figsize=(width, 0.5 * width), sharey=True, squeeze=False)
    axes = axes[0]
    for column, head, colour in ((0, "Caltech-101", BLUE), (1, "Caltech-256", GREEN)):
        found = {n: row[column] for (kind, n), row in paper.PROBES.items() if kind == "svm"}
        axes[0].errorbar(
            list(found), [m for m, _ in found.values()], [s for _, s in found.values()], marker="o", ms=4, capsize=2,
            color=colour, label=f"SVM, {head}",
        )  # fmt: skip
    axes[0].set_title("the paper", fontsize=10)
    for ax, (title, record) in zip(axes[1:], here.items(), strict=True):
        series = {
            "SVM": (BLUE, "o", "-", "trained-svm-", "accuracy"),
            "softmax": (ORANGE, "s", "-", "trained-softmax-", "accuracy"),
            "SVM, untrained": (BLUE, "o", ":", "untrained-svm-", "accuracy"),
            "SVM, own classes": (GREY, "^", "--", "source-", "trained"),
        }
        for name, (colour, marker, line, prefix, key) in series.items():
            there = {i: record[prefix + layer][key] for i, layer in enumerate(LAYERS, 1) if prefix + layer in record}
            found = {i: spread(values) for i, values in there.items()}
            if found:
                ax.errorbar(
                    list(found), [m for m, _ in found.values()], [s for _, s in found.values()], marker=marker, ls=line,
                    ms=4, capsize=2, color=colour, label=name, mfc="white" if line == ":" else colour,
                )  # fmt: skip
        ax.set_title(title, fontsize=10)
    for ax in axes:
        ax.set(xlabel="layer", xticks=range(1, 8), ylim=(0, 100))
        ax.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.3))  # curves fill the panel
    axes[0].set_ylabel("mean per-class accuracy, %")
    figure.tight_layout()
    return alone(figure)


def by_likeness(record: Record) -> dict[str, tuple[np.ndarray, float, float]]:
    """Layer -> `gains_by_likeness` of a record's target classes, in points of the linear SVM."""
    likeness = np.array(list(record["likeness"].values()))
    found = {}
    for layer in LAYERS:
        both = (np.array(record[f"{which}-svm-{layer}"]["by_class"]) for which in ("trained", "untrained"))
        found[layer] = gains_by_likeness(likeness, *both)
    return found


def likeness(here: Mapping[str, Record], width: float = 8) -> Figure:
    """What training adds to each layer, for thirds of the target's classes: least like the source to most."""
    figure, axes = plt.subplots(1, max(1, len(here)), figsize=(width, 0.42 * width), sharey=True, squeeze=False)
    for ax, (title, record) in zip(axes[0], here.items(), strict=False):
        gained = np.array([thirds for thirds, _, _ in by_likeness(record).values()])
        names = ("least like the source", "between", "most like the source")
        for third, name, colour in zip(gained.T, names, (BLUE, GREY, RED), strict=True):
            ax.plot(range(1, len(LAYERS) + 1), third, "o-", ms=4, color=colour, label=name)
        ax.axhline(0, color="black", lw=0.5)
        ax.set(xlabel="layer", xticks=range(1, 8))
        ax.set_title(f"{title.split(',')[0]}, {len(record['likeness'])} classes", fontsize=10)
        ax.legend(frameon=False, fontsize=8)
    axes[0, 0].set_ylabel("gain by training, points")
    figure.tight_layout()
    return alone(figure)


def likeness_told(record: Record) -> str:
    """The rank correlations of gain and likeness, layer by layer, in words."""
    found = by_likeness(record)
    told = ", ".join(f"{number}: {rho:+.2f}" for number, (_, rho, _) in enumerate(found.values(), 1))
    clear = [str(number) for number, (_, _, p) in enumerate(found.values(), 1) if p < 0.05 / len(LAYERS)]
    return f"by layer {told}; beyond chance (p < .05 / {len(LAYERS)}) in {', '.join(clear) or 'none'}"


def untrained_told(record: Record | None) -> str:
    """The best that a linear SVM reaches on a layer of an untrained network, beside the frozen layer 7."""
    if not record:
        return "no record yet"
    means = {layer: spread(record[f"untrained-svm-{layer}"]["accuracy"])[0] for layer in LAYERS}
    best, frozen = max(means, key=means.get), spread(record["curve-softmax-fc7"]["30"])[0]
    return f"{means[best]:.1f} % ({best}) against {frozen:.1f} %"


def recorded() -> dict[str, Record]:
    """The records there are, by what a page calls them."""
    found = {}
    for world, head in (("diorama", "novel drawings, here"), ("imagenet20", "Caltech-101, here")):
        with contextlib.suppress(FileNotFoundError):
            found[head] = records.read(f"transfer/{world}")
    return found


def gains(here: Mapping[str, Record]) -> list[Row]:
    """What training gives each layer for the target and for the source's own classes, in points of the linear SVM."""
    rows: list[Row] = []
    for layer in LAYERS:
        row: Row = {"layer": layer}
        for head, record in here.items():
            target = np.subtract(*(record[f"{w}-svm-{layer}"]["accuracy"] for w in ("trained", "untrained")))
            own = np.subtract(record[f"source-{layer}"]["trained"], record[f"source-{layer}"]["untrained"])
            row[head] = printed(*spread(list(target)))
            row[f"{head.split(',')[0]}: source's own classes"] = printed(*spread(list(own)))
        rows.append(row)
    return rows
