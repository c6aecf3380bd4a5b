"""Snapshots of a training, and the measures of how settled a layer is."""

import itertools
from dataclasses import replace

import pytest
import torch

from book.evolution import claims, figures
from book.evolution import measure as study
from book.evolution.explorer import EpochSlider
from book.evolution.measure import encoded, parts
from tests.worlds import stripes, tiny
from zfrepro import evolution, plots
from zfrepro.evolution import cka, cosine, grow, jumps, probe_accuracy, project, snapshots, strongest
from zfrepro.gallery import Top
from zfrepro.measure import Study
from zfrepro.weights import save_weights

CPU = torch.device("cpu")
RECIPE = tiny(epochs=3)


@pytest.fixture(scope="module")
def dataset():
    return stripes()


@pytest.fixture(scope="module")
def kept(dataset):
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


def test_cka_knows_the_same_features_and_unrelated_ones():
    a = torch.randn(200, 40)
    turned = a @ torch.linalg.qr(torch.randn(40, 40)).Q * 3 + 1
    assert cka(a, turned) == pytest.approx(1, abs=1e-4)
    assert abs(cka(torch.randn(100, 3000), torch.randn(100, 3000))) < 0.1  # the biased estimate says about 1
    with pytest.raises(ValueError, match="same four images"):
        cka(a, a[:100])


def test_cosine_and_jumps_on_known_pictures():
    a = torch.randn(3, 3, 5, 5)
    b = torch.stack([2 * a[0], -a[1], torch.zeros(3, 5, 5)])
    found = cosine(a, b)
    assert found[0] == pytest.approx(1, abs=1e-5) and found[1] == pytest.approx(-1, abs=1e-5) and found[2].isnan()
    images = [torch.tensor([[4], [7]]), torch.tensor([[4], [8]])]
    tops = [Top("conv1", torch.ones(2, 1), i, torch.zeros_like(i), torch.zeros_like(i)) for i in images]
    assert jumps(*tops).tolist() == [False, True]


def test_a_probe_reads_what_is_linear_and_nothing_else():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 4, (400,), generator=generator)
    told = torch.nn.functional.one_hot(labels, 4) + 0.1 * torch.randn(400, 4, generator=generator)
    noise = torch.randn(400, 20, generator=generator)
    dead = torch.where(torch.arange(400) < 300, 0.0, 1e3)[:, None]  # never moves in training
    told = torch.cat([told, dead], 1)
    assert probe_accuracy(told[:300], labels[:300], told[300:], labels[300:]) > 95
    assert probe_accuracy(noise[:300], labels[:300], noise[300:], labels[300:]) < 45


def test_growing_keeps_the_asked_epochs_and_repeats_itself(dataset, kept):
    assert [s.epoch for s in kept] == [1, 2, 3]
    assert not any(p.requires_grad for p in kept[0].trained.network.parameters())
    assert not torch.equal(kept[0].trained.network.convs["conv1"].weight, kept[2].trained.network.convs["conv1"].weight)
    again = grow(RECIPE, dataset, (3,), device=CPU, progress=False)[0].trained.network
    for a, b in zip(again.parameters(), kept[2].trained.network.parameters(), strict=True):
        assert torch.equal(a, b)


def test_frozen_layers_stay_and_the_others_go_on(dataset, kept):
    found = grow(RECIPE, dataset, (1, 3), device=CPU, frozen=("conv1",), frozen_after=1, progress=False)
    first, last = (s.trained.network for s in found)
    assert torch.equal(first.convs["conv1"].weight, kept[0].trained.network.convs["conv1"].weight)
    assert torch.equal(first.convs["conv1"].weight, last.convs["conv1"].weight)
    assert not torch.equal(first.convs["conv2"].weight, last.convs["conv2"].weight)


def test_the_strongest_unit_is_projected_and_a_dead_map_is_blank(dataset, kept):
    trained, images = kept[-1].trained, dataset.train.images
    tops = strongest(trained, images)
    features = trained.network.features(trained.normalised(images), ["conv2"])["conv2"]
    assert torch.allclose(tops["conv2"].values[:, 0], features.amax((0, 2, 3)), rtol=1e-4, atol=1e-6)
    tops["conv2"].values[1] = 0
    found = project(trained, images, tops["conv2"], [0, 1])
    assert found.shape[:2] == (2, 3) and found[1].abs().max() == 0


def test_snapshots_are_read_in_order_and_missing_ones_are_told(tmp_path, kept):
    for snapshot in kept:
        trained = snapshot.trained
        file = tmp_path / f"epoch-{snapshot.epoch * 50:03}.safetensors"
        save_weights(file, trained.network, trained.recipe, trained.classes, trained.mean)
    (tmp_path / "epoch-050-old.safetensors").write_bytes(b"somebody's copy")
    assert [s.epoch for s in snapshots(tmp_path, CPU)] == [50, 100, 150]
    with pytest.raises(FileNotFoundError, match="--keep"):
        snapshots(tmp_path / "elsewhere")


def test_recorded_pictures_come_back():
    tiles = torch.rand(2, 3, 3, 1, 1).expand(-1, -1, -1, 32, 32)  # flat ones: JPEG blurs edges
    record = {"pictures": {"sheets": {"conv1": encoded(plots.tiled(tiles.flatten(0, 1), 3))}, "maps": {"conv1": [4, 7]},
                           "epochs": [1, 2, 5]}}  # fmt: skip
    assert (figures.decoded(record)["conv1"] - tiles).abs().median() < 0.02
    assert figures.pages({"conv1": tiles}, side=16).shape == (3, 16, 34, 3)


def made_up(lower: float, upper: float) -> dict:
    """A record of three epochs in which the layers are as near to their final selves as given."""
    layers = dict.fromkeys(("conv1", "conv2"), lower) | dict.fromkeys(("conv3", "conv4", "conv5"), upper)
    run = {"epochs": [1, 10, 64], "cka": {k: [0.1, v, 1.0] for k, v in layers.items()}}
    return {"seed0": run | {"cosine": dict.fromkeys(layers, [0.3]), "same_cosine": dict.fromkeys(layers, [0.6])}}


def test_verdicts_follow_the_record():
    early, late = made_up(0.95, 0.2), made_up(0.2, 0.95)
    assert [claims.lower(r).verdict for r in (early, late)] == ["reproduced", "not reproduced"]
    assert [claims.upper(r).verdict for r in (early, late)] == ["reproduced", "not reproduced"]
    assert [claims.order(r).verdict for r in (early, late)] == ["reproduced", "not reproduced"]
    early["seed0"]["cka"]["conv1"] = [0.95, 0.5, 1.0]  # near by chance and away again: not settled
    assert claims.settled(early["seed0"], "conv1") == 64


def test_settled_at_forty_is_not_after_forty():
    record = made_up(0.95, 0.95)
    run = record["seed0"]
    run["epochs"] = [1, 40, 64]
    assert claims.settled(run, "conv4") == 40 and claims.upper(record).verdict == "not reproduced"
    run["cka"] = run["cka"] | {"conv5": [0.1, 0.89, 1.0]}
    assert claims.upper(record).verdict == "partly"
    run["cka"] = run["cka"] | {"conv4": [0.1, 0.89, 1.0]}
    assert claims.upper(record).verdict == "reproduced"


def test_jumps_go_with_the_image_in_every_layer_and_run_or_not():
    record = made_up(0.95, 0.2)
    same = record["seed0"]["same_cosine"]
    record["seed1"] = record["seed0"] | {"same_cosine": same | {"conv1": [0.1]}}  # layer 1 has no say
    assert (
        claims.jumps(record).verdict == "partly" and "of 2 runs: conv2 +0.30 to +0.30" in claims.jumps(record).numbers
    )
    record["seed1"] = record["seed0"] | {"same_cosine": same | {"conv4": [0.2]}}
    assert claims.jumps(record).verdict == "not reproduced" and "conv4 -0.10 to +0.30" in claims.jumps(record).numbers
    blank = {"cosine": {"conv2": [0.9, 0.3]}, "same_cosine": {"conv2": [None, 0.5]}}
    assert claims.lead_of_same(blank, "conv2") == pytest.approx(0.2)  # moments when no image stayed are left out


def test_a_verdict_can_hang_on_the_threshold():
    record = made_up(0.85, 0.2)
    assert [claims.lower(record, at).verdict for at in (0.8, 0.9)] == ["reproduced", "not reproduced"]
    assert "conv1 10, conv2 10" in claims.lower(record, 0.8).numbers
    page = figures.thresholds({"diorama": record}, (0.8, 0.9)).data
    assert page.index(">0.80<") < page.index(">reproduced<") < page.index(">0.90<")


def test_the_table_of_settling_has_all_runs_and_their_means():
    record = made_up(0.95, 0.2)
    record["seed0"]["changed"] = dict.fromkeys(record["seed0"]["cka"], [40.0, 20.0])
    record["seed1"] = record["seed0"] | {"cka": record["seed0"]["cka"] | {"conv1": [0.3, 0.5, 1.0]}}
    record["seed1"]["changed"] = record["seed0"]["changed"] | {"conv1": [40.0, 30.0]}
    page = figures.settling({"diorama": record}, (1, 10)).data
    for text in ("10, 64", "0.20", "0.72", "25.0"):  # settled in either run; mean CKA at 1 and 10; changed at the end
        assert text in page


def test_the_cost_of_freezing_is_taken_seed_by_seed():
    record = {"accuracy": {"never": [70.0, 80.0], "10": [69.0, 77.0]}, "cka": {"conv1": {"10": [0.5, 0.7]}}}
    page = figures.freezing({"diorama": {"freezing": record}}).data
    assert ">75.0±7.1<" in page and ">2.0±1.4<" in page and ">0.60<" in page


def test_freezing_is_measured_from_the_moments_it_names(dataset, monkeypatch):
    monkeypatch.setattr(study, "FROZEN_AFTER", (1, 2))
    monkeypatch.setattr(study, "small_recipe", lambda name, seed=0: replace(RECIPE, seed=seed))
    found = study.freezing(dataset, False, seeds=2)
    own, images = replace(RECIPE, seed=1), dataset.val.images
    train = study.small_set(dataset, 1)
    *_, second, last = grow(own, train, (1, 2, 3), device=CPU, progress=False)
    features = [evolution.layer_features(s.trained, images)["conv2"] for s in (second, last)]
    assert found["cka"]["conv2"]["2"][1] == pytest.approx(cka(*features), abs=1e-4)
    stopped = grow(own, train, (3,), device=CPU, frozen=study.FROZEN, frozen_after=1, progress=False)
    for after, network in {"never": last, "1": stopped[0]}.items():
        named = network.trained.probabilities(images).argmax(1)
        right = 100 * (named == dataset.val.labels).double().mean().item()
        assert found["accuracy"][after][1] == pytest.approx(right, abs=0.01)
    assert {after: len(values) for after, values in found["accuracy"].items()} == {"never": 2, "1": 2, "2": 2}


def test_layers_are_averaged_to_few_places(kept, dataset):
    found = evolution.layer_features(kept[0].trained, dataset.val.images)
    maps = kept[0].trained.network.convs["conv1"].out_channels
    assert found["conv1"].shape == (len(dataset.val), maps * evolution.GRID**2)
    assert list(found) == list(kept[0].trained.network.layers)


def test_the_slider_shows_the_chosen_epoch():
    pictures = (torch.rand(3, 8, 8, 3) * 255).byte().numpy()
    slider = EpochSlider(pictures, [1, 2, 5], ["a", "b", "c"])
    first = slider.view.value
    slider.epoch.value = 2
    assert slider.note.value == "c" and slider.view.value != first
    with pytest.raises(ValueError, match="not the same number"):
        EpochSlider(pictures, [1, 2], ["a", "b", "c"])


def test_the_figure_needs_a_run_and_freezing_does_not(dataset, kept, tmp_path):
    alone = parts(Study(dataset, {}, CPU))
    assert list(alone) == ["pictures", "freezing"]
    with pytest.raises(ValueError, match="needs --runs"):
        alone["pictures"]()
    for snapshot in kept:
        last = snapshot.trained
        file = tmp_path / "run" / f"epoch-{snapshot.epoch}.safetensors"
        save_weights(file, last.network, last.recipe, last.classes, last.mean)
    assert list(parts(Study(dataset, {}, CPU, runs=(tmp_path / "run",)))) == ["pictures", "seed0", "freezing"]
