"""Projections, each at the size of its receptive field, against `captum.attr.NeuronDeconvolution`.

Captum gets the network up to the probed layer only, spelled with modules and without contrast norm
(whose gradient it would take), a unit of its own for each image, and the batch size that suits it
best.
"""

import warnings
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.result import Check, Result, difference, faster
from benchmarks.timing import CPU, medians
from zfrepro import deconvnet
from zfrepro.deconvnet import Units
from zfrepro.networks import Network, as_modules, build, initialise_, without_norm, zfnet

GOALS = {"conv1": 500, "conv2": 100, "conv3": 12, "conv4": None, "conv5": None}
SHARED_GOAL = 5  # of conv5, where units share images; else the forward pass is most of its time


def responding(activations: Tensor, generator: torch.Generator) -> Units:
    """Draw one unit an image from all that respond, those at the border included.

    activations: (B, C, H, W).
    """
    flat = torch.multinomial((activations > 0).flatten(1).float(), 1, generator=generator)[:, 0]
    return Units(*torch.unravel_index(flat, activations.shape[1:]))


def captum_projections(model: nn.Sequential, images: Tensor, units: Units, batch: int) -> Tensor:
    """Return Captum's pictures, seeded with 1. A function gives each image a unit of its own."""
    from captum.attr import NeuronDeconvolution

    attribution, pictures = NeuronDeconvolution(model, model[-1]), []
    for start in range(0, len(images), batch):
        part = units[slice(start, start + batch)]

        def pick(maps: Tensor, part: Units = part) -> Tensor:
            return maps[torch.arange(len(part)), part.maps, part.rows, part.columns]

        inputs = images[start : start + batch].requires_grad_()
        pictures.append(attribution.attribute(inputs, pick).detach())
    return torch.cat(pictures)


def compare(
    network: Network, images: Tensor, layer: str, sizes: tuple[int, ...], repeats: int,
    goal: float | None, each: int = 1,
) -> Result:  # fmt: skip
    """Compare `each` units of every image: ours share its forward pass, Captum's cannot."""
    model = as_modules(network, layer)
    of = torch.arange(len(images), device=images.device).repeat_interleave(each)
    with torch.no_grad():
        activations = network.features(images, [layer])[layer][of]
    units = responding(activations, torch.Generator(images.device).manual_seed(1))
    seeds = activations[torch.arange(len(units)), units.maps, units.rows, units.columns]
    whole = captum_projections(model, images[of], units, len(units)) * seeds[:, None, None, None]
    project = partial(deconvnet.project_crops, network, images, layer, units, of)
    ours = project()
    expected = deconvnet.crop(whole, ours.tops, ours.lefts, ours.pixels.shape[-1])
    loops = [partial(captum_projections, model, images[of], units, size) for size in sizes]
    seconds, *captum = medians([project, *loops], repeats)
    best, number = min(captum), len(units)
    return faster(
        f"projection of {layer}" + (f", {each} units an image" if each > 1 else ""),
        seconds / number,
        f"Captum, batches of {sizes[captum.index(best)]}",
        best / number,
        (Check("pictures", difference(ours.pixels, expected), 1e-4),),
        goal,
    )


def run(quick: bool, device: torch.device = CPU) -> Iterator[Result]:
    """Compare on conv1 to conv5 of the full-width ZFNet at 224 px, sixteen units at once."""
    repeats, sizes, each = (1, (2,), 2) if quick else (7, (1, 4, 16), 8)
    generator = torch.Generator().manual_seed(0)
    network = build(zfnet().with_units(8), 224, 10).eval()
    network = without_norm(initialise_(network, "modern", generator)).requires_grad_(False)
    network = network.to(device)
    images = torch.randn((max(sizes), 3, 224, 224), generator=generator).to(device)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Setting backward hooks on ReLU")
        for layer, goal in GOALS.items():
            yield compare(network, images, layer, sizes, repeats, goal)
        yield compare(network, images[:2], "conv5", sizes, repeats, SHARED_GOAL, each)
