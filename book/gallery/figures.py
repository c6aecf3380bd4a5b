"""Figures of the gallery: Fig. 2, its maps to browse, and what is measured on them."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from IPython.display import HTML
from matplotlib.figure import Figure
from torch import Tensor

from book.gallery import measures
from book.gallery.claims import DEEP
from zfrepro import explorers, page, plots
from zfrepro.claims import DATASETS, Record
from zfrepro.data import Split
from zfrepro.gallery import Top
from zfrepro.stats import Interval
from zfrepro.weights import Trained

LAYERS = ("conv1", *DEEP)
GUTTER = 0.25  # dark grey between the pictures of the explorer, for light and dark pages
SIMILARITY_NAMES = {"pixels": "pixel by pixel", "contrast": "by contrast"}


def random_maps(top: Top, count: int, seed: int = 0) -> list[int]:
    """Draw some maps among those that respond to as many images as are kept."""
    alive = (top.values[:, -1] > 0).nonzero().flatten()
    generator = torch.Generator().manual_seed(seed)
    return alive[torch.randperm(len(alive), generator=generator)[:count]].tolist()


def hero(
    trained: Trained, split: Split, tops: Mapping[str, Top], maps: Mapping[str, Sequence[int]],
    across: int = 2,
) -> Figure:  # fmt: skip
    """Draw some maps of some layers in columns: their strongest projections above the patches.

    Args:
        maps: layer -> which.
        across: pictures in a row, of as many rows.
    """
    columns = []
    for layer, chosen in maps.items():
        pictures = zip(*measures.pictures_of(trained, split, tops[layer], chosen), strict=True)
        names = (f"layer {layer[-1]}, map {number}" for number in chosen)
        columns += [(name, *pair) for name, pair in zip(names, pictures, strict=True)]
    return plots.fig2(columns, across)


def fig2(
    trained: Trained, split: Split, tops: Mapping[str, Top], maps: Mapping[str, Sequence[int]]
) -> Figure:
    """Draw Fig. 2: projections and patches of some maps of some layers, a map a row."""
    panels = []
    for layer, chosen in maps.items():
        unit = "map" if layer.startswith("conv") else "unit"
        panels += _panels(trained, split, tops[layer], chosen, f"layer {layer[-1]}, {unit}")
    return _draw(panels)


def recorded(record: Record) -> Figure:
    """Draw the four strongest recorded projections of telling maps, a layer a column.

    The title says what most of the nine images are of.
    """
    pictures, titles = [], []
    for row in zip(*record["pictures"].values(), strict=True):
        for layer, shown in zip(record["pictures"], row, strict=True):
            tiles = plots.untiled(plots.from_jpeg(shown["sheet"]), plots.TILE, gap=2)
            pictures.append(plots.tiled(tiles.flatten(0, 1)[:4], 2, gap=2))
            name, count = Counter(shown["classes"]).most_common(1)[0]
            titles.append(f"layer {layer[-1]}: {name}, {count} of {len(shown['classes'])}")
    return plots.side_by_side(pictures, titles, columns=len(record["pictures"]))


def two_sizes(networks: Mapping[str, tuple[Trained, Split, Top]]) -> Figure:
    """Draw a telling map of networks that see images of different sizes, a network a row."""
    panels = []
    for name, (trained, split, top) in networks.items():
        chosen = measures.telling_maps(trained, split, {name: top})[name]
        panels += _panels(trained, split, top, chosen, f"{name}, map")
    return _draw(panels)


def _panels(
    trained: Trained, split: Split, top: Top, maps: Sequence[int], name: str
) -> list[tuple[str, Tensor, Tensor]]:
    """Return name, projections and patches of each map, without units that do not respond."""
    projections, patches = measures.pictures_of(trained, split, top, maps)
    responds = top.responds(maps)
    rows = zip(maps, projections, patches, responds, strict=True)
    return [(f"{name} {number}", p[r], q[r]) for number, p, q, r in rows if r.any()]


def _draw(panels: Sequence[tuple[str, Tensor, Tensor]]) -> Figure:
    if not panels:
        raise ValueError("none of these maps responds to any of the images; choose others")
    side = max(plots.TILE, *(patches.shape[-1] for *_, patches in panels))
    return plots.fig2(panels, side=min(side, 2 * plots.TILE), beside=True)


def described(trained: Trained, top: Top, number: int, labels: Tensor) -> str:
    """Describe a map: how strong its strongest unit is, and how many images show which class."""
    images, _ = top.of([number])
    counts = Counter(trained.classes[i] for i in labels[images].tolist())
    listed = ", ".join(f"{name} ({count})" for name, count in counts.most_common())
    strongest = float(top.values[number, 0])
    return f"Map {number}: strongest activation {strongest:.2f}; images: {listed}"


def explorer(trained: Trained, split: Split, tops: Mapping[str, Top]) -> HTML:
    """Show four maps of every layer, for a page without a kernel; it opens on the last layer.

    In each a telling map comes first, see `measures.telling_maps`; the others are drawn at random.
    """
    maps, telling = 4, measures.telling_maps(trained, split, tops)
    pictures, notes = [], []
    for layer, top in tops.items():
        at_random = [k for k in random_maps(top, maps, seed=1) if k not in telling[layer]]
        chosen = (telling[layer] + at_random)[:maps]
        drawn, seen = measures.pictures_of(trained, split, top, chosen)
        order = list(range(len(chosen)))
        order += order[-1:] * (maps - len(order))  # a layer with few maps repeats one
        pictures += [nine_and_nine(drawn[i], seen[i]) for i in order]
        notes += [described(trained, top, chosen[i], split.labels) for i in order]
    axes = {
        "layer": [name.removeprefix("conv") for name in tops],
        "map": [f"{i + 1} of {maps}" for i in range(maps)],
    }
    alt = "One map: its nine strongest projections left, the patches that caused them right"
    start = (len(tops) - 1) * maps
    return explorers.frames(np.stack(pictures), axes, notes, alt=alt, jpeg=True, start=start)


def nine_and_nine(projections: Tensor, patches: Tensor) -> np.ndarray:
    """Tile nine projections, signed, beside their nine patches, uint8. -> uint8 (H, W, 3)."""
    parts = plots.display(projections[None])[0], plots.as_colours(patches)
    tiles = (plots.resized(part) for part in parts)
    left, right = (plots.tiled(part, 3, gap=2, ground=GUTTER) for part in tiles)
    between = torch.full((3, left.shape[1], plots.TILE // 14), GUTTER)
    picture = torch.cat([left, between, right], 2)
    return (255 * plots.array(picture)).round().astype(np.uint8)


def purity(by_dataset: Mapping[str, Record]) -> Figure:
    """Draw the mean purity of each layer, and of nine random images."""
    rows = {f"layer {layer[-1]}": f"purity/layers/{layer}" for layer in LAYERS}
    rows["random images"] = "purity/random"
    return plots.intervals_by_dataset(by_dataset, rows, unit="purity, %", zero=None)


def similarity(by_dataset: Mapping[str, Record]) -> Figure:
    """Draw by how much more similar projections are than patches."""
    rows = {
        f"{shown}, layer {layer[-1]}": f"similarity/{layer}/{how}/lead"
        for how, shown in SIMILARITY_NAMES.items()
        for layer in LAYERS[1:]
    }
    unit = "similarity of projections less that of patches, each less its control"
    return plots.intervals_by_dataset(by_dataset, rows, unit=unit)


def purity_table(by_dataset: Mapping[str, Record]) -> HTML:
    """Show purity, maps, and maps that respond to no image."""
    rows = []
    for layer in LAYERS:
        row: dict[str, object] = {"layer": layer[-1]}
        for name, record in by_dataset.items():
            purities, title = record["purity"], DATASETS[name]
            row[f"{title}: purity, %"] = f"{Interval.of(purities['layers'][layer]):.1f}"
            row[f"{title}: maps"] = purities["maps"][layer]
            row[f"{title}: silent"] = purities["dead"][layer]
        rows.append(row)
    return page.table(rows, caption="Purity of the nine strongest images, 95 % bootstrap over maps")


def on_object(record: Record) -> Figure:
    """Draw how much more often units lie on the object than the same places of other images."""
    names = {layer: f"layer {layer[-1]}" for layer in LAYERS}
    untrained = [name for name in record["on_object"]["lead"] if name.startswith("untrained")]
    names |= {name: f"layer 5, untrained network {i + 1}" for i, name in enumerate(untrained)}
    leads = record["on_object"]["lead"]
    rows = [(label, Interval.of(leads[name]), None) for name, label in names.items()]
    return plots.intervals(rows, unit="on the object: margin over the same places, points")
