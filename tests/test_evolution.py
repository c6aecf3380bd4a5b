"""Snapshots of a training, and measures of a layer's convergence."""

import itertools
import math
from dataclasses import replace

import pytest
import torch

from book.evolution import claims, figures, measure
from tests.datasets import stripes, tiny
from zfrepro import evolution, records, training
from zfrepro.data.transforms import mean_image
from zfrepro.evolution import cka, converged, cosine, grow
from zfrepro.measure import Study
from zfrepro.weights import save_weights

CPU = torch.device("cpu")
RECIPE = tiny(epochs=3)


@pytest.fixture(scope="module")
def dataset():
    return stripes()


@pytest.fixture(scope="module")
def grown(dataset):
    return grow(RECIPE, dataset, (1, 2, 3, 50), device=CPU, progress=False)


def hsic(k, m):
    """Song et al. 2012, equation 5, by its sums over index tuples."""
    n = len(k)
    i2 = list(itertools.permutations(range(n), 2))
    pairs = sum(k[i, j] * m[i, j] for i, j in i2) / len(i2)
    i3 = list(itertools.permutations(range(n), 3))
    triples = sum(k[i, j] * m[i, q] for i, j, q in i3) / len(i3)
    i4 = list(itertools.permutations(range(n), 4))
    quads = sum(k[i, j] * m[q, r] for i, j, q, r in i4) / len(i4)
    return pairs + quads - 2 * triples


def test_cka_is_the_ratio_of_unbiased_hsics():
    a, b = torch.randn(6, 3, dtype=torch.float64), torch.randn(6, 4, dtype=torch.float64)
    b[:, 0] += 2 * a[:, 0]
    k, m = a @ a.T, b @ b.T  # the statistic itself centres
    expected = hsic(k, m) / (hsic(k, k) * hsic(m, m)).sqrt()
    assert cka(a, b) == pytest.approx(expected.item(), abs=1e-9)
    rotated = b @ torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64)).Q * 3 + 1
    assert cka(b, rotated) == pytest.approx(1, abs=1e-9)
    unrelated = cka(torch.randn(100, 3000), torch.randn(100, 3000))
    assert abs(unrelated) < 0.1  # the biased estimate says about 1
    with pytest.raises(ValueError, match="same four images"):
        cka(a, a[:5])


def test_convergence_by_hand():
    assert converged([1, 10, 100], [0.8, 1.0, 1.0], 0.9) == pytest.approx(math.sqrt(10))
    assert converged([1, 10, 100], [0.95, 0.4, 0.9], 0.9) == pytest.approx(100)  # not at epoch 1
    assert converged([1, 10, 100], [0.95, 0.95, 1.0], 0.9) == 1
    assert converged([1, 10, 100], [0.2, math.nan, 1.0], 0.9) == pytest.approx(100)
    with pytest.raises(ValueError, match="below the threshold"):
        converged([1, 10], [0.2, 0.5], 0.9)


def test_cosine_on_known_pictures():
    a = torch.randn(3, 3, 5, 5)
    b = torch.stack([2 * a[0], -a[1], torch.zeros(3, 5, 5)])
    cosines = cosine(a, b)
    assert cosines[:2].tolist() == pytest.approx([1, -1], abs=1e-5) and cosines[2].isnan()


def test_training_keeps_the_asked_epochs_and_repeats_itself(dataset, grown):
    assert [s.epoch for s in grown] == [1, 2, 3]
    networks = [s.trained.network for s in grown]
    assert not any(p.requires_grad for p in networks[0].parameters())
    assert not torch.equal(networks[0].convs["conv1"].weight, networks[2].convs["conv1"].weight)
    again = grow(RECIPE, dataset, (3,), device=CPU, progress=False)[0].trained.network
    for a, b in zip(again.parameters(), networks[2].parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_network_is_grown_as_train_evaluates_it(dataset):
    recipe = tiny(epochs=2, ema=0.9)
    (last,) = grow(recipe, dataset, (2,), device=CPU, progress=False)
    state, mean = training.start(recipe, 3, CPU), mean_image(dataset.train.images)
    for epoch in range(2):
        training.train_epoch(recipe, state, dataset.train, mean, epoch, progress=False)
    for name, weight in last.trained.network.state_dict().items():
        torch.testing.assert_close(weight, state.average.get_parameter(name))


def test_the_strongest_unit_is_projected_and_a_dead_map_is_blank(dataset, grown):
    trained, images = grown[-1].trained, dataset.train.images
    top = evolution.strongest(trained, images)["conv2"]
    features = trained.network.features(trained.preprocess(images), ["conv2"])["conv2"]
    assert torch.allclose(top.values[:, 0], features.amax((0, 2, 3)), rtol=1e-4, atol=1e-6)
    by_layer = evolution.strongest_projections(grown, images, {"conv2": [0, 1]})
    projections, strongest = by_layer["conv2"]
    assert projections.shape[:3] == (2, 3, 3)
    assert strongest[:, -1].tolist() == top.images[:2, 0].tolist()
    top.values[1] = 0
    alive, dead = evolution.project(trained, images, top, [0, 1])
    assert torch.equal(alive, projections[0, -1]) and dead.abs().max() == 0


def save(folder, grown, name):
    for snapshot in grown:
        trained, file = snapshot.trained, folder / f"{name.format(snapshot.epoch)}.safetensors"
        save_weights(file, trained.network, trained.recipe, trained.classes, trained.mean)


def test_snapshots_are_read_in_order_and_missing_ones_are_told(tmp_path, grown):
    save(tmp_path, grown, "epoch-{}50")
    (tmp_path / "epoch-050-old.safetensors").write_bytes(b"somebody's copy")
    assert [s.epoch for s in evolution.snapshots(tmp_path, CPU)] == [150, 250, 350]
    other = [replace(grown[0], trained=replace(grown[0].trained, recipe=tiny(seed=1)))]
    save(tmp_path, other, "epoch-{}50")
    with pytest.raises(ValueError, match="epoch-150.*of another recipe than the last epoch"):
        evolution.snapshots(tmp_path, CPU)
    with pytest.raises(FileNotFoundError, match="--keep"):
        evolution.snapshots(tmp_path / "elsewhere")


def test_runs_under_other_conditions_are_shown_and_not_judged():
    record = {k: v for k, v in records.read("evolution/diorama").items() if "px seed" not in k}
    upside_down = [
        run | {"cka": dict(zip(claims.LAYERS, reversed(run["cka"].values()), strict=True))}
        for run in claims.runs(record)
    ]
    both = record | {f"plateau seed{i}": run for i, run in enumerate(upside_down)}
    for claim in claims.CLAIMS:
        assert claim.judge(both) == claim.judge(record)
    assert claims.runs_of(both, "plateau") == upside_down
    shown = figures.conditions({"diorama": both}).data
    assert "in steps" in shown and "224 px" not in shown


def test_claims_read_the_largest_images_of_which_three_runs_hold_the_measure():
    small = {f"seed{i}": {"cka": "small", "cosine": "small"} for i in range(3)}
    large = {f"224px seed{i}": {"cka": "large"} for i in range(3)}
    assert {run["cka"] for run in claims.runs(small | large)} == {"large"}
    assert {run["cosine"] for run in claims.runs(small | large, "cosine")} == {"small"}
    del large["224px seed1"]
    assert {run["cka"] for run in claims.runs(small | large)} == {"small"}


def test_a_run_is_measured_and_the_figure_needs_one(dataset, grown, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="needs --runs"):
        measure.parts(Study(dataset, {}, CPU))["pictures"]()
    save(tmp_path, grown, "epoch-{}")
    parts = measure.parts(Study(dataset, {}, CPU, runs=(tmp_path,)))
    assert list(parts) == ["pictures", "64px plateau seed0"]
    trained = {"command": "train", "weights_sha256": "0"}
    history = [{"val_top1_error": 50.0}] * 3
    monkeypatch.setattr(measure.records, "read_json", lambda _: trained | {"history": history})
    curves = measure.curves(tmp_path, dataset, 40, False)
    assert curves["cka"]["conv3"][-1] == pytest.approx(1) and len(curves["changed"]["conv1"]) == 2
    decoded = figures.decoded({"pictures": measure.pictures(tmp_path, dataset, 0)})
    assert all(tiles.shape[:2] == (measure.MAPS, 3) for tiles in decoded.values())


def test_the_ends_of_every_two_runs_are_compared(dataset, grown):
    last = grown[-1].trained
    pairs = measure.between([last, last, last.untrained()], dataset, 40)
    for same, *others in pairs.values():
        assert same == pytest.approx(1) and len(others) == 2 and max(others) < 0.99
