"""Rotations (..., 3, 3) and affine maps (..., 3, 4), whose last column is the offset."""

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


def rotate_x(radians: Tensor) -> Tensor:
    """Rotate about x; positive takes +y towards +z."""
    c, s, zero, one = _parts(radians)
    return _matrix(one, zero, zero, zero, c, -s, zero, s, c)


def rotate_y(radians: Tensor) -> Tensor:
    """Rotate about y, the vertical; positive takes +z towards +x."""
    c, s, zero, one = _parts(radians)
    return _matrix(c, zero, s, zero, one, zero, -s, zero, c)


def rotate_z(radians: Tensor) -> Tensor:
    """Rotate about z; positive takes +x towards +y."""
    c, s, zero, one = _parts(radians)
    return _matrix(c, -s, zero, s, c, zero, zero, zero, one)


def _parts(radians: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return radians.cos(), radians.sin(), torch.zeros_like(radians), torch.ones_like(radians)


def _matrix(*entries: Tensor) -> Tensor:
    return torch.stack(entries, -1).unflatten(-1, (3, 3))
