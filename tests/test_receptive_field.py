"""Receptive fields against published tables and against the support of real gradients."""

import functools
import warnings

import pytest
import torch
import torchvision
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from zfrepro.gallery import fields_of
from zfrepro.layers import Step, chain
from zfrepro.networks import ARCHITECTURES, build, krizhevsky, zfnet
from zfrepro.receptive_field import (
    Field,
    empirical_receptive_field,
    format_table,
    probe,
    stage,
    stages,
    table,
    training_multiply_adds,
)

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
        images = torch.empty(1, 3, 224, 224)
        maps = network.features(images, network.convs)
        assert network(images).shape == (1, 1000)
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


def vgg16() -> list[Step]:
    steps = []
    for block, convs in enumerate((2, 2, 3, 3, 3), 1):
        steps += [Step(f"conv{block}_{i}", 3, padding=1) for i in range(convs)]
        steps.append(Step(f"pool{block}", 2, 2))
    return steps


def alexnet() -> list[Step]:
    """Krizhevsky's second network, as TF-Slim has it."""
    return [
        Step("conv1", 11, 4), Step("pool1", 3, 2), Step("conv2", 5, padding=2), Step("pool2", 3, 2),
        *(Step(f"conv{i}", 3, padding=1) for i in (3, 4, 5)), Step("pool5", 3, 2),
    ]  # fmt: skip


def resnet(*blocks: int) -> list[Step]:
    """The longest path as TF-Slim has it: the 3x3 convolutions, the stride in the last of a block.
    """
    steps = [Step("conv1", 7, 2, 3), Step("pool1", 3, 2, ceil=True)]  # padded behind only
    for part, count in enumerate(blocks, 2):
        for i in range(count):
            stride = 2 if i == count - 1 and part < 5 else 1
            steps.append(Step(f"conv{part}_{i}", 3, stride, 1))
    return steps


# field, stride and padding in pixels: Araujo, Norris and Sim (2019), "Computing receptive fields of
# convolutional neural networks", the table of that article.
PUBLISHED = {
    "alexnet": (alexnet(), 231, (195, 32, 64)),
    "vgg16": (vgg16(), 224, (212, 32, 90)),
    "resnet50": (resnet(3, 4, 6, 3), 224, (483, 32, 239)),
    "resnet101": (resnet(3, 4, 23, 3), 224, (1027, 32, 511)),
    "resnet152": (resnet(3, 8, 36, 3), 224, (1507, 32, 751)),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_receptive_fields(name):
    steps, size, (wanted, jump, padding) = PUBLISHED[name]
    *_, (_, field) = chain(steps, size).values()
    assert (field.size, field.jump, -field.start) == (wanted, jump, padding)


# kernels and strides (a pool is a mean of 2x2), side of the image; units, size, jump and centre of
# unit 0, as the README of fornaxai/receptivefield prints them from gradients
ESTIMATED = [
    ([(7, 1), (5, 1), (2, 2), (5, 1)], 64, (23, 20, 2, 10)),
    ([(3, 1), (3, 1), (2, 2), (3, 1), (3, 1)], 96, (42, 14, 2, 7)),
    ([(3, 1), (3, 1), (2, 2), (3, 1), (3, 1), (2, 2), (3, 1), (3, 1)], 96, (17, 32, 4, 16)),
    ([(5, 1), (3, 1), (2, 2), (3, 1), (3, 1), (2, 2), (3, 1), (3, 1)], 96, (16, 34, 4, 17)),
]


@pytest.mark.parametrize(("layers", "size", "wanted"), ESTIMATED)
def test_fields_that_another_package_estimated(layers, size, wanted):
    *_, (units, field) = chain(
        (Step(str(i), kernel, stride) for i, (kernel, stride) in enumerate(layers)), size
    ).values()
    assert (units, field.size, field.jump, field.start + field.size / 2) == wanted
    convolutions = [nn.Conv2d(3, 3, kernel, stride) for kernel, stride in layers]
    found = probe(nn.Sequential(*convolutions), torch.randn(1, 3, size, size))
    assert found.exact and found.units == (units, units) and found.rows == field


SIZES = st.tuples(
    st.integers(1, 5), st.integers(1, 3), st.integers(0, 2), st.integers(1, 2), st.booleans()
)  # kernel, stride, padding, dilation, whether it is a pool


@given(st.lists(SIZES, min_size=1, max_size=4), st.integers(20, 50))
@settings(max_examples=40, deadline=None)
def test_sizes_of_a_chain_are_those_of_torch(layers, size):
    steps, modules = [], []
    for i, (kernel, stride, padding, dilation, pool) in enumerate(layers):
        padding = min(padding, kernel // 2)
        # a pool that overhangs begins inside the image or its padding before
        ceil = pool and stride <= kernel - padding and dilation == 1
        steps.append(Step(f"{i}", kernel, stride, padding, dilation, ceil))
        kind = functools.partial(nn.Conv2d, 1, 1)
        if pool:
            kind = functools.partial(nn.MaxPool2d, ceil_mode=ceil)
        modules.append(kind(kernel, stride=stride, padding=padding, dilation=dilation))
    model, image = nn.Sequential(*modules), torch.zeros(1, 1, size, size)
    try:
        found = chain(steps, size)
    except ValueError:
        with pytest.raises(RuntimeError):
            model(image)
    else:
        assert found[steps[-1].name][0] == model(image).shape[2]


# --- empirical -----------------------------------------------------------------------------------


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
    assert counter.get_total_flops() == 2 * 2 * training_multiply_adds(
        architecture, 96, 5
    )  # two images, two a pair


# --- of any model --------------------------------------------------------------------------------


@given(st.lists(SIZES, min_size=1, max_size=3), st.integers(24, 40), st.integers(24, 40))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
def test_a_probe_finds_what_the_formula_says(layers, height, width):
    torch.manual_seed(0)
    modules, maps = [nn.Conv2d(3, 12, 1)], 12  # a max-pool passes one gradient a map
    fields = [Field(1, 1, 0)]
    for kernel, stride, padding, dilation, pool in layers:
        padding = min(padding, kernel // 2)
        kind = nn.MaxPool2d if pool else functools.partial(nn.Conv2d, maps, 12)
        maps = maps if pool else 12
        modules.append(kind(kernel, stride=stride, padding=padding, dilation=dilation))
        fields.append(fields[-1].through(kernel, stride, padding, dilation))
        assume(stride <= kernel and dilation == 1)  # else pixels between the windows are not seen
    model, image = nn.Sequential(*modules), torch.randn(1, 3, height, width)
    try:
        shape = model(image).shape[2:]
    except RuntimeError:
        assume(False)
    assume(min(shape) >= 5 and fields[-1].size < min(height, width) // 2)
    found = probe(model, image)
    assert found.exact and found.units == tuple(shape)
    assert found.rows == found.columns == fields[-1]


# on 224 px: size, jump, first pixel, from kernels, strides and padding by hand
TORCHVISION = {
    ("resnet18", "layer2"): Field(99, 8, -49),
    ("resnet18", "layer3.1.conv1"): Field(179, 16, -89),
    ("vgg11", "features.11"): Field(46, 8, -19),
    ("googlenet", "inception3a"): Field(43, 8, -15),
    ("densenet121", "features.denseblock1"): Field(59, 4, -29),
    ("alexnet", "features.10"): Field(163, 16, -66),
}


@pytest.mark.parametrize(("name", "layer"), TORCHVISION)
def test_probes_of_torchvision_networks(name, layer):
    torch.manual_seed(0)
    extra = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = getattr(torchvision.models, name)(weights=None, **extra)
    found = fields_of(model, layer, torch.randn(1, 3, 224, 224))
    assert found.rows == found.columns == TORCHVISION[name, layer] and found.exact
    assert model.training


def test_filters_with_zeros_give_an_upper_bound():
    conv = nn.Conv2d(3, 4, 5)
    with torch.no_grad():
        conv.weight[:, :, 0] = 0
    found = probe(conv, torch.randn(1, 3, 20, 20))
    assert found.rows == found.columns == Field(5, 1, 0) and not found.exact


class Gate(nn.Module):
    """Squeeze and excitation: every unit sees the whole image."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        x = self.conv(x)
        return x * x.mean((2, 3), keepdim=True).sigmoid()


class Swallow(nn.Module):
    """A rectifier that turns NaN into 0."""

    def forward(self, x):
        return torch.where(x > 0, x, 0.0)


def test_operations_that_swallow_nan_hide_nothing():
    torch.manual_seed(0)
    convolutions = [nn.Conv2d(3, 3, 3, padding=1) for _ in range(4)]
    deep = nn.Sequential(*(m for conv in convolutions for m in (conv, Swallow())))
    for model in (deep, lambda x: deep(x) + x):
        found = probe(model, torch.randn(1, 3, 48, 48))
        assert found.rows == found.columns == Field(9, 1, -4)


def test_a_layer_without_gradient_is_probed_all_the_same():
    conv = nn.Conv2d(3, 3, 5)
    found = probe(lambda x: conv(x).detach(), torch.randn(1, 3, 20, 20))
    assert found.rows == found.columns == Field(5, 1, 0)


def test_several_images_are_refused_by_a_probe():
    with pytest.raises(ValueError, match=r"image \(2, 3, 8, 8\): wanted one"):
        probe(nn.Identity(), torch.randn(2, 3, 8, 8))


def test_what_sees_the_whole_image_gets_it():
    for model in (Gate(), nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())):
        found = probe(model, torch.randn(1, 3, 20, 24))
        assert found.window_size == (20, 24) and found.exact
        tops, lefts, size = found.windows(torch.tensor([3]), torch.tensor([2]), 1)
        assert (tops.tolist(), lefts.tolist(), size) == ([0], [0], (20, 24))


@pytest.mark.parametrize(
    "function",
    [lambda x: x.transpose(2, 3), nn.AdaptiveAvgPool2d(7)],  # windows of 3 and 4 px, uneven steps
)
def test_what_no_step_explains_gets_the_whole_image_as_a_bound(function):
    found = probe(function, torch.randn(1, 3, 24, 24))
    assert found.window_size == (24, 24) and not found.exact


def test_fields_larger_than_the_image_are_found_from_its_corners():
    model = nn.Sequential(*(nn.Conv2d(3, 3, 5, padding=2) for _ in range(6)))
    found = probe(model, torch.randn(1, 3, 20, 20))
    assert found.rows == Field(25, 1, -12) and found.window_size == (20, 20)
