"""The chapter on the network: its measurements and its figures."""

import matplotlib.pyplot as plt
import pytest
import torch

from book.network import claims, figures, measure
from tests.networks import small
from zfrepro.networks import ARCHITECTURES


def test_geometry_is_the_papers():
    record = {"geometry": measure.geometry(), "measured_fields": measure.measured_fields()}
    assert [claim.judge(record).outcome for claim in claims.CLAIMS] == ["agrees", "agrees"]


@pytest.mark.parametrize(
    ("name", "station"),
    [
        ("zfnet", "7x7\nstride 2\n96 maps\n46x46\npool 23x23\nnorm"),
        ("krizhevsky", "11x11\nstride 4\n96 maps\n23x23\nnorm\npool 11x11"),
        ("krizhevsky-without-3-4-6-7", "3x3\n256 maps\n5x5\npool 2x2"),
    ],
)
def test_every_kind_of_architecture_can_be_drawn_and_leaves_no_open_figure(name, station):
    architecture, size = ARCHITECTURES[name], 96
    network = small(architecture, size)
    with torch.no_grad():
        maps = network.features(torch.randn(1, 3, size, size), network.layers)
    features = {layer: outputs[0].relu() for layer, outputs in maps.items()}
    picture = torch.zeros(3, size, size, dtype=torch.uint8)
    chances = {"cat": 0.75, "dog": 0.25}
    figure = figures.strip(architecture, picture, features, chances, classes=20)
    shown = [text.get_text() for ax in figure.axes for text in ax.texts]
    layers = len(architecture.convs) + len(architecture.fulls) + 1
    assert sum(text.startswith("layer") for text in shown) == layers
    assert {"softmax over\n20 classes", "cat", "0.75"} <= set(shown)
    assert station in shown and not plt.get_fignums()
