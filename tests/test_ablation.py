"""The ablation: intervals by scipy and by hand, the rows of Table 2, verdicts from made-up sweeps, figures, study."""

import math

import numpy as np
import pytest
from scipy import stats

from zfrepro import ablation
from zfrepro.networks import ARCHITECTURES, architecture, build
from zfrepro.paper import TABLE2

# --- numbers over seeds ----------------------------------------------------------------------------------------------


def seeded(*rows):
    return {name: dict(enumerate(row)) for name, row in zip("abcdefghijkl", rows, strict=False)}


def test_two_networks_give_the_paired_t_interval_of_scipy():
    values = seeded((40.1, 42.0, 41.2, 39.0), (43.0, 44.1, 44.9, 41.0))
    found = ablation.effect(values, {"b": 1, "a": -1})
    a, b = (list(values[name].values()) for name in "ab")
    paired = stats.ttest_rel(b, a).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((paired.low, paired.high))
    assert found.mean == pytest.approx(np.mean(b) - np.mean(a)) and found.seeds == 4


def test_the_pooled_spread_of_a_table_worked_by_hand():
    # the network's and the seed's means taken off, what is left is +-1 in each of the four cells, with one freedom
    assert ablation.spread(seeded((10, 12), (20, 26))) == ablation.Spread(pytest.approx(2.0), 1)
    # a seed that shifts all networks alike is no spread
    assert ablation.spread(seeded((1, 2, 5), (11, 12, 15), (0, 1, 4))) == ablation.Spread(pytest.approx(0, abs=1e-9), 4)


def test_a_full_table_has_the_freedom_of_two_ways():
    rng = np.random.default_rng(0)
    assert ablation.spread(seeded(*rng.normal(size=(12, 3)))).freedom == 11 * 2


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(1)
    hits = []
    for _ in range(300):
        rows = rng.normal(size=(6, 3)) + 4 * np.arange(6)[:, None] + 5 * rng.normal(size=(1, 3))
        found = ablation.effect(seeded(*rows), {"b": 1, "a": -1})
        hits.append(found.low <= 4 <= found.high)
    assert 0.92 < np.mean(hits) < 0.98


def test_a_contrast_uses_the_seeds_that_all_its_networks_have():
    values = seeded((1.0, 2.0, 3.0), (5.0, 6.0))
    found = ablation.effect(values, {"b": 1, "a": -1})
    assert (found.mean, found.seeds) == (4.0, 2)
    del values["b"][0], values["b"][1]
    with pytest.raises(LookupError, match="no run of b"):
        ablation.effect(values, {"b": 1, "a": -1})
    values["b"][7] = 1.0
    with pytest.raises(LookupError, match="no seed in common of b, a"):
        ablation.effect(values, {"b": 1, "a": -1})


def test_one_seed_has_no_interval():
    found = ablation.effect(seeded((1.0,), (3.0,)), {"b": 1, "a": -1})
    assert found == ablation.Effect(2.0, -math.inf, math.inf, 1)
    assert ablation.spread({}).freedom == 0


def test_ranks_agree_with_the_formula_and_leave_out_what_is_missing():
    ours, theirs = {"a": 1, "b": 2, "c": 3, "d": 4, "x": 0}, {"a": 10, "b": 30, "c": 20, "d": 40, "y": 0}
    found = ablation.rank_correlation(ours, theirs)
    assert (found.rho, found.networks) == (pytest.approx(1 - 6 * 2 / (4 * 15)), 4)
    assert ablation.rank_correlation(theirs, {k: -v for k, v in theirs.items()}).rho == pytest.approx(-1)
    assert math.isnan(ablation.rank_correlation({"a": 1, "b": 1, "c": 1}, theirs).rho)
    with pytest.raises(ValueError, match="three networks or more"):
        ablation.rank_correlation(ours, theirs, names=("a", "x"))


# --- the networks ----------------------------------------------------------------------------------------------------


def test_every_row_has_its_base_and_a_short_name():
    assert {name: ablation.base_of(name) for name in TABLE2}["zfnet-wide-fc8192"] == "zfnet"
    assert [ablation.short(name) for name in TABLE2] == [
        "Krizhevsky", "without 3, 4", "without 7", "without 6, 7", "without 3, 4, 6, 7", "FC 2048", "FC 8192",
        "ZFNet", "FC 2048", "FC 8192", "wide", "wide, FC 8192",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="no row of Table 2 called 'vgg'"):
        ablation.base_of("vgg")


def test_depth_and_parameters_of_the_papers_networks():
    assert {name: ablation.depth(value) for name, value in ARCHITECTURES.items() if "without" in name} == {
        "krizhevsky-without-3-4": 6, "krizhevsky-without-7": 7, "krizhevsky-without-6-7": 6,
        "krizhevsky-without-3-4-6-7": 4,
    }  # fmt: skip
    found = ablation.parameters(ARCHITECTURES["zfnet"])
    assert sum(found.values()) == 62_357_608 and found["fc6"] == 37_752_832
    small = architecture("zfnet", width=0.25, units=256)
    assert sum(ablation.parameters(small, 96, 16).values()) == sum(p.numel() for p in build(small, 96, 16).parameters())
