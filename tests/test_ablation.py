"""The ablation: claims on made-up sweeps, the rows of Table 2, sizes, and the study of features."""

import numpy as np
import pytest
import torch
from scipy import stats

from book.ablation import claims, figures
from book.ablation import measure as study
from tests.datasets import stripes, tiny
from zfrepro import plots
from zfrepro.evolution import cka, layer_features
from zfrepro.networks import ARCHITECTURES, architecture, build
from zfrepro.paper import TABLE2, TABLE2_NAMES
from zfrepro.weights import Trained, save_weights

# --- claims ----------------------------------------------------------------------------------


def sweep(changes=(), seeds=3, noise=0.1, networks=TABLE2) -> dict:
    """Return a record near the paper's numbers, some validation errors moved by so many points."""
    rng, moved, runs = np.random.default_rng(0), dict(changes), []
    for name in networks:
        row = TABLE2[name]
        for seed in range(seeds):
            val, train, five = (row.val1, row.train1, row.val5) + noise * rng.normal(size=3)
            val += moved.get(name, 0)
            errors = {"train": {"top1_error": train, "top5_error": train / 2}}
            views = ("one_crop", "ten_crops")
            errors |= {part: {"top1_error": val, "top5_error": five} for part in views}
            runs.append({
                "arch": name, "seed": seed, "errors": errors, "seconds": 60.0,
                "multiply_adds": 10**7, "parameters": 10**6,
                "history": {"loss": [2.0, 1.0], "val_top1_error": [val + 9, val]},
            })  # fmt: skip
    return {"kind": "sweep", "dataset": {"name": "imagenet"}, "runs": runs}


CLAIMS = {claim.name.removeprefix("ablation-"): claim for claim in claims.CLAIMS}


def outcome(claim: str, *args, **more) -> str:
    return CLAIMS[claim].judge(sweep(*args, **more)).outcome


def test_the_papers_own_numbers_agree_with_every_claim():
    assert {outcome(name) for name in CLAIMS} == {"agrees"}
    printed = {name: claim.printed_outcome() for name, claim in CLAIMS.items()}
    assert printed == dict.fromkeys(CLAIMS, "agrees") | {"order": None}


@pytest.mark.parametrize(
    ("row", "points", "claim", "expected"),
    [
        (claims.FULL, 10, "full", "contradicts"),
        (claims.FULL, -4.3, "full", "not resolved"),
        (claims.FULL, -20, "full", "contradicts"),  # a drop is no slight increase
        (claims.MIDDLE, 10, "middle", "contradicts"),
        (claims.MIDDLE, -5, "middle", "agrees"),
        (claims.ALL, -30, "ruin", "contradicts"),
        (claims.ALL, -30, "depth", "contradicts"),
        (claims.ALL, -25, "depth", "contradicts"),  # worst, but not beyond the sum
        ("zfnet-fc2048", 5, "sizes", "contradicts"),
        (claims.WIDEST, -2, "overfit", "contradicts"),
        (claims.WIDEST, -0.8, "overfit", "not resolved"),
    ],
)
def test_a_claim_can_have_each_outcome(row, points, claim, expected):
    assert outcome(claim, {row: points}) == expected


def test_noise_and_shuffled_rows_resolve_less():
    assert outcome("sizes", noise=9.0) != "agrees"
    slow = (claims.ALL, claims.MIDDLE, claims.FULL, "krizhevsky-fc2048")
    assert outcome("order", dict.fromkeys(slow, -35)) == "not resolved"


def test_what_has_not_run_is_not_tested_and_named():
    part = [name for name in TABLE2 if name not in (claims.WIDEST, "zfnet-fc8192")]
    found = CLAIMS["overfit"].judge(sweep(networks=part))
    assert (found.outcome, found.reason) == ("not tested", "no run yet of zfnet-wide-fc8192")
    assert outcome("full", networks=part) == "agrees"
    assert outcome("order", networks=part) == "not tested"
    assert {outcome(name, seeds=1) for name in CLAIMS} == {"not tested"}
    assert "one seed only" in CLAIMS["full"].judge(sweep(seeds=1)).reason
    assert {claim.judge({"runs": []}).outcome for claim in CLAIMS.values()} == {"not tested"}


def test_a_loss_is_a_share_of_the_accuracy_above_chance():
    record = sweep(noise=1e-9) | {"dataset": {"name": "imagenet20"}}
    found = claims.loss(record, claims.FULL)
    assert found.estimate == pytest.approx(100 * (44.8 - 40.5) / (95 - 40.5))
    assert claims.printed(claims.INTERACTION) == 21.6


def test_rank_correlation_is_spearmans_with_fishers_interval():
    found = claims.rank_correlation(sweep({"zfnet": 20}, noise=1e-9))
    ours = [row.val1 + 20 * (name == "zfnet") for name, row in TABLE2.items()]
    expected = stats.spearmanr(ours, [row.val1 for row in TABLE2.values()]).statistic
    assert found.estimate == pytest.approx(expected, abs=0.02)
    half = 1.96 / np.sqrt(12 - 3)
    ends = np.tanh(np.arctanh(found.estimate) + np.array([-half, half]))
    assert (found.low, found.high) == pytest.approx(tuple(ends), abs=1e-3)


def test_every_row_has_its_base():
    assert claims.base_of("zfnet-wide-fc8192") == claims.base_of("zfnet") == "zfnet"
    with pytest.raises(ValueError, match="no row of Table 2 called 'vgg'"):
        claims.base_of("vgg")


# --- figures and tables ----------------------------------------------------------------------


def test_parameters_of_the_papers_networks_and_of_small_ones():
    found = figures.parameters(ARCHITECTURES["zfnet"], 224, 1000)
    assert sum(found.values()) == 62_357_608 and found["fc6"] == 37_752_832
    krizhevsky = ARCHITECTURES["krizhevsky"]
    assert figures.held(krizhevsky, ("fc6", "fc7")) == pytest.approx(87.42, abs=0.01)
    small = architecture("zfnet", width=0.25, units=256)
    count = sum(parameter.numel() for parameter in build(small, 96, 16).parameters())
    assert sum(figures.parameters(small, 96, 16).values()) == count
    assert figures.sizes().data.count("<tr>") == 13


@pytest.mark.parametrize(
    "record",
    [sweep(), sweep(seeds=1), sweep(networks=("krizhevsky", claims.FULL), seeds=2)],
    ids=["whole", "one seed", "two networks"],
)
def test_figures_and_tables_of_any_part_of_a_sweep(record):
    found = {"ImageNet-20": record}
    for figure in (figures.table2(found), plots.learning_curves(found, figures.CURVES)):
        figure.canvas.draw()
    shown = figures.as_table(found).data
    assert shown.count("<tr>") == 13 and set(TABLE2_NAMES) == set(TABLE2)
    assert "27.4\u00a0/\u00a044.8\u00a0/\u00a022.4" in shown
    assert "<tr>" in figures.with_spread(record, "ImageNet-20").data


# --- the study -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def networks():
    """Untrained tiny networks of two rows and their base, three seeds each."""
    mean = torch.zeros(3, 73, 73)

    def network(name, seed):
        recipe = tiny(arch=name, seed=seed)
        return Trained(recipe.network(3).eval(), recipe, ("a", "b", "c"), mean)

    rows = ("krizhevsky", claims.FULL, claims.ALL)
    return {name: {seed: network(name, seed) for seed in range(3)} for name in rows}


def seeds_of_pairs(networks, name):
    return [(own.recipe.seed, base.recipe.seed) for own, base in study.pairs(networks, name)]


def test_features_are_compared_with_the_base_of_another_seed(networks):
    for name in networks:
        assert seeds_of_pairs(networks, name) == [(0, 1), (1, 2), (2, 0)]
    one = networks | {claims.FULL: {0: networks[claims.FULL][0]}}
    assert seeds_of_pairs(one, claims.FULL) == [(0, 1)]
    two = {name: {seed: own[seed] for seed in (0, 1)} for name, own in networks.items()}
    assert seeds_of_pairs(two, claims.FULL) == [(0, 1), (1, 0)]
    assert seeds_of_pairs(two, "krizhevsky") == [(0, 1)]  # the same pair counts once

    found = study.features(networks, stripes(), images=8)["cka"]
    assert list(found[claims.ALL]) == ["conv1", "conv2", "conv5", "fc8"]
    assert list(found[claims.FULL]) == ["conv1", "conv2", "conv3", "conv4", "conv5", "fc8"]
    seen = stripes().val.shuffled(8).images
    pair = networks[claims.FULL][0], networks["krizhevsky"][1]
    by_hand = cka(*(layer_features(own, seen)["conv2"] for own in pair))
    assert found[claims.FULL]["conv2"][0] == pytest.approx(by_hand, abs=1e-3)


def test_one_seed_leaves_nothing_to_compare(networks):
    alone = {name: {0: own[0]} for name, own in networks.items()}
    assert study.features(alone, stripes(), 8)["cka"] == {name: {} for name in networks}


def test_the_error_by_images_is_that_of_the_mean_difference(networks, monkeypatch):
    wrong = {("krizhevsky", 0): (0, 100, 0, 0), (claims.FULL, 0): (100, 100, 0, 100)}

    def of(trained, _):
        return torch.tensor(wrong[trained.recipe.arch, trained.recipe.seed]).float()

    monkeypatch.setattr(study, "_wrong", of)
    one = {name: {0: own[0]} for name, own in networks.items() if name != claims.ALL}
    found = study.images_error(one, stripes())["standard_error"]
    # differences 100, 0, 0, 100: standard deviation 57.7, over the root of four
    assert found == {claims.FULL: pytest.approx(28.9, abs=0.05)}


def test_runs_are_read_and_strangers_refused(networks, tmp_path):
    def saved(arch):
        recipe, mean = tiny(arch=arch, seed=1), torch.zeros(3, 73, 73)
        network, folder = recipe.network(3), tmp_path / arch
        save_weights(folder / "weights.safetensors", network, recipe, ("a", "b", "c"), mean)
        return folder

    found = study.loaded((saved(claims.FULL), saved("krizhevsky")))
    assert {name: list(own) for name, own in found.items()} == {"krizhevsky": [1], claims.FULL: [1]}
    with pytest.raises(ValueError, match="11s4-5s1 is no row of Table 2"):
        study.loaded((saved("11s4-5s1"),))
    with pytest.raises(ValueError, match="needs --runs"):
        study.loaded(())


def test_the_whole_network_takes_the_lead_after_the_last_epoch_that_it_does_not_lead():
    def record(*errors):
        runs = [("krizhevsky", [50.0] * len(errors)), (claims.ALL, errors)]
        runs = [{"arch": arch, "history": {"val_top1_error": e}} for arch, e in runs]
        return {"dataset": {"train": 100}, "runs": runs}

    assert figures.crossing(record(45, 51, 50, 52, 53), claims.ALL) == 400
    assert figures.crossing(record(51, 52), claims.ALL) == 100
    assert figures.crossing(record(51, 49), claims.ALL) is None
    assert figures.behind(record(51, 49), claims.ALL).tolist() == [1, -1]
