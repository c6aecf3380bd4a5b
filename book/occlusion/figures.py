"""Fig. 7 and what was measured around it."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import HTML
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from safetensors.torch import load_file
from torch import Tensor

from book.occlusion.measure import Row
from zfrepro import occlusion, paper, plots, records, static
from zfrepro.words import told_of

LABELS = 4  # classes that get a colour of their own in panel (e)
TRUE, OTHERS, REST = "#3b6fb6", ("#e8a33d", "#b5462f", "#6a9f58"), "#9a9a9a"


def recorded(world: str) -> tuple[list[Row], list[str]]:
    """The figure's rows from `results/occlusion/WORLD.*`, and what each shows.

    Raises:
        FileNotFoundError: no such record.
    """
    record = records.read(f"occlusion/{world}")
    kept = load_file(records.results_root() / "occlusion" / f"{world}.safetensors")
    found = []
    for k, r in enumerate(record["figure"]["rows"]):
        found.append(
            Row(
                r["index"],
                r["label"],
                r["map"],
                tuple(r["others"]),
                r["clean"],
                kept["activity"][k].float(),
                kept["probability"][k].float(),
                kept["predicted"][k].long(),
                kept["projections"][k].float() / 255,
            )  # fmt: skip
        )
    return found, [r["class"] for r in record["figure"]["rows"]]


def fig7(
    rows: Sequence[Row], classes: Sequence[str], images: Tensor | None, *, image_size: int, width: float = 9.5
) -> Figure:
    """The paper's five panels, a row an image.

    Args:
        classes: names of all classes.
        images: uint8 (B, 3, S, S), what the network saw, or None where they are not at hand.
        image_size: S in pixels.
    """
    patch, _ = occlusion.paper_geometry(image_size)
    height = width / 5 * 1.26 * len(rows) + 0.3
    figure, axes = plt.subplots(len(rows), 5, figsize=(width, height), squeeze=False, layout="constrained")
    titles = (
        "(a) image with\nthe square", "(b) strongest layer-5\nmap: activity",
        "(c) that map projected;\nframed: this image", "(d) probability of\nthe true class", "(e) most probable\nclass",
    )  # fmt: skip
    for k, title in enumerate(titles):
        axes[0, k].set_title(title, fontsize=9)
    for k, (row, line) in enumerate(zip(rows, axes, strict=True)):
        _input(line[0], None if images is None else images[k], classes[row.label], patch, image_size)
        _heat(line[1], row.activity, f"map {row.map}")
        _projections(line[2], row.projections)
        together = occlusion.correlation(row.activity[None], row.probability[None]).item()
        _heat(line[3], row.probability, f"clean {row.clean:.2f}; r = {together:+.2f}")
        _winners(line[4], row, classes)
    for ax in axes.flat:
        ax.set_xticks([])
        ax.set_yticks([])
    return plots.alone(figure)


def _input(ax, image: Tensor | None, name: str, patch: int, size: int) -> None:
    # the paper's example position: 84 rows down and 12 columns in, of 224
    corner = (round(size * 12 / 224), round(size * 84 / 224))
    if image is None:
        ax.imshow(np.full((size, size, 3), 0.93))
        ax.text(size / 2, size / 4, "a photograph,\nnot part of the book", ha="center", va="center", fontsize=8)
    else:
        ax.imshow(plots.array(plots.as_colours(image)))
    ax.add_patch(Rectangle(np.subtract(corner, 0.5), patch, patch, fc="0.5", ec="none"))
    ax.set_xlabel(name, fontsize=9)


def _heat(ax, values: Tensor, label: str) -> None:
    drawn = ax.imshow(values.numpy(), cmap="viridis", vmin=0, vmax=values.max().item())
    bar = ax.figure.colorbar(drawn, ax=ax, fraction=0.046, pad=0.03)
    bar.ax.tick_params(labelsize=7)
    ax.set_xlabel(label, fontsize=8)


def _projections(ax, pictures: Tensor) -> None:
    side = pictures.shape[-1]
    pictures = torch.nn.functional.pad(pictures, (3, 3, 3, 3), value=1.0)
    for edge in (slice(0, 3), slice(-3, None)):  # the paper frames this image's own
        pictures[0, :, edge], pictures[0, :, :, edge] = 0, 0
    ax.imshow(plots.array(plots.tiled(pictures, 2, gap=max(1, side // 32))), interpolation="nearest")
    ax.axis("off")


def _winners(ax, row: Row, classes: Sequence[str]) -> None:
    counts = Counter(row.predicted.flatten().tolist())
    named = [row.label, *(k for k, _ in counts.most_common() if k != row.label)]
    shown, rest = named[:LABELS], named[LABELS:]
    lookup = {k: i for i, k in enumerate(shown)} | {k: len(shown) for k in rest}
    colours = [TRUE, *OTHERS[: len(shown) - 1], REST]
    painted = row.predicted.clone().apply_(lambda k: lookup[k])
    ax.imshow(painted.numpy(), cmap=ListedColormap(colours), vmin=0, vmax=len(colours) - 1, interpolation="nearest")
    total = row.predicted.numel()
    names = [(colours[i], f"{classes[k]} {100 * counts[k] / total:.0f} %") for i, k in enumerate(shown)]
    if rest:
        names.append((REST, f"{len(rest)} more {100 * sum(counts[k] for k in rest) / total:.0f} %"))
    handles = [Patch(color=c, label=t) for c, t in names]
    ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.02), fontsize=7, frameon=False,
              ncols=1, handlelength=1, labelspacing=0.15, borderpad=0)  # fmt: skip


def correlations(found: dict[str, dict[str, Any]], width: float = 8) -> Figure:
    """Distribution of the correlation of panel (b) with panel (d) in each world, with the paper's three examples.

    Args:
        found: world -> its record's `maps`.
    """
    figure, axes = plt.subplots(1, len(found), figsize=(width, 2.8), sharey=True, squeeze=False, layout="constrained")
    for ax, (world, maps) in zip(axes.flat, found.items(), strict=True):
        ax.hist(maps["values"], bins=np.linspace(-1, 1, 21), color="#9bb7d4", edgecolor="white")
        mean = maps["strongest"]["mean"]
        ax.axvline(mean, color=TRUE, lw=2)
        top = ax.get_ylim()[1]
        ax.text(mean, 1.02 * top, f"mean {mean:+.2f}", color=TRUE, fontsize=8, ha="center", va="bottom")
        for name, example in paper.OCCLUSION.items():
            value = example["together"]
            ax.axvline(value, color=OTHERS[1], lw=1.2, ls="--")
            ax.text(value + 0.02, 0.97 * top, name, color=OTHERS[1], fontsize=7, rotation=90, va="top")
        ax.set_title(f"{world}, {maps['strongest']['n']} images", fontsize=9, pad=18)
        ax.set_xlabel("correlation of (b) with (d)", fontsize=9)
    axes[0, 0].set_ylabel("images", fontsize=9)
    return plots.alone(figure)


def settings(found: dict[str, list[dict[str, Any]]], width: float = 8) -> Figure:
    """How the fall of the probability and the correlation depend on the square.

    Args:
        found: world -> its record's `settings`.
    """
    figure, axes = plt.subplots(1, 2, figsize=(width, 3.4), sharey=True, layout="constrained")
    shift = np.linspace(-0.12, 0.12, len(found))
    for offset, colour, (world, rows) in zip(shift, (TRUE, OTHERS[0]), found.items(), strict=False):
        names = [f"{r['fill']}, {r['factor']:g} x" for r in rows]
        for ax, key in zip(axes, ("worst_drop", "together"), strict=True):
            mean, low, high = (np.array([r[key][what] for r in rows]) for what in ("mean", "low", "high"))
            at = np.arange(len(rows)) + offset
            ax.errorbar(mean, at, xerr=[mean - low, high - mean], fmt="o", color=colour, ms=4, label=world)
    axes[0].set_yticks(range(len(names)), names, fontsize=8)
    axes[0].invert_yaxis()
    axes[0].set_xlabel("largest fall of the true class's probability", fontsize=9)
    axes[1].set_xlabel("correlation of (b) with (d)", fontsize=9)
    axes[1].axvline(0, color="0.8", lw=1, zorder=0)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, fontsize=8, frameon=False)
    return plots.alone(figure)


# --- tables ----------------------------------------------------------------------------------------------------------


def share(found: dict[str, float]) -> str:
    """A share and its interval in per cent."""
    return told_of(found, ".0f", 100)


def number(found: dict[str, float]) -> str:
    """A mean and its interval."""
    return told_of(found, ".2f")


def examples(found: dict[str, dict[str, Any]]) -> HTML:
    """The rows of the figure in numbers, and the paper's own. found: world -> record."""
    rows = [(world, r["class"], r) for world, record in found.items() for r in record["figure"]["rows"]]
    rows += [("the paper", name, r) for name, r in paper.OCCLUSION.items()]
    return plots.table([
        {
            "world": world, "class": name, "clean": f"{r['clean']:.2f}" if "clean" in r else None,
            "lowest": f"{r['min']:.2f}", "median": f"{r['median']:.2f}", "highest": f"{r['max']:.2f}",
            "true class wins, %": f"{100 * r['kept']:.1f}", "(b) with (d)": f"{r['together']:+.2f}",
        }
        for world, name, r in rows
    ])  # fmt: skip


def objects(record: dict[str, Any]) -> HTML:
    """Squares on the object and beside it; its shape on it and elsewhere."""
    squares, shapes = record["main"]["object"], record["shapes"]
    rows = (("squares", squares, squares["drop_beside"]), ("the object's shape", shapes, shapes["drop_elsewhere"]))
    return plots.table([
        {
            "covered": what, "images": own["drop"]["n"], "fall on the object": number(own["drop"]),
            "elsewhere": number(beside), "lower on the object, % of images": share(own["lower"]),
        }
        for what, own, beside in rows
    ])  # fmt: skip


def parts(record: dict[str, Any], most: int = 20) -> HTML:
    """The parts that cost most, with both controls; a dash where the object has no room for one."""

    def short(r: dict[str, float]) -> str | None:
        return None if r["mean"] is None else f"{r['mean']:.2f} ± {(r['high'] - r['low']) / 2:.2f}"

    rows = [
        {
            "kind": r["class"], "part": r["part"], "n": r["drop"]["n"],
            "% of picture": round(100 * r["area"]["mean"], 1), "fall": short(r["drop"]),
            "beside the object": short(r["drop_beside"]), "elsewhere on it": short(r["drop_on_object"]),
        }
        for r in record["object_parts"][:most]
    ]  # fmt: skip
    caption = "Fall of the true class's probability when a part is covered: the largest (recorded, diorama)"
    return static.table(rows, caption=caption)


def _by_world(found: dict[str, dict[str, Any]], lines: dict[str, Callable[[dict[str, Any]], object]]) -> HTML:
    return plots.table([{"": name, **{w: line(r) for w, r in found.items()}} for name, line in lines.items()])


def minima(found: dict[str, dict[str, Any]]) -> HTML:
    """Where the lowest probability lies, and whether another network is hurt at the same places."""

    def hit(key: str) -> Callable[[dict[str, Any]], str | None]:
        return lambda r: share(r["main"]["object"][key]) if "object" in r["main"] else None

    return _by_world(found, {
        "minimum on the object, %": hit("pointing"),
        "any position, %": hit("pointing_random"),
        "middle of the picture, %": hit("pointing_centre"),
        "images": lambda r: r["main"]["images"],
        "minimum to middle": lambda r: number(r["main"]["from_middle"]),
        "any position to middle": lambda r: f"{r['main']['from_middle_random']:.2f}",
        "two networks, same image": lambda r: number(r["agreement"]["same"]),
        "two networks, other image": lambda r: number(r["agreement"]["other"]),
    })  # fmt: skip


def maps(found: dict[str, dict[str, Any]]) -> HTML:
    """Correlation of panel (b) with panel (d) for two readings of the strongest map, and for any map."""
    return _by_world(found, {
        "images": lambda r: r["maps"]["strongest"]["n"],
        "strongest map": lambda r: number(r["maps"]["strongest"]),
        "strongest by peak": lambda r: number(r["maps"]["strongest_by_peak"]),
        "average map": lambda r: number(r["maps"]["any_map"]),
        "below 0, % of images": lambda r: share(r["maps"]["negative"]),
        "above 0.3, % of images": lambda r: share(r["maps"]["positive"]),
        "maps it beats, %": lambda r: share(r["maps"]["rank"]),
    })  # fmt: skip


def projections(found: dict[str, dict[str, Any]]) -> HTML:
    """Whether a map loses its activity where its projection is covered; control, another image's projection."""
    return _by_world(found, {
        "images": lambda r: r["projections"]["own"]["n"],
        "correlation, own projection": lambda r: number(r["projections"]["own"]),
        "correlation, another's": lambda r: number(r["projections"]["other"]),
        "activity left, own, %": lambda r: share(r["projections"]["left_own"]),
        "activity left, another's, %": lambda r: share(r["projections"]["left_other"]),
        "less left at its own, % of images": lambda r: share(r["projections"]["lower"]),
    })  # fmt: skip


def squares(drawn: list[dict[str, Any]], photographed: list[dict[str, Any]]) -> HTML:
    """What other fills and sizes do, from the records' `settings`."""
    return plots.table([
        {
            "square": f"{a['fill']}, {a['factor']:g} x", "true class wins, %, diorama": share(a["label_kept"]),
            "ImageNet-20": share(b["label_kept"]), "lower on the object, %, diorama": share(a["object"]["lower"]),
            "minimum on the object, %, diorama": share(a["object"]["pointing"]),
        }
        for a, b in zip(drawn, photographed, strict=True)
    ])  # fmt: skip
