"""Everything that is not an animal: vehicles, buildings, tools, plants, vessels, toys."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .model import ACCENT, COAT, DARK, GLASS, PALE, SECOND, TYRE, Model, Number
from .primitives import BOX


def _wheels(model: Model, radius: Tensor, wide: Tensor, track: Tensor, places: tuple[Number, ...]) -> None:
    """Wheels with hubs on both sides, standing on the ground at the given z."""
    turn = model.turn(z=math.pi / 2)
    for side in (1.0, -1.0):
        for z in places:
            model.drum("wheel", (side * track, radius, z), (radius, wide, radius), turn=turn, paint=TYRE)
            model.drum(
                "wheel",
                (side * (track + wide * 0.9), radius, z),
                (radius * 0.55, wide * 0.25, radius * 0.55),
                turn=turn,
                paint=PALE,
            )


def _lights(model: Model, x: Tensor, y: Number, z: Number, size: Number) -> None:
    for side in (1.0, -1.0):
        model.ball("light", (side * x, y, z), (size, size, size * 0.5), paint=PALE)


def car(model: Model) -> None:
    """A car: low body, cabin with windows, four wheels."""
    d = model.d
    long, wide = d.between(0.95, 1.15), d.between(0.42, 0.52)
    radius = d.between(0.19, 0.26)
    high = d.between(0.15, 0.22)
    floor = radius * d.between(0.7, 1.0)
    middle = floor + high
    model.box("body", (0.0, middle, 0.0), (wide, high, long))
    # A rounded hood and tail in half of them.
    round_ = d.chance(0.6)
    model.ball("body", (0.0, middle + high * 0.45, 0.0), (wide * 1.05, high * 1.15, long * 1.1), present=round_)
    cabin, back = d.between(0.42, 0.6) * long, d.between(-0.35, 0.0) * long
    up = d.between(0.16, 0.26)
    top = middle + high + up * 0.8
    model.drum(
        "cab",
        (0.0, top, back),
        (wide * 1.22, up, cabin * 1.35),
        taper=d.between(0.2, 0.42),
        paint=GLASS,
        present=round_,
    )
    model.box("cab", (0.0, top, back), (wide * 0.88, up, cabin), paint=COAT, present=~round_)
    model.box("window", (0.0, top, back), (wide * 0.9, up * 0.62, cabin * 0.82), paint=GLASS, present=~round_)
    model.box("window", (0.0, top, back), (wide * 0.76, up * 0.62, cabin * 1.02), paint=GLASS, present=~round_)
    model.ball("roof", (0.0, top + up * 0.95, back), (wide * 0.85, up * 0.25, cabin * 0.95), paint=COAT)
    _wheels(model, radius, radius * 0.35, wide * 0.95, (long * 0.62, -long * 0.62))
    _lights(model, wide * 0.68, middle + high * 0.1, long * 1.02, radius * 0.36)
    model.box("body", (0.0, floor + high * 0.2, 0.0), (wide * 0.95, high * 0.22, long * 1.06), paint=ACCENT)


def truck(model: Model) -> None:
    """A truck: cab in front, a cargo box behind, six wheels."""
    d = model.d
    wide, radius = d.between(0.36, 0.46), d.between(0.17, 0.22)
    cargo, cab = d.between(0.55, 0.85), d.between(0.24, 0.34)
    floor = radius * 1.4
    total = cargo + cab
    cab_high, cargo_high = d.between(0.3, 0.42), d.between(0.34, 0.55)
    tank = d.chance(0.3)
    model.box("body", (0.0, floor, 0.0), (wide * 0.8, radius * 0.3, total), paint=DARK)
    cab_z = total - cab
    model.box("cab", (0.0, floor + cab_high, cab_z), (wide * 0.95, cab_high, cab))
    model.box("window", (0.0, floor + cab_high * 1.4, cab_z), (wide * 0.8, cab_high * 0.36, cab * 1.03), paint=GLASS)
    model.box(
        "window",
        (0.0, floor + cab_high * 1.4, cab_z + cab * 0.1),
        (wide * 0.98, cab_high * 0.34, cab * 0.6),
        paint=GLASS,
    )
    gap = d.between(0.03, 0.1)
    load = cargo - gap
    cargo_z = -total + load
    model.box(
        "cargo",
        (0.0, floor + cargo_high + 0.05, cargo_z),
        (wide * 1.08, cargo_high, load),
        paint=SECOND,
        present=~tank,
    )
    model.drum(
        "cargo",
        (0.0, floor + wide * 0.95, cargo_z),
        (wide * 1.0, load, wide * 0.95),
        paint=SECOND,
        present=tank,
        turn=model.turn(x=math.pi / 2),
    )
    _wheels(model, radius, radius * 0.4, wide * 0.9, (total * 0.72, -total * 0.35, -total * 0.35 - radius * 2.1))
    _lights(model, wide * 0.66, floor + cab_high * 0.35, total * 1.01, radius * 0.4)
    model.box("body", (0.0, floor * 0.75, total), (wide * 0.95, radius * 0.25, 0.05), paint=ACCENT)


def bus(model: Model) -> None:
    """A bus: one long box with a row of windows."""
    d = model.d
    wide, long, radius = d.between(0.3, 0.4), d.between(0.95, 1.2), d.between(0.15, 0.2)
    high = d.between(0.36, 0.5)
    floor = radius * 0.9
    model.box("body", (0.0, floor + high, 0.0), (wide, high, long))
    count = 5
    for k in range(count):
        z = long * (-0.78 + 1.56 * k / (count - 1))
        model.box("window", (0.0, floor + high * 1.38, z), (wide * 1.02, high * 0.32, long * 0.14), paint=GLASS)
    model.box("window", (0.0, floor + high * 1.3, 0.0), (wide * 0.82, high * 0.42, long * 1.01), paint=GLASS)
    model.box("body", (0.0, floor + high * 0.7, 0.0), (wide * 1.01, high * 0.1, long * 1.005), paint=SECOND)
    model.ball("roof", (0.0, floor + 2 * high, 0.0), (wide * 0.95, high * 0.14, long * 0.97), paint=ACCENT)
    _wheels(model, radius, radius * 0.35, wide * 0.88, (long * 0.62, -long * 0.6))
    _lights(model, wide * 0.7, floor + high * 0.4, long * 1.005, radius * 0.4)


def tractor(model: Model) -> None:
    """A tractor: big wheels behind, small in front, a hood, a cab and a chimney."""
    d = model.d
    big, small = d.between(0.44, 0.54), d.between(0.22, 0.28)
    wide = d.between(0.22, 0.3)
    model.box("body", (0.0, big * 1.15, 0.45), (wide, 0.22, 0.55))
    model.ball("body", (0.0, big * 1.15, 0.98), (wide * 0.98, 0.21, 0.12), paint=SECOND)
    cab = d.between(0.28, 0.38)
    model.box("cab", (0.0, big * 1.15 + cab, -0.3), (wide * 1.1, cab, 0.32), paint=GLASS)
    model.box("roof", (0.0, big * 1.15 + 2 * cab, -0.3), (wide * 1.3, 0.05, 0.4), paint=COAT)
    model.drum("chimney", (wide * 0.5, big * 1.15 + 0.42, 0.6), (0.05, d.between(0.2, 0.32), 0.05), paint=DARK)
    _wheels(model, big, big * 0.22, wide * 1.35, (-0.35,))
    _wheels(model, small, small * 0.3, wide * 1.1, (0.75,))
    _lights(model, wide * 0.6, big * 1.2, 1.05, 0.07)


def house(model: Model, cross: bool = False) -> None:
    """A house with a gable roof, windows, a door and perhaps a chimney; `cross` puts a cross on the ridge."""
    d = model.d
    wide, long, high = d.between(0.5, 0.7), d.between(0.6, 0.95), d.between(0.35, 0.6)
    rise = wide * d.between(0.65, 1.15)
    model.box("wall", (0.0, high, 0.0), (wide, high, long))
    # A square prism on its edge, squashed: its upper half is the gable, its lower half is inside the walls.
    over = d.between(1.1, 1.22)
    half = 1 / math.sqrt(2)
    edge = model.turn(z=math.pi / 4) * half
    gable = torch.diag_embed(model.point((wide, torch.minimum(rise, high * 1.9), long))) @ edge
    gable = torch.stack([gable[..., 0], gable[..., 1], model.point((0.0, 0.0, long * 1.001))], -1)
    model.put(BOX, "wall", (0.0, 2 * high, 0.0), (1.0, 1.0, 1.0), linear=gable, paint=COAT)
    slope = torch.atan2(rise, model.number(wide))
    run = (wide**2 + rise**2).sqrt() * over / 2
    for side in (1.0, -1.0):
        turn = model.turn(z=-side * slope)
        centre = (side * run * slope.cos(), 2 * high + rise - run * slope.sin() + 0.03, 0.0)
        model.box("roof", centre, (run, 0.045, long * over), turn=turn, paint=SECOND)
    door = d.between(0.1, 0.15)
    aside = d.between(-0.25, 0.25)
    model.box("door", (aside, high * 0.55, long), (door, high * 0.55, 0.03), paint=ACCENT)
    for side in (1.0, -1.0):
        model.box("window", (side * wide * 0.66, high * 1.15, long), (wide * 0.16, high * 0.28, 0.025), paint=GLASS)
        for z in (0.45, -0.45):
            model.box("window", (side * wide, high * 1.15, z * long), (0.025, high * 0.28, long * 0.17), paint=GLASS)
    model.drum(
        "window",
        (0.0, 2 * high + rise * 0.35, long),
        (wide * 0.13, 0.025, wide * 0.13),
        paint=GLASS,
        turn=model.turn(x=math.pi / 2),
    )
    chimney = d.chance(0.6)
    where = d.between(-0.5, 0.2)
    model.box(
        "chimney",
        (wide * 0.5, 2 * high + rise * 0.85, where * long),
        (0.09, rise * 0.5, 0.09),
        paint=ACCENT,
        present=chimney,
    )
    model.box(
        "chimney",
        (wide * 0.5, 2 * high + rise * 1.35, where * long),
        (0.12, 0.03, 0.12),
        paint=DARK,
        present=chimney,
    )
    # A house leaves room for the cross it lacks: size and framing must not tell the two classes apart.
    size, place = d.between(0.34, 0.46), d.between(0.3, 0.9)
    there = torch.full((model.n,), cross, device=model.device)
    top, thick = 2 * high + rise, size * 0.24
    cross_of = {"paint": PALE, "present": there, "framed": True}
    model.box("cross", (0.0, top + size * 0.9, place * long), (thick, size, thick), **cross_of)
    model.box("cross", (0.0, top + size * 1.2, place * long), (size * 0.62, thick, thick), **cross_of)


def chapel(model: Model) -> None:
    """A house with a cross on its ridge and no other difference."""
    house(model, cross=True)


def castle(model: Model) -> None:
    """Four round towers with pointed hats around a battlemented wall."""
    d = model.d
    wide, long, high = d.between(0.55, 0.75), d.between(0.45, 0.7), d.between(0.28, 0.42)
    model.box("wall", (0.0, high, 0.0), (wide, high, long))
    for k in range(5):
        model.box("battlement", (wide * (-0.8 + 0.4 * k), 2 * high + 0.06, long), (wide * 0.1, 0.07, 0.07))
    model.box("door", (0.0, high * 0.5, long), (0.14, high * 0.5, 0.04), paint=DARK)
    radius, up = d.between(0.17, 0.24), high * d.between(1.15, 1.7)
    pointed, hat = d.chance(0.7), d.between(0.2, 0.34)
    for sx in (1.0, -1.0):
        for sz in (1.0, -1.0):
            model.drum("tower", (sx * wide, up, sz * long), (radius, up, radius), paint=COAT)
            model.drum(
                "roof",
                (sx * wide, 2 * up + hat, sz * long),
                (radius * 1.25, hat, radius * 1.25),
                taper=1.0,
                paint=SECOND,
                present=pointed,
            )
            model.drum(
                "battlement",
                (sx * wide, 2 * up + 0.05, sz * long),
                (radius * 1.2, 0.06, radius * 1.2),
                paint=ACCENT,
                present=~pointed,
            )
        model.box("window", (sx * wide, up * 1.5, long + radius), (0.04, 0.09, 0.02), paint=DARK)


def hammer(model: Model) -> None:
    """A hammer, standing on its head or lying with the end of the handle on the ground."""
    d = model.d
    long, thick = d.between(0.8, 1.1), d.between(0.065, 0.1)
    head, size = d.between(0.26, 0.4), d.between(0.13, 0.19)
    lies = d.chance(0.45)
    lean = torch.where(lies, torch.asin((size * 1.0 - thick) / (2 * long)) + math.pi / 2, d.between(-0.15, 0.15))
    lean = lean * d.sign()
    # The handle turns about the head's own axis (z), so the head always rests on the ground.
    up = (lean.sin(), lean.cos())
    tip = (2 * long * up[0], size + 2 * long * up[1], 0.0)
    model.limb("handle", (0.0, size, 0.0), tip, thick, thick * 0.85, paint=SECOND)
    grip = tuple(a * 0.6 + b * 0.4 for a, b in zip(tip, (0.0, size, 0.0), strict=True))
    model.limb("grip", grip, tip, thick * 1.25, thick * 1.2, paint=ACCENT, present=d.chance(0.5))
    turn = model.turn(z=-lean)
    square = d.chance(0.5)
    model.box("hammer head", (0.0, size, -head * 0.15), (size * 0.8, size * 0.8, head * 0.55), turn=turn)
    axis = model.turn(x=math.pi / 2)
    model.box("hammer head", (0.0, size, head * 0.7), (size, size, head * 0.35), turn=turn, present=square)
    model.drum("hammer head", (0.0, size, head * 0.7), (size, head * 0.35, size), turn=axis, present=~square)
    model.drum(
        "hammer head",
        (0.0, size, -head * 1.0),
        (size * 0.75, head * 0.45, size * 0.75),
        turn=model.turn(x=-math.pi / 2),
        taper=d.between(0.3, 1.0),
    )


def mug(model: Model) -> None:
    """A mug with a handle at its side."""
    d = model.d
    radius, high = d.between(0.38, 0.55), d.between(0.42, 0.7)
    taper = d.between(0.0, 0.3)
    # Wider at the top: the cone is put upside down.
    model.drum("cup", (0.0, high, 0.0), (radius, high, radius), taper=taper, turn=model.turn(x=math.pi))
    model.drum("cup", (0.0, 2 * high - 0.03, 0.0), (radius * 1.04, 0.04, radius * 1.04), paint=SECOND)
    model.drum("inside", (0.0, 2 * high + 0.002, 0.0), (radius * 0.88, 0.014, radius * 0.88), paint=DARK)
    thick, reach = d.between(0.06, 0.09), d.between(0.28, 0.42)
    low, top = high * d.between(0.4, 0.65), high * d.between(1.4, 1.7)
    wall, side = radius * 0.8, d.sign()
    joints = [
        (wall, top),
        (radius + reach * 0.85, top - 0.05),
        (radius + reach, (low + top) / 2),
        (radius + reach * 0.75, low + 0.05),
        (wall, low),
    ]
    for (x0, y0), (x1, y1) in zip(joints[:-1], joints[1:], strict=True):
        model.limb("handle", (side * x0, y0, 0.0), (side * x1, y1, 0.0), thick, thick, paint=ACCENT)
    for x, y in joints[1:-1]:
        model.ball("handle", (side * x, y, 0.0), (thick * 1.05, thick * 1.05, thick * 1.05), paint=ACCENT)


def bottle(model: Model) -> None:
    """A bottle: body, shoulder, neck, cap and a label."""
    d = model.d
    radius, high, neck = d.between(0.22, 0.34), d.between(0.4, 0.6), d.between(0.09, 0.13)
    shoulder, long = d.between(0.1, 0.25), d.between(0.12, 0.25)
    model.drum("bottle", (0.0, high, 0.0), (radius, high, radius))
    model.drum("bottle", (0.0, 2 * high + shoulder, 0.0), (radius, shoulder, radius), taper=1 - neck / radius)
    top = 2 * high + 2 * shoulder
    model.drum("neck", (0.0, top + long, 0.0), (neck, long, neck))
    model.drum("cap", (0.0, top + 2 * long, 0.0), (neck * 1.25, 0.07, neck * 1.25), paint=ACCENT)
    model.drum(
        "label",
        (0.0, high * d.between(0.8, 1.1), 0.0),
        (radius * 1.02, high * d.between(0.3, 0.55), radius * 1.02),
        paint=SECOND,
    )


def mushroom(model: Model) -> None:
    """A mushroom: stem, gills, a cap that is a dome or a cone."""
    d = model.d
    high, thick = d.between(0.42, 0.75), d.between(0.14, 0.24)
    wide, dome = d.between(0.5, 0.72), d.between(0.26, 0.46)
    bend = d.between(-0.12, 0.12)
    model.limb("stem", (0.0, 0.0, 0.0), (bend, 2 * high, 0.0), thick, thick * d.between(0.6, 0.95), paint=SECOND)
    model.ball("stem", (0.0, thick * 0.5, 0.0), (thick * 1.25, thick * 0.6, thick * 1.25), paint=SECOND)
    pointed = d.chance(0.35)
    model.ball("cap", (bend, 2 * high, 0.0), (wide, dome, wide), present=~pointed)
    model.drum(
        "cap",
        (bend, 2 * high + dome * 0.5, 0.0),
        (wide, dome * 0.75, wide),
        taper=d.between(0.75, 1.0),
        present=pointed,
    )
    model.drum(
        "stem",
        (bend, 2 * high - dome * 0.42, 0.0),
        (wide * 0.93, dome * 0.3, wide * 0.93),
        paint=PALE,
        present=pointed,
    )
    # A ring around the stem on some.
    model.drum(
        "stem",
        (bend * 0.6, high * 1.25, 0.0),
        (thick * 1.7, 0.03, thick * 1.7),
        paint=PALE,
        present=d.chance(0.5),
    )


def cactus(model: Model) -> None:
    """A cactus: a trunk and two or three bent arms, in a pot or not."""
    d = model.d
    pot = d.chance(0.6)
    base = torch.where(pot, 0.4, 0.0)
    thick, high = d.between(0.16, 0.24), d.between(0.55, 0.8)
    size = d.between(0.3, 0.4)
    model.drum(
        "pot",
        (0.0, 0.2, 0.0),
        (size, 0.2, size),
        turn=model.turn(x=math.pi),
        taper=d.between(0.15, 0.4),
        paint=SECOND,
        present=pot,
    )
    model.drum("pot", (0.0, 0.4, 0.0), (size * 1.1, 0.05, size * 1.1), paint=SECOND, present=pot)
    model.drum("trunk", (0.0, base + high, 0.0), (thick, high, thick))
    model.ball("trunk", (0.0, base + 2 * high, 0.0), (thick, thick * 1.2, thick))
    for side, present in ((1.0, None), (-1.0, d.chance(0.85))):
        at, out, up, arm = (
            d.between(0.55, 1.2) * high,
            d.between(0.34, 0.5),
            d.between(0.3, 0.6),
            thick * d.between(0.55, 0.75),
        )
        options = {"present": present} if present is not None else {}
        elbow = (side * out, base + at, 0.0)
        model.limb("arm", (0.0, base + at, 0.0), elbow, arm, arm, **options)
        model.ball("arm", elbow, (arm, arm, arm), **options)
        tip = (side * out, base + at + up, 0.0)
        model.limb("arm", elbow, tip, arm, arm, **options)
        model.ball("arm", tip, (arm, arm * 1.2, arm), **options)
    model.ball(
        "fruit",
        (0.0, base + 2 * high + thick * 1.2, 0.0),
        (0.12, 0.1, 0.12),
        paint=ACCENT,
        present=d.chance(0.5),
    )


def ball(model: Model) -> None:
    """A patterned ball."""
    model.ball("sphere", (0.0, 1.0, 0.0), (1.0, 1.0, 1.0))


def block(model: Model) -> None:
    """A patterned cube: the ball's twin in everything but shape."""
    model.box("cube", (0.0, 0.85, 0.0), (0.85, 0.85, 0.85))


def rocket(model: Model) -> None:
    """A rocket on its fins."""
    d = model.d
    radius, high, nose = d.between(0.24, 0.34), d.between(0.5, 0.75), d.between(0.22, 0.4)
    lift = d.between(0.15, 0.3)
    model.drum("body", (0.0, lift + high, 0.0), (radius, high, radius))
    model.drum(
        "cap",
        (0.0, lift + 2 * high + nose, 0.0),
        (radius, nose, radius),
        taper=d.between(0.85, 1.0),
        paint=SECOND,
    )
    model.drum("body", (0.0, lift, 0.0), (radius * 0.8, 0.1, radius * 0.8), taper=0.3, paint=DARK)
    size = d.between(0.22, 0.36)
    for k in range(4):
        a = k * math.pi / 2 + math.pi / 4
        x, z = (radius + size * 0.4) * math.sin(a), (radius + size * 0.4) * math.cos(a)
        model.box(
            "fin",
            (x, lift * 0.5 + 0.14, z),
            (0.035, lift * 0.5 + 0.15, size),
            turn=model.turn(y=a),
            paint=ACCENT,
        )
    for y in (1.5, 0.9):
        model.ball("window", (0.0, lift + high * y, radius * 0.9), (0.13, 0.13, 0.07), paint=GLASS)


def lamp(model: Model) -> None:
    """A table lamp: foot, stem and a shade."""
    d = model.d
    high, foot = d.between(0.45, 0.7), d.between(0.28, 0.42)
    shade, tall = d.between(0.42, 0.6), d.between(0.24, 0.36)
    model.drum("foot", (0.0, 0.05, 0.0), (foot, 0.05, foot), paint=SECOND)
    bulge = d.between(0.1, 0.24)
    model.ball("stem", (0.0, high * 0.7, 0.0), (bulge, high * 0.6, bulge), paint=SECOND, present=d.chance(0.5))
    model.drum("stem", (0.0, high, 0.0), (0.06, high, 0.06), paint=ACCENT)
    model.drum("shade", (0.0, 2 * high + tall * 0.5, 0.0), (shade, tall, shade), taper=d.between(0.2, 0.65))


def chair(model: Model) -> None:
    """A chair: four legs, a seat, a back of slats or a board."""
    d = model.d
    wide, deep, high = d.between(0.36, 0.48), d.between(0.36, 0.48), d.between(0.3, 0.45)
    thick = d.between(0.045, 0.07)
    model.box("seat", (0.0, 2 * high, 0.0), (wide, thick, deep), paint=SECOND)
    back = d.between(0.35, 0.55)
    for sx in (1.0, -1.0):
        for sz in (1.0, -1.0):
            model.limb(
                "leg",
                (sx * wide * 0.88, 2 * high, sz * deep * 0.88),
                (sx * wide * 0.95, 0.0, sz * deep * 0.95),
                thick * 1.1,
                thick * 0.8,
            )
        model.box("backrest", (sx * wide * 0.9, 2 * high + back, -deep * 0.92), (thick, back, thick))
    board = d.chance(0.5)
    model.box(
        "backrest",
        (0.0, 2 * high + back * 1.35, -deep * 0.92),
        (wide, back * 0.6, thick * 0.7),
        paint=SECOND,
        present=board,
    )
    for y in (0.7, 1.25, 1.8):
        model.box(
            "backrest",
            (0.0, 2 * high + back * y, -deep * 0.92),
            (wide, back * 0.13, thick * 0.7),
            paint=SECOND,
            present=~board,
        )


def pear(model: Model) -> None:
    """A pear or an apple with stem and leaf."""
    d = model.d
    radius, high = d.between(0.55, 0.7), d.between(0.3, 0.6)
    model.ball("fruit", (0.0, radius * 0.95, 0.0), (radius, radius * 0.95, radius))
    model.limb("fruit", (0.0, radius * 1.25, 0.0), (0.0, radius * 1.5 + high, 0.0), radius * 0.88, radius * 0.42)
    model.ball("fruit", (0.0, radius * 1.5 + high, 0.0), (radius * 0.44, radius * 0.42, radius * 0.44))
    top = radius * 1.8 + high
    lean = d.between(-0.2, 0.2)
    model.limb("stem", (0.0, top - 0.1, 0.0), (lean, top + d.between(0.2, 0.35), 0.0), 0.06, 0.045, paint=DARK)
    model.ball("leaf", (0.24, top + 0.12, 0.0), (0.28, 0.04, 0.14), turn=model.turn(z=0.4), paint=ACCENT)


def snowman(model: Model) -> None:
    """Three balls, a hat, buttons, eyes and a pointed nose."""
    d = model.d
    r0, r1, r2 = d.between(0.48, 0.58), d.between(0.34, 0.42), d.between(0.24, 0.3)
    y1 = 2 * r0 * 0.9 + r1 * 0.8
    y2 = y1 + r1 * 0.85 + r2 * 0.8
    model.ball("body", (0.0, r0 * 0.95, 0.0), (r0, r0 * 0.95, r0))
    model.ball("body", (0.0, y1, 0.0), (r1, r1, r1))
    model.ball("head", (0.0, y2, 0.0), (r2, r2, r2))
    hat = d.between(0.16, 0.28)
    model.drum("hat", (0.0, y2 + r2 * 0.75, 0.0), (r2 * 1.25, 0.035, r2 * 1.25), paint=SECOND)
    model.drum(
        "hat",
        (0.0, y2 + r2 * 0.75 + hat, 0.0),
        (r2 * 0.8, hat, r2 * 0.8),
        taper=d.between(0.0, 0.4),
        paint=SECOND,
    )
    slot = model.limb(
        "nose", (0.0, y2, r2 * 0.8), (0.0, y2, r2 * 0.9 + d.between(0.2, 0.32)), 0.085, 0.01, paint=ACCENT
    )
    model.landmark(2, (0.0, y2, r2 * 0.95 + 0.1), (slot, slot))
    for which, side in ((0, 1.0), (1, -1.0)):
        place = (side * r2 * 0.4, y2 + r2 * 0.32, r2 * 0.84)
        eye = model.ball("eye", place, (0.062, 0.062, 0.05), paint=DARK)
        model.landmark(which, place, (eye, eye))
    for k in (0.5, 0.0, -0.5):
        model.ball("button", (0.0, y1 + k * r1, r1 * (1 - 0.5 * k * k)), (0.06, 0.06, 0.05), paint=DARK)
    for side in (1.0, -1.0):
        model.limb(
            "arm",
            (side * r1 * 0.8, y1, 0.0),
            (side * (r1 + 0.5), y1 + d.between(-0.1, 0.5), 0.1),
            0.055,
            0.03,
            paint=DARK,
        )
