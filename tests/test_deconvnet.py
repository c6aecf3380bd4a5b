"""The deconvnet against hand-worked tensors, Captum, and itself in three implementations."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from captum.attr import NeuronDeconvolution

from tests.networks import relative, small
from zfrepro import deconvnet, rules
from zfrepro.deconvnet import Units, strongest
from zfrepro.layers import CeilConv2d
from zfrepro.networks import as_modules, krizhevsky, without_norm, zfnet


def test_unpool_sums_where_windows_share_their_maximum():
    x = torch.zeros(1, 1, 5, 5)
    x[0, 0, 2, 2] = 9.0  # the maximum of all four 3x3/2 windows
    pooled, switches = deconvnet.pool(x)
    assert pooled.flatten().tolist() == [9.0] * 4
    back = deconvnet.unpool(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), switches, x.shape)
    assert back[0, 0, 2, 2] == 10 and back.sum() == 10
    overwritten = F.max_unpool2d(
        torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), switches, 3, 2, output_size=(5, 5)
    )
    assert overwritten[0, 0, 2, 2] in (1, 2, 3, 4)  # what this project must not do


def test_transposed_is_the_adjoint_of_the_ceil_convolution():
    torch.manual_seed(0)
    for size, kernel, stride, padding in [
        (12, 7, 2, 0),
        (13, 7, 2, 0),
        (11, 11, 4, 0),
        (16, 11, 4, 0),
        (9, 5, 1, 2),
        (8, 3, 1, 1),
        (14, 5, 3, 0),
        (9, 2, 3, 0),
    ]:
        conv = CeilConv2d(3, 4, kernel, stride, padding, bias=False).double()
        x = torch.randn(2, 3, size, size, dtype=torch.double)
        y = conv(x)
        z = torch.randn_like(y)
        back = deconvnet.conv_transpose(conv, z, (size, size))
        assert torch.allclose((y * z).sum(), (x * back).sum()), (size, kernel, stride, padding)


LAYERS = ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"]


@pytest.mark.parametrize("make", [zfnet, krizhevsky])
@pytest.mark.parametrize("layer", LAYERS)
def test_explicit_equals_general(make, layer):
    network = small(make())
    images = torch.randn(3, 3, 96, 96)
    activations = deconvnet.forward(network, images, layer).activations
    units = strongest(activations)
    explicit = deconvnet.project(network, images, layer, units)
    general = rules.project(lambda x: network.features(x, [layer])[layer], images, units)
    assert explicit.abs().max() > 0
    assert relative(explicit, general) < 1e-4


@pytest.mark.parametrize("make", [zfnet, krizhevsky])
@pytest.mark.parametrize("layer", ["conv1", "conv2", "conv3", "conv5", "fc7", "fc8"])
def test_explicit_equals_captum_without_norm(make, layer):
    network = without_norm(small(make(), seed=1))
    images = torch.randn(2, 3, 96, 96)
    activations = deconvnet.forward(network, images, layer).activations
    units = strongest(activations)
    ours = deconvnet.project(network, images, layer, units)
    model = as_modules(network, layer)
    for i in range(2):
        neuron = tuple(
            t[i].item() for t in (units.maps, units.rows, units.columns) if t is not None
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = NeuronDeconvolution(model, model[-1]).attribute(images[i : i + 1], neuron)
        value = activations[i][neuron]
        assert relative(ours[i : i + 1], value.item() * theirs) < 1e-4


def test_parameters_and_training_flags_are_untouched():
    network = small(zfnet()).train()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    unit = Units(torch.tensor([0]), torch.tensor([0]), torch.tensor([0]))
    deconvnet.project(network, torch.randn(1, 3, 96, 96), "conv3", unit)
    assert network.training and all(m.training for m in network.modules())
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())


def test_layers_above_the_probed_one_are_not_run():
    network = small(zfnet())
    network.convs["conv4"].register_forward_hook(lambda *_: pytest.fail("conv4 was run"))
    unit = Units(torch.tensor([0]), torch.tensor([2]), torch.tensor([2]))
    deconvnet.project(network, torch.randn(1, 3, 96, 96), "conv3", unit)


def test_an_unknown_layer_is_named():
    with pytest.raises(ValueError, match="no layer 'conv9'"):
        deconvnet.project(small(zfnet()), torch.randn(1, 3, 96, 96), "conv9", Units(torch.zeros(1)))
