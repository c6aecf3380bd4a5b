"""Building one object from primitives, for n images at once.

A recipe (see `animals` and `things`) is a function of a `Model`, to which it adds primitives, and
of the random numbers. Coordinates are the object's own: y up from the ground, front towards +z,
left hand at +x, any unit (the finished object is scaled to extent 1). A number may be a float or a
tensor (n,), so one call shapes the same part of n different individuals.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from .affine import affine, apply, compose, rotate_x, rotate_y, rotate_z
from .primitives import BOX, CONE, ELLIPSOID
from .scene import PART_NUMBER

SLOTS = 34  # the most primitives an object may have
COAT, SECOND, ACCENT, DARK, PALE, GLASS, TYRE = range(7)  # an object's materials, see `sampling`
SIDES = (1.0, -1.0)  # signs of x, left first
EYES, NOSE = tuple(enumerate(SIDES)), 2  # numbers of the landmarks, and the sides of the eyes
Number = float | Tensor
Point = tuple[Number, Number, Number]
Extent = Number | tuple[Number, Number] | Point


class Model:
    """Primitives of one object, as it looks in n images.

    `frame`, maps (n, 3, 4) or None, says where later primitives go.

    Half extents are one number for all axes, two for a radius about y and a half height, or three.
    The options of `ball`, `box`, `drum` and `limb` are those of `put`.
    """

    def __init__(self, count: int, device: torch.device) -> None:
        self.n = count
        self.device = device
        self.frame: Tensor | None = None
        self.primitives: list[dict[str, Tensor]] = []
        self.landmarks = torch.full((count, 3, 3), torch.nan, device=device)
        self.landmark_slots = torch.full((count, 3, 2), -1, device=device)

    def number(self, value: Number) -> Tensor:
        """Expand to float32 (n,)."""
        return torch.as_tensor(value, dtype=torch.float32, device=self.device).expand(self.n)

    def point(self, values: Point) -> Tensor:
        """Expand to (n, 3)."""
        return torch.stack([self.number(value) for value in values], -1)

    def turn(self, x: Number = 0.0, y: Number = 0.0, z: Number = 0.0) -> Tensor:
        """Return rotations (n, 3, 3) by radians about z, then x, then y."""
        x, y, z = self.number(x), self.number(y), self.number(z)
        return rotate_y(y) @ rotate_x(x) @ rotate_z(z)

    def at(self, centre: Point, turn: Tensor) -> Tensor:
        """Return a frame with its origin at `centre`, to assign to `frame`."""
        return affine(turn, self.point(centre))

    def put(
        self,
        kind: int,
        part: str,
        centre: Point,
        linear: Tensor,
        material: int = COAT,
        *,
        taper: Number = 0.0,
        present: Tensor | bool = True,
        framed: Tensor | bool = False,
    ) -> int:
        """Add a primitive and return its slot.

        Args:
            kind: ELLIPSOID, BOX or CONE.
            part: its name in `PART_NAMES`.
            centre, linear: where its unit space goes, (n, 3, 3) being any linear map.
            material: COAT to TYRE.
            taper: of a cone, see `primitives`.
            present: bool (n,), which of the images have it.
            framed: bool (n,), whose camera and scale leave room for it even where it is absent.
        """

        def each(value: int | bool | Tensor) -> Tensor:
            return torch.as_tensor(value, device=self.device).expand(self.n)

        placed, alive = affine(linear, self.point(centre)), each(present)
        self.primitives.append(
            {
                "kind": each(kind),
                "part": each(PART_NUMBER[part]),
                "material": each(material),
                "affine": placed if self.frame is None else compose(self.frame, placed),
                "taper": self.number(taper),
                "alive": alive,
                "framed": alive | framed,
            }
        )
        return len(self.primitives) - 1

    def ball(self, part: str, centre: Point, half: Extent, *material: int, **options) -> int:
        """Add an ellipsoid."""
        return self._put_scaled(ELLIPSOID, part, centre, half, *material, **options)

    def box(self, part: str, centre: Point, half: Extent, *material: int, **options) -> int:
        """Add a box."""
        return self._put_scaled(BOX, part, centre, half, *material, **options)

    def drum(self, part: str, centre: Point, half: Extent, *material: int, **options) -> int:
        """Add a cylinder about its y axis; with `taper`, a cone that narrows upwards."""
        return self._put_scaled(CONE, part, centre, half, *material, **options)

    def _put_scaled(self, kind, part, centre, half, *material, turn=None, **options) -> int:
        half = half if isinstance(half, tuple) else (half,) * 3
        linear = torch.diag_embed(self.point(half if len(half) == 3 else (*half, half[0])))
        linear = linear if turn is None else turn @ linear
        return self.put(kind, part, centre, linear, *material, **options)

    def limb(
        self, part: str, start: Point, end: Point, thick: Number, thin: Number, *material, **options
    ) -> int:
        """Add a round bar from start to end with these radii there (thin <= thick)."""
        a, b = self.point(start), self.point(end)
        axis = (b - a) / 2
        unit = normalize(axis, dim=-1)
        # Any vector that is not along the bar gives the two others.
        x, z = unit.new_tensor([1.0, 0, 0]), unit.new_tensor([0, 0, 1.0])
        helper = torch.where(unit[:, :1].abs() < 0.8, x, z)
        across = normalize(torch.cross(helper, unit, -1), dim=-1)
        radius = self.number(thick)[:, None]
        linear = torch.stack([across * radius, axis, torch.cross(across, unit, -1) * radius], -1)
        taper = 1 - self.number(thin) / self.number(thick)
        middle = ((a + b) / 2).unbind(-1)
        return self.put(CONE, part, middle, linear, *material, taper=taper, **options)

    def landmark(self, which: int, point: Point, *slots: int) -> None:
        """Place left eye (0), right eye (1) or nose (2), which one or two primitives show."""
        place = self.point(point)
        self.landmarks[:, which] = place if self.frame is None else apply(self.frame, place)
        self.landmark_slots[:, which] = torch.tensor(slots, device=self.device)

    def finished(self) -> dict[str, Tensor]:
        """Stack all primitives along a second axis, padded to SLOTS, and add the landmarks."""
        count = len(self.primitives)
        if count > SLOTS:
            raise RuntimeError(f"a recipe uses {count} primitives, more than {SLOTS}")
        fields = {name: [p[name] for p in self.primitives] for name in self.primitives[0]}
        for values in fields.values():
            values += [torch.zeros_like(values[0])] * (SLOTS - count)
        stacked = {name: torch.stack(values, 1) for name, values in fields.items()}
        return stacked | {"landmarks": self.landmarks, "landmark_slots": self.landmark_slots}
