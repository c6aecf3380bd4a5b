"""The deconvnet for any torch model: right, or refused by name."""

import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torch.utils.checkpoint
import torchvision
from captum.attr import NeuronDeconvolution, NeuronGradient, NeuronGuidedBackprop
from torch import nn

from tests.networks import MapsLast, relative
from zfrepro import rules
from zfrepro.deconvnet import Units, crop, strongest
from zfrepro.imagenet import Adapted
from zfrepro.layers import contrast_norm
from zfrepro.rules import RULES, activations_of, project

CAPTUM = {
    "deconvnet": NeuronDeconvolution, "guided": NeuronGuidedBackprop, "gradient": NeuronGradient,
}  # fmt: skip


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def images(count: int = 1, side: int = 12, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def by_captum(model, x, layer: str, neuron, rule: str = "deconvnet") -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        method = CAPTUM[rule](model, model.get_submodule(layer))
        return method.attribute(x, neuron).detach()


def untrained(name: str) -> nn.Module:
    torch.manual_seed(0)
    return getattr(torchvision.models, name)(weights=None).eval()


# --- the rules, worked by hand ----------------------------------------------------------------


def test_relu6_passes_down_without_regard_to_its_bound():
    """Inputs below 0, between and above 6; signals of both signs."""
    x = torch.tensor([[-1.0, 3.0, 9.0, -1.0, 3.0, 9.0]])
    weight = torch.tensor([[1.0, 1.0, 1.0, -1.0, -1.0, -1.0]])

    def model(x):
        return F.relu6(x) @ weight.T

    down = {r: project(model, x, [0], rule=r, seed="one")[0].tolist() for r in RULES}
    assert down["deconvnet"] == [1, 1, 1, 0, 0, 0]
    assert down["guided"] == [0, 1, 0, 0, 0, 0]
    assert down["gradient"] == [0, 1, 0, 0, -1, 0]


# --- Captum -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("alexnet", "classifier.6"), ("squeezenet1_0", "features.7"), ("resnet18", "layer3"),
    ],
)  # fmt: skip
def test_identical_with_captum_on_torchvision_networks(name, layer):
    model, x = untrained(name), images(1, 96)
    units = strongest(activations_of(model, x, layer))
    neuron = tuple(index.item() for index in units.places)
    for rule in RULES:
        ours = project(model, x, units, layer, rule=rule, seed="one")
        assert torch.equal(ours, by_captum(model, x, layer, neuron, rule))


# --- rectifiers in every spelling -------------------------------------------------------------


class Rectified(nn.Module):
    """Three convolutions with the same rectifier after each; `act` comes before the second."""

    def __init__(self, relu, act=None):
        super().__init__()
        torch.manual_seed(3)
        self.a, self.b, self.c = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 4, 3)
        self.relu, self.act = relu, act or nn.Identity()

    def forward(self, x):
        return self.relu(self.c(self.relu(self.act(self.b(self.relu(self.a(x)))))))


def in_place_halves(x):
    x[:, : x.shape[1] // 2].relu_()
    x[:, x.shape[1] // 2 :].relu_()
    return x


def scripted(module):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(module)


SPELLINGS = {
    "module": nn.ReLU(),
    "module in place": nn.ReLU(inplace=True),
    "functional": F.relu,
    "functional in place": lambda x: F.relu(x, inplace=True),
    "torch": torch.relu,
    "method in place": lambda x: x.relu_(),
    "operator": torch.ops.aten.relu,
    "clamp": lambda x: x.clamp(min=0),
    "clamp by a tensor": lambda x: torch.clamp(x, min=torch.zeros(())),
    "clamp_min": lambda x: torch.clamp_min(x, 0),
    "clamp in place": lambda x: x.clamp_(min=0),
    "threshold": lambda x: F.threshold(x, 0, 0),
    "hardtanh": nn.Hardtanh(0, float("inf")),
    "leaky with slope 0": lambda x: F.leaky_relu(x, 0.0),
    "maximum, zeros first": lambda x: torch.maximum(torch.zeros(1), x),
    "max": lambda x: torch.max(x, torch.zeros(1)),
    "view in place": lambda x: F.relu(x.flatten(2), inplace=True).view(x.shape),
    "halves in place": in_place_halves,
    "compiled": torch.compile(F.relu, backend="eager"),
    "recomputed": lambda x: torch.utils.checkpoint.checkpoint(F.relu, x, use_reentrant=False),
    "scripted": scripted(nn.Sequential(nn.ReLU())),
}


def by_hand(model: Rectified, x, units: Units, rule: str) -> torch.Tensor:
    """The rules layer by layer, with the transposed filters written out."""
    before, after = [], [x]
    for conv in (model.a, model.b, model.c):
        before.append(conv(after[-1]))
        after.append(before[-1].clamp(min=0))
    at = (0, units.maps[0], units.rows[0], units.columns[0])
    signal = torch.zeros_like(after[-1])
    signal[at] = after[-1][at]
    for conv, inputs in zip((model.c, model.b, model.a), reversed(before), strict=True):
        if rule != "gradient":
            signal = signal.clamp(min=0)
        if rule != "deconvnet":
            signal = signal * (inputs > 0)
        signal = F.conv_transpose2d(signal, conv.weight)
    return signal


@pytest.mark.parametrize("zeros", [False, True])  # an input of exactly 0 is no positive one
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_of_relu(spelling, zeros):
    model, x = Rectified(SPELLINGS[spelling]), images()
    if zeros:
        for conv in (model.a, model.b, model.c):
            nn.init.zeros_(conv.bias)
        x[..., 3:] = 0  # a unit that responds sees the columns before and some of these
    units = strongest(activations_of(model, x))
    for rule in RULES[1:] if zeros else RULES:  # the gradient at 0 is torch's own
        with torch.no_grad():
            expected = by_hand(model, x, units, rule)
        assert expected.any()
        assert relative(project(model, x, units, rule=rule), expected) < 1e-5


def changed_without_gradient(x):
    x.data.clamp_(min=0)
    return x


def written_where_negative(x):
    x[x < 0] = 0
    return x


class OwnRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, above):
        return above


def reentrant(x):
    return torch.utils.checkpoint.checkpoint(F.relu, x, use_reentrant=True)


def less_a_pixel(x):
    return F.batch_norm(x, x[0, :, 0, 0].detach(), torch.ones(8))


def times_a_pixel(x):
    return F.batch_norm(x, torch.zeros(8), torch.ones(8), x[0, :, 0, 0])


HOOKED = nn.ReLU()
HOOKED.register_full_backward_hook(lambda *_: None)

NO_RECTIFIERS = {  # what is refused, and how it is named
    "gelu": (F.gelu, "gelu in 'act'"),
    "leaky": (F.leaky_relu, "leaky_relu"),
    "prelu": (nn.PReLU(8), r"prelu_kernel in 'act.f' \(PReLU\)"),
    "symmetric hardtanh": (F.hardtanh, "hardtanh"),
    "threshold to another value": (lambda x: F.threshold(x, 0, 20), "puts 20 where"),
    "rectified gate": (lambda x: F.relu(x) * F.relu(x.mean((2, 3), True)), "mul .* gate"),
    "attention": (lambda x: x @ x.transpose(2, 3), "bmm .* gate or attention"),
    "division": (lambda x: 1 / (1 + F.relu(x)), "reciprocal|div"),
    "mask": (lambda x: x * (x > 0), "mul .* without gradient"),
    "where": (lambda x: torch.where(x > 0, x, 0.0), "where"),
    "mean with its absolute value": (lambda x: (x + x.abs()) / 2, "abs"),
    "written where negative": (written_where_negative, "index_put|copy_slices"),
    "changed without gradient": (changed_without_gradient, "clamp .* without gradient"),
    "straight through": (lambda x: x + (F.relu(x) - x).detach(), "add .* without gradient"),
    "without gradient": (torch.no_grad()(F.relu), "without gradient"),
    "by numpy": (lambda x: x * torch.from_numpy(np.sign(x.detach().numpy())), "numpy"),
    "branch": (lambda x: F.relu(x) if x.mean() > -9 else x, "_local_scalar_dense"),
    "dropout always": (lambda x: F.dropout(F.relu(x)), "random"),
    "own function": (lambda x: OwnRelu.apply(x), "own_relu"),
    "reentrant recomputation": (reentrant, "checkpoint_function"),
    "instance norm": (F.instance_norm, "statistics of the image"),
    "batch statistics": (lambda x: F.batch_norm(x, None, None, training=True), "statistics"),
    "weights of the image": (times_a_pixel, "native_batch_norm .* made of the image"),
    "running means of the image": (less_a_pixel, "native_batch_norm .* made of the image"),
    "backward hook": (HOOKED, "remove the hook"),
    "layer norm": (lambda x: F.layer_norm(x, x.shape[1:]), "native_layer_norm"),
}


class Act(nn.Module):
    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, x):
        return self.f(x)


@pytest.mark.parametrize("name", NO_RECTIFIERS)
def test_what_has_no_rule_is_refused_by_name(name):
    act, says = NO_RECTIFIERS[name]
    model, x = Rectified(F.relu, Act(act)), images()
    with pytest.raises(ValueError, match=says):
        project(model, x, [(0, 1, 1)])
    assert project(model, x, [(0, 1, 1)], "a").any()  # below it nothing is wrong


def test_the_first_offender_is_named_and_can_be_allowed():
    model, x = untrained("mobilenet_v3_small"), images(1, 64)
    with pytest.raises(ValueError, match=r"^hardswish in 'features.0.2' \(Hardswish\) has no back"):
        project(model, x, [3])
    with pytest.warns(UserWarning, match="hardswish in 'features.0.2'.* mixed with the rule"):
        mixed = project(model, x, [3], mixed="allow")
    assert relative(mixed, project(model, x, [3], rule="gradient")) > 0.01


def test_circular_padding_is_a_concatenation():
    def by_hand(x):
        x = torch.cat([x[..., -2:], x, x[..., :1]], 3)
        return torch.cat([x[:, :, -3:], x], 2)

    padded = Rectified(F.relu, Act(lambda x: F.pad(x, (2, 1, 3, 0), mode="circular")))
    x, units = images(2), [(m, m, 3) for m in range(4)]
    for rule in RULES:
        pictures, expected = (
            project(model, x, units, of=[0, 0, 1, 1], rule=rule, seed="one")
            for model in (padded, Rectified(F.relu, Act(by_hand)))
        )
        assert expected.any() and relative(pictures, expected) < 1e-6


# --- response norm ----------------------------------------------------------------------------


@pytest.mark.parametrize("norm", [nn.LocalResponseNorm(3, alpha=2.0), Act(contrast_norm)])
def test_response_norm_is_passed_or_differentiated(norm):
    with_norm, x = Rectified(F.relu), 100 * images()  # so large that either norm matters
    with_norm.relu = nn.Sequential(nn.ReLU(), norm)
    unit = strongest(activations_of(with_norm, x))
    plain = project(Rectified(F.relu), x, unit, seed="one")
    assert relative(project(with_norm, x, unit, seed="one"), plain) < 1e-6
    leaf = x.clone().requires_grad_()
    with_norm(leaf)[0].max().backward()
    for settings in ({}, {"skip_norm": False}):
        down = project(with_norm, x, unit, seed="one", rule="gradient", **settings)
        assert relative(down, leaf.grad) < 1e-6


# --- models as they come ----------------------------------------------------------------------


def test_recomputation_changes_nothing():
    conv, norm, x = nn.Conv2d(3, 4, 3), nn.LocalResponseNorm(3, alpha=2.0), images()

    def block(x):
        return norm(F.relu(conv(x)))  # the norm is skipped in either

    def recomputed(x):
        return torch.utils.checkpoint.checkpoint(block, x, use_reentrant=False)

    units = [(1, 2, 3), (0, 1, 1), (2, 0, 0)]
    pictures, plain = (project(model, x, units, of=[0] * 3) for model in (recomputed, block))
    assert torch.equal(pictures, plain)


def test_layers_that_are_no_maps_are_refused():
    x = images(1, 8)
    tokens = nn.Sequential(nn.Conv2d(3, 4, 2, 2), nn.Flatten(2), nn.ReLU())
    with pytest.raises(ValueError, match=r"2 gives \(1, 4, 16\) .* needs maps"):
        project(tokens, x, [(1, 2, 0)], "2")
    for layer in ("linear", "relu"):
        with pytest.raises(ValueError, match=rf"{layer} gives \(1, 6, 6, 6\) with its maps last"):
            project(MapsLast(), x, [(1, 2, 3)], layer)
    assert project(MapsLast(), x, [(1, 2, 3)]).shape == x.shape


# --- which call, which units ------------------------------------------------------------------


def test_units_as_lists_and_statistics_of_a_model_in_training_mode_untouched():
    model, x = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU()).train(), images(2)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    units = Units(torch.tensor([3, 5]), torch.tensor([1, 2]), torch.tensor([0, 1]))
    expected = project(model, x, units, "0")
    for same in ([(3, 1, 0), (5, 2, 1)], Units([3, 5], [1, 2], [0, 1])):
        assert torch.equal(project(model, x, same, "0"), expected)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    flat = nn.Sequential(model, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    expected = project(flat, x, Units(torch.tensor([4, 2])))
    for same in ([4, 2], np.array([4, 2])):
        assert torch.equal(project(flat, x, same), expected)


def test_named_layers_of_a_network_in_training_mode_are_those_of_evaluation_mode():
    body = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(),
        nn.Conv2d(4, 5, 3), nn.ReLU(),
    )  # fmt: skip
    model, x = Adapted(body, {"conv2": "5"}, 12, torch.arange(5)), images(2)
    units, before = strongest(activations_of(body, x)), body[1].running_mean.clone()
    pictures = rules.project_to_fields(model, x, "conv2", units)
    whole = project(body, x, units)  # a unit sees 5 px from its row and column on
    assert torch.equal(pictures.pixels, crop(whole, units.rows, units.columns, 5))
    assert torch.equal(body[1].running_mean, before) and body.training


def test_units_of_shared_images_give_the_same_pictures():
    """Units in any order, unevenly over the images, one image without any."""
    model, x = untrained("resnet18"), images(4, 64)
    of = [2, 0, 2, 3, 2, 0]
    units = [(7 * i, i % 4, (3 * i) % 4) for i in range(len(of))]
    calls = []
    handle = model.conv1.register_forward_hook(lambda m, i, o: calls.append(len(o)))
    for rule in RULES:
        together = project(model, x, units, "layer3", of=of, rule=rule, seed="one")
        alone = [
            project(model, x[i : i + 1], [unit], "layer3", rule=rule, seed="one")
            for i, unit in zip(of, units, strict=True)
        ]
        assert relative(together, torch.cat(alone)) < 1e-5
    handle.remove()
    assert calls.count(3) == len(RULES)  # one forward pass of the three images that have units


# --- refusals, and nothing left behind --------------------------------------------------------


def test_bad_requests_name_the_remedy():
    model, x = untrained("resnet18"), images(2, 64)
    bias = nn.Parameter(torch.ones(4))
    for call, says in (
        (lambda: project(model, x, [0, 0], "layer9"), "no submodule 'layer9' in ResNet; there are"),
        (lambda: project(model, x, [0, 0], rule="smooth"), "choose among gradient, deconvnet"),
        (lambda: project(model, x, [0]), "1 units for 2 images: one an image, or of="),
        (lambda: project(model, x, [0], of=[2]), "of: image 2: there are 2"),
        (lambda: project(model, x, [0, 1000]), "map 1000: there are 1000"),
        (lambda: project(model, x, [0, 0], "layer1"), "layer1: needs a map, row and column"),
        (lambda: project(model, x, [(0, 1, 1)] * 2), "output: needs a map for each"),
        (lambda: project(model, x[0], [0]), "images.None. makes a batch of one"),
        (lambda: project(model, x * torch.nan, [0, 0]), "not finite"),
        (lambda: project(lambda x: bias.expand(2, 4), x, [0, 0]), "no gradient leads"),
    ):
        with pytest.raises(ValueError, match=says):
            call()


def test_rectifiers_beside_the_path_do_not_count():
    """swin_v2 rectifies position biases only; a network without rectifiers is linear."""
    with pytest.raises(ValueError, match="native_layer_norm in 'features.0.2'"):
        project(untrained("swin_v2_t"), images(1, 64), [3])
    linear = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU())
    down = project(linear, images(1, 9), [(2, 1, 0)], "0", seed="one")
    assert torch.equal(down[0, :, 1:4, 0:3], linear[0].weight[2].detach())
    assert down.count_nonzero() == 27


def test_scripted_code_that_torch_has_fused_is_refused():
    block = scripted(nn.Sequential(nn.BatchNorm2d(8), nn.ReLU(), nn.Sigmoid()).eval())
    x = torch.randn(1, 8, 4, 4, requires_grad=True)
    for _ in range(3):
        block(x * 1)  # the second run compiles
    model = nn.Sequential(nn.Conv2d(3, 8, 3), block)
    with pytest.raises(ValueError, match="differentiable_graph.* scripted code"):
        project(model, images(1, 6), [(0, 0, 0)])


def test_one_pixel_through_two_rectified_layers():
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
    # up: conv1 -> [7, -1] -> relu [7, 0] -> conv2 -7 + 0 + 4 = -3 -> 0; the seed is 1
    down = {r: project(model, image, [(0, 0, 0)], rule=r, seed="one").item() for r in RULES}
    # deconvnet: 1 -> [-1, 2] -> relu [0, 2] -> 0 * 1 + 2 * 3 = 6, although both masks are closed
    assert down == {"gradient": 0.0, "deconvnet": 6.0, "guided": 0.0}
