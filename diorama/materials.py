"""Surfaces: two colours, the solid pattern that mixes them, grain, fur and shine.

A material is a row of M numbers; `COLUMN` says which is which. The pattern lives in the texture space of the object
(cycles of the pattern a unit), so it runs on from body to leg as if carved from one block.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .random import Draws

PLAIN, STRIPES, SPOTS, CHECKS, BLOTCHES, WOOD = range(6)
PATTERN_NAMES = ("plain", "stripes", "spots", "checks", "blotches", "wood")
NAMES = (
    "red",
    "green",
    "blue",  # first colour, display values in [0, 1]
    "red2",
    "green2",
    "blue2",  # second colour
    "pattern",
    "sharpness",
    "threshold",
    "warp",  # how the pattern mixes the two
    "grain",
    "fur",  # fine and hair-like variation of brightness
    "shine",
    "gloss",  # strength and log2 exponent of the highlight
)
COLUMN = {name: number for number, name in enumerate(NAMES)}
M = len(NAMES)


def color(d: Draws) -> Tensor:
    """(n, 3) display colours in [0, 1]: mostly dull, dark to light, often earthen, sometimes green or blue, now and
    then any hue. One law for every class, table and backdrop.
    """
    u = d.unit(3)
    which, along = u[:, 0], u[:, 1]
    hue = along  # of any colour
    for limit, low, high in ((0.8, 0.53, 0.67), (0.64, 0.2, 0.4), (0.46, 0.02, 0.14)):
        hue = torch.where(which < limit, low + (high - low) * along, hue)
    saturation = d.unit(2).amin(1) * 0.85 + 0.02
    value = 0.16 + 0.82 * u[:, 2]
    wheel = (hue[:, None] + hue.new_tensor([0.0, 2 / 3, 1 / 3])) * 6
    pure = ((wheel % 6 - 3).abs() - 1).clamp(0, 1)
    return value[:, None] * (1 - saturation[:, None] * (1 - pure))


def contrasting(d: Draws, first: Tensor) -> Tensor:
    """(n, 3) second colours that differ from the first in brightness by at least a quarter of the scale."""
    second = color(d)
    level, other = first.mean(1, keepdim=True), second.mean(1, keepdim=True)
    darker = level * d.between(0.12, 0.5)[:, None]
    lighter = level + (0.96 - level) * d.between(0.6, 1.0)[:, None]
    wanted = torch.where(level > 0.45, darker, lighter)
    return (second * (wanted / other.clamp(min=0.05))).clamp(0.02, 0.98)


def material(d: Draws, first: Tensor, second: Tensor, pattern: Tensor) -> Tensor:
    """(n, M) rows with the given colours (n, 3) and patterns int64 (n,), the rest drawn."""
    soft = d.log_between(1.2, 9)
    warp = d.between(0.0, 0.4) * torch.where(pattern == STRIPES, 0.55, 1.0)
    balance = d.between(-0.35, 0.35)
    threshold = torch.where(pattern == SPOTS, balance * 0.5 + 0.55, balance)
    columns = [
        *first.unbind(1),
        *second.unbind(1),
        pattern.float(),
        soft,
        threshold,
        warp,
        d.between(0.0, 0.16),
        d.between(0.0, 1.0) ** 2 * 0.45,
        d.between(0.0, 1.0) ** 2 * 0.8,
        d.between(2.5, 7),
    ]
    return torch.stack(columns, 1)


def smooth(d: Draws, first: Tensor, shine: float = 0.3, gloss: float = 5.0) -> Tensor:
    """(n, M) rows without pattern or fur: glass, eyes, tyres."""
    row = first.new_zeros(len(first), M)
    row[:, :3] = row[:, 3:6] = first
    row[:, COLUMN["sharpness"]] = 1
    row[:, COLUMN["grain"]] = d.between(0.0, 0.08)
    row[:, COLUMN["shine"]] = shine
    row[:, COLUMN["gloss"]] = gloss
    return row


def orientation(d: Draws, spread: float = 0.5) -> Tensor:
    """(n, 3, 3) rotations near the identity (three small Euler angles), so a pattern is never quite aligned."""
    ax, ay, az = ((d.unit(3) * 2 - 1) * spread).unbind(1)
    zero, one = torch.zeros_like(ax), torch.ones_like(ax)

    def matrix(*entries: Tensor) -> Tensor:
        return torch.stack(entries, -1).unflatten(-1, (3, 3))

    rx = matrix(one, zero, zero, zero, ax.cos(), -ax.sin(), zero, ax.sin(), ax.cos())
    ry = matrix(ay.cos(), zero, ay.sin(), zero, one, zero, -ay.sin(), zero, ay.cos())
    rz = matrix(az.cos(), -az.sin(), zero, az.sin(), az.cos(), zero, zero, zero, one)
    return rx @ ry @ rz


def paint(row: tuple[Tensor, ...], x: Tensor, y: Tensor, z: Tensor, coarse: Tensor, fine: Tensor):
    """Colour of surface points.

    Args:
        row: M tensors (n,), the points' materials, in the order of NAMES.
        x, y, z: (n,) texture coordinates.
        coarse, fine: (n,) noise of unit variance, at the pattern's scale and finer.

    Returns:
        red, green, blue (n,), linear light in [0, 1].
    """
    pattern, sharpness, threshold, warp = row[6:10]
    bend = warp * coarse
    turn = 2 * math.pi
    cx, cy, cz = ((axis + bend) * turn for axis in (x, y, z))
    # Cylinders about y for wood, planes across z for stripes: one cosine serves both.
    rings = torch.where(pattern == WOOD, ((x * x + y * y).sqrt() * 2.0 + bend) * turn, cz)
    cx, cy, rings = cx.cos(), cy.cos(), rings.cos()
    field = torch.where(pattern == SPOTS, (cx + cy + rings) * 0.5, rings)
    field = torch.where(pattern == CHECKS, (cx * cy * rings) * 3.0, field)
    field = torch.where(pattern == BLOTCHES, coarse, field)
    amount = (0.5 + sharpness * (field - threshold)).clamp(0, 1)
    amount = torch.where(pattern == PLAIN, 0.0, amount)
    bright = (1 + (row[10] + row[11]) * fine).clamp(0.25, 1.8)
    return tuple((((row[k] + (row[k + 3] - row[k]) * amount) * bright).clamp(0, 1)) ** 2 for k in range(3))
