"""What the page on the diorama compares and shows."""

import matplotlib.pyplot as plt
import torch

import diorama
from book.synthetic import figures


def test_photographs_are_square_colour_and_not_alike():
    pictures = figures.photographs(64)
    assert pictures.shape == (6, 3, 64, 64)
    assert 0 <= pictures.min() and 100 < pictures.max() <= 255
    assert torch.corrcoef(pictures.flatten(1)).fill_diagonal_(0).max() < 0.8


def test_truth_names_the_parts_that_are_seen():
    drawing = diorama.draw([162, 0], size=64)
    figure = figures.truth(drawing)
    shown = [{text.get_text() for text in ax.get_legend().get_texts()} for ax in figure.axes[2::3]]
    seen = [{diorama.PART_NAMES[n] for n in parts.unique() if n} for parts in drawing.parts]
    assert shown == seen
    assert not plt.get_fignums()
