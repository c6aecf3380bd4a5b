"""Fig. 8 of the arXiv text, and the curves over layers that the paper does not have."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from book.correspondence.claims import learned_rows
from book.correspondence.measure import CONTROLS, MEASURES, PAPERS
from zfrepro import paper
from zfrepro.correspondence import PARTS
from zfrepro.plots import alone, grid
from zfrepro.words import told

LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7")
STYLE = {"random": ("#4c72b0", "o"), "matched": ("#dd8452", "s"), "borrowed": ("#55a868", "^")}
SAYS = {
    "random": "anywhere",
    "matched": "same contrast, distance from the centre",
    "borrowed": "where another face has the part",
}


def masks(images: Tensor, masked: Sequence[Tensor], titles: Sequence[str], width: float = 9) -> Figure:
    """Fig. 8: an image a row, original first, then a column for each mask.

    Args:
        images: uint8 (N, 3, S, S).
        masked: the same pictures, covered, once for each further column.
        titles: of all columns.
    """
    rows = list(zip(images, *masked, strict=True))
    return grid(rows, titles, [""] * len(rows), width)


def lead(found: Mapping[str, Any]) -> tuple[float, float, float]:
    """How much lower the part's distance is than the control's, in per cent of the control's, with its interval."""
    return tuple(100 * value / found["control"] for value in (found["better"], *found["interval"]))


def leads(record: Mapping[str, Any], measures: Sequence[str], titles: Sequence[str], width: float = 8.5) -> Figure:
    """The parts' lead over each control, layer by layer, one panel a measure.

    Args:
        record: `results/correspondence/WORLD.json`.
        measures: names of `studies.correspondence.MEASURES`.
    """
    rows = (len(measures) + 1) // 2
    figure, axes = plt.subplots(rows, 2, figsize=(width, 2.9 * rows + 0.5), squeeze=False)
    for ax, measure, title in zip(axes.flat, measures, titles, strict=True):
        for shift, (control, (colour, marker)) in enumerate(STYLE.items()):
            points = [lead(record[layer]["mean"][measure][control]) for layer in LAYERS]
            x = [i + 0.12 * (shift - 1) for i in range(1, len(LAYERS) + 1)]
            y, low, high = zip(*points, strict=True)
            bars = [[a - b for a, b in zip(y, low, strict=True)], [b - a for a, b in zip(y, high, strict=True)]]
            ax.errorbar(x, y, bars, color=colour, marker=marker, ms=5, lw=1.2, capsize=2, label=SAYS[control])
        ax.axhline(0, color="0.3", lw=0.8)
        ax.set_title(title, fontsize=10)
        ax.set_xlabel("layer", fontsize=9)
        ax.set_ylabel("parts agree better by, %", fontsize=9)
        ax.tick_params(labelsize=9)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=3, fontsize=9, frameon=False, title="masks compared with")
    figure.tight_layout(pad=0.6, rect=(0, 0.55 / figure.get_figheight(), 1, 1))
    return alone(figure)


def kinds(records: Mapping[str, Mapping[str, Any]], width: float = 8.5) -> Figure:
    """Left: kinds told apart by the features. Right: the parts' lead among images of one kind and of two.

    Args:
        records: `results/correspondence/WORLD.json` by world, one row of panels each.
    """
    figure, axes = plt.subplots(len(records), 2, figsize=(width, 2.9 * len(records)), squeeze=False)
    x = range(1, len(LAYERS) + 1)
    for (left, right), (world, record) in zip(axes, records.items(), strict=True):
        table = record["kinds"]
        left.plot(x, [table[name]["features"]["accuracy"] for name in LAYERS], "o-", color="#4c72b0", label="features")
        parts = [sum(table[n][p]["accuracy"] for p in PARTS) / 3 for n in LAYERS]
        left.plot(x, parts, "s-", color="#dd8452", label="differences")
        left.plot(x, [table[name]["features"]["chance"] for name in LAYERS], "--", color="0.5", label="kinds shuffled")
        left.set_ylim(0, 100)
        left.set_ylabel("kind right, %", fontsize=9)
        left.set_title(f"{world}: kinds told apart", fontsize=10)
        for name, colour, marker, shift in (("within", "#c44e52", "o", -0.07), ("between", "#8172b3", "s", 0.07)):
            found = [table[layer]["cosine"][name] for layer in LAYERS]
            y = [f["better"] for f in found]
            bars = [[f["better"] - f["interval"][0] for f in found], [f["interval"][1] - f["better"] for f in found]]
            label = "of one kind" if name == "within" else "of two kinds"
            right.errorbar([i + shift for i in x], y, bars, color=colour, marker=marker, lw=1.2, capsize=2, label=label)
        right.axhline(0, color="0.3", lw=0.8)
        right.set_ylabel("parts' lead, cosine", fontsize=9)
        right.set_title(f"{world}: lead over random masks", fontsize=10)
        for ax in (left, right):
            ax.set_xlabel("layer", fontsize=9)
            ax.tick_params(labelsize=9)
            ax.legend(fontsize=8, frameon=False)
    figure.tight_layout(pad=0.6)
    return alone(figure)


# --- rows of the page's tables, from records by world -----------------------------------------------------------------

Records = Mapping[str, Mapping[str, Any]]
Rows = list[dict[str, Any]]
FIXED = "\N{NO-BREAK SPACE}"


def _kept(pattern: str, *values: object) -> str:
    """Numbers put into a pattern whose `~` are spaces that do not break a line."""
    return pattern.replace("~", FIXED).format(*values)


def rows_of_fives(records: Records) -> Rows:
    """The paper's experiment on random fives, beside the paper's numbers."""
    rows = []
    for (world, record), layer, part in itertools.product(records.items(), PAPERS, (*PARTS, "random")):
        mean, spread, low, high = record["table"][layer][part]
        printed = paper.CORRESPONDENCE.get(layer, {}).get(part)
        rows.append(
            {
                "data": world,
                "layer": layer,
                "masked": part,
                "mean": f"{mean:.3f}",
                "± (pairs)": f"{spread:.3f}",
                "95 % of fives": _kept("{:.3f}~to~{:.3f}", low, high),
                "below random, %": None if part == "random" else 100 * record["table"][layer]["below"][part],
                "paper": _kept("{:.3f}~±~{:.3f}", *printed) if printed else None,
            }
        )
    return rows


def rows_of_changed(records: Records) -> Rows:
    """How many units the masks change, in per cent, mean over faces."""
    rows = []
    for (world, record), layer in itertools.product(records.items(), PAPERS):
        changed = {name: f"{100 * sum(v) / len(v):.1f}" for name, v in record[layer]["changed"].items()}
        rows.append({"data": world, "layer": layer, **changed})
    return rows


def rows_of_controls(records: Records) -> Rows:
    """The lead of the parts (mean of the three) over every control by every measure, in per cent of the control's."""
    rows = []
    for (world, record), layer, measure in itertools.product(records.items(), ("conv5", "fc7"), MEASURES):
        found = record[layer]["mean"][measure]
        said = {
            name: _kept("{:+.1f} ({:+.1f}~to~{:+.1f}), p~{:.4f}", *lead(found[name]), found[name]["p"])
            for name in CONTROLS
        }
        row = {"data": world, "layer": layer, "measure": measure, "parts": f"{found['random']['part']:.3f}"}
        rows.append(row | said)
    return rows


def rows_of_kinds(records: Records) -> Rows:
    """The lead over random masks within and between kinds."""
    rows = []
    for (world, record), layer, measure in itertools.product(records.items(), ("conv5", "fc7"), ("sign", "cosine")):
        table = record["kinds"][layer]
        found = table[measure]
        low, high = found["gained interval"]
        rows.append(
            {
                "data": world,
                "layer": layer,
                "measure": measure,
                "lead within": f"{found['within']['better']:+.3f}",
                "lead between": f"{found['between']['better']:+.3f}",
                "within less between": _kept("{:+.3f} ({:+.3f}~to~{:+.3f})", found["gained"], low, high),
                "p of kinds in differences": max(table[part]["p"] for part in PARTS),
            }
        )
    return rows


def rows_of_checks(records: Records) -> Rows:
    """The lead for other sides of the mask and for untrained networks; None where too few faces are left."""
    rows = []
    for world, record in records.items():
        tables = {_kept("trained, mask {}~px", side): table for side, table in record["sizes"].items()}
        tables |= {_kept("untrained, seed~{}", seed): table for seed, table in record["untrained"].items()}
        for (label, table), layer in itertools.product(tables.items(), ("conv5", "fc7")):
            row = {"data": world, "network": label, "layer": layer}
            for measure, control in (("sign", "random"), ("cosine", "matched"), ("cosine", "borrowed")):
                found = table[layer][measure][control]
                made = "better" in found
                row[f"{measure}, {control}"] = _kept("{:+.1f} ({:+.1f}~to~{:+.1f})", *lead(found)) if made else None
            rows.append(row)
    return rows


def rows_of_learned(records: Records) -> Rows:
    """What `correspondence-learned` is judged by: layer 5's lead, trained and with each of the initial weights."""
    rows = []
    for world, found in ((world, row) for world, record in records.items() for row in learned_rows(record)):
        row = {"data": world, "measure": found["measure"], "control": found["control"]}
        row["trained, at least"] = _kept("{:+.1f},~{:+.1f}", found["trained"], found["low"])
        rows.append(row | {f"untrained {i}": f"{value:+.1f}" for i, value in enumerate(found["untrained"], 1)})
    return rows


def learned_told(record: Mapping[str, Any]) -> str:
    """In how many comparisons of `learned_rows` the trained network is clearly ahead, and in how many it is behind."""
    found = learned_rows(record)
    ahead = sum(row["low"] > max(row["untrained"]) for row in found)
    behind = sum(row["trained"] < min(row["untrained"]) for row in found)
    return f"clearly ahead of all in {ahead}, behind all in {behind}"


def maps_told(record: Mapping[str, Any], measure: str = "cosine of maps", control: str = "matched") -> str:
    """Layer 5's lead over a control by one measure: `10.8 % (before training 9.1, 11.2 and 8.7)`."""
    row = next(r for r in learned_rows(record) if (r["measure"], r["control"]) == (measure, control))
    before = [f"{value:.1f}" for value in row["untrained"]]
    return f"{row['trained']:.1f} % (before training {', '.join(before[:-1])} and {before[-1]})"


def gained(record: Mapping[str, Any], layer: str) -> str:
    """How much larger the parts' lead by cosine is within kinds than between, with its interval."""
    found = record["kinds"][layer]["cosine"]
    return told(found["gained"], *found["gained interval"], "+.3f")


def search_gains(record: Mapping[str, Any]) -> str:
    """Of how many searches, by layer and part, the trained network's hits are clearly above the untrained one's."""
    found = [
        record["search"][layer][part]["hit"][1] > record["search untrained"][layer][part]["hit"][0]
        for layer, part in itertools.product(("conv5", "fc7"), PARTS)
    ]
    return f"{sum(found)} of {len(found)}"


def hits(record: Mapping[str, Any], key: str, layer: str) -> float:
    """How often a search finds the part, in per cent, mean of the three parts. key: `search`, `search untrained`."""
    return sum(found["hit"][0] for found in record[key][layer].values()) / len(record[key][layer])


def rows_of_search(records: Records) -> Rows:
    """Squares on the part found by the example of other faces."""
    rows = []
    for (world, record), (key, label) in itertools.product(
        records.items(), (("search", "trained"), ("search untrained", "untrained"))
    ):
        for layer, part in itertools.product(("conv5", "fc7"), PARTS):
            found = record[key][layer][part]
            said = {f"{what}, %": _kept("{:.0f} ({:.0f}~to~{:.0f})", *found[what]) for what in ("hit", "rank")}
            rows.append({"data": world, "network": label, "layer": layer, "part": part, **said})
    return rows
