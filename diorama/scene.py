"""A scene as a batch of tensors, what rendering it returns, and the ways to change it.

World: y is up, the table is y = 0, lengths are in units of the object's largest extent. An object
faces +z of its own frame and its left hand is at +x; the camera looks roughly along -z, so an
object with yaw 0 faces the camera. B counts images, P primitives, S pixels.
"""

import math
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.nn.functional import normalize

from .affine import affine, apply, compose, inverse, rotate_y

PART_NAMES: tuple[str, ...] = tuple(
    "none,body,head,muzzle,nose,eye,ear,neck,leg,tail,mane,wheel,window,light,cab,cargo,wall,roof,"
    "door,chimney,cross,grip,hammer head,cup,inside,handle,stem,cap,pot,arm,sphere,cube,trunk,wing,"
    "bill,tower,battlement,fin,shade,seat,backrest,bottle,label,fruit,leaf,hat,button,foot,tusk".split(
        ","
    )
)
PART_NUMBER: dict[str, int] = {name: number for number, name in enumerate(PART_NAMES)}


class Batched:
    """A dataclass of tensors with one row an image."""

    def rows(self, rows: slice | Tensor):
        """Return some of the images: a slice, or an int64 or bool tensor (n,)."""
        values = {}
        for field in fields(self):
            value = getattr(self, field.name)
            values[field.name] = value.rows(rows) if isinstance(value, Batched) else value[rows]
        return type(self)(**values)


@dataclass(frozen=True)
class Primitives(Batched):
    """P slots an image: the object's first, then the clutter's."""

    kind: Tensor  # int64 (B, P), ELLIPSOID, BOX, CYLINDER or CONE
    taper: Tensor  # (B, P), see `primitives`
    alive: Tensor  # bool (B, P), false for an empty slot
    part: Tensor  # int64 (B, P), index into PART_NAMES, 0 for clutter
    to_world: Tensor  # (B, P, 3, 4), affine map from the primitive's unit space
    to_texture: Tensor  # (B, P, 3, 4), affine map from world to the space of the solid texture
    material: Tensor  # (B, P, M), see `materials`


@dataclass(frozen=True)
class Camera(Batched):
    """A pinhole camera."""

    eye: Tensor  # (B, 3), position in the world
    axes: Tensor  # (B, 3, 3), rows right, up, forward
    focal: Tensor  # (B,), focal length in half image sides
    shift: Tensor  # (B, 2), right and up in half image sides: the image of the optical axis


@dataclass(frozen=True)
class Light(Batched):
    """One distant lamp, and light from all sides."""

    direction: Tensor  # (B, 3), unit vector towards the lamp
    color: Tensor  # (B, 3), the lamp's
    sky: Tensor  # (B, 3), light from above
    bounce: Tensor  # (B, 3), light from the table
    softness: Tensor  # (B,) in [0, 1], of the shadow's edge


@dataclass(frozen=True)
class Background(Batched):
    """Table (index 0) and backdrop (index 1): recoloured textures of `textures`."""

    texture: Tensor  # int64 (B, 2), which of them
    place: Tensor  # (B, 2, 2, 3), affine map from table (x, z) or image (right, up) to the texture
    mean: Tensor  # (B, 2, 3), colour
    mixing: Tensor  # (B, 2, 3, 3), from the texture's three channels to colour
    blur: Tensor  # (B,), mipmap level of the backdrop: how much it is out of focus
    edge: Tensor  # (B,), how far behind the object the table ends


@dataclass(frozen=True)
class Lens(Batched):
    """What the camera does to the light."""

    exposure: Tensor  # (B,), factor on the light
    blur: Tensor  # (B,), standard deviation in 1/128 of the image side
    noise: Tensor  # (B,), standard deviation of the sensor noise, in units of full scale
    grain: Tensor  # int64 (B,), which piece of the noise table
    vignette: Tensor  # (B,), darkening at the corners


@dataclass(frozen=True)
class Scene(Batched):
    """B scenes."""

    labels: Tensor  # int64 (B,)
    primitives: Primitives
    camera: Camera
    light: Light
    background: Background
    lens: Lens
    base: Tensor  # (B, 3), the point on the table the object stands on
    size: Tensor  # (B,), the object's scale
    yaw: Tensor  # (B,), degrees; positive turns the object's front to the image's right
    landmarks: Tensor  # (B, 3, 3), world positions of left eye, right eye and nose
    landmark_slots: Tensor  # int64 (B, 3, 2), the primitives that show each, -1 for none

    def __len__(self) -> int:
        return self.labels.shape[0]


@dataclass(frozen=True)
class Drawing:
    """Synthetic images and the truth about them."""

    images: Tensor  # uint8 (B, 3, S, S), RGB, channels last in memory
    labels: Tensor  # int64 (B,)
    mask: Tensor  # bool (B, S, S), the object's visible pixels
    parts: Tensor  # uint8 (B, S, S), 0 off the object, else an index into PART_NAMES
    keypoints: Tensor  # float32 (B, 3, 2), x and y of left eye, right eye, nose in pixels (pixel i
    # spans [i, i + 1)); nan for what has none
    visible: Tensor  # bool (B, 3), whether the keypoint's own pixel shows that eye or nose
    scene: Scene


def rotated(scene: Scene, degrees: float | Tensor) -> Scene:
    """Turn the object about the vertical through its base; camera, light, table and clutter stay.

    Args:
        degrees: one angle, or (B,); positive turns the front to the image's right.
    """
    degrees = _per_image(scene, degrees, "degrees")
    # Whole turns are taken off first so that 360 is exactly 0.
    turn = rotate_y(torch.remainder(degrees, 360) * (math.pi / 180))
    yaw = torch.remainder(scene.yaw + degrees + 180, 360) - 180
    return replace(_with_object_moved(scene, _about_base(scene, turn)), yaw=yaw)


def scaled(scene: Scene, factor: float | Tensor) -> Scene:
    """Make the object larger or smaller by a factor (B,) above 0, standing where it stands."""
    factor = _positive(scene, factor)
    linear = torch.eye(3, device=factor.device) * factor[:, None, None]
    return replace(_with_object_moved(scene, _about_base(scene, linear)), size=scene.size * factor)


def moved(scene: Scene, dx: float | Tensor = 0.0, dy: float | Tensor = 0.0) -> Scene:
    """Slide the object over the table; everything else stays.

    Args:
        dx: to the image's right, in image sides (exact at the object's distance).
        dy: towards the camera, by the way that lowers the base in the image by `dy` image sides (to
            first order).
    """
    dx, dy = _per_image(scene, dx, "dx"), _per_image(scene, dy, "dy")
    camera = scene.camera
    right, forward = camera.axes[:, 0], camera.axes[:, 2]
    level = forward.new_tensor([1.0, 0.0, 1.0])
    depth = ((scene.base - camera.eye) * forward).sum(-1)
    side = 2 * depth / camera.focal  # of the image, in world units at that depth
    slope = (-forward[:, 1]).clamp(min=0.05)  # sine of the angle at which the camera looks down
    ahead = normalize(forward * level, dim=-1)
    offset = ((dx * side)[:, None] * right - (dy * side / slope)[:, None] * ahead) * level
    unturned = torch.eye(3, device=offset.device).expand(len(scene), 3, 3)
    return _with_object_moved(scene, affine(unturned, offset))


def shifted(scene: Scene, dx: float | Tensor = 0.0, dy: float | Tensor = 0.0) -> Scene:
    """Shift the lens, which moves the whole image right by `dx` and down by `dy` image sides.

    This is the paper's translation, except that the scene goes on beyond the old frame.
    """
    offset = torch.stack([_per_image(scene, dx, "dx"), -_per_image(scene, dy, "dy")], -1)
    camera = replace(scene.camera, shift=scene.camera.shift + 2 * offset)
    return replace(scene, camera=camera)


def zoomed(scene: Scene, factor: float | Tensor) -> Scene:
    """Multiply the focal length by a factor (B,) above 0, which magnifies the whole image."""
    factor, old = _positive(scene, factor), scene.camera
    camera = replace(old, focal=old.focal * factor, shift=old.shift * factor[:, None])
    return replace(scene, camera=camera)


def without_part(scene: Scene, part_name: str) -> Scene:
    """Take one part (of PART_NAMES[1:]) off every object that has it."""
    if part_name not in PART_NAMES[1:]:
        raise ValueError(f"unknown part {part_name!r}; known: {', '.join(PART_NAMES[1:])}")
    p = scene.primitives
    alive = p.alive & (p.part != PART_NUMBER[part_name])
    return replace(scene, primitives=replace(p, alive=alive))


def _with_object_moved(scene: Scene, maps: Tensor) -> Scene:
    """Apply world maps (B, 3, 4) to the object, its texture and its landmarks, to nothing else."""
    p, each = scene.primitives, maps[:, None]
    of_object = (p.part > 0)[..., None, None]
    to_world = torch.where(of_object, compose(each, p.to_world), p.to_world)
    to_texture = torch.where(of_object, compose(p.to_texture, inverse(each)), p.to_texture)
    primitives = replace(p, to_world=to_world, to_texture=to_texture)
    base, landmarks = apply(maps, scene.base), apply(each, scene.landmarks)
    return replace(scene, primitives=primitives, base=base, landmarks=landmarks)


def _about_base(scene: Scene, linear: Tensor) -> Tensor:
    return torch.cat([linear, scene.base[..., None] - linear @ scene.base[..., None]], -1)


def _per_image(scene: Scene, value: float | Tensor, name: str) -> Tensor:
    """Expand a number, or one number an image, to (B,)."""
    value = torch.as_tensor(value, dtype=torch.float32, device=scene.base.device)
    if value.ndim > 1 or (value.ndim == 1 and len(value) != len(scene)):
        wanted = f"one number or one an image ({len(scene)})"
        raise ValueError(f"{name} must be {wanted}, got shape {tuple(value.shape)}")
    if not bool(value.isfinite().all()):
        raise ValueError(f"{name} must be finite")
    return value.expand(len(scene))


def _positive(scene: Scene, factor: float | Tensor) -> Tensor:
    factor = _per_image(scene, factor, "factor")
    if not bool((factor > 0).all()):
        raise ValueError("factor must be above 0")
    return factor
