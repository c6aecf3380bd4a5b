"""Figures of the page on a network of one's own, and the list of what is supported."""

import re
from collections import Counter

import matplotlib
import torch
import torch.nn.functional as F
from IPython.display import HTML
from matplotlib.figure import Figure
from torch import Tensor

from zfrepro import page, plots, records, rules
from zfrepro.claims import Record
from zfrepro.gallery_page import Gallery


def strongest(made: Gallery) -> Figure:
    """Draw the four strongest projections of each map of a gallery above their patches."""
    columns = [
        (f"map {number}", projections[responds], patches[responds])
        for number, projections, patches, responds in zip(
            made.maps, made.projections, made.patches, made.top.responds(made.maps), strict=True
        )
    ]
    return plots.fig2(columns, 2)


def recorded(name: str = "squeezenet1_0") -> Figure:
    """Draw recorded projections of a pretrained network: six of a map in each of three layers."""
    record = records.read(f"own_network/{name}")
    sheets = [plots.from_jpeg(drawn["sheet"]) for drawn in record["maps"].values()]
    names = [f"{record['layers'][k]}, map {drawn['map']}" for k, drawn in record["maps"].items()]
    return plots.side_by_side(sheets, names)


def alike(name: str = "squeezenet1_0") -> HTML:
    """Show how well it knows our classes, and how alike its layers and our ZFNet's are."""
    record = records.read(f"own_network/{name}")
    words = {"unseen": "not in its training set", "seen": "from its own training set"}
    errors = " and ".join(
        f"{group['top1_error']:.1f} % of {group['n']:,} images {words[key]}"
        for key, group in record["accuracy"].items()
    )
    rows = [
        {"layer": record["layers"][layer]} | {key: f"{value:.2f}" for key, value in by_ours.items()}
        for layer, by_ours in record["cka"].items()
    ]
    caption = (
        "How alike the features of two layers are: linear CKA (1: equal) with our ZFNet's layers, "
        f"on the {record['unseen']} images not in its training set"
    )
    finding = page.finding(f"Asked for our 20 classes, it is wrong on {errors}.")
    return HTML(finding.data + page.table(rows, caption=caption).data)


def three_panels(view: Tensor, features: Tensor, heat: Tensor, name: str) -> Figure:
    """Draw an image, projections of its strongest features, and an occlusion map.

    Args:
        view: (3, S, S), 0 to 1.
        features: (N, 3, S, S), signed, N at most four.
        heat: (rows, columns), probability of a class while a square covers each place.
        name: of the class.
    """
    tile = F.interpolate(plots.display(features), 2 * plots.TILE, mode="bilinear", antialias=True)
    scaled = (heat - heat.min()) / (heat.max() - heat.min()).clamp_min(1e-12)
    colours = matplotlib.colormaps["magma"](scaled.numpy())
    picture = torch.tensor(colours[..., :3]).permute(2, 0, 1).float()
    picture = F.interpolate(picture[None], view.shape[-1], mode="nearest")[0]
    titles = [
        "image", f"its {len(features)} strongest features",
        f"P({name})\nwhile covered: {heat.min():.2f} to {heat.max():.2f}",
    ]  # fmt: skip
    return plots.side_by_side([view, plots.tiled(tile, 2, gap=4), picture], titles)


def counts(record: Record) -> dict[str, int]:
    """Return how many networks are handled, refused and wrong."""
    statuses = Counter(network["status"] for network in record["networks"])
    return {status: statuses[status] for status in ("handled", "refused", "wrong")}


def refusals(record: Record, most: int = 5) -> HTML:
    """Show which operation is the first without a rule in the networks that are refused."""
    operations: dict[str, list[str]] = {}
    for network in record["networks"]:
        if network["status"] == "refused":
            operation = re.split(r" in |:", network["reason"])[0]
            operations.setdefault(operation, []).append(network["name"])
    ordered = sorted(operations.items(), key=lambda item: -len(item[1]))
    shown, rest = ordered[:most], ordered[most:]
    if rest:
        shown.append((f"{len(rest)} other operations", sum((names for _, names in rest), [])))
    rows = [
        {"first operation without a rule": key, "networks": len(names), "such as": names[0]}
        for key, names in shown
    ]
    return page.table(rows, caption="Why networks are refused")


def support_list(record: Record) -> HTML:
    """Show every network that was tried, with the reason of a refusal or the difference from the
    oracle.
    """
    rows = [
        {
            "library": network["library"],
            "network": network["name"],
            "status": network["status"],
            "remark": network["reason"] or f"differs by {network['difference']:.0e}",
        }
        for network in record["networks"]
    ]
    rows.sort(key=lambda row: (row["status"], row["library"], row["network"]))
    return page.table(rows, caption="Classification networks and the deconvnet")


def layer_rules() -> HTML:
    """Show what the deconvnet does with each type of layer."""
    rows = [{"layer": rule.layers, "on the way down": rule.way_down} for rule in rules.LAYER_RULES]
    return page.table(rows, caption="What the deconvnet does with each type of layer")
