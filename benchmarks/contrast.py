"""Contrast norm, forward and backward, against torch's response norm."""

import functools
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.result import Check, Result, difference, faster
from benchmarks.timing import CPU, medians
from zfrepro.layers import NORM_ALPHA, NORM_BETA, NORM_K, NORM_SIZE, contrast_norm


def torch_norm(x: Tensor) -> Tensor:
    """Compute `contrast_norm` by torch."""
    return F.local_response_norm(x, NORM_SIZE, NORM_ALPHA, NORM_BETA, NORM_K)


def _both_ways(norm: Callable, x: Tensor, above: Tensor) -> tuple[Tensor, Tensor]:
    y = norm(x)
    return y.detach(), torch.autograd.grad(y, x, above)[0]


def run(quick: bool, device: torch.device = CPU) -> Iterator[Result]:
    """Compare on layer 1's pooled maps at 224 px, and on layer 2's."""
    batch, repeats = (2, 1) if quick else (16, 15)
    generator = torch.Generator().manual_seed(0)
    for layer, maps, size in (("conv1", 96, 55), ("conv2", 256, 13)):
        shape, last = (batch, maps, size, size), torch.channels_last
        x = (torch.rand(shape, generator=generator) * 50).to(device, memory_format=last)
        above = torch.randn(shape, generator=generator).to(device, memory_format=last)
        jobs = [
            functools.partial(_both_ways, norm, x.requires_grad_(), above)
            for norm in (contrast_norm, torch_norm)
        ]
        error = max(map(difference, *(job() for job in jobs)))
        seconds, rival_seconds = medians(jobs, repeats)
        check = Check("values and gradients", error, 1e-5)
        name = f"contrast norm of {layer}, {batch} images"
        yield faster(name, seconds, "F.local_response_norm", rival_seconds, (check,), 5)
