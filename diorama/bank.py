"""Flat pictures for table and backdrop, and a block of solid noise: made once a process from hashed numbers.

Half of the pictures are "dead leaves": opaque discs and rectangles thrown on top of one another with sizes that fall as
a power law. That is the simplest model with the statistics of photographs: occlusion edges at every scale and a
power spectrum near 1/f^2. The others are surfaces a table has: wood, planks, cloth, tiles, gravel, marble, carpet.
All wrap around at the borders, and carry a pyramid of halved copies, so that distance does not alias and a
backdrop can be out of focus for free.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from .random import uniform
from .threads import one_thread_a_tensor

SIDE = 256
LEVELS = 7
BLOCK = 64  # side of the solid noise
SEED = 0x0D10
LEAVES = 14
SURFACES = ("wood", "planks", "cloth", "tiles", "gravel", "marble", "carpet", "stripes", "brick", "clouds")
COUNT = LEAVES + len(SURFACES)
_SIZES = [SIDE >> level for level in range(LEVELS)]
_STARTS = [sum(size * size for size in _SIZES[:level]) for level in range(LEVELS)]
_TOTAL = sum(size * size for size in _SIZES)


def _numbers(channel: int, count: int) -> Tensor:
    return uniform(SEED + channel, torch.arange(count), 1)[:, 0]


def _octaves(channel: int, dims: int, side: int, first: int, fall: float = 1.0, stretch: int = 1) -> Tensor:
    """Periodic noise, side^dims: random lattices of doubling fineness, each weaker by 2^-fall, of unit variance."""
    total = torch.zeros([side] * dims)
    cells, weight = first, 1.0
    while cells <= side:
        shape = [cells] * dims
        shape[-1] = max(1, cells // stretch)
        lattice = _numbers(channel + cells, math.prod(shape)).view(shape) - 0.5
        for axis in range(dims):
            lattice = _widen(lattice, axis, side)
        total += weight * lattice / lattice.std()
        cells, weight = cells * 2, weight / 2**fall
    return (total - total.mean()) / total.std()


def _widen(values: Tensor, axis: int, side: int) -> Tensor:
    """Smooth periodic interpolation along one axis to `side` samples."""
    count = values.shape[axis]
    place = torch.arange(side) * (count / side)
    low = place.floor().long()
    part = place - low
    shape = [1] * values.ndim
    shape[axis] = side
    part = (part * part * (3 - 2 * part)).view(shape)
    left, right = values.index_select(axis, low % count), values.index_select(axis, (low + 1) % count)
    return left + (right - left) * part


def _leaves(channel: int, square: float, largest: float) -> Tensor:
    """Dead leaves (3, SIDE, SIDE); `square` is the share of rectangles, `largest` the radius cap in pixels.

    In numpy, since it is thousands of tiny steps, for which torch's cost a call is an order of magnitude higher.
    """
    count = 700
    u = uniform(SEED + 7919 * (channel + 1), torch.arange(count), 16).double().numpy()
    low, high = 2.5, largest
    radius = (low**-2 - u[:, 0] * (low**-2 - high**-2)) ** -0.5  # density of radii ~ r^-3 between the limits
    picture = np.repeat(_octaves(SEED + channel, 2, SIDE, 2).numpy()[None], 3, 0)
    shades = (u[:, 1:4] * (2, 1, 1) - (1, 0.5, 0.5)) * 1.6
    for k in range(count):
        r = radius[k]
        long = 1 + 2.5 * u[k, 4] ** 2
        half = int(r * long) + 2
        cx, cy = u[k, 5] * SIDE, u[k, 6] * SIDE
        around = np.arange(-half, half + 1) if 2 * half + 1 < SIDE else np.arange(-SIDE // 2, SIDE // 2)
        xs, ys = (around + int(cx)) % SIDE, (around + int(cy)) % SIDE
        dx = ((xs + 0.5 - cx + SIDE / 2) % SIDE - SIDE / 2)[None, :]
        dy = ((ys + 0.5 - cy + SIDE / 2) % SIDE - SIDE / 2)[:, None]
        turn = u[k, 7] * math.pi if u[k, 8] > 0.5 else 0.0
        a = (dx * math.cos(turn) + dy * math.sin(turn)) / (r * long)
        b = (dy * math.cos(turn) - dx * math.sin(turn)) / r
        inside = np.maximum(abs(a), abs(b)) < 0.9 if u[k, 9] < square else a * a + b * b < 1
        # A slope across each leaf, and stripes on some: surfaces in photographs are seldom flat.
        light = 1.2 * (u[k, 10] - 0.5) * a
        if u[k, 11] < 0.18:
            light = light + 0.5 * np.sign(np.sin(a * (4 + 10 * u[k, 12])))
        where = np.ix_(ys, xs)
        picture[0][where] = np.where(inside, shades[k, 0] + light, picture[0][where])
        picture[1][where] = np.where(inside, shades[k, 1], picture[1][where])
        picture[2][where] = np.where(inside, shades[k, 2], picture[2][where])
    return torch.from_numpy(picture).float() + 0.12 * _octaves(SEED + 77 * channel, 2, SIDE, 8, 0.5)


def _surface(name: str) -> Tensor:
    """One table surface (3, SIDE, SIDE): main channel and two for tints."""
    channel = 100_000 * (1 + SURFACES.index(name))
    y, x = torch.meshgrid(torch.arange(SIDE) / SIDE, torch.arange(SIDE) / SIDE, indexing="ij")
    turn = 2 * math.pi
    soft = _octaves(channel, 2, SIDE, 2)
    rough = _octaves(channel + 1000, 2, SIDE, 16, 0.4)
    tint = _octaves(channel + 2000, 2, SIDE, 2, 1.2)
    tint2 = _octaves(channel + 3000, 2, SIDE, 2, 1.2)
    grain = _octaves(channel + 4000, 2, SIDE, 16, 0.5, stretch=16)
    if name in ("wood", "planks"):
        main = torch.sin(turn * (4 * y + 0.45 * _octaves(channel + 5000, 2, SIDE, 4, 1.0, stretch=4))) + grain
        if name == "planks":
            board = (y * 6).floor()
            shade = _numbers(channel + 9, 6)[board.long()]
            main = 0.5 * main + 3 * (shade - 0.5) - 3.0 * ((y * 6 % 1) < 0.06).float()
            tint = tint + 2 * (_numbers(channel + 10, 6)[board.long()] - 0.5)
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
        main = torch.sign(torch.sin(turn * 8 * x)) + 0.5 * torch.sin(turn * 24 * x) + 0.4 * soft + 0.2 * rough
        tint = tint + 2 * torch.sin(turn * 8 * x)
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
    """Pebbles by nearest point on a jittered grid: brightness and tint, (SIDE, SIDE) each."""
    cells = 20
    jitter = uniform(SEED + channel, torch.arange(cells * cells), 4).view(cells, cells, 4)
    place = (torch.arange(SIDE) + 0.5) * (cells / SIDE)
    best = torch.full((SIDE, SIDE), 9.0)
    shade, tint = torch.zeros(SIDE, SIDE), torch.zeros(SIDE, SIDE)
    home = place.floor().long()
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            here = jitter[((home + dy) % cells)[:, None], ((home + dx) % cells)[None, :]]
            px = (home + dx)[None, :] + here[..., 0]
            py = (home + dy)[:, None] + here[..., 1]
            distance = (place[None, :] - px) ** 2 + (place[:, None] - py) ** 2
            nearer = distance < best
            best = torch.where(nearer, distance, best)
            shade = torch.where(nearer, here[..., 2], shade)
            tint = torch.where(nearer, here[..., 3], tint)
    return 3 * (shade - 0.5) - 3.5 * best, 3 * (tint - 0.5)


def _pyramid(picture: Tensor) -> Tensor:
    """(3, _TOTAL): all levels of one picture, each half the size of the one before, in a row."""
    picture = (picture - picture.mean((1, 2), keepdim=True)) / picture[0].std()
    levels = [picture]
    for _ in range(LEVELS - 1):
        levels.append(torch.nn.functional.avg_pool2d(levels[-1][None], 2)[0])
    return torch.cat([level.flatten(1) for level in levels], 1)


@lru_cache(maxsize=4)
def pictures(device: str = "cpu") -> Tensor:
    """(3, COUNT * _TOTAL) float32: the bank. Dead leaves come first, then SURFACES."""
    if device != "cpu":
        return pictures("cpu").to(device)
    with one_thread_a_tensor():
        every = [_leaves(k, (0.0, 0.5, 1.0)[k % 3], (30.0, 60.0, 110.0)[k // 3 % 3]) for k in range(LEAVES)]
        every += [_surface(name) for name in SURFACES]
        return torch.cat([_pyramid(picture) for picture in every], 1).contiguous()


@lru_cache(maxsize=4)
def solid(device: str = "cpu") -> Tensor:
    """(BLOCK^3, 8) float32: periodic 1/f noise, each row the eight corners of one cell (x fastest, then y, z)."""
    if device != "cpu":
        return solid("cpu").to(device)
    with one_thread_a_tensor():
        noise = _octaves(55_000, 3, BLOCK, 8, 0.9)
    corners = [noise.roll((-dz, -dy, -dx), (0, 1, 2)) for dz in (0, 1) for dy in (0, 1) for dx in (0, 1)]
    return torch.stack([corner.flatten() for corner in corners], 1).contiguous()


@lru_cache(maxsize=4)
def grain(device: str = "cpu") -> Tensor:
    """(2^20,) float32 numbers of unit variance, close to normal: sensor noise to cut pieces from."""
    if device != "cpu":
        return grain("cpu").to(device)
    four = uniform(SEED + 99, torch.arange(1 << 20), 3)
    return (four.sum(1) - 1.5) * 2.0


def look_up(texture: Tensor, x: Tensor, y: Tensor, level: Tensor) -> list[Tensor]:
    """Values of the bank: bilinear for the main channel, nearest for the tints.

    Args:
        texture: int64, which picture; broadcasts with the others.
        x, y: place, in units of the picture (1 is once around); any shape.
        level: float, pyramid level, rounded.

    Returns:
        Three tensors of the shape of x, roughly of unit variance.
    """
    bank = pictures(str(x.device))
    level = level.round().clamp(0, LEVELS - 1).int()
    starts = torch.tensor(_STARTS, dtype=torch.int32, device=x.device)
    shift = 8 - level
    size = torch.bitwise_left_shift(torch.ones_like(level), shift)
    wrap = size - 1
    start = starts[level] + texture.int() * _TOTAL
    scale = size.float()
    px, py = x * scale - 0.5, y * scale - 0.5
    fx, fy = px.floor(), py.floor()
    wx, wy = px - fx, py - fy
    x0, y0 = fx.int(), fy.int()
    x1, y1 = (x0 + 1) & wrap, (y0 + 1) & wrap
    x0, y0 = x0 & wrap, y0 & wrap
    row0, row1 = start + torch.bitwise_left_shift(y0, shift), start + torch.bitwise_left_shift(y1, shift)
    corners = ((row0 + x0), (row0 + x1), (row1 + x0), (row1 + x1))
    a, b, c, e = (bank[0].index_select(0, place.flatten()).view(x.shape) for place in corners)
    main = torch.lerp(torch.lerp(a, b, wx), torch.lerp(c, e, wx), wy)
    # The tints are weak: the nearest value does, and halves the cost.
    nearest = (torch.where(wy > 0.5, row1, row0) + torch.where(wx > 0.5, x1, x0)).flatten()
    return [main, *(channel.index_select(0, nearest).view(x.shape) for channel in bank[1:])]


def solid_noise(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Trilinear noise of unit variance at points (n,) each; one unit is an eighth of the period, the coarsest cell."""
    table = solid(str(x.device))
    scale = BLOCK / 8
    px, py, pz = x * scale, y * scale, z * scale
    fx, fy, fz = px.floor(), py.floor(), pz.floor()
    wx, wy, wz = px - fx, py - fy, pz - fz
    wrap = BLOCK - 1
    cell = (((fz.int() & wrap) * BLOCK + (fy.int() & wrap)) * BLOCK) + (fx.int() & wrap)
    c = table.index_select(0, cell).t()
    front = torch.lerp(torch.lerp(c[0], c[1], wx), torch.lerp(c[2], c[3], wx), wy)
    back = torch.lerp(torch.lerp(c[4], c[5], wx), torch.lerp(c[6], c[7], wx), wy)
    return torch.lerp(front, back, wz)
