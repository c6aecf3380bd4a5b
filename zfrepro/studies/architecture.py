"""Recorded: first-layer filters, what strides alias, one-pixel shifts, and the same of every run of the factorial."""

import base64
import io
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from zfrepro import data, filters, gallery, plots, records
from zfrepro.data.transforms import crop
from zfrepro.filters import NOISE_SHARE, aliased, centroid_and_bandwidth, consistency, flatness, moved, stride_of
from zfrepro.networks import Network
from zfrepro.receptive_field import stage
from zfrepro.statistics import rounded, rounded_all, summary
from zfrepro.studies import Parts, Study
from zfrepro.weights import Trained, load_weights

STRIDES = (2, 4)
SHIFTS = ((0, 1), (1, 0), (1, 1))  # pixels down and to the right
SHIFTED = ("conv1", "conv2")
COMPARED = ("conv1", "conv1 moved", "conv2", "conv2 moved", "kept")
IMAGES = 200  # whose layer-1 maps are analysed for aliasing
DIAGNOSED = 200  # images a run of the factorial is diagnosed with
PANEL_MAPS = 15  # as in the published figure: five by three
MERGED = ("runs",)
THRESHOLDS = (0.02, 0.05, 0.1, 0.2, 0.4)  # at which faint filters are counted


def parts(study: Study) -> Parts:
    """Of both shipped networks: filters, gratings, aliasing, shifts, second-layer pictures; then of each run."""
    both = study.networks
    found: Parts = {
        "filters": lambda: {arch: described(net, study) for arch, net in both.items()},
        "gratings": lambda: {arch: gratings(net.network) for arch, net in both.items()},
        "aliased": partial(aliasing, study),
        "shifts": partial(shifts, study),
        "pictures": lambda: {arch: pictures(net, study) for arch, net in both.items()},
    }
    return found | {"runs": lambda: runs(study)}


# --- filters ---------------------------------------------------------------------------------------------------------


@torch.no_grad()
def strongest(trained: Trained, images: Tensor, batch: int = 64) -> Tensor:
    """Each first-layer filter's strongest activation over stored images. uint8 (N, 3, R, R) -> (C,)."""
    found = [
        trained.network.features(trained.normalised(part), ["conv1"])["conv1"].amax((0, 2, 3))
        for part in images.split(batch)
    ]
    return torch.stack(found).amax(0).cpu()


def described(trained: Trained, study: Study) -> dict[str, Any]:
    """Every first-layer filter: size, spectrum, order, strongest activation, and whether it is dead."""
    weight = trained.network.convs["conv1"].weight.detach().cpu()
    peaks = strongest(trained, study.dataset.val.images)
    centre, spread = centroid_and_bandwidth(weight)
    gone = filters.dead(weight, peaks)
    return {
        "stride": stride_of(trained.network),
        "kernel": weight.shape[-1],
        "rms": rounded_all(weight.square().mean((1, 2, 3)).sqrt()),
        "centroid": rounded_all(centre),
        "bandwidth": rounded_all(spread),
        "flatness": rounded_all(flatness(weight)),
        "noise_flatness": rounded(filters.noise_flatness(tuple(weight.shape[1:]), NOISE_SHARE)),
        "strongest": rounded_all(peaks),
        "dead": {name: getattr(gone, name).int().tolist() for name in ("silent", "faint", "noise", "any")},
        "faint": {str(t): int(filters.dead(weight, peaks, t).faint.sum()) for t in THRESHOLDS},
        "beyond": {str(s): rounded_all(filters.beyond(weight, s)) for s in STRIDES},
    }


# --- strides ---------------------------------------------------------------------------------------------------------


def gratings(network: Network) -> dict[str, Any]:
    """Response and aliased shares by frequency, (size, size // 2 + 1), and both summed over the plane."""
    found = filters.response_to_gratings(network, STRIDES)
    energy = found["energy"]
    both = torch.full((energy.shape[1],), 2.0)  # half of the plane stands for all of it
    both[0] = both[-1] = 1
    summed = {
        f"share {s}": rounded((found[f"aliased {s}"].nan_to_num() * energy * both).sum() / (energy * both).sum())
        for s in STRIDES
    }
    return {name: [rounded_all(row, 3) for row in table] for name, table in found.items()} | summed


def aliasing(study: Study) -> dict[str, Any]:
    """Share of layer 1's energy that each stride aliases on images of the world, and both networks' own compared."""
    images = study.dataset.val.shuffled(study.images or IMAGES, study.seed).images
    found: dict[str, Any] = {}
    own = {}
    for arch, trained in study.networks.items():
        shares = aliased(trained.network, trained.normalised(images), STRIDES)
        found[arch] = {str(s): summary(100 * shares[s]) for s in STRIDES}
        own[arch] = 100 * shares[stride_of(trained.network)]
    return found | {"less": summary(own["krizhevsky"] - own["zfnet"])}


@torch.no_grad()
def shifted(trained: Trained, stored: Tensor, batch: int = 32) -> dict[str, Tensor]:
    """What one pixel changes: correlation of layers 1 and 2 with themselves, and whether the label stays.

    `conv1` compares the maps as they are. `conv1 moved` first moves the old maps along, by the pixel's share of a unit,
    as maps that are not aliased would be; a margin of one unit is left out.

    Args:
        stored: uint8 (N, 3, R, R), which leave the network's crop room to move.
    Returns:
        each of `COMPARED` -> (N,), means over the `SHIFTS`; `kept` in per cent.
    """
    size = trained.recipe.image_size
    offset = (stored.shape[-1] - size) // 2
    jumps = {name: stage(trained.network.architecture, size, name).field.jump for name in SHIFTED}
    found: dict[str, list[Tensor]] = {name: [] for name in COMPARED}
    for part in stored.split(batch):
        before, *after = (
            trained.network.features(trained.of_view(crop(part, offset + dy, offset + dx, size)), [*SHIFTED, "fc8"])
            for dy, dx in ((0, 0), *SHIFTS)
        )
        rows: dict[str, list[Tensor]] = {name: [] for name in COMPARED}
        for (dy, dx), now in zip(SHIFTS, after, strict=True):
            for name, jump in jumps.items():
                along = moved(before[name], dy / jump, dx / jump)
                rows[name].append(consistency(before[name], now[name]))
                rows[f"{name} moved"].append(consistency(inner(along), inner(now[name])))
            rows["kept"].append(100 * (now["fc8"].argmax(1) == before["fc8"].argmax(1)).float())
        for name, values in rows.items():
            found[name].append(torch.stack(values).mean(0).cpu())
    return {name: torch.cat(values) for name, values in found.items()}


def inner(maps: Tensor) -> Tensor:
    """Maps without their outermost places."""
    return maps[..., 1:-1, 1:-1]


def shifts(study: Study) -> dict[str, Any]:
    """One-pixel shifts over the whole validation set, of both networks and as ours minus Krizhevsky's."""
    stored = study.dataset.val.shuffled(study.images, study.seed).images
    values = {arch: shifted(trained, stored) for arch, trained in study.networks.items()}
    found: dict[str, Any] = {arch: {name: summary(v) for name, v in own.items()} for arch, own in values.items()}
    ours, old = values["zfnet"], values["krizhevsky"]
    return found | {"more": {name: summary(ours[name] - old[name]) for name in ours}}


# --- pictures --------------------------------------------------------------------------------------------------------


def panel_maps(network: Network, seed: int, layer: str = "conv2", count: int = PANEL_MAPS) -> list[int]:
    """The random maps whose projections are shown."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(network.convs[layer].out_channels, generator=generator)[:count].sort().values.tolist()


def second_layer(trained: Trained, images: Tensor, maps: list[int], progress: bool = False) -> Tensor:
    """Top-9 projections of layer-2 maps over stored images. uint8 (N, 3, R, R) -> signed (M, 9, 3, F, F)."""
    network = trained.network
    batches = (trained.normalised(part) for part in images.split(32))
    top = gallery.top_units(network, batches, ["conv2"], progress=progress)["conv2"]
    return gallery.projections(network, lambda i: trained.normalised(images[i]), top, maps)


def pictures(trained: Trained, study: Study) -> dict[str, Any]:
    """Panels (d) and (e): a sheet of second-layer projections, nine for each map, as base64 JPEG."""
    maps = panel_maps(trained.network, study.seed)
    projected = second_layer(trained, study.dataset.val.images, maps)
    sheet = plots.blocks(plots.shown(projected), 5, gap=GAP)
    return {"maps": maps, "side": projected.shape[-1], "sheet": encoded(sheet)}


GAP = 4  # pixels between the blocks of a recorded sheet


def encoded(picture: Tensor) -> str:
    """A picture of 0 to 1, (3, H, W), as base64 JPEG."""
    file = io.BytesIO()
    Image.fromarray(plots.array((picture * 255).round().byte())).save(file, "JPEG", quality=80, optimize=True)
    return base64.b64encode(file.getvalue()).decode()


# --- runs ------------------------------------------------------------------------------------------------------------


def runs(study: Study) -> list[dict[str, Any]]:
    """The diagnosed runs: those of the record there is, whose weights may be long gone, and the ones given now."""
    try:
        before = records.read(f"architecture/{study.dataset.name}")
    except FileNotFoundError:
        before = {}
    kept = before.get("runs", []) if before.get("dataset", {}).get("fingerprint") == study.dataset.fingerprint else []
    rows = [*kept, *(diagnosed(run, study) for run in study.runs)]
    return list({(row["arch"], row["seed"], row["clip"]): row for row in rows}.values())


def diagnosed(run: Path, study: Study) -> dict[str, Any]:
    """What the paper's eye looked for, in numbers, of one finished `train`; of one without clipping its filters too."""
    record = records.read_json(run / "record.json")
    trained = load_weights(run / "weights.safetensors", device=study.device)
    if trained.recipe.dataset != study.dataset.name:
        raise ValueError(f"{run}: trained on {trained.recipe.dataset}, not on {study.dataset.name}; leave it out")
    network, recipe = trained.network, trained.recipe
    weight = network.convs["conv1"].weight.detach().cpu()
    val = study.dataset.val
    if recipe.image_size != study.dataset.image_size:  # small networks see smaller images than the shipped ones
        val = data.load(study.dataset.name, recipe.image_size, root=study.root, parts=("val",), progress=False).val
    stored = val.shuffled(DIAGNOSED, study.seed).images
    centre, _ = centroid_and_bandwidth(weight)
    own = stride_of(network)
    shift = shifted(trained, stored)
    rms = weight.square().mean((1, 2, 3)).sqrt()
    found = {
        "arch": recipe.arch, "seed": recipe.seed, "clip": recipe.clip, "command": record["command"],
        "weights_sha256": record["weights_sha256"], "multiply_adds": record["multiply_adds"],
        "top1_error": record["errors"]["one_crop"]["top1_error"],
        "top5_error": record["errors"]["one_crop"]["top5_error"],
        "dead": rounded(100 * filters.dead(weight, strongest(trained, stored)).any.float().mean()),
        "centroids": rounded_all(centre),
        "aliased": rounded(100 * aliased(network, trained.normalised(stored), (own,))[own].nanmean()),
        **{name: rounded(values.nanmean()) for name, values in shift.items()},
        "largest_rms": rounded(rms.max()), "median_rms": rounded(rms.median()),
    }  # fmt: skip
    if not recipe.clip:
        found["filters"] = [rounded_all(row, 3) for row in weight.flatten(1)]
    return found
