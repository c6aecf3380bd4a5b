"""Laws that hold for any network and image, tried on random ones (hypothesis).

Two more are beside what they are about: probed receptive fields equal the formula
(test_receptive_field.py), and the streaming search equals a sort (test_gallery.py)."""

import itertools
from unittest import mock

import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.networks import relative
from zfrepro import deconvnet
from zfrepro.deconvnet import ForwardTrace, Units
from zfrepro.networks import Architecture, Conv, Full, Network, build
from zfrepro.occlusion import occlude

few = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@st.composite
def convs(draw, layer: int) -> Conv:
    """Any kernel, stride and padding below the kernel; strides may leave gaps."""
    kernel = draw(st.integers(1, 5))
    return Conv(
        layer, draw(st.integers(1, 4)), kernel, draw(st.integers(1, 3)),
        draw(st.integers(0, kernel - 1)), pool=draw(st.booleans()), norm=draw(st.booleans()),
    )  # fmt: skip


@st.composite
def random_networks(draw, smallest: int = 8, largest: int = 48) -> Network:
    """A network of one to four convolutional and up to two hidden fully connected layers, in double
    precision.
    """
    layers = tuple(draw(convs(i + 1)) for i in range(draw(st.integers(1, 4))))
    fulls = tuple(Full(6 + i, draw(st.integers(1, 5))) for i in range(draw(st.integers(0, 2))))
    spelled = Architecture("random", layers, fulls, norm_before_pool=draw(st.booleans()))
    try:
        network = build(spelled, draw(st.integers(smallest, largest)), 3).double().eval()
    except ValueError:
        assume(False)  # the image is too small for it
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    for layer in (*network.convs.values(), *network.fulls.values()):
        nn.init.normal_(layer.weight, generator=generator)
        nn.init.normal_(layer.bias, generator=generator)
    return network


def pictures(network: Network, seed: int, count: int = 2) -> Tensor:
    side = network.image_size
    return torch.randn(
        count, 3, side, side, dtype=torch.double, generator=torch.Generator().manual_seed(seed)
    )


def upward(network: Network, up: ForwardTrace, layer: str, x: Tensor) -> Tensor:
    """The linear part of the way up: filters without biases, and pools that take what the switches
    name.
    """
    for c in network.architecture.convs:
        conv = network.convs[c.name]
        x = conv(x) - conv.bias[:, None, None]
        if c.name == layer:
            return x
        if c.pool:
            switches, _ = up.switches[c.name]
            x = x.flatten(2).gather(2, switches.flatten(2)).view(switches.shape)
    x = x.flatten(1)
    for name, full in network.fulls.items():
        x = x @ full.weight.T
        if name == layer:
            break
    return x


@torch.no_grad()
@given(random_networks(), st.integers(0, 99), st.data())
@few
def test_the_deconvnet_without_rectifiers_is_the_adjoint_of_the_way_up(network, seed, data):
    """<Ax, z> = <x, Bz> for all x and z: the way down with fixed switches is the transpose, and
    exactly that.
    """
    layer = data.draw(st.sampled_from(network.layers))
    up = deconvnet.forward(network, pictures(network, seed), layer)
    x = pictures(network, seed + 1)
    z = torch.randn(
        up.activations.shape, dtype=torch.double, generator=torch.Generator().manual_seed(seed)
    )
    with mock.patch.object(F, "relu", lambda value: value):
        down = deconvnet.backward(network, up, layer, z)
    ax = upward(network, up, layer, x)
    scale = ax.norm() * z.norm() + x.norm() * down.norm() + 1e-300
    assert abs((ax * z).sum() - (x * down).sum()) <= 1e-12 * scale


@torch.no_grad()
@given(random_networks(smallest=20, largest=60), st.integers(0, 99), st.data())
@few
def test_crops_equal_whole_images(network, seed, data):
    layer = data.draw(st.sampled_from(list(network.convs)))
    image = pictures(network, seed, 1)
    activations = deconvnet.forward(network, image, layer).activations
    last = activations.shape[-1] - 1
    places = st.tuples(st.integers(0, last), st.integers(0, last))
    drawn = data.draw(st.lists(places, max_size=5))
    rows, columns = torch.tensor([(0, 0), (0, last), (last, last), *drawn]).T
    units = Units(activations[0, :, rows, columns].argmax(0), rows, columns)
    images = image.expand(len(units), -1, -1, -1)
    crops = deconvnet.project_crops(network, images, layer, units)
    whole = deconvnet.project(network, images, layer, units)
    side = crops.pixels.shape[-1]
    assert relative(crops.pixels, deconvnet.crop(whole, crops.tops, crops.lefts, side)) < 1e-9
    for picture, top, left in zip(whole, crops.tops.tolist(), crops.lefts.tolist(), strict=True):
        outside = picture.clone()  # of the receptive field, nothing has a say
        outside[:, max(top, 0) : top + side, max(left, 0) : left + side] = 0
        assert not outside.any()


@torch.no_grad()
@given(
    st.integers(4, 20), st.integers(4, 20), st.integers(1, 3), st.integers(1, 9),
    st.integers(1, 20), st.integers(0, 99), st.data(),
)  # fmt: skip
@few
def test_occlusion_equals_the_loop(height, width, count, batch, patch, seed, data):
    patch = min(patch, height, width)
    stride = data.draw(st.floats(1, 8).filter(lambda s: s * 64 % 1 == 0) | st.integers(1, 8))
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)
    ).eval()
    images, fill = torch.randn(2, count, 3, height, width)
    settings = {"fill": fill, "batch": batch, "layer": "0", "progress": False}
    result = occlude(model, images, patch=patch, stride=stride, **settings)

    def places(side: int) -> list[int]:
        firsts = {round(i * stride) for i in range(side) if i * stride + patch <= side}
        return sorted(firsts | {side - patch})  # the last one ends at the border

    assert (result.rows.tolist(), result.columns.tolist()) == (places(height), places(width))
    torch.testing.assert_close(result.clean, model(images).softmax(1))
    torch.testing.assert_close(result.clean_activity, model[:2](images).sum((2, 3)))
    assert torch.equal(result.predicted, result.probabilities.argmax(3))
    labels = torch.arange(count)
    assert torch.equal(result.of(labels)[-1], result.probabilities[-1, :, :, count - 1])
    strongest = result.clean_activity[0].argmax()
    activity = result.activity_of(result.strongest)
    assert torch.equal(activity[0], result.activity[0, :, :, strongest])
    every = itertools.product(enumerate(places(height)), enumerate(places(width)))
    for (r, top), (q, left) in every:
        x = images.clone()
        square = (..., slice(top, top + patch), slice(left, left + patch))
        x[square] = fill[square]
        torch.testing.assert_close(result.probabilities[:, r, q], model(x).softmax(1))
        torch.testing.assert_close(result.activity[:, r, q], model[:2](x).sum((2, 3)))
