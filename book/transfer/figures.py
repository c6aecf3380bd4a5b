"""Draw and tabulate Tables 4 to 7 and Fig. 9, ours beside the paper's."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from book.transfer import claims as rules
from zfrepro import paper, plots, records
from zfrepro.plots import PALETTE, TEXT, mean_sd

Record = Mapping[str, Any]
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


def recorded() -> dict[str, Record]:
    """Return the records there are, by source."""
    found = {}
    for source in TARGETS:
        with contextlib.suppress(FileNotFoundError):
            found[source] = records.read(f"transfer/{source}")
    return found


def told(value: paper.MeanSd | None) -> str | None:
    """Return a mean and its deviation as the paper prints them; None where it prints none."""
    if value is None:
        return None
    mean, deviation = value
    return f"{mean:.1f}" if deviation is None else f"{mean:.1f} ± {deviation:.1f}"


def reached(record: Record, row: str, number: int) -> str | None:
    """Return what was reached in a row, or None: a kind of training, `untrained` or `sift`."""
    if row in ("scratch", "tuned"):
        values = rules.whole(record, row, number)
    elif row in ("sift", "whole-images"):
        values = record.get(row, {}).get(str(number), [])
    else:
        prefix = "curve-untrained-softmax-" if row == "untrained" else "curve-softmax-"
        values = record.get(prefix + rules.top(record), {}).get(str(number), [])
    if len(values) == 1:
        return f"{values[0]:.1f} (one fold)"
    more = f" ({len(values)} folds)" if 0 < len(values) < len(rules.FOLDS) else ""
    return mean_sd(values) + more if len(values) else None


def table4(found: Mapping[str, Record], sizes: Sequence[int] = (15, 30)) -> list[Row]:
    """Return Table 4 in the paper's rows and columns, ours beside, and two rows of our own."""
    squeezenet, own = found.get("squeezenet1_0"), found["imagenet20"]
    ours = {
        "from scratch": (own, "scratch"), "pretrained": (squeezenet, "whole-images"),
        "The same, middles of images": (squeezenet, "pretrained"),
        "Dense SIFT, spatial pyramid, linear SVM": (own, "sift"),
        "ImageNet-20-pretrained ZFNet": (own, "pretrained"),
    }  # fmt: skip
    rows = []
    for name in (*paper.CALTECH101, *list(ours)[2:]):
        printed, (record, row) = paper.CALTECH101.get(name, {}), ours.get(name, (None, ""))
        cells = {f"Acc % {n}/class": told(printed.get(n)) for n in sizes}
        cells |= {f"ours {n}/class": reached(record, row, n) if record else None for n in sizes}
        if any(cells.values()):
            rows.append({"# Train": ROWS.get(name, name), **cells})
    return rows


def further(found: Mapping[str, Record], sizes: Sequence[int] = (15, 30)) -> list[Row]:
    """Return what Table 4 lacks: every way of training, of each source."""
    names = {
        "untrained": "untrained, frozen", "scratch": "from scratch",
        "pretrained": "pretrained, frozen", "tuned": "pretrained, fine-tuned",
    }  # fmt: skip
    rows = [
        {"target": TARGETS[source], "network": f"{NAMES[source]}: {name}"}
        | {f"Acc % {n}/class": reached(record, row, n) for n in sizes}
        for source, record in found.items()
        for row, name in names.items()
    ]
    return [row for row in rows if any(list(row.values())[2:])]


def duplicates(found: Mapping[str, Record]) -> list[Row]:
    """Return how many target images resemble an image of the source."""
    return [
        {
            "target": TARGETS[dataset],
            "images": record["duplicates"]["images"],
            "removed": record["duplicates"]["removed"],
            "highest correlation": f"{record['duplicates']['highest']:.3f}",
            "above 0.9": record["duplicates"]["at"]["0.9"],
            "above 0.8": record["duplicates"]["at"]["0.8"],
        }
        for dataset, record in found.items()
        if "duplicates" in record
    ]


def calibration(record: Record) -> list[Row]:
    """Return what a random two-stage network reaches with and without its parts, one fold."""
    return [
        {"random two-stage network": key.removeprefix("random, ")}
        | {f"{kind}, Acc %": f"{value:.1f}" for kind, value in record[key].items()}
        for key in record
        if key.startswith("random, ")
    ]


def table7(found: Mapping[str, Record]) -> list[Row]:
    """Return Table 7 in the paper's rows, our columns beside."""
    rows = []
    for (kind, number), (caltech101, caltech256) in paper.PROBES.items():
        name = "SVM" if kind == "svm" else "Softmax"
        row: Row = {
            "": f"{name} ({number})",
            "Cal-101 (30/class)": told(caltech101),
            "Cal-256 (60/class)": told(caltech256),
        }
        layer = f"conv{number}" if number < 6 else f"fc{number}"
        for dataset, record in found.items():
            key = f"trained-{kind}-{layer}"
            row[NAMES[dataset]] = mean_sd(record[key]["accuracy"]) if key in record else None
        rows.append(row)
    return rows


def _series(ax: Axes, values: Mapping[int, Sequence[float]], label: str, **style: Any) -> None:
    means, deviations = zip(
        *((np.mean(v), np.std(v, ddof=1)) for v in values.values()), strict=True
    )
    style = {"marker": "o", "ms": 4, "capsize": 2} | style
    ax.errorbar(list(values), means, deviations, label=label, **style)


def _direct(ax: Axes, x: float, y: float, text: str, colour: str, **style: Any) -> None:
    ax.text(x, y, text, color=colour, size=9, **style)


def few_shot(found: Mapping[str, Record]) -> Figure:
    """Draw Fig. 9: accuracy by training images a class; the paper's first, then ours."""
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.6), sharey=True)
    axes[0].plot(*zip(*paper.FEW_SHOT.items(), strict=True), "o-", color=BLUE, ms=4)
    axes[0].axhline(paper.FEW_SHOT_BEST, ls="--", color=TEXT, lw=1.2)
    axes[0].text(60, paper.FEW_SHOT_BEST - 5, "Bo et al., 60 a class", size=9, ha="right")
    _direct(axes[0], 5, 68, "pretrained on 1,000 classes", BLUE, ha="center")
    axes[0].set_title("the paper: Caltech-256")
    own = found["imagenet20"]
    lines = [("our ZFNet, pretrained on 20 classes", rules.curve(own), ORANGE)]
    if "squeezenet1_0" in found:
        record = found["squeezenet1_0"]
        lines.insert(0, ("SqueezeNet, middles of images", rules.curve(record), PINK))
        if "whole-images" in record:
            lines.insert(0, ("SqueezeNet, whole images", record["whole-images"], BLUE))
    if "sift" in own:
        lines.append(("dense SIFT, linear SVM", own["sift"], GREEN))
        best = np.mean(own["sift"][str(rules.most(own))])
        axes[1].axhline(best, ls="--", color=TEXT, lw=1.2)
        axes[1].text(6.2, best + 1.5, f"SIFT, {rules.most(own)} a class", size=9)
    for label, values, colour in lines:
        _series(axes[1], {int(n): v for n, v in values.items()}, label, color=colour)
    scratch = {n: rules.whole(own, "scratch", n) for n in (15, 30)}
    scratch = {n: values.mean() for n, values in scratch.items() if len(values)}
    if scratch:
        axes[1].plot(
            list(scratch), list(scratch.values()), "s", color=PINK, ms=5, label="from scratch"
        )
    axes[1].set_title("ours: Caltech-101")
    for ax in axes:
        ax.set(xlabel="training images a class", ylim=(0, 100), xscale="log")
        sizes = (1, 3, 6, 15, 30, 60) if ax is axes[0] else (1, 3, 6, 15, 30)
        ax.set_xticks(sizes, [str(n) for n in sizes])
        ax.minorticks_off()
        ax.grid()
    axes[0].set_ylabel("mean per-class accuracy, %")
    handles, labels = axes[1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=2)
    figure.tight_layout(pad=0.4, rect=(0, 0.13, 1, 1))
    return plots.detached(figure)


def by_layer(found: Mapping[str, Record]) -> Figure:
    """Draw accuracy by layer, one line a network; the paper's first.

    Beside each trained network stand the same untrained and, of ours, the source's own classes.
    """
    figure, axes = plt.subplots(1, 3, figsize=(8, 3.8), sharey=True)
    for column, (head, colour) in enumerate((("Caltech-101", BLUE), ("Caltech-256", GREEN))):
        means = {n: row[column][0] for (kind, n), row in paper.PROBES.items() if kind == "svm"}
        axes[0].plot(list(means), list(means.values()), "o-", ms=4, color=colour)
        _direct(axes[0], 7, list(means.values())[-1] + 3, head, colour, ha="right")
    axes[0].set_title("the paper")
    colours = {"squeezenet1_0": BLUE, "imagenet20": ORANGE, "diorama": ORANGE}
    for source, record in found.items():
        ax, colour = axes[2 if source == "diorama" else 1], colours[source]
        for prefix, key, label, style in (
            ("trained-svm-", "accuracy", NAMES[source], {"color": colour}),
            ("untrained-svm-", "accuracy", "the same, untrained", {"color": colour, "ls": ":"}),
            ("source-", "trained", "its own classes", {"color": PINK, "ls": "--"}),
        ):
            layers = enumerate(rules.LAYERS, 1)
            values = {n: record[prefix + a][key] for n, a in layers if prefix + a in record}
            if values:
                _series(ax, values, label, mfc="none", **style)
    axes[1].set_title("ours: Caltech-101")
    axes[2].set_title("ours: the diorama's novel classes")
    for ax in axes:
        ax.set(xlabel="layer", xticks=range(1, 8), ylim=(0, 95))
        ax.grid(axis="y")
    axes[0].set_ylabel("accuracy of a linear SVM, %")
    handles, labels = axes[1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=3)
    figure.tight_layout(pad=0.4, rect=(0, 0.15, 1, 1))
    return plots.detached(figure)


def gains(found: Mapping[str, Record]) -> Figure:
    """Draw what training adds to each layer, in points of the linear SVM."""
    rows, groups = [], []
    for layer in rules.LAYERS:
        some = {name: r for name, r in found.items() if f"untrained-svm-{layer}" in r}
        for name, record in some.items():
            label = f"layer {layer[-1]}" if name == next(iter(some)) else ""
            rows.append((label, rules.learned(layer).of(record), None))
            groups.append(NAMES[name])
    return plots.intervals(rows, unit="trained less untrained, points", groups=groups)
