"""Spectra, dead filters, aliasing and shifts on hand-made filters; effects of a factorial; the chapter's verdicts."""

import copy
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from book.architecture import claims, factorial, figures, filters, gratings
from book.architecture import factorial_figures as effects
from book.architecture import measure as study_of
from book.architecture.explorer import FilterBench
from tests.networks import relative, small
from tests.worlds import stripes, tiny
from zfrepro import crops, deconvnet, records
from zfrepro import measure as studies
from zfrepro.backward_rules import project
from zfrepro.deconvnet import Units
from zfrepro.layers import blur_down
from zfrepro.measure import Study
from zfrepro.networks import STEMS, architecture, build
from zfrepro.receptive_field import measured, stage
from zfrepro.weights import Trained, save_weights

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
        with pytest.raises(ValueError, match="rules.project"):
            call(network, images, "conv2", unit)
    assert project(lambda x: network.features(x, ["conv2"])["conv2"], images, unit).isfinite().all()


# --- the factorial ---------------------------------------------------------------------------------------------------

FULL = [name for name in STEMS if "blur" not in name]


def made_up(seeds: int = 3, names=FULL, noise: float = 0.5) -> dict[str, dict[int, float]]:
    draw = np.random.default_rng(0)
    luck = draw.standard_normal(seeds)  # of the seeds, which all networks share
    errors = {name: 30 + 5 * draw.standard_normal() + luck + noise * draw.standard_normal(seeds) for name in names}
    return {name: dict(enumerate(values.tolist())) for name, values in errors.items()}


def by_least_squares(cells, columns) -> tuple[np.ndarray, np.ndarray, int]:
    """Coefficients, their standard errors from what network and seed leave, and its degrees of freedom, by textbook."""
    table = np.array([[values[seed] for seed in range(3)] for values in cells.values()])
    coded = [{k: (1 if v else -1) / 2 for k, v in factorial.levels(name).items()} for name in cells]
    design = np.array([[1, *(np.prod([own[f] for f in column]) for column in columns)] for own in coded])
    found = np.linalg.lstsq(design, table.mean(1), rcond=None)[0]
    rest = table - table.mean(1, keepdims=True) - table.mean(0) + table.mean()
    freedom = (len(table) - 1) * 2
    errors = np.sqrt(np.diag(np.linalg.inv(design.T @ design)) / 3 * (rest**2).sum() / freedom)
    return found[1:], errors[1:], freedom


def test_effects_and_interactions_are_those_of_least_squares():
    cells = made_up()
    mains = [(name,) for name in factorial.FACTORS]
    columns = [*mains, ("kernel", "stride"), ("stride", "width")]
    values, errors, freedom = by_least_squares(cells, columns)
    found = [factorial.effect(cells, name) for (name,) in mains]
    found += [factorial.interaction(cells, *pair) for pair in columns[len(mains) :]]
    reach = 2.0423  # of Student's t with 30 degrees of freedom, from tables
    assert freedom == 30
    for e, value, error in zip(found, values, errors, strict=True):
        assert e.value == pytest.approx(value, abs=1e-9)
        assert e.high - e.value == pytest.approx(reach * error, rel=1e-3)
        assert e.value - e.low == pytest.approx(e.high - e.value)


def test_effects_by_hand_where_networks_are_missing():
    cells = {"11s4-5s1": [40.0, 42.0], "7s4-5s1": [38.0, 38.0], "7s2-5s2": [30.0, 30.0], "7s2-5s1": [33.0, 33.0]}
    cells = {name: dict(enumerate(values)) for name, values in cells.items()}
    kernel = factorial.effect(cells, "kernel")
    # From one seed to the other they change by 2, 0, 0 and 0: a variance of 1 for a difference of two, 1/2 for one.
    assert (kernel.value, kernel.pairs, kernel.freedom) == (-3.0, 1, 3)
    assert kernel.high - kernel.value == pytest.approx(3.182 * math.sqrt(0.5 * (1 / 2 + 1 / 2)), rel=1e-3)
    assert factorial.effect(cells, "stride").value == -5.0
    assert factorial.effect(cells, "stride2").value == -3.0
    assert factorial.effect(cells, "width") is None and factorial.interaction(cells, "stride", "width") is None


def test_one_seed_gives_no_interval_and_says_so():
    found = factorial.effect({"11s4-5s1": {0: 40.0}, "7s4-5s1": {0: 38.0}}, "kernel")
    assert math.isnan(found.low) and not found.below and found.told == "-2.00 (one seed)"


def test_blur_is_compared_with_stride_4_and_stride_with_what_has_no_blur():
    cells = {name: {0: float(i)} for i, name in enumerate(STEMS)}
    assert factorial.matched(cells, "blur") == [("11s4-5s1", "11s4-blur-5s1"), ("7s4-5s1", "7s4-blur-5s1")]
    assert not any("blur" in name for pair in factorial.matched(cells, "stride") for name in pair)
    assert len(factorial.matched(cells, "stride")) == 8
    assert factorial.effect(cells, "stride", stride2=False, width=False).pairs == 2


def test_a_line_in_computation_and_the_distance_from_it():
    costs = {name: 2 ** (10 + i) for i, name in enumerate(FULL)}
    cells = {name: {0: 50.0 - 2 * i + 0.1 * (-1) ** i} for i, name in enumerate(FULL)}
    line = factorial.cost_line(cells, costs)
    assert line.slope == pytest.approx(-2, abs=0.01) and line.explained > 0.999
    assert line.at(2**10) == pytest.approx(50, abs=0.1)
    cells[factorial.FIXED] = {0: cells[factorial.FIXED][0] - 7}
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


# --- the study, its claims and figures -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study() -> Study:
    world = stripes(val=12, image_size=96)
    mean = torch.full((3, *world.val.images.shape[2:]), 60.0)
    networks = {
        arch: Trained(small(architecture(arch)).requires_grad_(False), tiny(image_size=96), world.classes, mean)
        for arch in ("zfnet", "krizhevsky")
    }
    return Study(world, networks, torch.device("cpu"), images=8, progress=False)


@pytest.fixture(scope="module")
def record(study, tmp_path_factory):
    return studies.measure("architecture", study, tmp_path_factory.mktemp("scratch"), say=lambda *_, **__: None)


def a_run(arch: str, clip: float = 0.1, **changes) -> dict:
    run = {"arch": arch, "seed": 0, "clip": clip, "largest_rms": 0.1, "median_rms": 0.05, "dead": 0.0,
           "centroids": [0.2, 0.3], "aliased": 10.0, "conv1 moved": 0.9, "conv2 moved": 0.9, "kept": 90.0,
           "top1_error": 30.0, "multiply_adds": 10**6, "command": "train"}  # fmt: skip
    return run | changes


def swept(cells: dict[str, list[float]]) -> dict:
    """The record of a sweep with these errors."""
    runs = [
        {"arch": name, "seed": i, "multiply_adds": 2 ** (10 + j % 8),
         "errors": {"one_crop": {"top1_error": v, "top5_error": v / 4}}}
        for j, (name, values) in enumerate(cells.items()) for i, v in enumerate(values)
    ]  # fmt: skip
    return {"runs": runs}


def verdicts(record: dict, sweep: bool) -> dict[str, str]:
    return {c.name.removeprefix("architecture-"): c.judge(record).verdict for c in claims.CLAIMS if c.sweep == sweep}


def test_the_study_measures_both_networks(study, record):
    for arch in ("zfnet", "krizhevsky"):
        own = record["filters"][arch]
        assert own["stride"] == (2 if arch == "zfnet" else 4)
        count = len(own["rms"])
        assert all(len(own[key]) == count for key in ("centroid", "bandwidth", "strongest"))
        assert set(own["dead"]) == {"silent", "faint", "noise", "any"}
        shares = [record["aliased"][arch][s]["mean"] for s in ("2", "4")]
        assert 0 <= shares[0] <= shares[1] <= 100
        shift = study_of.shifted(study.networks[arch], study.dataset.val.images)
        assert all(len(values) == 12 and (values <= 100).all() for values in shift.values())
    assert record["runs"] == []
    assert figures.decoded(record, "zfnet").shape[0] == 3


def test_runs_are_diagnosed_and_foreign_ones_refused(study, tmp_path, monkeypatch):
    monkeypatch.setenv("ZFREPRO_RESULTS", str(tmp_path / "results"))
    recipe = tiny(arch=BLURRED, image_size=96, clip=0.0)
    network, mean = recipe.network(3), study.networks["zfnet"].mean
    info = {"command": "train", "weights_sha256": "0", "multiply_adds": 5, "errors": {"one_crop": {}}}
    info["errors"]["one_crop"] = {"top1_error": 40.0, "top5_error": 10.0}
    save_weights(tmp_path / "weights.safetensors", network, recipe, study.dataset.classes, mean)
    (tmp_path / "record.json").write_text(json.dumps(info))
    with pytest.raises(ValueError, match="leave it out"):
        study_of.diagnosed(tmp_path, study)
    own = replace(study, dataset=replace(study.dataset, name="diorama"))
    (found,) = study_of.runs(replace(own, runs=(tmp_path,)))
    assert found["arch"] == BLURRED and found["top1_error"] == 40.0
    assert len(found["filters"]) == len(found["centroids"]) == network.convs["conv1"].out_channels
    assert figures.without_clipping({"diorama": {"runs": [found]}}, "diorama").shape[1:] == (3, 7, 7)
    older = {"dataset": {"fingerprint": own.dataset.fingerprint}, "runs": [a_run("zfnet"), found | {"top1_error": 1.0}]}
    (tmp_path / "results" / "architecture").mkdir(parents=True)
    (tmp_path / "results" / "architecture" / "diorama.json").write_text(json.dumps(older))
    both = study_of.runs(replace(own, runs=(tmp_path,)))
    assert [(run["arch"], run["top1_error"]) for run in both] == [("zfnet", 30.0), (BLURRED, 40.0)]


def test_runs_given_again_join_the_record_that_there_is_by_then(study, tmp_path, monkeypatch):
    monkeypatch.setenv("ZFREPRO_RESULTS", str(tmp_path / "results"))
    monkeypatch.setattr(study_of, "diagnosed", lambda run, _: a_run(run.name))
    target, listed = tmp_path / "results" / "architecture" / f"{study.dataset.name}.json", []
    for name in ("first", "second", "first", None):
        (tmp_path / f"{name}").mkdir(exist_ok=True)
        (tmp_path / f"{name}" / "weights.safetensors").write_text(f"{name}")
        own = replace(study, runs=(tmp_path / name,) if name else ())
        found = studies.measure("architecture", own, tmp_path / "scratch", only=["runs"], say=lambda *_, **__: None)
        records.write_json(target, studies.record("architecture", own, found, "measure"))
        listed.append({run["arch"] for run in found["runs"]})
    assert listed == [{"first"}, *[{"first", "second"}] * 3]


def test_verdicts_on_the_pictures_can_fall_either_way(record):
    few, many = [0] * 19 + [1], [1] * 12 + [0] * 8
    centroids = {"few": [0.4] * 19 + [0.2], "many": [0.2] * 12 + [0.4] * 8}  # in the middle
    told = copy.deepcopy(record) | {"runs": [a_run("zfnet"), a_run("zfnet", 0.0, largest_rms=0.5)]}
    told["filters"]["zfnet"] |= {"dead": {"any": few}, "centroid": centroids["many"]}
    told["filters"]["krizhevsky"] |= {"dead": {"any": many}, "centroid": centroids["few"]}
    told["aliased"]["less"] = {"mean": 5.0, "low": 4.0, "high": 6.0, "n": 8}
    for name in ("conv1 moved", "conv2 moved"):
        told["shifts"]["more"][name] = {"mean": 0.1, "low": 0.05, "high": 0.2, "n": 8}
    good = verdicts(told, sweep=False)
    assert set(good.values()) == {"reproduced", "not tested"} and good["predicts"] == "not tested"
    told["filters"]["zfnet"] |= {"dead": {"any": many}, "centroid": centroids["few"]}
    told["filters"]["krizhevsky"] |= {"dead": {"any": few}, "centroid": centroids["many"]}
    told["aliased"]["less"] |= {"low": -1.0}
    told["shifts"]["more"]["conv2 moved"] |= {"mean": -0.1, "low": -0.2}
    told["runs"][1]["largest_rms"] = 0.12
    bad = verdicts(told, sweep=False)
    assert {bad[k] for k in ("dead", "bands", "aliasing", "second-layer")} == {"not reproduced"}
    assert bad["clipping"] == "partly"
    for runs in ([], told["runs"][:1], told["runs"][1:]):
        assert verdicts(told | {"runs": runs}, sweep=False)["clipping"] == "not tested"


@pytest.mark.parametrize(
    ("mean", "low", "verdict"),
    [(0.1, 0.05, "reproduced"), (0.1, -0.05, "partly"), (-0.1, -0.2, "not reproduced")],
)
def test_the_second_layer_is_judged_by_itself(mean, low, verdict):
    for first in (-1.0, 1.0):
        more = {name: {"mean": first, "low": first, "high": first, "n": 8} for name in ("conv1 moved", "conv2 moved")}
        more["conv2 moved"] |= {"mean": mean, "low": low}
        assert claims.second_layer({"shifts": {"more": more | {"kept": {"n": 8}}}}).verdict == verdict


def filters_of(**networks: dict) -> dict:
    """The record of layer 1 of zfnet (7x7) and krizhevsky (11x11)."""
    return {"filters": {arch: {"kernel": 7 if arch == "zfnet" else 11} | own for arch, own in networks.items()}}


def test_low_is_read_by_a_filters_own_size():
    patch = {k: filters.centroid_and_bandwidth(torch.ones(1, 3, k, k))[0].item() for k in (7, 11)}
    assert patch[7] == pytest.approx(0.101, abs=5e-4) and patch[11] == pytest.approx(0.072, abs=5e-4)
    for kernel, flat in patch.items():
        centroids = [flat, 1.1 * flat, 1 / kernel + 0.01, 0.25, 0.26]
        assert filters.middle(centroids, kernel) == [False, True, True, True, False]
        assert filters.middle(centroids, kernel, "cycle") == [False, False, True, True, False]


def test_bands_are_reproduced_only_by_both_readings():
    between = [0.12] * 20  # above a plain patch of 7x7, and less than a cycle across it
    found = {
        name: claims.bands(filters_of(zfnet={"centroid": ours}, krizhevsky={"centroid": his}))
        for name, ours, his in (
            ("both", [0.2] * 20, [0.3] * 20),
            ("one", between, [0.3] * 20),
            ("half", [0.2] * 20, [0.2] * 10 + [0.3] * 10),
            ("none", between, [0.2] * 20),
        )
    }
    verdicts = {name: finding.verdict for name, finding in found.items()}
    assert verdicts == {"both": "reproduced", "one": "partly", "half": "partly", "none": "not reproduced"}
    assert "ours +100" in found["one"].numbers and "ours +0" in found["one"].numbers


def test_shares_differ_by_newcombes_interval():
    # Newcombe (1998), table II, cases (a) and (g), method 10: 56/70 - 48/80 and 0/10 - 0/10
    found = claims.share_difference([1] * 56 + [0] * 14, [1] * 48 + [0] * 32)
    assert found == pytest.approx((20, 5.24, 33.39), abs=0.01)
    assert claims.share_difference([0] * 10, [0] * 10) == pytest.approx((0, -27.75, 27.75), abs=0.01)


def test_no_dead_filter_at_all_is_said_and_leaves_room():
    none, some = {"dead": {"any": [0] * 48}}, {"dead": {"any": [1] + [0] * 47}}
    found = claims.dead(filters_of(zfnet=none, krizhevsky=none))
    assert found.verdict == "not reproduced"
    assert "no dead filter in either" in found.numbers and "(-7.4 to +7.4)" in found.numbers
    assert claims.dead(filters_of(zfnet=none, krizhevsky=some)).verdict == "partly"


@pytest.mark.parametrize(("gain", "verdict"), [(-9.0, "reproduced"), (-1.0, "partly"), (1.0, "not reproduced")])
def test_a_distance_from_the_line_within_its_interval_is_partly(gain, verdict):
    names = list(STEMS)
    cells = {name: [40 + (-1.0) ** i] for i, name in enumerate(names)}
    cells[factorial.FIXED] = [40.0 + gain]
    assert claims.computation(swept(cells)).verdict == verdict


def test_the_diagnosis_predicts_if_it_does_beyond_computation():
    names, draw = list(STEMS), np.random.default_rng(0)
    runs = [a_run(n, aliased=float(i), top1_error=i + 0.1 * draw.standard_normal(),
                  multiply_adds=int(draw.integers(1, 99))) for i, n in enumerate(names)]  # fmt: skip
    assert claims.predicts({"runs": runs}).verdict == "reproduced"
    shuffled = [run | {"top1_error": float(v)} for run, v in zip(runs, draw.permutation(len(runs)), strict=True)]
    assert claims.predicts({"runs": shuffled}).verdict == "not reproduced"


@pytest.mark.parametrize("gain", [-6.0, 6.0])
def test_verdicts_on_the_factorial_follow_the_errors(gain):
    draw = np.random.default_rng(0)
    cells = {}
    for name in STEMS:
        own = factorial.levels(name)
        mean = 50 + gain * (own["kernel"] + own["stride"] + own["blur"]) + 0.1 * own["stride2"]
        cells[name] = (mean + 0.2 * draw.standard_normal(3)).tolist()
    found = verdicts(swept(cells), sweep=True)
    expected = "reproduced" if gain < 0 else "not reproduced"
    assert {found[k] for k in ("gain", "size-and-stride", "cause")} == {expected}


@pytest.mark.parametrize("cells", [{}, {"11s4-5s1": [40.0]}, {name: [40.0] for name in STEMS}])
def test_a_partial_factorial_is_not_tested_and_its_figures_are_drawn(cells):
    record = swept(cells)
    found = verdicts(record, sweep=True)
    assert {found[k] for k in ("gain", "size-and-stride", "cause")} == {"not tested"}
    assert (found["computation"] == "not tested") == (len(cells) < 8)
    for draw in (effects.effects, effects.costs, effects.two_by_two):
        assert draw({"diorama": record}).axes and draw({}).axes
    assert effects.table_of_effects({"diorama": record}) is not None
    assert effects.answers({"diorama": record}).data.count("not trained yet") == (6 if len(cells) < 2 else 0)


def test_a_full_factorial_is_drawn(record):
    sweep = swept({name: [40.0 + i, 41.0 + i] for i, name in enumerate(STEMS)})
    labels = effects.estimates(sweep)
    assert "filter size and both strides together" in labels and "stride x width" in labels
    assert effects.effects({"diorama": sweep, "imagenet20": sweep}).axes
    runs = [a_run(name) for name in STEMS]
    assert len(effects.diagnosis({"diorama": {"runs": runs}}).axes) == 3
    assert {own["middle"] for own in factorial.diagnoses(runs).values()} == {50}
    assert len(effects.diagnosis({"diorama": record}).axes) == 1  # a line of text


def test_the_plane_is_that_of_the_whole_transform():
    x = torch.randn(8, 8)
    whole = torch.fft.fftshift(torch.fft.fft2(x).abs())
    assert np.allclose(gratings.whole_plane(torch.fft.rfft2(x).abs().tolist()), whole.numpy(), atol=1e-4)


def test_a_filter_knows_its_colour_and_direction():
    red = torch.tensor([1.0, -0.5, 0.2])
    kernel = gabor(11, 0.15, 0.15, 3)[0, 0] * red[:, None, None]
    assert gratings.direction_of(kernel) == pytest.approx(45, abs=8)
    assert torch.allclose(gratings.colours_of(kernel).abs(), red.abs(), atol=1e-5)


def test_the_bench_answers_to_every_control(study):
    bench = FilterBench(study.networks, study.dataset.val)
    first = bench.view.value
    bench.frequency.value, bench.direction.value = 0.4, 90
    assert bench.view.value != first and "0.396" in bench.note.value
    bench.network.value = "krizhevsky"
    assert bench.filter.max == len(study.networks["krizhevsky"].network.convs["conv1"].weight) - 1
    bench.seen.value = 3
    assert "image 3" in bench.note.value
    bench.take(study.dataset.val.shuffled(2))
    assert "image 0" in bench.note.value


def test_panels_and_explorers_are_drawn(study, record):
    weights = {arch: net.network.convs["conv1"].weight for arch, net in study.networks.items()}
    first = {"without": None} | weights
    assert len(figures.panels(first, {"d": torch.rand(3, 20, 30), "e": torch.rand(3, 20, 30)}).subfigs) == 2
    assert "one scale" in figures.scales(first).data
    pages = gratings.explorer({a: n.network for a, n in study.networks.items()}, filters_shown=2, frequencies=2)
    assert pages.data.count("filter") > 4
    both = {"diorama": record, "imagenet20": record}
    assert len(figures.spectra(both).axes) == 4 and gratings.plane(record).axes
    for table in (figures.dead, figures.aliased, figures.shifts):
        assert "diorama" in table(both).data


def test_the_number_of_seeds_is_told_in_words():
    one, three = {0: 40.0}, {0: 40.0, 1: 41.0, 2: 42.0}
    assert factorial.told_seeds({"7s2-5s2": one}) == "one seed each"
    assert factorial.told_seeds({"7s2-5s2": three, "11s4-5s1": three}) == "3 seeds each"
    assert factorial.told_seeds({"7s2-5s2": one, "11s4-5s1": three}) == "1 to 3 seeds each"
