"""Fig. 7, parts of objects coloured by what covering them costs, and measured intervals."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import HTML
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke
from safetensors.torch import load_file
from torch import Tensor

import diorama
from book.occlusion.measure import SETTINGS, Row
from zfrepro import occlusion, page, paper, plots, records
from zfrepro.claims import DATASETS, Record
from zfrepro.stats import Interval, correlation

NAMED = 3  # classes that get a colour of their own in panel (e)
TRUE, OTHERS, REST = plots.PALETTE[0], plots.PALETTE[4:0:-1], "#9a9a9a"
SCENES = 200  # validation scenes among which the pictures of parts are chosen
HEADS = (
    "(a) image\nand square",
    "(b) activity of the\nstrongest map",
    "(c) its projections: here\n(framed), in another image",
    "(d) probability of\nthe true class",
    "(e) most\nprobable class",
)


def recorded(dataset: str) -> list[Row]:
    """Return the figure's rows from `results/occlusion/DATASET.*`."""
    record = records.read(f"occlusion/{dataset}")
    tensors = load_file(records.results_root() / "occlusion" / f"{dataset}.safetensors")
    patch, _ = occlusion.paper_geometry(record["image_size"])
    return [
        Row(
            **{name: row[name] for name in ("index", "label", "map", "others", "clean")},
            activity=tensors["activity"][k].float(),
            probability=tensors["probability"][k].float(),
            predicted=tensors["predicted"][k].long(),
            projections=tensors["projections"][k].float() / 255,
            patch=patch,
        )
        for k, row in enumerate(record["figure"]["rows"])
    ]


# --- Fig. 7 ---


BARE = {
    "layout": "constrained", "subplot_kw": {"xticks": [], "yticks": [], "frame_on": False},
}  # fmt: skip
TYPE = dict.fromkeys(("font.size", "axes.titlesize", "axes.labelsize"), 11)
WIDER = {"(b)": 1.05, "(c)": 2, "(d)": 1.05}  # with a colour bar, and with two pictures


@plt.rc_context(TYPE | {"legend.fontsize": 10})
def fig7(
    rows: Sequence[Row], classes: Sequence[str], *, image_size: int, images: Tensor | None = None,
    masks: Tensor | None = None,
) -> Figure:  # fmt: skip
    """Draw the paper's five panels, a row an image; each value stands at the middle of its square.

    Panels (b), (d) and (e) show the part of the image that this middle can reach.

    Args:
        classes: names of all classes.
        image_size: S in pixels.
        images: uint8 (B, 3, S, S), what the network saw; without them panel (a) is left out.
        masks: bool (B, S, S), the objects, drawn as outlines.
    """
    heads = HEADS if images is not None else HEADS[1:]
    ratios = [WIDER.get(head[:3], 1) for head in heads]
    size = (1.475 * sum(ratios), 1.7 * len(rows) + 0.4)
    options = {"squeeze": False, "width_ratios": ratios, "figsize": size} | BARE
    figure, axes = plt.subplots(len(rows), len(ratios), **options)
    for head, ax in zip(heads, axes[0], strict=False):
        ax.set_title(head)
    for k, (row, line) in enumerate(zip(rows, axes, strict=True)):
        *_, activity, projections, probability, winners = line
        if images is not None:
            _image(line[0], plots.as_colours(images[k]), row.patch)
        line[0].set_ylabel(classes[row.label])
        _heat(activity, row, row.activity, image_size, f"map {row.map}")
        _projections(projections, row.projections)
        together = correlation(row.activity[None], row.probability[None]).item()
        label = f"r with (b) = {together:+.2f}"
        _heat(probability, row, row.probability, image_size, label)
        _winners(winners, row, classes, image_size)
        for ax in (activity, probability, winners):
            if masks is not None:
                outline = {"levels": [0.5], "colors": "white", "linewidths": 1.2}
                lines = ax.contour(masks[k].float().numpy(), **outline)
                lines.set_path_effects([withStroke(linewidth=2.4, foreground="black")])
    return plots.detached(figure)


def _image(ax, image: Tensor, patch: int) -> None:
    size = image.shape[-1]
    corner = (round(size * 12 / 224), round(size * 84 / 224))  # the paper's example position
    ax.imshow(plots.array(image))
    ax.add_patch(Rectangle(np.subtract(corner, 0.5), patch, patch, fc="0.5", ec="none"))


def _registered(ax, row: Row, values: np.ndarray, size: int, **style):
    """Draw a value a position where the middle of the square was."""
    step = (size - row.patch) / (len(values) - 1)
    first = (row.patch - 1) / 2 - step / 2
    last = first + step * len(values)
    drawn = ax.imshow(values, extent=(first, last, last, first), interpolation="nearest", **style)
    ax.autoscale(False)  # for what is drawn on it
    return drawn


def _heat(ax, row: Row, values: Tensor, size: int, label: str) -> None:
    top = values.max().item()
    drawn = _registered(ax, row, values.numpy(), size, vmin=0, vmax=top)
    bar = ax.figure.colorbar(drawn, ax=ax, fraction=0.046, pad=0.03)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=9, length=0, pad=1)
    ax.set_xlabel(label)


def _projections(ax, pictures: Tensor) -> None:
    pictures = plots.enlarge(pictures[:2]).clone()
    edge = pictures.shape[-1] // 28
    for rim in (slice(0, edge), slice(-edge, None)):  # the paper frames this image's own
        pictures[0, :, rim], pictures[0, :, :, rim] = 0, 0
    ax.imshow(plots.array(plots.tiled(pictures, 2, gap=2)), interpolation="nearest")


def _winners(ax, row: Row, classes: Sequence[str], size: int) -> None:
    counts = Counter(row.predicted.flatten().tolist())
    named = [row.label, *(k for k, _ in counts.most_common() if k != row.label)]
    shown, rest = named[:NAMED], named[NAMED:]
    place = {k: min(i, NAMED) for i, k in enumerate(named)}
    colours = [TRUE, *OTHERS[: len(shown) - 1], REST]
    painted = row.predicted.clone().apply_(place.get).numpy()
    style = {"cmap": ListedColormap(colours), "vmin": 0, "vmax": len(colours) - 1}
    _registered(ax, row, painted, size, **style)
    entries = [(classes[k], counts[k]) for k in shown]
    if rest:
        entries.append((f"{len(rest)} more", sum(counts[k] for k in rest)))
    handles = [
        Patch(color=colour, label=f"{name} {100 * count / row.predicted.numel():.0f} %")
        for colour, (name, count) in zip(colours, entries, strict=False)
    ]
    ax.set_xlabel("\n")  # room for the legend, which is wider than the panel
    tight = {"handlelength": 0.8, "handletextpad": 0.4, "columnspacing": 1, "borderpad": 0}
    below = {"loc": "upper right", "bbox_to_anchor": (1, -0.22), "borderaxespad": 0}
    ax.legend(handles=handles, ncols=len(handles), **tight, **below).set_in_layout(False)


# --- parts of objects ---


def parts(record: Record) -> Figure:
    """Colour parts of objects by the drop in probability when they are covered, below the scenes.

    Six classes, those with the largest drops first. Of the first 200 validation scenes each is the
    one of its class that shows most of the measured parts, and among these the largest object.

    record: of the Diorama.
    """
    drops: dict[str, dict[str, float]] = {}
    for part in record["object_parts"]:  # largest drop first
        drops.setdefault(part["class"], {})[part["part"]] = part["drop"]["mean"]
    drops = dict([item for item in drops.items() if len(item[1]) > 2][:6])
    scenes = diorama.sample(range(SCENES), seed=1)
    chosen = torch.tensor([_telling(scenes, name, by_part) for name, by_part in drops.items()])
    drawn = diorama.render(scenes.rows(chosen), 192)
    highest = max(max(by_part.values()) for by_part in drops.values())
    colours = plt.get_cmap("YlOrRd")
    figsize = (plots.WIDTH, plots.WIDTH / (len(drops) + 0.5) * 2 + 1.0)
    figure, axes = plt.subplots(2, len(drops), figsize=figsize, **BARE)
    columns = zip(*axes, drops.items(), drawn.images, drawn.parts, strict=True)
    for above, below, (name, by_part), image, numbers in columns:
        picture = plots.as_colours(image)
        above.imshow(plots.array(picture))
        above.set_title(name)
        painted = picture.mean(0, keepdim=True).mul(0.4).add(0.55).expand(3, -1, -1).clone()
        for part, drop in by_part.items():
            colour = torch.tensor(colours(max(drop, 0) / highest)[:3])[:, None, None]
            shade = 0.7 + 0.3 * picture.mean(0) / picture.mean(0).max()
            where = numbers == diorama.PART_NAMES.index(part)
            painted = torch.where(where, colour * shade, painted)
        below.imshow(plots.array(painted))
        most = list(by_part.items())[:3]
        below.set_xlabel("\n".join(f"{part} {round(drop, 2) + 0:.2f}" for part, drop in most))
    scale = plt.cm.ScalarMappable(plt.Normalize(0, highest), colours)
    bar = figure.colorbar(scale, ax=axes[1], fraction=0.02, pad=0.01, label="drop in probability")
    bar.outline.set_visible(False)
    return plots.detached(figure)


def _telling(scenes: diorama.Scene, name: str, drops: Mapping[str, float]) -> int:
    indices = scenes.labels.eq(diorama.CLASSES.index(name)).nonzero().flatten()
    numbers = diorama.render(scenes.rows(indices), 64).parts.flatten(1)
    wanted = torch.tensor([diorama.PART_NAMES.index(part) for part in drops])
    seen = (numbers[..., None] == wanted).sum(1).gt(8).sum(1)
    area = numbers.gt(0).float().mean(1)
    return int(indices[(seen + area).argmax()])


# --- what was measured ---


INTERVALS = {
    "objects": ("drop in the probability of the true class", {
        "squares on the object": "objects/drop",
        "squares beside it (control)": "objects/drop_beside",
        "the object, to the pixel": "shapes/drop",
        "the same shape elsewhere (control)": "shapes/drop_elsewhere",
    }),
    "correlations": ("correlation over positions of the square", {
        "strongest map (b) with probability (d)": "maps/strongest",
        "average map with (d) (control)": "maps/any_map",
        "strongest map (b) with its projection (c)": "projections/own",
        "with another image's projection (control)": "projections/other",
        "(d) of two networks": "agreement/same",
        "(d) of different images (control)": "agreement/other",
    }),
    "settings": ("largest drop in the probability of the true class", {
        f"{fill}, {factor:g} x the paper's side": f"settings/{k}/worst_drop"
        for k, (fill, factor) in enumerate(SETTINGS)
    }),
}  # fmt: skip
"""Figure -> its unit, and the label of each row with the path in the record."""


def intervals(name: str, by_dataset: Mapping[str, Record]) -> Figure:
    """Draw one of `INTERVALS`."""
    unit, rows = INTERVALS[name]
    return plots.intervals_by_dataset(by_dataset, rows, unit=unit)


def histograms(by_dataset: Mapping[str, Record]) -> Figure:
    """Draw the correlation of (b) with (d) image by image, with the paper's three examples."""
    options = {"sharey": True, "squeeze": False, "layout": "constrained"}
    figure, axes = plt.subplots(1, len(by_dataset), figsize=(plots.WIDTH, 2.1), **options)
    for ax, (dataset, record) in zip(axes.flat, by_dataset.items(), strict=True):
        maps = record["maps"]
        ax.hist(maps["values"], bins=np.linspace(-1, 1, 21), color=TRUE, alpha=0.55)
        ax.axvline(maps["strongest"]["mean"], color=TRUE, lw=2)
        top = ax.get_ylim()[1]
        for name, example in paper.OCCLUSION.items():
            value = example["correlation"]
            ax.axvline(value, color=plots.PALETTE[1], lw=1.4, ls="--")
            style = {"rotation": 90, "ha": "right", "va": "top", "fontsize": 9}
            ax.text(value - 0.03, top, name, color=plots.PALETTE[1], **style)
        ax.set_title(f"{DATASETS[dataset]}, {maps['strongest']['n']} images; line: mean")
        ax.set_xlabel("correlation of (b) with (d)")
    axes[0, 0].set_ylabel("images")
    return plots.detached(figure)


LEVELS = {"lowest": "min", "median": "median", "highest": "max"}


def examples(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> HTML:
    """Show rows of the figure, data set -> as `measure.describe` returns them, and the paper's."""
    triples = [(name, r["class"], r) for name, descriptions in rows.items() for r in descriptions]
    triples += [("the paper", name, r) for name, r in paper.OCCLUSION.items()]
    lines = [
        {"data set": name, "class": label}
        | {f"{which} P": f"{r[key]:.2f}" for which, key in LEVELS.items()}
        | {
            "true class wins, %": f"{100 * r['kept']:.1f}",
            "(b) with (d)": f"{r['correlation']:+.2f}",
        }
        for name, label, r in triples
    ]
    caption = "Rows of Fig. 7, ours and the paper's (measured on its printed heat maps)"
    return page.table(lines, caption=caption)


def part_table(record: Record) -> HTML:
    """Show all parts with both controls; a dash where the object has no room for one."""

    def cell(drop: Mapping[str, float]) -> str | None:
        return None if drop["mean"] is None else f"{Interval.of(drop):.2f}"

    lines = [
        {"class": r["class"], "part": r["part"], "images": r["drop"]["n"]}
        | {"drop": cell(r["drop"]), "beside the object": cell(r["drop_beside"])}
        | {"elsewhere on it": cell(r["drop_on_object"])}
        for r in record["object_parts"]
    ]
    caption = "Drop in the probability of the true class when a part is covered (recorded, Diorama)"
    return page.table(lines, caption=caption)
