"""Rotations (..., 3, 3) and affine maps (..., 3, 4), whose last column is the offset."""

from functools import partial

import torch
from torch import Tensor


def affine(linear: Tensor, offset: Tensor) -> Tensor:
    """Join linear maps (..., 3, 3) and offsets (..., 3)."""
    return torch.cat([linear, offset[..., None]], -1)


def compose(outer: Tensor, inner: Tensor) -> Tensor:
    """Return the maps that apply first `inner`, then `outer`."""
    offset = outer[..., :3] @ inner[..., 3:] + outer[..., 3:]
    return torch.cat([outer[..., :3] @ inner[..., :3], offset], -1)


def inverse(maps: Tensor) -> Tensor:
    """Invert by cofactors: quicker and steadier than a general solver for 3x3."""
    x, y, z = maps[..., 0], maps[..., 1], maps[..., 2]
    rows = torch.stack([torch.cross(y, z, -1), torch.cross(z, x, -1), torch.cross(x, y, -1)], -2)
    determinant = (rows[..., 0, :] * x).sum(-1)[..., None, None]
    linear = rows / torch.where(determinant.abs() < 1e-20, 1e-20, determinant)
    return torch.cat([linear, -linear @ maps[..., 3:]], -1)


def apply(maps: Tensor, points: Tensor) -> Tensor:
    """Map points (..., 3)."""
    return (maps[..., :3] @ points[..., None] + maps[..., 3:])[..., 0]


def rotate(axis: int, radians: Tensor) -> Tensor:
    """Rotate about x, y or z (0 to 2); positive takes the axis after it towards the one before."""
    after, before = (axis + 1) % 3, (axis + 2) % 3
    turn = torch.eye(3, device=radians.device).repeat(*radians.shape, 1, 1)
    turn[..., after, after] = turn[..., before, before] = radians.cos()
    turn[..., before, after] = radians.sin()
    turn[..., after, before] = -radians.sin()
    return turn


rotate_x, rotate_y, rotate_z = (partial(rotate, axis) for axis in range(3))
