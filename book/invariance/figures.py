"""Draw Fig. 5 of the arXiv text, rendered scenes, and curves over the whole validation set."""

import itertools
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import HTML
from matplotlib.figure import Figure
from torch import Tensor

import diorama
from book.invariance.measure import renderings
from book.invariance.warps import FAMILIES, FILLS, Response, warp_view
from zfrepro import page, plots
from zfrepro.claims import DATASETS, Record, lookup
from zfrepro.weights import Trained

AXES = {
    "translation": "vertical translation (px of 224)",
    "scale": "scale (ratio)",
    "rotation": "rotation (degrees)",
}
# which amounts are shown as images
PICTURED = {"translation": (-1, 0), "scale": (-1, 4), "rotation": (9, 18)}
UNCHANGED = {"translation": 0.0, "scale": 1.0, "rotation": 0.0}
UNITS = {"translation": "px of 224", "scale": "times", "rotation": "degrees"}


def axis_amount(family: str, amount):
    """Return an amount, or an array of them, in the unit of the paper's axes."""
    return 224 * amount if family == "translation" else amount


# --- Fig. 5 ---


def fig5(
    trained: Trained,
    seen: Tensor,
    responses: Mapping[str, Response],
    amounts: Mapping[str, Sequence[float]],
    names: Sequence[str],
) -> Figure:
    """Draw a transformed image or two a family, beside the curves of all images, a colour each.

    Args:
        seen: uint8 (N, 3, S, S), the images as the network sees them; names: of their classes.
        responses: family -> what the network answers to the N images, of all its amounts.
    """
    size = (plots.WIDTH, 0.57 * plots.WIDTH)
    figure, axes = plt.subplots(
        3, 5, figsize=size, layout="constrained", width_ratios=[1, 1, 1.2, 1.2, 1.2]
    )
    heads = ("layer 1: distance", "layer 7: distance", "P(true class)")
    for ax, head in zip(axes[0, 2:], heads, strict=True):
        ax.set_title(head)
    images = itertools.cycle(zip(seen, names, plots.PALETTE, strict=False))
    for row, (family, label) in zip(axes, AXES.items(), strict=True):
        answer = responses[family]
        at = [axis_amount(family, a) for a in amounts[family]]
        for ax, step in zip(row[:2], PICTURED[family], strict=True):
            image, name, colour = next(images)
            amount = float(amounts[family][step])
            view = warp_view(trained, image[None], family, amount)[0].cpu() / 255
            _picture(ax, view, colour)
            ax.set_xlabel(f"{name}\n{axis_amount(family, amount):.3g} {UNITS[family]}")
        curves = (answer.distance["conv1"], answer.unit, answer.probability)
        for ax, values in zip(row[2:], curves, strict=True):
            for k in range(len(names)):
                ax.plot(at, values[:, k], lw=1.4, color=plots.PALETTE[k])
            ax.set_ylim(bottom=0)
        row[3].set_xlabel(label)
    return plots.detached(figure)


def _picture(ax, image: Tensor, colour: str) -> None:
    ax.imshow(plots.array(image.clamp(0, 1)), interpolation="bicubic")
    ax.set(xticks=[], yticks=[])
    for edge in ax.spines.values():
        edge.set(visible=True, color=colour, linewidth=3)


# --- scenes rendered again ---

SHOWN = (  # a change, its title, and the number of its amount
    ("translation", "{} translated", 8),
    ("scale", "{} scaled", 4),
    ("yaw", "object rotated", 3),
    ("yaw", "rotated further", 4),
    ("size", "object smaller", 2),
    ("distance", "object nearer", 4),
    ("place", "object moved", 4),
)


@torch.no_grad()
def scene_renderings(trained: Trained, index: int, record: Record) -> Figure:
    """Draw one validation scene, warped and rendered, with the network's predictions.

    record: of the Diorama, for the prediction consistency.
    """
    scene, size = diorama.sample([index], seed=1), trained.recipe.image_size
    stored = trained.mean.shape[-1]

    def render(one: diorama.Scene) -> Tensor:
        return trained.center_crop(diorama.render(one, stored).images)

    seen, makers = render(scene), renderings(size / stored)
    tiles = [("unchanged", seen, "")]
    for name, title, k in SHOWN:
        change, amounts = makers[name]
        if name in FAMILIES:
            warped = warp_view(trained, seen, name, amounts[k])
            tiles.append((title.format("image"), warped, ""))
        stay = f"consistency {record['rendered'][name]['kept'][k]:.0f} %"
        tiles.append((title.format("scene"), render(change(scene, amounts[k])), stay))
    inches = (plots.WIDTH, plots.WIDTH * 0.6)
    figure, axes = plt.subplots(2, 5, figsize=inches, layout="constrained")
    for ax, (title, view, stay) in zip(axes.flat, tiles, strict=True):
        p = trained.network(trained.preprocess_crop(view.float())).softmax(1)[0].cpu()
        best = int(p.argmax())
        right = best == int(scene.labels[0])
        _picture(ax, view[0].cpu().float() / 255, plots.PALETTE[2 if right else 1])
        ax.set_title(title)
        ax.set_xlabel(f"{trained.classes[best]} {p[best]:.2f}\n{stay}".rstrip())
    return plots.detached(figure)


RENDERED = {
    "image translated": "translation",
    "camera shifted": "rendered/translation",
    "image scaled": "scale",
    "camera zoomed": "rendered/scale",
    "image rotated": "rotation",
    "object rotated in space": "rendered/yaw",
    "object made smaller": "rendered/size",
    "object nearer or further away": "rendered/distance",
    "object moved along the table": "rendered/place",
}


def kept_when_rendered(record: Record) -> Figure:
    """Draw the prediction consistency of warped images and of rendered scenes."""
    shares = {}
    for name, path in RENDERED.items():
        kind = "rendered scene" if "/" in path else "warped image"
        shares[name] = {kind: lookup(record, f"{path}/kept_share")}
    return plots.intervals_by_group(shares, unit="prediction consistency, %", zero=None)


# --- all images ---


def layers(by_dataset: Mapping[str, Record]) -> Figure:
    """Draw the median relative distance of every layer, and a band for layers 1 and 7.

    An unchanged image has distance 0, which is drawn and not measured.
    """
    rows = len(by_dataset)
    figure, axes = plt.subplots(
        rows, 3, figsize=(plots.WIDTH, 2.5 * rows), sharey=True, sharex="col", squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for row, (dataset, record) in zip(axes, by_dataset.items(), strict=True):
        for ax, family in zip(row, FAMILIES, strict=True):
            curves = record[family]
            start = np.searchsorted(curves["amounts"], UNCHANGED[family])
            amounts = np.insert(curves["amounts"], start, UNCHANGED[family])
            at = axis_amount(family, amounts)
            colours = plt.get_cmap("viridis")(np.linspace(0.25, 0.92, len(curves["relative"])))
            for colour, (layer, values) in zip(colours, curves["relative"].items(), strict=True):
                low, middle, high = np.insert(values["quantiles"], start, 0, axis=1)
                ax.plot(at, middle, "o-", ms=3, color=colour, label=layer)
                if layer in ("conv1", "fc7"):
                    ax.fill_between(at, low, high, color=colour, alpha=0.2, lw=0)
            ax.axhline(1, color=plots.TEXT, lw=0.8, ls=":")
            ax.grid()
        row[0].set_ylabel(f"{DATASETS[dataset]}\nrelative distance")
    axes[0, 0].set_ylim(bottom=0)  # after all curves: the panels share it
    for ax, label in zip(axes[-1], AXES.values(), strict=True):
        ax.set_xlabel(label)
    lines, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside upper center", ncols=len(labels))
    return plots.detached(figure)


def notes(
    response: Response,
    family: str,
    amounts: Sequence[float],
    image: int,
    classes: Sequence[str],
    between: Mapping[str, float],
    labelled: bool = True,
) -> list[str]:
    """Describe each amount: relative distances of layers 1 and 7, and the likeliest classes.

    labelled: whether the label is true, not the prediction for the unchanged image.
    """
    first, last = (response.distance[k][:, image] / between[k] for k in ("conv1", "fc7"))
    true = int(response.labels[image])
    lines = []
    for t, amount in enumerate(amounts):
        p = response.probabilities[t, image]
        best = [k for k in p.topk(min(4, len(p))).indices.tolist() if k != true][:3]
        runners_up = ", ".join(f"{classes[k]} {p[k]:.2f}" for k in best)
        lines.append(
            f"{family} {axis_amount(family, amount):g} {UNITS[family]}: "
            f"relative distance in layer 1 {first[t]:.2f}, in layer 7 {last[t]:.2f}; "
            f"{classes[true]}{' (true)' if labelled else ''} {p[true]:.2f}, {runners_up}"
        )
    return lines


def labels(by_dataset: Mapping[str, Record]) -> HTML:
    """Show accuracy and labels under each family: mean over amounts, and the worst case."""
    rows = [
        {
            "data set": DATASETS[dataset],
            "change": family,
            "unchanged": record[family]["clean_right"],
            "mean": float(np.mean(record[family]["right"])),
            "every amount": record[family]["worst_right"],
            "prediction consistency": record[family]["kept_share"]["mean"],
        }
        for dataset, record in by_dataset.items()
        for family in FAMILIES
    ]
    caption = "Images classified correctly, and prediction consistency (mean over amounts), %"
    return page.table(rows, caption=caption)


def fills(by_dataset: Mapping[str, Record]) -> HTML:
    """Show prediction consistency and the distance in layer 7, mean over amounts, by fill."""
    rows = []
    for dataset, record in by_dataset.items():
        for fill in FILLS:
            row: dict[str, object] = {"data set": DATASETS[dataset], "fill": fill}
            for family, curves in record[f"fill {fill}"].items():
                row[f"{family}: consistency, %"] = curves["kept_share"]["mean"]
                row[f"{family}: layer 7"] = f"{np.mean(curves['fc7']):.2f}"
            rows.append(row)
    caption = "Prediction consistency and distance in layer 7, by fill, on some of the images"
    return page.table(rows, caption=caption)
