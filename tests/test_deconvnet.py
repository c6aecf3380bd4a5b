"""The deconvnet against hand-worked tensors, Captum, and itself in three implementations."""

import warnings

import pytest
import torch
import torch.nn.functional as F
import torchvision
from captum.attr import NeuronDeconvolution, NeuronGradient, NeuronGuidedBackprop
from torch import nn

from tests.networks import relative, small
from zfrepro import backward_rules, deconvnet
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
    overwritten = F.max_unpool2d(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), switches, 3, 2, output_size=(5, 5))
    assert overwritten[0, 0, 2, 2] in (1, 2, 3, 4)  # what this project must not do


def test_hand_worked_projection():
    """Two rectified layers of 1x1 filters on an image of one pixel, worked on paper."""
    conv1 = nn.Conv2d(1, 2, 1)
    conv2 = nn.Conv2d(2, 1, 1)
    with torch.no_grad():
        conv1.weight.copy_(torch.tensor([1.0, 3.0]).view(2, 1, 1, 1))
        conv1.bias.copy_(torch.tensor([5.0, -7.0]))  # large biases, which must not come back down
        conv2.weight.copy_(torch.tensor([-1.0, 2.0]).view(1, 2, 1, 1))
        conv2.bias.fill_(4.0)

    def model(x):
        return F.relu(conv2(F.relu(conv1(x))))

    image = torch.full((1, 1, 1, 1), 2.0)
    # up: conv1 -> [7, -1] -> relu [7, 0] -> conv2 -7 + 0 + 4 = -3 -> 0; seed with 1 instead of the activation
    unit = Units(torch.tensor([0]), torch.tensor([0]), torch.tensor([0]))
    down = {r: backward_rules.project(model, image, unit, rule=r, seed="one").item() for r in backward_rules.RULES}
    # deconvnet: 1 -> [-1, 2] -> relu [0, 2] -> 0 * 1 + 2 * 3 = 6, although both forward masks are closed
    assert down == {"gradient": 0.0, "deconvnet": 6.0, "guided": 0.0}


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
    general = backward_rules.project(lambda x: network.features(x, [layer])[layer], images, units)
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
        neuron = tuple(t[i].item() for t in (units.maps, units.rows, units.columns) if t is not None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = NeuronDeconvolution(model, model[-1]).attribute(images[i : i + 1], neuron)
        value = activations[i][neuron]
        assert relative(ours[i : i + 1], value.item() * theirs) < 1e-4


TORCHVISION = [
    ("alexnet", "features.10"), ("alexnet", "classifier.6"), ("vgg11", "features.15"),
    ("squeezenet1_0", "features.7"), ("resnet18", "layer3"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "layer"), TORCHVISION)
@pytest.mark.parametrize("rule", backward_rules.RULES)
def test_general_equals_captum_on_torchvision_networks(name, layer, rule):
    torch.manual_seed(0)
    model = getattr(torchvision.models, name)(weights=None).eval()
    images = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        activations = backward_rules.activations_of(model, images, layer)
    units = strongest(activations)
    ours = backward_rules.project(model, images, units, layer, rule=rule, seed="one")
    theirs = {"deconvnet": NeuronDeconvolution, "guided": NeuronGuidedBackprop, "gradient": NeuronGradient}[rule]
    neuron = tuple(t.item() for t in (units.maps, units.rows, units.columns) if t is not None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = theirs(model, model.get_submodule(layer)).attribute(images, neuron)
    assert relative(ours, reference) < 1e-4


class Spelled(nn.Module):
    """A small network whose ReLUs are spelled in every way there is; `style` picks one."""

    def __init__(self, style: str):
        super().__init__()
        torch.manual_seed(3)
        self.a, self.b, self.c = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 4, 3)
        self.shared = nn.ReLU(inplace=style == "module in place")
        self.relu = {
            "module": self.shared,
            "module in place": self.shared,
            "functional": F.relu,
            "functional in place": lambda x: F.relu(x, inplace=True),
            "functional in place, positional": lambda x: F.relu(x, True),
            "torch": torch.relu,
            "torch in place": torch.relu_,
            "method": lambda x: x.relu(),
            "method in place": lambda x: x.relu_(),
            "clamp": lambda x: x.clamp(min=0),
            "clamp_min": lambda x: torch.clamp_min(x, 0),
            "clamp in place": lambda x: x.clamp_(min=0),
        }[style]

    def forward(self, x):
        return self.relu(self.c(self.relu(self.b(self.relu(self.a(x))))))


STYLES = [
    "module", "module in place", "functional", "functional in place", "functional in place, positional", "torch",
    "torch in place", "method", "method in place", "clamp", "clamp_min", "clamp in place",
]  # fmt: skip


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("rule", backward_rules.RULES)
def test_every_spelling_of_relu(style, rule):
    image = torch.randn(1, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    model = Spelled(style)
    with torch.no_grad():
        units = strongest(model(image))
    # the rules by hand, layer by layer
    xs = [image]
    pre = []
    for conv in (model.a, model.b, model.c):
        pre.append(conv(xs[-1]))
        xs.append(pre[-1].clamp(min=0))
    signal = torch.zeros_like(xs[-1])
    signal[0, units.maps[0], units.rows[0], units.columns[0]] = xs[-1][
        0, units.maps[0], units.rows[0], units.columns[0]
    ]
    for conv, before in zip((model.c, model.b, model.a), reversed(pre), strict=True):
        if rule != "gradient":
            signal = signal.clamp(min=0)
        if rule != "deconvnet":
            signal = signal * (before > 0)
        signal = F.conv_transpose2d(signal, conv.weight)
    assert relative(backward_rules.project(model, image, units, rule=rule), signal) < 1e-5


def test_googlenet_where_captum_returns_the_plain_gradient():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        model = torchvision.models.googlenet(weights=None, aux_logits=False, init_weights=False).eval()
        images, layer = torch.randn(1, 3, 96, 96), "inception4a"
        unit = Units(torch.tensor([3]), torch.tensor([2]), torch.tensor([2]))
        ours = backward_rules.project(model, images, unit, layer, seed="one")
        gradient = backward_rules.project(model, images, unit, layer, rule="gradient", seed="one")
        captum = NeuronDeconvolution(model, model.inception4a).attribute(images, (3, 2, 2))
    assert relative(captum, gradient) < 1e-4  # what Captum does
    assert relative(ours, gradient) > 0.1  # what a deconvnet does


def test_a_model_without_relu_is_refused():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Conv2d(4, 4, 3))
    unit = Units(torch.tensor([0]), torch.tensor([0]), torch.tensor([0]))
    for layer in (None, "0"):
        with pytest.raises(ValueError, match="no ReLU"):
            backward_rules.project(model, torch.randn(1, 3, 9, 9), unit, layer)


def test_first_convolution_of_a_relu_network_is_fine():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    unit = Units(torch.tensor([2]), torch.tensor([1]), torch.tensor([0]))
    back = backward_rules.project(model, torch.randn(1, 3, 9, 9), unit, "0", seed="one")
    assert torch.equal(back[0, :, 1:4, 0:3], model[0].weight[2].detach()) and back.count_nonzero() == 27


class Raising(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.relu, self.late = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)

    def forward(self, x):
        x = self.relu(self.conv(x))
        raise RuntimeError("inside")


def test_nothing_outlives_a_call_that_raises():
    model = Raising()
    model.train()
    unit = Units(torch.tensor([0]), torch.tensor([0]), torch.tensor([0]))
    with pytest.raises(RuntimeError, match="inside"):
        backward_rules.project(model, torch.randn(1, 3, 9, 9), unit, "late")
    assert all(m.training for m in model.modules())
    assert all(not m._forward_hooks and not m._backward_hooks for m in model.modules())
    assert all(p.grad is None for p in model.parameters())
    x = torch.tensor([-1.0, 2.0], requires_grad=True)
    F.relu(x).backward(torch.tensor([5.0, -3.0]))
    assert x.grad.tolist() == [0.0, -3.0]  # torch's own ReLU again


def test_parameters_and_training_flags_are_untouched():
    network = small(zfnet()).train()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    unit = Units(torch.tensor([0]), torch.tensor([0]), torch.tensor([0]))
    deconvnet.project(network, torch.randn(1, 3, 96, 96), "conv3", unit)
    backward_rules.project(network, torch.randn(1, 3, 96, 96), Units(torch.tensor([0])))
    assert network.training and all(m.training for m in network.modules())
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())


def test_layers_above_the_probed_one_are_not_run():
    network = small(zfnet())
    network.convs["conv4"].register_forward_hook(lambda *_: pytest.fail("conv4 was run"))
    unit = Units(torch.tensor([0]), torch.tensor([2]), torch.tensor([2]))
    deconvnet.project(network, torch.randn(1, 3, 96, 96), "conv3", unit)


def test_bad_requests_name_the_remedy():
    network = small(zfnet())
    image, unit = torch.randn(1, 3, 96, 96), Units(torch.tensor([0]), torch.tensor([0]), torch.tensor([0]))
    with pytest.raises(ValueError, match="no layer 'conv9'"):
        deconvnet.project(network, image, "conv9", unit)
    with pytest.raises(ValueError, match="row and column"):
        deconvnet.project(network, image, "conv3", Units(torch.tensor([0])))
    with pytest.raises(ValueError, match="no submodule"):
        backward_rules.project(network, image, unit, "layer9")
    with pytest.raises(ValueError, match="choose among"):
        backward_rules.project(network, image, unit, rule="smooth")
    with pytest.raises(ValueError, match="one a image"):
        backward_rules.project(network, torch.randn(2, 3, 96, 96), unit)
