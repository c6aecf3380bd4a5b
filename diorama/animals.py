"""Animals: one plan (body, legs, neck, head, muzzle, nose, eyes, ears, tail), many species."""

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, where

from .model import ACCENT, COAT, DARK, EYES, NOSE, PALE, SECOND, SIDES, Model, Point
from .random import Draws

Pair = tuple[Tensor, Tensor]  # y and z
# Ranges that individuals are drawn from. Lengths are in units of the body's half length, those of
# the muzzle, the ears and the eyes in units of the head's radius; head_long is over its width;
# neck_rise is in degrees.
RANGES = """
              dog        cat        bear       rabbit     horse      pig        elephant
girth         0.38-0.52  0.33-0.46  0.55-0.7   0.5-0.64   0.36-0.46  0.55-0.68  0.6-0.72
leg           0.35-0.8   0.35-0.6   0.25-0.45  0.12-0.25  0.85-1.2   0.22-0.4   0.5-0.75
leg_thick     0.11-0.16  0.09-0.13  0.2-0.27   0.12-0.16  0.09-0.13  0.12-0.16  0.19-0.25
neck          0.3-0.5    0.2-0.35   0.2-0.35   0.2-0.32   0.75-1.05  0.15-0.25  0.2-0.3
neck_rise     40-70      40-75      15-50      40-70      40-65      10-35      20-45
head          0.5-0.62   0.5-0.6    0.5-0.6    0.48-0.58  0.25-0.31  0.42-0.5   0.46-0.54
head_long     0.95-1.15  0.85-1.0   0.95-1.1   0.95-1.1   1.3-1.55   0.95-1.1   0.9-1.0
muzzle        0.9-1.3    0.15-0.32  0.4-0.6    0.2-0.36   1.4-1.8    0.5-0.75   0.2-0.3
muzzle_thick  0.42-0.55  0.3-0.42   0.42-0.52  0.36-0.5   0.6-0.74   0.45-0.55  0.4-0.5
ear_long      0.8-1.15   0.7-1.0    0.36-0.46  1.4-2.0    0.6-0.9    0.5-0.7    0.9-1.25
ear_wide      0.28-0.4   0.34-0.46  0.32-0.42  0.22-0.32  0.22-0.3   0.3-0.4    0.8-1.05
tail          0.45-0.75  0.8-1.2    0.1-0.18   0.15-0.2   0.7-1.1    0.25-0.4   0.4-0.7
tail_thick    0.06-0.12  0.05-0.09  0.1-0.13   0.16-0.22  0.1-0.16   0.05-0.07  0.05-0.07
eye           0.2-0.27   0.25-0.32  0.14-0.19  0.2-0.27   0.26-0.33  0.15-0.2   0.13-0.17
"""


def _column(name: str) -> dict[str, tuple[float, float]]:
    """Read one species' ranges."""
    header, *rows = (line.split() for line in RANGES.strip().splitlines())
    number = header.index(name) + 1
    return {row[0]: tuple(map(float, row[number].split("-"))) for row in rows}


@dataclass(frozen=True)
class Species:
    """What the individuals of a species have in common."""

    ranges: dict[str, tuple[float, float]]
    ear: str  # "round", "pointed", "hanging", "fan" or "long"
    sits: float = 0.0  # probability
    hooves: bool = False
    mane: bool = False
    nose: str = "ball"  # or "snout" or "trunk"


DOG = Species(_column("dog"), "hanging", sits=0.55)
CAT = Species(_column("cat"), "pointed", sits=0.6)
BEAR = Species(_column("bear"), "round", sits=0.55)
RABBIT = Species(_column("rabbit"), "long", sits=0.6)
HORSE = Species(_column("horse"), "pointed", hooves=True, mane=True)
PIG = Species(_column("pig"), "hanging", hooves=True, nose="snout")
ELEPHANT = Species(_column("elephant"), "fan", nose="trunk")


def animal(m: Model, d: Draws, s: Species) -> None:
    """Build a four-legged animal, standing or sitting."""
    r = s.ranges
    girth, leg, thick = d.ranges(r["girth"], r["leg"], r["leg_thick"])
    sits = d.chance(s.sits)
    # Hips and shoulders: level when standing; hips on the ground and shoulders up when sitting.
    hip_y, hip_z = where(sits, girth * 0.95, leg + girth * 0.75), where(sits, -0.35, -0.62)
    shoulder_y = where(sits, girth + 0.75, leg + girth * d.between(0.78, 0.95))
    shoulder_z = where(sits, 0.28, 0.62)
    up, ahead = shoulder_y - hip_y, shoulder_z - hip_z
    half = (up**2 + ahead**2).sqrt() / 2
    barrel = (girth * 0.94, girth, half + girth * 0.6)
    middle = (0, (hip_y + shoulder_y) / 2, (hip_z + shoulder_z) / 2)
    m.ball("body", middle, barrel, turn=m.turn(x=-torch.atan2(up, ahead)))
    m.ball("body", (0, hip_y, hip_z), (girth, girth * 0.97, girth * 0.95))
    m.ball("body", (0, shoulder_y, shoulder_z - 0.05), (girth * 0.86, girth * 0.95, girth * 0.85))
    _legs(m, d, s, girth, thick, (hip_y, hip_z), (shoulder_y, shoulder_z), sits)
    neck, rise, radius, thin = d.ranges(r["neck"], r["neck_rise"], r["head"], (0.68, 0.85))
    rise, thin = rise * (math.pi / 180), radius * thin
    reach = girth * 0.5 + neck + radius * 0.3
    head_y, head_z = shoulder_y + reach * rise.sin(), shoulder_z + reach * rise.cos()
    head_z = where(sits, shoulder_z + 0.6 * reach * rise.cos(), head_z)
    top = (0, head_y, head_z)
    m.limb("neck", (0, shoulder_y, shoulder_z), top, torch.maximum(thin, girth * 0.72), thin)
    if s.mane:
        for along in (0.3, 0.6, 0.9, 1.15):
            y = shoulder_y + along * (head_y - shoulder_y) + 0.24 * rise.cos()
            z = shoulder_z + along * (head_z - shoulder_z) - 0.24 * rise.sin()
            m.ball("mane", (0, y, z), (0.09, 0.22, 0.18), ACCENT)
    look, nod = d.bell(-0.9, 0.9), d.between(-0.12, 0.3)
    m.frame = m.at(top, m.turn(x=nod + (0.45 if s.mane else 0.0), y=look))
    _head(m, d, s, radius)
    m.frame = None
    _tail(m, d, s, girth, (hip_y, hip_z), sits)


def _legs(
    m: Model, d: Draws, s: Species, girth: Tensor, thick: Tensor, hip: Pair, shoulder: Pair,
    sits: Tensor,
) -> None:  # fmt: skip
    """Add straight legs in front; behind straight legs, or thighs and feet put forward."""
    (hip_y, hip_z), (shoulder_y, shoulder_z) = hip, shoulder
    foot, wide = thick * 1.25, girth * 0.62
    thigh = where(sits, girth * 0.6, thick * 1.7)
    thigh_y, thigh_z = where(sits, thigh, hip_y - girth * 0.25), where(sits, hip_z + 0.15, hip_z)
    half = (thick * 1.5, thigh, where(sits, girth * 0.75, thick * 1.9))
    for side in SIDES:
        x, step = side * wide, d.between(-0.16, 0.16)
        z = where(sits, shoulder_z + 0.12, shoulder_z + step)
        m.limb("leg", (x, shoulder_y - girth * 0.2, shoulder_z), (x, 0, z), foot, thick * 0.9)
        _foot(m, s, x, z, foot)
        hip, end = (x, hip_y, hip_z), (x, 0, hip_z - step)
        m.limb("leg", hip, end, thick * 1.45, thick * 0.9, present=~sits)
        m.ball("leg", (side * (wide + 0.3 * thick), thigh_y, thigh_z), half)
        z = where(sits, hip_z + girth * 0.9, hip_z - step)
        _foot(m, s, where(sits, x + side * 0.25 * thick, x), z, foot)


def _foot(m: Model, s: Species, x: Tensor, z: Tensor, size: Tensor) -> None:
    if s.hooves:
        m.drum("foot", (x, size * 0.45, z), (size, size * 0.45), DARK, taper=0.25)
    else:
        m.ball("foot", (x, size * 0.6, z + size * 0.4), (size, size * 0.6, size * 1.4), SECOND)


def _tail(m: Model, d: Draws, s: Species, girth: Tensor, hip: Pair, sits: Tensor) -> None:
    hip_y, hip_z = hip
    long, thick, swing = d.ranges(s.ranges["tail"], s.ranges["tail_thick"], (-0.5, 0.5))
    y, z = where(sits, thick * 1.2, hip_y + girth * 0.5), hip_z - girth * 0.75
    if s.mane:
        end = (swing * 0.3, hip_y + girth * 0.3 - long, hip_z - girth - 0.25)
        m.limb("tail", end, (0, y, z), thick, thick * 0.5, ACCENT)
    elif s.ranges["tail"][1] <= 0.25:  # a scut
        m.ball("tail", (0, hip_y + girth * 0.1, hip_z - girth * 0.95), thick, SECOND)
    else:
        rise, reach = d.between(-0.3, 1.2), long * 0.5
        y1 = y + where(sits, 0.02, rise.sin() * reach)
        z1 = z - reach * rise.cos() * 0.8
        middle = (swing * reach, y1, z1)
        end = (swing * 2.2 * reach, y1 + where(sits, 0.02, reach * 0.85), z1 - reach * 0.25)
        m.limb("tail", (0, y, z), middle, thick * 1.1, thick)
        m.limb("tail", middle, end, thick, thick * 0.6)


def _head(m: Model, d: Draws, s: Species, radius: Tensor) -> None:
    """Add head, muzzle, nose, eyes and ears about the origin of the frame, facing its +z."""
    r = s.ranges
    long, high, muzzle, muzzle_thick, drop = d.ranges(
        r["head_long"], (0.9, 1.05), r["muzzle"], r["muzzle_thick"], (0.2, 0.36)
    )
    half = rx, ry, rz = radius, radius * high, radius * long
    m.ball("head", (0, 0, 0), half)
    reach, thick = muzzle * radius, muzzle_thick * radius
    y, tip = -ry * drop, rz * 0.7 + reach
    pale = d.chance(0.5)  # a muzzle of the second colour, on half of them
    snout = (thick, thick * 0.82, (tip - rz * 0.5) / 2 + thick * 0.15)
    for material, present in ((COAT, ~pale), (SECOND, pale)):
        m.ball("muzzle", (0, y, (rz * 0.5 + tip) / 2), snout, material, present=present)
    nose = thick * d.between(0.4, 0.55) + radius * 0.04
    if s.nose == "snout":
        start, end = (0, y, tip - 0.1 * radius), (0, y, tip + 0.25 * radius)
        slot = m.limb("nose", start, end, thick * 0.75, thick * 0.75, SECOND)
        m.landmark(NOSE, (0, y, tip + 0.2 * radius), slot)
    elif s.nose == "trunk":
        bend = d.between(0.1, 0.5)
        middle = (0, y - radius * 0.9, tip + radius * (0.35 + bend))
        end = (0, y - radius * 1.75, tip + radius * (0.3 + 2 * bend))
        m.limb("trunk", (0, y, rz * 0.5), middle, thick * 0.72, thick * 0.55)
        slot = m.limb("trunk", middle, end, thick * 0.55, thick * 0.36)
        m.landmark(NOSE, (0, y - radius * 1.7, tip + radius * (0.28 + 1.95 * bend)), slot)
        for side in SIDES:
            root = (side * thick * 0.8, y, rz * 0.6)
            point = (side * thick * 1.2, y - radius * 0.5, tip + radius * 0.7)
            m.limb("tusk", root, point, radius * 0.13, radius * 0.03, PALE)
    else:
        place = (0, y + thick * 0.4, tip + thick * 0.05)
        slot = m.ball("nose", place, (nose * 1.15, nose * 0.85, nose * 0.8), DARK)
        m.landmark(NOSE, place, slot)
    _eyes(m, d, radius, half, d.between(*r["eye"]))
    _ears(m, d, s, radius, half)


def _eyes(m: Model, d: Draws, radius: Tensor, half: Point, size: Tensor) -> None:
    """Add two eyes to the front of the head, pale or coloured with dark pupils, or all dark."""
    apart, up = d.ranges((0.5, 0.72), (0.22, 0.42))
    dark = d.chance(0.35)
    r = radius * size
    for which, side in EYES:
        direction = (side * apart.sin() * up.cos(), up.sin(), apart.cos() * up.cos())
        place = [0.94 * a * b for a, b in zip(direction, half, strict=True)]
        ball = m.ball("eye", place, r, PALE, present=~dark)
        # Pupils look more to the front than the eyes stand.
        look = (direction[0] * 0.75, direction[1] * 0.6, direction[2] + 0.35)
        ahead = [where(dark, a, a + 0.55 * r * b) for a, b in zip(place, look, strict=True)]
        pupil = m.ball("eye", ahead, where(dark, 0.95 * r, 0.66 * r), DARK)
        m.landmark(which, ahead, pupil, ball)


def _ears(m: Model, d: Draws, s: Species, radius: Tensor, half: Point) -> None:
    rx, ry, rz = half
    long, wide, tilt = d.ranges(s.ranges["ear_long"], s.ranges["ear_wide"], (0.15, 0.5))
    long, wide = long * radius, wide * radius
    second = d.chance(0.5)  # half have ears of another colour
    other = ACCENT if s.ear in ("pointed", "round", "fan") else SECOND
    add = partial(m.drum, taper=1.0) if s.ear == "pointed" else m.ball
    for side in SIDES:
        turn = None
        if s.ear == "round":
            x, y, z = rx * 0.72, ry * 0.8, rz * 0.1
            size = (wide, long, wide * 0.5)
        elif s.ear == "pointed":
            turn = m.turn(z=-side * tilt, x=-0.1)
            x, y, z = rx * 0.58 + long * 0.3 * tilt.sin(), ry * 0.68 + long * 0.45, rz * 0.05
            size = (wide, long * 0.62, wide * 0.45)
        elif s.ear == "hanging":
            turn = m.turn(z=side * (0.1 + tilt * 0.6), y=-side * 0.25)
            x, y, z = rx * 0.98 + wide * 0.1, ry * 0.45 - long * 0.35, rz * 0.1
            size = (wide * 0.4, long * 0.6, wide)
        elif s.ear == "fan":
            turn = m.turn(y=side * 0.5, z=side * 0.2)
            x, y, z = rx * 0.75 + wide * 0.75, ry * 0.05, rz * 0.35
            size = (wide, long, radius * 0.1)
        else:  # long, upright
            turn = m.turn(z=-side * tilt * 0.8, x=-0.15)
            x = rx * 0.42 + long * 0.45 * (tilt * 0.8).sin()
            y, z = ry * 0.75 + long * 0.48, rz * 0.15
            size = (wide, long * 0.55, wide * 0.4)
        for material, present in ((COAT, ~second), (other, second)):
            add("ear", (side * x, y, -z), size, material, turn=turn, present=present)


def duck(m: Model, d: Draws) -> None:
    """Build a duck: a two-legged body, and the animals' eyes on a head with a flat bill."""
    girth, radius, leg, rump, neck, head_z = d.ranges(
        (0.48, 0.6), (0.3, 0.38), (0.12, 0.3), (0.3, 0.6), (0.35, 0.8), (0.62, 0.85)
    )
    y = leg + girth * 0.95
    m.ball("body", (0, y, 0), (girth * 0.9, girth, 1))
    m.limb("tail", (0, y + 0.1, -0.6), (0, y + rump, -1.25), girth * 0.5, 0.05)
    top = (0, y + girth * 0.6 + neck, head_z)
    m.limb("neck", (0, y + 0.1, 0.5), top, radius * 1.1, radius * 0.7)
    m.frame = m.at(top, m.turn(y=d.bell(-1.0, 1.0), x=d.between(-0.1, 0.2)))
    m.ball("head", (0, 0, 0), (radius, radius, radius * 1.08), SECOND)
    long = radius * d.between(0.7, 1.1)
    bill = (0, -0.25 * radius, radius * 0.8 + long * 0.5)
    slot = m.ball("bill", bill, (radius * 0.5, radius * 0.16, long), ACCENT)
    m.landmark(NOSE, (0, -0.25 * radius, radius * 0.8 + long * 1.35), slot)
    _eyes(m, d, radius, (radius, radius, radius), d.between(0.2, 0.28))
    m.frame = None
    for side in SIDES:
        turn, wing = m.turn(x=0.2, y=-side * 0.12), (0.16, girth * 0.6, 0.7)
        m.ball("wing", (side * girth * 0.82, y + 0.08, -0.12), wing, SECOND, turn=turn)
        m.limb("leg", (side * 0.22, y, 0), (side * 0.22, 0, 0.05), 0.08, 0.07, ACCENT)
        m.ball("foot", (side * 0.22, 0.06, 0.2), (0.18, 0.06, 0.26), ACCENT)
