"""From (seed, index) to a scene: class, individual, pose, paint, clutter, light, camera, background, lens."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from . import bank, materials
from .kinds import CLASSES, KINDS, NOVEL_CLASSES, NOVEL_KINDS
from .materials import BLOTCHES, CHECKS, COLUMN, PLAIN, SPOTS, STRIPES, WOOD
from .model import ACCENT, COAT, DARK, GLASS, PAINTS, PALE, SECOND, SLOTS, TYRE, Model
from .primitives import BOX, CONE, ELLIPSOID
from .random import Draws, hashed, uniform
from .scene import Background, Camera, Lens, Light, Primitives, Scene, about_vertical, compose, inverse
from .threads import one_thread_a_tensor

CLUTTER = 10  # things around the object, each of up to two primitives
FRONT, BESIDE = (
    1,
    3,
)  # of these: the first may stand before the object, the next few beside it, the rest behind
CHANNELS = 768  # random numbers an image may use
WORLD, SHAPE, THINGS = (
    0,
    1 << 12,
    1 << 13,
)  # where the channels of camera and light, object, and clutter start


def as_indices(indices: Sequence[int] | Tensor) -> Tensor:
    """Indices as int64 (B,).

    Raises:
        ValueError: if they are not a list of integers of at least 0.
    """
    try:
        indices = torch.as_tensor(indices)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"indices must be a sequence of integers: {error}") from None
    if indices.numel() == 0:
        raise ValueError("indices must name at least one picture")
    if indices.ndim != 1 or indices.is_floating_point() or indices.dtype == torch.bool:
        raise ValueError(f"indices must be a flat sequence of integers, got {indices.dtype} {tuple(indices.shape)}")
    if int(indices.min()) < 0:
        raise ValueError("indices must be at least 0")
    return indices.long()


def labels(seed: int, indices: Tensor, classes: int) -> Tensor:
    """Labels, int64 (B,): each run of `classes` indices holds every class once, in an order of its own."""
    block, place = indices // classes, indices % classes
    order = hashed(seed ^ 0x51AB, block[:, None], torch.arange(classes, device=indices.device)[None])
    return order.argsort(stable=True, dim=1).gather(1, place[:, None])[:, 0]


@one_thread_a_tensor()
def sample(indices: Sequence[int] | Tensor, seed: int = 0, novel: bool = False) -> Scene:
    """The scenes of some indices, on the indices' device (the CPU for a list).

    Args:
        indices: integers of at least 0.
        seed: which world; 0 is for training, 1 for validation.
        novel: the novel classes in place of the sixteen.

    Raises:
        ValueError: if the indices or the seed are not such.
    """
    indices = as_indices(indices)
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed must be an integer of at least 0, got {seed!r}")
    kinds = NOVEL_KINDS if novel else KINDS
    label = labels(seed, indices, len(NOVEL_CLASSES if novel else CLASSES))
    # Novel classes get a world of their own: the same index must not bring back a background of the training set.
    world = seed * 2 + int(novel)
    d = Draws(uniform(world, indices, CHANNELS, WORLD))
    shapes = uniform(world, indices, CHANNELS, SHAPE)
    objects, yaw, coat = _objects(label, shapes, list(kinds.values()), d)
    camera = _camera(d, objects, yaw)
    paint, texture_scale = _paints(d, coat)
    fur = torch.tensor([kind.fur for kind in kinds.values()], device=indices.device)[label]
    paint[..., COLUMN["fur"]] *= fur[:, None]
    primitives, base, size, landmarks = _placed(objects, yaw, paint, texture_scale, d)
    background = _background(d)
    clutter = _clutter(Draws(uniform(world, indices, CHANNELS, THINGS)), objects, camera, background.edge)
    primitives = Primitives(
        **{
            name: torch.cat([getattr(primitives, name), getattr(clutter, name)], 1)
            for name in ("kind", "taper", "alive", "part", "to_world", "to_texture", "material")
        }
    )
    return Scene(
        labels=label,
        novel=novel,
        primitives=primitives,
        camera=camera,
        light=_light(d),
        background=background,
        lens=_lens(d),
        base=base,
        size=size,
        yaw=yaw * (180 / math.pi),
        landmarks=landmarks,
        landmark_slots=objects["landmark_slots"],
    )


def _objects(label: Tensor, shapes: Tensor, kinds: list, d: Draws) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Every image's object in its own frame with extent 1, its yaw in radians, and its coat's pattern."""
    device = label.device
    objects: dict[str, Tensor] = {}
    turns = torch.tensor([kind.turn for kind in kinds], device=device)[label] * (math.pi / 180)
    yaw = d.between(-1.0, 1.0) * turns
    pick = d.unit(1)[:, 0]
    coat = torch.zeros_like(label)
    for number, kind in enumerate(kinds):
        rows = (label == number).nonzero()[:, 0]
        if len(rows) == 0:
            continue
        model = Model(Draws(shapes[rows]))
        kind.build(model)
        for name, value in model.finished().items():
            if name not in objects:
                objects[name] = value.new_zeros(len(label), *value.shape[1:])
            objects[name][rows] = value
        patterns = torch.tensor(kind.patterns, device=device)
        coat[rows] = patterns[(pick[rows] * len(patterns)).long()]
    return _normalised(objects), yaw, coat


def _normalised(objects: dict[str, Tensor]) -> dict[str, Tensor]:
    """Scale to a largest extent of 1, centred over the origin, standing on y = 0; adds half extents `half` (n, 3)."""
    affine = objects["affine"]
    unit = torch.eye(3, device=affine.device).expand(len(affine), 3, 3)
    middle, half = (
        torch.stack(values, 1) for values in zip(*(_range(objects, axis) for axis in unit.unbind(1)), strict=True)
    )
    low, high = middle - half, middle + half
    scale = 1 / (high - low).amax(1)
    middle = torch.stack([middle[:, 0], low[:, 1], middle[:, 2]], 1)
    moved = torch.cat([affine[..., :3], affine[..., 3:] - middle[:, None, :, None]], -1) * scale[:, None, None, None]
    landmarks = (objects["landmarks"] - middle[:, None]) * scale[:, None, None]
    half = (high - low) / 2 * scale[:, None]
    return {**objects, "affine": moved, "landmarks": landmarks, "half": half}


def _range(objects: dict[str, Tensor], axis: Tensor) -> tuple[Tensor, Tensor]:
    """Middle and half length (n,) of the objects' shadows on an axis (n, 3) of their own frame."""
    affine = objects["affine"]
    across = (affine[..., :3].mT @ axis[:, None, :, None])[..., 0]  # (n, SLOTS, 3): the axis seen by each unit space
    x, y, z = across.abs().unbind(-1)
    kind = objects["kind"]
    reach = torch.where(kind == BOX, x + y + z, (x * x + z * z).sqrt() + y)
    reach = torch.where(kind == ELLIPSOID, across.norm(dim=-1), reach)
    centre = (affine[..., 3] @ axis[..., None])[..., 0]
    low = torch.where(objects["framed"], centre - reach, torch.inf).amin(1)
    high = torch.where(objects["framed"], centre + reach, -torch.inf).amax(1)
    return (low + high) / 2, (high - low) / 2


def _camera(d: Draws, objects: dict[str, Tensor], yaw: Tensor) -> Camera:
    """A camera in front, looking down by 6 to 38 degrees, so that the object spans 62 to 95 % of the picture."""
    tilt = d.between(6, 38) * (math.pi / 180)
    focal = 1 / torch.tan(d.between(22, 46) * (math.pi / 360))
    span = d.between(0.62, 0.95)
    zero = torch.zeros_like(tilt)
    right = torch.stack([torch.ones_like(zero), zero, zero], 1)
    back = torch.stack([zero, tilt.sin(), tilt.cos()], 1)
    up = torch.cross(back, right, -1)
    turn = about_vertical(yaw)
    (middle_x, wide), (middle_y, tall), (middle_z, deep) = (
        _range(objects, (axis[:, None] @ turn)[:, 0]) for axis in (right, up, back)
    )
    distance = focal * torch.maximum(wide, tall) / span + deep * 0.6
    # The object is off the centre by up to what keeps it in the picture.
    room = (distance / focal)[:, None] - torch.stack([wide, tall], 1)
    offset = room.clamp(min=0) * (d.unit(2) * 2 - 1) * 0.75
    eye = (middle_x - offset[:, 0])[:, None] * right + (middle_y - offset[:, 1])[:, None] * up
    eye = eye + (middle_z + distance)[:, None] * back
    eye = torch.stack([eye[:, 0], eye[:, 1].clamp(min=0.3), eye[:, 2]], 1)  # never under the table
    roll = d.bell(-0.12, 0.12)
    c, s = roll.cos()[:, None], roll.sin()[:, None]
    axes = torch.stack([c * right + s * up, c * up - s * right, -back], 1)
    return Camera(eye=eye, axes=axes, focal=focal, shift=torch.zeros_like(offset))


def _paints(d: Draws, coat: Tensor) -> tuple[Tensor, Tensor]:
    """The paints of every object, (B, PAINTS, M), and the patterns' scale in cycles an extent, (B,)."""
    first = materials.color(d)
    second = materials.contrasting(d, first)
    paints = [first.new_zeros(len(coat), materials.M)] * PAINTS
    paints[COAT] = materials.material(d, first, second, coat)
    trim = torch.where(d.chance(0.6)[:, None], second, materials.color(d))
    simple = torch.where(d.chance(0.7), PLAIN, BLOTCHES)
    paints[SECOND] = materials.material(d, trim, first, simple)
    accent = materials.color(d)
    paints[ACCENT] = materials.material(d, accent, accent * 0.6, torch.full_like(coat, PLAIN))
    dark = d.between(0.02, 0.13)[:, None] * (0.6 + 0.8 * d.unit(3))
    paints[DARK] = materials.smooth(d, dark, shine=1.6, gloss=5.5)
    iris = (0.35 + 0.6 * d.unit(3)).clamp(max=0.95)
    paints[PALE] = materials.smooth(d, iris, shine=0.6, gloss=5.5)
    glass = (d.between(0.05, 0.6)[:, None] * (0.7 + 0.6 * d.unit(3))).clamp(max=0.95)
    paints[GLASS] = materials.smooth(d, glass, shine=1.3, gloss=5.0)
    tyre = d.between(0.08, 0.3)[:, None] * (0.85 + 0.3 * d.unit(3))
    paints[TYRE] = materials.smooth(d, tyre, shine=0.15, gloss=3.0)
    return torch.stack(paints, 1), _texture_scale(d, coat)


def _texture_scale(d: Draws, pattern: Tensor) -> Tensor:
    """Cycles a unit length: coarse for blotches, finer for the rest. Free of the class but for its pattern."""
    scale = d.log_between(3.5, 8.0)
    return scale * torch.where(pattern == BLOTCHES, 0.45, torch.where(pattern == STRIPES, 1.25, 1.0))


def _placed(objects: dict[str, Tensor], yaw: Tensor, paint: Tensor, scale: Tensor, d: Draws):
    """The object as world primitives, turned and painted."""
    n = len(yaw)
    size = torch.ones_like(yaw)
    turn = torch.cat([about_vertical(yaw), torch.zeros(n, 3, 1, device=yaw.device)], -1)
    texture = torch.cat([materials.orientation(d, 0.35) * scale[:, None, None], (d.unit(3) * 8)[..., None]], -1)
    texture = compose(texture, inverse(turn))
    material = paint.gather(1, objects["paint"][..., None].expand(-1, -1, materials.M))
    primitives = Primitives(
        kind=objects["kind"],
        taper=objects["taper"],
        alive=objects["alive"],
        part=objects["part"],
        to_world=compose(turn[:, None], objects["affine"]),
        to_texture=texture[:, None].expand(n, SLOTS, 3, 4),
        material=material,
    )
    landmarks = (turn[:, None, :, :3] @ objects["landmarks"][..., None])[..., 0]
    return primitives, torch.zeros(n, 3, device=yaw.device), size, landmarks


def _clutter(d: Draws, objects: dict[str, Tensor], camera: Camera, edge: Tensor) -> Primitives:
    """Things around the object. None is as round as the ball or as even as the block, so none is an example of them."""
    n, device = len(d), d.table.device
    half = objects["half"]
    reach = half[:, ::2].square().sum(1).sqrt()  # of the object's footprint
    parts: dict[str, list[Tensor]] = {
        name: [] for name in ("kind", "taper", "alive", "to_world", "to_texture", "material")
    }
    for number in range(CLUTTER):
        kind = d.integer(4)
        size = d.log_between(0.09, 0.26) if number < FRONT + BESIDE else d.log_between(0.14, 0.5)
        slim = d.between(1.5, 3.2)  # how far from round or even
        tall = d.chance(0.6) & (kind != ELLIPSOID)  # nothing balances on its tip
        flat = size / slim.sqrt()
        long = flat * slim
        radii = torch.stack(
            [
                torch.where(tall, flat, long),
                torch.where(tall, long, flat * d.between(0.5, 1.0)),
                torch.where(tall, flat, long) * d.between(0.6, 1.0),
            ],
            1,
        )
        turn = about_vertical(d.between(0, 2 * math.pi))
        own = radii[:, ::2].amax(1) * 1.2
        side = d.sign()
        if number < FRONT:
            # Before the object and off its middle: hides a part of it and never the most.
            x = side * half[:, 0].clamp(min=0.2) * d.between(0.6, 1.25)
            z = reach + own + d.between(0.05, 0.3)
            alive = d.chance(0.25)
            radii = radii * torch.minimum(0.22 / radii[:, 1], radii.new_ones(()))[:, None]
        elif number < FRONT + BESIDE:
            x = side * (reach + own + d.between(0.02, 0.9))
            z = d.between(-0.5, 0.5)
            alive = d.chance(0.5)
        else:
            z = -(reach + own + d.between(0.1, 1.0) ** 2 * 4.5)
            x = d.between(-1.0, 1.0) * (0.8 - 0.55 * z)
            alive = d.chance(0.6) & (z - own > -edge)
        centre = torch.stack([x, radii[:, 1], z], 1)
        affine = torch.cat([turn * radii[:, None, :], centre[..., None]], -1)
        # On top of half of them: a second piece, which makes bottles, tins with lids, trees, huts.
        top_kind = d.integer(4)
        top_half = radii * torch.stack([d.between(0.4, 0.9), d.between(0.2, 0.6), d.between(0.4, 0.9)], 1)
        top_alive = alive & d.chance(0.45) & (kind != CONE) & (kind != ELLIPSOID)
        top_centre = torch.stack([x, 2 * radii[:, 1] + top_half[:, 1] * 0.98, z], 1)
        top = torch.cat([turn * top_half[:, None, :], top_centre[..., None]], -1)
        taper = torch.where(kind == CONE, d.between(0.2, 1.0), 0.0)
        top_taper = torch.where(top_kind == CONE, d.between(0.3, 1.0), 0.0)
        pattern = d.choice((PLAIN, PLAIN, PLAIN, PLAIN, STRIPES, SPOTS, CHECKS, BLOTCHES, WOOD)).long()
        first = materials.color(d)
        look = materials.material(d, first, materials.contrasting(d, first), pattern)
        other = materials.color(d)
        top_look = materials.material(d, other, first, torch.full_like(pattern, PLAIN))
        scale = _texture_scale(d, pattern)
        texture = torch.cat(
            [materials.orientation(d, 0.35) @ turn.mT * scale[:, None, None], (d.unit(3) * 8)[..., None]], -1
        )
        for name, pair in {
            "kind": (kind, top_kind),
            "taper": (taper, top_taper),
            "alive": (alive, top_alive),
            "to_world": (affine, top),
            "to_texture": (texture, texture),
            "material": (look, top_look),
        }.items():
            parts[name].extend(pair)
    stacked = {name: torch.stack(values, 1) for name, values in parts.items()}
    # A thing that reaches behind or too near to the lens is left out.
    affine = stacked["to_world"]
    depth = ((affine[..., 3] - camera.eye[:, None]) * camera.axes[:, None, 2]).sum(-1)
    stacked["alive"] &= depth - affine[..., :3].square().sum((-1, -2)).sqrt() > 0.4
    return Primitives(part=torch.zeros(n, 2 * CLUTTER, dtype=torch.long, device=device), **stacked)


def _light(d: Draws) -> Light:
    """A lamp 22 to 72 degrees high, from the front, the side or half behind; warm, white or cool."""
    height, around = d.between(22, 72) * (math.pi / 180), d.between(-135, 135) * (math.pi / 180)
    flat = height.cos()
    direction = torch.stack([flat * around.sin(), height.sin(), flat * around.cos()], 1)
    warmth = d.bell(-1, 1)[:, None]
    hue = torch.cat([1 + 0.3 * warmth, 1 + 0.04 * warmth, 1 - 0.38 * warmth], 1)
    share = d.between(0.3, 0.78)[:, None]  # of the lamp in all light
    sky = torch.cat([1 - 0.16 * warmth, torch.ones_like(warmth), 1 + 0.2 * warmth], 1) * (1 - share)
    bounce = sky * d.between(0.35, 0.75)[:, None] * (0.85 + 0.3 * d.unit(3))
    return Light(direction=direction, color=hue * share * 1.5, sky=sky * 1.1, bounce=bounce, softness=d.unit(1)[:, 0])


def _background(d: Draws) -> Background:
    """A table and a backdrop, each any picture of the bank in any colours."""
    leaves, surfaces = bank.LEAVES, len(bank.SURFACES)
    table = torch.where(d.chance(0.8), leaves + d.integer(surfaces), d.integer(leaves))
    backdrop = torch.where(d.chance(0.7), d.integer(leaves), leaves + d.integer(surfaces))
    places, means, mixings = [], [], []
    for which in (0, 1):
        angle = d.between(0, 2 * math.pi) if which == 0 else d.integer(4) * (math.pi / 2) + d.bell(-0.3, 0.3)
        scale = d.log_between(0.16, 0.6) if which == 0 else d.log_between(0.12, 0.5)
        c, s = angle.cos() * scale, angle.sin() * scale
        offset = d.unit(2)
        places.append(torch.stack([c, s, offset[:, 0], -s, c, offset[:, 1]], 1).unflatten(1, (2, 3)))
        mean = materials.color(d)
        grey = mean.mean(1, keepdim=True)
        mean = torch.lerp(grey, mean, 0.75)  # large surfaces are duller than things
        means.append(mean)
        contrast = d.log_between(0.05, 0.18)[:, None] * (0.45 + 0.9 * grey)
        main = contrast * (0.75 + 0.5 * d.unit(3))
        tints = torch.stack([0.09 * (d.unit(3) - 0.5), 0.09 * (d.unit(3) - 0.5)], 2)
        mixings.append(torch.cat([main[..., None], tints], 2))
    return Background(
        texture=torch.stack([table, backdrop], 1),
        place=torch.stack(places, 1),
        mean=torch.stack(means, 1),
        mixing=torch.stack(mixings, 1),
        blur=d.between(0.0, 3.2),
        edge=d.log_between(0.9, 9.0),
    )


def _lens(d: Draws) -> Lens:
    return Lens(
        exposure=d.log_between(0.8, 1.45),
        blur=d.between(0.35, 0.75),
        noise=d.between(0.003, 0.016),
        grain=d.integer(1 << 18),
        vignette=d.between(0.0, 0.35),
    )
