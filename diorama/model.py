"""Building one object from primitives, for n images at once.

A recipe (see `animals` and `things`) is a function that puts primitives into a `Model`. Coordinates are the object's
own: y up from the ground, front towards +z, left hand at +x, any unit (the finished object is scaled to extent 1).
Every number may be a float or a tensor (n,), so one call shapes the same part of n different individuals.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .primitives import BOX, CONE, CYLINDER, ELLIPSOID
from .random import Draws
from .scene import PART_NUMBER, compose

SLOTS = 34  # the most primitives an object may have
COAT, SECOND, ACCENT, DARK, PALE, GLASS, TYRE = range(7)  # an object's paints, see `sampling`
PAINTS = 7
Number = float | Tensor
Point = tuple[Number, Number, Number]


class Model:
    """A growing list of primitives.

    Args:
        d: the random numbers of the n images.
    """

    def __init__(self, d: Draws) -> None:
        self.d = d
        self.n = len(d)
        self.device = d.table.device
        self.frame: Tensor | None = None  # (n, 3, 4): where later primitives go, None for the object's own frame
        self.affine: list[Tensor] = []
        self.kind: list[int] = []
        self.part: list[int] = []
        self.paint: list[int] = []
        self.taper: list[Tensor] = []
        self.present: list[Tensor] = []
        self.framed: list[Tensor] = []
        self.landmarks = torch.full((self.n, 3, 3), torch.nan, device=self.device)
        self.landmark_slots = torch.full((self.n, 3, 2), -1, device=self.device)

    def number(self, value: Number) -> Tensor:
        """(n,) float32."""
        return torch.as_tensor(value, dtype=torch.float32, device=self.device).expand(self.n)

    def point(self, values: Point) -> Tensor:
        """(n, 3)."""
        return torch.stack([self.number(value) for value in values], -1)

    def turn(self, x: Number = 0.0, y: Number = 0.0, z: Number = 0.0) -> Tensor:
        """(n, 3, 3) rotation by radians about z, then x, then y."""
        x, y, z = self.number(x), self.number(y), self.number(z)
        zero, one = torch.zeros_like(x), torch.ones_like(x)

        def matrix(*entries: Tensor) -> Tensor:
            return torch.stack(entries, -1).unflatten(-1, (3, 3))

        rx = matrix(one, zero, zero, zero, x.cos(), -x.sin(), zero, x.sin(), x.cos())
        ry = matrix(y.cos(), zero, y.sin(), zero, one, zero, -y.sin(), zero, y.cos())
        rz = matrix(z.cos(), -z.sin(), zero, z.sin(), z.cos(), zero, zero, zero, one)
        return ry @ rx @ rz

    def at(self, centre: Point, turn: Tensor | None = None) -> Tensor:
        """(n, 3, 4) frame with its origin at `centre`, to assign to `frame`."""
        turn = self.turn() if turn is None else turn
        return torch.cat([turn, self.point(centre)[..., None]], -1)

    def put(
        self,
        kind: int,
        part: str,
        centre: Point,
        half: Point,
        *,
        paint: int = COAT,
        turn: Tensor | None = None,
        taper: Number = 0.0,
        present: Tensor | None = None,
        framed: bool = False,
        linear: Tensor | None = None,
    ) -> int:
        """Add a primitive and return its slot.

        Args:
            kind: ELLIPSOID, BOX, CYLINDER or CONE.
            part: its part name.
            centre, half: centre and half extents.
            turn: (n, 3, 3) rotation applied after scaling.
            linear: (n, 3, 3) instead of `half` and `turn`: any linear map, shears included.
            present: bool (n,), which of the images have it.
            framed: the camera and the object's size leave room for it even where it is absent.
        """
        if linear is None:
            linear = torch.diag_embed(self.point(half))
            linear = linear if turn is None else turn @ linear
        affine = torch.cat([linear, self.point(centre)[..., None]], -1)
        if self.frame is not None:
            affine = compose(self.frame, affine)
        self.affine.append(affine)
        self.kind.append(kind)
        self.part.append(PART_NUMBER[part])
        self.paint.append(paint)
        self.taper.append(self.number(taper))
        alive = torch.ones(self.n, dtype=torch.bool, device=self.device)
        self.present.append(alive if present is None else present)
        self.framed.append(alive if framed else self.present[-1])
        return len(self.kind) - 1

    def ball(self, part: str, centre: Point, half: Point, **options) -> int:
        """An ellipsoid."""
        return self.put(ELLIPSOID, part, centre, half, **options)

    def box(self, part: str, centre: Point, half: Point, **options) -> int:
        """A box."""
        return self.put(BOX, part, centre, half, **options)

    def drum(self, part: str, centre: Point, half: Point, **options) -> int:
        """A cylinder (or a cut cone, with `taper`) about its y axis."""
        return self.put(CONE if "taper" in options else CYLINDER, part, centre, half, **options)

    def limb(self, part: str, start: Point, end: Point, thick: Number, thin: Number, **options) -> int:
        """A round bar from start to end, `thick` and `thin` being its radii there (thin <= thick)."""
        a, b = self.point(start), self.point(end)
        axis = (b - a) / 2
        unit = torch.nn.functional.normalize(axis, dim=-1)
        # Any vector that is not along the bar gives the two others.
        helper = torch.where(unit[:, :1].abs() < 0.8, unit.new_tensor([1.0, 0, 0]), unit.new_tensor([0, 0, 1.0]))
        across = torch.nn.functional.normalize(torch.cross(helper, unit, -1), dim=-1)
        radius = self.number(thick)[:, None]
        linear = torch.stack([across * radius, axis, torch.cross(across, unit, -1) * radius], -1)
        taper = 1 - self.number(thin) / self.number(thick)
        middle = ((a + b) / 2).unbind(-1)
        return self.put(CONE, part, middle, (1.0, 1.0, 1.0), linear=linear, taper=taper, **options)

    def landmark(self, which: int, point: Point, slots: tuple[int, int]) -> None:
        """Say where left eye (0), right eye (1) or nose (2) is, and which slots show it."""
        place = self.point(point)
        if self.frame is not None:
            place = (self.frame[..., :3] @ place[..., None] + self.frame[..., 3:])[..., 0]
        self.landmarks[:, which] = place
        self.landmark_slots[:, which] = torch.tensor(slots, device=self.device)

    def finished(self) -> dict[str, Tensor]:
        """All of it, padded: kind, part, paint, taper, alive, framed (n, SLOTS), affine (n, SLOTS, 3, 4)."""
        count = len(self.kind)
        if count > SLOTS:
            raise RuntimeError(f"a recipe uses {count} primitives, more than {SLOTS}")

        def padded(values: Tensor) -> Tensor:
            full = values.new_zeros(self.n, SLOTS, *values.shape[2:])
            full[:, :count] = values
            return full

        def same(values: list[int]) -> Tensor:
            return padded(torch.tensor(values, device=self.device).expand(self.n, count))

        return {
            "kind": same(self.kind),
            "part": same(self.part),
            "paint": same(self.paint),
            "taper": padded(torch.stack(self.taper, 1)),
            "alive": padded(torch.stack(self.present, 1)),
            "framed": padded(torch.stack(self.framed, 1)),
            "affine": padded(torch.stack(self.affine, 1)),
            "landmarks": self.landmarks,
            "landmark_slots": self.landmark_slots,
        }
