"""The deconvnet chapter: its study on a made-up data set, its claims, the way up and down."""

import json
import re

import pytest
import torch

from book.deconvnet import claims, figures
from book.deconvnet import measure as study_module
from tests import datasets
from tests.networks import relative, small
from zfrepro import deconvnet
from zfrepro import measure as studies
from zfrepro.deconvnet import Units
from zfrepro.networks import krizhevsky, zfnet

BACKPROPAGATION, RESEMBLES = claims.CLAIMS


@pytest.fixture(scope="module")
def study():
    return datasets.study()


def test_correlation_by_hand():
    a = torch.tensor([0.0, 1, 2, 3]).expand(1, 3, 2, 4)
    assert study_module.correlation(a, 5 * a + 7).item() == pytest.approx(1)
    assert study_module.correlation(a, -a).item() == pytest.approx(-1)


def test_the_study_runs_continues_and_is_judged(study, tmp_path):
    lines = []
    found = studies.measure("deconvnet", study, tmp_path, say=lambda text, **_: lines.append(text))
    again = studies.measure("deconvnet", study, tmp_path, say=lambda text, **_: lines.append(text))
    assert again == found and lines[-1].endswith("kept from before")
    assert found["untrained"] != found["resemblance"]
    assert set(found["untrained"]) == set(found["resemblance"]) == set(claims.LAYERS)
    assert max(own["rule_gap"] for own in found["relation"].values()) < 1e-4
    assert found["relation"]["conv1"]["gradient_cosine"][0] == pytest.approx(1)
    assert BACKPROPAGATION.judge(found).outcome == "agrees"


def record(gap: float = 1e-6, cosine: float = 0.5, leads=(1, 1, 1, 1), control: float = -1) -> dict:
    layers = zip(claims.DEEP, leads, strict=True)
    return {
        "relation": {
            layer: {"rule_gap": gap, "gradient_cosine": [cosine] * 3} for layer in claims.LAYERS
        },
        "resemblance": {layer: {"lead": [v, v - 0.5, v + 0.5]} for layer, v in layers},
        "untrained": {layer: {"lead": [control] * 3} for layer in claims.DEEP},
    }


def test_the_relation_to_backpropagation_is_a_check_of_the_instrument():
    assert BACKPROPAGATION.source == "instrument"
    for changed, outcome in ((record(), "agrees"), (record(gap=1e-3), "contradicts"),
                             (record(cosine=1.0), "contradicts")):  # fmt: skip
        assert BACKPROPAGATION.judge(changed).outcome == outcome


@pytest.mark.parametrize(
    ("leads", "outcome"),
    [((1, 1, 1, 1), "agrees"), ((1, 1, 1, 0), "not resolved"), ((1, 1, 1, -1), "contradicts")],
)
def test_resemblance_must_hold_in_every_layer(leads, outcome):
    assert RESEMBLES.judge(record(leads=leads)).outcome == outcome


@pytest.mark.parametrize(("control", "outcome"), [(-1, "contradicts"), (1, "agrees")])
def test_the_untrained_network_is_judged_by_the_same_rule(control, outcome):
    assert RESEMBLES.outcome(RESEMBLES.untrained(record(control=control))) == outcome


@pytest.mark.parametrize("make", [zfnet, krizhevsky])
def test_levels_lead_from_the_image_to_the_unit_and_back(make):
    network = small(make(), 96)
    image = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    found = figures.levels(network, image, "conv3")
    names = ["image", "layer 1", "pooled 1", "layer 2", "pooled 2", "layer 3"]
    assert list(found) == names
    for up, down in found.values():
        assert up.shape == down.shape
    units = deconvnet.strongest(network.features(image, ["conv3"])["conv3"])
    whole = deconvnet.project(network, image, "conv3", units)
    assert relative(found["image"][1], whole[0]) < 1e-6
    assert found["layer 3"][1].count_nonzero() == 1
    chosen = Units(*(torch.tensor([place]) for place in (2, 1, 1)))
    _, only = figures.levels(network, image, "conv3", chosen)["layer 3"]
    assert only.count_nonzero() <= 1 and only[2, 1, 1] == only.sum()
    with pytest.raises(ValueError, match="conv3: map 5000"):
        figures.levels(network, image, "conv3", Units(torch.tensor([5000]), *[chosen.rows] * 2))


@pytest.mark.parametrize("layer", claims.LAYERS)
def test_the_way_up_and_down_is_drawn_from_any_layer(study, layer):
    trained, split = study.networks["zfnet"], study.dataset.val
    figure = figures.up_and_down(trained, split.images[0], layer)
    titles = [ax.get_title() for ax in figure.axes]
    columns = len(titles) // 2
    assert titles[0] == "image" and titles[columns] == "projection" and titles[-1] == "one unit"
    assert titles[columns - 1] == f"layer {layer[-1]}"


def test_the_explorer_has_a_picture_of_each_layer_and_image(study):
    trained, split = study.networks["zfnet"], study.dataset.val
    shown = figures.explorer(trained, split.images[:2]).data
    data = json.loads(re.search(r'json">(.*?)</script>', shown, re.S).group(1))
    assert [len(axis["labels"]) for axis in data["axes"]] == [2, 5] and len(data["notes"]) == 10
    assert data["notes"][5].startswith("conv1, map ") and ": 7 px" in data["notes"][5]
