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
    found, again = (
        studies.measure("deconvnet", study, tmp_path, say=lambda text, **_: lines.append(text))
        for _ in range(2)
    )
    assert again == found and lines[-1].endswith("kept from before")
    assert found["untrained"] != found["resemblance"]
    assert set(found["untrained"]) == set(found["resemblance"]) == set(claims.LAYERS)
    assert found["relation"]["conv1"]["gradient_cosine"][0] == pytest.approx(1)
    assert BACKPROPAGATION.judge(found).outcome == "agrees"


def record(gap: float = 1e-6, cosine: float = 0.5, last: float = 1, control: float = -1) -> dict:
    relation = {"rule_gap": gap, "gradient_cosine": [cosine] * 3}
    leads = dict.fromkeys(claims.DEEP, 1) | {"conv5": last}
    return {
        "relation": dict.fromkeys(claims.LAYERS, relation),
        "resemblance": {layer: {"lead": [v, v - 0.5, v + 0.5]} for layer, v in leads.items()},
        "untrained": dict.fromkeys(claims.DEEP, {"lead": [control] * 3}),
    }


@pytest.mark.parametrize(
    ("claim", "found", "outcome"),
    [
        (BACKPROPAGATION, record(), "agrees"),
        (BACKPROPAGATION, record(gap=1e-3), "contradicts"),
        (BACKPROPAGATION, record(cosine=1.0), "contradicts"),
        (RESEMBLES, record(), "agrees"),
        (RESEMBLES, record(last=0), "not resolved"),
        (RESEMBLES, record(last=-1), "contradicts"),
        (RESEMBLES, RESEMBLES.untrained(record(control=-1)), "contradicts"),
        (RESEMBLES, RESEMBLES.untrained(record(control=1)), "agrees"),
    ],
)
def test_every_outcome_of_every_claim_occurs(claim, found, outcome):
    assert claim.outcome(found) == outcome


@pytest.mark.parametrize("make", [zfnet, krizhevsky])
def test_levels_lead_from_the_image_to_the_unit_and_back(make):
    network = small(make(), 96)
    image = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    found = figures.levels(network, image, "conv3")
    assert list(found) == ["image", "layer 1", "pooled 1", "layer 2", "pooled 2", "layer 3"]
    assert all(up.shape == down.shape for up, down in found.values())
    units = deconvnet.strongest(network.output("conv3")(image))
    whole = deconvnet.project(network, image, "conv3", units)
    assert relative(found["image"][1], whole[0]) < 1e-6
    assert found["layer 3"][1].count_nonzero() == 1
    chosen = Units(*(torch.tensor([place]) for place in (2, 1, 1)))
    _, only = figures.levels(network, image, "conv3", chosen)["layer 3"]
    assert only.count_nonzero() <= 1 and only[2, 1, 1] == only.sum()
    with pytest.raises(ValueError, match="conv3: map 5000"):
        figures.levels(network, image, "conv3", Units(torch.tensor([5000]), *[chosen.rows] * 2))


@pytest.mark.parametrize("layer", ["conv1", "conv5"])
def test_the_way_up_and_down_is_drawn_from_any_layer(study, layer):
    figure = figures.up_and_down(study.trained, study.dataset.val.images[0], layer)
    titles = [ax.get_title() for ax in figure.axes]
    columns = len(titles) // 2
    assert titles[0] == "image" and titles[columns] == "projection" and titles[-1] == "one unit"
    assert titles[columns - 1] == f"layer {layer[-1]}"


def test_the_explorer_has_a_picture_of_each_layer_and_image(study):
    shown = figures.explorer(study.trained, study.dataset.val.images[:2]).data
    data = json.loads(re.search(r'json">(.*?)</script>', shown, re.S).group(1))
    assert [len(axis["labels"]) for axis in data["axes"]] == [2, 5] and len(data["notes"]) == 10
    assert data["notes"][5].startswith("conv1, map ") and ": 7 px" in data["notes"][5]
