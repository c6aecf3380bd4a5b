"""Animals: one plan (body, legs, neck, head, muzzle, nose, eyes, ears, tail), many kinds.

`Species` holds the ranges in which individuals of a kind differ. Lengths are in units of the body's half length.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .model import ACCENT, COAT, DARK, PALE, SECOND, Model, Number, Point

Range = tuple[float, float]


@dataclass(frozen=True)
class Species:
    """Ranges an individual is drawn from."""

    girth: Range  # body radius
    leg: Range  # leg length below the belly
    leg_thick: Range
    neck: Range  # neck length
    neck_rise: Range  # degrees above the horizontal
    head: Range  # head radius
    head_long: Range  # head length over width
    muzzle: Range  # muzzle length over head radius
    muzzle_thick: Range  # muzzle radius over head radius
    ear: str  # "round", "pointed", "hanging", "fan" or "long"
    ear_long: Range  # over head radius
    ear_wide: Range
    tail: Range  # tail length
    tail_thick: Range
    eye: Range = (0.2, 0.27)  # over head radius
    sits: float = 0.0  # probability
    hooves: bool = False
    mane: bool = False
    extra: str = ""  # "trunk" or "snout"


DOG = Species(
    girth=(0.38, 0.52),
    leg=(0.35, 0.8),
    leg_thick=(0.11, 0.16),
    neck=(0.3, 0.5),
    neck_rise=(40, 70),
    head=(0.5, 0.62),
    head_long=(0.95, 1.15),
    muzzle=(0.9, 1.3),
    muzzle_thick=(0.42, 0.55),
    ear="hanging",
    ear_long=(0.8, 1.15),
    ear_wide=(0.28, 0.4),
    tail=(0.45, 0.75),
    tail_thick=(0.06, 0.12),
    sits=0.55,
)
CAT = Species(
    girth=(0.33, 0.46),
    leg=(0.35, 0.6),
    leg_thick=(0.09, 0.13),
    neck=(0.2, 0.35),
    neck_rise=(40, 75),
    head=(0.5, 0.6),
    head_long=(0.85, 1.0),
    muzzle=(0.15, 0.32),
    muzzle_thick=(0.3, 0.42),
    ear="pointed",
    ear_long=(0.7, 1.0),
    ear_wide=(0.34, 0.46),
    tail=(0.8, 1.2),
    tail_thick=(0.05, 0.09),
    eye=(0.25, 0.32),
    sits=0.6,
)
BEAR = Species(
    girth=(0.55, 0.7),
    leg=(0.25, 0.45),
    leg_thick=(0.2, 0.27),
    neck=(0.2, 0.35),
    neck_rise=(15, 50),
    head=(0.5, 0.6),
    head_long=(0.95, 1.1),
    muzzle=(0.4, 0.6),
    muzzle_thick=(0.42, 0.52),
    ear="round",
    ear_long=(0.36, 0.46),
    ear_wide=(0.32, 0.42),
    tail=(0.1, 0.18),
    tail_thick=(0.1, 0.13),
    eye=(0.14, 0.19),
    sits=0.55,
)
RABBIT = Species(
    girth=(0.5, 0.64),
    leg=(0.12, 0.25),
    leg_thick=(0.12, 0.16),
    neck=(0.2, 0.32),
    neck_rise=(40, 70),
    head=(0.48, 0.58),
    head_long=(0.95, 1.1),
    muzzle=(0.2, 0.36),
    muzzle_thick=(0.36, 0.5),
    ear="long",
    ear_long=(1.4, 2.0),
    ear_wide=(0.22, 0.32),
    tail=(0.15, 0.2),
    tail_thick=(0.16, 0.22),
    eye=(0.2, 0.27),
    sits=0.6,
)
HORSE = Species(
    girth=(0.36, 0.46),
    leg=(0.85, 1.2),
    leg_thick=(0.09, 0.13),
    neck=(0.75, 1.05),
    neck_rise=(40, 65),
    head=(0.25, 0.31),
    head_long=(1.3, 1.55),
    muzzle=(1.4, 1.8),
    muzzle_thick=(0.6, 0.74),
    ear="pointed",
    ear_long=(0.6, 0.9),
    ear_wide=(0.22, 0.3),
    tail=(0.7, 1.1),
    tail_thick=(0.1, 0.16),
    eye=(0.26, 0.33),
    hooves=True,
    mane=True,
)
PIG = Species(
    girth=(0.55, 0.68),
    leg=(0.22, 0.4),
    leg_thick=(0.12, 0.16),
    neck=(0.15, 0.25),
    neck_rise=(10, 35),
    head=(0.42, 0.5),
    head_long=(0.95, 1.1),
    muzzle=(0.5, 0.75),
    muzzle_thick=(0.45, 0.55),
    ear="hanging",
    ear_long=(0.5, 0.7),
    ear_wide=(0.3, 0.4),
    tail=(0.25, 0.4),
    tail_thick=(0.05, 0.07),
    eye=(0.15, 0.2),
    hooves=True,
    extra="snout",
)
ELEPHANT = Species(
    girth=(0.6, 0.72),
    leg=(0.5, 0.75),
    leg_thick=(0.19, 0.25),
    neck=(0.2, 0.3),
    neck_rise=(20, 45),
    head=(0.46, 0.54),
    head_long=(0.9, 1.0),
    muzzle=(0.2, 0.3),
    muzzle_thick=(0.4, 0.5),
    ear="fan",
    ear_long=(0.9, 1.25),
    ear_wide=(0.8, 1.05),
    tail=(0.4, 0.7),
    tail_thick=(0.05, 0.07),
    eye=(0.13, 0.17),
    extra="trunk",
)


def _pair(model: Model, number: Range) -> Tensor:
    return model.d.between(*number)


def head(model: Model, s: Species, centre: Point, radius: Tensor, turn: Tensor, scale_eye: float = 1.0) -> None:
    """Head, muzzle, nose, eyes and ears in a frame of their own at `centre`, facing +z of `turn` (n, 3, 3)."""
    d = model.d
    model.frame = model.at(centre, turn)
    long = _pair(model, s.head_long)
    high = d.between(0.9, 1.05)
    rx, ry, rz = radius, radius * high, radius * long
    model.ball("head", (0.0, 0.0, 0.0), (rx, ry, rz))
    reach, thick = _pair(model, s.muzzle) * radius, _pair(model, s.muzzle_thick) * radius
    drop = -ry * d.between(0.2, 0.36)
    tip = rz * 0.7 + reach
    pale = d.chance(0.5)  # a muzzle of the second colour, on half of them
    for paint, present in ((COAT, ~pale), (SECOND, pale)):
        model.ball(
            "muzzle",
            (0.0, drop, (rz * 0.5 + tip) / 2),
            (thick, thick * 0.82, (tip - rz * 0.5) / 2 + thick * 0.15),
            paint=paint,
            present=present,
        )
    nose = thick * d.between(0.4, 0.55) + radius * 0.04
    if s.extra == "snout":
        nose = thick * 0.75
        slot = model.limb(
            "nose",
            (0.0, drop, tip - 0.1 * radius),
            (0.0, drop, tip + 0.25 * radius),
            nose,
            nose,
            paint=SECOND,
        )
        model.landmark(2, (0.0, drop, tip + 0.2 * radius), (slot, slot))
    elif s.extra == "trunk":
        bend = d.between(0.1, 0.5)
        middle = (0.0, drop - radius * 0.9, tip + radius * (0.35 + bend))
        model.limb("trunk", (0.0, drop, rz * 0.5), middle, thick * 0.72, thick * 0.55)
        slot = model.limb(
            "trunk",
            middle,
            (0.0, drop - radius * 1.75, tip + radius * (0.3 + 2 * bend)),
            thick * 0.55,
            thick * 0.36,
        )
        model.landmark(2, (0.0, drop - radius * 1.7, tip + radius * (0.28 + 1.95 * bend)), (slot, slot))
        for side in (1, -1):
            model.limb(
                "tusk",
                (side * thick * 0.8, drop, rz * 0.6),
                (side * thick * 1.2, drop - radius * 0.5, tip + radius * 0.7),
                radius * 0.13,
                radius * 0.03,
                paint=PALE,
            )
    else:
        point = (0.0, drop + thick * 0.4, tip + thick * 0.05)
        slot = model.ball("nose", point, (nose * 1.15, nose * 0.85, nose * 0.8), paint=DARK)
        model.landmark(2, point, (slot, slot))
    _eyes(model, radius, (rx, ry, rz), _pair(model, s.eye) * scale_eye)
    _ears(model, s, radius, (rx, ry, rz))
    model.frame = None


def _eyes(model: Model, radius: Tensor, half: Point, size: Tensor) -> None:
    """Two eyes on the front of the head, each a pale or coloured ball with a dark pupil, or all dark."""
    d = model.d
    apart, up = d.between(0.5, 0.72), d.between(0.22, 0.42)
    all_dark = d.chance(0.35)
    for which, side in ((0, 1.0), (1, -1.0)):
        direction = (side * apart.sin() * up.cos(), up.sin(), apart.cos() * up.cos())
        place = tuple(0.94 * a * b for a, b in zip(direction, half, strict=True))
        r = radius * size
        ball = model.ball("eye", place, (r, r, r), paint=PALE, present=~all_dark)
        # Pupils look more to the front than the eyes stand.
        look = (direction[0] * 0.75, direction[1] * 0.6, direction[2] + 0.35)
        pupil_place = tuple(a + 0.55 * r * b for a, b in zip(place, look, strict=True))
        pupil_r = torch.where(all_dark, 0.95 * r, 0.66 * r)
        pupil_place = tuple(torch.where(all_dark, a, b) for a, b in zip(place, pupil_place, strict=True))
        pupil = model.ball("eye", pupil_place, (pupil_r, pupil_r, pupil_r), paint=DARK)
        model.landmark(which, pupil_place, (pupil, ball))


def _ears(model: Model, s: Species, radius: Tensor, half: Point) -> None:
    d = model.d
    rx, ry, rz = half
    long, wide = _pair(model, s.ear_long) * radius, _pair(model, s.ear_wide) * radius
    kind = s.ear
    spread = d.between(0.15, 0.5)
    other = ACCENT if kind in ("pointed", "round", "fan") else SECOND
    second = d.chance(0.5)  # half have ears of another colour
    for side in (1.0, -1.0):
        for color, present in ((COAT, ~second), (other, second)):
            options = {"paint": color, "present": present}
            if kind == "round":
                model.ball("ear", (side * rx * 0.72, ry * 0.8, -rz * 0.1), (wide, long, wide * 0.5), **options)
            elif kind == "pointed":
                turn = model.turn(z=-side * spread, x=-0.1)
                centre = (side * (rx * 0.58 + long * 0.3 * spread.sin()), ry * 0.68 + long * 0.45, -rz * 0.05)
                model.drum("ear", centre, (wide, long * 0.62, wide * 0.45), turn=turn, taper=1.0, **options)
            elif kind == "hanging":
                turn = model.turn(z=side * (0.1 + spread * 0.6), y=-side * 0.25)
                centre = (side * (rx * 0.98 + wide * 0.1), ry * 0.45 - long * 0.35, -rz * 0.1)
                model.ball("ear", centre, (wide * 0.4, long * 0.6, wide), turn=turn, **options)
            elif kind == "fan":
                turn = model.turn(y=side * 0.5, z=side * 0.2)
                centre = (side * (rx * 0.75 + wide * 0.75), ry * 0.05, -rz * 0.35)
                model.ball("ear", centre, (wide, long, radius * 0.1), turn=turn, **options)
            else:  # long, upright
                turn = model.turn(z=-side * spread * 0.8, x=-0.15)
                centre = (
                    side * (rx * 0.42 + long * 0.45 * (spread * 0.8).sin()),
                    ry * 0.75 + long * 0.48,
                    -rz * 0.15,
                )
                model.ball("ear", centre, (wide, long * 0.55, wide * 0.4), turn=turn, **options)


def animal(model: Model, s: Species) -> None:
    """A four-legged animal, standing or sitting."""
    d = model.d
    girth, leg, thick = _pair(model, s.girth), _pair(model, s.leg), _pair(model, s.leg_thick)
    sits = d.chance(s.sits)
    # Hips and shoulders: level when standing; hips on the ground and shoulders up when sitting.
    hip_y = torch.where(sits, girth * 0.95, leg + girth * 0.75)
    hip_z = torch.where(sits, -0.35, -0.62)
    shoulder_y = torch.where(sits, girth + 0.75, leg + girth * d.between(0.78, 0.95))
    shoulder_z = torch.where(sits, 0.28, 0.62)
    pitch = torch.atan2(shoulder_y - hip_y, shoulder_z - hip_z)
    half = ((shoulder_y - hip_y) ** 2 + (shoulder_z - hip_z) ** 2).sqrt() / 2
    model.ball(
        "body",
        (0.0, (hip_y + shoulder_y) / 2, (hip_z + shoulder_z) / 2),
        (girth * 0.94, girth, half + girth * 0.6),
        turn=model.turn(x=-pitch),
    )
    model.ball("body", (0.0, hip_y, hip_z), (girth, girth * 0.97, girth * 0.95))
    model.ball("body", (0.0, shoulder_y, shoulder_z - 0.05), (girth * 0.86, girth * 0.95, girth * 0.85))
    _legs(model, s, girth, thick, hip_y, hip_z, shoulder_y, shoulder_z, sits)
    neck, rise = _pair(model, s.neck), _pair(model, s.neck_rise) * (math.pi / 180)
    radius = _pair(model, s.head)
    reach = girth * 0.5 + neck + radius * 0.3
    head_y, head_z = shoulder_y + reach * rise.sin(), shoulder_z + reach * rise.cos()
    head_z = torch.where(sits, shoulder_z + 0.6 * reach * rise.cos(), head_z)
    thin = radius * d.between(0.68, 0.85)
    model.limb("neck", (0.0, shoulder_y, shoulder_z), (0.0, head_y, head_z), torch.maximum(thin, girth * 0.72), thin)
    if s.mane:
        for along in (0.3, 0.6, 0.9, 1.15):
            y, z = shoulder_y + along * (head_y - shoulder_y), shoulder_z + along * (head_z - shoulder_z)
            model.ball("mane", (0.0, y + 0.24 * rise.cos(), z - 0.24 * rise.sin()), (0.09, 0.22, 0.18), paint=ACCENT)
    look, nod = d.bell(-0.9, 0.9), d.between(-0.12, 0.3)
    head(model, s, (0.0, head_y, head_z), radius, model.turn(x=nod + (0.45 if s.mane else 0.0), y=look))
    _tail(model, s, girth, hip_y, hip_z, sits)


def _legs(
    model: Model,
    s: Species,
    girth: Tensor,
    thick: Tensor,
    hip_y: Tensor,
    hip_z: Tensor,
    shoulder_y: Tensor,
    shoulder_z: Tensor,
    sits: Tensor,
) -> None:
    d = model.d
    foot = thick * 1.25
    wide = girth * 0.62
    for side in (1.0, -1.0):
        step = d.between(-0.16, 0.16)
        x = side * wide
        # In front: a straight leg, whatever the pose.
        end_z = torch.where(sits, shoulder_z + 0.12, shoulder_z + step)
        model.limb("leg", (x, shoulder_y - girth * 0.2, shoulder_z), (x, 0.0, end_z), thick * 1.25, thick * 0.9)
        _foot(model, s, x, end_z, foot)
        # Behind: a straight leg, or a thigh and a foot put forward.
        model.limb("leg", (x, hip_y, hip_z), (x, 0.0, hip_z - step), thick * 1.45, thick * 0.9, present=~sits)
        thigh = torch.where(sits, girth * 0.6, thick * 1.7)
        model.ball(
            "leg",
            (
                side * (wide + 0.3 * thick),
                torch.where(sits, thigh, hip_y - girth * 0.25),
                torch.where(sits, hip_z + 0.15, hip_z),
            ),
            (thick * 1.5, thigh, torch.where(sits, girth * 0.75, thick * 1.9)),
        )
        _foot(
            model,
            s,
            torch.where(sits, x + side * 0.25 * thick, x),
            torch.where(sits, hip_z + girth * 0.9, hip_z - step),
            foot,
        )


def _foot(model: Model, s: Species, x: Number, z: Number, size: Tensor) -> None:
    if s.hooves:
        model.drum("foot", (x, size * 0.45, z), (size, size * 0.45, size), paint=DARK, taper=0.25)
    else:
        model.ball("foot", (x, size * 0.6, z + size * 0.4), (size, size * 0.6, size * 1.4), paint=SECOND)


def _tail(model: Model, s: Species, girth: Tensor, hip_y: Tensor, hip_z: Tensor, sits: Tensor) -> None:
    d = model.d
    long, thick = _pair(model, s.tail), _pair(model, s.tail_thick)
    swing = d.between(-0.5, 0.5)
    root = (0.0, torch.where(sits, thick * 1.2, hip_y + girth * 0.5), hip_z - girth * 0.75)
    if s.mane:
        end = (swing * 0.3, hip_y + girth * 0.3 - long, hip_z - girth - 0.25)
        model.limb("tail", end, root, thick, thick * 0.5, paint=ACCENT)
        return
    if s.tail[1] <= 0.25:  # a scut
        model.ball("tail", (0.0, hip_y + girth * 0.1, hip_z - girth * 0.95), (thick, thick, thick), paint=SECOND)
        return
    rise = d.between(-0.3, 1.2)
    reach = long * 0.5
    middle = (
        swing * reach,
        root[1] + torch.where(sits, 0.02, rise.sin() * reach),
        root[2] - reach * rise.cos() * 0.8,
    )
    end = (swing * 2.2 * reach, middle[1] + torch.where(sits, 0.02, reach * 0.85), middle[2] - reach * 0.25)
    model.limb("tail", root, middle, thick * 1.1, thick)
    model.limb("tail", middle, end, thick, thick * 0.6)


def duck(model: Model) -> None:
    """A duck: the animals' head on a two-legged body, with a flat bill."""
    d = model.d
    girth, radius = d.between(0.48, 0.6), d.between(0.3, 0.38)
    leg = d.between(0.12, 0.3)
    body_y = leg + girth * 0.95
    model.ball("body", (0.0, body_y, 0.0), (girth * 0.9, girth, 1.0))
    model.limb("tail", (0.0, body_y + 0.1, -0.6), (0.0, body_y + d.between(0.3, 0.6), -1.25), girth * 0.5, 0.05)
    head_y, head_z = body_y + girth * 0.6 + d.between(0.35, 0.8), d.between(0.62, 0.85)
    model.limb("neck", (0.0, body_y + 0.1, 0.5), (0.0, head_y, head_z), radius * 1.1, radius * 0.7)
    look = d.bell(-1.0, 1.0)
    model.frame = model.at((0.0, head_y, head_z), model.turn(y=look, x=d.between(-0.1, 0.2)))
    model.ball("head", (0.0, 0.0, 0.0), (radius, radius, radius * 1.08), paint=SECOND)
    long = radius * d.between(0.7, 1.1)
    slot = model.ball(
        "bill",
        (0.0, -0.25 * radius, radius * 0.8 + long * 0.5),
        (radius * 0.5, radius * 0.16, long),
        paint=ACCENT,
    )
    model.landmark(2, (0.0, -0.25 * radius, radius * 0.8 + long * 1.35), (slot, slot))
    _eyes(model, radius, (radius, radius, radius), d.between(0.2, 0.28))
    model.frame = None
    for side in (1.0, -1.0):
        model.ball(
            "wing",
            (side * girth * 0.82, body_y + 0.08, -0.12),
            (0.16, girth * 0.6, 0.7),
            paint=SECOND,
            turn=model.turn(x=0.2, y=-side * 0.12),
        )
        model.limb("leg", (side * 0.22, body_y, 0.0), (side * 0.22, 0.0, 0.05), 0.08, 0.07, paint=ACCENT)
        model.ball("foot", (side * 0.22, 0.06, 0.2), (0.18, 0.06, 0.26), paint=ACCENT)
