"""Flat textures for table and backdrop, and solid noise: made once a process from hashed numbers.

More than half of the textures are "dead leaves": opaque discs and rectangles thrown on top of one
another with sizes that follow a power law. That is the simplest model with the statistics of
photographs: occlusion edges at every scale and a power spectrum near 1/f^2. The others are surfaces
a table has: wood, planks, cloth, tiles, gravel, marble, carpet. All wrap around at the borders, and
carry a mipmap, so that distance does not alias and a backdrop can be out of focus for free.
"""

import math
from functools import lru_cache
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from .random import uniform
from .threads import single_threaded

SIDE = 256
LEVELS = 7  # of the mipmap
BLOCK = 64  # side of the solid noise
SEED = 0x0D10
LEAVES = 14
SURFACES = tuple("wood planks cloth tiles gravel marble carpet stripes brick clouds".split())
_SIZES = [SIDE >> level for level in range(LEVELS)]
_STARTS = [sum(size * size for size in _SIZES[:level]) for level in range(LEVELS)]
_TOTAL = sum(size * size for size in _SIZES)


class Tables(NamedTuple):
    """What is looked up while rendering."""

    flat: Tensor  # (3, 24 * _TOTAL), three channels of all textures: dead leaves, then SURFACES
    solid: Tensor  # (BLOCK^3, 8), 1/f noise: the corners of each cell, x fastest, then y, z
    grain: Tensor  # (2^20,), of unit variance and close to normal: sensor noise to cut pieces from


@lru_cache(maxsize=4)
def tables(device: str = "cpu") -> Tables:
    """Return the tables on a device: the same numbers on each."""
    if device != "cpu":
        return Tables(*(table.to(device) for table in tables("cpu")))
    with single_threaded():
        radii, shares = (30.0, 60.0, 110.0), (0.0, 0.5, 1.0)
        every = [_leaves(k, shares[k % 3], radii[k // 3 % 3]) for k in range(LEAVES)]
        every += [_surface(name) for name in SURFACES]
        flat = torch.cat([_mipmap(texture) for texture in every], 1)
        block = _octaves(55_000, 3, BLOCK, 8, 0.9)
        shifts = product((0, -1), repeat=3)
        solid = torch.stack([block.roll(shift, (0, 1, 2)).flatten() for shift in shifts], 1)
        grain = (uniform(SEED + 99, torch.arange(1 << 20), 3).sum(1) - 1.5) * 2.0
        return Tables(flat.contiguous(), solid.contiguous(), grain)


def look_up(texture: Tensor, x: Tensor, y: Tensor, level: Tensor) -> list[Tensor]:
    """Look up textures: bilinear for the main channel, nearest for the tints.

    Args:
        texture: int64, which one; broadcasts with the others.
        x, y: place, in units of the texture (1 is once around); any shape.
        level: float, mipmap level, rounded.

    Returns:
        Three tensors of the shape of x, roughly of unit variance.
    """
    flat = tables(str(x.device)).flat
    level = level.round().clamp(0, LEVELS - 1).int()
    starts = torch.tensor(_STARTS, dtype=torch.int32, device=x.device)
    shift = 8 - level  # log2 of the level's side
    side = torch.bitwise_left_shift(torch.ones_like(level), shift)
    scale = side.float()
    px, py = x * scale - 0.5, y * scale - 0.5
    fx, fy = px.floor(), py.floor()
    wx, wy = px - fx, py - fy
    wrap = side - 1
    x0, y0 = fx.int() & wrap, fy.int() & wrap
    x1, y1 = (x0 + 1) & wrap, (y0 + 1) & wrap
    start = starts[level] + texture.int() * _TOTAL
    row0, row1 = (start + torch.bitwise_left_shift(row, shift) for row in (y0, y1))
    corners = (row0 + x0, row0 + x1, row1 + x0, row1 + x1)
    a, b, c, e = (flat[0].index_select(0, place.flatten()).view(x.shape) for place in corners)
    main = torch.lerp(torch.lerp(a, b, wx), torch.lerp(c, e, wx), wy)
    # The tints are weak: the nearest value does, and halves the cost.
    nearest = (torch.where(wy > 0.5, row1, row0) + torch.where(wx > 0.5, x1, x0)).flatten()
    return [main, *(channel.index_select(0, nearest).view(x.shape) for channel in flat[1:])]


def solid_noise(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Look up noise of unit variance at points, trilinear: (n,) each.

    One unit is an eighth of the period, the coarsest cell.
    """
    solid = tables(str(x.device)).solid
    scaled = [axis * (BLOCK / 8) for axis in (x, y, z)]
    low = [axis.floor() for axis in scaled]
    wx, wy, wz = (axis - start for axis, start in zip(scaled, low, strict=True))
    ix, iy, iz = (start.int() & (BLOCK - 1) for start in low)
    c = solid.index_select(0, (iz * BLOCK + iy) * BLOCK + ix).t()
    front = torch.lerp(torch.lerp(c[0], c[1], wx), torch.lerp(c[2], c[3], wx), wy)
    back = torch.lerp(torch.lerp(c[4], c[5], wx), torch.lerp(c[6], c[7], wx), wy)
    return torch.lerp(front, back, wz)


def sensor_noise(place: Tensor) -> Tensor:
    """Look up noise of unit variance at places of any shape, int64 of at least 0."""
    grain = tables(str(place.device)).grain
    return grain.index_select(0, (place & 0xFFFFF).flatten()).view(place.shape)


def _mipmap(texture: Tensor) -> Tensor:
    """Normalise a texture (3, SIDE, SIDE) and put all levels, each half the last, in a row."""
    texture = (texture - texture.mean((1, 2), keepdim=True)) / texture[0].std()
    levels = [texture]
    for _ in range(LEVELS - 1):
        levels.append(avg_pool2d(levels[-1][None], 2)[0])
    return torch.cat([level.flatten(1) for level in levels], 1)


def _numbers(channel: int, count: int) -> Tensor:
    return uniform(SEED + channel, torch.arange(count), 1)[:, 0]


def _octaves(
    channel: int, dims: int, side: int, first: int, decay: float = 1.0, stretch: int = 1
) -> Tensor:
    """Return periodic noise, side^dims, of unit variance.

    It adds random lattices of doubling fineness, each weaker by 2^-decay, all drawn out along the
    last axis by `stretch`.
    """
    total = torch.zeros([side] * dims)
    cells, weight = first, 1.0
    while cells <= side:
        shape = [cells] * dims
        shape[-1] = max(1, cells // stretch)
        lattice = _numbers(channel + cells, math.prod(shape)).view(shape) - 0.5
        for axis in range(dims):
            lattice = _widen(lattice, axis, side)
        total += weight * lattice / lattice.std()
        cells, weight = cells * 2, weight / 2**decay
    return (total - total.mean()) / total.std()


def _widen(values: Tensor, axis: int, side: int) -> Tensor:
    """Interpolate smoothly and periodically along one axis to `side` samples."""
    count = values.shape[axis]
    place = torch.arange(side) * (count / side)
    low = place.floor().long()
    part = place - low
    shape = [1] * values.ndim
    shape[axis] = side
    part = (part * part * (3 - 2 * part)).view(shape)
    left, right = (values.index_select(axis, index % count) for index in (low, low + 1))
    return left + (right - left) * part


def _leaves(channel: int, square: float, largest: float) -> Tensor:
    """Return dead leaves (3, SIDE, SIDE).

    In numpy, since it is thousands of tiny steps, for which torch costs an order of magnitude more.

    Args:
        square: share of rectangles.
        largest: limit of the radius in pixels.
    """
    count, smallest = 700, 2.5
    u = uniform(SEED + 7919 * (channel + 1), torch.arange(count), 16).double().numpy()
    # The density of radii is as r^-3 between the limits.
    radius = (smallest**-2 - u[:, 0] * (smallest**-2 - largest**-2)) ** -0.5
    texture = np.repeat(_octaves(SEED + channel, 2, SIDE, 2).numpy()[None], 3, 0)
    shades = (u[:, 1:4] * (2, 1, 1) - (1, 0.5, 0.5)) * 1.6
    for k in range(count):
        r = radius[k]
        long = 1 + 2.5 * u[k, 4] ** 2
        half = min(int(r * long) + 2, SIDE // 2)
        around = np.arange(-half, min(half + 1, SIDE // 2))
        cx, cy = u[k, 5] * SIDE, u[k, 6] * SIDE
        xs, ys = (around + int(cx)) % SIDE, (around + int(cy)) % SIDE
        dx = ((xs + 0.5 - cx + SIDE / 2) % SIDE - SIDE / 2)[None, :]
        dy = ((ys + 0.5 - cy + SIDE / 2) % SIDE - SIDE / 2)[:, None]
        turn = u[k, 7] * math.pi if u[k, 8] > 0.5 else 0.0
        a = (dx * math.cos(turn) + dy * math.sin(turn)) / (r * long)
        b = (dy * math.cos(turn) - dx * math.sin(turn)) / r
        rectangle = np.maximum(abs(a), abs(b)) < 0.9
        inside = rectangle if u[k, 9] < square else a * a + b * b < 1
        # A slope across each leaf, and stripes on some: surfaces in photographs are seldom flat.
        light = 1.2 * (u[k, 10] - 0.5) * a
        if u[k, 11] < 0.18:
            light = light + 0.5 * np.sign(np.sin(a * (4 + 10 * u[k, 12])))
        window = np.ix_(range(3), ys, xs)
        leaf = shades[k][:, None, None] + np.multiply.outer((1, 0, 0), light)
        texture[window] = np.where(inside, leaf, texture[window])
    return torch.from_numpy(texture).float() + 0.12 * _octaves(SEED + 77 * channel, 2, SIDE, 8, 0.5)


def _surface(name: str) -> Tensor:
    """Return one table surface (3, SIDE, SIDE): the main channel and two for tints."""
    channel = 100_000 * (1 + SURFACES.index(name))
    y, x = torch.meshgrid(torch.arange(SIDE) / SIDE, torch.arange(SIDE) / SIDE, indexing="ij")
    turn = 2 * math.pi
    soft = _octaves(channel, 2, SIDE, 2)
    rough = _octaves(channel + 1000, 2, SIDE, 16, 0.4)
    tint = _octaves(channel + 2000, 2, SIDE, 2, 1.2)
    tint2 = _octaves(channel + 3000, 2, SIDE, 2, 1.2)
    if name in ("wood", "planks"):
        rings = 4 * y + 0.45 * _octaves(channel + 5000, 2, SIDE, 4, 1.0, stretch=4)
        main = torch.sin(turn * rings) + _octaves(channel + 4000, 2, SIDE, 16, 0.5, stretch=16)
        if name == "planks":
            board = (y * 6).floor().long()
            joint = ((y * 6 % 1) < 0.06).float()
            main = 0.5 * main + 3 * (_numbers(channel + 9, 6)[board] - 0.5) - 3.0 * joint
            tint = tint + 2 * (_numbers(channel + 10, 6)[board] - 0.5)
    elif name == "cloth":
        main = torch.sin(turn * 40 * x) * torch.sin(turn * 40 * y) + 0.7 * soft + 0.4 * rough
    elif name == "tiles":
        cell = ((x * 6).floor() + (y * 6).floor()) % 2
        joint = ((x * 6 % 1 < 0.05) | (y * 6 % 1 < 0.05)).float()
        main = 2 * cell - 1 + 0.5 * soft - 1.5 * joint + 0.2 * rough
    elif name == "gravel":
        main, tint = _pebbles(channel)
        main = main + 0.4 * rough
    elif name == "marble":
        main = torch.sin(turn * (2 * x + 3 * y + 0.55 * soft)).abs() * -2 + 0.3 * rough
    elif name == "carpet":
        main = rough + 0.5 * soft
    elif name == "stripes":
        wave = torch.sin(turn * 8 * x)
        main = torch.sign(wave) + 0.5 * torch.sin(turn * 24 * x) + 0.4 * soft + 0.2 * rough
        tint = tint + 2 * wave
    elif name == "brick":
        row = (y * 12).floor()
        along = x * 6 + 0.5 * (row % 2)
        joint = ((along % 1 < 0.06) | (y * 12 % 1 < 0.12)).float()
        shade = _numbers(channel + 11, 72)[(row * 6 + along.floor() % 6).long()]
        main = 2 * (shade - 0.5) + 2 * joint + 0.4 * rough
        tint = tint - 2 * joint + shade
    else:
        main = soft + 0.3 * rough
    return torch.stack([main, 0.6 * tint, 0.6 * tint2])


def _pebbles(channel: int) -> tuple[Tensor, Tensor]:
    """Return brightness and tint (SIDE, SIDE) of pebbles: a Voronoi diagram on a jittered grid."""
    cells = 20
    jitter = uniform(SEED + channel, torch.arange(cells * cells), 4).view(cells, cells, 4)
    place = (torch.arange(SIDE) + 0.5) * (cells / SIDE)
    best = torch.full((SIDE, SIDE), 9.0)
    shade, tint = torch.zeros(SIDE, SIDE), torch.zeros(SIDE, SIDE)
    home = place.floor().long()
    for dy, dx in product((-1, 0, 1), repeat=2):
        point = jitter[((home + dy) % cells)[:, None], ((home + dx) % cells)[None, :]]
        px = (home + dx)[None, :] + point[..., 0]
        py = (home + dy)[:, None] + point[..., 1]
        distance = (place[None, :] - px) ** 2 + (place[:, None] - py) ** 2
        nearer = distance < best
        best = torch.where(nearer, distance, best)
        shade = torch.where(nearer, point[..., 2], shade)
        tint = torch.where(nearer, point[..., 3], tint)
    return 3 * (shade - 0.5) - 3.5 * best, 3 * (tint - 0.5)
