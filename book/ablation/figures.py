"""Table 2 and what can be drawn of it: differences with intervals, error against size, training against validation."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import HTML
from matplotlib.figure import Figure
from scipy import stats

from book.ablation.claims import ALL, FULL, INTERACTION, MIDDLE, ONE_FULL, WIDE, WIDEST, change, of, points
from zfrepro import contrasts as ablation
from zfrepro import records, static, sweeps
from zfrepro.contrasts import Effect, errors_of, short
from zfrepro.networks import ARCHITECTURES, architecture
from zfrepro.paper import TABLE2
from zfrepro.plots import alone
from zfrepro.receptive_field import multiply_adds
from zfrepro.verdicts import VERDICTS, WORLDS, of_chapter
from zfrepro.verdicts_table import WORLD_NAMES

Record = dict[str, Any]
COLOURS = {"krizhevsky": "#2f6db5", "zfnet": "#b5462f"}
EXTREMES = ("krizhevsky", MIDDLE, FULL, ALL, "zfnet", WIDE)  # rows whose curves are drawn
MANY = 1e6


def recorded() -> dict[str, Record]:
    """The sweeps there are, by world."""
    there = [w for w in WORLDS if (records.results_root() / "sweeps" / f"ablation-{w}.json").is_file()]
    return {world: records.read(f"sweeps/ablation-{world}") for world in there}


def studied() -> dict[str, Record]:
    """The studies of features there are, by world."""
    there = [w for w in WORLDS if (records.results_root() / "ablation" / f"{w}.json").is_file()]
    return {world: records.read(f"ablation/{world}") for world in there}


def named(name: str) -> str:
    """A row with its half: `Krizhevsky without 3, 4`, `ZFNet`."""
    base = ablation.base_of(name)
    return short(name) if name == base else f"{short(base)} {short(name)}"


# --- tables ----------------------------------------------------------------------------------------------------------


def seeded(values: Iterable[float], digits: int = 1) -> str | None:
    """`43.1±0.8`, mean and standard deviation; of one seed the value alone, of none None."""
    found = list(values)
    if not found:
        return None
    mean = f"{np.mean(found):.{digits}f}"
    return f"{mean}±{np.std(found, ddof=1):.{digits}f}" if len(found) > 1 else mean


def rows(record: Record | None) -> list[dict[str, object]]:
    """Table 2 with the paper's columns beside ours, a row for each of the twelve networks, also those not run yet."""
    runs = record["runs"] if record else []
    found = []
    for name, paper in TABLE2.items():
        own = [run for run in runs if run["arch"] == name]
        row: dict[str, object] = {"network": named(name)}
        for key, value in {"train": paper.train1, "top-1": paper.val1, "top-5": paper.val5}.items():
            row[f"paper: {key}"] = f"{value:.1f}"
        for key, part, kind in (
            ("train", "train", "top1_error"), ("top-1", "one_crop", "top1_error"),
            ("top-5", "one_crop", "top5_error"), ("top-1, ten crops", "ten_crops", "top1_error"),
        ):  # fmt: skip
            row[key] = seeded(run["errors"][part][kind] for run in own)
        row["thousand parameters"] = round(own[0]["parameters"] / 1000) if own else None
        row["million multiply-adds"] = round(own[0]["multiply_adds"] / MANY, 1) if own else None
        row["minutes"] = float(np.mean([run["seconds"] for run in own])) / 60 if own else None
        row["minutes"] = row["minutes"] and round(row["minutes"], 1)
        found.append(row | {"seeds": len(own)})
    return found


def table(world: str, record: Record | None) -> HTML:
    """`rows` as a table of the page that can be sorted and filtered."""
    caption = f"Errors in per cent, the paper's and ours on {WORLD_NAMES[world]}"
    if record:
        recipe = record["recipe"]
        caption += f": scale {record['scale']}, {recipe['epochs']} epochs of {record['dataset']['train']:,} images"
    else:
        caption += f" (not run yet: python -m zfrepro ablate --dataset {world})"
    return static.table(rows(record), caption=caption)


def sizes(image_size: int = 96, width: float = 0.25, units: int = 256, classes: int = 20) -> list[dict[str, object]]:
    """The twelve networks at the paper's size and at ours: depth, parameters, their share in layers 6 to 8."""
    found = []
    for name, full in ARCHITECTURES.items():
        row: dict[str, object] = {"network": named(name), "weight layers": ablation.depth(full)}
        small = architecture(name, width=width, units=units)
        for where, network, side, outputs in (("paper", full, 224, 1000), ("here", small, image_size, classes)):
            count = ablation.parameters(network, side, outputs)
            dense = sum(number for layer, number in count.items() if layer.startswith("fc"))
            row[f"{where}: million parameters"] = round(sum(count.values()) / MANY, 2)
            row[f"{where}: in layers 6 to 8, %"] = round(100 * dense / sum(count.values()))
            row[f"{where}: million multiply-adds"] = round(multiply_adds(network, side, outputs) / MANY)
        found.append(row)
    return found


VIEWS = {
    "top-1, one crop": ("one_crop", "top1_error"),
    "top-5, one crop": ("one_crop", "top5_error"),
    "top-1, ten crops": ("ten_crops", "top1_error"),
    "top-1, training images": ("train", "top1_error"),
}


def differences(found: Mapping[str, Record]) -> list[dict[str, object]]:
    """Each change's difference to its base in points, with its interval, by kind of error."""
    listed = []
    for world, record in found.items():
        for label, weights in CONTRASTS.items():
            row: dict[str, object] = {"world": WORLD_NAMES[world], "change": label}
            for view, (part, kind) in VIEWS.items():
                effect = tried(record, weights, part, kind)
                row[view] = points(effect) if effect else None
            listed.append(row)
    return listed


# --- words -----------------------------------------------------------------------------------------------------------


def said(
    found: Mapping[str, Record], world: str, weights: Mapping[str, float], part="one_crop", kind="top1_error"
) -> str:
    """A contrast in points with its interval, or that its networks have not run."""
    effect = tried(found[world], weights, part, kind) if world in found else None
    return points(effect) if effect else "not run yet"


def printed(weights: Mapping[str, float], column: str = "val1") -> str:
    """The same contrast of the paper's numbers, `train1`, `val1` or `val5`."""
    return f"{_paper(weights, column):+.1f}"


def verdict(found: Mapping[str, Record], world: str, weights: Mapping[str, float], part="one_crop") -> str:
    """Whether an error is `clearly higher`, `clearly lower` or `not clearly different`, by the interval."""
    effect = tried(found[world], weights, part) if world in found else None
    if not effect or math.isinf(effect.low):
        return "not known yet"
    return "clearly higher" if effect.low > 0 else "clearly lower" if effect.high < 0 else "not clearly different"


def gap_range(found: Mapping[str, Record], world: str | None) -> str:
    """Smallest and largest gap between validation and training error over the networks; world None: the paper's."""
    if world is None:
        gaps = [row.val1 - row.train1 for row in TABLE2.values()]
    else:
        gaps = list(ablation.means(ablation.gaps(found[world])).values()) if world in found else []
    return f"{min(gaps):.1f} to {max(gaps):.1f}" if gaps else "not known yet"


def differing() -> str:
    """What the worlds' runs differ in besides the images, as a page says it: `epochs (16 and 8)`, diorama first."""
    one, other = (vars(sweeps.recipes("ablation", world)[0]) for world in WORLDS)
    names = [name for name in one if one[name] != other[name] and name != "dataset"]
    return ", ".join(f"{name.replace('_', ' ')} ({one[name]:g} and {other[name]:g})" for name in names)


def counted(world: str) -> str:
    """How many of the chapter's claims have each verdict in a world: `2 reproduced, 1 partly`."""
    found = [claim.finding(world).verdict for claim in of_chapter("ablation")]
    return ", ".join(f"{found.count(name)} {name}" for name in VERDICTS if name in found)


def chance(found: Mapping[str, Record], world: str) -> dict[str, str]:
    """The pooled standard deviation, its degrees of freedom, and half the interval of a difference of three seeds."""
    pooled = ablation.spread(errors_of(found[world])) if world in found else ablation.Spread(math.nan, 0)
    if not pooled.freedom:
        return dict.fromkeys(("sd", "freedom", "half"), "not known yet")
    half = stats.t.ppf(0.975, pooled.freedom) * pooled.sd * math.sqrt(2 / 3)
    return {"sd": f"{pooled.sd:.2f}", "freedom": str(pooled.freedom), "half": f"{half:.1f}"}


def ranks(found: Mapping[str, Record]) -> list[dict[str, object]]:
    """Rank correlation of the networks' errors with the paper's, and with depth and size."""
    listed = []
    for world in [None, *(world for world in WORLDS if world in found)]:
        errors = _papers() if world is None else ablation.means(errors_of(found[world]))
        if len(errors) < 3:
            continue
        parameters, cost = _size_of(found, world)
        depth = {name: ablation.depth(value) for name, value in ARCHITECTURES.items()}
        row: dict[str, object] = {"errors of": "the paper" if world is None else WORLD_NAMES[world]}
        for label, other in (
            ("with the paper's", _papers()), ("with depth", depth), ("with parameters", parameters),
            ("with multiply-adds", cost),
        ):  # fmt: skip
            own = None if world is None and label == "with the paper's" else ablation.rank_correlation(errors, other)
            row[label] = f"{own.rho:+.2f}" if own else None
        listed.append(row | {"networks": len(errors)})
    return listed


def probed(studies: Mapping[str, Record]) -> list[dict[str, object]]:
    """Of each row: what a linear classifier reads from the maps that leave the conv layers, and the error by images."""
    listed = []
    for name in TABLE2:
        row: dict[str, object] = {"network": named(name)}
        for world, label in WORLD_NAMES.items():
            study = studies.get(world, {"probe": {"accuracy": {}}, "images_error": {"standard_error": {}}})
            row[f"{label}: probe, % right"] = seeded(study["probe"]["accuracy"].get(name, {}).values())
            row[f"{label}: chance by images"] = study["images_error"]["standard_error"].get(name)
        listed.append(row)
    return listed


def cka_told(studies: Mapping[str, Record], world: str, name: str, layer: str = "conv5") -> str:
    """CKA of a row's layer with its base's, of another seed: the mean, and each pair where there are several."""
    values = _of_pairs(studies[world], name, layer) if world in studies else []
    if not values:
        return "not measured yet"
    each = ", ".join(f"{value:.2f}" for value in values)
    return f"{np.mean(values):.2f} ({each})" if len(values) > 1 else f"{each} (one pair)"


def _of_pairs(study: Record, name: str, layer: str) -> list[float]:
    """CKA of each pair of networks."""
    return study["features"]["cka"].get(name, {}).get(layer, [])


def pairs_told(studies: Mapping[str, Record], world: str) -> str:
    """How many pairs of networks a row's CKA is of: `2 seeds, 1 pair for a base, 2 for another row`."""
    if world not in studies:
        return "not measured yet"
    runs = studies[world]["runs"]
    count = {name in ablation.BASES: len(_of_pairs(studies[world], name, "conv1")) for name in runs}
    base, row = (count.get(is_base, 0) for is_base in (True, False))
    return f"{max(map(len, runs.values()))} seeds, {base} pair{'s' * (base != 1)} for a base, {row} for another row"


# --- figures ---------------------------------------------------------------------------------------------------------

CONTRASTS: dict[str, dict[str, float]] = {
    **{named(name): change(name) for name in TABLE2 if name not in ablation.BASES},
    "FC 8192 on top of wide": change(WIDEST, WIDE),
    "3, 4, 6, 7 beyond the sum": INTERACTION,
    "ZFNet for Krizhevsky": change("zfnet", "krizhevsky"),
}
"""What is compared with what, in the order of the figure."""


def tried(record: Record, weights: Mapping[str, float], part: str = "one_crop", kind: str = "top1_error"):
    """A contrast, or None where the record lacks a network."""
    try:
        return of(record, weights, part, kind)
    except LookupError:
        return None


def _paper(weights: Mapping[str, float], column: str = "val1") -> float:
    return sum(weight * getattr(TABLE2[name], column) for name, weight in weights.items())


def _panels(count: int, width: float, height: float, **more: Any):
    figure, axes = plt.subplots(1, count, figsize=(width, height), squeeze=False, layout="constrained", **more)
    return figure, axes[0]


def _empty(ax, world: str) -> None:
    text = f"not run yet:\npython -m zfrepro ablate\n--dataset {world}"
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", fontsize=9)


def changes(found: Mapping[str, Record], width: float = 8) -> Figure:
    """Difference in top-1 error of each change, with its interval, each seed's value, and the paper's as a diamond."""
    figure, axes = _panels(len(WORLDS), width, 5.2, sharey=True)
    for ax, world in zip(axes, WORLDS, strict=True):
        ax.axvline(0, color="0.5", lw=0.8)
        for y, (label, weights) in enumerate(CONTRASTS.items()):
            ax.plot(_paper(weights), y, "D", mfc="white", mec="0.35", ms=6, zorder=2)
            effect = tried(found[world], weights) if world in found else None
            if effect:
                _effect(ax, y, effect, _by_seed(found[world], weights), COLOURS[_half(label)])
        if world not in found:
            _empty(ax, world)
        ax.set_title(WORLD_NAMES[world], fontsize=10)
        ax.set_xlabel("change of validation top-1 error, points", fontsize=9)
        ax.grid(axis="x", alpha=0.25)
    axes[0].set_yticks(range(len(CONTRASTS)), list(CONTRASTS), fontsize=9)
    axes[0].invert_yaxis()
    return alone(figure)


def _half(label: str) -> str:
    return "krizhevsky" if label.startswith(("Krizhevsky", "3, 4")) else "zfnet"


def _effect(ax, y: float, effect: Effect, each: Sequence[float], colour: str) -> None:
    if math.isfinite(effect.low):
        ax.plot([effect.low, effect.high], [y, y], color=colour, lw=2.2, zorder=3)
    ax.plot(each, [y + 0.25] * len(each), ".", color=colour, ms=4, alpha=0.7, zorder=3)
    ax.plot(effect.mean, y, "o", color=colour, ms=5.5, zorder=4)


def _by_seed(record: Record, weights: Mapping[str, float]) -> list[float]:
    values = errors_of(record)
    seeds = set.intersection(*(set(values[name]) for name in weights))
    return [sum(weight * values[name][seed] for name, weight in weights.items()) for seed in seeds]


Point = tuple[str, float, float]
"""Network, x, y."""

FAR = 1.25  # times the second largest error, from which the largest is drawn at the panel's edge
NEAR = [
    (7, 0),
    (-7, 0),
    (0, 12),
    (0, -12),
    (6, 11),
    (6, -11),
    (-6, 11),
    (-6, -11),
    (0, 24),
    (0, -24),
    (24, 22),
    (24, -22),
]
"""Where a label may stand, in pixels from its point; the first without a clash is taken."""


def _scatter(ax, found: Sequence[Point]) -> None:
    """Points in the colours of the halves, each with its short name where there is room."""
    heights = sorted(y for *_, y in found)
    edge = heights[-2] * 1.1 if len(found) > 2 and heights[-1] > FAR * heights[-2] else math.inf
    drawn = []
    for name, x, y in found:
        label = f"{short(name)}: {y:.0f} %" if y > edge else short(name)
        drawn.append((label, x, min(y, edge), COLOURS[ablation.base_of(name)]))
        ax.plot(x, min(y, edge), "^" if y > edge else "o", color=drawn[-1][-1], ms=5.5, zorder=3)
    ax.margins(0.2, 0.16)
    ax.grid(alpha=0.25)
    ax.figure.canvas.draw()  # places are known only then
    places = np.array([ax.transData.transform((x, y)) for _, x, y, _ in drawn])
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in places]
    scale = 72 / ax.figure.dpi
    for (label, x, y, colour), at in zip(drawn, places, strict=True):
        boxes = [_box(at, offset, len(label)) for offset in NEAR]
        clashes = [sum(_overlap(box, b) for b in taken) + _outside(box, ax.bbox.extents) for box in boxes]
        taken.append(boxes[int(np.argmin(clashes))])
        corner = ((taken[-1][0] - at[0]) * scale, (taken[-1][1] - at[1] + 2) * scale)
        ax.annotate(label, (x, y), xytext=corner, textcoords="offset points", fontsize=7.5, color=colour)


Box = tuple[float, float, float, float]
"""Left, bottom, right, top in pixels."""


def _box(at: Sequence[float], offset: tuple[int, int], letters: int) -> Box:
    wide, high = 5.8 * letters, 11
    left = at[0] + offset[0] - (0 if offset[0] > 0 else wide if offset[0] < 0 else wide / 2)
    bottom = at[1] + offset[1] - high / 2
    return left, bottom, left + wide, bottom + high


def _overlap(a: Sequence[float], b: Sequence[float]) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(wide, 0) * max(high, 0)


def _outside(box: Sequence[float], frame: Sequence[float]) -> float:
    wide, high = box[2] - box[0], box[3] - box[1]
    return wide * high - _overlap(box, frame)


def against_size(found: Mapping[str, Record], width: float = 7.6) -> Figure:
    """Validation top-1 error against parameters and against multiply-adds, the paper's networks above ours."""
    worlds = [world for world in WORLDS if world in found]
    figure, axes = plt.subplots(
        1 + len(worlds), 2, figsize=(width, 3.2 * (1 + len(worlds))), squeeze=False, sharey="row"
    )
    figure.subplots_adjust(left=0.085, right=0.99, top=0.97, bottom=0.055, hspace=0.32, wspace=0.06)
    for line, world in zip(axes, [None, *worlds], strict=True):
        title = "the paper, ImageNet" if world is None else WORLD_NAMES[world]
        errors = _papers() if world is None else ablation.means(errors_of(found[world]))
        for ax, label, xs in zip(line, ("parameters", "multiply-adds"), _size_of(found, world), strict=True):
            ax.set_xscale("log")
            ax.set_xlabel(label, fontsize=9)
            _scatter(ax, [(name, xs[name], errors[name]) for name in TABLE2 if name in errors])
        line[0].set_title(title, fontsize=10, loc="left")
        line[0].set_ylabel("validation top-1 error, %", fontsize=9)
    return alone(figure)


def _papers() -> dict[str, float]:
    return {name: row.val1 for name, row in TABLE2.items()}


def _size_of(found: Mapping[str, Record], world: str | None) -> tuple[dict[str, float], dict[str, float]]:
    """Parameters and multiply-adds of each network, of the paper's size or as recorded."""
    if world is None:
        return (
            {name: sum(ablation.parameters(value).values()) for name, value in ARCHITECTURES.items()},
            {name: multiply_adds(value, 224, 1000) for name, value in ARCHITECTURES.items()},
        )
    runs = found[world]["runs"]
    return {r["arch"]: r["parameters"] for r in runs}, {r["arch"]: r["multiply_adds"] for r in runs}


def train_and_validation(found: Mapping[str, Record], width: float = 8) -> Figure:
    """Training error (hollow) and validation error of each network, joined by the gap between them."""
    panels = [None, *(world for world in WORLDS if world in found)]
    figure, axes = _panels(len(panels), width, 4.2, sharey=True)
    for ax, world in zip(axes, panels, strict=True):
        if world is None:
            train, val = {name: row.train1 for name, row in TABLE2.items()}, _papers()
        else:
            train, val = (ablation.means(errors_of(found[world], part)) for part in ("train", "one_crop"))
        for y, name in enumerate(TABLE2):
            if name in val:
                colour = COLOURS[ablation.base_of(name)]
                ax.plot([train[name], val[name]], [y, y], color=colour, lw=1.4, zorder=2)
                ax.plot(train[name], y, "o", mfc="white", mec=colour, ms=6, zorder=3)
                ax.plot(val[name], y, "o", color=colour, ms=6, zorder=3)
        ax.set_title("the paper, ImageNet" if world is None else WORLD_NAMES[world], fontsize=10)
        ax.set_xlabel("top-1 error, %", fontsize=9)
        ax.grid(axis="x", alpha=0.25)
    twice = TABLE2[ONE_FULL].train1
    axes[0].axvline(twice, color="0.6", lw=0.8, ls=":", zorder=1)
    axes[0].set_yticks(range(len(TABLE2)), [named(name) for name in TABLE2], fontsize=9)
    axes[0].invert_yaxis()
    return alone(figure)


def curves(found: Mapping[str, Record], width: float = 8) -> Figure:
    """Validation top-1 error after each epoch of some rows, mean over seeds, bands from the best to the worst."""
    figure, axes = _panels(len(WORLDS), width, 3.8)
    styles = dict(zip(EXTREMES, ("-", ":", "--", "-.", "-", "--"), strict=True))
    for ax, world in zip(axes, WORLDS, strict=True):
        ax.set_title(WORLD_NAMES[world], fontsize=10)
        for name, style in styles.items():
            runs = found[world]["runs"] if world in found else ()
            lines = np.array([run["history"]["val_top1_error"] for run in runs if run["arch"] == name])
            if len(lines):
                epochs, colour = np.arange(1, lines.shape[1] + 1), COLOURS[ablation.base_of(name)]
                ax.plot(epochs, lines.mean(0), style, color=colour, lw=1.6, label=named(name))
                ax.fill_between(epochs, lines.min(0), lines.max(0), color=colour, alpha=0.12, lw=0)
        if world not in found:
            _empty(ax, world)
        ax.set_xlabel("epoch", fontsize=9)
        ax.grid(alpha=0.25)
    axes[0].set_ylabel("validation top-1 error, %", fontsize=9)
    drawn = next((ax for ax in axes if ax.lines), None)
    if drawn:
        figure.legend(
            *drawn.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8, frameon=False
        )
    return alone(figure)


def features(studies: Mapping[str, Record], width: float = 8.4) -> Figure:
    """CKA of each row's layers with those of its base, another seed; a base with its own other seeds."""
    layers = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")
    figure, axes = _panels(len(WORLDS), width, 4.6, sharey=True)
    for ax, world in zip(axes, WORLDS, strict=True):
        ax.set_title(WORLD_NAMES[world], fontsize=10)
        ax.set_xticks(range(len(layers)), layers, fontsize=8, rotation=45)
        if world not in studies:
            ax.text(0.5, 0.5, "not measured yet", transform=ax.transAxes, ha="center", fontsize=9)
            continue
        grid = np.array([[np.mean(_of_pairs(studies[world], n, x) or [np.nan]) for x in layers] for n in TABLE2])
        ax.imshow(np.ma.masked_invalid(grid), cmap="viridis", vmin=0, vmax=1, aspect="auto")
        for i, j in zip(*np.nonzero(np.isfinite(grid)), strict=True):
            colour = "black" if grid[i, j] > 0.6 else "white"
            ax.text(j, i, f"{grid[i, j]:.2f}", ha="center", va="center", fontsize=7, color=colour)
    axes[0].set_yticks(range(len(TABLE2)), [named(name) for name in TABLE2], fontsize=8)
    axes[0].set_ylim(len(TABLE2) - 0.5, -0.5)
    return alone(figure)
