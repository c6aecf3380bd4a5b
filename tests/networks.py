"""Small networks that several tests share."""

import torch
import torch.nn.functional as F
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


class Tutorial(nn.Module):
    """The commonest network: it flattens with `view`, which wants the channels first."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv1, self.conv2, self.full = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 3), nn.Linear(96, 5)

    def forward(self, x):
        x = torch.relu(self.conv2(torch.relu(self.conv1(x))))
        return self.full(x.view(x.size(0), -1))


class MapsLast(nn.Module):
    """Maps with their channels last, before and after a rectifier, as tokens and first."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.linear, self.relu = nn.Conv2d(3, 6, 3), nn.Linear(6, 6), nn.ReLU()
        self.tokens, self.maps = nn.Identity(), nn.Identity()

    def forward(self, x):
        x = self.relu(self.linear(F.relu(self.conv(x)).permute(0, 2, 3, 1)))
        self.tokens(x.flatten(1, 2))
        return self.maps(x.permute(0, 3, 1, 2))
