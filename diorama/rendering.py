"""From scenes to pictures: cast rays, find shadows, shade, and photograph.

The picture is cut into tiles of 8 x 8 pixels. A primitive is intersected only with the tiles its outline can
touch, and only tiles that a shadow can reach are asked for shadows; all (primitive, tile) pairs of a kind in a
chunk of pictures go through one batch of small tensor operations. A ray's direction in a primitive's unit space is
linear in the pixel's column and row, so a pair costs no matrix product per pixel.
"""

from __future__ import annotations

import dataclasses
import math
import os
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor
from torch.nn.functional import pad

from . import bank
from .materials import M, paint
from .primitives import BOX, CONE, CYLINDER, ELLIPSOID, enter, normal
from .scene import Drawing, Scene, inverse
from .threads import one_thread_a_tensor

TILE = 8
LANES = TILE * TILE
CHUNK = 16  # pictures at a time on a CPU: few enough for the caches, enough to hide the cost of a call
WORKERS = max(2, min(4, os.cpu_count() or 2))  # more would wait for the interpreter's lock
CASTERS = 5  # of the object's primitives, the largest throw shadows on the object itself
NEAR = 0.05
TANGENT = 4.0  # backdrop coordinates a unit of tangent: a picture shows about two of them
FAR = (0x7F800000 << 8) | 0xFF  # the key of a ray that met nothing (infinity's bits)


@dataclasses.dataclass(frozen=True)
class _View:
    """One chunk of scenes, ready to be looked at: unit-space origin and the three direction vectors, (B, P, 3) each."""

    scene: Scene
    size: int
    grid: int  # tiles a side
    to_local: Tensor  # (B, P, 3, 4)
    origin: Tensor
    ahead: Tensor
    across: Tensor
    upward: Tensor
    towards_light: Tensor
    u: Tensor  # (B, grid * 8), columns as tangents
    v: Tensor  # (B, grid * 8), rows as tangents


def _view(scene: Scene, size: int) -> _View:
    camera = scene.camera
    grid = -(-size // TILE)
    pixel = (torch.arange(grid * TILE, device=camera.eye.device) + 0.5) * (2 / size) - 1
    to_local = inverse(scene.primitives.to_world)
    linear = to_local[..., :3]
    tangent = 1 / camera.focal[:, None]

    def local(vector: Tensor) -> Tensor:
        return (linear @ vector[:, None, :, None])[..., 0]

    return _View(
        scene=scene,
        size=size,
        grid=grid,
        to_local=to_local,
        origin=local(camera.eye) + to_local[..., 3],
        ahead=local(camera.axes[:, 2]),
        across=local(camera.axes[:, 0]),
        upward=local(camera.axes[:, 1]),
        towards_light=local(scene.light.direction),
        u=(pixel - camera.shift[:, :1]) * tangent,
        v=(-pixel - camera.shift[:, 1:]) * tangent,
    )


_SIGNS = [(float(x), float(y), float(z)) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]


def _corners(scene: Scene) -> Tensor:
    """(B, P, 8, 3): world corners of every primitive's unit cube."""
    to_world = scene.primitives.to_world
    signs = torch.tensor(_SIGNS, device=to_world.device)
    return signs @ to_world[..., :3].mT + to_world[..., None, :, 3]


def _in_camera(scene: Scene, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Right, up and depth of world points (B, ..., 3)."""
    axes, eye = scene.camera.axes, scene.camera.eye
    shape = points.shape
    flat = (points.reshape(shape[0], -1, 3) - eye[:, None]) @ axes.mT
    return flat.view(shape).unbind(-1)


def _pixels(scene: Scene, x: Tensor, y: Tensor, depth: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Picture coordinates in pixels of camera-space points whose first axis is the image."""
    lead = [-1] + [1] * (x.ndim - 1)
    focal, shift = scene.camera.focal.view(lead), scene.camera.shift
    depth = depth.clamp(min=NEAR)
    right = x / depth * focal + shift[:, 0].view(lead)
    up = y / depth * focal + shift[:, 1].view(lead)
    return (right + 1) * (size / 2), (1 - up) * (size / 2)


def _box_of(scene: Scene, corners: Tensor, size: int) -> Tensor:
    """(B, P, 4): left, right, top, bottom in pixels of the outline of eight points; all if one is behind the lens."""
    x, y, depth = _in_camera(scene, corners)
    px, py = _pixels(scene, x, y, depth, size)
    bounds = torch.stack([px.amin(-1), px.amax(-1), py.amin(-1), py.amax(-1)], -1)
    behind = (depth < NEAR).any(-1, keepdim=True)
    return torch.where(behind, bounds.new_tensor([-1e6, 1e6, -1e6, 1e6]), bounds)


def _ellipsoid_bounds(scene: Scene, size: int, loose: Tensor) -> Tensor:
    """Exact outlines (B, P, 4) of ellipsoids from their dual quadric; `loose` where the camera is too near."""
    to_world = scene.primitives.to_world
    axes = scene.camera.axes[:, None]
    linear = axes @ to_world[..., :3]  # columns: half axes in camera space
    x, y, z = _in_camera(scene, to_world[..., 3])
    spread = linear @ linear.mT
    a = z * z - spread[..., 2, 2]
    bounds = []
    for number, centre in ((0, x), (1, y)):
        b = centre * z - spread[..., number, 2]
        c = centre * centre - spread[..., number, number]
        root = (b * b - a * c).clamp(min=0).sqrt()
        shift, focal = scene.camera.shift[:, number, None], scene.camera.focal[:, None]
        low, high = ((b + sign * root) / a.clamp(min=1e-6) * focal + shift for sign in (-1, 1))
        bounds += (
            [(low + 1) * (size / 2), (high + 1) * (size / 2)]
            if number == 0
            else [(1 - high) * (size / 2), (1 - low) * (size / 2)]
        )
    near = (a < 1e-3) | (z < NEAR)
    return torch.where(near[..., None], loose, torch.stack(bounds, -1))


def _touched(bounds: Tensor, grid: int) -> Tensor:
    """bool (B, P, grid, grid): tiles (row, column) that boxes (B, P, 4) in pixels touch."""
    tile = torch.arange(grid, device=bounds.device) * TILE
    left, right, top, bottom = (edge[..., None] for edge in bounds.unbind(-1))
    columns = (left < tile + TILE) & (right > tile)
    rows = (top < tile + TILE) & (bottom > tile)
    return rows[..., :, None] & columns[..., None, :]


def _pairs(view: _View, wanted: Tensor):
    """For each kind, the (primitive, tile) pairs of `wanted` (B, P, grid, grid) as flat indices and pixel tangents.

    Yields:
        kind, primitive (T,) in B * P, tile (T,) in B * grid * grid, u (T, 1, 8), v (T, 8, 1).
    """
    batch, slots = wanted.shape[:2]
    kinds = view.scene.primitives.kind
    tangents_u = view.u.view(batch * view.grid, TILE)
    tangents_v = view.v.view(batch * view.grid, TILE)
    for group in ((ELLIPSOID,), (BOX,), (CYLINDER, CONE)):
        mine = kinds == group[0] if len(group) == 1 else (kinds == group[0]) | (kinds == group[1])
        image, slot, row, column = (wanted & mine[..., None, None]).nonzero(as_tuple=True)
        if len(image) == 0:
            continue
        u = tangents_u.index_select(0, image * view.grid + column)[:, None, :]
        v = tangents_v.index_select(0, image * view.grid + row)[:, :, None]
        yield group[0], image * slots + slot, (image * view.grid + row) * view.grid + column, u, v


def _per_pair(values: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Three (T, 1, 1) components of the chosen rows of (B, P, 3)."""
    x, y, z = values.view(-1, 3).index_select(0, chosen).t().contiguous()[..., None, None]
    return x, y, z


def _directions(view: _View, chosen: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, ...]:
    ahead, across, upward = (_per_pair(value, chosen) for value in (view.ahead, view.across, view.upward))
    return tuple((a + u * b) + v * c for a, b, c in zip(ahead, across, upward, strict=True))


def _cast(view: _View, wanted: Tensor) -> Tensor:
    """Nearest hits: int64 keys (B * grid * grid, 64), the bits of the depth above eight bits of slot."""
    batch, slots = wanted.shape[:2]
    device = wanted.device
    lane = torch.arange(LANES, device=device).view(TILE, TILE)
    keys = torch.full((batch * view.grid * view.grid * LANES,), FAR, device=device)
    tapers = view.scene.primitives.taper.flatten()
    for kind, chosen, tile, u, v in _pairs(view, wanted):
        origin = _per_pair(view.origin, chosen)
        taper = tapers.index_select(0, chosen)[:, None, None]
        depth = enter(kind, origin, _directions(view, chosen, u, v), taper)
        key = (depth.view(torch.int32).long() << 8) + (chosen % slots)[:, None, None]
        place = (tile * LANES)[:, None, None] + lane
        keys.scatter_reduce_(0, place.flatten(), key.flatten(), "amin")
    return keys.view(-1, LANES)


def _shadow(view: _View, wanted: Tensor, depth: Tensor) -> Tensor:
    """1 where the lamp is hidden from the surface at `depth` (B * grid * grid, 64), else 0; same shape."""
    shadow = torch.zeros_like(depth)
    tapers = view.scene.primitives.taper.flatten()
    for kind, chosen, tile, u, v in _pairs(view, wanted):
        t = depth.index_select(0, tile).view(-1, TILE, TILE)
        direction = _directions(view, chosen, u, v)
        origin = tuple(o + t * d for o, d in zip(_per_pair(view.origin, chosen), direction, strict=True))
        light = _per_pair(view.towards_light, chosen)
        taper = tapers.index_select(0, chosen)[:, None, None]
        enters = enter(kind, origin, light, taper)
        dark = ((enters > 2e-3) & (enters < 50)).float().flatten(1)
        shadow.index_add_(0, tile, dark)  # small whole numbers: exact in any order
    return shadow.clamp_(max=1)


def _spread(values: Tensor, grid: int, sigma: Tensor, size: int) -> Tensor:
    """Soften a map in tile order (B, N) by `sigma` (B,), up to 2, of 1/128 of the side."""
    return _tiled(_blurred(_untiled(values, grid)[:, None], sigma, 2.0, size)[:, 0], grid)


def _untiled(values: Tensor, grid: int) -> Tensor:
    """(B, N) in tile order to (B, side, side)."""
    side = grid * TILE
    return values.view(-1, grid, grid, TILE, TILE).transpose(2, 3).reshape(-1, side, side)


def _tiled(values: Tensor, grid: int) -> Tensor:
    """(B, side, side) to (B, N) in tile order."""
    return values.view(-1, grid, TILE, grid, TILE).transpose(2, 3).reshape(values.shape[0], -1)


def _shadow_tiles(view: _View, corners: Tensor, outline: Tensor, ground: Tensor, object_: Tensor) -> Tensor:
    """Which (primitive, tile) pairs may shade: bool (B, P, grid, grid).

    Every primitive shades the ground inside the outline of its own shadow; the object's largest ones also shade the
    object.
    """
    scene = view.scene
    light = scene.light.direction[:, None, None]
    dropped = corners - light * (corners[..., 1:2] / light[..., 1:2])
    bounds = _box_of(scene, dropped, view.size)
    bounds = bounds + bounds.new_tensor([-1.0, 1.0, -1.0, 1.0])
    alive = scene.primitives.alive[..., None, None]
    wanted = _touched(bounds, view.grid) & ground[:, None] & alive
    area = (outline[..., 1] - outline[..., 0]) * (outline[..., 3] - outline[..., 2])
    area = torch.where(scene.primitives.alive & (scene.primitives.part > 0), area, 0.0)
    largest = area.topk(min(CASTERS, area.shape[1]), 1).indices
    caster = torch.zeros_like(scene.primitives.alive).scatter_(1, largest, True) & (area > 0)
    # What a primitive can shade of the object lies between the primitive and its shadow on the table.
    low, high = torch.minimum(bounds, outline), torch.maximum(bounds, outline)
    between = torch.stack([low[..., 0], high[..., 1], low[..., 2], high[..., 3]], -1)
    mine = _touched(between, view.grid) & object_[:, None] & caster[..., None, None]
    return wanted | mine


def _picture(scene: Scene, size: int) -> dict[str, Tensor]:
    """Draw one chunk."""
    view = _view(scene, size)
    grid, batch = view.grid, len(scene)
    tiles = grid * grid
    corners = _corners(scene)
    p = scene.primitives
    outline = _box_of(scene, corners, size)
    outline = torch.where((p.kind == ELLIPSOID)[..., None], _ellipsoid_bounds(scene, size, outline), outline)
    keys = _cast(view, _touched(outline, grid) & p.alive[..., None, None])

    hit = keys < (0x7F800000 << 8)
    slot = torch.where(hit, keys & 0xFF, p.alive.shape[1]).view(batch, -1)
    depth = (keys >> 8).int().view(torch.float32).view(batch, -1)
    hit = hit.view(batch, -1)

    # Every pixel's ray, and where it meets the table.
    u = view.u.view(batch, 1, grid, 1, TILE).expand(batch, grid, grid, TILE, TILE).reshape(batch, -1)
    v = view.v.view(batch, grid, 1, TILE, 1).expand(batch, grid, grid, TILE, TILE).reshape(batch, -1)
    axes, eye = scene.camera.axes, scene.camera.eye
    ray = [
        torch.addcmul(torch.addcmul(axes[:, 2, k, None], u, axes[:, 0, k, None]), v, axes[:, 1, k, None])
        for k in range(3)
    ]
    fall = eye[:, 1, None] / (-ray[1]).clamp(min=1e-4)
    ground = (ray[1] < -1e-4) & (eye[:, 2:] + fall * ray[2] > -scene.background.edge[:, None])
    depth = torch.where(hit, depth, torch.where(ground, fall, 1e4))

    bare = (ground & ~hit).view(batch, tiles, LANES).any(-1).view(batch, grid, grid)
    owned = p.part.new_zeros(batch, p.part.shape[1] + 1)
    owned[:, :-1] = p.part
    parts = owned.gather(1, slot)
    solid = (parts > 0).view(batch, tiles, LANES).any(-1).view(batch, grid, grid)
    dark = _shadow(view, _shadow_tiles(view, corners, outline, bare, solid), depth.view(-1, LANES)).view(batch, -1)
    lit = 1 - _spread(dark, grid, 0.5 + 1.5 * scene.light.softness, size)

    color = _behind(view, ground, hit, fall, ray, lit)
    _shade(view, color, slot, depth, ray, lit, hit)
    images = _photographed(view, [_untiled(channel, grid)[:, :size, :size] for channel in color])
    seen = _untiled(slot, grid)[:, :size, :size]
    keypoints, visible = _keypoints(scene, seen, size)
    parts = _untiled(parts, grid)[:, :size, :size].to(torch.uint8)
    return {"images": images, "mask": parts > 0, "parts": parts, "keypoints": keypoints, "visible": visible}


def _behind(view: _View, ground: Tensor, hit: Tensor, fall: Tensor, ray: list[Tensor], lit: Tensor) -> list[Tensor]:
    """Linear light of table and backdrop, three tensors (B, N); left at 0 where primitives cover a whole tile.

    Each is drawn in the tiles that show some of it, so that what is the same for a picture stays one number a tile.
    """
    color = [torch.zeros(fall.numel() // LANES, LANES, device=fall.device) for _ in range(3)]
    for layer, shown in ((0, ground), (1, ~ground)):
        shown = shown.view(-1, LANES)
        tile = (shown & ~hit.view(-1, LANES)).any(1).nonzero()[:, 0]
        drawn = _table(view, tile, fall, ray, lit) if layer == 0 else _backdrop(view, tile)
        shown = shown.index_select(0, tile)
        for k in range(3):
            # A tile can show both: the backdrop comes last and keeps the table where it is.
            value = drawn[k] if layer == 0 else torch.where(shown, drawn[k], color[k].index_select(0, tile))
            color[k].index_copy_(0, tile, value)
    return [channel.view(fall.shape) for channel in color]


def _recolored(view: _View, layer: int, tile: Tensor, a: Tensor, b: Tensor, level: Tensor) -> list[Tensor]:
    """Albedo (T, 64) of a layer at its own plane coordinates a and b, in tiles (T,)."""
    image, within = tile // (view.grid * view.grid), tile % (view.grid * view.grid)
    background = view.scene.background
    place = background.place[:, layer].flatten(1).t().contiguous().index_select(1, image)[..., None]  # (6, T, 1)
    x = torch.addcmul(torch.addcmul(place[2], a, place[0]), b, place[1])
    y = torch.addcmul(torch.addcmul(place[5], a, place[3]), b, place[4])
    number = torch.arange(LANES, device=a.device) + LANES * within[:, None]
    number = (number + view.scene.lens.grain.index_select(0, image)[:, None]) & 0xFFFFF
    # Between two levels of the pyramid lies a dither, not a line.
    level = level + 0.3 * bank.grain(str(a.device)).index_select(0, number.flatten()).view(number.shape)
    values = bank.look_up(background.texture[:, layer].index_select(0, image)[:, None], x, y, level)
    mean = background.mean[:, layer].t().contiguous().index_select(1, image)[..., None]
    mixing = background.mixing[:, layer].flatten(1).t().contiguous().index_select(1, image)[..., None]
    albedo = []
    for k in range(3):
        mixed = torch.addcmul(mean[k], values[0], mixing[3 * k])
        for channel in (1, 2):
            mixed = torch.addcmul(mixed, values[channel], mixing[3 * k + channel])
        mixed = mixed.clamp_(0.02, 1)
        albedo.append(mixed * mixed)
    return albedo


def _table(view: _View, tile: Tensor, fall: Tensor, ray: list[Tensor], lit: Tensor) -> list[Tensor]:
    """Linear light of the table in some tiles (T,), three tensors (T, 64)."""
    scene = view.scene
    light, focal = scene.light, scene.camera.focal
    image = tile // (view.grid * view.grid)

    def tiles(values: Tensor) -> Tensor:
        return values.view(-1, LANES).index_select(0, tile)

    def each(values: Tensor) -> Tensor:
        return values.index_select(0, image)[:, None]

    far, down = tiles(fall), tiles(ray[1])
    x = torch.addcmul(each(scene.camera.eye[:, 0]), far, tiles(ray[0]))
    z = torch.addcmul(each(scene.camera.eye[:, 2]), far, tiles(ray[2]))
    # A pixel covers more of the table the farther and the flatter it is seen.
    scale = scene.background.place[:, 0, 0, :2].square().sum(-1).sqrt() * bank.SIDE
    cover = far.clamp(1e-3, 1e3).square() / (-down).clamp(min=0.02)
    level = each(torch.log2(2 * scale / (view.size * focal))) + 0.5 * torch.log2(cover)
    albedo = _recolored(view, 0, tile, x, z, level)
    aside, along = x - each(scene.base[:, 0]), z - each(scene.base[:, 2])
    near = torch.exp((aside * aside + along * along) * each(-1 / (0.3 * scene.size**2)))
    open_ = 1 - 0.6 * near  # of the sky, near the object's foot
    lit = tiles(lit) * each(light.direction[:, 1])
    return [albedo[k] * (each(light.color[:, k]) * lit + each(light.sky[:, k]) * open_) for k in range(3)]


def _backdrop(view: _View, tile: Tensor) -> list[Tensor]:
    """Linear light of the backdrop in some tiles (T,), three tensors (T, 64); placed by the ray's direction."""
    scene, grid = view.scene, view.grid
    light, focal = scene.light, scene.camera.focal
    image, within = tile // (grid * grid), tile % (grid * grid)
    u = view.u.view(-1, TILE).index_select(0, image * grid + within % grid)[:, None, :].expand(-1, TILE, -1)
    v = view.v.view(-1, TILE).index_select(0, image * grid + within // grid)[:, :, None].expand(-1, -1, TILE)
    scale = scene.background.place[:, 1, 0, :2].square().sum(-1).sqrt() * (bank.SIDE * TANGENT)
    sharp = torch.log2(2 * scale / (view.size * focal))
    level = torch.maximum(sharp, scene.background.blur + torch.log2(2 * scale / (128 * focal)))
    u, v = u.reshape(-1, LANES) * TANGENT, v.reshape(-1, LANES) * TANGENT
    albedo = _recolored(view, 1, tile, u, v, level.index_select(0, image)[:, None])
    onto = 0.55 * light.color + light.sky
    return [albedo[k] * onto[:, k].index_select(0, image)[:, None] for k in range(3)]


def _shade(view: _View, color: list[Tensor], slot: Tensor, depth: Tensor, ray: list[Tensor], lit: Tensor, hit: Tensor):
    """Overwrite `color` where a primitive is seen."""
    scene = view.scene
    p, light = scene.primitives, scene.light
    slots = p.alive.shape[1]
    where = hit.flatten().nonzero()[:, 0]
    image = where // hit.shape[1]
    row = image * slots + slot.flatten().index_select(0, where)
    # One table of all that is known about each primitive, columns contiguous, gathered once.
    table = torch.cat(
        [
            view.to_local.flatten(2),
            p.to_texture.flatten(2),
            p.material,
            p.taper[..., None],
            p.kind[..., None].float(),
        ],
        2,
    )
    table = table.flatten(0, 1).t().contiguous().index_select(1, row)
    local, texture, material = table[:12], table[12:24], table[24 : 24 + M]
    taper, kind = table[24 + M], table[25 + M]
    t = depth.flatten().index_select(0, where)
    rays = [component.flatten().index_select(0, where) for component in ray]
    eye = scene.camera.eye.t().contiguous().index_select(1, image)
    point = [eye[k] + t * rays[k] for k in range(3)]

    def mapped(affine: Tensor, k: int) -> Tensor:
        return (
            affine[4 * k] * point[0] + affine[4 * k + 1] * point[1] + affine[4 * k + 2] * point[2] + affine[4 * k + 3]
        )

    nx, ny, nz = normal(kind, taper, *(mapped(local, k) for k in range(3)))
    world = [local[k] * nx + local[4 + k] * ny + local[8 + k] * nz for k in range(3)]
    length = torch.rsqrt(world[0] ** 2 + world[1] ** 2 + world[2] ** 2 + 1e-20)
    world = [component * length for component in world]

    x, y, z = (mapped(texture, k) for k in range(3))
    coarse = bank.solid_noise(x * 0.55, y * 0.55, z * 0.55)
    # One look-up is grain or, where the material has much of it, fur: the same noise drawn out along hairs.
    furry = material[11] > material[10]
    often = torch.where(furry, 4.0, 2.7)
    fine = bank.solid_noise(x * often, y * torch.where(furry, 0.7, 2.7), z * often + 0.3 * coarse)
    albedo = paint(tuple(material), x, y, z, coarse, fine)

    lamp = torch.cat([light.direction, light.color, light.sky, light.bounce], 1).t().contiguous().index_select(1, image)
    facing = (world[0] * lamp[0] + world[1] * lamp[1] + world[2] * lamp[2]).clamp(min=0)
    facing = facing * lit.flatten().index_select(0, where)
    above = 0.5 + 0.5 * world[1]
    openness = 0.5 + 0.5 * (point[1] * 4).clamp(0, 1)  # little sky near the table
    inverse_length = torch.rsqrt(rays[0] ** 2 + rays[1] ** 2 + rays[2] ** 2)
    half = [lamp[k] - rays[k] * inverse_length for k in range(3)]
    along = (world[0] * half[0] + world[1] * half[1] + world[2] * half[2]).clamp(min=1e-4)
    along = along * torch.rsqrt(half[0] ** 2 + half[1] ** 2 + half[2] ** 2 + 1e-12)
    shine = torch.exp2(torch.exp2(material[13]) * torch.log2(along)) * material[12] * (facing > 0)
    for k in range(3):
        sky, bounce = lamp[6 + k], lamp[9 + k]
        ambient = torch.lerp(bounce, sky, above) * openness
        value = albedo[k] * (lamp[3 + k] * facing + ambient) + 0.5 * lamp[3 + k] * shine
        color[k].view(-1).index_copy_(0, where, value)


def _photographed(view: _View, color: list[Tensor]) -> Tensor:
    """Exposure, vignette, blur, response and noise: uint8 (B, 3, S, S), channels last."""
    lens, size = view.scene.lens, view.size
    axis = (torch.arange(size, device=color[0].device) + 0.5) * (2 / size) - 1
    corner = axis[:, None] ** 2 + axis[None, :] ** 2
    gain = lens.exposure[:, None, None] * (1 - 0.5 * lens.vignette[:, None, None] * corner)
    picture = torch.stack(color, 1) * gain[:, None]
    picture = _blurred(picture, lens.blur, 0.8, size)
    number = torch.arange(3 * size * size, device=picture.device)
    grain = bank.grain(str(picture.device)).index_select(0, ((lens.grain[:, None] + number) & 0xFFFFF).flatten())
    picture = picture.sqrt_().add_(grain.view(picture.shape) * lens.noise[:, None, None, None])
    picture = picture.mul_(255).add_(0.5).clamp_(0, 255).to(torch.uint8)
    return picture.contiguous(memory_format=torch.channels_last)


def _blurred(picture: Tensor, sigma: Tensor, most: float, size: int) -> Tensor:
    """Separable Gaussian blur by `sigma` (B,), in units of 1/128 of the side `size`.

    The number of taps follows from the most that is foreseen, not from these pictures: what a picture looks like must
    not depend on its neighbours.
    """
    taps = math.ceil(2 * most * size / 128)
    sigma = sigma.clamp(min=0.01) * (size / 128)
    offsets = torch.arange(taps + 1, device=picture.device)
    weights = torch.exp(-(offsets**2) / (2 * sigma[:, None] ** 2))
    weights = weights / (weights[:, :1] + 2 * weights[:, 1:].sum(1, keepdim=True))
    for horizontal in (True, False):
        side = picture.shape[-1]
        padded = pad(picture, (taps, taps, 0, 0) if horizontal else (0, 0, taps, taps), mode="replicate")

        def part(offset: int, padded: Tensor = padded, horizontal: bool = horizontal, side: int = side) -> Tensor:
            return padded.narrow(3 if horizontal else 2, taps + offset, side)

        total = picture * weights[:, 0].view(-1, 1, 1, 1)
        for k in range(1, taps + 1):
            total = torch.addcmul(total, part(k) + part(-k), weights[:, k].view(-1, 1, 1, 1))
        picture = total
    return picture


def _keypoints(scene: Scene, seen: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Pixels (B, 3, 2) of the landmarks, and whether the pixel there shows them, bool (B, 3)."""
    x, y, depth = _in_camera(scene, scene.landmarks)
    px, py = _pixels(scene, x, y, depth, size)
    inside = (px >= 0) & (px < size) & (py >= 0) & (py < size) & (depth > NEAR)
    column, row = (torch.where(inside, value, 0.0).long() for value in (px, py))
    there = seen.flatten(1).gather(1, row * size + column)
    visible = inside & (there[..., None] == scene.landmark_slots).any(-1)
    return torch.stack([px, py], -1), visible


def render(
    scene: Scene, size: int = 128, device: str | torch.device | None = None, chunk: int | None = None
) -> Drawing:
    """Draw scenes.

    Args:
        scene: B scenes.
        size: side of the pictures in pixels, 16 to 512.
        device: where to draw; default where the scene is.
        chunk: pictures drawn at a time; default 16 at 128 px on a CPU, 512 elsewhere.

    Returns:
        A `Drawing` on the device.

    Raises:
        ValueError: if the size is out of range.
    """
    if isinstance(size, bool) or not isinstance(size, int) or not 16 <= size <= 512:
        raise ValueError(f"size must be an integer from 16 to 512 pixels, got {size!r}")
    device = scene.labels.device if device is None else torch.device(device)
    scene = scene.to(device)
    on_cpu = device.type == "cpu"
    chunk = chunk or (max(1, round(CHUNK * (128 / size) ** 2)) if on_cpu else 512)
    starts = range(0, len(scene), chunk)
    rows = [scene.rows(slice(start, start + chunk)) for start in starts]
    with torch.inference_mode():
        if on_cpu:
            bank.pictures("cpu"), bank.solid("cpu"), bank.grain("cpu")  # made before the threads ask for them
            with one_thread_a_tensor(), ThreadPoolExecutor(WORKERS) as pool:
                pieces = list(pool.map(lambda piece: _drawn(piece, size), rows))
        else:
            pieces = [_drawn(piece, size) for piece in rows]
    whole = {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}
    whole["images"] = whole["images"].contiguous(memory_format=torch.channels_last)
    return Drawing(labels=scene.labels, scene=scene, **whole)


def _drawn(scene: Scene, size: int) -> dict[str, Tensor]:
    with torch.inference_mode():  # the mode belongs to a thread
        return _picture(scene, size)
