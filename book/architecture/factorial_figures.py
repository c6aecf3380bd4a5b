"""The factorial of first layers: effects with intervals, error against computation, and the hidden 2x2 of the paper."""

import math
from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import HTML
from matplotlib.figure import Figure

from book.architecture import factorial
from book.architecture.factorial import FACTORS, FIXED, OLD
from book.architecture.figures import COLOURS
from zfrepro import contrasts as ablation
from zfrepro import paper, records, static
from zfrepro.plots import alone
from zfrepro.verdicts import WORLDS
from zfrepro.verdicts_table import WORLD_NAMES

Found = Mapping[str, dict[str, Any]]


def sweeps() -> dict[str, dict[str, Any]]:
    """The factorials there are, whole or in part, by world."""
    there = [w for w in WORLDS if (records.results_root() / "sweeps" / f"architecture-{w}.json").is_file()]
    return {world: records.read(f"sweeps/architecture-{world}") for world in there}


NOTHING = "The runs recorded so far allow no comparison. To add some: python -m zfrepro sweep architecture"


def _empty(width: float) -> Figure:
    figure = plt.figure(figsize=(width, 1))
    ax = figure.add_axes((0, 0, 1, 1))
    ax.text(0.5, 0.5, NOTHING.replace(". ", ".\n"), ha="center", va="center", fontsize=12)
    ax.axis("off")
    return alone(figure)


INTERACTIONS = (("kernel", "stride"), ("stride", "stride2"), ("stride", "width"))
ROWS = FACTORS | {"blur": "layer 1: low-pass filter before stride 4"}


def estimates(record: dict[str, Any], kind: str = "top1_error") -> dict[str, factorial.Estimate]:
    """All effects that the runs there are allow to estimate: label -> estimate, the three together first."""
    cells = factorial.cells_of(record, kind)
    found = {}
    if OLD in cells and FIXED in cells:
        found["filter size and both strides together"] = factorial.contrast(cells, {FIXED: 1, OLD: -1})
    found |= {label: factorial.effect(cells, name) for name, label in ROWS.items()}
    for one, other in INTERACTIONS:
        found[f"{one} x {other}"] = factorial.interaction(cells, one, other)
    return {label: estimate for label, estimate in found.items() if estimate is not None}


def effects(found: Found, width: float = 9) -> Figure:
    """Differences in top-1 error with their 95 % intervals, a panel for each world. found: world -> sweep record."""
    told = {world: estimates(record) for world, record in found.items()}
    labels = list(dict.fromkeys(label for own in told.values() for label in own))
    if not labels:
        return _empty(width)
    figure, axes = plt.subplots(
        1, len(found), figsize=(width, 0.42 * len(labels) + 1.1), sharey=True, squeeze=False, layout="constrained"
    )
    for ax, (world, own) in zip(axes[0], told.items(), strict=True):
        for label, e in own.items():
            y = -labels.index(label)
            ax.plot(e.value, y, "o", color="#2a6f97")
            if not math.isnan(e.low):
                ax.plot((e.low, e.high), (y, y), "-", color="#2a6f97", lw=2)
        ax.axvline(0, color="grey", lw=0.8)
        cells = factorial.cells_of(found[world])
        ax.set_title(f"{WORLD_NAMES[world]}:\n{len(cells)} networks, {factorial.told_seeds(cells)}", fontsize=10)
        ax.set_xlabel("change of top-1 error, points", fontsize=10)
        ax.grid(alpha=0.25, axis="x")
    axes[0, 0].set_yticks([-i for i in range(len(labels))], labels, fontsize=10)
    return alone(figure)


def table_of_effects(found: Found) -> HTML:
    """The same in numbers, for both errors."""
    rows = []
    for world, record in found.items():
        second = estimates(record, "top5_error")
        rows += [
            {"world": WORLD_NAMES[world], "change": label, "top-1 error, points": e.told,
             "top-5 error, points": second[label].told, "comparisons": e.pairs}
            for label, e in estimates(record).items()
        ]  # fmt: skip
    if not rows:
        return HTML(f"<p>{NOTHING}</p>")
    return static.table(rows, caption="Effects with 95 % intervals over seeds; negative is better")


def judged(e: factorial.Estimate | None) -> str:
    """What an effect says, in words."""
    if e is None:
        return "not trained yet"
    if math.isnan(e.low):
        return f"one seed, no interval: {e.value:+.2f}"
    verdict = "lowers the error" if e.high < 0 else "raises the error" if e.low > 0 else "cannot be told from none"
    return f"{verdict}: {e.told}"


def answers(found: Found) -> HTML:
    """Is it the filter size, the stride, or the computation? A row for each, a column for each world."""
    columns: dict[str, dict[str, str]] = {}
    for world, record in found.items():
        cells, price = factorial.cells_of(record), factorial.costs_of(record)
        own = {label: judged(factorial.effect(cells, name)) for name, label in ROWS.items()}
        own["the paper's layers, beyond what their computation is worth"] = judged(factorial.beyond_cost(cells, price))
        columns[WORLD_NAMES[world]] = own
    if not columns:
        return HTML(f"<p>{NOTHING}</p>")
    questions = next(iter(columns.values()))
    rows = [{"change": q, **{world: own[q] for world, own in columns.items()}} for q in questions]
    return static.table(rows, caption="Points of top-1 error, with 95 % intervals")


def _mark(name: str) -> dict[str, str]:
    """How a network is drawn: shape for the first stride, colour for the filter size, filled for wide."""
    own = factorial.levels(name)
    colour = COLOURS["zfnet" if own["kernel"] else "krizhevsky"]
    shape = "s" if own["stride"] else "^" if own["blur"] else "o"
    return {"marker": shape, "color": colour, "mfc": colour if own["width"] else "none", "ls": "none"}


def costs(found: Found, width: float = 9) -> Figure:
    """Error against multiply-adds, marked as `_mark` says; small marks are single seeds."""
    found = {world: record for world, record in found.items() if record["runs"]}
    if not found:
        return _empty(width)
    size = (width, 4 * len(found))
    figure, axes = plt.subplots(len(found), 1, figsize=size, squeeze=False, sharex=True, layout="constrained")
    for ax, (world, record) in zip(axes[:, 0], found.items(), strict=True):
        cells, price = factorial.cells_of(record), factorial.costs_of(record)
        means = ablation.means(cells)
        for name, values in cells.items():
            own, x = factorial.levels(name), price[name] / 1e6
            mark = _mark(name)
            ax.plot([x] * len(values), list(values.values()), mark["marker"], ms=3, alpha=0.4, color=mark["color"])
            ax.plot(x, means[name], ms=8, **mark)
            if not own["width"]:
                ax.annotate(name, (x, means[name]), fontsize=9, xytext=(7, 4), textcoords="offset points")
        if len(cells) >= 3:
            line, ends = factorial.cost_line(cells, price), np.array([min(price.values()), max(price.values())])
            ax.plot(ends / 1e6, [line.at(x) for x in ends], "--", color="grey", lw=1)
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter("{x:g}")
        ax.margins(x=0.1)
        ax.set_ylabel("top-1 error, %", fontsize=10)
        ax.set_title(WORLD_NAMES[world], fontsize=10)
        ax.grid(alpha=0.25)
    axes[-1, 0].set_xlabel("multiply-adds of a forward pass, millions", fontsize=10)
    return alone(figure)


def two_by_two(found: Found, width: float = 9) -> Figure:
    """The paper's hidden 2x2 beside ours: repaired layers against width."""
    figure, axes = plt.subplots(1, 1 + len(found), figsize=(width, 3), squeeze=False, layout="constrained")
    for wide, style in (("narrow", "o--"), ("wide", "s-")):
        theirs = [paper.STEM_BY_WIDTH[stem, wide].val1 for stem in ("11x11/4", "7x7/2")]
        axes[0, 0].plot([0, 1], theirs, style, color="#555555", label=wide)
        for ax, (world, record) in zip(axes[0, 1:], found.items(), strict=True):
            cells = factorial.cells_of(record)
            means = ablation.means(cells)
            names = [stem + ("-wide" if wide == "wide" else "") for stem in (OLD, FIXED)]
            at = [i for i, name in enumerate(names) if name in cells]
            ax.plot(at, [means[names[i]] for i in at], style, color="#2a6f97", label=wide)
            for i in at:
                ax.plot([i] * len(cells[names[i]]), list(cells[names[i]].values()), ".", color="#2a6f97", alpha=0.4)
            ax.set_title(f"{WORLD_NAMES[world]}, small networks", fontsize=10)
    axes[0, 0].set_title("the paper, ImageNet", fontsize=10)
    axes[0, 0].set_ylabel("top-1 error, %", fontsize=10)
    for ax in axes[0]:
        ax.set_xticks([0, 1], ["Krizhevsky's\nlayers 1, 2", "the paper's"], fontsize=10)
        ax.set_xlim(-0.3, 1.3)
        ax.legend(fontsize=9, frameon=False)
    return alone(figure)


def told_diagnosed(record: dict[str, Any]) -> str:
    """How many networks and seeds a study's diagnoses are of: `18 networks, 3 seeds each`."""
    found = factorial.by_network(record["runs"])
    seeds = {name: {run["seed"]: run["top1_error"] for run in own} for name, own in found.items()}
    return f"{len(seeds)} networks, {factorial.told_seeds(seeds)}" if seeds else "none yet"


def diagnosis(found: Found, width: float = 9) -> Figure:
    """Error against what the pictures diagnose, a point for each small network. found: world -> study record."""
    told = {world: factorial.diagnoses(record["runs"]) for world, record in found.items()}
    told = {world: own for world, own in told.items() if own}
    if not told:
        return _empty(width)
    figure, axes = plt.subplots(
        len(told), 3, figsize=(width, 3 * len(told)), squeeze=False, sharey="row", layout="constrained"
    )
    measures = {"aliased": "aliased energy, %", "conv2 moved": "consistency of layer 2", "middle": "middle band, %"}
    for row, (world, own) in zip(axes, told.items(), strict=True):
        for ax, (key, label) in zip(row, measures.items(), strict=True):
            for name, values in own.items():
                ax.plot(values[key], values["top1_error"], **_mark(name))
            ax.set_xlabel(label, fontsize=10)
            ax.grid(alpha=0.25)
        row[0].set_ylabel(f"{WORLD_NAMES[world]}\ntop-1 error, %", fontsize=10)
    return alone(figure)
