"""Surfaces: two colours, the solid pattern that mixes them, grain, fur and shine.

A material is a row of M numbers; `COLUMN` says which is which. The pattern lives in the texture
space of the object (cycles of the pattern a unit), so it runs on from body to leg as if carved from
one block. Colours are display values (n, 3) in [0, 1].
"""

import math

import torch
from torch import Tensor

from .affine import rotate_x, rotate_y, rotate_z
from .random import Draws

PLAIN, STRIPES, SPOTS, CHECKS, BLOTCHES, WOOD = range(6)  # patterns
NAMES = (
    *("red", "green", "blue", "red2", "green2", "blue2"),  # the two colours
    *("pattern", "sharpness", "threshold", "warp"),  # how the pattern mixes them
    *("grain", "fur"),  # fine and hair-like variation of brightness
    *("shine", "gloss"),  # strength and log2 exponent of the highlight
)
COLUMN = {name: number for number, name in enumerate(NAMES)}
M = len(NAMES)


def color(d: Draws) -> Tensor:
    """Draw colours: mostly dull, dark to light, often earthen, sometimes green or blue.

    Now and then any hue. One distribution for every class, table and backdrop.
    """
    which, along, light = d.unit(3).unbind(1)
    hue = along  # of any colour
    for limit, low, high in ((0.8, 0.53, 0.67), (0.64, 0.2, 0.4), (0.46, 0.02, 0.14)):
        hue = torch.where(which < limit, low + (high - low) * along, hue)
    saturation = d.unit(2).amin(1) * 0.85 + 0.02
    value = 0.16 + 0.82 * light
    wheel = (hue[:, None] + hue.new_tensor([0.0, 2 / 3, 1 / 3])) * 6
    pure = ((wheel % 6 - 3).abs() - 1).clamp(0, 1)
    return value[:, None] * (1 - saturation[:, None] * (1 - pure))


def contrasting(d: Draws, first: Tensor) -> Tensor:
    """Draw second colours that differ from the first in brightness by a quarter of the scale."""
    second = color(d)
    level, other = first.mean(1, keepdim=True), second.mean(1, keepdim=True)
    darker = level * d.between(0.12, 0.5)[:, None]
    lighter = level + (0.96 - level) * d.between(0.6, 1.0)[:, None]
    wanted = torch.where(level > 0.45, darker, lighter)
    return (second * (wanted / other.clamp(min=0.05))).clamp(0.02, 0.98)


def material(d: Draws, first: Tensor, second: Tensor, pattern: Tensor) -> Tensor:
    """Draw materials (n, M) of two colours and a pattern, int64 (n,)."""
    sharpness = d.log_between(1.2, 9)
    warp = d.between(0.0, 0.4) * torch.where(pattern == STRIPES, 0.55, 1.0)
    balance, grain, fur, shine, gloss = d.ranges(
        (-0.35, 0.35), (0.0, 0.16), (0.0, 1.0), (0.0, 1.0), (2.5, 7)
    )
    threshold = torch.where(pattern == SPOTS, balance * 0.5 + 0.55, balance)
    fur, shine = fur**2 * 0.45, shine**2 * 0.8
    numbers = (pattern.float(), sharpness, threshold, warp, grain, fur, shine, gloss)
    return torch.cat([first, second, torch.stack(numbers, 1)], 1)


def smooth(d: Draws, first: Tensor, shine: float, gloss: float) -> Tensor:
    """Draw materials (n, M) without pattern or fur: glass, eyes, tyres."""
    row = first.new_zeros(len(first), M)
    row[:, :3] = row[:, 3:6] = first
    row[:, COLUMN["sharpness"]] = 1
    row[:, COLUMN["grain"]] = d.between(0.0, 0.08)
    row[:, COLUMN["shine"]] = shine
    row[:, COLUMN["gloss"]] = gloss
    return row


def orientation(d: Draws) -> Tensor:
    """Draw rotations (n, 3, 3) near the identity, so that a pattern is never quite aligned."""
    x, y, z = ((d.unit(3) * 2 - 1) * 0.35).unbind(1)
    return rotate_x(x) @ rotate_y(y) @ rotate_z(z)


def albedo(
    row: Tensor, x: Tensor, y: Tensor, z: Tensor, coarse: Tensor, fine: Tensor
) -> list[Tensor]:
    """Return the colour of surface points.

    Args:
        row: (M, n), the points' materials.
        x, y, z: (n,), texture coordinates.
        coarse, fine: (n,), noise of unit variance, at the pattern's scale and finer.

    Returns:
        red, green, blue (n,), linear light in [0, 1].
    """
    first, second = row[:3], row[3:6]
    pattern, sharpness, threshold, warp, grain, fur = row[6:12]
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
    bright = (1 + (grain + fur) * fine).clamp(0.25, 1.8)
    mixed = [a + (b - a) * amount for a, b in zip(first, second, strict=True)]
    return [(channel * bright).clamp(0, 1) ** 2 for channel in mixed]
