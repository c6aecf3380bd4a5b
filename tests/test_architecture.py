"""Spectra, dead filters, aliasing and shifts on hand-made filters; effects of a design; claims."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from book.architecture import claims, figures, filters
from book.architecture import measure as study_of
from tests import datasets
from tests.datasets import tiny
from tests.networks import relative, small
from zfrepro import deconvnet, records
from zfrepro import measure as studies
from zfrepro.deconvnet import Units
from zfrepro.layers import blur_down
from zfrepro.networks import STEMS, architecture
from zfrepro.receptive_field import probe
from zfrepro.rules import project
from zfrepro.weights import save_weights

BLURRED = "7s4-blur-5s1"


def gabor(size: int, down: float, right: float, width: float) -> torch.Tensor:
    """(1, 3, size, size), grey."""
    at = torch.arange(size) - (size - 1) / 2
    y, x = at[:, None], at[None]
    window = torch.exp(-(y**2 + x**2) / (2 * width**2))
    wave = torch.cos(2 * math.pi * (down * y + right * x)) * window
    return wave.expand(1, 3, -1, -1)


# --- filters -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("down", "right"), [(0.0, 0.25), (0.2, 0.0), (0.15, 0.2)])
def test_a_gabor_has_the_centroid_it_was_made_with(down, right):
    frequency = filters.centroid(gabor(41, down, right, 5.0)).item()
    assert frequency == pytest.approx(math.hypot(down, right), abs=0.004)


def test_dead_filters_are_found_and_live_ones_left():
    noise = torch.randn(1000, 3, 7, 7, generator=torch.Generator().manual_seed(0))
    weight = torch.cat([gabor(7, 0, 0.2, 2)] * 4 + [noise[:1]])
    dead = filters.dead(weight, torch.tensor([5.0, 0.0, 0.2, 5.0, 5.0]))
    assert {sense: which.nonzero().flatten().tolist() for sense, which in dead.items()} == {
        "silent": [1], "faint": [1, 2], "noise": [4], "any": [1, 2, 4],
    }  # fmt: skip
    share = filters.dead(noise, torch.ones(1000))["noise"].float().mean().item()
    assert share == pytest.approx(filters.NOISE_SHARE, abs=0.01)


# --- aliasing ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cycles", "stride", "share"), [(3, 4, 0), (5, 4, 1), (7, 2, 0), (9, 2, 1), (15, 1, 0)]
)
def test_a_grating_aliases_fully_or_not_at_all(cycles, stride, share):
    maps = filters.grating(32, 0, cycles / 32)[:1]
    lost, total = filters.energies(maps, [stride], window=False)
    assert (lost[stride] / total).item() == pytest.approx(share, abs=1e-4)


def test_sampling_gives_the_alias_frequency():
    for cycles in range(1, 32):
        sampled = filters.grating(64, 0, cycles / 64)[0, 0, ::4]  # 16 places
        peak = torch.fft.rfft(sampled).abs().argmax().item() / 64  # per pixel
        assert filters.alias_frequency(cycles / 64, 4) == pytest.approx(peak)


@pytest.mark.parametrize("name", ["11s4-5s1", "7s2-5s2", BLURRED])
def test_the_response_at_stride_1_holds_what_the_network_has(name):
    network = small(STEMS[name])
    images = torch.randn(2, 3, 96, 96)
    every, step = filters.stride1_response(network, images), filters.stride_of(network)
    layer = network.features(images, ["conv1"])["conv1"]
    first = network.architecture.convs[0]
    if first.blur:
        layer = blur_down(layer)[:, :, 1:, 1:]  # its first row and column reach beyond the image
        every = every[..., first.stride :, first.stride :]
    mine = every[..., ::step, ::step]
    rows = min(mine.shape[2], layer.shape[2]) - 1
    assert rows > 10 and relative(mine[..., :rows, :rows], layer[..., :rows, :rows]) < 1e-5


# --- shifts --------------------------------------------------------------------------------------


def test_maps_without_alias_can_be_shifted_along_and_others_cannot():
    at = torch.arange(0, 200.0, 4)

    def sampled(cycles: float, shift: float) -> torch.Tensor:
        # cosines, even around the first place, as the mirrored border wants them
        place = at + shift
        wave = torch.cos(2 * math.pi * cycles * place) + 0.3 * torch.cos(0.1 * place)
        return (wave[:, None] * wave)[None, None]

    for cycles, least, most in ((0.05, 0.98, 1.001), (0.21, -1, 0.9)):
        along = filters.subpixel_shift(sampled(cycles, 0), 1 / 4, 1 / 4)
        inner = (maps[..., 8:-8, 8:-8] for maps in (along, sampled(cycles, 1)))
        assert least < filters.consistency(*inner).item() < most


# --- anti-aliasing -------------------------------------------------------------------------------


def test_blur_down_by_hand():
    x = torch.zeros(1, 1, 4, 4)
    x[0, 0, 1, 1], x[0, 0, 2, 2] = 16, 32
    # windows have their middles at rows and columns 0, 2 and 4, of which the last overhangs
    assert blur_down(x)[0, 0].tolist() == [[1, 1, 0], [1, 1 + 8, 0], [0, 0, 0]]
    stripes_ = torch.tensor([1.0, -1.0]).repeat(8).expand(1, 1, 16, 16)
    assert blur_down(stripes_)[..., 1:-1, 1:-1].abs().max() < 1e-6


@pytest.mark.parametrize("name", [BLURRED, "zfnet"])
def test_receptive_fields_with_and_without_blur_are_what_gradients_say(name):
    network = small(architecture(name))
    probed = probe(network.output("conv2"), torch.randn(1, 3, 96, 96))
    assert probed == network.fields("conv2")


def test_the_deconvnet_refuses_networks_that_blur_and_says_what_to_use():
    network, images = small(STEMS[BLURRED]), torch.randn(1, 3, 96, 96)
    unit = Units(torch.tensor([0]), torch.tensor([3]), torch.tensor([3]))
    for call in (deconvnet.project_crops, deconvnet.project):
        with pytest.raises(ValueError, match="rules.project"):
            call(network, images, "conv2", unit)
    projection = project(lambda x: network.features(x, ["conv2"])["conv2"], images, unit)
    assert projection.isfinite().all()


# --- the design ----------------------------------------------------------------------------------


def test_effects_are_those_of_least_squares():
    factors = ("kernel", "stride", "stride2", "width")
    full = [name for name in STEMS if "blur" not in name]
    table = 40 + 5 * np.random.default_rng(0).standard_normal((len(full), 3))
    runs = [
        {"arch": name, "seed": seed, "errors": {"one_crop": {"top1_error": error}}}
        for name, row in zip(full, table, strict=True)
        for seed, error in enumerate(row)
    ]
    signs = [[1.0, *(claims.levels(name)[factor] - 0.5 for factor in factors)] for name in full]
    expected = np.linalg.lstsq(np.array(signs), table.mean(1), rcond=None)[0][1:]
    effects = [claims.effect({"runs": runs}, factor).estimate for factor in factors]
    assert effects == pytest.approx(expected, abs=1e-9)


def test_agreement_counts_the_pairs_of_each_seed():
    rows = {"11s4-5s1": (20, 46), "7s4-5s1": (29, 38), "11s2-5s1": (3, 35), "7s2-5s1": (9, 30)}
    runs = [
        {"arch": name, "seed": 0, "clip": 0.1, "aliased": lost, "top1_error": error}
        for name, (lost, error) in rows.items()
    ]
    assert claims.agreements(runs, "stride") == [True, True]
    assert claims.agreements(runs, "kernel") == [False, False]
    reverse = [run | {"seed": 1, "top1_error": -run["top1_error"]} for run in runs]
    both = claims.agreement({"runs": runs + reverse}, ["stride"])
    assert both.n == 2 and both.estimate == 0.5  # all pairs of one seed, none of the other


# --- the study and its figures -------------------------------------------------------------------


@pytest.fixture(scope="module")
def study():
    return datasets.study(12, ("zfnet", "krizhevsky"), images=8)


def test_the_study_measures_both_networks(study, tmp_path):
    record = studies.measure("architecture", study, tmp_path, say=lambda *_, **__: None)
    for arch, stride in (("zfnet", 2), ("krizhevsky", 4)):
        assert record["filters"][arch]["stride"] == stride
        shares = [record["aliased"][arch][s]["mean"] for s in ("2", "4")]
        assert 0 <= shares[0] <= shares[1] <= 100
        shift = study_of.shifted(study.networks[arch], study.dataset.val.images)
        assert all(len(values) == 12 and (values <= 100).all() for values in shift.values())
    assert record["runs"] == [] and record["aliased"]["untrained"]["n"] == 8
    judged = {c.name: c.judge(record).outcome for c in claims.CLAIMS if not c.sweep}
    assert judged["architecture-predicts"] == "not tested" and len(judged) == 5


def test_runs_join_the_record_and_foreign_ones_are_refused(study, tmp_path, monkeypatch):
    monkeypatch.setenv("ZFREPRO_RESULTS", str(tmp_path / "results"))
    recipe, mean = tiny(arch="zfnet", image_size=96, clip=0.0), study.networks["zfnet"].mean
    info = {"command": "train", "weights_sha256": "0", "errors": {"one_crop": {"top1_error": 40.0}}}
    records.write_json(tmp_path / "record.json", info)
    weights = tmp_path / "weights.safetensors"
    save_weights(weights, recipe.network(3), recipe, study.dataset.classes, mean)
    with pytest.raises(ValueError, match="leave it out"):
        study_of.diagnosed(tmp_path, study)
    drawn = replace(study, dataset=replace(study.dataset, name="diorama"), runs=(tmp_path,))
    (run,) = study_of.runs(drawn)
    assert run["top1_error"] == 40.0 and figures.dominance(run) >= 1
    older = [run | {"clip": 0.1}, run | {"top1_error": 1.0}]
    content = {"dataset": {"fingerprint": drawn.dataset.fingerprint}, "runs": older}
    records.write_json(tmp_path / "results" / "architecture" / "diorama.json", content)
    both = study_of.runs(drawn)
    assert [(run["clip"], run["top1_error"]) for run in both] == [(0.1, 40.0), (0.0, 40.0)]


def test_spectrum_and_energies_hold_all_power():
    weight, maps = torch.randn(4, 3, 7, 7), torch.randn(2, 3, 20, 22)
    power = filters.spectrum(weight, 32).mean((1, 2))
    assert torch.allclose(power, weight.square().sum((1, 2, 3)), rtol=1e-4)
    _, total = filters.energies(maps + 7, [2], window=False)  # the mean has none
    assert torch.allclose(total / (20 * 22) ** 2, maps.var((2, 3), correction=0), rtol=1e-3)


def test_a_plain_patch_of_either_size_is_low():
    patch = {k: filters.centroid(torch.ones(1, 3, k, k))[0].item() for k in (7, 11)}
    assert patch[7] == pytest.approx(0.101, abs=5e-4)
    assert patch[11] == pytest.approx(0.072, abs=5e-4)
    values = [*patch.values(), 1.1 * patch[7], 0.25, 0.26]
    assert filters.middle(values) == [False, False, True, True, False]


def test_a_low_passed_map_aliases_nothing():
    noise = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    passed = torch.fft.ifft2(torch.fft.fft2(noise) * ~filters.above_nyquist(64, 64, 5)).real
    lost, total = filters.energies(passed, [4])
    assert (lost[4] / total).item() < 1e-3


def test_whole_shifts_move_maps_and_consistency_is_a_correlation():
    maps = torch.randn(2, 3, 9, 10)
    down, right = filters.subpixel_shift(maps, 1, 0), filters.subpixel_shift(maps, 0, 2)
    assert torch.allclose(down[..., :-1, :], maps[..., 1:, :], atol=1e-5)
    assert torch.allclose(right[..., :-2], maps[..., 2:], atol=1e-5)
    for other, expected in ((3 * maps + 1, 1.0), (-2 * maps + 1, -1.0)):
        correlation = filters.consistency(maps, other)
        assert torch.allclose(correlation, torch.full((2,), expected), atol=1e-5)
