"""Draw and tabulate Tables 4 to 7 and Fig. 9, ours beside the paper's."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from book.transfer import claims as rules
from zfrepro import paper, plots
from zfrepro.claims import Record
from zfrepro.plots import PALETTE, TEXT, mean_sd

Row = dict[str, object]

BLUE, ORANGE, GREEN, PINK = PALETTE[:4]
TARGETS = {
    "squeezenet1_0": "Caltech-101",
    "imagenet20": "Caltech-101",
    "diorama": "novel classes of the diorama",
}
NAMES = {
    "squeezenet1_0": "SqueezeNet, 1,000 classes",
    "imagenet20": "our ZFNet, 20 classes",
    "diorama": "our ZFNet, the diorama",
}
CALTECH = [source for source, target in TARGETS.items() if target == "Caltech-101"]
ROWS = {"from scratch": "Non-pretrained convnet", "pretrained": "ImageNet-pretrained convnet"}
SIZES = (15, 30)  # training images a class in Table 4


def told(mean: float, deviation: float | None) -> str:
    """Return a mean and its deviation as the paper prints them."""
    return f"{mean:.1f}" if deviation is None else f"{mean:.1f} ± {deviation:.1f}"


def reached(record: Record, row: str, number: int) -> str | None:
    """Return what was reached in a row, or None: a kind of training, `untrained` or `hog`."""
    frozen = {"untrained": "curve-untrained-softmax", "pretrained": "curve-softmax"}
    if row in ("scratch", "tuned"):
        values = rules.whole(record, row, number)
    else:
        key = f"{frozen[row]}-{rules.top(record)}" if row in frozen else row
        values = record.get(key, {}).get(str(number), [])
    if len(values) == 1:
        return f"{values[0]:.1f} (one fold)"
    more = f" ({len(values)} folds)" if 0 < len(values) < len(rules.FOLDS) else ""
    return mean_sd(values) + more if len(values) else None


def on_whole_images(record: Record, number: int) -> float:
    """Return the mean accuracy of a softmax on frozen features of whole images, in per cent."""
    return float(np.mean(record["whole-images"][str(number)]))


def best_layer(record: Record, which: str) -> int:
    """Return the layer with the highest mean accuracy of a linear SVM.

    Args:
        which: of the `trained` network, or of the same `untrained`.
    """
    means = {
        number: np.mean(record[f"{which}-svm-{layer}"]["accuracy"])
        for number, layer in enumerate(rules.LAYERS, 1)
    }
    return max(means, key=means.get)


def table4(by_source: Mapping[str, Record]) -> list[Row]:
    """Return Table 4 in the paper's rows and columns, ours beside."""
    ours = {
        "from scratch": (by_source["imagenet20"], "scratch"),
        "pretrained": (by_source["squeezenet1_0"], "whole-images"),
    }
    rows = []
    for name, printed in paper.CALTECH101.items():
        cells = {f"Acc % {n}/class": told(*printed[n]) if n in printed else None for n in SIZES}
        cells |= {
            f"ours {n}/class": reached(*ours[name], n) if name in ours else None for n in SIZES
        }
        rows.append({"# Train": ROWS.get(name, name), **cells})
    return rows


def further(by_source: Mapping[str, Record]) -> list[Row]:
    """Return what Table 4 lacks: every way of training, of each source."""
    names = {
        "untrained": "untrained, frozen", "scratch": "from scratch",
        "pretrained": "pretrained, frozen", "tuned": "pretrained, fine-tuned",
    }  # fmt: skip
    rows = [
        {"target": TARGETS[source], "network": f"{NAMES[source]}: {name}"}
        | {f"Acc % {n}/class": reached(record, row, n) for n in SIZES}
        for source, record in by_source.items()
        for row, name in names.items()
    ]
    return [row for row in rows if any(list(row.values())[2:])]


def duplicates(by_source: Mapping[str, Record]) -> list[Row]:
    """Return how many target images resemble an image of the source."""
    return [
        {
            "target": TARGETS[source],
            "images": counts["images"],
            "removed": counts["removed"],
            "highest correlation": f"{counts['highest']:.3f}",
            "above 0.9": counts["at"]["0.9"],
            "above 0.8": counts["at"]["0.8"],
        }
        for source, record in by_source.items()
        if (counts := record.get("duplicates"))
    ]


def table7(by_source: Mapping[str, Record]) -> list[Row]:
    """Return Table 7 in the paper's rows, our columns beside."""
    rows = []
    for (kind, number), (caltech101, caltech256) in paper.PROBES.items():
        row: Row = {"": f"{'SVM' if kind == 'svm' else 'Softmax'} ({number})"}
        row |= {"Cal-101 (30/class)": told(*caltech101), "Cal-256 (60/class)": told(*caltech256)}
        for source, record in by_source.items():
            folds = record.get(f"trained-{kind}-{rules.LAYERS[number - 1]}")
            row[NAMES[source]] = mean_sd(folds["accuracy"]) if folds else None
        rows.append(row)
    return rows


def _series(ax: Axes, values: Mapping[Any, Sequence[float]], label: str, **style: Any) -> None:
    """Draw mean and standard deviation over folds; nothing where nothing was measured."""
    if values:
        means = [np.mean(folds) for folds in values.values()]
        deviations = [np.std(folds, ddof=1) for folds in values.values()]
        style = {"marker": "o", "ms": 4, "capsize": 2} | style
        ax.errorbar([int(x) for x in values], means, deviations, label=label, **style)


def few_shot(by_source: Mapping[str, Record]) -> Figure:
    """Draw Fig. 9: accuracy by training images a class; the paper's first, then ours."""
    squeezenet, zfnet = by_source["squeezenet1_0"], by_source["imagenet20"]
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.8), sharey=True, layout="constrained")
    paper_ax, our_ax = axes
    paper_ax.plot(*zip(*paper.FEW_SHOT.items(), strict=True), "o-", color=BLUE, ms=4)
    paper_ax.text(5, 68, "pretrained on 1,000 classes", color=BLUE, size=9, ha="center")
    paper_ax.text(60, paper.FEW_SHOT_BEST - 5, "Bo et al., 60 a class", size=9, ha="right")
    paper_ax.set(title="the paper: Caltech-256", ylabel="mean per-class accuracy, %")
    for label, values, colour in (
        ("SqueezeNet, whole images", squeezenet["whole-images"], BLUE),
        ("SqueezeNet, middles of images", rules.curve(squeezenet), PINK),
        ("our ZFNet, pretrained on 20 classes", rules.curve(zfnet), ORANGE),
        ("dense HOG, linear SVM", zfnet["hog"], GREEN),
    ):
        _series(our_ax, values, label, color=colour)
    scratch = {n: values for n in (15, 30) if len(values := rules.whole(zfnet, "scratch", n))}
    _series(our_ax, scratch, "from scratch", color=TEXT, marker="s", ms=6, mfc="none", ls="")
    most = rules.most(zfnet)
    best = np.mean(zfnet["hog"][str(most)])
    our_ax.text(6.2, best + 1.5, f"HOG, {most} a class", size=9)
    our_ax.set(title="ours: Caltech-101")
    lines = (paper.FEW_SHOT_BEST, best)
    for ax, sizes, line in zip(
        axes, ((1, 3, 6, 15, 30, 60), (1, 3, 6, 15, 30)), lines, strict=True
    ):
        ax.axhline(line, ls="--", color=TEXT, lw=1.2)
        ax.set(xlabel="training images a class", ylim=(0, 100), xscale="log")
        ax.set_xticks(sizes, sizes)
        ax.minorticks_off()
        ax.grid()
    figure.legend(*our_ax.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return plots.detached(figure)


def by_layer(by_source: Mapping[str, Record]) -> Figure:
    """Draw accuracy by layer, one line a network; the paper's first.

    Beside each trained network stand the same untrained and, of ours, the source's own classes.
    """
    figure, axes = plt.subplots(1, 3, figsize=(8, 4), sharey=True, layout="constrained")
    for column, (head, colour) in enumerate((("Caltech-101", BLUE), ("Caltech-256", GREEN))):
        means = {n: row[column][0] for (kind, n), row in paper.PROBES.items() if kind == "svm"}
        axes[0].plot(list(means), list(means.values()), "o-", ms=4, color=colour)
        axes[0].text(7, means[7] + 3, head, color=colour, size=9, ha="right")
    for source, record in by_source.items():
        ax = axes[2 if source == "diorama" else 1]
        colour = BLUE if source == "squeezenet1_0" else ORANGE
        name = NAMES[source] if source == "squeezenet1_0" else "our ZFNet"
        for prefix, key, label, style in (
            ("trained-svm-", "accuracy", name, {"color": colour}),
            ("untrained-svm-", "accuracy", f"{name}, untrained", {"color": colour, "ls": ":"}),
            ("source-", "trained", f"{name}, its own classes", {"color": PINK, "ls": "--"}),
        ):
            layers = enumerate(rules.LAYERS, 1)
            values = {n: record[prefix + a][key] for n, a in layers if prefix + a in record}
            _series(ax, values, label, mfc="none", **style)
    titles = ("the paper", "ours: Caltech-101", "ours: the diorama's novel classes")
    for ax, title in zip(axes, titles, strict=True):
        ax.set(title=title, xlabel="layer", xticks=range(1, 8), ylim=(0, 95))
        ax.grid(axis="y")
    axes[0].set_ylabel("accuracy of a linear SVM, %")
    figure.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return plots.detached(figure)


def gains(by_source: Mapping[str, Record]) -> Figure:
    """Draw what training adds to each layer, in points of the linear SVM."""
    rows = {f"layer {layer[-1]}": partial(rules.learned, layer=layer) for layer in rules.LAYERS}
    by_name = {NAMES[source]: record for source, record in by_source.items()}
    return plots.intervals_by_dataset(by_name, rows, unit="trained less untrained, points")


LIMITED = {
    "a quarter of the classes": "classes-5",
    "five times the classes": "classes-100",
    "224 instead of 96 px": "size-224",
    "four times the units": "units-1024",
}
"""Sources that differ in one thing from one with 20 classes, 96 px and 256 units."""


def limited(record: Record, layer: str, which: str = "trained") -> dict[str, float]:
    """Return what each change of the source adds to a layer's accuracy, in points.

    Args:
        which: of the `trained` networks, or of the same `untrained`.
    """
    reached = {
        source: record[f"limits-{source}"]["accuracy"][which][layer]
        for source in ("classes-20", *LIMITED.values())
    }
    base = reached["classes-20"]
    return {what: round(reached[source] - base, 1) + 0.0 for what, source in LIMITED.items()}


LIMITS = {
    "classes of the source": {"classes-5": "5", "classes-20": "20", "classes-100": "100"},
    "image size": {"classes-20": "96 px", "size-224": "224 px"},
    "units of layers 6 and 7": {"classes-20": "256", "units-1024": "1,024"},
}
"""What is changed, one thing at a time -> source -> its value."""


def limits(record: Record) -> Figure:
    """Draw accuracy by layer of sources that differ in one thing, each beside itself untrained."""
    figure, axes = plt.subplots(
        1, len(LIMITS), figsize=(plots.WIDTH, 3.4), sharey=True, layout="constrained"
    )
    for ax, (title, sources) in zip(axes, LIMITS.items(), strict=True):
        for colour, (source, value) in zip((BLUE, ORANGE, GREEN), sources.items(), strict=False):
            accuracy = record[f"limits-{source}"]["accuracy"]
            for which, style in (("trained", "o-"), ("untrained", "o:")):
                label = value if which == "trained" else None
                values = list(accuracy[which].values())
                ax.plot(range(1, 8), values, style, ms=4, mfc="none", color=colour, label=label)
        ax.set(title=title, xlabel="layer", xticks=range(1, 8))
        ax.legend(loc="lower left")
        ax.grid(axis="y")
    axes[0].set(ylabel="accuracy of a linear SVM, %", ylim=(0, None))
    return plots.detached(figure)
