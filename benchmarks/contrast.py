"""Contrast norm, forward and backward, against torch's response norm."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.result import Check, Result, difference, faster
from benchmarks.timing import medians
from zfrepro.layers import NORM_ALPHA, NORM_BETA, NORM_K, NORM_SIZE, contrast_norm


def torch_norm(x: Tensor) -> Tensor:
    """`contrast_norm` by torch."""
    return F.local_response_norm(x, NORM_SIZE, NORM_ALPHA, NORM_BETA, NORM_K)


def run(quick: bool) -> Iterator[Result]:
    """Layer 1's pooled maps at 224 px, and layer 2's."""
    batch, repeats = (2, 1) if quick else (16, 9)
    generator = torch.Generator().manual_seed(0)
    for layer, maps, size in (("conv1", 96, 55), ("conv2", 256, 13)):
        values = torch.rand((batch, maps, size, size), generator=generator) * 50
        values = values.contiguous(memory_format=torch.channels_last).requires_grad_()
        above = torch.randn(values.shape, generator=generator).contiguous(memory_format=torch.channels_last)

        def both(norm, x=values, signal=above) -> tuple[Tensor, Tensor]:
            y = norm(x)
            return y.detach(), torch.autograd.grad(y, x, signal)[0]

        error = max(difference(a, b) for a, b in zip(both(contrast_norm), both(torch_norm), strict=True))
        ours, theirs = medians([lambda b=both: b(contrast_norm), lambda b=both: b(torch_norm)], repeats)
        checks = (Check("values and gradients", error, 1e-5),)
        yield faster(f"contrast norm of {layer}, {batch} images", ours, "F.local_response_norm", theirs, checks, 5)
