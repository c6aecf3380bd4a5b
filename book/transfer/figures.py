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
from zfrepro.claims import DATASETS
from zfrepro.plots import PALETTE, TEXT, mean_sd

Record = Mapping[str, Any]
Row = dict[str, object]

BLUE, ORANGE, GREEN, PINK = PALETTE[:4]
TARGETS = {"imagenet20": "Caltech-101", "diorama": "novel classes of the diorama"}
SHORT = {"imagenet20": "Cal-101", "diorama": "Diorama"}
ROWS = {"from scratch": "Non-pretrained convnet", "pretrained": "ImageNet-pretrained convnet"}


def recorded(name: str = "transfer") -> dict[str, Record]:
    """Return the records there are, by data set of the source."""
    found = {}
    for dataset in DATASETS:
        with contextlib.suppress(FileNotFoundError):
            found[dataset] = records.read(f"{name}/{dataset}")
    return found


def told(value: paper.MeanSd | None) -> str | None:
    """Return a mean and its deviation as the paper prints them; None where it prints none."""
    if value is None:
        return None
    mean, deviation = value
    return f"{mean:.1f}" if deviation is None else f"{mean:.1f} ± {deviation:.1f}"


def reached(record: Record | None, row: str, number: int) -> str | None:
    """Return what our network reaches in a row of Tables 4 and 5, or None."""
    path = {
        "from scratch": (f"scratch-{number}", "accuracy"),
        "pretrained": ("curve-softmax-fc7", str(number)),
        "untrained": ("curve-untrained-softmax-fc7", str(number)),
        "fine-tuned": (f"tuned-{number}", "accuracy"),
    }.get(row)
    values = (record or {}).get(path[0], {}).get(path[1]) if path else None
    return mean_sd(values) if values else None


def by_size(
    table: Mapping[str, Mapping[int, paper.MeanSd]], sizes: Sequence[int], record: Record | None
) -> list[Row]:
    """Return Table 4 or 5 in the paper's rows and columns, ours beside where there is a record."""
    rows = []
    for name, own in table.items():
        row: Row = {"# Train": ROWS.get(name, name)}
        row |= {f"Acc % {n}/class": told(own.get(n)) for n in sizes}
        if record:
            row |= {f"ours {n}/class": reached(record, name, n) for n in sizes}
        rows.append(row)
    return rows


def further(found: Mapping[str, Record], sizes: Sequence[int] = (15, 30)) -> list[Row]:
    """Return what Table 4 lacks: every way of training, on the target of each data set."""
    names = {
        "untrained": "Untrained convnet, frozen",
        "from scratch": ROWS["from scratch"],
        "pretrained": "Pretrained convnet, frozen",
        "fine-tuned": "Pretrained convnet, fine-tuned",
    }
    return [
        {"target": TARGETS[dataset], "network": name}
        | {f"Acc % {n}/class": reached(record, row, n) for n in sizes}
        for dataset, record in found.items()
        for row, name in names.items()
    ]


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
    ]


def simplifications(found: Mapping[str, Record]) -> list[Row]:
    """Return what averaging maps and voting by pairs cost, accuracy of an SVM on layer 4 in %."""
    return [
        {
            "target": TARGETS[dataset],
            "whole maps": record["reduction"]["whole"],
            "averaged": record["reduction"]["averaged"],
            "averaged, one against the rest": record["reduction"]["one_vs_rest"],
        }
        for dataset, record in found.items()
    ]


def table6(record: Record | None = None) -> list[Row]:
    """Return Table 6: average precision a class, with the mean and the number of classes won."""
    heads = ("[A] Sande et al.", "[B] Yan et al.", "the paper's convnet")
    own = (record or {}).get("table6", {})
    values = np.array(list(paper.VOC2012.values()))
    won = (values == values.max(1, keepdims=True)).sum(0)
    rows = {**paper.VOC2012, "Mean": paper.VOC2012_MEAN}
    ours = own.get("average_precision", {}) | ({"Mean": own["mean"]} if own else {})
    found: list[Row] = []
    for name, row in rows.items():
        cells = {head: f"{value:.1f}" for head, value in zip(heads, row, strict=True)}
        found.append({"Acc %": name, **cells} | ({"ours": ours.get(name)} if own else {}))
    last = {head: str(int(count)) for head, count in zip(heads, won, strict=True)}
    return [*found, {"Acc %": "# won", **last} | ({"ours": None} if own else {})]


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
            row[f"ours, {SHORT[dataset]}"] = mean_sd(rules.probe(record, layer, kind))
        rows.append(row)
    return rows


def _series(ax: Axes, values: Mapping[int, Sequence[float]], label: str, **style: Any) -> None:
    means, deviations = zip(
        *((np.mean(v), np.std(v, ddof=1)) for v in values.values()), strict=True
    )
    style = {"marker": "o", "ms": 4, "capsize": 2} | style
    ax.errorbar(list(values), means, deviations, label=label, **style)


def few_shot(found: Mapping[str, Record]) -> Figure:
    """Draw Fig. 9: accuracy by training images a class; the paper's first, then ours."""
    figure, axes = plt.subplots(1, 1 + len(found), figsize=(8, 3.3), sharey=True)
    axes = np.atleast_1d(axes)
    axes[0].plot(*zip(*paper.FEW_SHOT.items(), strict=True), "o-", color=BLUE, ms=4)
    axes[0].axhline(paper.FEW_SHOT_BEST, ls="--", color=TEXT, lw=1.2)
    axes[0].text(60, paper.FEW_SHOT_BEST - 4, "Bo et al., 60 a class", size=9, ha="right")
    axes[0].text(7, 67, "layer 7, softmax", color=BLUE, size=9, ha="right")
    axes[0].set_title("the paper: Caltech-256")
    curves = (
        ("curve-svm-conv5", "layer 5, linear SVM", {"color": ORANGE}),
        ("curve-softmax-fc7", "layer 7, softmax", {"color": BLUE}),
        ("curve-untrained-svm-conv5", "layer 5, untrained", {"color": ORANGE, "ls": ":"}),
        ("curve-untrained-softmax-fc7", "layer 7, untrained", {"color": BLUE, "ls": ":"}),
    )
    for ax, (dataset, record) in zip(axes[1:], found.items(), strict=True):
        for key, label, style in curves:
            if key in record:
                _series(ax, {int(n): v for n, v in record[key].items()}, label, mfc="none", **style)
        best = np.mean(rules.rival(record))
        ax.axhline(best, ls="--", color=TEXT, lw=1.2)
        number = rules.most(record)
        fewest = min(map(int, record["curve-softmax-fc7"]))
        room = np.mean(rules.frozen(record, fewest)) < best  # at the left, above the curves
        at, side = (fewest, "left") if room else (number, "right")
        ax.text(at, best + 1.5, f"not pretrained, {number} a class", size=9, ha=side)
        ax.set_title(f"ours: {TARGETS[dataset]}")
    for ax in axes:
        ax.set(xlabel="training images a class", ylim=(0, 80), xscale="log")
        sizes = (1, 3, 6, 15, 30, 60) if ax is axes[0] else (1, 3, 6, 15, 30)
        ax.set_xticks(sizes, [str(n) for n in sizes])
        ax.minorticks_off()
        ax.grid()
    axes[-1].legend(loc="upper left")
    axes[0].set_ylabel("mean per-class accuracy, %")
    figure.tight_layout(pad=0.4)
    return plots.detached(figure)


def by_layer(found: Mapping[str, Record]) -> Figure:
    """Draw Table 7 as curves, with an untrained network and the source's own classes beside."""
    figure, axes = plt.subplots(1, 1 + len(found), figsize=(8, 3.5), sharey=True)
    axes = np.atleast_1d(axes)
    for column, (head, colour) in enumerate((("Caltech-101", BLUE), ("Caltech-256", GREEN))):
        means = {n: row[column][0] for (kind, n), row in paper.PROBES.items() if kind == "svm"}
        axes[0].plot(
            list(means), list(means.values()), "o-", ms=4, color=colour, label=f"SVM, {head}"
        )
    axes[0].set_title("the paper")
    for ax, (dataset, record) in zip(axes[1:], found.items(), strict=True):
        for prefix, key, label, style in (
            ("trained-svm-", "accuracy", "SVM", {"color": BLUE}),
            ("trained-softmax-", "accuracy", "softmax", {"color": ORANGE}),
            ("untrained-svm-", "accuracy", "SVM, untrained network", {"color": BLUE, "ls": ":"}),
            ("source-", "trained", "SVM, the source's own classes", {"color": PINK, "ls": "--"}),
        ):
            layers = enumerate(rules.LAYERS, 1)
            values = {n: record[prefix + a][key] for n, a in layers if prefix + a in record}
            if values:
                _series(ax, values, label, mfc="none", **style)
        ax.set_title(f"ours: {TARGETS[dataset]}")
    for ax in axes:
        ax.set(xlabel="layer", xticks=range(1, 8), ylim=(0, 95))
        ax.grid(axis="y")
    axes[0].legend(loc="lower right")
    axes[0].set_ylabel("mean per-class accuracy, %")
    handles, labels = axes[-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=4)
    figure.tight_layout(pad=0.4, rect=(0, 0.09, 1, 1))
    return plots.detached(figure)


def gains(found: Mapping[str, Record]) -> Figure:
    """Draw what training adds to each layer, in points of the linear SVM."""
    rows, groups = [], []
    for layer in rules.LAYERS:
        for dataset, record in found.items():
            label = f"layer {layer[-1]}" if dataset == next(iter(found)) else ""
            rows.append((label, rules.learned(layer).of(record), None))
            groups.append(TARGETS[dataset])
    return plots.intervals(rows, unit="trained less untrained, points", groups=groups)
