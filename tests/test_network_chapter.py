"""The chapter on the network: its measurements, its checks on made-up records, its figures."""

import copy

import matplotlib.pyplot as plt
import pytest
import torch

from book.network import claims, figures, measure
from tests.networks import small
from zfrepro import paper
from zfrepro.networks import ARCHITECTURES, krizhevsky, zfnet


@pytest.fixture(scope="module")
def record() -> dict:
    return {"geometry": measure.geometry(), "measured_fields": measure.measured_fields()}


def outcomes(record: dict) -> list[str]:
    return [claim.judge(record).outcome for claim in claims.CLAIMS]


def test_geometry_is_the_papers(record):
    zfnet = record["geometry"]["zfnet"]
    assert {stage: zfnet["sizes"][stage] for stage in paper.FIG3_SIZES} == paper.FIG3_SIZES
    assert zfnet["fields"] == {"conv1": 7, "conv2": 27, "conv3": 75, "conv4": 107, "conv5": 139}
    assert outcomes(record) == ["agrees", "agrees"]


@pytest.mark.parametrize(
    "path, expected",
    [
        (("geometry", "zfnet", "sizes", "conv1"), ["contradicts", "agrees"]),
        (("geometry", "krizhevsky", "fields", "conv2"), ["agrees", "contradicts"]),
        (("measured_fields", "krizhevsky", "conv4"), ["agrees", "contradicts"]),
    ],
)
def test_one_unit_or_pixel_off_contradicts(record, path, expected):
    wrong = copy.deepcopy(record)
    place = wrong
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] -= 1
    assert outcomes(wrong) == expected


def test_printed_numbers_pass_and_the_checks_are_no_claims_of_the_paper():
    assert {claim.printed_outcome() for claim in claims.CLAIMS} == {"agrees"}
    assert {claim.source for claim in claims.CLAIMS} == {"instrument"}


# --- figures -------------------------------------------------------------------------------------


def texts(figure) -> list[str]:
    return [t.get_text() for ax in figure.axes for t in ax.texts]


def strip(architecture):
    size = 96
    network = small(architecture, size)
    with torch.no_grad():
        features = network.features(torch.randn(1, 3, size, size), network.layers)
    features = {layer: found[0].relu() for layer, found in features.items()}
    picture = torch.zeros(3, size, size, dtype=torch.uint8)
    return figures.strip(architecture, picture, features, {"cat": 0.75, "dog": 0.25}, classes=20)


def test_strip_states_sizes_and_the_order_of_the_norm():
    ours, old = texts(strip(zfnet())), texts(strip(krizhevsky()))
    assert [t for t in ours if t.startswith("layer")] == [f"layer {n}" for n in range(1, 9)]
    assert "7x7\nstride 2\n96 maps\n46x46\npool 23x23\nnorm" in ours
    assert "11x11\nstride 4\n96 maps\n23x23\nnorm\npool 11x11" in old


@pytest.mark.parametrize("name", ["zfnet-wide", "krizhevsky-without-3-4-6-7"])
def test_every_kind_of_architecture_can_be_drawn_and_leaves_no_open_figure(name):
    figure = strip(ARCHITECTURES[name])
    layers = len(ARCHITECTURES[name].convs) + len(ARCHITECTURES[name].fulls) + 1
    assert sum(t.startswith("layer") for t in texts(figure)) == layers
    assert {"softmax over\n20 classes", "cat", "0.75"} <= set(texts(figure))
    assert not plt.get_fignums()


def test_receptive_fields_are_cut_out_and_labelled_with_their_sides():
    image = torch.arange(224 * 224).view(1, 224, 224).expand(3, -1, -1) / 224**2
    figure = figures.receptive_fields(zfnet(), image, ["conv1", "conv2", "conv5"])
    main, *cut = figure.axes
    assert [ax.get_title() for ax in cut] == ["conv1: 7 px", "conv2: 27 px", "conv5: 139 px"]
    first = main.patches[0]
    assert (first.get_x(), first.get_width()) == (109.5, 7)
    shown = torch.as_tensor(cut[0].images[0].get_array()).permute(2, 0, 1)
    assert torch.equal(shown, image[:, 110:117, 110:117])
