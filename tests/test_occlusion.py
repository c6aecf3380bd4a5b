"""Occlusion against the plain loop and Captum, for any classifier, and its memory."""

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
from tests.networks import small
from zfrepro import occlusion
from zfrepro.networks import zfnet
from zfrepro.occlusion import corners, filling

occlude = partial(occlusion.occlude, progress=False)
near = partial(torch.testing.assert_close, atol=1e-5, rtol=1e-4)
SMALL = {"patch": 4, "stride": 4}
PICTURES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(2))


def plain_loop(model, images, patch, stride, fill=0, layer=None):
    """One forward pass a position, as the definition says."""
    scores, sums = [], []
    firsts = [range(0, side - patch + 1, stride) for side in images.shape[2:]]
    fill = torch.as_tensor(fill, dtype=images.dtype).expand_as(images)
    for image, own in zip(images, fill, strict=True):
        for top, left in itertools.product(*firsts):
            x, square = image.clone(), (slice(top, top + patch), slice(left, left + patch))
            x[:, *square] = own[:, *square]
            scores.append(model(x[None]).softmax(1)[0])
            if layer:
                sums.append(model.features(x[None], [layer])[layer].sum((2, 3))[0])
    shape = (len(images), *map(len, firsts), -1)
    return torch.stack(scores).view(shape), torch.stack(sums).view(shape) if layer else None


@pytest.fixture(scope="module")
def network():
    return small(zfnet(), 64)


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
@pytest.mark.parametrize("kind", occlusion.FILLS)
def test_equals_the_plain_loop(network, images, kind):
    fill = filling(kind, images, 20, grey=0.3, generator=torch.Generator().manual_seed(1))
    expected, sums = plain_loop(network, images, 20, 11, fill, "conv5")
    result = occlude(
        network, images, patch=20, stride=11, fill=fill, layer="convs.conv5", batch=7
    )  # fmt: skip
    near(result.probabilities, expected)
    near(result.activity, sums, atol=1e-3)
    near(result.clean, network(images).softmax(1))
    clean = network.features(images, ["conv5"])["conv5"].sum((2, 3))
    near(result.clean_activity, clean, atol=1e-3)
    labels = torch.tensor([3, 8])
    assert torch.equal(result.of(labels)[1], result.probabilities[1, :, :, 8])
    strongest = result.activity_of(result.strongest)[0]
    assert torch.equal(strongest, result.activity[0, :, :, clean[0].argmax()])
    assert torch.equal(result.predicted, result.probabilities.argmax(3))


@torch.no_grad()
def test_any_classifier_oblong_images_and_functions():
    torch.manual_seed(0)
    convs = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True)
    model = nn.Sequential(*convs, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 5))
    images = torch.randn(1, 3, 20, 32)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    result = occlude(model, images, patch=8, stride=4, layer="2")
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    expected, _ = plain_loop(model.eval(), images, 8, 4)
    assert result.probabilities.shape == (1, 4, 7, 5) and result.activity.shape == (1, 4, 7, 4)
    for found in (result, occlude(lambda x: model(x), images, patch=8, stride=4)):
        near(found.probabilities, expected)


def test_bf16_is_near(network, images):
    full, half = (
        occlude(network, images, patch=20, stride=11, layer="convs.conv5", precision=precision)
        for precision in ("fp32", "bf16")
    )
    near(full.probabilities, half.probabilities, atol=0.03, rtol=0)
    near(full.activity, half.activity, atol=0.05 * full.activity.max().item(), rtol=0.1)


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
    found = occlude(network, image, patch=28, stride=stride, **settings)
print(len(found.rows), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
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
    ("changes", "says"),
    [
        ({"patch": 65}, "needs 1 <= square"),
        ({"stride": 0.5}, "stride >= 1"),
        ({"border": "wrap"}, "choose among flush, overhang"),
        ({"stride": None}, "needs a patch and a stride, or masks"),
        ({"patch": (3, 5, 5)}, r"patch \(3, 5, 5\): wanted one number, or two"),
        ({"stride": (1,)}, r"stride \(1,\): wanted one number, or two"),
        ({"layer": "conv9"}, "no submodule 'conv9'"),
        ({"precision": "fp8"}, "choose among fp32, bf16"),
        ({"batch": 0}, "at least 1"),
        ({"fill": torch.zeros(3, 3, 3)}, "does not fit"),
        ({"fill": torch.nan}, "fill: holds NaN or infinite"),
        ({"fill": torch.inf}, "fill: holds NaN or infinite"),
        ({"masks": [torch.zeros(64, 64)]}, "leave out patch and stride"),
    ],
)
def test_bad_input_is_refused(network, images, changes, says):
    with pytest.raises(ValueError, match=says):
        occlude(network, images, **({"patch": 20, "stride": 20} | changes))


@pytest.mark.parametrize("fill", [0.5, 300, -1])
def test_a_fill_that_the_images_cannot_hold_is_refused(network, images, fill):
    stored = (images * 40 + 128).clamp(0, 255).byte()
    with pytest.raises(ValueError, match="fill: the images are torch.uint8"):
        occlude(lambda x: network(x.float()), stored, patch=20, stride=20, fill=fill)


def test_complex_scores_are_refused(network, images):
    with pytest.raises(ValueError, match="complex scores: give scores="):
        occlude(lambda x: torch.complex(network(x), network(x)), images, patch=20, stride=20)


@pytest.mark.parametrize(
    ("masks", "says"),
    [
        ([], "no masks"),
        ([torch.zeros(32, 64)], r"mask 0: \(32, 64\), wanted \(64, 64\) or \(2, 64, 64\)"),
        ([torch.zeros(64, 64), torch.full((64, 64), 255)], "mask 1: holds values outside 0 to 1"),
        ([torch.full((64, 64), torch.nan)], "mask 0: holds values outside 0 to 1"),
    ],
)
def test_bad_masks_are_refused(network, images, masks, says):
    with pytest.raises(ValueError, match=says):
        occlude(network, images, masks=masks)


def test_one_class_an_image_and_a_watched_layer_are_asked_for(network, images):
    result = occlude(network, images, patch=32, stride=32, layer="convs.conv5")
    for ask in (result.of, result.activity_of):
        for indices in (torch.tensor([1]), torch.tensor(1), torch.tensor([1, 2, 3])):
            with pytest.raises(ValueError, match="wanted one for each of 2 images"):
                ask(indices)
    assert torch.equal(result.of([1, 2]), result.of(torch.tensor([1, 2])))
    result = occlude(network, images, patch=30, stride=30)
    for ask in (lambda: result.strongest, lambda: result.activity_of([0, 0])):
        with pytest.raises(ValueError, match="no layer was watched"):
            ask()


# --- Captum's numbers ---


class Sums(nn.Module):
    """Sum three values, rectify the sum under four biases, and add: Captum's first example."""

    def forward(self, x):
        hidden = (x.sum(1, keepdim=True) + torch.tensor([-10.0, 1, 1, 1])).relu()
        return hidden.sum(1, keepdim=True) + torch.tensor([-1.0, 1])


class OneConv(nn.Module):
    """A 3 x 3 box filter with two thresholds and a linear layer behind a `view`."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        nn.init.ones_(self.conv.weight)
        self.conv.bias = nn.Parameter(torch.tensor([-50.0, -75.0]))

    def forward(self, x):
        hidden = self.conv(x).relu().view(-1, 8)
        return (hidden[:, :5].sum(1, keepdim=True) - hidden[:, 5:].sum(1, keepdim=True)).relu()


def as_images(*rows):
    """Vectors as images one pixel high."""
    return torch.tensor(rows)[:, None, None]


GRID, ONES = torch.arange(16.0).view(1, 1, 4, 4), torch.ones(1, 1, 4, 4)


def sums(x):
    return Sums()(x.flatten(1))


CAPTUM_CASES = {
    "one value": (sums, as_images([20.0, 50, 30]), 1, 1, 0, [[80, 200, 120]]),
    "two values": (sums, as_images([20.0, 50, 30]), 2, 1, 10.0, [[200, 220, 240]]),
    "stride": (sums, as_images([20.0, 50, 30]), 2, 2, 0, [[280, 280, 120]]),
    "two images": (
        sums, as_images([2.0, 10, 3], [20, 50, 30]), 1, 1, 0, [[8, 35, 12], [80, 200, 120]],
    ),
    "second of two inputs": (
        lambda x: ((torch.tensor([[3.0]]) - 1).relu() - x.flatten(1).relu()).relu(),
        as_images([1.0]), 1, 1, 0, [[-1]],
    ),
    "first of three inputs, with baseline": (
        lambda x: sums(x + as_images([20.0, 60, 40])), as_images([23.0, 100, 0]), 3, 2,
        torch.tensor([1.0, 4, 7]), [[444, 444, 444]],
    ),
    "whole image": (lambda x: OneConv()(x + ONES), GRID, 4, 1, 0, [[67] * 4] * 4),
    "rectangle": (
        lambda x: OneConv()(x + ONES), GRID, (2, 3), (2, 1), 0,
        [[17, 17, 17, 17]] * 2 + [[64, 65.5, 65.5, 67]] * 2,
    ),
    "flat rectangle": (
        lambda x: OneConv()(GRID + x), ONES, (1, 2), (1, 2), 0, [[3] * 4] * 3 + [[0] * 4],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CAPTUM_CASES)
def test_captums_own_numeric_cases(case):
    model, images, window, stride, fill, expected = CAPTUM_CASES[case]
    if isinstance(window, int):
        window = (min(window, images.shape[2]), window)
    result = occlude(
        model, images, patch=window, stride=stride, border="overhang", fill=fill, scores="none",
        batch=3,
    )  # fmt: skip
    drops = result.clean[:, None, None, 0] - result.probabilities[..., 0]
    expected = torch.tensor(expected, dtype=torch.float32).view(len(images), *images.shape[2:])
    torch.testing.assert_close(averaged(drops, result, images.shape[2:]), expected)


@pytest.mark.parametrize(
    ("size", "window", "stride"),
    [((12, 12), (3, 5), (2, 4)), ((11, 14), (4, 4), (3, 4)), ((9, 10), (9, 2), (5, 2))],
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


@torch.no_grad()
def test_rectangles_and_strides_of_each_axis(network, images):
    result = occlude(network, images, patch=(20, 32), stride=(22, 16))
    assert result.rows.tolist() == [0, 22, 44] and result.columns.tolist() == [0, 16, 32]
    x = images.clone()
    x[:, :, 22:42, 32:64] = 0
    near(result.probabilities[:, 1, 2], network(x).softmax(1))


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_square_masks_give_the_values_of_the_square(network, images, batch):
    settings = {"fill": 0.3, "layer": "convs.conv5", "batch": batch}
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


# --- scores ---


class Answering(nn.Module):
    """A small network whose class scores go through a function."""

    def __init__(self, answer, classes=4):
        super().__init__()
        torch.manual_seed(0)
        pool = nn.AdaptiveAvgPool2d(1)
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), pool, nn.Flatten())
        self.last, self.answer = nn.Linear(4, classes), answer

    def forward(self, x):
        return self.answer(5 * self.last(self.body(x)))


def dense(scores):
    return scores[:, :, None, None].expand(-1, -1, 6, 6)


@torch.no_grad()
@pytest.mark.parametrize(
    ("scores", "by_hand"),
    [
        ("softmax", lambda z: z.exp() / z.exp().sum(1, keepdim=True)),
        ("sigmoid", lambda z: 1 / (1 + (-z).exp())),
        ("none", lambda z: z),
        (lambda z: z - z.mean(1, keepdim=True), lambda z: z - z.mean(1, keepdim=True)),
    ],
)
def test_scores_by_hand(scores, by_hand):
    model = Answering(lambda z: z)
    result = occlude(model, PICTURES, scores=scores, **SMALL)
    x = PICTURES.clone()
    x[..., 4:, :4] = 0
    torch.testing.assert_close(result.probabilities[:, 1, 0], by_hand(model(x)))
    torch.testing.assert_close(result.clean, by_hand(model(PICTURES)))


@pytest.mark.parametrize(
    ("answer", "scores", "says"),
    [
        (lambda z: z[:, :1], "softmax", "one score an image, .* makes 1: give scores='sigmoid'"),
        (lambda z: z[:, 0], "softmax", "one score an image"),
        (lambda z: z.softmax(1), "softmax", "probabilities that sum to 1 .*: give scores='none'"),
        (lambda z: z.softmax(1), "sigmoid", "probabilities that sum to 1"),
        (dense, "softmax", r"\(1, 4, 6, 6\) for 1 images"),
        (lambda z: z.flatten(), "softmax", r"returns \(4,\) for 1 images"),
        (lambda z: z * torch.nan, "softmax", "NaN or infinite scores"),
        (lambda z: z / 0, "none", "NaN or infinite scores"),
        (lambda z: z, "logit", "choose among softmax, sigmoid, none or a function"),
        (lambda z: z, lambda z: z[:, :, None], r"returns \(1, 4, 1\)"),
    ],
)
def test_scores_that_cannot_be_meant_are_refused(answer, scores, says):
    with pytest.raises(ValueError, match=says) as error:
        occlude(Answering(answer), PICTURES, scores=scores, **SMALL)
    assert "\n" not in str(error.value)


@torch.no_grad()
@pytest.mark.parametrize(
    ("answer", "scores"),
    [
        (lambda z: (z + 1, z), lambda out: out[1].softmax(1)),
        (dense, lambda out: out.mean((2, 3)).softmax(1)),
        (lambda z: z.log_softmax(1), "softmax"),
    ],
)
def test_other_outputs_are_read_by_a_function(answer, scores):
    result = occlude(Answering(answer), PICTURES, scores=scores, **SMALL)
    expected = occlude(Answering(lambda z: z), PICTURES, **SMALL)
    torch.testing.assert_close(result.probabilities, expected.probabilities)


def test_a_classifier_of_one_logit():
    result = occlude(Answering(lambda z: z[:, 0], 1), PICTURES, scores="sigmoid", **SMALL)
    expected = occlude(Answering(lambda z: z, 1), PICTURES, scores="sigmoid", **SMALL)
    assert torch.equal(result.probabilities, expected.probabilities)
    assert result.clean.shape == (2, 1)


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


class Viewing(nn.Module):
    """The commonest tutorial network: it flattens with `view`."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.full = nn.Conv2d(3, 4, 3), nn.Linear(4 * 36, 5)

    def forward(self, x):
        x = self.conv(x).relu()
        return self.full(x.view(x.size(0), -1))


@torch.no_grad()
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("bf16", 0.02)])
def test_networks_that_view_get_another_layout(precision, tolerance):
    result = occlude(Viewing(), PICTURES, layer="conv", precision=precision, **SMALL)
    expected, _ = plain_loop(Viewing().eval(), PICTURES, 4, 4)
    torch.testing.assert_close(result.probabilities, expected, atol=tolerance, rtol=0)


class Rearranged(nn.Module):
    """Maps (B, 5, h, w) as they are, with channels last, as tokens and pooled."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.last, self.tokens = nn.Conv2d(3, 5, 3), nn.Identity(), nn.Identity()
        self.pooled, self.both, self.windows = nn.Identity(), nn.Identity(), nn.Identity()

    def forward(self, x):
        maps = self.conv(x)
        self.both((maps, maps))
        self.last(maps.permute(0, 2, 3, 1))
        self.tokens(maps.flatten(2).transpose(1, 2))
        self.windows(torch.cat([maps[..., :3], maps[..., -3:]]))
        return self.pooled(maps.mean((2, 3)))


@pytest.mark.parametrize("size", [(9, 9), (7, 7), (9, 12)])
def test_layers_that_are_not_maps_are_refused_or_read_along_their_channels(size):
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    model, settings = Rearranged(), SMALL | {"scores": "none"}
    maps = occlude(model, images, layer="conv", **settings)
    for layer, shape in (("last", "1, .*, 5"), ("tokens", "1, .*, 5"), ("pooled", "1, 5")):
        says = rf"layer '{layer}' returns \({shape}\).*give channels="
        with pytest.raises(ValueError, match=says):
            occlude(model, images, layer=layer, **settings)
    for layer in ("last", "tokens"):
        result = occlude(model, images, layer=layer, channels=-1, **settings)
        torch.testing.assert_close(result.activity, maps.activity)
    pooled = occlude(model, images, layer="pooled", channels=1, **settings)
    torch.testing.assert_close(pooled.activity, pooled.probabilities.clamp_min(0))
    with pytest.raises(ValueError, match="the layer returns 2 rows for 1 images"):
        occlude(model, images, layer="windows", channels=1, **settings)
    with pytest.raises(ValueError, match="layer 'both' is a tuple with 2 tensors"):
        occlude(model, images, layer="both", **settings)
    for channels in (0, 4, -4):
        with pytest.raises(ValueError, match=f"channels {channels}"):
            occlude(model, images, layer="conv", channels=channels, **settings)


def test_swin_layers_are_channels_last():
    model, image = torchvision.models.swin_t(), torch.randn(1, 3, 32, 32)
    settings = {"patch": 32, "stride": 1}
    with pytest.raises(ValueError, match=r"'features.1' returns \(1, 8, 8, 96\)"):
        occlude(model, image, layer="features.1", **settings)
    result = occlude(model, image, layer="features.1", channels=-1, **settings)
    assert result.activity.shape == (1, 1, 1, 96)


# --- in two parts ---


class Parted(nn.Module):
    """Parts named as in torchvision's networks, joined by `join`; counts their batches."""

    def __init__(self, join=lambda x: x.flatten(1)):
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        self.avgpool = nn.AdaptiveAvgPool2d(2)
        self.classifier = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 5))
        self.join = join

    def forward(self, x):
        return self.classifier(self.join(self.avgpool(self.features(x))))


@pytest.fixture
def full_batches(monkeypatch):
    """Numbers of images in the calls of the first full layer of a `Parted`."""
    sizes, forward = [], nn.Linear.forward

    def counting(self, x):
        if self.in_features == 16:
            sizes.append(len(x))
        return forward(self, x)

    monkeypatch.setattr(nn.Linear, "forward", counting)
    return sizes


@torch.no_grad()
@pytest.mark.parametrize("layer", [None, "features.1", "classifier.1"])
def test_known_networks_run_their_full_layers_in_large_batches(full_batches, layer):
    model, channels = Parted(), 1 if layer == "classifier.1" else None
    settings = {"layer": layer, "channels": channels, "batch": 4}
    result = occlude(model, PICTURES, patch=1, stride=1, **settings)
    if layer == "classifier.1":  # its sums come batch by batch
        assert max(full_batches) == 4
    else:
        # one to count the layer's calls, two trials; clean and covered images
        assert full_batches == [1] * (layer is not None) + [1, 2, 2 + 64 * 2]
    expected, _ = plain_loop(model.eval(), PICTURES, 1, 1)
    torch.testing.assert_close(result.probabilities, expected)
    if layer == "features.1":
        result = result.activity[:, 3, 2]
        x = PICTURES.clone()
        x[..., 3, 2] = 0
        torch.testing.assert_close(result, model.features(x).sum((2, 3)))


@torch.no_grad()
@pytest.mark.parametrize(
    "join", [lambda x: x.flatten(1) ** 2, lambda x: x.transpose(1, 2).flatten(1)]
)
def test_networks_that_join_their_parts_otherwise_run_whole(full_batches, join):
    model = Parted(join)
    result = occlude(model, PICTURES, patch=1, stride=1, batch=4)
    assert max(full_batches) == 4
    expected, _ = plain_loop(model.eval(), PICTURES, 1, 1)
    torch.testing.assert_close(result.probabilities, expected)


@pytest.mark.parametrize("name", ["alexnet", "mobilenet_v3_small", "densenet121"])
def test_torchvisions_networks_in_either_way(monkeypatch, name):
    torch.manual_seed(0)
    model, image = getattr(torchvision.models, name)(num_classes=7), torch.randn(1, 3, 64, 64)
    settings = {"patch": 32, "stride": 32, "scores": "none"}
    result = occlude(model, image, **settings)
    monkeypatch.setattr(occlusion, "_parts", lambda model: None)
    whole = occlude(model, image, **settings)
    torch.testing.assert_close(result.probabilities, whole.probabilities)


def test_a_softmax_behind_the_classifier_is_seen_in_parts_too():
    model = Parted()
    model.classifier.append(nn.Softmax(1))
    with pytest.raises(ValueError, match="probabilities that sum to 1"):
        occlude(model, PICTURES, **SMALL)
