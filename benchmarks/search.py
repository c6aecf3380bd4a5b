"""The top-9 search against the forward pass alone, and the drawing of synthetic images."""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

import diorama
from benchmarks.result import Check, Result
from benchmarks.timing import CPU, medians
from benchmarks.training import random_zfnet
from zfrepro.gallery import top_units
from zfrepro.networks import Network


@torch.no_grad()
def largest_error(network: Network, images: Tensor) -> float:
    """Return the largest error against a sort: of values, and at the places named."""
    errors, maps = [], network.features(images, network.convs)
    for layer, top in top_units(network, [images], progress=False).items():
        output = maps[layer].cpu()
        expected = output.amax((2, 3)).topk(top.values.shape[1], dim=0).values.T
        at_place = output[top.images, torch.arange(len(output[0]))[:, None], top.rows, top.columns]
        errors += [top.values - expected, top.values - at_place]
    return max(error.abs().max().item() for error in errors)


def search(quick: bool, device: torch.device = CPU) -> Iterator[Result]:
    """The top-9 search of five layers at 128 px against the forward pass that it needs."""
    repeats, count = (1, 2) if quick else (9, 32)
    network, generator = random_zfnet(128)
    network = network.to(device, memory_format=torch.channels_last)
    images = torch.randn((count * 16, 3, 128, 128), generator=generator)
    batches = images.to(device, memory_format=torch.channels_last).split(16)

    @torch.no_grad()
    def forward() -> None:
        for batch in batches:
            network.features(batch, ["conv5"])

    check = Check("values and places", largest_error(network, batches[0]), 1e-5)
    ours = partial(top_units, network, batches, progress=False)
    seconds, alone = medians([ours, forward], repeats, at_least=0)
    yield Result(
        f"top-9 search, 5 layers, {len(images)} images", seconds / len(images), seconds / alone,
        (check,), "forward pass alone", alone / len(images), 1.15, at_most=True, unit="x its time",
    )  # fmt: skip


def drawing(quick: bool, device: torch.device = CPU) -> Iterator[Result]:
    """Synthetic images with their masks at 128 px, nothing cached, on the CPU in any case."""
    repeats, count = (1, 16) if quick else (7, 512)
    draw = partial(diorama.split, count, size=128, progress=False)
    whole, chosen = draw(), [0, count // 2, count - 1]
    alone = [diorama.draw([i], size=128) for i in chosen]
    images = torch.cat([one.images for one in alone]).int() - whole["images"][chosen].int()
    masks = torch.cat([one.mask for one in alone]) != whole["mask"][chosen]
    checks = (
        Check("the same one by one, grey levels", images.abs().max().item(), 0),
        Check("masks", masks.float().mean().item(), 0),
    )
    (seconds,) = medians([draw], repeats, at_least=0)
    name = f"synthetic images, 128 px, {count}"
    yield Result(name, seconds / count, count / seconds, checks, goal=300, unit="images/s")
