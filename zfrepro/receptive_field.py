"""Sizes, receptive fields and parameter counts: of a network's architecture (Fig. 3), of any model.

`networks.stages` computes them from kernels, strides and padding; `probe` finds the receptive
fields of any differentiable function of images, from its gradients.
"""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from zfrepro.layers import Field, Fields
from zfrepro.networks import Architecture, Stage, stages

TRIES = 8  # random images; one may leave gradients out, as a max-pool passes one of nine


def stage(architecture: Architecture, image_size: int, name: str) -> Stage:
    """Return the stage of a given name, such as `conv2` or `pool1`."""
    by_name = {s.name: s for s in stages(architecture, image_size)}
    if name not in by_name:
        raise ValueError(f"{architecture.name} has no stage {name!r}; it has {', '.join(by_name)}")
    return by_name[name]


def table(
    architecture: Architecture, image_size: int = 224, classes: int = 1000
) -> list[dict[str, int | str]]:
    """Return one row a layer: geometry, parameters, multiply-adds for one image, and `Field`."""
    below = stages(architecture, image_size)
    rows = [
        {
            "layer": s.name, "kernel": s.kernel, "stride": s.stride, "maps": s.maps, "size": s.size,
            "parameters": s.parameters, "multiply-adds": s.multiply_adds, "field": s.field.size,
            "jump": s.field.jump, "start": s.field.start,
        }
        for s in below
    ]  # fmt: skip
    units, blank = below[-1].maps * below[-1].size ** 2, dict.fromkeys(rows[0], "")
    for name, out in [*((f.name, f.units) for f in architecture.fulls), ("fc8", classes)]:
        counts = {"parameters": (units + 1) * out, "multiply-adds": units * out}
        rows.append(blank | {"layer": name, "maps": out, "size": 1, "field": image_size} | counts)
        units = out
    return rows


def multiply_adds(architecture: Architecture, image_size: int, classes: int) -> int:
    """Return the multiply-adds of a forward pass of one image, biases, pools and norms aside."""
    return sum(row["multiply-adds"] for row in table(architecture, image_size, classes))


def training_multiply_adds(architecture: Architecture, image_size: int, classes: int) -> int:
    """Return the multiply-adds of a training step for one image.

    Maps, gradients of weights and gradients of maps cost the same; only the gradient of the image
    itself is not needed.
    """
    rows = table(architecture, image_size, classes)
    return 3 * sum(row["multiply-adds"] for row in rows) - rows[0]["multiply-adds"]


def format_table(architecture: Architecture, image_size: int = 224, classes: int = 1000) -> str:
    """Return `table` as aligned text with a last row of totals."""
    rows = table(architecture, image_size, classes)
    sums = {key: sum(row[key] for row in rows) for key in ("parameters", "multiply-adds")}
    rows.append(dict.fromkeys(rows[0], "") | {"layer": "total"} | sums)
    cells = [list(rows[0])]
    cells += [[f"{v:,}" if k in sums else str(v) for k, v in row.items()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ([cell.rjust(w) for cell, w in zip(row, widths, strict=True)] for row in cells)
    return "\n".join("  ".join(line) for line in lines)


# --- of any model ---------------------------------------------------------------------------------


def _gradient_windows(
    function: Callable[[Tensor], Tensor], images: Tensor, units: Tensor
) -> Tensor:
    """Return the windows that hold all non-zero gradients of some units.

    images (U, 3, H, W), one a unit, and units (U, 2), row and column -> (U, 4) top, bottom, left,
    right; bottom above top where there is no gradient.
    """
    with torch.inference_mode(False), torch.enable_grad():
        leaf = images.clone().requires_grad_()
        maps = function(leaf * 1)  # not the leaf itself, which a model could not change in place
        values = maps[_places(units)]
        if not values.requires_grad:  # no gradient leads there
            return torch.tensor([images.shape[-2], -1, images.shape[-1], -1]).repeat(len(units), 1)
        (gradient,) = torch.autograd.grad((values * torch.randn_like(values)).sum(), leaf)
    support = gradient.ne(0).any(1)
    edges = []
    for lines in (support.any(2), support.any(1)):  # (U, H), (U, W)
        places = torch.arange(lines.shape[1], device=lines.device)
        edges.append(torch.where(lines, places, lines.shape[1]).amin(1))
        edges.append(torch.where(lines, places, -1).amax(1))
    return torch.stack(edges, 1).cpu()


@torch.no_grad()
def _sees_outside(
    function: Callable[[Tensor], Tensor], image: Tensor, units: Tensor, windows: Tensor
) -> Tensor:
    """Return which units depend on pixels outside a window.

    They do if they are not finite when those pixels are NaN, which reaches whatever is computed
    from it, also by a weight of zero or behind a ReLU; or, where an operation swallows NaN, if they
    differ when those pixels are noise. windows: (U, 4) top, bottom, left, right -> (U,) bool.
    """
    inside = torch.zeros(len(units), 1, *image.shape[-2:], dtype=torch.bool, device=image.device)
    for pixels, (top, bottom, left, right) in zip(inside, windows.tolist(), strict=True):
        pixels[:, top : bottom + 1, left : right + 1] = True
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(1)).to(image)
    noise = image + 10 * image.std().clamp_min(1e-3) * noise
    infected, changed, clean = (
        function(torch.where(inside, image, outside))[_places(units)]
        for outside in (torch.full_like(image, torch.nan), noise, image)
    )
    differs = (changed - clean).abs() > 1e-3 * clean.abs().amax()
    return (~infected.isfinite() | differs).any(1).cpu()


def _places(units: Tensor) -> tuple[Tensor | slice, ...]:
    """Return the index of all maps of units (U, 2), one an image."""
    return torch.arange(len(units)), slice(None), units[:, 0], units[:, 1]


def _bisect(function: Callable[[Tensor], Tensor], image: Tensor, units: Tensor) -> Tensor:
    """Return the smallest windows outside which the units see nothing, (U, 4)."""
    height, width = image.shape[-2:]
    whole = torch.tensor([0, height - 1, 0, width - 1]).repeat(len(units), 1)
    windows = whole.clone()
    for side, beyond in enumerate((height, -1, width, -1)):
        clean, infected = whole[:, side], torch.full((len(units),), beyond)
        while ((clean - infected).abs() > 1).any():
            middle = torch.div(clean + infected, 2, rounding_mode="floor")
            trial = whole.clone()
            trial[:, side] = middle
            bad = _sees_outside(function, image, units, trial)
            clean, infected = torch.where(bad, clean, middle), torch.where(bad, middle, infected)
        windows[:, side] = clean
    return windows


def _fit(units: Tensor, firsts: Tensor, lasts: Tensor, count: int) -> Field | None:
    """Return the field that explains the windows of some units, or None if none does.

    Args:
        units, firsts, lasts: (U,) position, first and last pixel of a unit, cut at the border.
        count: units on this axis.
    """
    low, high = firsts.min(), lasts.max()  # a last, partial step may leave the image's end unseen
    inner_first, inner_last = firsts > low, lasts < high  # not cut there
    if not inner_first.any() and not inner_last.any():
        return Field(int(high - low) + 1, 0, int(low))
    jump = 0
    for places, inner in ((firsts, inner_first), (lasts, inner_last)):
        for i, j in itertools.combinations(inner.nonzero().flatten().tolist(), 2):
            if units[i] != units[j]:
                jump = int((places[j] - places[i]) // (units[j] - units[i]))
    starts, ends = firsts - units * jump, lasts - units * jump
    start = starts[inner_first][0] if inner_first.any() else starts.min()
    end = ends[inner_last][0] if inner_last.any() else ends.max()
    fits = (start + units * jump).clamp_min(low).eq(firsts)
    fits &= (end + units * jump).clamp_max(high).eq(lasts)
    if not fits.all() or (jump == 0 and count > 1):
        return None
    return Field(int(end - start) + 1, jump, int(start))


def probe(function: Callable[[Tensor], Tensor], image: Tensor) -> Fields:
    """Find the receptive fields of a layer of any model, from gradients.

    The non-zero gradients of five units, over random images, say what a unit sees at least; the
    pixels outside set to NaN and to noise say whether it sees more. Where both agree, the field is
    exact. Otherwise, as where filters hold zeros, it is an upper bound. Units that no common size
    and step explains get the whole image.

    Args:
        function: from images (B, 3, H, W) to the layer's maps (B, C, h, w) or units (B, C), each
            image for itself.
        image: (1, 3, H, W), as the model wants it.
    """
    if image.ndim != 4 or len(image) != 1:
        raise ValueError(f"image {tuple(image.shape)}: wanted one, (1, 3, H, W)")
    image = image.detach()
    image = image if image.is_floating_point() else image.float()
    height, width = image.shape[-2:]
    with torch.no_grad():
        shape = function(image * 1).shape
    grid = tuple(shape[2:]) if len(shape) == 4 else (1, 1)

    def maps(images: Tensor) -> Tensor:
        output = function(images)
        return output if output.ndim == 4 else output[:, :, None, None]

    places = [torch.tensor([0, 1, n // 2, n - 2, n - 1]).clamp(0, n - 1) for n in grid]
    units = torch.stack([places[0], places[1].roll(1)], 1)  # off the diagonal: axes may be swapped
    windows = torch.tensor([height, -1, width, -1]).repeat(len(units), 1)
    exact = False
    generator = torch.Generator().manual_seed(0)
    for _ in range(TRIES):
        noise = torch.randn(len(units), *image.shape[1:], generator=generator).to(image)
        noise = image.mean() + noise * image.std().clamp_min(1e-3)
        seen = _gradient_windows(maps, noise, units)
        windows[:, ::2] = torch.minimum(windows[:, ::2], seen[:, ::2])
        windows[:, 1::2] = torch.maximum(windows[:, 1::2], seen[:, 1::2])
        if exact := not _sees_outside(maps, image, units, windows).any():
            break
    if not exact:
        windows = _bisect(maps, image, units)
    rows = _fit(units[:, 0], windows[:, 0], windows[:, 1], grid[0])
    columns = _fit(units[:, 1], windows[:, 2], windows[:, 3], grid[1])
    exact = exact and rows is not None and columns is not None
    rows, columns = rows or Field(height, 0, 0), columns or Field(width, 0, 0)
    return Fields(rows, columns, (height, width), grid, exact)
