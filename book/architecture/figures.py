"""Fig. 6 of the arXiv text (ECCV Fig. 5), effects of each change, and a bench for one filter."""

import math
from collections.abc import Mapping, Sequence
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import HTML
from matplotlib.figure import Figure
from torch import Tensor

from book.architecture import claims, filters, measure
from zfrepro import explorers, page, plots, records, sweeps
from zfrepro.claims import ADAPTED, DATASETS, Record
from zfrepro.networks import Network
from zfrepro.stats import Interval
from zfrepro.weights import Trained

NAMES = {"krizhevsky": "AlexNet", "zfnet": "ZFNet"}
COLOURS = {"krizhevsky": plots.PALETTE[1], "zfnet": plots.PALETTE[0]}
PERIOD = 48  # px of a picture with a grating, so frequencies are whole numbers over 48


# --- the paper's five panels ---------------------------------------------------------------------


def projections(record: Record, arch: str) -> Tensor:
    """Return recorded second-layer projections as colours, nine a map. (M, 9, 3, F, F)."""
    picture = record["pictures"][arch]
    side, sheet = picture["side"], plots.from_jpeg(picture["sheet"])
    blocks = plots.untiled(sheet, 3 * side + 2, measure.GAP).flatten(0, 1)[: len(picture["maps"])]
    return torch.stack([plots.untiled(block, side).flatten(0, 1) for block in blocks])


def both_layers(
    weights: Mapping[str, Tensor], second: Mapping[str, Tensor], maps: Mapping[str, Sequence[int]]
) -> Figure:
    """Draw panels (b) to (e) of Fig. 6: a row for each network, its layer 1 and maps of layer 2.

    Args:
        weights: architecture -> (C, 3, k, k), of which 25 random ones are drawn.
        second: architecture -> colours, (M, 9, 3, F, F).
        maps: architecture -> which of its M maps.
    """
    panels, titles = [], []
    for arch, weight in weights.items():
        draw = torch.randperm(len(weight), generator=torch.Generator().manual_seed(0))
        filter_tiles = plots.display(weight[draw[:25].sort().values])
        panels.append(plots.tiled(plots.resized(filter_tiles, 3 * plots.TILE // 5), 5))
        panels += [plots.tiled(tiles, 3) for tiles in plots.resized(second[arch][maps[arch]])]
        titles += [f"{NAMES[arch]}, layer 1", "layer 2", *[""] * (len(maps[arch]) - 1)]
    return plots.side_by_side(panels, titles, width=7, columns=len(panels) // len(weights))


def all_maps(second: Mapping[str, Tensor]) -> Figure:
    """Draw panels (d) and (e) whole: all recorded maps of each network's layer 2, nine a map."""
    sheets = [plots.blocks(plots.resized(tiles), 5) for tiles in second.values()]
    titles = [f"{NAMES[arch]}, layer 2" for arch in second]
    return plots.side_by_side(sheets, titles, width=7, columns=1)


def twins(record: Record) -> dict[str, Record]:
    """Return the runs of the small ZFNet, without and with rescaling of its filters."""
    runs = sorted(record["runs"], key=lambda run: run["clip"])
    names = ("without rescaling", "with rescaling")
    return {names[bool(run["clip"])]: run for run in runs if run["arch"] == "zfnet"}


def clipping(by_dataset: Mapping[str, Record]) -> Figure:
    """Draw panel (a): layer 1 of small networks, with one scale for all filters of a panel."""
    panels, titles = [], []
    for dataset, record in by_dataset.items():
        for name, run in twins(record).items():
            rows = torch.tensor(run["filters"])
            weight = rows.unflatten(1, (3, math.isqrt(rows.shape[1] // 3), -1))
            colours = plots.GREY + 0.5 * weight / weight.abs().max()
            panels.append(plots.tiled(plots.enlarged(colours, 8), 6, gap=2))
            titles.append(f"{DATASETS[dataset]}, {name}")
    return plots.side_by_side(panels, titles, width=7, columns=2)


def dominance(run: Record) -> float:
    """Return the RMS of a run's largest first-layer filter over that of its median one."""
    return run["largest_rms"] / run["median_rms"]


# --- effects -------------------------------------------------------------------------------------


def effects(by_dataset: Mapping[str, Record]) -> Figure:
    """Draw what each change does to the top-1 error, and the paper's differences where printed.

    by_dataset: records of the sweep; one that lacks a network is left out.
    """
    old, wide, new = claims.OLD, claims.OLD_WIDE, claims.REPAIRED
    contrasts = {
        "all three changes of layers 1 and 2": (new, old),
        "instead, wide layers 3 to 5": (wide, old),
        "besides, wide layers 3 to 5": (claims.REPAIRED_WIDE, new),
    }
    factors = {
        "layer 1: filters of 11x11 to 7x7": "kernel",
        "layer 1: stride 4 to 2": "stride",
        "layer 2: stride 1 to 2": "stride2",
        "layer 1: low-pass filter before stride 4": "blur",
    }
    sources = {label: claims.contrast(*pair) for label, pair in contrasts.items()}
    sources |= {label: partial(claims.effect, factor=factor) for label, factor in factors.items()}
    printed = {label: claims.printed_change(*pair) for label, pair in contrasts.items()}
    whole = {name: record for name, record in by_dataset.items() if not claims.LACKING(record)}
    unit = "change of the top-1 error, points (left of zero is better)"
    paper = "the paper, ImageNet"
    return plots.intervals_by_dataset(whole, sources, printed, unit=unit, paper=paper)


def two_by_two(by_dataset: Mapping[str, Record]) -> list[dict[str, object]]:
    """Return rows of a table: top-1 errors of old and repaired layers, narrow and wide, in %.

    by_dataset: records of the sweep.
    """
    runs = [run for record in by_dataset.values() for run in record["runs"]]
    cost = {run["arch"]: run["multiply_adds"] / 1e6 for run in runs}
    rows = []
    for name, printed in claims.PRINTED.items():
        row: dict[str, object] = {
            "layers 1, 2": "repaired" if name.startswith(claims.REPAIRED) else "old",
            "upper layers": "wide" if name.endswith("wide") else "narrow",
            "the paper": printed.val1,
        }
        for dataset, record in by_dataset.items():
            values = sweeps.errors(record).get(name, {}).values()
            row[DATASETS[dataset]] = plots.mean_sd(list(values)) if values else None
        rows.append(row | {"our cost": cost[name]})
    return rows


# --- tables and spectra --------------------------------------------------------------------------


def aliased_rows(by_dataset: Mapping[str, Record]) -> list[dict[str, object]]:
    """Return rows of a table: the aliased share of layer 1's energy at both strides, in %."""
    return [
        {"data set": DATASETS[dataset], "filters of": name}
        | {f"at stride {s}": f"{Interval.of(shares[str(s)]):.1f}" for s in measure.STRIDES}
        for dataset, record in by_dataset.items()
        for arch, name in NAMES.items()
        for shares in [record["aliased"][arch]]
    ]


def shift_rows(by_dataset: Mapping[str, Record]) -> list[dict[str, object]]:
    """Return rows of a table: what stays under shifts of one pixel."""
    columns = {
        "conv1": ("layer 1", ".3f"), "conv1 moved": ("layer 1, shifted along", ".3f"),
        "conv2": ("layer 2", ".3f"), "conv2 moved": ("layer 2, shifted along", ".3f"),
        "kept": ("prediction consistency, %", ".1f"),
    }  # fmt: skip
    return [
        {"data set": DATASETS[dataset], "network": name}
        | {head: f"{Interval.of(values[key]):{form}}" for key, (head, form) in columns.items()}
        for dataset, record in by_dataset.items()
        for arch, name in (*NAMES.items(), ("more", "difference"))
        for values in [record["shifts"][arch]]
    ]


def dead_rows(by_dataset: Mapping[str, Record]) -> list[dict[str, object]]:
    """Return rows of a table: dead filters of layer 1 by each sense of the word."""
    return [
        {"data set": DATASETS[dataset], "network": name, "filters": len(layer["centroid"])}
        | {sense: sum(which) for sense, which in layer["dead"].items()}
        for dataset, record in by_dataset.items()
        for arch, name in NAMES.items()
        for layer in [record["filters"][arch]]
    ]


def third_first_layer() -> HTML:
    """Show the first layer of a network trained on ImageNet beside our ZFNet's."""
    sentences, name = [], "squeezenet1_0"
    for record, arch, whose in (
        (records.read(f"architecture/{name}"), name, "Its first layer"),
        (records.read("architecture/imagenet20"), "zfnet", "our ZFNet's"),
    ):
        layer = record["filters"][arch]
        in_band = filters.middle(layer["centroid"])
        share = Interval.of(record["aliased"][arch][str(layer["stride"])])
        sentences.append(
            f"{whose} ({layer['kernel']}x{layer['kernel']}, stride {layer['stride']}) has "
            f"{sum(layer['dead']['any'])} dead filters of {len(in_band)}, {sum(in_band)} in the "
            f"middle band, and its stride aliases {share:.1f} % of its energy"
        )
    return page.finding(f"{ADAPTED[name]}: {'; '.join(sentences)}.")


def spectra(by_dataset: Mapping[str, Record]) -> Figure:
    """Draw histograms of the filters' centroids, with the Nyquist limits of strides 4 and 2."""
    size = (plots.WIDTH, 2.5)
    figure, axes = plt.subplots(1, len(by_dataset), figsize=size, squeeze=False, sharey=True)
    bins = np.linspace(0, 0.5, 26).tolist()
    for ax, (dataset, record) in zip(axes[0], by_dataset.items(), strict=True):
        for arch, name in NAMES.items():
            values = record["filters"][arch]["centroid"]
            share = np.full(len(values), 100 / len(values))
            ax.hist(values, bins, weights=share, color=COLOURS[arch], alpha=0.5, label=name)
            limit = filters.nyquist(record["filters"][arch]["stride"])
            ax.axvline(limit, color=COLOURS[arch], ls="--", lw=1.4)
        ax.set(xlim=(0, 0.42), xlabel="centroid, cycles per pixel", title=DATASETS[dataset])
    axes[0, 0].set_ylabel("filters, %")
    axes[0, 0].legend(loc="upper right")
    figure.tight_layout(pad=0.4)
    return plots.detached(figure)


# --- one filter ----------------------------------------------------------------------------------


def direction_of(kernel: Tensor) -> float:
    """Return where one filter's stripes follow each other, degrees from the right downwards."""
    power = filters.spectrum(kernel[None])[0]
    down, right = np.unravel_index(power.argmax().item(), power.shape)
    cycles = torch.fft.fftfreq(filters.SPECTRUM).tolist()
    return math.degrees(math.atan2(cycles[down], cycles[right])) % 180


def grating_for(kernel: Tensor, frequency: float, degrees: float) -> tuple[Tensor, float, float]:
    """Return a periodic grating in a filter's own colour, and its frequencies down and right.

    Args:
        kernel: (3, k, k).
        frequency: cycles per pixel; it and the direction are rounded to what fits `PERIOD` pixels.
        degrees: direction, from the right downwards.
    """
    angle = math.radians(degrees)
    waves = (frequency * math.sin(angle), frequency * math.cos(angle))
    down, right = (round(PERIOD * wave) / PERIOD for wave in waves)
    left = torch.linalg.svd(kernel.float().flatten(1), full_matrices=False).U[:, 0]
    colour = left / left.abs().max()
    return filters.grating(PERIOD, down, right) * colour[:, None, None], down, right


@torch.no_grad()
def response(
    network: Network, number: int, image: Tensor, *, periodic: bool = False
) -> tuple[list[Tensor], float]:
    """Return one filter's response at every pixel and what the stride keeps, and the aliased share.

    Args:
        image: (3, S, S), as the network wants it.
        periodic: as for `filters.stride1_response`.
    Returns:
        two grey pictures of 0 to 1, and the share of the energy, nan where nothing responds.
    """
    stride = filters.stride_of(network)
    batch = image[None].to(network.first().weight.device)
    every = filters.stride1_response(network, batch, periodic=periodic)[0, number].cpu()
    lost, total = filters.energies(every, [stride], window=not periodic)
    share = (lost[stride] / total).item() if total > 1e-6 * every.numel() else math.nan
    grey = (every / every.max().clamp_min(1e-6)).expand(3, -1, -1)
    return [grey, grey[:, ::stride, ::stride]], share


TITLES = ("the filter", "what it sees", "response at every pixel", "what the stride keeps")


def on_grating(
    network: Network, number: int, frequency: float, degrees: float | None = None
) -> tuple[list[Tensor], str]:
    """Return pictures as in `TITLES` for a filter and a grating, and a note on the aliasing.

    Args:
        frequency, degrees: as for `grating_for`; by default the filter's own direction.
    """
    kernel, stride = network.first().weight[number].detach().cpu(), filters.stride_of(network)
    degrees = direction_of(kernel) if degrees is None else degrees
    wave, down, right = grating_for(kernel, frequency, degrees)
    pair, share = response(network, number, wave, periodic=True)
    note = f"filter {number}, a grating of {math.hypot(down, right):.3f} cycles per pixel "
    note += f"at {degrees:.0f} degrees: "
    if math.isnan(share):
        note += "no response"
    else:
        note += f"stride {stride} aliases {100 * share:.0f} % of the response"
        if max(abs(down), abs(right)) > filters.nyquist(stride) + 1e-6:
            seen = (filters.alias_frequency(abs(f), stride) for f in (down, right))
            note += f", which looks like a grating of {math.hypot(*seen):.3f}"
    return [plots.display(kernel), 0.5 + 0.5 * wave, *pair], note


def on_image(trained: Trained, number: int, stored: Tensor) -> tuple[list[Tensor], str]:
    """Return the same for an image of the data set. stored: uint8 (3, R, R)."""
    network, image = trained.network, plots.as_colours(trained.center_crop(stored[None])[0])
    pair, share = response(network, number, trained.preprocess(stored[None])[0])
    stride = filters.stride_of(network)
    note = f"filter {number}: stride {stride} aliases {100 * share:.0f} % of the response"
    kernel = network.first().weight[number].detach().cpu()
    return [plots.display(kernel), image, *pair], note


def explorer(networks: Mapping[str, Network], count: int = 4, frequencies: int = 8) -> HTML:
    """Show some filters of each network and gratings in their own direction, to leaf through.

    The filters are those of the purest stripes among those too fine for a stride of 4.
    """
    steps = np.linspace(0.08, 0.4, frequencies)  # from below the limit of a stride of 4
    pictures, notes = [], []
    for network in networks.values():
        power = filters.spectrum(network.first().weight.detach().cpu())
        fine = filters.above_nyquist(*[filters.SPECTRUM] * 2, stride=4)
        purity = (power * fine).amax((1, 2)) / power.sum((1, 2))
        for number in purity.topk(count).indices.tolist():
            for frequency in steps:
                tiles, note = on_grating(network, number, frequency)
                row = torch.stack([plots.resized(tile, 3 * PERIOD) for tile in tiles])
                pictures.append(plots.tiled(row, len(row), gap=6))
                notes.append(note)
    axes = {
        "network": [NAMES[arch] for arch in networks],
        "filter": [f"{i + 1} of {count}" for i in range(count)],
        "frequency": [f"{f:.2f}" for f in steps],
    }
    sheet = (255 * torch.stack(pictures)).round().byte().permute(0, 2, 3, 1).numpy()
    alt = f"Four pictures: {', '.join(TITLES)}"
    return explorers.frames(sheet, axes, notes, alt=alt)
