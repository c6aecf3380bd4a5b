"""Everything that is not an animal: vehicles, buildings, tools, plants, vessels, toys.

Each recipe draws the proportions of an individual and adds its primitives to a `Model`.
"""

import math

import torch
from torch import Tensor

from .model import ACCENT, DARK, EYES, GLASS, NOSE, PALE, SECOND, SIDES, TYRE, Model, Number
from .primitives import BOX
from .random import Draws

QUARTER = math.pi / 2


def _wheels(m: Model, radius: Tensor, wide: Tensor, track: Tensor, *places: Number) -> None:
    """Add wheels with hubs on both sides, standing on the ground at these z."""
    turn = m.turn(z=QUARTER)
    hub = (radius * 0.55, wide * 0.25)
    for side in SIDES:
        for z in places:
            m.drum("wheel", (side * track, radius, z), (radius, wide), TYRE, turn=turn)
            m.drum("wheel", (side * (track + wide * 0.9), radius, z), hub, PALE, turn=turn)


def _lights(m: Model, x: Tensor, y: Number, z: Number, size: Number) -> None:
    for side in SIDES:
        m.ball("light", (side * x, y, z), (size, size, size * 0.5), PALE)


def car(m: Model, d: Draws) -> None:
    """Build a car: low body, cabin with windows, four wheels."""
    long, wide, radius, high, ground = d.ranges(
        (0.95, 1.15), (0.42, 0.52), (0.19, 0.26), (0.15, 0.22), (0.7, 1.0)
    )
    rounded = d.chance(0.6)
    cabin, back, up, taper = d.ranges((0.42, 0.6), (-0.35, 0.0), (0.16, 0.26), (0.2, 0.42))
    floor, cabin, back = radius * ground, cabin * long, back * long
    middle = floor + high
    top = middle + high + up * 0.8
    m.box("body", (0, middle, 0), (wide, high, long))
    hood = (wide * 1.05, high * 1.15, long * 1.1)
    m.ball("body", (0, middle + high * 0.45, 0), hood, present=rounded)
    dome = (wide * 1.22, up, cabin * 1.35)
    m.drum("cab", (0, top, back), dome, GLASS, taper=taper, present=rounded)
    m.box("cab", (0, top, back), (wide * 0.88, up, cabin), present=~rounded)
    for x, z in ((0.9, 0.82), (0.76, 1.02)):
        pane = (wide * x, up * 0.62, cabin * z)
        m.box("window", (0, top, back), pane, GLASS, present=~rounded)
    m.ball("roof", (0, top + up * 0.95, back), (wide * 0.85, up * 0.25, cabin * 0.95))
    _wheels(m, radius, radius * 0.35, wide * 0.95, long * 0.62, -long * 0.62)
    _lights(m, wide * 0.68, middle + high * 0.1, long * 1.02, radius * 0.36)
    m.box("body", (0, floor + high * 0.2, 0), (wide * 0.95, high * 0.22, long * 1.06), ACCENT)


def truck(m: Model, d: Draws) -> None:
    """Build a truck: cab in front, a cargo box or a tank behind, six wheels."""
    wide, radius, cargo, cab, cab_high, cargo_high = d.ranges(
        (0.36, 0.46), (0.17, 0.22), (0.55, 0.85), (0.24, 0.34), (0.3, 0.42), (0.34, 0.55)
    )
    tank = d.chance(0.3)
    load = cargo - d.between(0.03, 0.1)
    floor, total = radius * 1.4, cargo + cab
    cab_z, cargo_z = total - cab, -total + load
    m.box("body", (0, floor, 0), (wide * 0.8, radius * 0.3, total), DARK)
    m.box("cab", (0, floor + cab_high, cab_z), (wide * 0.95, cab_high, cab))
    pane_y = floor + cab_high * 1.4
    m.box("window", (0, pane_y, cab_z), (wide * 0.8, cab_high * 0.36, cab * 1.03), GLASS)
    pane = (wide * 0.98, cab_high * 0.34, cab * 0.6)
    m.box("window", (0, pane_y, cab_z + cab * 0.1), pane, GLASS)
    crate = (wide * 1.08, cargo_high, load)
    m.box("cargo", (0, floor + cargo_high + 0.05, cargo_z), crate, SECOND, present=~tank)
    lying, barrel = m.turn(x=QUARTER), (wide, load, wide * 0.95)
    m.drum("cargo", (0, floor + wide * 0.95, cargo_z), barrel, SECOND, present=tank, turn=lying)
    rear = -total * 0.35
    _wheels(m, radius, radius * 0.4, wide * 0.9, total * 0.72, rear, rear - radius * 2.1)
    _lights(m, wide * 0.66, floor + cab_high * 0.35, total * 1.01, radius * 0.4)
    m.box("body", (0, floor * 0.75, total), (wide * 0.95, radius * 0.25, 0.05), ACCENT)


def bus(m: Model, d: Draws) -> None:
    """Build a bus: one long box with a row of windows."""
    wide, long, radius, high = d.ranges((0.3, 0.4), (0.95, 1.2), (0.15, 0.2), (0.36, 0.5))
    floor = radius * 0.9
    m.box("body", (0, floor + high, 0), (wide, high, long))
    for k in range(5):
        z = long * (-0.78 + 1.56 * k / 4)
        m.box("window", (0, floor + high * 1.38, z), (wide * 1.02, high * 0.32, long * 0.14), GLASS)
    m.box("window", (0, floor + high * 1.3, 0), (wide * 0.82, high * 0.42, long * 1.01), GLASS)
    m.box("body", (0, floor + high * 0.7, 0), (wide * 1.01, high * 0.1, long * 1.005), SECOND)
    m.ball("roof", (0, floor + 2 * high, 0), (wide * 0.95, high * 0.14, long * 0.97), ACCENT)
    _wheels(m, radius, radius * 0.35, wide * 0.88, long * 0.62, -long * 0.6)
    _lights(m, wide * 0.7, floor + high * 0.4, long * 1.005, radius * 0.4)


def tractor(m: Model, d: Draws) -> None:
    """Build a tractor: big wheels behind, small in front, a hood, a cab and a chimney."""
    big, small, wide, cab, pipe = d.ranges(
        (0.44, 0.54), (0.22, 0.28), (0.22, 0.3), (0.28, 0.38), (0.2, 0.32)
    )
    axle = big * 1.15
    m.box("body", (0, axle, 0.45), (wide, 0.22, 0.55))
    m.ball("body", (0, axle, 0.98), (wide * 0.98, 0.21, 0.12), SECOND)
    m.box("cab", (0, axle + cab, -0.3), (wide * 1.1, cab, 0.32), GLASS)
    m.box("roof", (0, axle + 2 * cab, -0.3), (wide * 1.3, 0.05, 0.4))
    m.drum("chimney", (wide * 0.5, axle + 0.42, 0.6), (0.05, pipe), DARK)
    _wheels(m, big, big * 0.22, wide * 1.35, -0.35)
    _wheels(m, small, small * 0.3, wide * 1.1, 0.75)
    _lights(m, wide * 0.6, big * 1.2, 1.05, 0.07)


def house(m: Model, d: Draws, cross: bool = False) -> None:
    """Build a house: gable roof, windows, door, perhaps a chimney, perhaps a cross on the ridge."""
    wide, long, high, pitch, over, door, aside = d.ranges(
        (0.5, 0.7), (0.6, 0.95), (0.35, 0.6), (0.65, 1.15), (1.1, 1.22), (0.1, 0.15), (-0.25, 0.25)
    )
    chimney = d.chance(0.6)
    chimney_z, size, cross_z = d.ranges((-0.5, 0.2), (0.34, 0.46), (0.3, 0.9))
    rise = wide * pitch
    m.box("wall", (0, high, 0), (wide, high, long))
    # A square prism on its edge, squashed: its lower half is inside the walls.
    edge = m.turn(z=math.pi / 4) * (1 / math.sqrt(2))
    gable = torch.diag_embed(m.point((wide, torch.minimum(rise, high * 1.9), long))) @ edge
    gable = torch.stack([gable[..., 0], gable[..., 1], m.point((0, 0, long * 1.001))], -1)
    m.put(BOX, "wall", (0, 2 * high, 0), gable)
    slope = torch.atan2(rise, m.number(wide))
    run = (wide**2 + rise**2).sqrt() * over / 2
    for side in SIDES:
        eaves = (side * run * slope.cos(), 2 * high + rise - run * slope.sin() + 0.03, 0)
        m.box("roof", eaves, (run, 0.045, long * over), SECOND, turn=m.turn(z=-side * slope))
    m.box("door", (aside, high * 0.55, long), (door, high * 0.55, 0.03), ACCENT)
    front, flank = (wide * 0.16, high * 0.28, 0.025), (0.025, high * 0.28, long * 0.17)
    for side in SIDES:
        m.box("window", (side * wide * 0.66, high * 1.15, long), front, GLASS)
        for z in (0.45, -0.45):
            m.box("window", (side * wide, high * 1.15, z * long), flank, GLASS)
    attic = (0, 2 * high + rise * 0.35, long)
    m.drum("window", attic, (wide * 0.13, 0.025), GLASS, turn=m.turn(x=QUARTER))
    for y, half, material in (
        (0.85, (0.09, rise * 0.5, 0.09), ACCENT),
        (1.35, (0.12, 0.03, 0.12), DARK),
    ):
        centre = (wide * 0.5, 2 * high + rise * y, chimney_z * long)
        m.box("chimney", centre, half, material, present=chimney)
    # A house leaves room for the cross it lacks, so that size and framing do not tell the class.
    top, thick = 2 * high + rise, size * 0.24
    for y, half in ((0.9, (thick, size, thick)), (1.2, (size * 0.62, thick, thick))):
        m.box("cross", (0, top + size * y, cross_z * long), half, PALE, present=cross, framed=True)


def chapel(m: Model, d: Draws) -> None:
    """Build a house with a cross on its ridge and no other difference."""
    house(m, d, cross=True)


def castle(m: Model, d: Draws) -> None:
    """Build four round towers with pointed hats around a battlemented wall."""
    wide, long, high, radius, up = d.ranges(
        (0.55, 0.75), (0.45, 0.7), (0.28, 0.42), (0.17, 0.24), (1.15, 1.7)
    )
    pointed, hat, up = d.chance(0.7), d.between(0.2, 0.34), high * up
    m.box("wall", (0, high, 0), (wide, high, long))
    for k in range(5):
        merlon = (wide * (-0.8 + 0.4 * k), 2 * high + 0.06, long)
        m.box("battlement", merlon, (wide * 0.1, 0.07, 0.07))
    m.box("door", (0, high * 0.5, long), (0.14, high * 0.5, 0.04), DARK)
    cone, ring = (radius * 1.25, hat), (radius * 1.2, 0.06)
    for x in (wide, -wide):
        for z in (long, -long):
            m.drum("tower", (x, up, z), (radius, up))
            m.drum("roof", (x, 2 * up + hat, z), cone, SECOND, taper=1.0, present=pointed)
            m.drum("battlement", (x, 2 * up + 0.05, z), ring, ACCENT, present=~pointed)
        m.box("window", (x, up * 1.5, long + radius), (0.04, 0.09, 0.02), DARK)


def hammer(m: Model, d: Draws) -> None:
    """Build a hammer, standing on its head or lying with the handle's end on the ground."""
    long, thick, head, size = d.ranges((0.8, 1.1), (0.065, 0.1), (0.26, 0.4), (0.13, 0.19))
    lies, tilt, sign = d.chance(0.45), d.between(-0.15, 0.15), d.sign()
    gripped, square, taper = d.chance(0.5), d.chance(0.5), d.between(0.3, 1.0)
    lean = torch.where(lies, torch.asin((size - thick) / (2 * long)) + QUARTER, tilt) * sign
    # The handle turns about the head's own axis (z), so the head always rests on the ground.
    tip = (2 * long * lean.sin(), size + 2 * long * lean.cos(), 0)
    m.limb("handle", (0, size, 0), tip, thick, thick * 0.85, SECOND)
    grip = (tip[0] * 0.6, tip[1] * 0.6 + size * 0.4, 0)
    m.limb("grip", grip, tip, thick * 1.25, thick * 1.2, ACCENT, present=gripped)
    turn, face = m.turn(z=-lean), (0, size, head * 0.7)
    m.box("hammer head", (0, size, -head * 0.15), (size * 0.8, size * 0.8, head * 0.55), turn=turn)
    m.box("hammer head", face, (size, size, head * 0.35), turn=turn, present=square)
    m.drum("hammer head", face, (size, head * 0.35), turn=m.turn(x=QUARTER), present=~square)
    peen = (size * 0.75, head * 0.45)
    m.drum("hammer head", (0, size, -head), peen, turn=m.turn(x=-QUARTER), taper=taper)


def mug(m: Model, d: Draws) -> None:
    """Build a mug with a handle at its side."""
    radius, high, taper, thick, reach, low, top = d.ranges(
        (0.38, 0.55), (0.42, 0.7), (0.0, 0.3), (0.06, 0.09), (0.28, 0.42), (0.4, 0.65), (1.4, 1.7)
    )
    low, top, wall, side = high * low, high * top, radius * 0.8, d.sign()
    # Wider at the top: the cone is put upside down.
    m.drum("cup", (0, high, 0), (radius, high), taper=taper, turn=m.turn(x=math.pi))
    m.drum("cup", (0, 2 * high - 0.03, 0), (radius * 1.04, 0.04), SECOND)
    m.drum("inside", (0, 2 * high + 0.002, 0), (radius * 0.88, 0.014), DARK)
    joints = [
        (side * wall, top, 0),
        (side * (radius + reach * 0.85), top - 0.05, 0),
        (side * (radius + reach), (low + top) / 2, 0),
        (side * (radius + reach * 0.75), low + 0.05, 0),
        (side * wall, low, 0),
    ]
    for start, end in zip(joints[:-1], joints[1:], strict=True):
        m.limb("handle", start, end, thick, thick, ACCENT)
    for joint in joints[1:-1]:
        m.ball("handle", joint, thick * 1.05, ACCENT)


def bottle(m: Model, d: Draws) -> None:
    """Build a bottle: body, shoulder, neck, cap and a label."""
    radius, high, neck, shoulder, long, label_y, label = d.ranges(
        (0.22, 0.34), (0.4, 0.6), (0.09, 0.13), (0.1, 0.25), (0.12, 0.25), (0.8, 1.1), (0.3, 0.55)
    )
    top = 2 * high + 2 * shoulder
    m.drum("bottle", (0, high, 0), (radius, high))
    m.drum("bottle", (0, 2 * high + shoulder, 0), (radius, shoulder), taper=1 - neck / radius)
    m.drum("neck", (0, top + long, 0), (neck, long))
    m.drum("cap", (0, top + 2 * long, 0), (neck * 1.25, 0.07), ACCENT)
    m.drum("label", (0, high * label_y, 0), (radius * 1.02, high * label), SECOND)


def mushroom(m: Model, d: Draws) -> None:
    """Build a mushroom: stem, gills, a cap that is a dome or a cone, and a ring on some."""
    high, thick, wide, dome, bend, thin = d.ranges(
        (0.42, 0.75), (0.14, 0.24), (0.5, 0.72), (0.26, 0.46), (-0.12, 0.12), (0.6, 0.95)
    )
    pointed, taper, ringed = d.chance(0.35), d.between(0.75, 1.0), d.chance(0.5)
    m.limb("stem", (0, 0, 0), (bend, 2 * high, 0), thick, thick * thin, SECOND)
    m.ball("stem", (0, thick * 0.5, 0), (thick * 1.25, thick * 0.6), SECOND)
    m.ball("cap", (bend, 2 * high, 0), (wide, dome), present=~pointed)
    centre = (bend, 2 * high + dome * 0.5, 0)
    m.drum("cap", centre, (wide, dome * 0.75), taper=taper, present=pointed)
    gills = (wide * 0.93, dome * 0.3)
    m.drum("stem", (bend, 2 * high - dome * 0.42, 0), gills, PALE, present=pointed)
    m.drum("stem", (bend * 0.6, high * 1.25, 0), (thick * 1.7, 0.03), PALE, present=ringed)


def cactus(m: Model, d: Draws) -> None:
    """Build a cactus: a trunk and one or two bent arms, in a pot or not."""
    pot = d.chance(0.6)
    thick, high, size, taper = d.ranges((0.16, 0.24), (0.55, 0.8), (0.3, 0.4), (0.15, 0.4))
    base = torch.where(pot, 0.4, 0.0)
    upside_down = m.turn(x=math.pi)
    m.drum("pot", (0, 0.2, 0), (size, 0.2), SECOND, turn=upside_down, taper=taper, present=pot)
    m.drum("pot", (0, 0.4, 0), (size * 1.1, 0.05), SECOND, present=pot)
    m.drum("trunk", (0, base + high, 0), (thick, high))
    m.ball("trunk", (0, base + 2 * high, 0), (thick, thick * 1.2))
    for side, present in ((1.0, True), (-1.0, d.chance(0.85))):
        at, out, up, arm = d.ranges((0.55, 1.2), (0.34, 0.5), (0.3, 0.6), (0.55, 0.75))
        at, arm = at * high, thick * arm
        elbow, tip = (side * out, base + at, 0), (side * out, base + at + up, 0)
        m.limb("arm", (0, base + at, 0), elbow, arm, arm, present=present)
        m.ball("arm", elbow, arm, present=present)
        m.limb("arm", elbow, tip, arm, arm, present=present)
        m.ball("arm", tip, (arm, arm * 1.2), present=present)
    top = (0, base + 2 * high + thick * 1.2, 0)
    m.ball("fruit", top, (0.12, 0.1), ACCENT, present=d.chance(0.5))


def ball(m: Model, d: Draws) -> None:
    """Build a patterned ball."""
    m.ball("sphere", (0, 1, 0), 1)


def block(m: Model, d: Draws) -> None:
    """Build a patterned cube: the ball's twin in everything but shape."""
    m.box("cube", (0, 0.85, 0), 0.85)


def rocket(m: Model, d: Draws) -> None:
    """Build a rocket on its fins."""
    radius, high, nose, lift, taper, size = d.ranges(
        (0.24, 0.34), (0.5, 0.75), (0.22, 0.4), (0.15, 0.3), (0.85, 1.0), (0.22, 0.36)
    )
    m.drum("body", (0, lift + high, 0), (radius, high))
    m.drum("cap", (0, lift + 2 * high + nose, 0), (radius, nose), SECOND, taper=taper)
    m.drum("body", (0, lift, 0), (radius * 0.8, 0.1), DARK, taper=0.3)
    fin = (0.035, lift * 0.5 + 0.15, size)
    for k in range(4):
        a = k * QUARTER + math.pi / 4
        x, z = (radius + size * 0.4) * math.sin(a), (radius + size * 0.4) * math.cos(a)
        m.box("fin", (x, lift * 0.5 + 0.14, z), fin, ACCENT, turn=m.turn(y=a))
    for y in (1.5, 0.9):
        m.ball("window", (0, lift + high * y, radius * 0.9), (0.13, 0.13, 0.07), GLASS)


def lamp(m: Model, d: Draws) -> None:
    """Build a table lamp: foot, stem and a shade."""
    high, foot, shade, tall, bulge = d.ranges(
        (0.45, 0.7), (0.28, 0.42), (0.42, 0.6), (0.24, 0.36), (0.1, 0.24)
    )
    bulging, taper = d.chance(0.5), d.between(0.2, 0.65)
    m.drum("foot", (0, 0.05, 0), (foot, 0.05), SECOND)
    m.ball("stem", (0, high * 0.7, 0), (bulge, high * 0.6), SECOND, present=bulging)
    m.drum("stem", (0, high, 0), (0.06, high), ACCENT)
    m.drum("shade", (0, 2 * high + tall * 0.5, 0), (shade, tall), taper=taper)


def chair(m: Model, d: Draws) -> None:
    """Build a chair: four legs, a seat, a back of slats or a board."""
    wide, deep, high, thick, back = d.ranges(
        (0.36, 0.48), (0.36, 0.48), (0.3, 0.45), (0.045, 0.07), (0.35, 0.55)
    )
    board = d.chance(0.5)
    m.box("seat", (0, 2 * high, 0), (wide, thick, deep), SECOND)
    for x in (wide, -wide):
        for z in (deep, -deep):
            top, end = (x * 0.88, 2 * high, z * 0.88), (x * 0.95, 0, z * 0.95)
            m.limb("leg", top, end, thick * 1.1, thick * 0.8)
        m.box("backrest", (x * 0.9, 2 * high + back, -deep * 0.92), (thick, back, thick))
    for y, half, present in (
        (1.35, 0.6, board),
        (0.7, 0.13, ~board),
        (1.25, 0.13, ~board),
        (1.8, 0.13, ~board),
    ):
        slat = (wide, back * half, thick * 0.7)
        m.box("backrest", (0, 2 * high + back * y, -deep * 0.92), slat, SECOND, present=present)


def pear(m: Model, d: Draws) -> None:
    """Build a pear or an apple with stem and leaf."""
    radius, high, lean, stem = d.ranges((0.55, 0.7), (0.3, 0.6), (-0.2, 0.2), (0.2, 0.35))
    waist, top = radius * 1.5 + high, radius * 1.8 + high
    m.ball("fruit", (0, radius * 0.95, 0), (radius, radius * 0.95))
    m.limb("fruit", (0, radius * 1.25, 0), (0, waist, 0), radius * 0.88, radius * 0.42)
    m.ball("fruit", (0, waist, 0), (radius * 0.44, radius * 0.42))
    m.limb("stem", (0, top - 0.1, 0), (lean, top + stem, 0), 0.06, 0.045, DARK)
    m.ball("leaf", (0.24, top + 0.12, 0), (0.28, 0.04, 0.14), ACCENT, turn=m.turn(z=0.4))


def snowman(m: Model, d: Draws) -> None:
    """Build a snowman: three balls, a hat, buttons, eyes and a pointed nose."""
    r0, r1, r2, hat, taper, nose, *arms = d.ranges(
        (0.48, 0.58), (0.34, 0.42), (0.24, 0.3), (0.16, 0.28), (0.0, 0.4), (0.2, 0.32),
        (-0.1, 0.5), (-0.1, 0.5),
    )  # fmt: skip
    y1 = 2 * r0 * 0.9 + r1 * 0.8
    y2 = y1 + r1 * 0.85 + r2 * 0.8
    m.ball("body", (0, r0 * 0.95, 0), (r0, r0 * 0.95))
    m.ball("body", (0, y1, 0), r1)
    m.ball("head", (0, y2, 0), r2)
    m.drum("hat", (0, y2 + r2 * 0.75, 0), (r2 * 1.25, 0.035), SECOND)
    m.drum("hat", (0, y2 + r2 * 0.75 + hat, 0), (r2 * 0.8, hat), SECOND, taper=taper)
    slot = m.limb("nose", (0, y2, r2 * 0.8), (0, y2, r2 * 0.9 + nose), 0.085, 0.01, ACCENT)
    m.landmark(NOSE, (0, y2, r2 * 0.95 + 0.1), slot)
    for which, side in EYES:
        place = (side * r2 * 0.4, y2 + r2 * 0.32, r2 * 0.84)
        m.landmark(which, place, m.ball("eye", place, (0.062, 0.062, 0.05), DARK))
    for k in (0.5, 0.0, -0.5):
        m.ball("button", (0, y1 + k * r1, r1 * (1 - 0.5 * k * k)), (0.06, 0.06, 0.05), DARK)
    for side, lift in zip(SIDES, arms, strict=True):
        hand = (side * (r1 + 0.5), y1 + lift, 0.1)
        m.limb("arm", (side * r1 * 0.8, y1, 0), hand, 0.055, 0.03, DARK)
