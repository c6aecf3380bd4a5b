"""Recorded: first-layer filters, what strides alias, one-pixel shifts, and the small networks."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from book.architecture import filters
from book.architecture.filters import aliased, consistency, stride_of, subpixel_shift
from zfrepro import data, gallery, plots, records
from zfrepro.data.transforms import crop
from zfrepro.measure import Parts, Study
from zfrepro.networks import Network
from zfrepro.stats import rounded, rounded_all, summary
from zfrepro.weights import Trained, load_weights

STRIDES = (2, 4)
SHIFTS = ((0, 1), (1, 0), (1, 1))  # pixels down and to the right
SHIFTED = ("conv1", "conv2")
COMPARED = ("conv1", "conv1 moved", "conv2", "conv2 moved", "kept")
IMAGES = 200  # whose layer-1 maps are analysed for aliasing
PANEL_MAPS = 15  # as in the published figure: five by three
COLUMNS, GAP = 5, 4  # of a recorded sheet: maps a row, pixels between them
REVISION = 2  # other first weights of the untrained control
MERGED = ("runs",)


def parts(study: Study) -> Parts:
    """Return the measurements of both pretrained networks, then of each run.

    Of a network that others trained, filters and aliasing alone: there is no second to compare.
    """
    both = study.networks
    measurements: Parts = {
        "filters": lambda: {arch: described(net, study) for arch, net in both.items()},
        "aliased": partial(aliasing, study),
    }
    if not study.adapted:
        measurements |= {
            "shifts": partial(shifts, study),
            "pictures": lambda: {arch: pictures(net, study) for arch, net in both.items()},
            "runs": partial(runs, study),
        }
    return measurements


def described(trained: Trained, study: Study) -> dict[str, Any]:
    """Return the centroid of every first-layer filter and whether it is dead."""
    weight = trained.network.first().weight.detach().cpu()
    batches = (trained.preprocess(part) for part in study.dataset.val.images.split(64))
    top = gallery.top_units(trained.network, batches, ["conv1"], k=1, progress=False)["conv1"]
    gone = filters.dead(weight, top.values[:, 0].cpu())
    return {
        "stride": stride_of(trained.network),
        "kernel": weight.shape[-1],
        "centroid": rounded_all(filters.centroid(weight)),
        "dead": {sense: which.int().tolist() for sense, which in gone.items()},
    }


def aliasing(study: Study) -> dict[str, Any]:
    """Return the share of layer 1's energy that each stride aliases on validation images, in %.

    `less` and `untrained` are Krizhevsky's at its own stride less ZFNet's at its own, of the
    trained networks and of untrained ones. Of a network that others trained, `untrained` is its
    own share before training.
    """
    images = study.dataset.val.shuffled(study.images or IMAGES, study.seed).images
    record: dict[str, Any] = {}
    after, before = {}, {}
    for arch, trained in study.networks.items():
        seen, stride = trained.preprocess(images), stride_of(trained.network)
        control = trained.untrained(study.seed).network
        shares = {s: 100 * share for s, share in aliased(trained.network, seen, STRIDES).items()}
        record[arch] = {str(s): summary(share) for s, share in shares.items()}
        after[arch], before[arch] = shares[stride], 100 * aliased(control, seen, (stride,))[stride]
    if study.adapted:
        return record | {"untrained": {arch: summary(v) for arch, v in before.items()}}
    differences = {"less": after, "untrained": before}
    return record | {name: summary(v["krizhevsky"] - v["zfnet"]) for name, v in differences.items()}


@torch.no_grad()
def shifted(trained: Trained, stored: Tensor) -> dict[str, Tensor]:
    """Return what a shift by one pixel changes in layers 1 and 2 and in the label.

    `conv1` correlates the maps as they are. `conv1 moved` first shifts the old maps by the
    pixel's share of a unit, which is exact without alias; a margin of one unit is left out.

    Args:
        stored: uint8 (N, 3, R, R), which leave the network's crop room to move.
    Returns:
        each of `COMPARED` -> (N,), means over the `SHIFTS`; `kept`, the same label, in %.
    """
    size, network = trained.image_size, trained.network
    offset = (stored.shape[-1] - size) // 2
    jumps = {name: network.fields(name).rows.jump for name in SHIFTED}
    by_measure: dict[str, list[Tensor]] = {name: [] for name in COMPARED}
    for part in stored.split(32):
        before, *after = (
            network.features(
                trained.preprocess_crop(crop(part, offset + dy, offset + dx, size)),
                [*SHIFTED, "fc8"],
            )
            for dy, dx in ((0, 0), *SHIFTS)
        )
        rows: dict[str, list[Tensor]] = {name: [] for name in COMPARED}
        for (dy, dx), now in zip(SHIFTS, after, strict=True):
            for name, jump in jumps.items():
                along = subpixel_shift(before[name], dy / jump, dx / jump)
                rows[name].append(consistency(before[name], now[name]))
                inner = (x[..., 1:-1, 1:-1] for x in (along, now[name]))
                rows[f"{name} moved"].append(consistency(*inner))
            same = now["fc8"].argmax(1) == before["fc8"].argmax(1)
            rows["kept"].append(100 * same.float())
        for name, values in rows.items():
            by_measure[name].append(torch.stack(values).mean(0).cpu())
    return {name: torch.cat(values) for name, values in by_measure.items()}


def shifts(study: Study) -> dict[str, Any]:
    """Return `shifted` of both networks over the validation set, and ZFNet less Krizhevsky's."""
    stored = study.dataset.val.shuffled(study.images, study.seed).images
    values = {arch: shifted(trained, stored) for arch, trained in study.networks.items()}
    values["more"] = {name: values["zfnet"][name] - values["krizhevsky"][name] for name in COMPARED}
    return {arch: {name: summary(v) for name, v in rows.items()} for arch, rows in values.items()}


# --- pictures ------------------------------------------------------------------------------------


def panel_maps(network: Network, seed: int) -> list[int]:
    """Return the random maps whose projections are shown."""
    count, generator = network.convs["conv2"].out_channels, torch.Generator().manual_seed(seed)
    return torch.randperm(count, generator=generator)[:PANEL_MAPS].sort().values.tolist()


def second_layer(trained: Trained, images: Tensor, maps: list[int]) -> Tensor:
    """Return the projections of layer-2 maps' nine strongest activations.

    uint8 (N, 3, R, R) -> signed (M, 9, 3, F, F).
    """
    network = trained.network
    batches = (trained.preprocess(part) for part in images.split(32))
    top = gallery.top_units(network, batches, ["conv2"], progress=False)["conv2"]
    return gallery.projections(network, lambda i: trained.preprocess(images[i]), top, maps)


def pictures(trained: Trained, study: Study) -> dict[str, Any]:
    """Return panel (d) or (e): second-layer projections, nine a map, as a base64 JPEG."""
    maps = panel_maps(trained.network, study.seed)
    projected = second_layer(trained, study.dataset.val.images, maps)
    sheet = plots.blocks(plots.display(projected), COLUMNS, gap=GAP)
    return {"maps": maps, "side": projected.shape[-1], "sheet": plots.as_jpeg(sheet)}


# --- runs ----------------------------------------------------------------------------------------


def runs(study: Study) -> list[dict[str, Any]]:
    """Return the runs of the record there is, whose weights may be gone, and those given now."""
    try:
        before = records.read(f"architecture/{study.dataset.name}")
    except FileNotFoundError:
        before = {}
    same = before.get("dataset", {}).get("fingerprint") == study.dataset.fingerprint
    earlier = before.get("runs", []) if same else []
    rows = [*earlier, *(diagnosed(run, study) for run in study.runs)]
    return list({(row["arch"], row["seed"], row["clip"]): row for row in rows}.values())


def diagnosed(run: Path, study: Study) -> dict[str, Any]:
    """Return the aliased share and the error of a finished `train`; of ZFNet its filters too.

    Raises:
        ValueError: it was trained on other data.
    """
    record = records.read_json(run / "record.json")
    trained = load_weights(run / "weights.safetensors", device=study.device)
    recipe, name = trained.recipe, study.dataset.name
    if data.dataset_name(recipe.dataset) != name:
        raise ValueError(f"{run}: trained on {recipe.dataset}, not on {name}; leave it out")
    val = study.dataset.val
    if recipe.image_size != study.dataset.image_size:  # small networks see smaller images
        val = study.load(recipe.image_size, ("val",)).val
    seen = trained.preprocess(val.shuffled(IMAGES, study.seed).images)
    stride, weight = stride_of(trained.network), trained.network.convs["conv1"].weight.cpu()
    rms = weight.square().mean((1, 2, 3)).sqrt()
    row = {
        "arch": recipe.arch,
        "seed": recipe.seed,
        "clip": recipe.clip,
        "command": record["command"],
        "weights_sha256": record["weights_sha256"],
        "top1_error": record["errors"]["one_crop"]["top1_error"],
        "aliased": rounded(100 * aliased(trained.network, seen, (stride,))[stride].nanmean()),
        "largest_rms": rounded(rms.max()),
        "median_rms": rounded(rms.median()),
    }
    if recipe.arch == "zfnet":  # panel (a) and its twin
        row["filters"] = [rounded_all(values, 3) for values in weight.flatten(1)]
    return row
