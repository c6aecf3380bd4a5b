"""From (seed, index) to a scene: class, individual, pose, materials, clutter, light, camera."""

import math
from collections.abc import Sequence
from dataclasses import fields

import torch
from torch import Tensor

from . import textures
from .affine import affine, apply, compose, inverse, rotate_y
from .classes import KINDS, NOVEL_KINDS, Kind
from .materials import (
    BLOTCHES,
    CHECKS,
    COLUMN,
    PLAIN,
    SPOTS,
    STRIPES,
    WOOD,
    M,
    color,
    contrasting,
    material,
    orientation,
    smooth,
)
from .model import SLOTS, Model
from .primitives import BOX, CONE, ELLIPSOID
from .random import Draws, hashed, uniform
from .scene import Background, Camera, Lens, Light, Primitives, Scene
from .threads import single_threaded

CLUTTER = 10  # things around the object, each of up to two primitives
FRONT, BESIDE = 1, 3  # how many of these may stand before it and beside it; the rest behind
CHANNELS = 768  # random numbers an image may use for each of: camera and light, object, clutter
VIEW, SHAPE, THINGS = 0, 1 << 12, 1 << 13  # where their channels start
DEGREE = math.pi / 180


@single_threaded()
def sample(indices: Sequence[int] | Tensor, seed: int = 0, novel: bool = False) -> Scene:
    """Sample the scenes of some indices, on the indices' device (the CPU for a list).

    Args:
        indices: integers of at least 0.
        seed: 0 is for training, 1 for validation.
        novel: draw the novel classes in place of the sixteen.

    Raises:
        ValueError: if the indices or the seed are not such.
    """
    indices = _as_indices(indices)
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed must be an integer of at least 0, got {seed!r}")
    kinds = list((NOVEL_KINDS if novel else KINDS).values())
    label = _labels(seed, indices, len(kinds))
    # Novel classes have numbers of their own, so that no background of the training set returns.
    stream = seed * 2 + int(novel)
    d, shapes, things = (
        Draws(uniform(stream, indices, CHANNELS, start)) for start in (VIEW, SHAPE, THINGS)
    )

    def of_kind(values: list[float]) -> Tensor:
        return torch.tensor(values, device=indices.device)[label]

    yaw = d.between(-1.0, 1.0) * (of_kind([kind.turn for kind in kinds]) * DEGREE)
    objects, coat = _objects(label, kinds, shapes, d.unit(1)[:, 0])
    objects = _normalized(objects)
    camera = _camera(d, objects, yaw)
    materials, scale = _materials(d, coat)
    materials[..., COLUMN["fur"]] *= of_kind([kind.fur for kind in kinds])[:, None]
    turn = affine(rotate_y(yaw), yaw.new_zeros(len(yaw), 3))
    placed = _placed(d, objects, turn, materials, scale)
    background = _background(d)
    clutter = _clutter(things, objects["half"], camera, background.edge)
    joined = {f.name: [getattr(p, f.name) for p in (placed, clutter)] for f in fields(Primitives)}
    return Scene(
        labels=label,
        primitives=Primitives(**{name: torch.cat(pair, 1) for name, pair in joined.items()}),
        camera=camera,
        light=_light(d),
        background=background,
        lens=_lens(d),
        base=yaw.new_zeros(len(yaw), 3),
        size=torch.ones_like(yaw),
        yaw=yaw * (180 / math.pi),
        landmarks=apply(turn[:, None], objects["landmarks"]),
        landmark_slots=objects["landmark_slots"],
    )


def _as_indices(indices: Sequence[int] | Tensor) -> Tensor:
    """Return indices as int64 (B,), or refuse them."""
    wanted = "indices must be a flat sequence of integers of at least 0"
    try:
        indices = torch.as_tensor(indices)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{wanted}: {error}") from None
    whole = not (indices.is_floating_point() or indices.is_complex() or indices.dtype == torch.bool)
    if not (whole and indices.ndim == 1 and len(indices) and indices.min() >= 0):
        raise ValueError(f"{wanted}, got {indices.dtype} {tuple(indices.shape)}")
    return indices.long()


def _labels(seed: int, indices: Tensor, classes: int) -> Tensor:
    """Return int64 (B,): each run of `classes` indices holds every class once, in its own order."""
    block, place = indices // classes, indices % classes
    every = torch.arange(classes, device=indices.device)
    order = hashed(seed ^ 0x51AB, block[:, None], every[None])
    return order.argsort(stable=True, dim=1).gather(1, place[:, None])[:, 0]


def _objects(
    label: Tensor, kinds: list[Kind], shapes: Draws, pick: Tensor
) -> tuple[dict[str, Tensor], Tensor]:
    """Build every image's object in its own frame, and pick (B,) its coat's pattern."""
    objects: dict[str, Tensor] = {}
    coat = torch.zeros_like(label)
    for number, kind in enumerate(kinds):
        rows = (label == number).nonzero()[:, 0]
        if len(rows) == 0:
            continue
        patterns = torch.tensor(kind.patterns, device=label.device)
        coat[rows] = patterns[(pick[rows] * len(patterns)).long()]
        model = Model(len(rows), label.device)
        kind.build(model, shapes.rows(rows))
        for name, value in model.finished().items():
            if name not in objects:
                objects[name] = value.new_zeros(len(label), *value.shape[1:])
            objects[name][rows] = value
    return objects, coat


def _normalized(objects: dict[str, Tensor]) -> dict[str, Tensor]:
    """Scale to extent 1, centre over the origin, stand on y = 0; add half extents `half` (n, 3)."""
    maps = objects["affine"]
    axes = torch.eye(3, device=maps.device).expand(len(maps), 3, 3).unbind(1)
    ranges = [_range(objects, axis) for axis in axes]
    middle, half = (torch.stack(values, 1) for values in zip(*ranges, strict=True))
    low, high = middle - half, middle + half
    scale = 1 / (high - low).amax(1)
    foot = torch.stack([middle[:, 0], low[:, 1], middle[:, 2]], 1)
    maps = affine(maps[..., :3], maps[..., 3] - foot[:, None]) * scale[:, None, None, None]
    landmarks = (objects["landmarks"] - foot[:, None]) * scale[:, None, None]
    half = (high - low) / 2 * scale[:, None]
    return objects | {"affine": maps, "landmarks": landmarks, "half": half}


def _range(objects: dict[str, Tensor], axis: Tensor) -> tuple[Tensor, Tensor]:
    """Return middle and half length (n,) of the objects along an axis (n, 3) of their own frame."""
    maps, kind, framed = objects["affine"], objects["kind"], objects["framed"]
    across = (maps[..., :3].mT @ axis[:, None, :, None])[..., 0]  # (n, SLOTS, 3), in unit space
    x, y, z = across.abs().unbind(-1)
    reach = torch.where(kind == BOX, x + y + z, (x * x + z * z).sqrt() + y)
    reach = torch.where(kind == ELLIPSOID, across.norm(dim=-1), reach)
    centre = (maps[..., 3] @ axis[..., None])[..., 0]
    low = torch.where(framed, centre - reach, torch.inf).amin(1)
    high = torch.where(framed, centre + reach, -torch.inf).amax(1)
    return (low + high) / 2, (high - low) / 2


def _camera(d: Draws, objects: dict[str, Tensor], yaw: Tensor) -> Camera:
    """Look down by 6 to 38 degrees, the object spanning 62 to 95 % of the image."""
    tilt = d.between(6, 38) * DEGREE
    focal = 1 / torch.tan(d.between(22, 46) * (math.pi / 360))
    span = d.between(0.62, 0.95)
    zero = torch.zeros_like(tilt)
    right = torch.stack([torch.ones_like(zero), zero, zero], 1)
    back = torch.stack([zero, tilt.sin(), tilt.cos()], 1)
    up = torch.cross(back, right, -1)
    turn = rotate_y(yaw)
    (middle_x, wide), (middle_y, tall), (middle_z, deep) = (
        _range(objects, (axis[:, None] @ turn)[:, 0]) for axis in (right, up, back)
    )
    distance = focal * torch.maximum(wide, tall) / span + deep * 0.6
    # The object is off the centre by up to what keeps it in the image.
    room = (distance / focal)[:, None] - torch.stack([wide, tall], 1)
    offset = room.clamp(min=0) * (d.unit(2) * 2 - 1) * 0.75
    eye = (middle_x - offset[:, 0])[:, None] * right + (middle_y - offset[:, 1])[:, None] * up
    eye = eye + (middle_z + distance)[:, None] * back
    eye[:, 1].clamp_(min=0.3)  # never under the table
    roll = d.bell(-0.12, 0.12)
    c, s = roll.cos()[:, None], roll.sin()[:, None]
    axes = torch.stack([c * right + s * up, c * up - s * right, -back], 1)
    return Camera(eye=eye, axes=axes, focal=focal, shift=torch.zeros_like(offset))


def _materials(d: Draws, coat: Tensor) -> tuple[Tensor, Tensor]:
    """Return each object's materials (B, 7, M), COAT to TYRE, and the scale (B,) of its pattern."""
    plain = torch.full_like(coat, PLAIN)
    first = color(d)
    second = contrasting(d, first)
    main = material(d, first, second, coat)
    trim = torch.where(d.chance(0.6)[:, None], second, color(d))
    trim = material(d, trim, first, torch.where(d.chance(0.7), PLAIN, BLOTCHES))
    accent = color(d)
    accent = material(d, accent, accent * 0.6, plain)
    dark = d.between(0.02, 0.13)[:, None] * (0.6 + 0.8 * d.unit(3))
    dark = smooth(d, dark, shine=1.6, gloss=5.5)
    pale = (0.35 + 0.6 * d.unit(3)).clamp(max=0.95)
    pale = smooth(d, pale, shine=0.6, gloss=5.5)
    glass = (d.between(0.05, 0.6)[:, None] * (0.7 + 0.6 * d.unit(3))).clamp(max=0.95)
    glass = smooth(d, glass, shine=1.3, gloss=5.0)
    tyre = d.between(0.08, 0.3)[:, None] * (0.85 + 0.3 * d.unit(3))
    tyre = smooth(d, tyre, shine=0.15, gloss=3.0)
    return torch.stack([main, trim, accent, dark, pale, glass, tyre], 1), _texture_scale(d, coat)


def _texture_scale(d: Draws, pattern: Tensor) -> Tensor:
    """Draw the cycles of the pattern a unit length: coarse for blotches, whatever the class."""
    scale = d.log_between(3.5, 8.0)
    finer = torch.where(pattern == STRIPES, 1.25, 1.0)
    return scale * torch.where(pattern == BLOTCHES, 0.45, finer)


def _placed(
    d: Draws, objects: dict[str, Tensor], turn: Tensor, materials: Tensor, scale: Tensor
) -> Primitives:
    """Turn the objects by `turn` (n, 3, 4) and give them their materials."""
    texture = affine(orientation(d) * scale[:, None, None], d.unit(3) * 8)
    texture = compose(texture, inverse(turn))
    chosen = objects["material"][..., None].expand(-1, -1, M)
    return Primitives(
        **{name: objects[name] for name in ("kind", "taper", "alive", "part")},
        to_world=compose(turn[:, None], objects["affine"]),
        to_texture=texture[:, None].expand(-1, SLOTS, 3, 4),
        material=materials.gather(1, chosen),
    )


def _clutter(d: Draws, half: Tensor, camera: Camera, edge: Tensor) -> Primitives:
    """Put things around an object of half extents (n, 3).

    None is as round as the ball or as even as the block, so none is an example of them.
    """
    reach = half[:, ::2].square().sum(1).sqrt()  # of the object's footprint
    things = []
    for number in range(CLUTTER):
        kind = d.integer(4)
        small = number < FRONT + BESIDE
        size = d.log_between(0.09, 0.26) if small else d.log_between(0.14, 0.5)
        slim = d.between(1.5, 3.2)  # how far from round or even
        tall = d.chance(0.6) & (kind != ELLIPSOID)  # nothing balances on its tip
        flat = size / slim.sqrt()
        long = flat * slim
        high = torch.where(tall, long, flat * d.between(0.5, 1.0))
        wide = torch.where(tall, flat, long)
        radii = torch.stack([wide, high, wide * d.between(0.6, 1.0)], 1)
        turn = rotate_y(d.between(0, 2 * math.pi))
        radius = radii[:, ::2].amax(1) * 1.2
        side = d.sign()
        if number < FRONT:
            # Before the object and off its middle: hides a part of it and never the most.
            x = side * half[:, 0].clamp(min=0.2) * d.between(0.6, 1.25)
            z = reach + radius + d.between(0.05, 0.3)
            alive = d.chance(0.25)
            radii = radii * (0.22 / radii[:, 1]).clamp(max=1)[:, None]
        elif number < FRONT + BESIDE:
            x = side * (reach + radius + d.between(0.02, 0.9))
            z = d.between(-0.5, 0.5)
            alive = d.chance(0.5)
        else:
            z = -(reach + radius + d.between(0.1, 1.0) ** 2 * 4.5)
            x = d.between(-1.0, 1.0) * (0.8 - 0.55 * z)
            alive = d.chance(0.6) & (z - radius > -edge)
        y = radii[:, 1]
        placed = affine(turn * radii[:, None, :], torch.stack([x, y, z], 1))
        # On top of half of them: a second piece, which makes bottles, tins with lids, trees, huts.
        top_kind = d.integer(4)
        top_radii = radii * torch.stack(d.ranges((0.4, 0.9), (0.2, 0.6), (0.4, 0.9)), 1)
        top_alive = alive & d.chance(0.45) & (kind != CONE) & (kind != ELLIPSOID)
        top_centre = torch.stack([x, 2 * y + top_radii[:, 1] * 0.98, z], 1)
        taper, top_taper = d.ranges((0.2, 1.0), (0.3, 1.0))
        pattern = d.choice((*(PLAIN,) * 4, STRIPES, SPOTS, CHECKS, BLOTCHES, WOOD))
        first = color(d)
        look = material(d, first, contrasting(d, first), pattern)
        top_look = material(d, color(d), first, torch.full_like(pattern, PLAIN))
        scale = _texture_scale(d, pattern)
        texture = orientation(d) @ turn.mT * scale[:, None, None]
        texture = affine(texture, d.unit(3) * 8)
        pairs = {
            "kind": (kind, top_kind),
            "taper": (taper * (kind == CONE), top_taper * (top_kind == CONE)),
            "alive": (alive, top_alive),
            "part": (torch.zeros_like(kind), torch.zeros_like(kind)),
            "to_world": (placed, affine(turn * top_radii[:, None, :], top_centre)),
            "to_texture": (texture, texture),
            "material": (look, top_look),
        }
        things.append({name: torch.stack(pair, 1) for name, pair in pairs.items()})
    joined = {name: torch.cat([thing[name] for thing in things], 1) for name in things[0]}
    # A thing that reaches behind or too near to the lens is left out.
    maps = joined["to_world"]
    depth = ((maps[..., 3] - camera.eye[:, None]) * camera.axes[:, None, 2]).sum(-1)
    joined["alive"] &= depth - maps[..., :3].square().sum((-1, -2)).sqrt() > 0.4
    return Primitives(**joined)


def _light(d: Draws) -> Light:
    """Put a warm, white or cool lamp 22 to 72 degrees high, to the front, the side or the rear."""
    height, around = (angle * DEGREE for angle in d.ranges((22, 72), (-135, 135)))
    flat = height.cos()
    direction = torch.stack([flat * around.sin(), height.sin(), flat * around.cos()], 1)
    warmth = d.bell(-1, 1)[:, None]
    hue = torch.cat([1 + 0.3 * warmth, 1 + 0.04 * warmth, 1 - 0.38 * warmth], 1)
    share = d.between(0.3, 0.78)[:, None]  # of the lamp in all light
    sky = torch.cat([1 - 0.16 * warmth, torch.ones_like(warmth), 1 + 0.2 * warmth], 1) * (1 - share)
    bounce = sky * d.between(0.35, 0.75)[:, None] * (0.85 + 0.3 * d.unit(3))
    return Light(direction, hue * share * 1.5, sky * 1.1, bounce, softness=d.unit(1)[:, 0])


def _background(d: Draws) -> Background:
    """Choose a table and a backdrop, each any texture of the bank in any colours."""
    leaves, surfaces = textures.LEAVES, len(textures.SURFACES)
    table = torch.where(d.chance(0.8), leaves + d.integer(surfaces), d.integer(leaves))
    backdrop = torch.where(d.chance(0.7), d.integer(leaves), leaves + d.integer(surfaces))
    places, means, mixings = [], [], []
    for layer in range(2):
        if layer == 0:
            angle, scale = d.between(0, 2 * math.pi), d.log_between(0.16, 0.6)
        else:
            angle = d.integer(4) * (math.pi / 2) + d.bell(-0.3, 0.3)
            scale = d.log_between(0.12, 0.5)
        c, s = angle.cos() * scale, angle.sin() * scale
        x, y = d.unit(2).unbind(1)
        places.append(torch.stack([c, s, x, -s, c, y], 1).unflatten(1, (2, 3)))
        mean = color(d)
        grey = mean.mean(1, keepdim=True)
        means.append(torch.lerp(grey, mean, 0.75))  # large surfaces are duller than things
        contrast = d.log_between(0.05, 0.18)[:, None] * (0.45 + 0.9 * grey)
        main = contrast * (0.75 + 0.5 * d.unit(3))
        mixings.append(torch.stack([main, 0.09 * (d.unit(3) - 0.5), 0.09 * (d.unit(3) - 0.5)], 2))
    texture = torch.stack([table, backdrop], 1)
    place, mean, mixing = (torch.stack(layers, 1) for layers in (places, means, mixings))
    blur, edge = d.between(0.0, 3.2), d.log_between(0.9, 9.0)
    return Background(texture, place, mean, mixing, blur=blur, edge=edge)


def _lens(d: Draws) -> Lens:
    return Lens(
        exposure=d.log_between(0.8, 1.45),
        blur=d.between(0.35, 0.75),
        noise=d.between(0.003, 0.016),
        grain=d.integer(1 << 18),
        vignette=d.between(0.0, 0.35),
    )
