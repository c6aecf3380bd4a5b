"""Projections, on crops and of whole images, against `captum.attr.NeuronDeconvolution`.

Captum gets the network up to the probed layer only, spelled with modules and without contrast norm (whose gradient it
would take), a unit of its own for each image, and the batch size that suits it best.
"""

import warnings
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from benchmarks.result import Check, Result, difference, faster
from benchmarks.timing import medians
from zfrepro import deconvnet
from zfrepro.deconvnet import Units
from zfrepro.networks import Network, as_modules, build, initialise_, without_norm, zfnet

GOALS = {"conv1": 500, "conv2": 100, "conv3": 12, "conv4": None, "conv5": None}
SHARED_GOAL = 5  # of conv5, where units share images; else the forward pass is most of its time


def responding(activations: Tensor, generator: torch.Generator) -> Units:
    """One unit an image, drawn from all that respond, those at the border included. activations: (B, C, H, W)."""
    flat = torch.multinomial((activations > 0).flatten(1).float(), 1, generator=generator)[:, 0]
    _, _, height, width = activations.shape
    return Units(flat // (height * width), flat % (height * width) // width, flat % width)


def captum_projections(model: nn.Sequential, images: Tensor, units: Units, batch: int) -> Tensor:
    """Captum's pictures, seeded with 1. Its units are given by a function, which lets each image have its own."""
    from captum.attr import NeuronDeconvolution

    attribution = NeuronDeconvolution(model, model[-1])
    found = []
    for start in range(0, len(images), batch):
        part = units[slice(start, start + batch)]
        rows = torch.arange(len(part))
        found.append(
            attribution.attribute(
                images[start : start + batch].requires_grad_(),
                lambda maps, u=part, r=rows: maps[r, u.maps, u.rows, u.columns],
            ).detach()
        )
    return torch.cat(found)


def _shared(network: Network, images: Tensor, layer: str, repeats: int, each: int) -> Result:
    """Compare `each` units of every image: ours share its forward pass, Captum's cannot."""
    model, of = as_modules(network, layer), torch.arange(len(images)).repeat_interleave(each)
    with torch.no_grad():
        activations = network.features(images, [layer])[layer][of]
    units = responding(activations, torch.Generator().manual_seed(2))
    seeds = activations[torch.arange(len(units)), units.maps, units.rows, units.columns]
    expected = captum_projections(model, images[of], units, len(units)) * seeds[:, None, None, None]

    def project() -> deconvnet.Projections:
        return deconvnet.project_crops(network, images, layer, units, of)

    found = project()
    cut = deconvnet.crop(expected, found.tops, found.lefts, found.pixels.shape[-1])
    checks = (Check("pictures", difference(found.pixels, cut), 1e-4),)
    sizes = (1, 4, len(units))
    ours, *captum = medians(
        [
            project,
            *(lambda b=b: captum_projections(model, images[of], units, b) for b in sizes),
        ],
        repeats,
    )
    rival = f"Captum, batches of {sizes[captum.index(min(captum))]}"
    name, n = f"projection of {layer}, on crops, {each} units an image", len(units)
    return faster(name, ours / n, rival, min(captum) / n, checks, SHARED_GOAL)


def _compare(
    network: Network, images: Tensor, layer: str, repeats: int, sizes: tuple[int, ...]
) -> Iterator[Result]:
    model = as_modules(network, layer)
    with torch.no_grad():
        activations = network.features(images, [layer])[layer]
    units = responding(activations, torch.Generator().manual_seed(1))
    seeds = activations[torch.arange(len(units)), units.maps, units.rows, units.columns]
    expected = captum_projections(model, images, units, len(units)) * seeds[:, None, None, None]

    small = deconvnet.project_crops(network, images, layer, units)
    side = small.pixels.shape[-1]
    on_crops = difference(small.pixels, deconvnet.crop(expected, small.tops, small.lefts, side))
    whole = difference(deconvnet.project(network, images, layer, units), expected)

    def on_small_ones() -> None:
        deconvnet.project_crops(network, images, layer, units)

    ours, explicit, *captum = medians(
        [
            on_small_ones,
            lambda: deconvnet.project(network, images, layer, units),
            *(lambda b=b: captum_projections(model, images, units, b) for b in sizes),
        ],
        repeats,
    )
    best = min(captum)
    rival = f"Captum, batches of {sizes[captum.index(best)]}"
    n = len(units)
    checks = (Check("pictures", on_crops, 1e-4),)
    name = f"projection of {layer}, on crops"
    yield faster(name, ours / n, rival, best / n, checks, GOALS[layer], work=on_small_ones)
    checks = (Check("pictures", whole, 1e-4),)
    yield faster(f"projection of {layer}, whole image", explicit / n, rival, best / n, checks)


def run(quick: bool) -> Iterator[Result]:
    """conv1 to conv5 of the full-width ZFNet at 224 px, sixteen units at once (two in a quick run)."""
    repeats, sizes = (1, (2,)) if quick else (5, (1, 4, 16))
    generator = torch.Generator().manual_seed(0)
    network = build(zfnet().with_units(8), 224, 10).eval()
    network = without_norm(initialise_(network, "modern", generator)).requires_grad_(False)
    images = torch.randn((max(sizes), 3, 224, 224), generator=generator)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Setting backward hooks on ReLU")
        for layer in network.convs:
            yield from _compare(network, images, layer, repeats, sizes)
        few = images[: 1 if quick else 2]
        yield _shared(network, few, "conv5", repeats, each=2 if quick else 8)
