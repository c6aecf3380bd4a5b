"""Spectra, dead filters, aliasing and shifts on hand-made filters; effects of a factorial; the chapter's verdicts."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from tests.networks import relative, small
from tests.worlds import stripes, tiny
from zfrepro import crops, deconvnet, factorial, filters, studies
from zfrepro.backward_rules import project
from zfrepro.deconvnet import Units
from zfrepro.layers import blur_down
from zfrepro.networks import STEMS, architecture, build
from zfrepro.receptive_field import measured, stage
from zfrepro.studies import Study
from zfrepro.studies import architecture as study_of
from zfrepro.weights import Trained

BLURRED = "7s4-blur-5s1"


def gabor(size: int, down: float, right: float, width: float) -> torch.Tensor:
    """(1, 3, size, size), grey."""
    at = torch.arange(size) - (size - 1) / 2
    y, x = at[:, None], at[None]
    wave = torch.cos(2 * math.pi * (down * y + right * x)) * torch.exp(-(y**2 + x**2) / (2 * width**2))
    return wave.expand(1, 3, -1, -1)


def one_layer(weight: torch.Tensor, name: str = "11s4-5s1", bias: float = 0.0):
    """A narrow network whose first layer has these filters, (C, 3, k, k)."""
    network = build(architecture(name, width=0.0625, units=16).with_maps(len(weight), 8, 8, 8, 8), 96, 2).eval()
    network.convs["conv1"].weight = nn.Parameter(weight.clone())
    nn.init.constant_(network.convs["conv1"].bias, bias)
    return network


# --- filters ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("down", "right"), [(0.0, 0.25), (0.2, 0.0), (0.15, 0.2)])
def test_a_gabor_has_the_centroid_and_bandwidth_it_was_made_with(down, right):
    width = 5.0
    centre, spread = filters.centroid_and_bandwidth(gabor(41, down, right, width))
    assert centre.item() == pytest.approx(math.hypot(down, right), abs=0.004)
    # the power of a Gaussian window of width w is Gaussian with 1 / (2 sqrt(2) pi w) on each axis
    assert spread.item() == pytest.approx(1 / (2 * math.sqrt(2) * math.pi * width), rel=0.05)


def test_the_spectrum_holds_all_power():
    weight = torch.randn(4, 3, 7, 7)
    assert torch.allclose(filters.spectrum(weight, 32).sum((1, 2)) / 32**2, weight.square().sum((1, 2, 3)), rtol=1e-4)
    with pytest.raises(ValueError, match="cannot hold"):
        filters.spectrum(weight, 6)


def test_power_beyond_a_nyquist_limit_is_on_the_right_side_of_it():
    low, high = gabor(41, 0, 0.1, 6), gabor(41, 0.1, 0.2, 6)
    assert filters.beyond(low, 4).item() < 0.05 and filters.beyond(high, 4).item() > 0.95
    assert filters.beyond(high, 2).item() < 0.05


def test_dead_filters_are_found_and_live_ones_left():
    draw = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 3, 7, 7, generator=draw)
    weight = torch.cat([gabor(7, 0, 0.2, 2)] * 4 + [noise])
    found = filters.dead(weight, torch.tensor([5.0, 0.0, 0.2, 5.0, 5.0]))
    assert found.silent.tolist() == [False, True, False, False, False]
    assert found.faint.tolist() == [False, True, True, False, False]
    assert found.noise.tolist() == [False, False, False, False, True]
    assert found.any.tolist() == [False, True, True, False, True]


def test_nearly_all_noise_counts_as_noise():
    shape = (3, 11, 11)
    weight = torch.randn(1000, *shape, generator=torch.Generator().manual_seed(1))
    share = (filters.flatness(weight) >= filters.noise_flatness(shape)).float().mean().item()
    assert share == pytest.approx(filters.NOISE_SHARE, abs=0.01)


# --- aliasing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cycles", "stride", "share"), [(3, 4, 0), (5, 4, 1), (7, 2, 0), (9, 2, 1), (15, 1, 0)])
def test_a_grating_aliases_fully_or_not_at_all(cycles, stride, share):
    maps = filters.grating(32, 0, cycles / 32)[:1]
    lost, total = filters.energies(maps, [stride], window=False)
    assert (lost[stride] / total).item() == pytest.approx(share, abs=1e-4)


def test_energy_is_that_of_the_map_and_the_mean_has_none():
    maps = torch.randn(2, 3, 20, 22)
    _, total = filters.energies(maps + 7, [2], window=False)
    spread = maps.sub(maps.mean((2, 3), keepdim=True)).square().sum((2, 3))
    assert torch.allclose(total / (20 * 22), spread, rtol=1e-3)


@pytest.mark.parametrize("window", [True, False])
def test_a_low_passed_map_aliases_nothing(window):
    noise = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    spectrum = torch.fft.rfft2(noise)
    low = torch.fft.irfft2(spectrum * ~filters.outside(64, 64, 5), s=(64, 64))
    lost, total = filters.energies(low, [4], window=window)
    assert (lost[4] / total).item() < 1e-3


def test_sampling_gives_the_folded_frequency():
    for cycles in range(1, 32):
        sampled = filters.grating(64, 0, cycles / 64)[0, 0, ::4]  # 16 places
        peak = torch.fft.rfft(sampled).abs().argmax().item() / 64  # per pixel
        assert filters.folded(cycles / 64, 4) == pytest.approx(peak)


def test_rectified_filters_alias_what_is_beyond_and_little_of_what_is_well_below():
    network = one_layer(gabor(11, 0, 0.15, 3), bias=200.0)  # so large a bias that nothing is rectified
    found = filters.response_to_gratings(network, size=32)
    assert found["aliased 4"][0, 5].item() == pytest.approx(1, abs=1e-3)  # 5/32 is above 1/8
    assert found["aliased 2"][0, 5].item() == pytest.approx(0, abs=1e-3)
    assert found["aliased 4"][0, 3].item() == pytest.approx(0, abs=1e-3)
    assert found["energy"][0, 5] > found["energy"][5, 0]  # the filter is for vertical stripes
    rectified = filters.response_to_gratings(one_layer(gabor(11, 0, 0.15, 3)), size=32)
    assert 0.01 < rectified["aliased 4"][0, 3] < 0.5  # a ReLU adds harmonics


@pytest.mark.parametrize("name", ["11s4-5s1", "7s2-5s2", BLURRED])
def test_the_dense_map_holds_what_the_network_has(name):
    network = small(STEMS[name])
    images = torch.randn(2, 3, 96, 96)
    every, step = filters.dense(network, images), filters.stride_of(network)
    layer = network.features(images, ["conv1"])["conv1"]
    if network.architecture.convs[0].blur:
        layer = blur_down(layer)[:, :, 1:]  # its first row reaches beyond the image
        layer = layer[..., 1:]
        every = every[..., network.architecture.convs[0].stride :, network.architecture.convs[0].stride :]
    mine = every[..., ::step, ::step]
    rows, columns = min(mine.shape[2], layer.shape[2]) - 1, min(mine.shape[3], layer.shape[3]) - 1
    assert rows > 10 and relative(mine[:, :, :rows, :columns], layer[:, :, :rows, :columns]) < 1e-5


def test_images_of_high_frequency_alias_more():
    network = one_layer(torch.cat([gabor(11, 0, 0.06, 4), gabor(11, 0, 0.3, 4)]))
    pictures = torch.stack([filters.grating(96, 0, f) for f in (0.05, 0.3)])
    shares = filters.aliased(network, pictures)
    assert shares[4][0] < 0.1 < 0.9 < shares[4][1]
    assert (shares[2] <= shares[4] + 1e-6).all()


# --- shifts ----------------------------------------------------------------------------------------------------------


def test_maps_without_alias_can_be_moved_along_and_others_cannot():
    at = torch.arange(200.0)

    def sampled(cycles: float, shift: float, stride: int = 4) -> torch.Tensor:
        # cosines on both axes, even around the middle of the first place, as the mirrored border wants them
        wave = torch.cos(2 * math.pi * cycles * (at[::stride] + shift)) + 0.3 * torch.cos(0.1 * (at[::stride] + shift))
        return (wave[:, None] * wave)[None, None]

    for cycles, least, most in ((0.05, 0.98, 1.001), (0.21, -1, 0.9)):
        before, after = sampled(cycles, 0), sampled(cycles, 1)
        along = filters.moved(before, 1 / 4, 1 / 4)
        inner = slice(8, -8)
        found = filters.consistency(along[..., inner, inner], after[..., inner, inner]).item()
        assert least < found < most


def test_moving_by_whole_places_is_a_shift():
    maps = torch.randn(2, 3, 9, 10)
    assert torch.allclose(filters.moved(maps, 1, 0)[..., :-1, :], maps[..., 1:, :], atol=1e-5)
    assert torch.allclose(filters.moved(maps, 0, 2)[..., :-2], maps[..., 2:], atol=1e-5)


def test_consistency_is_a_correlation():
    maps = torch.randn(3, 2, 5, 5)
    assert torch.allclose(filters.consistency(maps, 3 * maps + 1), torch.ones(3), atol=1e-5)
    assert torch.allclose(filters.consistency(maps, -maps), -torch.ones(3), atol=1e-5)


# --- anti-aliasing ---------------------------------------------------------------------------------------------------


def test_blur_down_by_hand():
    x = torch.zeros(1, 1, 4, 4)
    x[0, 0, 1, 1], x[0, 0, 2, 2] = 16, 32
    # windows have their middles at rows and columns 0, 2 and 4, of which the last overhangs
    assert blur_down(x)[0, 0].tolist() == [[1, 1, 0], [1, 1 + 8, 0], [0, 0, 0]]


def test_blur_down_keeps_a_constant_inside_and_removes_the_highest_frequency():
    assert torch.allclose(blur_down(torch.ones(1, 2, 9, 9))[..., 1:-1, 1:-1], torch.tensor(1.0))
    stripes_ = torch.tensor([1.0, -1.0]).repeat(8).expand(1, 1, 16, 16)
    assert blur_down(stripes_)[..., 1:-1, 1:-1].abs().max() < 1e-6


def test_receptive_field_of_a_blurred_network_is_what_its_gradient_says():
    net = architecture(BLURRED)
    for layer in ("conv1", "conv2"):
        field = stage(net, 96, layer).field
        seen = measured(net.with_maps(2, 2, 2, 2, 2), 96, layer, 5, 4)
        rows, columns = seen.any(1).nonzero().flatten(), seen.any(0).nonzero().flatten()
        assert (rows[0].item(), rows[-1].item() + 1) == field.window(5)
        assert (columns[0].item(), columns[-1].item() + 1) == field.window(4)
    plain = stage(architecture("7s4-5s1"), 96, "pool1")
    assert stage(net, 96, "pool1").field.jump == plain.field.jump == 8


def test_the_deconvnet_refuses_networks_that_blur_and_says_what_to_use():
    network, images = small(STEMS[BLURRED]), torch.randn(1, 3, 96, 96)
    unit = Units(torch.tensor([0]), torch.tensor([3]), torch.tensor([3]))
    for call in (crops.project, deconvnet.project):
        with pytest.raises(ValueError, match="backward_rules"):
            call(network, images, "conv2", unit)
    assert project(lambda x: network.features(x, ["conv2"])["conv2"], images, unit).isfinite().all()


# --- the factorial ---------------------------------------------------------------------------------------------------

FULL = [name for name in STEMS if "blur" not in name]


def made_up(seeds: int = 3, names=FULL, noise: float = 0.5) -> dict[str, list[float]]:
    draw = np.random.default_rng(0)
    return {name: (30 + 5 * draw.standard_normal() + noise * draw.standard_normal(seeds)).tolist() for name in names}


def by_least_squares(cells, columns) -> tuple[np.ndarray, np.ndarray, int]:
    """Coefficients, their standard errors from the seeds' scatter, and its degrees of freedom, as textbooks do it."""
    names = [name for name, values in cells.items() for _ in values]
    y = np.array([v for values in cells.values() for v in values])
    coded = {n: {k: (1 if v else -1) / 2 for k, v in factorial.levels(n).items()} for n in set(names)}
    design = np.array([[1, *(np.prod([coded[n][f] for f in column]) for column in columns)] for n in names])
    found = np.linalg.lstsq(design, y, rcond=None)[0]
    within = sum(((np.array(v) - np.mean(v)) ** 2).sum() for v in cells.values())
    freedom = len(y) - len(cells)
    spread = np.sqrt(np.diag(np.linalg.inv(design.T @ design)) * within / freedom)
    return found[1:], spread[1:], freedom


def test_effects_and_interactions_are_those_of_least_squares():
    cells = made_up()
    mains = [(name,) for name in factorial.FACTORS]
    columns = [*mains, ("kernel", "stride"), ("stride", "width")]
    values, errors, freedom = by_least_squares(cells, columns)
    found = [factorial.effect(cells, name) for (name,) in mains]
    found += [factorial.interaction(cells, *pair) for pair in columns[len(mains) :]]
    reach = 2.0369  # of Student's t with 32 degrees of freedom, from tables
    assert freedom == 32
    for e, value, error in zip(found, values, errors, strict=True):
        assert e.value == pytest.approx(value, abs=1e-9)
        assert e.high - e.value == pytest.approx(reach * error, rel=1e-3)
        assert e.value - e.low == pytest.approx(e.high - e.value)


def test_effects_by_hand_where_networks_are_missing():
    cells = {"11s4-5s1": [40.0, 42.0], "7s4-5s1": [38.0, 38.0], "7s2-5s2": [30.0, 30.0], "7s2-5s1": [33.0, 33.0]}
    kernel = factorial.effect(cells, "kernel")
    assert (kernel.value, kernel.pairs, kernel.freedom) == (-3.0, 1, 4)
    assert kernel.high - kernel.value == pytest.approx(2.776 * math.sqrt(0.5 * (1 / 2 + 1 / 2)), rel=1e-3)
    assert factorial.effect(cells, "stride").value == -5.0
    assert factorial.effect(cells, "stride2").value == -3.0
    assert factorial.effect(cells, "width") is None and factorial.interaction(cells, "stride", "width") is None


def test_one_seed_gives_no_interval_and_says_so():
    found = factorial.effect({"11s4-5s1": [40.0], "7s4-5s1": [38.0]}, "kernel")
    assert math.isnan(found.low) and not found.below and found.told == "-2.00 (one seed)"


def test_blur_is_compared_with_stride_4_and_stride_with_what_has_no_blur():
    cells = {name: [float(i)] for i, name in enumerate(STEMS)}
    assert factorial.matched(cells, "blur") == [("11s4-5s1", "11s4-blur-5s1"), ("7s4-5s1", "7s4-blur-5s1")]
    assert not any("blur" in name for pair in factorial.matched(cells, "stride") for name in pair)
    assert len(factorial.matched(cells, "stride")) == 8
    assert factorial.effect(cells, "stride", stride2=False, width=False).pairs == 2


def test_a_line_in_computation_and_the_distance_from_it():
    costs = {name: 2 ** (10 + i) for i, name in enumerate(FULL)}
    cells = {name: [50.0 - 2 * i + 0.1 * (-1) ** i] for i, name in enumerate(FULL)}
    line = factorial.cost_line(cells, costs)
    assert line.slope == pytest.approx(-2, abs=0.01) and line.explained > 0.999
    assert line.at(2**10) == pytest.approx(50, abs=0.1)
    cells[factorial.FIXED] = [cells[factorial.FIXED][0] - 7]
    found = factorial.beyond_cost(cells, costs)
    assert found.value == pytest.approx(-7, abs=0.2) and found.below and found.pairs == 15
    assert factorial.beyond_cost(dict(list(cells.items())[:3]), costs) is None
    with pytest.raises(ValueError, match="three or more"):
        factorial.cost_line(dict(list(cells.items())[:2]), costs)


def test_rank_correlations_agree_with_scipy_and_a_third_number_can_be_held_fixed():
    from scipy import stats

    draw = np.random.default_rng(1)
    cost = draw.standard_normal(40)
    x, y = cost + 0.3 * draw.standard_normal(40), cost + 0.3 * draw.standard_normal(40)
    value, low, high = factorial.rank_correlation(x, y)
    assert value == pytest.approx(stats.spearmanr(x, y).statistic) and 0 < low < value < high
    r = {(a, b): stats.spearmanr(*pair).statistic for (a, b), pair in
         {("x", "y"): (x, y), ("x", "c"): (x, cost), ("y", "c"): (y, cost)}.items()}  # fmt: skip
    textbook = (r["x", "y"] - r["x", "c"] * r["y", "c"]) / math.sqrt((1 - r["x", "c"] ** 2) * (1 - r["y", "c"] ** 2))
    rest = factorial.rank_correlation(x, y, cost)
    assert rest[0] == pytest.approx(textbook) and rest[1] < 0 < rest[2]
    assert math.isnan(factorial.rank_correlation([1, 1, 1], [1, 2, 3])[0])
