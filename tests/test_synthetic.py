"""What the page on the diorama compares and shows."""

import matplotlib.pyplot as plt
import pytest
import torch

import diorama
from book.synthetic import figures
from book.synthetic.spectrum import power_slope


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


def noise(slope: float, count: int = 64, side: int = 96) -> torch.Tensor:
    """Pictures whose power falls as frequency to the power `slope`."""
    white = torch.randn(count, 1, side, side, generator=torch.Generator().manual_seed(0))
    frequency = torch.fft.fftfreq(side)
    radius = (frequency[:, None] ** 2 + frequency**2).sqrt().clamp_min(1 / side)
    grey = torch.fft.ifft2(torch.fft.fft2(white) * radius ** (slope / 2)).real
    return grey.expand(-1, 3, -1, -1)


@pytest.mark.parametrize("slope", [0.0, -2.0, -3.0])
def test_the_slope_of_noise_is_the_one_it_was_made_with(slope):
    assert power_slope(noise(slope)) == pytest.approx(slope, abs=0.08)


def test_the_fit_can_be_cut_at_a_frequency():
    bent = noise(-2.0) + noise(0.0) * 1e-1
    assert power_slope(noise(-2.0), highest=12) == pytest.approx(-2, abs=0.2)
    assert power_slope(bent, highest=8) < power_slope(bent)
