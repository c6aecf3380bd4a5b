"""Receptive fields against the paper's sheet and against the support of real gradients."""

import functools

import pytest
import torch
import torchvision
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from zfrepro.gallery import fields_of
from zfrepro.networks import ARCHITECTURES, build, krizhevsky, without_norm, zfnet
from zfrepro.receptive_field import Field, probe, stages, table, training_multiply_adds

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


def test_krizhevsky_row_by_row():
    rows = stages(krizhevsky(), 224)
    assert {s.name: (s.field.size, s.field.jump) for s in rows} == KRIZHEVSKY
    assert [s.size for s in rows] == [55, 27, 27, 13, 13, 13, 13, 6]


def test_zfnet_row_by_row():
    rows = {
        s.name: (s.maps, s.size, s.parameters, s.field.size, s.field.jump, s.field.start)
        for s in stages(zfnet(), 224)
    }  # fmt: skip
    assert rows == ZFNET


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


@pytest.mark.parametrize("name", ["zfnet", "krizhevsky", "krizhevsky-without-3-4-6-7"])
def test_multiply_adds_of_a_training_step_are_those_that_torch_counts(name):
    architecture = ARCHITECTURES[name].with_width(0.125).with_units(32)
    network = without_norm(build(architecture, 96, 5))  # whose products are counted too
    with FlopCounterMode(display=False) as counter:
        network(torch.randn(2, 3, 96, 96)).sum().backward()
    assert counter.get_total_flops() == 2 * 2 * training_multiply_adds(
        architecture, 96, 5
    )  # two images, two a pair


# --- of any model --------------------------------------------------------------------------------


SIZES = st.tuples(
    st.integers(1, 5), st.integers(1, 3), st.integers(0, 2), st.booleans()
)  # kernel, stride, padding, whether it is a pool


@given(st.lists(SIZES, min_size=1, max_size=3), st.integers(24, 40), st.integers(24, 40))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
def test_a_probe_finds_what_the_formula_says(layers, height, width):
    torch.manual_seed(0)
    modules, maps = [nn.Conv2d(3, 12, 1)], 12  # a max-pool passes one gradient a map
    fields = [Field(1, 1, 0)]
    for kernel, stride, padding, pool in layers:
        padding = min(padding, kernel // 2)
        kind = nn.MaxPool2d if pool else functools.partial(nn.Conv2d, maps, 12)
        maps = maps if pool else 12
        modules.append(kind(kernel, stride=stride, padding=padding))
        fields.append(fields[-1].through(kernel, stride, padding))
        assume(stride <= kernel)  # else pixels between the windows are not seen
    model, image = nn.Sequential(*modules), torch.randn(1, 3, height, width)
    try:
        shape = model(image).shape[2:]
    except RuntimeError:
        assume(False)
    assume(min(shape) >= 5 and fields[-1].size < min(height, width) // 2)
    probed = probe(model, image)
    assert probed.exact and probed.units == tuple(shape)
    assert probed.rows == probed.columns == fields[-1]


# size, jump, first pixel, from kernels, strides and padding by hand; px of an image that holds it
TORCHVISION = {
    ("resnet18", "layer2"): (Field(99, 8, -49), 128),
    ("resnet18", "layer3.1.conv1"): (Field(179, 16, -89), 224),
    ("alexnet", "features.10"): (Field(163, 16, -66), 224),
}


@pytest.mark.parametrize(("name", "layer"), TORCHVISION)
def test_probes_of_torchvision_networks(name, layer):
    torch.manual_seed(0)
    model = getattr(torchvision.models, name)(weights=None, num_classes=2)
    field, size = TORCHVISION[name, layer]
    fields = fields_of(model, layer, torch.randn(1, 3, size, size))
    assert fields.rows == fields.columns == field and fields.exact
    assert model.training


def test_filters_with_zeros_give_an_upper_bound():
    conv = nn.Conv2d(3, 4, 5)
    with torch.no_grad():
        conv.weight[:, :, 0] = 0
    probed = probe(conv, torch.randn(1, 3, 20, 20))
    assert probed.rows == probed.columns == Field(5, 1, 0) and not probed.exact


class Swallow(nn.Module):
    """A rectifier that turns NaN into 0."""

    def forward(self, x):
        return torch.where(x > 0, x, 0.0)


def test_operations_that_swallow_nan_hide_nothing():
    torch.manual_seed(0)
    convolutions = [nn.Conv2d(3, 3, 3, padding=1) for _ in range(4)]
    deep = nn.Sequential(*(m for conv in convolutions for m in (conv, Swallow())))
    for model in (deep, lambda x: deep(x) + x):
        probed = probe(model, torch.randn(1, 3, 48, 48))
        assert probed.rows == probed.columns == Field(9, 1, -4)


def test_a_layer_without_gradient_is_probed_all_the_same():
    conv = nn.Conv2d(3, 3, 5)
    probed = probe(lambda x: conv(x).detach(), torch.randn(1, 3, 20, 20))
    assert probed.rows == probed.columns == Field(5, 1, 0)


def test_what_sees_the_whole_image_gets_it():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    fields = probe(model, torch.randn(1, 3, 20, 24))
    assert fields.window_size == (20, 24) and fields.exact
    tops, lefts, size = fields.windows(torch.tensor([3]), torch.tensor([2]), 1)
    assert (tops.tolist(), lefts.tolist(), size) == ([0], [0], (20, 24))


@pytest.mark.parametrize(
    "function",
    [lambda x: x.transpose(2, 3), nn.AdaptiveAvgPool2d(7)],  # windows of 3 and 4 px, uneven steps
)
def test_what_no_step_explains_gets_the_whole_image_as_a_bound(function):
    probed = probe(function, torch.randn(1, 3, 24, 24))
    assert probed.window_size == (24, 24) and not probed.exact


def test_fields_larger_than_the_image_are_found_from_its_corners():
    model = nn.Sequential(*(nn.Conv2d(3, 3, 5, padding=2) for _ in range(6)))
    probed = probe(model, torch.randn(1, 3, 20, 20))
    assert probed.rows == Field(25, 1, -12) and probed.window_size == (20, 20)
