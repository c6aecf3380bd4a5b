"""Synthetic images drawn in a second."""

from collections.abc import Iterator
from functools import partial

import torch

import diorama
from benchmarks.result import Check, Result
from benchmarks.timing import CPU, medians


def run(quick: bool, device: torch.device = CPU) -> Iterator[Result]:
    """Draw images with their masks at 128 px, nothing cached, on the CPU whatever the device."""
    repeats, count = (1, 16) if quick else (3, 512)
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
