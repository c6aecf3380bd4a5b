"""Ray casting: which primitive each pixel shows, how far away it is, and where shadows lie.

The image is cut into tiles of 8 x 8 pixels. A primitive is intersected only with the tiles its
outline can touch, and only tiles that a shadow can reach are asked for shadows; all (primitive,
tile) pairs of a kind in a chunk of images go through one batch of small tensor operations. A ray's
direction in a primitive's unit space is linear in the pixel's column and row, so a pair costs no
matrix product a pixel.

Shapes: B images, P primitives, G tiles a side, N = 64 G^2 pixels in the order of the tiles.
"""

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
Pairs = tuple[int, Tensor, Tensor, Components, Components, Tensor]
CASTERS = 5  # of the object's primitives, the largest throw shadows on the object itself
NEAR = 0.05  # the least depth that the camera sees
INFINITE = 0x7F800000  # the bits of float32 infinity


@dataclass(frozen=True)
class View:
    """One chunk of scenes, prepared for rays from the camera: directions are (B, P, 3)."""

    scene: Scene
    size: int
    grid: int  # tiles a side, G
    corners: Tensor  # (B, P, 8, 3), of every primitive's unit cube, in the world
    outline: Tensor  # (B, P, 4), left, right, top, bottom in pixels
    to_local: Tensor  # (B, P, 3, 4), from the world to unit space
    origin: Tensor  # the camera, in unit space
    axes: list[Tensor]  # its directions right, up and ahead, in unit space
    towards_light: Tensor
    u: Tensor  # (B, G * 8), columns as tangents
    v: Tensor  # (B, G * 8), rows as tangents


def prepare(scene: Scene, size: int) -> View:
    """Bound every primitive in the image, and take camera and lamp to its unit space."""
    camera = scene.camera
    grid = -(-size // TILE)
    pixel = (torch.arange(grid * TILE, device=camera.eye.device) + 0.5) * (2 / size) - 1
    to_world = scene.primitives.to_world
    signs = torch.tensor(list(product((-1.0, 1.0), repeat=3)), device=to_world.device)
    corners = signs @ to_world[..., :3].mT + to_world[..., None, :, 3]
    to_local = inverse(to_world)
    tangent = 1 / camera.focal[:, None]

    def local(vector: Tensor) -> Tensor:
        return (to_local[..., :3] @ vector[:, None, :, None])[..., 0]

    return View(
        scene,
        size,
        grid,
        corners,
        _outline(scene, corners, size),
        to_local,
        origin=local(camera.eye) + to_local[..., 3],
        axes=[local(axis) for axis in camera.axes.unbind(1)],
        towards_light=local(scene.light.direction),
        u=(pixel - camera.shift[:, :1]) * tangent,
        v=(-pixel - camera.shift[:, 1:]) * tangent,
    )


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


def _outline(scene: Scene, corners: Tensor, size: int) -> Tensor:
    """Bound the primitives in the image: by their corners, but ellipsoids by their dual quadric."""
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
    far = (a >= 1e-3) & (z >= NEAR)
    ellipsoid = (scene.primitives.kind == ELLIPSOID)[..., None]
    return torch.where(ellipsoid & far, exact * (size / 2), _bound(scene, corners, size))


def _bound(scene: Scene, points: Tensor, size: int) -> Tensor:
    """Bound points (B, P, 8, 3) in the image; by the whole image if one is behind the lens."""
    x, y, depth = in_camera(scene, points)
    px, py = project(scene, x, y, depth, size)
    bounds = torch.stack([px.amin(-1), px.amax(-1), py.amin(-1), py.amax(-1)], -1)
    behind = (depth < NEAR).any(-1, keepdim=True)
    return torch.where(behind, bounds.new_tensor([-1e6, 1e6, -1e6, 1e6]), bounds)


def _touched(bounds: Tensor, grid: int) -> Tensor:
    """Return which tiles boxes (B, P, 4) in pixels touch: bool (B, P, G, G), rows and columns."""
    tile = torch.arange(grid, device=bounds.device) * TILE
    left, right, top, bottom = (edge[..., None] for edge in bounds.unbind(-1))
    columns = (left < tile + TILE) & (right > tile)
    rows = (top < tile + TILE) & (bottom > tile)
    return rows[..., :, None] & columns[..., None, :]


def _pairs(view: View, wanted: Tensor) -> Iterator[Pairs]:
    """Gather the (primitive, tile) pairs of `wanted` (B, P, G, G), one kind after the other.

    Yields:
        kind; primitive (T,) in B * P; tile (T,) in B * G * G; origin, three (T, 1, 1), and
        directions, three (T, 8, 8), of the rays in unit space; taper (T, 1, 1).
    """
    batch, slots = wanted.shape[:2]
    kinds, tapers = view.scene.primitives.kind, view.scene.primitives.taper.flatten()
    us, vs = (tangents.view(batch * view.grid, TILE) for tangents in (view.u, view.v))
    groups = {ELLIPSOID: kinds == ELLIPSOID, BOX: kinds == BOX, CONE: kinds >= CYLINDER}
    for kind, of_kind in groups.items():
        image, slot, row, column = (wanted & of_kind[..., None, None]).nonzero(as_tuple=True)
        u = us.index_select(0, image * view.grid + column)[:, None, :]
        v = vs.index_select(0, image * view.grid + row)[:, :, None]
        primitive, tile = image * slots + slot, (image * view.grid + row) * view.grid + column
        axes = (_per_pair(values, primitive) for values in view.axes)
        direction = tuple((c + u * a) + v * b for a, b, c in zip(*axes, strict=True))
        taper = tapers.index_select(0, primitive)[:, None, None]
        yield kind, primitive, tile, _per_pair(view.origin, primitive), direction, taper


def _per_pair(values: Tensor, rows: Tensor) -> Components:
    """Return three (T, 1, 1) components of some rows (T,) of (B, P, 3)."""
    return values.view(-1, 3).index_select(0, rows).t().contiguous()[..., None, None].unbind(0)


def cast(view: View) -> tuple[Tensor, Tensor]:
    """Find the nearest hits: slot int64 (B, N), P where nothing was hit, and depth (B, N)."""
    alive = view.scene.primitives.alive
    batch, slots = alive.shape
    device = alive.device
    lane = torch.arange(LANES, device=device).view(TILE, TILE)
    # A key has the bits of the depth, which sort as the depths do, above eight bits of slot.
    missed = INFINITE << 8
    wanted = _touched(view.outline, view.grid) & alive[..., None, None]
    keys = torch.full((batch * view.grid * view.grid * LANES,), missed | 0xFF, device=device)
    for kind, primitive, tile, origin, direction, taper in _pairs(view, wanted):
        depth = enter(kind, origin, direction, taper)
        key = (depth.view(torch.int32).long() << 8) + (primitive % slots)[:, None, None]
        place = (tile * LANES)[:, None, None] + lane
        keys.scatter_reduce_(0, place.flatten(), key.flatten(), "amin")
    slot = torch.where(keys < missed, keys & 0xFF, slots)
    return slot.view(batch, -1), (keys >> 8).int().view(torch.float32).view(batch, -1)


def shadow(view: View, depth: Tensor, table: Tensor, subject: Tensor) -> Tensor:
    """Return 1 where the lamp is hidden from what is seen, else 0; (B, N).

    Args:
        depth: (B, N), of the surface that is seen.
        table, subject: bool (B, N), the pixels that show the table and the object.
    """
    wanted = _shadow_pairs(view, shown(view, table), shown(view, subject))
    dark = torch.zeros_like(depth).view(-1, LANES)
    depths = depth.view(-1, TILE, TILE)
    for kind, primitive, tile, origin, direction, taper in _pairs(view, wanted):
        t = depths.index_select(0, tile)
        surface = tuple(o + t * d for o, d in zip(origin, direction, strict=True))
        enters = enter(kind, surface, _per_pair(view.towards_light, primitive), taper)
        hidden = ((enters > 2e-3) & (enters < 50)).float().flatten(1)
        dark.index_add_(0, tile, hidden)  # small whole numbers: exact in any order
    return dark.clamp_(max=1).view_as(depth)


def _shadow_pairs(view: View, table: Tensor, subject: Tensor) -> Tensor:
    """Return which primitive may shade which tile: bool (B, P, G, G).

    Every primitive shades the table inside the outline of its own shadow; the object's largest ones
    also shade the object. `table` and `subject`, bool (B, G, G), are tiles that show some of them.
    """
    p, outline = view.scene.primitives, view.outline
    light = view.scene.light.direction[:, None, None]
    fallen = view.corners - light * (view.corners[..., 1:2] / light[..., 1:2])
    bounds = _bound(view.scene, fallen, view.size)
    bounds = bounds + bounds.new_tensor([-1.0, 1.0, -1.0, 1.0])
    wanted = _touched(bounds, view.grid) & table[:, None] & p.alive[..., None, None]
    area = (outline[..., 1] - outline[..., 0]) * (outline[..., 3] - outline[..., 2])
    area = torch.where(p.alive & (p.part > 0), area, 0.0)
    largest = area.topk(min(CASTERS, area.shape[1]), 1).indices
    caster = torch.zeros_like(p.alive).scatter_(1, largest, True) & (area > 0)
    # What a primitive can shade of the object lies between it and its shadow on the table.
    low, high = torch.minimum(bounds, outline), torch.maximum(bounds, outline)
    between = torch.stack([low[..., 0], high[..., 1], low[..., 2], high[..., 3]], -1)
    return wanted | _touched(between, view.grid) & subject[:, None] & caster[..., None, None]


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
