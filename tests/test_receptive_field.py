"""Receptive fields against the paper's table and against the support of real gradients."""

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from zfrepro.networks import ARCHITECTURES, Architecture, Conv, build, krizhevsky, zfnet
from zfrepro.receptive_field import Field, empirical_receptive_field, format_table, stage, stages, table, training_multiply_adds

# (maps, output size, parameters, field, jump, first pixel of unit 0): PAPER, section 1.
ZFNET = {
    "conv1": (96, 110, 14_208, 7, 2, 0),
    "pool1": (96, 55, 0, 11, 4, 0),
    "conv2": (256, 26, 614_656, 27, 8, 0),
    "pool2": (256, 13, 0, 43, 16, 0),
    "conv3": (384, 13, 885_120, 75, 16, -16),
    "conv4": (384, 13, 1_327_488, 107, 16, -32),
    "conv5": (256, 13, 884_992, 139, 16, -48),
    "pool5": (256, 6, 0, 171, 32, -48),
}
# (field, jump); the sheet gives jumps for the first four, and from there on the stride is 1.
KRIZHEVSKY = {
    "conv1": (11, 4), "pool1": (19, 8), "conv2": (51, 8), "pool2": (67, 16),
    "conv3": (99, 16), "conv4": (131, 16), "conv5": (163, 16), "pool5": (195, 32),
}  # fmt: skip


def test_zfnet_row_by_row():
    found = {
        s.name: (s.maps, s.size, s.parameters, s.field.size, s.field.jump, s.field.start)
        for s in stages(zfnet(), 224)
    }  # fmt: skip
    assert found == ZFNET


def test_krizhevsky_row_by_row():
    found = stages(krizhevsky(), 224)
    assert {s.name: (s.field.size, s.field.jump) for s in found} == KRIZHEVSKY
    assert [s.size for s in found] == [55, 27, 27, 13, 13, 13, 13, 6]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_parameters_and_sizes_are_those_of_the_module(name):
    with torch.device("meta"):
        network = build(ARCHITECTURES[name], 224, 1000)
        maps = network.features(torch.empty(1, 3, 224, 224), network.convs)
    rows = {r["layer"]: r for r in table(ARCHITECTURES[name], 224, 1000)}
    for layer, module in (*network.convs.items(), *network.fulls.items()):
        assert rows[layer]["parameters"] == sum(p.numel() for p in module.parameters())
    for layer, x in maps.items():
        assert (rows[layer]["maps"], rows[layer]["size"]) == x.shape[1:3]
        weights = network.convs[layer].weight[0].numel()
        assert rows[layer]["multiply-adds"] == x[0].numel() * weights
    assert rows["fc8"]["multiply-adds"] == network.fulls["fc8"].weight.numel()


def test_table_as_text():
    lines = format_table(zfnet()).splitlines()
    assert lines[0].split()[:5] == ["layer", "kernel", "stride", "maps", "size"]
    assert len({len(line) for line in lines}) == 1 and len(lines) == 1 + 8 + 3 + 1
    assert "62,357,608" in lines[-1] and lines[-1].split()[0] == "total"


def test_window_and_lookup():
    assert stage(zfnet(), 224, "conv3").field == Field(75, 16, -16)
    assert Field(75, 16, -16).window(2) == (16, 91)
    with pytest.raises(ValueError, match="zfnet has no stage 'fc6'; it has conv1, pool1, conv2"):
        stage(zfnet(), 224, "fc6")


@pytest.mark.parametrize("size", range(1, 40))
def test_too_small_images_are_refused_as_the_network_refuses_them(size):
    for spelled in (zfnet(), krizhevsky()):
        try:
            with torch.device("meta"):
                build(spelled.with_width(0.1), size)
        except ValueError:
            with pytest.raises(ValueError, match=f"an image of {size} px is too small, [a-z]+[0-9] sees"):
                stages(spelled, size)
        else:
            assert all(s.size > 0 for s in stages(spelled, size))


# --- empirical -------------------------------------------------------------------------------------------------------


def support(network, layer: str, unit: int, size: int) -> tuple[int, int]:
    """First pixel and the one after the last that move unit (unit, unit) of a layer, on the vertical axis.

    With positive weights and nearly flat, positive images every path carries gradient; max-pooling takes one of its
    nine inputs at a time, so random images are tried until the support no longer grows.
    """
    seen = torch.zeros(size, dtype=torch.bool)
    generator = torch.Generator().manual_seed(0)
    for _ in range(8):
        images = (1 + 0.01 * torch.rand(1, 3, size, size, generator=generator, dtype=torch.double)).requires_grad_()
        value = network.features(images, [layer])[layer][0, 0, unit, unit]
        (gradient,) = torch.autograd.grad(value, images)
        seen |= gradient[0].abs().amax(0).amax(1) > 0
    rows = seen.nonzero().flatten()
    return int(rows[0]), int(rows[-1]) + 1


def averaging(architecture: Architecture, size: int):
    """The network with positive weights, and with averages where max-pools were: the same geometry, full support."""
    network = build(architecture.with_maps(*(2 for _ in architecture.convs)), size, 2).double().eval()
    for layer in (*network.convs.values(), *network.fulls.values()):
        nn.init.uniform_(layer.weight, 0.5, 1)
        nn.init.zeros_(layer.bias)

    def shrink(conv: Conv, x: torch.Tensor) -> torch.Tensor:
        if not conv.pool:
            return x
        # A max over the window, made smooth: the logarithm of summed exponentials, with the ceil rule's overhang.
        short = [-(s - 3) % 2 for s in x.shape[-2:]]
        x = nn.functional.pad(x / x.detach().max(), (0, short[1], 0, short[0]))
        return nn.functional.avg_pool2d(x.exp(), 3, 2).log()

    network.shrink = shrink
    return network


def check_every_layer(architecture: Architecture, size: int) -> None:
    network = averaging(architecture, size)
    for c in architecture.convs:
        found = stage(architecture, size, c.name)
        for unit in sorted({0, found.size // 2, found.size - 1}):
            first, after = found.field.window(unit)
            assert support(network, c.name, unit, size) == (max(first, 0), min(after, size)), (c.name, unit)


@pytest.mark.parametrize("name", ["zfnet", "krizhevsky", "krizhevsky-without-3-4"])
@pytest.mark.parametrize("size", [64, 97])
def test_field_is_the_support_of_the_gradient(name, size):
    check_every_layer(ARCHITECTURES[name], size)


def test_field_of_the_paper_inside_a_large_image():
    """At 224 px the middle unit of conv5 sees 139 px of the image, none of them padding."""
    network = averaging(zfnet(), 224)
    assert support(network, "conv5", 6, 224) == (48, 48 + 139)


def test_real_max_pools_reach_the_same_pixels():
    """The network as it is, pools and all: over many images a unit's gradient fills its field and never leaves it."""
    architecture = zfnet().with_maps(2, 2, 2, 2, 2)
    network = build(architecture, 96, 2).double().eval()
    for conv in network.convs.values():
        nn.init.uniform_(conv.weight, 0.5, 1)
        nn.init.zeros_(conv.bias)
    for layer, unit in (("conv1", 3), ("conv2", 4), ("conv3", 2)):
        first, after = stage(architecture, 96, layer).field.window(unit)
        assert support(network, layer, unit, 96) == (max(first, 0), min(after, 96))


@st.composite
def convs(draw) -> tuple[int, int, int, bool]:
    """Kernel, stride, padding, pool: windows without gaps, the last of which still holds a pixel of the image."""
    kernel = draw(st.integers(1, 7))
    padding = draw(st.integers(0, kernel - 1))
    return kernel, draw(st.integers(1, max(1, kernel - padding))), padding, draw(st.booleans())


@given(st.lists(convs(), min_size=1, max_size=4), st.integers(24, 70), st.booleans())
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_field_of_random_architectures(layers, size, before):
    spelled = tuple(
        Conv(i + 1, 2, kernel, stride, padding, pool) for i, (kernel, stride, padding, pool) in enumerate(layers)
    )
    architecture = Architecture("random", spelled, (), norm_before_pool=before)
    try:
        with torch.device("meta"):
            build(architecture, size, 2)
    except ValueError:
        assume(False)
    check_every_layer(architecture, size)


@pytest.mark.parametrize("name", ["zfnet", "krizhevsky"])
def test_measured_field_is_the_computed_one(name):
    before = torch.get_rng_state()
    for c in ARCHITECTURES[name].convs:
        found = stage(ARCHITECTURES[name], 224, c.name)
        row, column = found.size // 2, found.size // 2 - 1
        seen = empirical_receptive_field(ARCHITECTURES[name], 224, c.name, row, column)
        for unit, axis in ((row, 1), (column, 0)):
            places = seen.any(axis).nonzero().flatten()
            assert (int(places[0]), int(places[-1]) + 1) == found.field.window(unit), c.name
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["zfnet", "krizhevsky", "krizhevsky-without-3-4-6-7"])
def test_multiply_adds_of_a_training_step_are_those_that_torch_counts(name):
    architecture = ARCHITECTURES[name].with_width(0.125).with_units(32)
    network = build(architecture, 96, 5)
    with FlopCounterMode(display=False) as counter:
        network(torch.randn(2, 3, 96, 96)).sum().backward()
    assert counter.get_total_flops() == 2 * 2 * training_multiply_adds(architecture, 96, 5)  # two images, two a pair
