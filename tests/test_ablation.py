"""The ablation: what its claims read, and the study of features."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from book.ablation import claims, figures
from book.ablation import measure as study
from tests.datasets import stripes, tiny
from zfrepro.evolution import cka, layer_features
from zfrepro.paper import TABLE2
from zfrepro.sweeps import as_record
from zfrepro.weights import Trained, save_weights

# --- claims ----------------------------------------------------------------------------------


def test_what_has_not_run_is_not_tested_and_named():
    def judge(claim, networks=TABLE2, seeds=2):
        record = as_record({name: TABLE2[name] for name in networks})
        runs = [run for run in record["runs"] if run["seed"] < seeds]
        return claim.judge(record | {"runs": runs})

    by_name = {claim.name: claim for claim in claims.CLAIMS}
    full, overfit = by_name["ablation-full"], by_name["ablation-overfit"]
    part = [name for name in TABLE2 if name not in (claims.WIDEST, "zfnet-fc8192")]
    finding = judge(overfit, part)
    assert (finding.outcome, finding.reason) == ("not tested", "no run yet of zfnet-wide-fc8192")
    assert judge(full, part).outcome == "agrees"
    assert {judge(claim, seeds=1).outcome for claim in claims.CLAIMS} == {"not tested"}
    assert "one seed only" in judge(full, seeds=1).reason


def test_rank_correlation_is_spearmans_with_fishers_interval():
    ours = TABLE2 | {"zfnet": replace(TABLE2["zfnet"], val1=58.4)}
    correlation = claims.rank_correlation(as_record(ours))
    errors = [[row.val1 for row in table.values()] for table in (ours, TABLE2)]
    assert correlation.estimate == pytest.approx(stats.spearmanr(*errors).statistic)
    half = 1.96 / np.sqrt(12 - 3)
    ends = np.tanh(np.arctanh(correlation.estimate) + np.array([-half, half]))
    assert (correlation.low, correlation.high) == pytest.approx(tuple(ends), abs=1e-3)


def test_a_loss_is_a_share_of_the_accuracy_above_chance():
    loss = claims.loss(as_record(TABLE2, "imagenet20"), claims.FULL)
    assert loss.estimate == pytest.approx(100 * (44.8 - 40.5) / (95 - 40.5))


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


def test_features_are_compared_with_the_base_of_another_seed(networks):
    def seeds(chosen, name):
        return [(mine.recipe.seed, base.recipe.seed) for mine, base in study.pairs(chosen, name)]

    assert seeds(networks, claims.FULL) == [(0, 1), (1, 2), (2, 0)]
    two = {name: {seed: by_seed[seed] for seed in (0, 1)} for name, by_seed in networks.items()}
    assert seeds(two, claims.FULL) == [(0, 1), (1, 0)]
    assert seeds(two, "krizhevsky") == [(0, 1)]  # the same pair counts once
    one = {name: {0: by_seed[0]} for name, by_seed in networks.items()}
    assert study.features(one, stripes(), 8)["cka"] == {name: {} for name in networks}

    similarity = study.features(networks, stripes(), images=8)["cka"]
    assert list(similarity[claims.ALL]) == ["conv1", "conv2", "conv5", "fc8"]
    seen = stripes().val.shuffled(8).images
    pair = networks[claims.FULL][0], networks["krizhevsky"][1]
    by_hand = cka(*(layer_features(trained, seen)["conv2"] for trained in pair))
    assert similarity[claims.FULL]["conv2"][0] == pytest.approx(by_hand, abs=1e-3)


def test_the_error_by_images_is_that_of_the_mean_difference(networks, monkeypatch):
    wrong = {("krizhevsky", 0): (0, 100, 0, 0), (claims.FULL, 0): (100, 100, 0, 100)}

    def of(trained, _):
        return torch.tensor(wrong[trained.recipe.arch, trained.recipe.seed]).float()

    monkeypatch.setattr(study, "_wrong", of)
    one = {name: {0: seeds[0]} for name, seeds in networks.items() if name != claims.ALL}
    errors = study.images_error(one, stripes())["standard_error"]
    # differences 100, 0, 0, 100: standard deviation 57.7, over the root of four
    assert errors == {claims.FULL: pytest.approx(28.9, abs=0.05)}


def test_runs_are_read_and_strangers_refused(networks, tmp_path):
    def saved(arch):
        recipe, mean = tiny(arch=arch, seed=1), torch.zeros(3, 73, 73)
        network, folder = recipe.network(3), tmp_path / arch
        save_weights(folder / "weights.safetensors", network, recipe, ("a", "b", "c"), mean)
        return folder

    loaded = study.loaded((saved(claims.FULL), saved("krizhevsky")))
    assert [(name, list(seeds)) for name, seeds in loaded.items()] == [
        ("krizhevsky", [1]), (claims.FULL, [1]),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="11s4-5s1 is no row of Table 2"):
        study.loaded((saved("11s4-5s1"),))
    with pytest.raises(ValueError, match="needs --runs"):
        study.loaded(())


def test_differences_at_the_end_are_clear_only_beyond_their_interval():
    def record(*errors):
        runs = [("krizhevsky", (50.0,) * len(errors)), (claims.ALL, errors)]
        return {
            "runs": [
                {"arch": arch, "seed": seed, "errors": dict.fromkeys(parts, {"top1_error": error})}
                for arch, row in runs
                for seed, error in enumerate(row)
            ]
        }

    parts = ("one_crop", "ten_crops")
    text = figures.at_the_end(record(49.8), [claims.ALL])
    assert text == "removed layers 3,4,6,7 -0.2 and -0.2 points (one seed; no clear difference)"
    assert figures.at_the_end(record(52.0, 52.1), [claims.ALL]).endswith("points (2 seeds)")
    assert "no clear" in figures.at_the_end(record(51.0, 49.2), [claims.ALL])
