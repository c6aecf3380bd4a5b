"""From scenes to images: shade what the rays meet, and photograph it.

Where what is the same for a whole image must stay one number a tile or a pixel's row, tensors hold
columns: x, y, z or red, green, blue apart. Shapes are those of `casting`.
"""

import math
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import pad

from . import casting, textures
from .casting import NEAR, TILE, View, untiled
from .materials import COLUMN, M, albedo
from .primitives import normal
from .scene import Drawing, Scene
from .threads import single_threaded

CHUNK = 16  # images at a time on a CPU: few for the caches, enough to hide the cost of a call
WORKERS = max(2, min(4, os.cpu_count() or 2))  # more would wait for the interpreter's lock
TANGENT = 4.0  # backdrop coordinates a unit of tangent: an image shows about two of them


def render(scene: Scene, size: int = 128) -> Drawing:
    """Render B scenes on the device they are on.

    Args:
        size: side of the images in pixels, 16 to 512.

    Raises:
        ValueError: if the size is out of range.
    """
    if isinstance(size, bool) or not isinstance(size, int) or not 16 <= size <= 512:
        raise ValueError(f"size must be an integer from 16 to 512 pixels, got {size!r}")
    on_cpu = scene.labels.device.type == "cpu"
    chunk = max(1, round(CHUNK * (128 / size) ** 2)) if on_cpu else 512
    chunks = [scene.rows(slice(start, start + chunk)) for start in range(0, len(scene), chunk)]
    draw = partial(render_chunk, size=size)
    if on_cpu:
        textures.tables("cpu")  # before threads ask for them
        with single_threaded(), ThreadPoolExecutor(WORKERS) as pool:
            pieces = list(pool.map(draw, chunks))
    else:
        pieces = [draw(piece) for piece in chunks]
    whole = {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}
    whole["images"] = whole["images"].contiguous(memory_format=torch.channels_last)
    return Drawing(labels=scene.labels, scene=scene, **whole)


@torch.inference_mode()
def render_chunk(scene: Scene, size: int) -> dict[str, Tensor]:
    """Render a few scenes at once: the fields of a `Drawing` that depend on pixels."""
    view = casting.prepare(scene, size)
    grid, batch = view.grid, len(scene)
    p, camera = scene.primitives, scene.camera
    slot, depth = casting.cast(view)
    hit = slot < p.alive.shape[1]

    # Every pixel's ray, and where it meets the table.
    u = view.u.view(batch, 1, grid, 1, TILE).expand(-1, grid, -1, TILE, -1).reshape(batch, -1)
    v = view.v.view(batch, grid, 1, TILE, 1).expand(-1, -1, grid, -1, TILE).reshape(batch, -1)
    right, up, ahead = camera.axes[..., None].unbind(1)  # (B, 3, 1) each
    ray = [torch.addcmul(torch.addcmul(ahead[:, k], u, right[:, k]), v, up[:, k]) for k in range(3)]
    far = camera.eye[:, 1, None] / (-ray[1]).clamp(min=1e-4)
    table = (ray[1] < -1e-4) & (camera.eye[:, 2:] + far * ray[2] > -scene.background.edge[:, None])
    depth = torch.where(hit, depth, torch.where(table, far, 1e4))

    parts = torch.cat([p.part, p.part.new_zeros(batch, 1)], 1).gather(1, slot)
    dark = untiled(casting.shadow(view, depth, table & ~hit, parts > 0), grid)[:, None]
    dark = _blurred(dark, 0.5 + 1.5 * scene.light.softness, 2.0, size)[:, 0]
    lit = 1 - casting.tiled(dark, grid)

    color = _background(view, table, far, ray, u, v, lit)
    _shade(view, color, slot, depth, ray, lit)
    images = _photographed(view, [untiled(channel, grid)[:, :size, :size] for channel in color])
    keypoints, visible = _keypoints(scene, untiled(slot, grid)[:, :size, :size], size)
    parts = untiled(parts, grid)[:, :size, :size].to(torch.uint8)
    truth = {"mask": parts > 0, "parts": parts, "keypoints": keypoints, "visible": visible}
    return {"images": images} | truth


def _background(
    view: View, table: Tensor, far: Tensor, ray: list[Tensor], u: Tensor, v: Tensor, lit: Tensor
) -> list[Tensor]:
    """Return the linear light of table and backdrop, three (B, N), also where the object hides it.

    The table is a plane in the world; the backdrop is placed by the ray's direction.
    """
    scene, light = view.scene, view.scene.light
    x = torch.addcmul(scene.camera.eye[:, :1], far, ray[0])
    z = torch.addcmul(scene.camera.eye[:, 2:], far, ray[2])
    # A pixel covers more of the table the farther and the flatter it is seen.
    cover = far.clamp(1e-3, 1e3).square() / (-ray[1]).clamp(min=0.02)
    near_level = _level(view, 0, textures.SIDE, view.size)[:, None] + 0.5 * torch.log2(cover)
    side = textures.SIDE * TANGENT
    blurred = scene.background.blur + _level(view, 1, side, 128)
    far_level = torch.maximum(_level(view, 1, side, view.size), blurred)[:, None]
    places = ((x, u * TANGENT), (z, v * TANGENT), (near_level, far_level))
    albedo = _recolored(view, table, *(torch.where(table, *pair) for pair in places))

    aside, along = x - scene.base[:, :1], z - scene.base[:, 2:]
    near = torch.exp((aside * aside + along * along) * (-1 / (0.3 * scene.size**2))[:, None])
    sky = 1 - 0.6 * near  # the object's foot sees less of it
    lit = lit * light.direction[:, 1:2]
    lamp, above, onto = (
        values[..., None].unbind(1)
        for values in (light.color, light.sky, 0.55 * light.color + light.sky)
    )
    return [
        albedo[k] * torch.where(table, lamp[k] * lit + above[k] * sky, onto[k]) for k in range(3)
    ]


def _recolored(view: View, table: Tensor, a: Tensor, b: Tensor, level: Tensor) -> list[Tensor]:
    """Return the albedo of table and backdrop, three (B, N), at their plane coordinates a and b."""
    background = view.scene.background

    def columns(values: Tensor) -> tuple[Tensor, ...]:
        return torch.where(table[:, None], *values.flatten(2)[..., None].unbind(1)).unbind(1)

    place, mean, mixing = map(columns, (background.place, background.mean, background.mixing))
    x = torch.addcmul(torch.addcmul(place[2], a, place[0]), b, place[1])
    y = torch.addcmul(torch.addcmul(place[5], a, place[3]), b, place[4])
    # Between two levels of the mipmap lies a dither, not a line.
    number = torch.arange(a.shape[1], device=a.device)
    level = level + 0.3 * textures.sensor_noise(view.scene.lens.grain[:, None] + number)
    texture = torch.where(table, *background.texture[..., None].unbind(1))
    values = textures.look_up(texture, x, y, level)
    albedo = []
    for k in range(3):
        mixed = mean[k]
        for channel in range(3):
            mixed = torch.addcmul(mixed, values[channel], mixing[3 * k + channel])
        mixed = mixed.clamp_(0.02, 1)
        albedo.append(mixed * mixed)
    return albedo


def _level(view: View, layer: int, side: float, size: int) -> Tensor:
    """Return the mipmap level (B,) whose texel is a pixel wide, straight on at distance 1."""
    scale = view.scene.background.place[:, layer, 0, :2].square().sum(-1).sqrt() * side
    return torch.log2(2 * scale / (size * view.scene.camera.focal))


def _dot(a: list[Tensor] | Tensor, b: list[Tensor] | Tensor) -> Tensor:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _shade(
    view: View, color: list[Tensor], slot: Tensor, depth: Tensor, ray: list[Tensor], lit: Tensor
) -> None:
    """Overwrite `color` where a primitive is seen: the Blinn-Phong model under lamp and sky."""
    p, light = view.scene.primitives, view.scene.light
    slots = p.alive.shape[1]
    pixel = (slot < slots).flatten().nonzero()[:, 0]
    image = pixel // slot.shape[1]

    def seen(values: Tensor) -> Tensor:
        return values.flatten().index_select(0, pixel)

    row = image * slots + seen(slot)
    # One table of all that is known about each primitive, columns contiguous, gathered once.
    columns = [view.to_local.flatten(2), p.to_texture.flatten(2), p.material]
    columns += [p.taper[..., None], p.kind[..., None].float()]
    table = torch.cat(columns, 2).flatten(0, 1).t().contiguous().index_select(1, row)
    local, texture, material, taper, kind = table.split([12, 12, M, 1, 1])
    t = seen(depth)
    rays = [seen(component) for component in ray]
    eye = view.scene.camera.eye.t().contiguous().index_select(1, image)
    point = [eye[k] + t * rays[k] for k in range(3)]

    def mapped(maps: Tensor) -> list[Tensor]:
        return [_dot(maps[4 * k :], point) + maps[4 * k + 3] for k in range(3)]

    outward = normal(kind[0], taper[0], *mapped(local))
    outward = [_dot(local[k::4], outward) for k in range(3)]
    length = torch.rsqrt(_dot(outward, outward) + 1e-20)
    outward = [component * length for component in outward]

    x, y, z = mapped(texture)
    coarse = textures.solid_noise(x * 0.55, y * 0.55, z * 0.55)
    # One look-up is grain or, where the material has much of it, fur: drawn out along hairs.
    furry = material[COLUMN["fur"]] > material[COLUMN["grain"]]
    across, along = torch.where(furry, 4.0, 2.7), torch.where(furry, 0.7, 2.7)
    fine = textures.solid_noise(x * across, y * along, z * across + 0.3 * coarse)
    colors = albedo(material, x, y, z, coarse, fine)

    lamp = torch.cat([light.direction, light.color, light.sky, light.bounce], 1).t().contiguous()
    towards, lamp, sky, bounce = lamp.index_select(1, image).split(3)
    facing = _dot(outward, towards).clamp(min=0) * seen(lit)
    above = 0.5 + 0.5 * outward[1]
    openness = 0.5 + 0.5 * (point[1] * 4).clamp(0, 1)  # little sky near the table
    inverse_length = torch.rsqrt(_dot(rays, rays))
    half = [towards[k] - rays[k] * inverse_length for k in range(3)]
    mirrored = _dot(outward, half).clamp(min=1e-4) * torch.rsqrt(_dot(half, half) + 1e-12)
    gloss, shine = material[COLUMN["gloss"]], material[COLUMN["shine"]]
    shine = torch.exp2(torch.exp2(gloss) * torch.log2(mirrored)) * shine * (facing > 0)
    for k in range(3):
        ambient = torch.lerp(bounce[k], sky[k], above) * openness
        value = colors[k] * (lamp[k] * facing + ambient) + 0.5 * lamp[k] * shine
        color[k].view(-1).index_copy_(0, pixel, value)


def _photographed(view: View, color: list[Tensor]) -> Tensor:
    """Apply exposure, vignette, blur, response and noise: uint8 (B, 3, S, S), channels last."""
    lens, size = view.scene.lens, view.size
    axis = (torch.arange(size, device=color[0].device) + 0.5) * (2 / size) - 1
    corner = axis[:, None] ** 2 + axis[None, :] ** 2
    gain = lens.exposure[:, None, None] * (1 - 0.5 * lens.vignette[:, None, None] * corner)
    image = torch.stack(color, 1) * gain[:, None]
    image = _blurred(image, lens.blur, 0.8, size)
    number = torch.arange(3 * size * size, device=image.device)
    noise = textures.sensor_noise(lens.grain[:, None] + number).view(image.shape)
    image = image.sqrt_().add_(noise * lens.noise[:, None, None, None])
    image = image.mul_(255).add_(0.5).clamp_(0, 255).to(torch.uint8)
    return image.contiguous(memory_format=torch.channels_last)


def _blurred(image: Tensor, sigma: Tensor, most: float, size: int) -> Tensor:
    """Blur (B, C, H, W) by a separable Gaussian of `sigma` (B,), in 1/128 of the side `size`.

    The number of taps follows from `most`, the largest sigma that is foreseen, not from these
    images: what an image looks like must not depend on its neighbours.
    """
    taps = math.ceil(2 * most * size / 128)
    sigma = sigma.clamp(min=0.01) * (size / 128)
    offsets = torch.arange(taps + 1, device=image.device)
    weights = torch.exp(-(offsets**2) / (2 * sigma[:, None] ** 2))
    weights = weights / (weights[:, :1] + 2 * weights[:, 1:].sum(1, keepdim=True))
    weights = weights.t()[..., None, None, None]  # (taps + 1, B, 1, 1, 1)
    for axis, padding in ((3, (taps, taps, 0, 0)), (2, (0, 0, taps, taps))):
        padded = pad(image, padding, mode="replicate")
        around = [padded.narrow(axis, k, image.shape[axis]) for k in range(2 * taps + 1)]
        image = image * weights[0]
        for k in range(1, taps + 1):
            image = torch.addcmul(image, around[taps + k] + around[taps - k], weights[k])
    return image


def _keypoints(scene: Scene, slot: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return pixels (B, 3, 2) of the landmarks, and whether the pixel shows them, bool (B, 3)."""
    x, y, depth = casting.in_camera(scene, scene.landmarks)
    px, py = casting.project(scene, x, y, depth, size)
    inside = (px >= 0) & (px < size) & (py >= 0) & (py < size) & (depth > NEAR)
    column, row = (torch.where(inside, value, 0.0).long() for value in (px, py))
    seen = slot.flatten(1).gather(1, row * size + column)
    visible = inside & (seen[..., None] == scene.landmark_slots).any(-1)
    return torch.stack([px, py], -1), visible
