"""Nine units of one image in a network of torchvision's, against Captum one unit after another."""

import warnings
from collections.abc import Iterator

import torch
import torchvision
from torch import Tensor, nn

from benchmarks.result import Check, Result, difference, faster
from benchmarks.timing import CPU, medians
from zfrepro import rules

UNITS, LAYER, GOAL = 9, "layer3", 2.2


def captum_in_a_loop(model: nn.Module, image: Tensor, units: list[tuple[int, ...]]) -> Tensor:
    """Return Captum's pictures, seeded with 1: a forward pass and a backward pass for each unit."""
    from captum.attr import NeuronDeconvolution

    attribution = NeuronDeconvolution(model, model.get_submodule(LAYER))
    return torch.cat([attribution.attribute(image, unit) for unit in units]).detach()


def strongest_units(activations: Tensor, count: int) -> list[tuple[int, ...]]:
    """Return map, row and column of the strongest units of one image. activations: (1, C, H, W)."""
    flat = activations.flatten().topk(count).indices
    return [
        tuple(map(int, at))
        for at in torch.stack(torch.unravel_index(flat, activations[0].shape), 1)
    ]


def run(quick: bool, device: torch.device = CPU) -> Iterator[Result]:
    """Strongest units of resnet18's layer3 at 224 px (three of them at 96 px in a quick run)."""
    torch.manual_seed(0)
    model = torchvision.models.resnet18(weights=None).eval().to(device)
    image = torch.randn(1, 3, 96, 96) if quick else torch.randn(1, 3, 224, 224)
    image = image.to(device)
    units = strongest_units(rules.activations_of(model, image, LAYER), 3 if quick else UNITS)

    def together() -> Tensor:
        return rules.project(model, image, units, LAYER, of=[0] * len(units), seed="one")

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Setting backward hooks on ReLU")

        def one_by_one() -> Tensor:
            return captum_in_a_loop(model, image, units)

        checks = (Check("pictures", difference(together(), one_by_one()), 1e-4),)
        seconds, rival_seconds = medians([together, one_by_one], 1 if quick else 5)
    count = len(units)
    name = f"{count} units of one resnet18 image"
    yield faster(name, seconds / count, "Captum in a loop", rival_seconds / count, checks, GOAL)
