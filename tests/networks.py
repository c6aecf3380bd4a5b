"""Small networks that several tests share."""

import torch
from torch import nn

from zfrepro.networks import Architecture, Network, build


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    """Largest difference in units of the largest value of b."""
    return ((a - b).abs().max() / b.abs().max().clamp_min(1e-30)).item()


def small(architecture: Architecture, size: int = 96, seed: int = 0) -> Network:
    """An eighth of the width, weights and biases from a seed, large enough for units to respond."""
    network = build(architecture.with_width(0.125).with_units(32), size, 10).eval()
    torch.manual_seed(seed)
    for layer in (*network.convs.values(), *network.fulls.values()):
        nn.init.kaiming_normal_(layer.weight)
        nn.init.normal_(layer.bias, std=0.1)
    return network
