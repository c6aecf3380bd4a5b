"""However a model is written, every instrument runs it as it is and leaves it as it was."""

import threading
import types

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules import module as global_hooks

from tests.networks import Tutorial
from zfrepro import gallery, models
from zfrepro.deconvnet import strongest
from zfrepro.occlusion import occlude
from zfrepro.rules import activations_of, project


def pictures(model, x, layer=None, **call) -> torch.Tensor:
    return project(model, x, strongest(activations_of(model, x, layer, **call)), layer, **call)


def covered(model, x, layer=None, **options) -> torch.Tensor:
    settings = {"patch": 4, "stride": 4, "scores": "none", "progress": False} | options
    result = occlude(model, x, layer=layer, **settings)
    return result.activity if layer else result.probabilities


def covered_in_bf16(model, x, layer=None) -> torch.Tensor:
    return covered(model, x, layer, precision="bf16")


def searched(model, x, layer=None) -> torch.Tensor:
    return gallery.top_units(model, x, layer, progress=False)[layer].values


def each_instrument(*others):
    return pytest.mark.parametrize(
        "run", [pictures, covered, searched, *others], ids=lambda run: run.__name__
    )


IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(2))


def run_once(model):
    model(IMAGES)
    return model


def partly_compiled(model):
    model.conv1.compile(backend="eager")
    return run_once(model)


def not_copyable(model):
    model.lock = threading.Lock()
    return model


def normalised(norm, model):
    model.conv1, model.conv2 = norm(model.conv1), norm(model.conv2)
    return run_once(model)


NORMS = {
    "weight_norm": nn.utils.weight_norm,
    "parametrised spectral_norm": nn.utils.parametrizations.spectral_norm,
}
SPELLINGS = {
    "compiled": lambda model: run_once(torch.compile(model, backend="eager")),  # runs no hooks
    "partly compiled": partly_compiled,
    "scripted": torch.jit.script,
    "traced": lambda model: torch.jit.trace(model, IMAGES),
    "not copyable": not_copyable,
    "a function": lambda model: lambda x: model(x),
    "in place": lambda model: lambda x: model(x.mul_(1)),
    "in a container": lambda model: lambda x: {"logits": model(x), "hidden": x},
}


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("spelling", SPELLINGS)
@each_instrument()
def test_every_spelling_gives_what_the_plain_model_gives(run, spelling):
    before, expected = IMAGES.clone(), run(Tutorial().eval(), IMAGES)
    model = SPELLINGS[spelling](Tutorial())
    near = {"atol": 1e-5, "rtol": 1e-4}
    torch.testing.assert_close(run(model, IMAGES), expected, **near)
    assert torch.equal(IMAGES, before)
    if spelling in ("compiled", "partly compiled", "not copyable"):
        expected = run(Tutorial(), IMAGES, "conv2")
        torch.testing.assert_close(run(model, IMAGES, "conv2"), expected, **near)
    elif spelling == "scripted":
        with pytest.raises(ValueError, match="submodule 'conv2' is scripted, which cannot be wat"):
            run(model, IMAGES, "conv2")


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("norm", NORMS)
@each_instrument(covered_in_bf16)
def test_weights_that_are_computed_from_others(run, norm):
    model, plain = normalised(NORMS[norm], Tutorial()), Tutorial()
    with torch.no_grad():
        model.eval()(IMAGES)
        for name in ("conv1", "conv2"):
            plain.get_submodule(name).weight.copy_(model.get_submodule(name).weight)
    tolerance = 0.05 if run is covered_in_bf16 else 1e-5
    for layer in (None, "conv2"):
        expected = run(plain, IMAGES, layer)
        torch.testing.assert_close(run(model, IMAGES, layer), expected, atol=tolerance, rtol=1e-4)


@pytest.mark.parametrize("when", [0, 2, None])
@each_instrument(covered_in_bf16)
def test_a_model_is_left_as_it_was_whether_it_fails_or_not(run, when):
    class Failing(Tutorial):
        passes = 0

        def forward(self, x):
            Failing.passes += 1
            if when is not None and Failing.passes > when:
                raise KeyError("inside")
            return super().forward(x)

    model = Failing().train()
    model.conv1.eval()
    handle, weights = model.conv2.register_forward_hook(lambda *_: None), list(model.parameters())
    before = [weight.clone() for weight in weights]
    try:
        run(model, torch.cat([IMAGES] * 40), "conv2")
        assert when is None
    except KeyError:
        assert when is not None
    assert [m.training for m in model.modules()] == [True, False, True, True]
    assert all(a is b for a, b in zip(model.parameters(), weights, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(before, weights, strict=True))
    assert all(p.grad is None and p.requires_grad for p in weights)
    assert list(model.conv2._forward_hooks) == [handle.id] and not model.conv1._forward_hooks
    assert not global_hooks._global_forward_hooks and not global_hooks._global_forward_pre_hooks
    assert torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")


# --- which call of which layer --------------------------------------------------------------------


def twice() -> nn.Sequential:
    torch.manual_seed(0)
    first, second, relu = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.ReLU()
    return nn.Sequential(first, relu, second, relu, nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.mark.parametrize("run", [pictures, covered])
def test_one_of_several_calls_of_a_module_can_be_named(run):
    for call, end in enumerate((2, 4)):
        alone = twice()
        alone[end - 1] = nn.ReLU()  # called once under this name
        expected = run(alone, IMAGES, str(end - 1))
        torch.testing.assert_close(run(twice(), IMAGES, "1", call=call), expected)


def unused() -> nn.Module:
    model = twice()
    model[0].spare = nn.ReLU()
    return model


@pytest.mark.parametrize(
    ("model", "layer", "call", "says"),
    [
        (Tutorial, "conv9", None, "no submodule 'conv9' in Tutorial; there are: conv1, conv2, f"),
        (twice, "1", None, "'1' is called 2 times: choose one, call=0 to 1"),
        (twice, "1", 2, "call=2: submodule '1' is called 2 times: choose one"),
        (twice, None, 1, "call=1: needs the name of a layer"),
        (unused, "0.spare", None, "'0.spare' of Sequential was not called as a module"),
    ],
)
def test_calls_that_cannot_be_meant_are_refused(model, layer, call, says):
    with pytest.raises(ValueError, match=says):
        models.which_call(model(), IMAGES[:1], layer, call)


def test_calls_are_counted_anew_for_images_of_another_size():
    class Pyramid(Tutorial):
        def forward(self, x):
            while x.shape[-1] > 8:
                x = F.avg_pool2d(F.pad(self.conv1(x)[:, :3], (1, 1, 1, 1)), 2)
            return super().forward(x)

    model, larger = Pyramid(), torch.randn(1, 3, 32, 32)
    assert models.which_call(model, IMAGES[:1], "conv1", None) == 0
    with pytest.raises(ValueError, match="'conv1' is called 3 times: choose one, call=0 to 2"):
        models.which_call(model, larger, "conv1", None)
    assert models.which_call(model, IMAGES[:1], "conv1", None) == 0


def test_several_outputs_come_from_one_pass_that_ends_at_the_last():
    model, plain = Tutorial(), Tutorial()
    model.full.register_forward_hook(lambda *_: pytest.fail("the layer above was run"))
    with torch.no_grad():
        outputs = models.outputs_of(model, IMAGES, {"conv2": 0, "conv1": 0})
        assert list(outputs) == ["conv2", "conv1"]
        torch.testing.assert_close(outputs["conv1"], plain.conv1(IMAGES))
        torch.testing.assert_close(outputs["conv2"], plain.conv2(plain.conv1(IMAGES).relu()))
        both = models.outputs_of(plain, IMAGES, {None: 0, "conv1": 0})
        torch.testing.assert_close(both[None], plain(IMAGES))
        relu = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True))
        before = models.outputs_of(relu, IMAGES, {"0": 0, "1": 0})["0"]
        assert before.min() < 0  # seen before it is worked on in place


# --- containers -----------------------------------------------------------------------------------

A, B = torch.zeros(1), torch.ones(1)


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ({"scores": A}, None), ((A, None), None), ([[A]], None),
        (types.SimpleNamespace(logits=A, hidden=B), None),
        ({"a": A, "b": B}, "it is a dict with 2 tensors: needs one, or one named logits"),
        ("cat", "it is a str with 0 tensors"),
    ],
)  # fmt: skip
def test_the_one_tensor_of_a_container_is_found(output, says):
    if says is None:
        assert models.tensor_of(output, "it") is A
    else:
        with pytest.raises(ValueError, match=says):
            models.tensor_of(output, "it")


@each_instrument()
def test_several_tensors_are_refused_by_every_instrument(run):
    with pytest.raises(ValueError, match="the output is a tuple with 2 tensors"):
        run(lambda x: (F.relu(x), x), IMAGES)


@each_instrument()
def test_models_and_images_of_inference_mode(run):
    with torch.inference_mode():
        model, images = Tutorial(), IMAGES.clone()
        inside = run(model, images, "conv2")
    for result in (inside, run(model, images, "conv2")):
        torch.testing.assert_close(result, run(Tutorial(), IMAGES, "conv2"))
        assert not result.requires_grad


@each_instrument()
def test_lazy_models_take_their_shape(run):
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5))
    assert run(model, IMAGES).any()
