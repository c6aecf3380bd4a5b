"""The linear model of Kindermans et al. (2018): a filter does not look like its signal.

Data are x = y signal + e distractor, with label y and an amount e that has nothing to do with y.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Toy:
    """Pictures of a linear model, (side, side) each."""

    signal: Tensor
    distractor: Tensor
    filter: Tensor  # the weights of least squares
    pattern: Tensor  # cov(x, y) / var(y), which recovers the signal


def fit_toy(angle: float) -> Toy:
    """Fit y from 2,000 pictures, with a bar as the signal and a grating as the distractor.

    angle: cosine between signal and distractor, 0 to below 1.
    """
    side, generator = 12, torch.Generator().manual_seed(0)
    place = torch.linspace(-1, 1, side)
    signal = F.normalize(torch.exp(-((place / 0.25) ** 2)).expand(side, side).flatten(), dim=0)
    grating = torch.sin(6 * (place[:, None] + place)).flatten()
    across = F.normalize(grating - (grating @ signal) * signal, dim=0)
    distractor = angle * signal + (1 - angle**2) ** 0.5 * across
    y, e = torch.randn(2, 2000, generator=generator, dtype=torch.float64)
    x = y[:, None] * signal.double() + e[:, None] * distractor.double()
    weights = torch.linalg.pinv(x, rtol=1e-6) @ y  # of smallest norm: the data lie in a plane
    pattern = ((x - x.mean(0)).T @ (y - y.mean())) / len(y) / y.var()
    return Toy(*(t.float().view(side, side) for t in (signal, distractor, weights, pattern)))


def cosine(a: Tensor, b: Tensor) -> float:
    """Return the cosine of two pictures."""
    return F.cosine_similarity(a.flatten(), b.flatten(), dim=0).item()
