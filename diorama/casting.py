"""Ray casting: which primitive each pixel shows, how far away it is, and where shadows lie.

The image is cut into tiles of 8 x 8 pixels. A primitive is intersected only with the tiles its
outline can touch, and only tiles that a shadow can reach are asked for shadows; all (primitive,
tile) pairs of a kind in a chunk of images go through one batch of small tensor operations. A ray's
direction in a primitive's unit space is linear in the pixel's column and row, so a pair costs no
matrix product a pixel.

Shapes: B images, P primitives, G tiles a side, N = 64 G^2 pixels in the order of the tiles.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from .affine import inverse
from .primitives import BOX, CONE, CYLINDER, ELLIPSOID, Components, enter
from .scene import Scene

TILE = 8
LANES = TILE * TILE
CASTERS = 5  # of the object's primitives, the largest throw shadows on the object itself
NEAR = 0.05  # the least depth that the camera sees
INFINITE = 0x7F800000  # the bits of float32 infinity


@dataclass(frozen=True)
class View:
    """One chunk of scenes, prepared for rays from the camera: directions are (B, P, 3)."""

    scene: Scene
    size: int
    grid: int  # tiles a side, G
    to_local: Tensor  # (B, P, 3, 4), from the world to unit space
    origin: Tensor  # the camera, in unit space
    ahead: Tensor  # its axes, in unit space
    across: Tensor
    upward: Tensor
    towards_light: Tensor
    u: Tensor  # (B, G * 8), columns as tangents
    v: Tensor  # (B, G * 8), rows as tangents


def prepare(scene: Scene, size: int) -> View:
    """Take the camera and the lamp to every primitive's unit space."""
    camera = scene.camera
    grid = -(-size // TILE)
    pixel = (torch.arange(grid * TILE, device=camera.eye.device) + 0.5) * (2 / size) - 1
    to_local = inverse(scene.primitives.to_world)
    tangent = 1 / camera.focal[:, None]

    def local(vector: Tensor) -> Tensor:
        return (to_local[..., :3] @ vector[:, None, :, None])[..., 0]

    return View(
        scene,
        size,
        grid,
        to_local,
        origin=local(camera.eye) + to_local[..., 3],
        ahead=local(camera.axes[:, 2]),
        across=local(camera.axes[:, 0]),
        upward=local(camera.axes[:, 1]),
        towards_light=local(scene.light.direction),
        u=(pixel - camera.shift[:, :1]) * tangent,
        v=(-pixel - camera.shift[:, 1:]) * tangent,
    )


def corners(scene: Scene) -> Tensor:
    """Return the world corners (B, P, 8, 3) of every primitive's unit cube."""
    to_world = scene.primitives.to_world
    signs = torch.tensor(list(product((-1.0, 1.0), repeat=3)), device=to_world.device)
    return signs @ to_world[..., :3].mT + to_world[..., None, :, 3]


def in_camera(scene: Scene, points: Tensor) -> Components:
    """Return right, up and depth of world points (B, ..., 3)."""
    flat = (points.flatten(1, -2) - scene.camera.eye[:, None]) @ scene.camera.axes.mT
    return flat.view(points.shape).unbind(-1)


def project(scene: Scene, x: Tensor, y: Tensor, depth: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Project camera-space points (B, ...) to pixels: column and row."""
    lead = [-1] + [1] * (x.ndim - 1)
    focal, shift = scene.camera.focal.view(lead), scene.camera.shift
    depth = depth.clamp(min=NEAR)
    right = x / depth * focal + shift[:, 0].view(lead)
    up = y / depth * focal + shift[:, 1].view(lead)
    return (right + 1) * (size / 2), (1 - up) * (size / 2)


def outlines(view: View, points: Tensor) -> Tensor:
    """Bound every primitive in the image: left, right, top, bottom (B, P, 4) in pixels."""
    scene, half = view.scene, view.size / 2
    loose = _box_of(view, points)
    # Ellipsoids: exactly, from their dual quadric, unless the camera is too near.
    to_world = scene.primitives.to_world
    linear = scene.camera.axes[:, None] @ to_world[..., :3]  # columns: half axes in camera space
    x, y, z = (part[..., None] for part in in_camera(scene, to_world[..., 3]))
    spread = linear @ linear.mT
    centre = torch.cat([x, y], -1)  # (B, P, 2)
    a = z * z - spread[..., 2, 2, None]
    b = centre * z - spread[..., :2, 2]
    c = centre * centre - spread.diagonal(dim1=-2, dim2=-1)[..., :2]
    root = (b * b - a * c).clamp(min=0).sqrt()
    focal, shift = scene.camera.focal[:, None, None], scene.camera.shift[:, None]
    low, high = ((b + sign * root) / a.clamp(min=1e-6) * focal + shift for sign in (-1, 1))
    exact = torch.stack([low[..., 0] + 1, high[..., 0] + 1, 1 - high[..., 1], 1 - low[..., 1]], -1)
    near = (a < 1e-3) | (z < NEAR)
    ellipsoid = (scene.primitives.kind == ELLIPSOID)[..., None]
    return torch.where(ellipsoid & ~near, exact * half, loose)


def _box_of(view: View, points: Tensor) -> Tensor:
    """Bound eight points in the image (B, P, 4); the whole image if one is behind the lens."""
    x, y, depth = in_camera(view.scene, points)
    px, py = project(view.scene, x, y, depth, view.size)
    bounds = torch.stack([px.amin(-1), px.amax(-1), py.amin(-1), py.amax(-1)], -1)
    behind = (depth < NEAR).any(-1, keepdim=True)
    return torch.where(behind, bounds.new_tensor([-1e6, 1e6, -1e6, 1e6]), bounds)


def touched(bounds: Tensor, grid: int) -> Tensor:
    """Return which tiles boxes (B, P, 4) in pixels touch: bool (B, P, G, G), rows and columns."""
    tile = torch.arange(grid, device=bounds.device) * TILE
    left, right, top, bottom = (edge[..., None] for edge in bounds.unbind(-1))
    columns = (left < tile + TILE) & (right > tile)
    rows = (top < tile + TILE) & (bottom > tile)
    return rows[..., :, None] & columns[..., None, :]


def _pairs(view: View, wanted: Tensor) -> Iterator[tuple[int, Tensor, Tensor, Components, Components, Tensor]]:
    """Gather the (primitive, tile) pairs of `wanted` (B, P, G, G), one kind after the other.

    Yields:
        kind; primitive (T,) in B * P; tile (T,) in B * G * G; origin, three (T, 1, 1), and
        directions, three (T, 8, 8), of the rays in unit space; taper (T, 1, 1).
    """
    batch, slots = wanted.shape[:2]
    kinds, tapers = view.scene.primitives.kind, view.scene.primitives.taper.flatten()
    us, vs = (tangents.view(batch * view.grid, TILE) for tangents in (view.u, view.v))
    groups = {ELLIPSOID: kinds == ELLIPSOID, BOX: kinds == BOX, CONE: kinds >= CYLINDER}
    for kind, mine in groups.items():
        image, slot, row, column = (wanted & mine[..., None, None]).nonzero(as_tuple=True)
        u = us.index_select(0, image * view.grid + column)[:, None, :]
        v = vs.index_select(0, image * view.grid + row)[:, :, None]
        chosen, tile = image * slots + slot, (image * view.grid + row) * view.grid + column
        axes = (_per_pair(values, chosen) for values in (view.ahead, view.across, view.upward))
        direction = tuple((a + u * b) + v * c for a, b, c in zip(*axes, strict=True))
        taper = tapers.index_select(0, chosen)[:, None, None]
        yield kind, chosen, tile, _per_pair(view.origin, chosen), direction, taper


def _per_pair(values: Tensor, chosen: Tensor) -> Components:
    """Return three (T, 1, 1) components of the chosen rows of (B, P, 3)."""
    return values.view(-1, 3).index_select(0, chosen).t().contiguous()[..., None, None].unbind(0)


def cast(view: View, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Find the nearest hits.

    Args:
        wanted: bool (B, P, G, G), which primitive to intersect with which tile.

    Returns:
        slot int64 (B, N), P where nothing was hit, and depth (B, N).
    """
    batch, slots = wanted.shape[:2]
    device = wanted.device
    lane = torch.arange(LANES, device=device).view(TILE, TILE)
    # A key has the bits of the depth, which sort as the depths do, above eight bits of slot.
    missed = INFINITE << 8
    keys = torch.full((batch * view.grid * view.grid * LANES,), missed | 0xFF, device=device)
    for kind, chosen, tile, origin, direction, taper in _pairs(view, wanted):
        depth = enter(kind, origin, direction, taper)
        key = (depth.view(torch.int32).long() << 8) + (chosen % slots)[:, None, None]
        place = (tile * LANES)[:, None, None] + lane
        keys.scatter_reduce_(0, place.flatten(), key.flatten(), "amin")
    slot = torch.where(keys < missed, keys & 0xFF, slots)
    return slot.view(batch, -1), (keys >> 8).int().view(torch.float32).view(batch, -1)


def shadow(view: View, wanted: Tensor, depth: Tensor) -> Tensor:
    """Return 1 where the lamp is hidden from the surface at `depth` (B, N), else 0; (B, N)."""
    dark = torch.zeros_like(depth).view(-1, LANES)
    depths = depth.view(-1, TILE, TILE)
    for kind, chosen, tile, origin, direction, taper in _pairs(view, wanted):
        t = depths.index_select(0, tile)
        surface = tuple(o + t * d for o, d in zip(origin, direction, strict=True))
        enters = enter(kind, surface, _per_pair(view.towards_light, chosen), taper)
        hidden = ((enters > 2e-3) & (enters < 50)).float().flatten(1)
        dark.index_add_(0, tile, hidden)  # small whole numbers: exact in any order
    return dark.clamp_(max=1).view_as(depth)


def shadow_pairs(view: View, points: Tensor, outline: Tensor, table: Tensor, object_: Tensor) -> Tensor:
    """Return which primitive may shade which tile: bool (B, P, G, G).

    Every primitive shades the table inside the outline of its own shadow; the object's largest ones
    also shade the object.

    Args:
        points, outline: of `corners` and `outlines`.
        table, object_: bool (B, G, G), tiles that show some of it.
    """
    p = view.scene.primitives
    light = view.scene.light.direction[:, None, None]
    bounds = _box_of(view, points - light * (points[..., 1:2] / light[..., 1:2]))
    bounds = bounds + bounds.new_tensor([-1.0, 1.0, -1.0, 1.0])
    wanted = touched(bounds, view.grid) & table[:, None] & p.alive[..., None, None]
    area = (outline[..., 1] - outline[..., 0]) * (outline[..., 3] - outline[..., 2])
    area = torch.where(p.alive & (p.part > 0), area, 0.0)
    largest = area.topk(min(CASTERS, area.shape[1]), 1).indices
    caster = torch.zeros_like(p.alive).scatter_(1, largest, True) & (area > 0)
    # What a primitive can shade of the object lies between it and its shadow on the table.
    low, high = torch.minimum(bounds, outline), torch.maximum(bounds, outline)
    between = torch.stack([low[..., 0], high[..., 1], low[..., 2], high[..., 3]], -1)
    return wanted | touched(between, view.grid) & object_[:, None] & caster[..., None, None]


def shown(view: View, pixels: Tensor) -> Tensor:
    """Return which tiles have some of the pixels (B, N): bool (B, G, G)."""
    return pixels.view(-1, view.grid, view.grid, LANES).any(-1)


def untiled(values: Tensor, grid: int) -> Tensor:
    """Reshape (B, N) in tile order to (B, 8 G, 8 G)."""
    side = grid * TILE
    return values.view(-1, grid, grid, TILE, TILE).transpose(2, 3).reshape(-1, side, side)


def tiled(values: Tensor, grid: int) -> Tensor:
    """Reshape (B, 8 G, 8 G) to (B, N) in tile order."""
    return values.view(-1, grid, TILE, grid, TILE).transpose(2, 3).reshape(values.shape[0], -1)
