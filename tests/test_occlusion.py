"""Occlusion against Captum, for any classifier, and its memory.

Against a plain loop, with random squares, it is tested in test_properties.py."""

import copy
import itertools
import subprocess
import sys
import warnings
from functools import partial

import pytest
import torch
import torchvision
from captum import attr
from torch import nn

from benchmarks.occlusion import averaged
from tests.networks import MapsLast, small
from zfrepro import occlusion
from zfrepro.networks import zfnet
from zfrepro.occlusion import corners, filling

occlude = partial(occlusion.occlude, progress=False)
near = partial(torch.testing.assert_close, atol=1e-5, rtol=1e-4)
SMALL = {"patch": 4, "stride": 4}
PICTURES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def network():
    return small(zfnet(), 64)


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_the_papers_geometry():
    patch, stride = occlusion.paper_geometry(224)
    assert (patch, stride) == (50, 6)
    places = corners(224, patch, stride)
    assert len(places) == 30 and places[[2, 14]].tolist() == [12, 84]  # of the paper's examples
    for size in (96, 128):
        patch, stride = occlusion.paper_geometry(size)
        places = corners(size, patch, stride)
        assert len(places) == 30 and places[-1] == size - patch


def test_memory_does_not_grow_with_positions():
    # 900 covered images of 128 px would take 177 MB; memory is measured after a first run
    code = """
import resource, torch
from zfrepro.networks import build, zfnet
from zfrepro.occlusion import occlude
network = build(zfnet().with_width(0.1).with_units(64), 128, 1000).eval()
image = torch.randn(1, 3, 128, 128)
for stride in (50, 50, 100 / 29):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    settings = {"layer": "convs.conv5", "batch": 8, "progress": False}
    result = occlude(network, image, patch=28, stride=stride, **settings)
print(len(result.rows), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    side, grown = run.stdout.split()
    assert side == "30" and float(grown) < 40  # MB; the result itself has 4


def test_fills():
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    images += torch.arange(2.0)[:, None, None, None]
    assert filling("mean", images, 16).eq(0).all()
    assert filling("grey", images, 16, grey=0.5).eq(0.5).all()
    blurred = filling("blur", images, 16)
    assert blurred.std() < 1 and blurred[0].std() < images[0].std() / 10
    noise = filling("noise", images, 16, generator=torch.Generator().manual_seed(0))
    near(noise.mean((2, 3)), images.mean((2, 3)), atol=0.03, rtol=0)
    near(noise.std((2, 3)), images.std((2, 3)), atol=0.03, rtol=0)
    with pytest.raises(ValueError, match="choose among grey"):
        filling("black", images, 5)


# --- refusals ---


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (SMALL | {"patch": 65}, "needs 1 <= square"),
        (SMALL | {"stride": 0.5}, "stride >= 1"),
        (SMALL | {"border": "wrap"}, "choose among flush, overhang"),
        (SMALL | {"stride": None}, "needs a patch and a stride, or masks"),
        (SMALL | {"patch": (3, 5, 5)}, r"patch \(3, 5, 5\): wanted one number, or two"),
        (SMALL | {"precision": "fp8"}, "choose among fp32, bf16"),
        (SMALL | {"batch": 0}, "at least 1"),
        (SMALL | {"fill": torch.zeros(3, 3, 3)}, "does not fit"),
        (SMALL | {"fill": torch.nan}, "fill: holds NaN or infinite"),
        (SMALL | {"masks": [torch.zeros(64, 64)]}, "leave out patch and stride"),
        ({"masks": []}, "no masks"),
        ({"masks": [torch.zeros(32, 64)]}, r"mask 0: \(32, 64\), wanted \(64, 64\) or \(2, 64, 64"),
        ({"masks": [torch.full((64, 64), torch.nan)]}, "mask 0: holds values outside 0 to 1"),
    ],
)
def test_bad_input_is_refused(network, images, settings, says):
    with pytest.raises(ValueError, match=says):
        occlude(network, images, **settings)


# --- Captum ---


@pytest.mark.parametrize(
    ("size", "window", "stride"),
    [((11, 14), (3, 5), (2, 4)), ((9, 10), (9, 2), (5, 2))],
)
def test_equals_captum_on_rectangles_and_overhanging_windows(size, window, stride):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(36, 5)
    ).eval()
    images, fill = torch.randn(2, 2, 3, *size)
    settings = {"border": "overhang", "fill": fill, "scores": "none"}
    result = occlude(model, images, patch=window, stride=stride, **settings)
    oracle = attr.Occlusion(model).attribute(
        images, (3, *window), strides=(3, *stride), baselines=fill, target=2,
        perturbations_per_eval=4,
    )  # fmt: skip
    drops = result.clean[:, None, None, 2] - result.probabilities[..., 2]
    near(averaged(drops, result, size), oracle[:, 0])


# --- windows and masks ---


def test_square_masks_give_the_values_of_the_square(network, images):
    settings = {"fill": 0.3, "layer": "convs.conv5", "batch": 7}
    square = occlude(network, images, patch=20, stride=22, **settings)
    masks = torch.zeros(9, 64, 64)
    for k, (top, left) in enumerate(itertools.product(square.rows, square.columns)):
        masks[k, top : top + 20, left : left + 20] = 1
    for given in (masks, iter(masks.bool()), (m.expand(2, 64, 64).to(torch.uint8) for m in masks)):
        result = occlude(network, images, masks=given, **settings)
        assert torch.equal(result.probabilities, square.probabilities.flatten(1, 2))
        assert torch.equal(result.activity, square.activity.flatten(1, 2))
        assert torch.equal(result.predicted, square.predicted.flatten(1))
        assert result.of(torch.tensor([3, 8])).shape == (2, 9)


@torch.no_grad()
def test_soft_masks_blend_and_may_differ_between_images(network, images):
    mask = torch.rand(2, 64, 64, generator=torch.Generator().manual_seed(3))
    result = occlude(network, images, masks=[mask], fill=0.5)
    blended = images * (1 - mask[:, None]) + 0.5 * mask[:, None]
    near(result.probabilities[:, 0], network(blended).softmax(1))


def test_masks_are_read_as_they_are_needed(network, images):
    read, most = 0, 0

    def masks():
        nonlocal read
        for _ in range(20):
            read += 1
            yield torch.zeros(64, 64, dtype=torch.bool)

    def model(x):
        nonlocal most
        most = max(most, read)
        return network(x) if read < 9 else x.new_full((len(x), 10), torch.nan)

    with pytest.raises(ValueError, match="image 0: the model returns NaN"):
        occlude(model, images, masks=masks(), batch=4)
    assert most < 12


def test_images_of_whole_numbers_are_covered_exactly():
    images = torch.randint(0, 256, (1, 3, 8, 8), dtype=torch.uint8)
    result = occlude(
        lambda x: x.float().flatten(1) / 255, images, patch=4, stride=4, fill=128, scores="none"
    )
    expected = images.clone()
    expected[..., :4, 4:] = 128
    assert torch.equal(result.probabilities[0, 0, 1], expected.flatten() / 255)
    for fill in (0.5, 300):  # which such images cannot hold
        with pytest.raises(ValueError, match="fill: the images are torch.uint8"):
            occlude(lambda x: x.float().flatten(1), images, patch=4, stride=4, fill=fill)


# --- scores ---


class Answering(nn.Module):
    """A small network whose class scores go through a function."""

    def __init__(self, answer=lambda z: z):
        super().__init__()
        torch.manual_seed(0)
        pool = nn.AdaptiveAvgPool2d(1)
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), pool, nn.Flatten())
        self.last, self.answer = nn.Linear(4, 4), answer

    def forward(self, x):
        return self.answer(5 * self.last(self.body(x)))


def softmax(z):
    return z.exp() / z.exp().sum(1, keepdim=True)


@torch.no_grad()
@pytest.mark.parametrize(
    ("answer", "scores", "by_hand"),
    [
        (lambda z: z, "softmax", softmax),
        (lambda z: z.log_softmax(1), "softmax", softmax),
        (lambda z: z, "sigmoid", lambda z: 1 / (1 + (-z).exp())),
        (lambda z: z, "none", lambda z: z),
        (lambda z: (z + 1, z), lambda out: out[1].softmax(1), softmax),
        (lambda z: z[..., None].expand(-1, -1, 6), lambda out: out.mean(2).softmax(1), softmax),
    ],
)
def test_scores_by_hand(answer, scores, by_hand):
    result, model = occlude(Answering(answer), PICTURES, scores=scores, **SMALL), Answering()
    x = PICTURES.clone()
    x[..., 4:, :4] = 0
    torch.testing.assert_close(result.probabilities[:, 1, 0], by_hand(model(x)))
    torch.testing.assert_close(result.clean, by_hand(model(PICTURES)))


@pytest.mark.parametrize(
    ("answer", "scores", "says"),
    [
        (lambda z: z[:, :1], "softmax", "one score an image, .* makes 1: give scores='sigmoid'"),
        (lambda z: z.softmax(1), "softmax", "probabilities that sum to 1 .*: give scores='none'"),
        (lambda z: z[:, :, None, None], "softmax", r"\(1, 4, 1, 1\) for 1 images"),
        (lambda z: z * torch.nan, "softmax", "NaN or infinite scores"),
        (lambda z: torch.complex(z, z), "softmax", "complex scores: give scores="),
        (lambda z: z, "logit", "choose among softmax, sigmoid, none or a function"),
        (lambda z: z, lambda z: z[:, :, None], r"returns \(1, 4, 1\)"),
    ],
)
def test_scores_that_cannot_be_meant_are_refused(answer, scores, says):
    with pytest.raises(ValueError, match=says) as error:
        occlude(Answering(answer), PICTURES, scores=scores, **SMALL)
    assert "\n" not in str(error.value)


def test_scores_between_0_and_1_draw_a_warning():
    with pytest.warns(UserWarning, match="if they are probabilities, give scores='none'"):
        occlude(Answering(torch.sigmoid), PICTURES, scores="sigmoid", **SMALL)


def test_functions_whose_scores_depend_on_chance_or_company_draw_a_warning():
    torch.manual_seed(0)
    body = [nn.Flatten(), nn.Linear(192, 40), nn.Dropout(), nn.BatchNorm1d(40), nn.Linear(40, 3)]
    dropout, norm = nn.Sequential(*body[:3], body[4]), nn.Sequential(*body[:2], *body[3:])
    settled = copy.deepcopy(dropout).eval()
    for model in (lambda x: dropout(x), lambda x: norm(torch.cat([x, x + 1]))[: len(x)]):
        with pytest.warns(UserWarning, match="is the network in evaluation mode"):
            occlude(model, PICTURES, scores="none", **SMALL)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for model in (dropout, norm, lambda x: settled(x)):
            occlude(model, PICTURES, scores="none", **SMALL)
    assert dropout.training and norm.training


# --- any network ---


@pytest.mark.parametrize("size", [(8, 8), (9, 12)])
def test_layers_that_are_not_maps_are_refused_or_read_along_their_channels(size):
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    model, settings = MapsLast(), SMALL | {"scores": lambda maps: maps.mean((2, 3))}
    conv, maps = (occlude(model, images, layer=layer, **settings) for layer in ("conv", "maps"))
    near(conv.clean_activity, model.conv(images).relu().sum((2, 3)))
    for layer in ("linear", "relu", "tokens"):
        says = rf"layer '{layer}' returns \(1, .*, 6\).*give channels="
        with pytest.raises(ValueError, match=says):
            occlude(model, images, layer=layer, **settings)
        result = occlude(model, images, layer=layer, channels=-1, **settings)
        torch.testing.assert_close(result.activity, maps.activity)
    for channels in (0, 4):
        with pytest.raises(ValueError, match=f"channels {channels}"):
            occlude(model, images, layer="maps", channels=channels, **settings)


# --- in two parts ---


class Parted(nn.Module):
    """Parts named as in torchvision's networks, joined by `join`."""

    def __init__(self, join=lambda x: x.flatten(1)):
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        self.avgpool = nn.AdaptiveAvgPool2d(2)
        self.classifier = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 5))
        self.join = join

    def forward(self, x):
        return self.classifier(self.join(self.avgpool(self.features(x))))


class Clamping(Parted):
    def forward(self, x):
        return super().forward(x.clamp(-4, 4))


@torch.no_grad()
@pytest.mark.parametrize(
    ("model", "options", "batches"),
    [
        (Parted(), {}, [1, 1, 2, 2 + 64 * 2]),  # three trials; clean and covered images
        (Parted(), {"layer": "features.1"}, [1, 1, 1, 2, 2 + 64 * 2]),  # one counts the calls
        (Parted(), {"layer": "classifier.1", "channels": 1}, None),  # its sums come in batches
        (Parted(lambda x: x.flatten(1) ** 2), {}, None),
        (Parted(lambda x: x.transpose(1, 2).flatten(1)), {}, None),
        (Parted(lambda x: x.flatten(1) + 0.1), {"fill": 1e4}, None),  # little beside the fill's
        (Clamping(), {"fill": 9.0}, None),  # the clean image has no part in it
    ],
)
def test_known_parts_run_their_full_layers_in_large_batches(monkeypatch, model, options, batches):
    settings, sizes = {"patch": 1, "stride": 1, "batch": 4} | options, []
    first = model.classifier[0]
    hook = first.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    result = occlude(model, PICTURES, **settings)
    hook.remove()
    assert sizes == batches if batches else max(sizes) == 4
    monkeypatch.setattr(occlusion, "_parts", lambda model: None)
    whole = occlude(model, PICTURES, **settings)
    torch.testing.assert_close(result.probabilities, whole.probabilities)
    if "layer" in options:
        torch.testing.assert_close(result.activity, whole.activity)


def test_bf16_is_near(network, images):
    full, half = (
        occlude(network, images, patch=20, stride=11, layer="convs.conv5", precision=precision)
        for precision in ("fp32", "bf16")
    )
    near(full.probabilities, half.probabilities, atol=0.03, rtol=0)
    near(full.activity, half.activity, atol=0.05 * full.activity.max().item(), rtol=0.1)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((32, 10, 9), [0, 9, 18, 22]),
        ((32, 10, 9, "overhang"), [0, 9, 18, 27]),
        ((32, 10, 11), [0, 11, 22]),
        ((10, 10, 3), [0]),
        ((12, 4, 2.5), [0, 2, 5, 8]),
        ((5, 2, 4), [0, 3]),
    ],
)
def test_corners_by_hand(arguments, expected):
    assert corners(*arguments).tolist() == expected


@pytest.mark.parametrize("name", ["alexnet", "mobilenet_v3_small", "densenet121"])
def test_torchvisions_networks_in_either_way(monkeypatch, name):
    torch.manual_seed(0)
    model, image = getattr(torchvision.models, name)(num_classes=7), torch.randn(1, 3, 64, 64)
    settings = {"patch": 32, "stride": 32, "scores": "none"}
    result = occlude(model, image, **settings)
    monkeypatch.setattr(occlusion, "_parts", lambda model: None)
    whole = occlude(model, image, **settings)
    torch.testing.assert_close(result.probabilities, whole.probabilities)
