"""Table 1 and what can be drawn of it, the crops a network learns from, curves and costs of the recorded runs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import HTML
from matplotlib.figure import Figure
from torch import Tensor

from book.ablation.claims import of, points
from book.ablation.figures import seeded
from book.training.claims import averages, seeds
from zfrepro import paper, records, static
from zfrepro.contrasts import errors_of, precisions_of
from zfrepro.data.transforms import augment, crop, stored_size
from zfrepro.plots import alone, as_colours, grid
from zfrepro.receptive_field import training_multiply_adds
from zfrepro.stats import paired
from zfrepro.sweeps import SWEEPS, VARIANTS, record_name
from zfrepro.training import MODERN, Recipe
from zfrepro.verdicts import VERDICTS, WORLDS, of_chapter
from zfrepro.verdicts_table import WORLD_NAMES

Record = dict[str, Any]
Weights = Mapping[str, float]

NAMES = {
    "krizhevsky": "Krizhevsky's network",
    "zfnet": "ZFNet (a)",
    "zfnet-wide": "ZFNet wide (b)",
    "zfnet-ten-crops": "(a), ten fixed crops",
    "zfnet-random-crops": "(a), random crops",
    "zfnet-unclipped": "(a), filters not clipped",
}
COLOURS = dict(zip(NAMES, ("#2f6db5", "#b5462f", "#7a3db5", "#c98a2b", "#2f8f5b", "#777777"), strict=True))
VIEWS = {"one crop": "one_crop", "ten crops": "ten_crops"}
KINDS = {"top-1": "top1_error", "top-5": "top5_error"}

OURS = {
    "krizhevsky-5": ("ensemble", "krizhevsky"), "replication": ("run", "krizhevsky"), "zfnet": ("run", "zfnet"),
    "zfnet-5": ("ensemble", "zfnet"), "zfnet-wide": ("run", "zfnet-wide"), "both-6": ("ensemble", "both"),
}  # fmt: skip
"""Row of Table 1 -> what stands beside it."""


def recorded(scale: str = "micro") -> dict[str, Record]:
    """The sweeps there are of networks of one size, by world."""
    names = {world: record_name("training", world, scale) for world in WORLDS}
    there = [world for world, name in names.items() if (records.results_root() / f"{name}.json").is_file()]
    return {world: records.read(names[world]) for world in there}


# --- tables ----------------------------------------------------------------------------------------------------------


def precisions(record: Record) -> str:
    """Which runs of a sweep were made in which precision, for a CPU without bf16 trains in fp32."""
    runs: dict[str, list[str]] = {}
    for (name, seed), precision in precisions_of(record).items():
        runs.setdefault(precision, []).append(f"{name} {seed}")
    *few, most = sorted(runs, key=lambda name: len(runs[name]))
    named = [f"{name}, {', '.join(runs[name])}" for name in few]
    return "; ".join([*named, f"{most}, all{' others' * bool(few)}"])


def _ours(record: Record | None, kind: str, name: str) -> dict[str, object]:
    """Our columns of a row: a network's mean and spread over seeds, or its ensembles' mean."""
    row: dict[str, object] = {}
    runs = [run for run in record["runs"] if run["arch"] == name] if record else []
    for view, part in VIEWS.items():
        for label, error in KINDS.items():
            if kind == "run":
                values = [run["errors"][part][error] for run in runs]
            else:
                values = list(averages(record, name, error, part).values()) if record else []
            row[f"{view}, {label}"] = seeded(values)
    if kind == "run":
        members = str(len(runs)) if runs else None
    else:
        groups = [len(group) for group in averages(record, name)] if record else []
        members = f"{len(groups)} of {groups[0]} averaged" if groups else None
    return row | {"runs": members}


def rows(record: Record | None, scale: str = "micro") -> list[dict[str, object]]:
    """Table 1 with our columns beside the paper's, then, of small networks, variants that the paper does not print."""
    found = []
    for name, printed in paper.TABLE1.items():
        row: dict[str, object] = {"network": paper.TABLE1_NAMES[name]}
        for label, value in {"top-1": printed.val1, "top-5": printed.val5, "test top-5": printed.test5}.items():
            row[f"paper: {label}"] = value and f"{value:.1f}"
        found.append(row | _ours(record, *OURS.get(name, ("run", "none"))))
    for name in VARIANTS if scale != "paper" else ():
        row = {"network": NAMES[name], "paper: top-1": None, "paper: top-5": None, "paper: test top-5": None}
        found.append(row | _ours(record, "run", name))
    return found


def table(world: str, record: Record | None, scale: str = "micro") -> HTML:
    """`rows` as a table of the page; the scale is named where there is no record to name it."""
    caption = f"Table 1: validation errors in per cent, the paper's on ImageNet and ours on {WORLD_NAMES[world]}"
    if record:
        recipe, data = record["recipe"], record["dataset"]
        caption += f" (scale {record['scale']}, {recipe['epochs']} epochs of {data['train']:,} images, "
        caption += f"{data['val']:,} validation images; mean±sd over runs)"
    else:
        caption += f" (not run yet: python -m zfrepro sweep training --dataset {world} --scale {scale})"
    return static.table(rows(record, scale), caption=caption)


PAIRS: dict[str, Weights] = {
    "ZFNet (a) for Krizhevsky's": {"zfnet": 1, "krizhevsky": -1},
    "wide (b) for (a)": {"zfnet-wide": 1, "zfnet": -1},
    "ten fixed crops for resized": {"zfnet-ten-crops": 1, "zfnet": -1},
    "random crops for resized": {"zfnet-random-crops": 1, "zfnet": -1},
    "random crops for ten fixed": {"zfnet-random-crops": 1, "zfnet-ten-crops": -1},
    "no clipping for clipping": {"zfnet-unclipped": 1, "zfnet": -1},
}
"""What is compared, as contrasts of networks."""

KEYS = dict(zip(("better", "wide", "ten", "random", "between", "unclipped"), PAIRS, strict=True))
"""Short names of the comparisons, for the numbers in the text."""


def by_seed(record: Record, weights: Weights, view: str = "ten_crops", kind: str = "top1_error") -> list[float]:
    """A contrast of each seed that all its networks have; none while one of them has not run."""
    values = errors_of(record, view, kind)
    if not all(name in values for name in weights):
        return []
    seeds = sorted(set.intersection(*(set(values[name]) for name in weights)))
    return [sum(weight * values[name][seed] for name, weight in weights.items()) for seed in seeds]


def tests(*sweeps: Mapping[str, Record], view: str = "ten_crops") -> list[dict[str, object]]:
    """Each comparison, seed by seed: its mean, two intervals, and what chance alone would do."""
    listed = []
    for world, record in (pair for found in sweeps for pair in found.items()):
        name = WORLD_NAMES[world] + ", the paper's size" * (record["scale"] == "paper")
        for label, weights in PAIRS.items():
            differences = by_seed(record, weights, view)
            if not differences and record["scale"] == "paper":
                continue  # variants are compared among small networks
            row: dict[str, object] = {"world": name, "comparison": label, "seeds": len(differences)}
            one = paired(differences) if differences else None
            several = one is not None and one.pairs > 1
            row["points of top-1"] = f"{one.mean:+.1f}" if one else None
            row["paired t interval"] = f"{one.low:+.1f} to {one.high:+.1f}" if several else None
            row["p by t"] = ("<0.001" if one.t < 0.0005 else f"{one.t:.3f}") if several else None
            row["p by signs"] = f"{one.signs:.3f}" if several else None
            row["pooled interval"] = points(of(record, weights, view)) if several else None
            row["points of top-5"] = _mean(by_seed(record, weights, view, "top5_error"))
            listed.append(row)
    return listed


def _mean(values: Sequence[float]) -> str | None:
    return f"{np.mean(values):+.1f}" if values else None


def said(found: Mapping[str, Record], world: str, label: str) -> str:
    """A comparison in points of top-1 at ten crops with pooled interval and number of seeds, or that it has not run."""
    if world not in found or not by_seed(found[world], PAIRS[label]):
        return "not run yet"
    return f"{points(of(found[world], PAIRS[label], 'ten_crops'))}, {seeds(found[world], PAIRS[label])}"


def gain(found: Mapping[str, Record], world: str, name: str) -> str:
    """How much the average of a network's runs beats their mean, in points of top-1 at ten crops."""
    groups = averages(found[world], name) if world in found else {}
    if not groups:
        return "not run yet"
    ((members, error),) = groups.items()
    values = errors_of(found[world], "ten_crops")
    return f"{error - np.mean([values[arch][seed] for arch, seed in members]):+.1f} ({len(members)} networks)"


def columns(found: Mapping[str, Record], large: Mapping[str, Record]) -> dict[str, tuple[Mapping[str, Record], str]]:
    """Column of the page's summary -> sweeps and world that it is of."""
    return {world: (found, world) for world in WORLDS} | {"large": (large, "imagenet20")}


def counted(world: str) -> str:
    """How many of the chapter's claims have each verdict in a world: `2 reproduced, 1 partly`."""
    found = [claim.finding(world).verdict for claim in of_chapter("training")]
    return ", ".join(f"{found.count(name)} {name}" for name in VERDICTS if name in found)


SAYS = {
    "crops": ("several crops and flips of each image", "which, and when: ten fixed ones, or random ones"),
    "init": ("weights initialised to 0.01, biases to 0", "a standard deviation, it must be; of which distribution"),
    "input_scale": ("the mean image subtracted", ""),
    "schedule": ("lowered by hand when the validation error plateaus", "by how much, and how long a plateau is"),
    "patience": ("", "the same"),
    "warmup": ("", "none mentioned"),
    "lr": ("0.01", ""),
    "momentum": ("0.9", ""),
    "weight_decay": ("", "none mentioned; Krizhevsky et al. used 0.0005"),
    "batch": ("128", ""),
    "epochs": ("70", ""),
    "dropout": ("0.5 in layers 6 and 7", ""),
    "clip": ("filters with an RMS above 0.1 rescaled to it", "how often it is done; here after every step"),
    "label_smoothing": ("", "none mentioned"),
    "ema": ("", "none mentioned"),
    "area": ("", "of resized crops, a modern habit"),
    "precision": ("", "single, presumably"),
}


def recipes() -> list[dict[str, object]]:
    """The paper's recipe as it is written, what it leaves open, and what ours sets, by default and on small data."""
    ours = asdict(Recipe())
    return [
        {
            "setting": name.replace("_", " "), "the paper": says or None, "left open": open_ or None,
            "default": str(ours[name]), "modern": str(MODERN[name]) if name in MODERN else None,
        }
        for name, (says, open_) in SAYS.items()
    ]  # fmt: skip


# --- costs -----------------------------------------------------------------------------------------------------------


def trainings() -> dict[str, Record]:
    """The records of single long trainings, by name: the shipped networks and those that repeat them."""
    root = records.results_root()
    files = [*sorted((root / "networks").glob("*.json")), *sorted((root / "runs").glob("*.json"))]
    return {file.stem: records.read_json(file) for file in files}


def costs(*sweeps: Mapping[str, Record]) -> list[dict[str, object]]:
    """What each recorded training cost, on which hardware; of a sweep the mean of a network's runs."""
    listed = []
    for name, record in trainings().items():
        listed.append(_cost(name, record["scale"], record["recipe"], record["dataset"]["train"], [record]))
    for world, record in (pair for found in sweeps for pair in found.items()):
        for arch in SWEEPS["training"]:
            runs = [run for run in record["runs"] if run["arch"] == arch]
            if runs:
                label = f"{world}, {NAMES[arch]}"
                listed.append(_cost(label, record["scale"], record["recipe"], record["dataset"]["train"], runs))
    return listed


def _cost(name: str, scale: str, recipe: Record, images: int, runs: Sequence[Record]) -> dict[str, object]:
    seconds = float(np.mean([run["seconds"] for run in runs]))
    return {
        "training": name, "scale": scale, "epochs": recipe["epochs"], "px": recipe["image_size"], "runs": len(runs),
        "minutes each": round(seconds / 60, 1), "images/s": round(recipe["epochs"] * images / seconds),
        "hardware": ", ".join(sorted({run["device"] for run in runs})),
    }  # fmt: skip


PAPERS = (paper.TABLE1["zfnet"].val1, paper.TABLE1["zfnet"].val5)
REPLICATED = {
    "krizhevsky_elsewhere": (38.07, 16.10), "zfnet_elsewhere": (39.21, 16.78), "later_elsewhere": (39.30, 17.05),
}  # fmt: skip
"""Errors on ImageNet's validation images at one crop by imgclsmob (github.com/osmr/imgclsmob, Gluon), one network of
each: Krizhevsky's with dense layers, the paper's, and Krizhevsky's later variant of 2014."""

IMAGENET = 1_281_167  # training images of ILSVRC-2012
FLOPS = 2  # a multiply-add is two operations


def step_flops(arch: str = "zfnet", image_size: int = 224, classes: int = 1000) -> float:
    """Floating-point operations of a training step for one image, in convolutions and fully connected layers."""
    return FLOPS * training_multiply_adds(Recipe(arch=arch).architecture(), image_size, classes)


def rates() -> list[tuple[str, float]]:
    """How, and FLOP/s of, our largest trainings of ZFNet, evaluation included: the shipped one, and on a GPU if any."""
    shipped = trainings()["imagenet20-zfnet"]
    found = [_rate(shipped["recipe"], shipped["dataset"], [shipped])]
    for record in recorded("paper").values():
        runs = [run for run in record["runs"] if run["arch"] == "zfnet"]
        if runs:
            recipe = record["recipe"] | {"arch": "zfnet"}
            found.append(_rate(recipe, record["dataset"], runs))
    return found


def _rate(recipe: Record, data: Record, runs: Sequence[Record]) -> tuple[str, float]:
    own = Recipe(**recipe)
    cost = FLOPS * training_multiply_adds(own.architecture(), own.image_size, len(SMALL))
    images = own.epochs * data["train"] / float(np.mean([run["seconds"] for run in runs]))
    beside = ", beside other trainings" * any(run.get("jobs", 1) > 1 for run in runs)
    return f"{runs[0]['device']}: as measured, at {own.image_size} px{beside}", cost * images


SMALL = range(20)  # classes of ImageNet-20


def hours(flops: float, epochs: int = 70, share: float = 1.0) -> float:
    """Hours of the paper's training on ImageNet at `share` of a machine's FLOP/s."""
    return epochs * IMAGENET * step_flops() / (flops * share) / 3600


def estimates() -> list[dict[str, object]]:
    """Hours of the paper's seventy epochs: measured speeds carried over, and what a share of a GPU's would mean."""
    listed: list[dict[str, object]] = [
        {"machine": machine, "FLOP/s": f"{measured:.2g}", "share": None,
         "images/s": f"{measured / step_flops():,.0f}", "hours": f"{hours(measured):,.0f}"}
        for machine, measured in rates()
    ]  # fmt: skip
    for cards in (1, 8):
        for share in (0.1, 0.25)[: 2 if cards == 1 else 1]:
            flops = cards * BF16
            listed.append({
                "machine": f"{cards} GPU{'s' * (cards > 1)} of {BF16 / 1e12:.0f} TFLOP/s in bf16: not measured",
                "FLOP/s": f"{flops:.2g}", "share": f"{100 * share:.0f} %",
                "images/s": f"{share * flops / step_flops():,.0f}", "hours": f"{hours(flops, share=share):,.1f}",
            })  # fmt: skip
    return listed


BF16 = 790e12  # matrix products of an H200 in bf16, FLOP/s


# --- figures ---------------------------------------------------------------------------------------------------------


def views(images: Tensor, size: int, count: int = 5, seed: int = 0) -> Figure:
    """What the three ways to crop make of some stored images. images: uint8 (N, 3, R, R), N at least `count`."""
    rows, names = [], ("ten", "random", "resized")
    for crops in names:
        generator = torch.Generator().manual_seed(seed)
        seen = augment(images[:1].expand(count, -1, -1, -1).float(), size, crops, generator).clamp(0, 255)
        rows.append(list(as_colours(seen.round().byte())))
    whole = as_colours(crop(images[:1], 0, 0, stored_size(size)))[0]
    rows = [[whole, *row] for row in rows]
    return grid(rows, ["stored", *(f"view {i + 1}" for i in range(count))], names, width=8)


def histories(width: float = 8) -> Figure:
    """Loss and errors after every epoch of the long recorded trainings, a column for each world."""
    figure, axes = plt.subplots(2, len(WORLDS), figsize=(width, 5.2), squeeze=False, layout="constrained", sharex="col")
    found = trainings()
    for column, world in zip(axes.T, WORLDS, strict=True):
        for record in found.values():
            if record["dataset"]["name"] != world:
                continue
            arch, epochs = record["recipe"]["arch"], np.arange(1, len(record["history"]) + 1)
            label = f"{NAMES.get(arch, arch)}, {record['scale']}"
            line = {key: [row[key] for row in record["history"]] for key in ("loss", "train_error", "val_top1_error")}
            style = {"color": COLOURS.get(arch, "0.5"), "lw": 1.4, "alpha": 0.85}
            first = label not in [text.get_label() for text in column[0].lines]
            column[0].plot(epochs, line["loss"], label=label if first else "_", **style)
            column[1].plot(epochs, line["val_top1_error"], **style)
            column[1].plot(epochs, line["train_error"], ls=":", **style)
        column[0].set_title(WORLD_NAMES[world], fontsize=10)
        column[0].legend(fontsize=8, frameon=False)
        column[1].set_xlabel("epoch", fontsize=9)
        for ax in column:
            ax.grid(alpha=0.25)
    axes[0, 0].set_ylabel("training loss", fontsize=9)
    axes[1, 0].set_ylabel("top-1 error, %\n(dotted: training views)", fontsize=9)
    return alone(figure)


def _empty(ax, world: str) -> None:
    text = f"not run yet:\npython -m zfrepro sweep\ntraining --dataset {world}"
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", fontsize=9)


def curves(found: Mapping[str, Record], width: float = 8) -> Figure:
    """Loss and validation top-1 error after each epoch of the sweep, mean over seeds, bands from best to worst."""
    figure, axes = plt.subplots(2, len(WORLDS), figsize=(width, 5.6), squeeze=False, layout="constrained", sharex="col")
    for column, world in zip(axes.T, WORLDS, strict=True):
        column[0].set_title(WORLD_NAMES[world], fontsize=10)
        for ax, key in zip(column, ("loss", "val_top1_error"), strict=True):
            for name in NAMES:
                runs = found[world]["runs"] if world in found else ()
                lines = np.array([run["history"][key] for run in runs if run["arch"] == name])
                if len(lines):
                    epochs = np.arange(1, lines.shape[1] + 1)
                    ax.plot(epochs, lines.mean(0), color=COLOURS[name], lw=1.5, label=NAMES[name])
                    ax.fill_between(epochs, lines.min(0), lines.max(0), color=COLOURS[name], alpha=0.12, lw=0)
            if world not in found:
                _empty(ax, world)
            ax.grid(alpha=0.25)
        column[1].set_xlabel("epoch", fontsize=9)
    axes[0, 0].set_ylabel("training loss", fontsize=9)
    axes[1, 0].set_ylabel("validation top-1 error, %", fontsize=9)
    drawn = next((ax for ax in axes.flat if ax.lines), None)
    if drawn:
        handles = drawn.get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return alone(figure)


LINES: dict[str, tuple[str, str, str | None]] = {
    "Krizhevsky's network": ("run", "krizhevsky", "replication"),
    "... averaged": ("ensemble", "krizhevsky", "krizhevsky-5"),
    "ZFNet (a)": ("run", "zfnet", "zfnet"),
    "(a) averaged": ("ensemble", "zfnet", "zfnet-5"),
    "ZFNet wide (b)": ("run", "zfnet-wide", "zfnet-wide"),
    "all (a) and one (b)": ("ensemble", "both", "both-6"),
    "(a), ten fixed crops": ("run", "zfnet-ten-crops", None),
    "(a), random crops": ("run", "zfnet-random-crops", None),
    "(a), not clipped": ("run", "zfnet-unclipped", None),
}


def drawn(found: Mapping[str, Record], width: float = 8) -> Figure:
    """Table 1 as a drawing: the paper's top-1 errors, then ours at ten crops (filled) and at one (hollow)."""
    figure, axes = plt.subplots(1, 1 + len(WORLDS), figsize=(width, 4.2), sharey=True, layout="constrained")
    for ax, world in zip(axes, [None, *WORLDS], strict=True):
        for y, (kind, name, printed) in enumerate(LINES.values()):
            colour = COLOURS.get(name, COLOURS["zfnet"])
            if world is None:
                if printed:
                    ax.plot(paper.TABLE1[printed].val1, y, "D", color=colour, ms=6)
                continue
            record = found.get(world)
            for part, shift, face in (("one_crop", 0.16, "white"), ("ten_crops", -0.16, colour)):
                if kind == "run":
                    values = list(errors_of(record, part).get(name, {}).values()) if record else []
                else:
                    values = list(averages(record, name, view=part).values()) if record else []
                ax.plot(values, [y + shift] * len(values), ".", color=colour, ms=4, alpha=0.6)
                if values:
                    marker = "o" if kind == "run" else "*"
                    ax.plot(np.mean(values), y + shift, marker, mec=colour, mfc=face, ms=7 if kind == "run" else 10)
        if world and world not in found:
            _empty(ax, world)
        ax.set_title("the paper, ImageNet" if world is None else WORLD_NAMES[world], fontsize=10)
        ax.set_xlabel("validation top-1 error, %", fontsize=9)
        ax.grid(axis="x", alpha=0.25)
    axes[0].set_yticks(range(len(LINES)), list(LINES), fontsize=9)
    axes[0].invert_yaxis()
    return alone(figure)
