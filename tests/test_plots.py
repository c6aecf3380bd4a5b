"""What the figures show, as far as it can be counted."""

import matplotlib.pyplot as plt
import pytest
import torch

from zfrepro import plots
from zfrepro.networks import ARCHITECTURES, krizhevsky, zfnet


def texts(figure) -> list[str]:
    return [t.get_text() for ax in figure.axes for t in ax.texts]


def test_drawing_states_sizes_and_the_order_of_the_norm():
    ours, old = texts(plots.network(zfnet())), texts(plots.network(krizhevsky()))
    assert [t for t in ours if t.startswith("layer")] == [f"layer {n}" for n in range(1, 9)]
    first = "7x7 filters, stride 2\n96 maps of 110x110\n3x3 max-pool, stride 2\n96 maps of 55x55\ncontrast norm"
    assert first in ours
    assert "11x11 filters, stride 4\n96 maps of 55x55\ncontrast norm\n3x3 max-pool, stride 2\n96 maps of 27x27" in old


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_can_be_drawn_and_leaves_no_open_figure(name):
    figure = plots.network(ARCHITECTURES[name], 96, 20)
    count = len(ARCHITECTURES[name].convs) + len(ARCHITECTURES[name].fulls) + 2
    assert len(texts(figure)) == 2 * count and "20 classes\nall to all\nsoftmax" in texts(figure)
    assert not plt.get_fignums()


def test_receptive_fields_are_labelled_with_their_sides():
    figure = plots.receptive_fields(zfnet(), torch.zeros(3, 224, 224, dtype=torch.uint8), ["conv1", "conv2", "conv5"])
    assert texts(figure) == ["conv1 7", "conv2 27", "conv5 139"]
    first = figure.axes[0].patches[0]
    assert (first.get_x(), first.get_width()) == (109.5, 7)


def test_table_escapes_words_and_writes_numbers():
    page = plots.table([{"a & b": "<x>", "n": 1234567, "e": 38.44}, {"a & b": "y", "n": None, "e": "0.012"}]).data
    assert "<th>a &amp; b</th>" in page and "<td>&lt;x&gt;</td>" in page
    right = [f'<td class="text-end">{t}</td>' for t in ("1,234,567", "38.4", "–", "0.012")]
    assert all(cell in page for cell in right)
