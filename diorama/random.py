"""Counter-based random numbers: a number depends on (seed, index, channel) and on nothing else.

There is no generator state, so picture 7,000 is drawn without the 6,999 before it, and a CPU and a GPU agree to
the last bit: everything up to the final division is integer arithmetic.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

MASK = 0xFFFFFFFF


def mix(x: Tensor) -> Tensor:
    """A 32-bit finaliser, done in int64. Both multipliers are below 2**31, so no product overflows.

    Args:
        x: int64 of any shape, values in [0, 2**32).
    """
    x = ((x ^ (x >> 16)) * 0x21F0AAAD) & MASK
    x = ((x ^ (x >> 15)) * 0x735A2D97) & MASK
    return x ^ (x >> 15)


def hashed(seed: int, index: Tensor, channel: Tensor) -> Tensor:
    """32-bit hash of (seed, index, channel), broadcast over the last two.

    The index is folded in as two 32-bit halves so that indices beyond 2**32 stay distinct.
    """
    start = mix(torch.full_like(index, (seed ^ (seed >> 32)) & MASK) ^ 0x5BD1E995)
    state = mix((start + (index & MASK) * 0x1B873593) & MASK)
    state = mix((state ^ ((index >> 32) & MASK)) & MASK)
    return mix((state + channel * 0x3C6EF372 + 0x1234567) & MASK)


def uniform(seed: int, index: Tensor, channels: int, start: int = 0) -> Tensor:
    """Uniform float32 numbers in [0, 1), shape (len(index), channels)."""
    channel = torch.arange(start, start + channels, device=index.device)
    return (hashed(seed, index[:, None], channel[None]) >> 8).float() / 2**24


class Draws:
    """Hands out the columns of a table of uniform numbers, one row an image, in the order the code asks for them.

    Args:
        table: float32 (n, channels) in [0, 1).
    """

    def __init__(self, table: Tensor) -> None:
        self.table = table
        self.cursor = 0

    def __len__(self) -> int:
        return self.table.shape[0]

    def rows(self, rows: Tensor) -> Draws:
        """A fresh reader of some of the images."""
        return Draws(self.table[rows])

    def unit(self, count: int) -> Tensor:
        """(n, count) uniform in [0, 1)."""
        if self.cursor + count > self.table.shape[1]:
            raise RuntimeError("a recipe draws more random numbers than its table holds: make the table wider")
        self.cursor += count
        return self.table[:, self.cursor - count : self.cursor]

    def between(self, low: float, high: float) -> Tensor:
        """(n,) uniform in [low, high)."""
        return low + (high - low) * self.unit(1)[:, 0]

    def log_between(self, low: float, high: float) -> Tensor:
        """(n,) log-uniform in [low, high)."""
        return torch.exp(self.between(math.log(low), math.log(high)))

    def bell(self, low: float, high: float) -> Tensor:
        """(n,) in [low, high), more often in the middle (mean of three uniforms)."""
        return low + (high - low) * self.unit(3).mean(1)

    def chance(self, probability: float) -> Tensor:
        """(n,) bool, true with the given probability."""
        return self.unit(1)[:, 0] < probability

    def sign(self) -> Tensor:
        """(n,) of -1 or +1."""
        return torch.where(self.chance(0.5), 1.0, -1.0)

    def integer(self, count: int) -> Tensor:
        """(n,) int64 in [0, count)."""
        return (self.unit(1)[:, 0] * count).long().clamp_(max=count - 1)

    def choice(self, values: tuple[float, ...]) -> Tensor:
        """(n,) float32, each of `values` equally likely."""
        return torch.tensor(values, device=self.table.device)[self.integer(len(values))]
