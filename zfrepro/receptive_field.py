"""Sizes, receptive fields and parameter counts of a network, computed from its architecture (Fig. 3)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zfrepro.layers import ceil_size
from zfrepro.networks import POOL_KERNEL, POOL_STRIDE, Architecture, build


@dataclass(frozen=True)
class Field:
    """What one unit of a layer sees: unit i covers pixels `start + i * jump` to `start + i * jump + size - 1`."""

    size: int  # pixels
    jump: int  # pixels between neighbouring units
    start: int  # first pixel of unit 0; negative where padding is in the field

    def window(self, unit: int) -> tuple[int, int]:
        """First pixel and the one after the last of a unit, on one axis, not cut at the image's border."""
        first = self.start + unit * self.jump
        return first, first + self.size


@dataclass(frozen=True)
class Stage:
    """One convolution or pool on one axis of the image."""

    name: str  # conv1, pool1, conv2, ...
    kernel: int
    stride: int
    padding: int
    maps: int
    size: int  # output size, units
    field: Field
    parameters: int
    multiply_adds: int  # for one image


def stages(architecture: Architecture, image_size: int) -> list[Stage]:
    """All convolutions and pools in order, with their geometry for a square image of `image_size` px.

    Raises:
        ValueError: if the image is too small for a layer.
    """
    found: list[Stage] = []
    maps, size, field = 3, image_size, Field(1, 1, 0)

    def add(name: str, kernel: int, stride: int, padding: int, out_maps: int, weights_per_output: int) -> None:
        nonlocal maps, size, field
        if size + 2 * padding < kernel:
            raise ValueError(f"{architecture.name}: an image of {image_size} px is too small, {name} sees {size} px")
        size = ceil_size(size, kernel, stride, padding)
        field = Field(field.size + (kernel - 1) * field.jump, field.jump * stride, field.start - padding * field.jump)
        parameters = out_maps * (weights_per_output + 1) if weights_per_output else 0
        cost = out_maps * weights_per_output * size * size
        found.append(Stage(name, kernel, stride, padding, out_maps, size, field, parameters, cost))
        maps = out_maps

    for c in architecture.convs:
        add(c.name, c.kernel, c.stride, c.padding, c.maps, maps * c.kernel**2)
        if c.blur:
            add(f"blur{c.layer}", 3, 2, 1, maps, 0)
        if c.pool:
            add(f"pool{c.layer}", POOL_KERNEL, POOL_STRIDE, 0, maps, 0)
    return found


def stage(architecture: Architecture, image_size: int, name: str) -> Stage:
    """The stage of a given name, such as `conv2` or `pool1`."""
    for found in stages(architecture, image_size):
        if found.name == name:
            return found
    names = ", ".join(s.name for s in stages(architecture, image_size))
    raise ValueError(f"{architecture.name} has no stage {name!r}; it has {names}")


def table(architecture: Architecture, image_size: int = 224, classes: int = 1000) -> list[dict[str, int | str]]:
    """One row a layer: its geometry, parameters, multiply-adds for one image, and `Field`."""
    rows: list[dict[str, int | str]] = []
    for s in stages(architecture, image_size):
        rows.append(
            {
                "layer": s.name,
                "kernel": s.kernel,
                "stride": s.stride,
                "maps": s.maps,
                "size": s.size,
                "parameters": s.parameters,
                "multiply-adds": s.multiply_adds,
                "field": s.field.size,
                "jump": s.field.jump,
                "start": s.field.start,
            }  # fmt: skip
        )
    units = rows[-1]["maps"] * rows[-1]["size"] ** 2
    for name, out in [*((f.name, f.units) for f in architecture.fulls), ("fc8", classes)]:
        rows.append(
            {
                "layer": name,
                "kernel": "",
                "stride": "",
                "maps": out,
                "size": 1,
                "parameters": (units + 1) * out,
                "multiply-adds": units * out,
                "field": image_size,
                "jump": "",
                "start": "",
            }  # fmt: skip
        )
        units = out
    return rows


def multiply_adds(architecture: Architecture, image_size: int, classes: int) -> int:
    """Multiply-adds of a forward pass of one image, biases, pools and norms aside."""
    return sum(row["multiply-adds"] for row in table(architecture, image_size, classes))


def training_multiply_adds(architecture: Architecture, image_size: int, classes: int) -> int:
    """Multiply-adds of a training step for one image: maps, gradients of weights and gradients of maps, which cost the
    same; only the gradient of the image itself is not needed."""
    rows = table(architecture, image_size, classes)
    return 3 * sum(row["multiply-adds"] for row in rows) - rows[0]["multiply-adds"]


def format_table(architecture: Architecture, image_size: int = 224, classes: int = 1000) -> str:
    """`table` as aligned text with a last row of totals."""
    rows = table(architecture, image_size, classes)
    total = {key: "" for key in rows[0]} | {
        "layer": "total",
        "parameters": sum(r["parameters"] for r in rows),
        "multiply-adds": sum(r["multiply-adds"] for r in rows),
    }
    cells = [list(rows[0])]
    cells += [
        [f"{v:,}" if k in ("parameters", "multiply-adds") else str(v) for k, v in r.items()] for r in [*rows, total]
    ]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    return "\n".join("  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in cells)


def measured(architecture: Architecture, image_size: int, layer: str, row: int, column: int, tries: int = 8) -> Tensor:
    """The pixels that have a say in one unit, found from its gradient and not from any formula.

    The network gets two maps a layer and positive weights, so that no path to a pixel is cut by a ReLU or cancels
    another. A max-pool passes gradient to one of nine inputs, so several nearly flat random images are tried.

    Returns:
        (S, S) bool.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build(architecture.with_maps(*(2 for _ in architecture.convs)).with_units(2), image_size, 2)
        for conv in network.convs.values():
            nn.init.uniform_(conv.weight, 0.5, 1)
            nn.init.zeros_(conv.bias)
        found = torch.zeros(image_size, image_size, dtype=torch.bool)
        for _ in range(tries):
            image = (1 + 0.01 * torch.rand(1, 3, image_size, image_size)).requires_grad_()
            unit = network.features(image, [layer])[layer][0, 0, row, column]
            found |= torch.autograd.grad(unit, image)[0][0].ne(0).any(0)
    return found
