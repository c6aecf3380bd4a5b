"""The deconvnet chapter: its study on a made-up data set, its claims, the way up and down."""

import pytest
import torch

from book.deconvnet import claims, figures
from tests import datasets
from tests.networks import relative, small
from zfrepro import deconvnet
from zfrepro import measure as studies
from zfrepro.deconvnet import Units
from zfrepro.networks import krizhevsky, zfnet
from zfrepro.stats import correlation

BACKPROPAGATION, RESEMBLES = claims.CLAIMS


def test_correlation_by_hand():
    a = torch.tensor([0.0, 1, 2, 3]).expand(1, 3, 2, 4)
    assert correlation(a, 5 * a + 7).item() == pytest.approx(1)
    assert correlation(a, -a).item() == pytest.approx(-1)
    assert correlation(a, torch.ones_like(a)).isnan()


def test_the_study_runs_and_is_judged(tmp_path):
    record = studies.measure("deconvnet", datasets.study(), tmp_path, say=lambda *_, **__: None)
    assert record["untrained"] != record["resemblance"]
    assert set(record["untrained"]) == set(record["resemblance"]) == set(claims.LAYERS)
    assert record["relation"]["conv1"]["gradient_cosine"][0] == pytest.approx(1)
    assert BACKPROPAGATION.judge(record).outcome == "agrees"


def test_the_control_is_judged_on_untrained_networks():
    leads = {layer: {"lead": [-1.0] * 3} for layer in claims.DEEP}
    assert RESEMBLES.outcome(RESEMBLES.untrained({"untrained": leads})) == "contradicts"


@pytest.mark.parametrize("make", [zfnet, krizhevsky])
def test_levels_lead_from_the_image_to_the_unit_and_back(make):
    network = small(make(), 96)
    image = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    levels = figures.levels(network, image, "conv3")
    assert list(levels) == ["image", "layer 1", "pooled 1", "layer 2", "pooled 2", "layer 3"]
    assert all(up.shape == down.shape for up, down in levels.values())
    units = deconvnet.strongest(network.output("conv3")(image))
    whole = deconvnet.project(network, image, "conv3", units)
    assert relative(levels["image"][1], whole[0]) < 1e-6
    assert levels["layer 3"][1].count_nonzero() == 1
    chosen = Units(*(torch.tensor([place]) for place in (2, 1, 1)))
    _, only = figures.levels(network, image, "conv3", chosen)["layer 3"]
    assert only.count_nonzero() <= 1 and only[2, 1, 1] == only.sum()
    with pytest.raises(ValueError, match="conv3: map 5000"):
        figures.levels(network, image, "conv3", Units(torch.tensor([5000]), *[chosen.rows] * 2))
