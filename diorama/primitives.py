"""Closed-form intersections of rays with the four primitives, each in its own unit space.

    ellipsoid   the unit ball
    box         the cube [-1, 1]^3
    cylinder    |y| <= 1, x^2 + z^2 <= 1
    cone        |y| <= 1, x^2 + z^2 <= r(y)^2 with r(y) = 1 - taper (1 + y) / 2: taper 1 is a full cone with its tip
                at y = 1, less is a cone with its tip cut off, and 0 is the cylinder

An affine map to world space turns them into any size, proportion, orientation and shear. All are convex and the ray
starts outside, so one entry point says everything.
"""

from __future__ import annotations

import torch
from torch import Tensor

ELLIPSOID, BOX, CYLINDER, CONE = range(4)
SOLVERS = ("ellipsoid", "box", "tapered")  # cylinders and cones share one


def enter_ellipsoid(origin: tuple[Tensor, ...], direction: tuple[Tensor, ...], taper: Tensor) -> Tensor:
    """Ray parameter where a ray enters the unit ball, infinity for a miss (see `enter`)."""
    (ox, oy, oz), (dx, dy, dz) = origin, direction
    a = dx * dx + dy * dy + dz * dz
    b = ox * dx + oy * dy + oz * dz
    c = ox * ox + oy * oy + oz * oz - 1
    root = b * b - a * c
    # sqrt of a negative number is nan; nan > 0 is false, so one comparison settles a miss.
    t = (-b - root.sqrt()) / a
    return torch.where(t > 0, t, torch.inf)


def enter_box(origin: tuple[Tensor, ...], direction: tuple[Tensor, ...], taper: Tensor) -> Tensor:
    """Ray parameter where a ray enters the cube, infinity for a miss (see `enter`)."""
    near = far = None
    for o, d in zip(origin, direction, strict=True):
        step = 1 / torch.where(d.abs() < 1e-9, 1e-9, d)
        middle, half = -o * step, step.abs()
        near = middle - half if near is None else torch.maximum(near, middle - half)
        far = middle + half if far is None else torch.minimum(far, middle + half)
    return torch.where((near < far) & (near > 0), near, torch.inf)


def enter_tapered(origin: tuple[Tensor, ...], direction: tuple[Tensor, ...], taper: Tensor) -> Tensor:
    """Ray parameter where a ray enters a capped cylinder or cone, infinity for a miss (see `enter`)."""
    (ox, oy, oz), (dx, dy, dz) = origin, direction
    slope = -taper / 2  # dr/dy
    radius = 1 + slope * (1 + oy)
    a = dx * dx + dz * dz - (slope * dy) ** 2
    b = ox * dx + oz * dz - radius * slope * dy
    c = ox * ox + oz * oz - radius * radius
    root = b * b - a * c
    # Going in, the implicit function falls along the ray; its derivative at a root is -sqrt or +sqrt: this root.
    side = (-b - root.sqrt()) / torch.where(a.abs() < 1e-9, 1e-9, a)
    side = torch.where((side > 0) & ((oy + side * dy).abs() <= 1), side, torch.inf)
    end = torch.where(oy > 0, 1.0, -1.0)  # only the cap on the origin's side can be entered
    cap = (end - oy) / torch.where(dy.abs() < 1e-9, 1e-9, dy)
    reach = torch.where(end > 0, 1 - taper, 1.0)
    inside = (ox + cap * dx) ** 2 + (oz + cap * dz) ** 2 <= reach * reach
    cap = torch.where((cap > 0) & (oy.abs() > 1) & inside, cap, torch.inf)
    return torch.minimum(side, cap)


def enter(kind: int, origin: tuple[Tensor, ...], direction: tuple[Tensor, ...], taper: Tensor) -> Tensor:
    """Where rays enter a primitive, in its unit space.

    Args:
        kind: ELLIPSOID, BOX, CYLINDER or CONE.
        origin: x, y, z of the rays' origins (outside the primitive); any shapes that broadcast together.
        direction: x, y, z of the rays' directions, of any length.
        taper: see the module; 0 for a cylinder, ignored by ellipsoid and box.

    Returns:
        The ray parameter (in lengths of `direction`), infinity where the ray misses.
    """
    solver = (enter_ellipsoid, enter_box, enter_tapered, enter_tapered)[kind]
    return solver(origin, direction, taper)


def normal(kind: Tensor, taper: Tensor, x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Outward normals (not of unit length) at surface points in unit space; all arguments (n,)."""
    box, ball = kind == BOX, kind == ELLIPSOID
    ax, ay, az = x.abs(), y.abs(), z.abs()
    most = torch.maximum(ax, torch.maximum(ay, az)) - 1e-5
    # A point of a tapered side lies at r(y), of a cap at |y| = 1: whichever it is nearer to.
    radius = 1 - taper * (1 + y) / 2
    across = (x * x + z * z).sqrt()
    cap = (1 - ay) < (radius - across).abs()
    zero = torch.zeros_like(x)
    on_cap = cap & ~(box | ball)
    nx = torch.where(box, torch.where(ax >= most, x, zero), torch.where(on_cap, zero, x))
    nz = torch.where(box, torch.where(az >= most, z, zero), torch.where(on_cap, zero, z))
    ny = torch.where(box, torch.where(ay >= most, y, zero), torch.where(on_cap, y, radius * taper / 2))
    return nx, torch.where(ball, y, ny), nz
