"""A scene as a batch of tensors, what drawing it returns, and the ways to change it.

World: y is up, the table is y = 0, lengths are in units of the object's largest extent. An object faces +z of its own
frame and its left hand is at +x; the camera looks roughly along -z, so an object with yaw 0 faces the camera.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor

PART_NAMES: tuple[str, ...] = (
    "none",
    "body",
    "head",
    "muzzle",
    "nose",
    "eye",
    "ear",
    "neck",
    "leg",
    "tail",
    "mane",
    "wheel",
    "window",
    "light",
    "cab",
    "cargo",
    "wall",
    "roof",
    "door",
    "chimney",
    "cross",
    "grip",
    "hammer head",
    "cup",
    "inside",
    "handle",
    "stem",
    "cap",
    "pot",
    "arm",
    "sphere",
    "cube",
    "trunk",
    "wing",
    "bill",
    "tower",
    "battlement",
    "fin",
    "shade",
    "seat",
    "backrest",
    "bottle",
    "label",
    "fruit",
    "leaf",
    "hat",
    "button",
    "foot",
    "tusk",
)
PART_NUMBER: dict[str, int] = {name: number for number, name in enumerate(PART_NAMES)}


class Batched:
    """What every piece of a scene can do: move to a device, and give some of its rows."""

    def _map(self, change):
        values = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                value = change(value)
            elif isinstance(value, Batched):
                value = value._map(change)
            values[field.name] = value
        return type(self)(**values)

    def to(self, device: str | torch.device):
        """The same on another device."""
        return self._map(lambda tensor: tensor.to(device))

    def rows(self, rows):
        """Some of the images: a slice, or an int64 or bool tensor (n,)."""
        return self._map(lambda tensor: tensor[rows])


@dataclass(frozen=True)
class Primitives(Batched):
    """P primitive slots an image: the object's first, then the clutter's.

    Attributes:
        kind: int64 (B, P), ELLIPSOID, BOX, CYLINDER or CONE.
        taper: (B, P), see `primitives`.
        alive: bool (B, P), false for an empty slot.
        part: int64 (B, P), index into PART_NAMES, 0 for clutter.
        to_world: (B, P, 3, 4), affine map from the primitive's unit space.
        to_texture: (B, P, 3, 4), affine map from world to the space the solid texture lives in.
        material: (B, P, M), see `materials`.
    """

    kind: Tensor
    taper: Tensor
    alive: Tensor
    part: Tensor
    to_world: Tensor
    to_texture: Tensor
    material: Tensor


@dataclass(frozen=True)
class Camera(Batched):
    """A pinhole camera.

    Attributes:
        eye: (B, 3), position in the world.
        axes: (B, 3, 3), rows right, up, forward.
        focal: (B,), focal length in half picture sides.
        shift: (B, 2), lens shift in half picture sides (right, up): where the optical axis meets the picture.
    """

    eye: Tensor
    axes: Tensor
    focal: Tensor
    shift: Tensor


@dataclass(frozen=True)
class Light(Batched):
    """One distant lamp over light from all sides.

    Attributes:
        direction: (B, 3), unit vector towards the lamp.
        color: (B, 3), the lamp's.
        sky: (B, 3), light from above.
        bounce: (B, 3), light from the table.
        softness: (B,) in [0, 1], of the shadow's edge.
    """

    direction: Tensor
    color: Tensor
    sky: Tensor
    bounce: Tensor
    softness: Tensor


@dataclass(frozen=True)
class Background(Batched):
    """The table and what stands behind it: pictures from `bank`, recoloured. Index 0 is the table, 1 the backdrop.

    Attributes:
        texture: int64 (B, 2), which picture of the bank.
        place: (B, 2, 2, 3), affine map from table (x, z), or from picture (right, up), to picture coordinates.
        mean: (B, 2, 3), colour.
        mixing: (B, 2, 3, 3), from the picture's three channels to colour.
        blur: (B,), pyramid level of the backdrop: how much it is out of focus.
        edge: (B,), how far behind the object the table ends.
    """

    texture: Tensor
    place: Tensor
    mean: Tensor
    mixing: Tensor
    blur: Tensor
    edge: Tensor


@dataclass(frozen=True)
class Lens(Batched):
    """What the camera does to the light: all (B,).

    Attributes:
        exposure: factor on the light.
        blur: standard deviation of the blur, as a fraction of 1/128 of the picture side.
        noise: standard deviation of the sensor noise, in units of full scale.
        grain: int64, which piece of the noise table.
        vignette: darkening at the corners.
    """

    exposure: Tensor
    blur: Tensor
    noise: Tensor
    grain: Tensor
    vignette: Tensor


@dataclass(frozen=True)
class Scene(Batched):
    """B scenes. Attributes:

    labels: int64 (B,).
    novel: whether the labels count NOVEL_CLASSES.
    base: (B, 3), the point on the table the object stands on.
    size: (B,), the object's scale.
    yaw: (B,), degrees; 0 faces the camera, positive turns the object's front to the picture's right.
    landmarks: (B, 3, 3), world positions of left eye, right eye and nose.
    landmark_slots: int64 (B, 3, 2), the primitive slots each belongs to, -1 for none.
    """

    labels: Tensor
    novel: bool
    primitives: Primitives
    camera: Camera
    light: Light
    background: Background
    lens: Lens
    base: Tensor
    size: Tensor
    yaw: Tensor
    landmarks: Tensor
    landmark_slots: Tensor

    def __len__(self) -> int:
        return self.labels.shape[0]


@dataclass(frozen=True)
class Drawing:
    """Pictures and the truth about them.

    Attributes:
        images: uint8 (B, 3, S, S), RGB, channels last in memory.
        labels: int64 (B,).
        mask: bool (B, S, S), the object's visible pixels.
        parts: uint8 (B, S, S), 0 off the object, else an index into PART_NAMES.
        keypoints: float32 (B, 3, 2), x and y in pixels (pixel i spans [i, i + 1)) of the animal's left eye, its right
            eye and its nose; nan for what has none.
        visible: bool (B, 3), whether the keypoint's own pixel shows that eye or nose.
        scene: what was drawn.
    """

    images: Tensor
    labels: Tensor
    mask: Tensor
    parts: Tensor
    keypoints: Tensor
    visible: Tensor
    scene: Scene


def compose(outer: Tensor, inner: Tensor) -> Tensor:
    """Affine maps (..., 3, 4): first `inner`, then `outer`."""
    linear = outer[..., :3] @ inner[..., :3]
    offset = outer[..., :3] @ inner[..., 3:] + outer[..., 3:]
    return torch.cat([linear, offset], -1)


def inverse(affine: Tensor) -> Tensor:
    """Inverse of affine maps (..., 3, 4), by cofactors: quicker and steadier than a general solver for 3x3."""
    x, y, z = affine[..., 0], affine[..., 1], affine[..., 2]
    rows = torch.stack([torch.cross(y, z, -1), torch.cross(z, x, -1), torch.cross(x, y, -1)], -2)
    determinant = (rows[..., 0, :] * x).sum(-1)[..., None, None]
    linear = rows / torch.where(determinant.abs() < 1e-20, 1e-20, determinant)
    return torch.cat([linear, -linear @ affine[..., 3:]], -1)


def about_vertical(radians: Tensor) -> Tensor:
    """Rotations (..., 3, 3) about y; positive takes +z towards +x."""
    c, s = radians.cos(), radians.sin()
    zero, one = torch.zeros_like(c), torch.ones_like(c)
    return torch.stack([c, zero, s, zero, one, zero, -s, zero, c], -1).unflatten(-1, (3, 3))


def _with_object_moved(scene: Scene, affine: Tensor, **changes: Tensor) -> Scene:
    """Apply world maps (B, 3, 4) to the object, its texture and its landmarks, and to nothing else."""
    p = scene.primitives
    mine = (p.part > 0)[..., None, None]
    to_world = torch.where(mine, compose(affine[:, None], p.to_world), p.to_world)
    to_texture = torch.where(mine, compose(p.to_texture, inverse(affine)[:, None]), p.to_texture)
    base = (affine[..., :3] @ scene.base[..., None] + affine[..., 3:])[..., 0]
    landmarks = (affine[:, None, :, :3] @ scene.landmarks[..., None])[..., 0] + affine[:, None, :, 3]
    primitives = dataclasses.replace(p, to_world=to_world, to_texture=to_texture)
    return dataclasses.replace(scene, primitives=primitives, base=base, landmarks=landmarks, **changes)


def _per_image(scene: Scene, value: float | Tensor, name: str) -> Tensor:
    """A number, or one number an image, as (B,)."""
    value = torch.as_tensor(value, dtype=torch.float32, device=scene.base.device)
    if value.ndim > 1 or (value.ndim == 1 and len(value) != len(scene)):
        raise ValueError(f"{name} must be one number or one an image ({len(scene)}), got shape {tuple(value.shape)}")
    if not bool(value.isfinite().all()):
        raise ValueError(f"{name} must be finite")
    return value.expand(len(scene))


def _about_base(scene: Scene, linear: Tensor) -> Tensor:
    return torch.cat([linear, scene.base[..., None] - linear @ scene.base[..., None]], -1)


def rotated(scene: Scene, degrees: float | Tensor) -> Scene:
    """Turn the object about the vertical through its base; camera, light, table and clutter stay.

    Args:
        degrees: one angle, or (B,); positive turns the front to the picture's right.
    """
    degrees = _per_image(scene, degrees, "degrees")
    # Whole turns are taken off first so that 360 is exactly 0.
    affine = _about_base(scene, about_vertical(torch.remainder(degrees, 360) * (math.pi / 180)))
    return _with_object_moved(scene, affine, yaw=torch.remainder(scene.yaw + degrees + 180, 360) - 180)


def moved(scene: Scene, dx: float | Tensor = 0.0, dy: float | Tensor = 0.0) -> Scene:
    """Slide the object over the table; everything else stays.

    Args:
        dx: to the picture's right, in picture sides (exact at the object's distance).
        dy: towards the camera, by the way that lowers the base in the picture by `dy` picture sides (to first order).
    """
    dx, dy = _per_image(scene, dx, "dx"), _per_image(scene, dy, "dy")
    camera = scene.camera
    right, forward = camera.axes[:, 0], camera.axes[:, 2]
    depth = ((scene.base - camera.eye) * forward).sum(-1)
    side = 2 * depth / camera.focal  # of the picture, in world units at that depth
    flat = torch.nn.functional.normalize(forward * forward.new_tensor([1.0, 0.0, 1.0]), dim=-1)
    slope = (-forward[:, 1]).clamp(min=0.05)  # sine of the angle at which the camera looks down
    offset = (dx * side)[:, None] * right - (dy * side / slope)[:, None] * flat
    offset = offset * offset.new_tensor([1.0, 0.0, 1.0])
    eye = torch.eye(3, device=offset.device).expand(len(scene), 3, 3)
    return _with_object_moved(scene, torch.cat([eye, offset[..., None]], -1))


def scaled(scene: Scene, factor: float | Tensor) -> Scene:
    """Make the object larger or smaller, standing where it stands. `factor` is one number or (B,), above 0."""
    factor = _per_image(scene, factor, "factor")
    if not bool((factor > 0).all()):
        raise ValueError("factor must be above 0")
    linear = torch.eye(3, device=factor.device) * factor[:, None, None]
    return _with_object_moved(scene, _about_base(scene, linear), size=scene.size * factor)


def shifted(scene: Scene, dx: float | Tensor = 0.0, dy: float | Tensor = 0.0) -> Scene:
    """Move the whole picture right by `dx` and down by `dy` picture sides, by shifting the lens.

    This is the paper's translation, except that the world goes on beyond the old frame.
    """
    offset = torch.stack([_per_image(scene, dx, "dx"), -_per_image(scene, dy, "dy")], -1)
    camera = dataclasses.replace(scene.camera, shift=scene.camera.shift + 2 * offset)
    return dataclasses.replace(scene, camera=camera)


def zoomed(scene: Scene, factor: float | Tensor) -> Scene:
    """Magnify the whole picture about its centre, by the focal length. `factor` is one number or (B,), above 0."""
    factor = _per_image(scene, factor, "factor")
    if not bool((factor > 0).all()):
        raise ValueError("factor must be above 0")
    old = scene.camera
    camera = dataclasses.replace(old, focal=old.focal * factor, shift=old.shift * factor[:, None])
    return dataclasses.replace(scene, camera=camera)


def without_part(scene: Scene, part_name: str) -> Scene:
    """The same scene with one part taken off every object that has it (part names: PART_NAMES[1:])."""
    if part_name not in PART_NUMBER or part_name == "none":
        raise ValueError(f"unknown part {part_name!r}; known: {', '.join(PART_NAMES[1:])}")
    p = scene.primitives
    alive = p.alive & (p.part != PART_NUMBER[part_name])
    return dataclasses.replace(scene, primitives=dataclasses.replace(p, alive=alive))
