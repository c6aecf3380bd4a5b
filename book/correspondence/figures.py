"""Figures and rows of tables of the chapter on correspondence, from its records by data set."""

import itertools
from collections.abc import Mapping

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure

from book.correspondence import claims
from book.correspondence.measure import CONTROLS, LAYERS, MEASURES, TESTED
from zfrepro import paper
from zfrepro.claims import DATASETS, Record
from zfrepro.correspondence import PARTS
from zfrepro.plots import PALETTE, TEXT, detached, intervals_by_group
from zfrepro.stats import Interval

Row = tuple[str, Interval, float | None]  # of `plots.intervals`
PLUS_MINUS = "{:.3f}±{:.3f}"  # a mean and its spread, as the paper prints them
SETS = {"part": "o", "random": "s", "matched": "^", "borrowed": "D"}
COMPARED = (("sign", "random"), *claims.CONTROLLED)
NAMES = {"conv5": "layer 5", "pool5": "layer 5, after its pool", "fc7": "layer 7"}


def delta_against_changed(by_dataset: Mapping[str, Record]) -> Figure:
    """Draw Delta against the share of units that change, one point a layer and set of masks.

    The line is what independent changes of that share would give, up as often as down.
    """
    figure, ax = plt.subplots(figsize=(7.5, 0.48 * 7.5))
    share = torch.linspace(0, 0.56, 60)
    ax.plot(share, 1 - (1 - share) ** 2 - share**2 / 2, color=TEXT, lw=1.2, zorder=0)
    ax.text(0.3, 0.52, "units change\nindependently", ha="right", va="bottom")
    for colour, (dataset, record) in zip(PALETTE, by_dataset.items(), strict=False):
        for name, marker in SETS.items():
            changed = [record[layer]["changed"][name] for layer in LAYERS]
            tables = [record[layer]["sign"] for layer in LAYERS]
            delta = [t["random"]["part"] if name == "part" else t[name]["control"] for t in tables]
            face = colour if name == "part" else "none"
            label = f"{DATASETS[dataset]}: {'parts' if name == 'part' else name}"
            ax.plot(changed, delta, marker, mec=colour, mfc=face, ms=6, label=label)
    ax.set(
        xlabel="share of units that a mask changes", ylabel="Delta", xlim=(0, 0.56), ylim=(0, 0.65)
    )
    ax.legend(loc="lower right", ncols=2)
    figure.tight_layout(pad=0.4)
    return detached(figure)


def margin_rows(record: Record) -> tuple[list[Row], list[str]]:
    """Return rows and groups for `plots.intervals`: the margins in layers 5 and 7."""
    rows, groups = [], []
    for (measure, control), layer in itertools.product(COMPARED, TESTED):
        printed = claims.printed_margin(layer) if measure == "sign" else None
        name = "the paper's signs" if measure == "sign" else measure
        label = f"{name}, {control}" if layer == TESTED[0] else ""
        rows.append((label, claims.margin(record, layer, measure, control), printed))
        groups.append(NAMES[layer])
    return rows, groups


def trained_and_untrained(record: Record) -> Figure:
    """Draw layer 5's margin over matched masks, after and before training."""
    margins = {
        measure: {
            "trained": claims.margin(record, "conv5", measure, "matched"),
            "untrained": claims.untrained_margin(record, "conv5", measure, "matched"),
        }
        for measure in (*claims.ROBUST, "cosine of maps")
    }
    return intervals_by_group(margins, unit="margin in layer 5, %")


def hits(record: Record, key: str) -> float:
    """Return how often a search finds the part, in per cent, mean of the three parts."""
    return sum(record[key][part]["mean"] for part in PARTS) / len(PARTS)


def table_rows(by_dataset: Mapping[str, Record]) -> list[dict[str, object]]:
    """Return the paper's table, mean feature sign change, with ours beside it."""
    rows = []
    for masked in (*PARTS, "random"):
        row: dict[str, object] = {"Occlusion Location": masked}
        for layer in TESTED:
            printed = paper.CORRESPONDENCE[layer][masked]
            row[f"{NAMES[layer]}: paper"] = PLUS_MINUS.format(*printed)
            for dataset, record in by_dataset.items():
                ours = PLUS_MINUS.format(*record["table"][layer][masked])
                row[f"{NAMES[layer]}: {DATASETS[dataset]}"] = ours
        rows.append(row)
    return rows


def all_margins(by_dataset: Mapping[str, Record]) -> list[dict[str, object]]:
    """Return the margins by every distance over every control."""
    rows, columns = [], by_dataset.items()
    for (dataset, record), layer, measure in itertools.product(columns, TESTED, MEASURES):
        row: dict[str, object] = {"data set": DATASETS[dataset], "layer": NAMES[layer]}
        row["distance"] = measure
        for control in CONTROLS:
            row[control] = f"{claims.margin(record, layer, measure, control):+.1f}"
        rows.append(row)
    return rows


def size_rows(by_dataset: Mapping[str, Record]) -> list[dict[str, object]]:
    """Return the margins for several sides of the mask; None where too few faces have room."""
    pairs, rows = (("sign", "random"), ("cosine", "random"), ("cosine", "matched")), []
    for dataset, record in by_dataset.items():
        for (side, table), layer in itertools.product(record["sizes"].items(), TESTED):
            row: dict[str, object] = {"data set": DATASETS[dataset], "side, px": int(side)}
            row["layer"] = NAMES[layer]
            for measure, control in pairs:
                result = table[layer][measure][control]
                margin = f"{Interval.of(result['margin']):+.1f}" if result else None
                row[f"{measure}, {control}"] = margin
            rows.append(row)
    return rows


def class_rows(by_dataset: Mapping[str, Record]) -> list[dict[str, object]]:
    """Return how well classes are told apart, and the parts' margin within and between them."""
    rows = []
    for (dataset, record), layer in itertools.product(by_dataset.items(), TESTED):
        table = record["classes"][layer]
        row: dict[str, object] = {"data set": DATASETS[dataset], "layer": NAMES[layer]}
        row["accuracy, %"] = f"{table['accuracy']:.0f}"
        for key in ("within", "between", "gained"):
            name = "within less between" if key == "gained" else f"margin {key}"
            row[name] = f"{Interval.of(table[key]):+.3f}"
        rows.append(row)
    return rows
