"""Intervals of numbers."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from zfrepro.stats import (
    Interval,
    bootstrap,
    less,
    pooled_sd,
    pooled_t,
    rounded_all,
    summary,
    wilson,
)


def test_a_bootstrap_interval_is_as_wide_as_the_normal_one_and_leaves_nan_out():
    values = torch.randn(400, generator=torch.Generator().manual_seed(0))
    interval = bootstrap(torch.cat([values, torch.tensor([torch.nan])]))
    width = 2 * 1.96 * values.std().item() / 20
    assert interval.high - interval.low == pytest.approx(width, rel=0.1)
    assert interval.low < values.mean().item() < interval.high and interval.n == 400
    assert list(summary(values).values()) == [*rounded_all(interval), 400]
    assert summary(torch.tensor([torch.nan])) == {"mean": None, "low": None, "high": None, "n": 0}


# --- over seeds ------------------------------------------------------------------------------


def seeded(*rows):
    return {name: dict(enumerate(row)) for name, row in zip("abcdef", rows, strict=False)}


def test_two_networks_give_the_paired_t_interval_of_scipy():
    values = seeded((40.1, 42.0, 41.2, 39.0), (43.0, 44.1, 44.9, 41.0))
    interval = pooled_t(values, {"b": 1, "a": -1})
    a, b = (list(values[name].values()) for name in "ab")
    paired = stats.ttest_rel(b, a).confidence_interval(0.95)
    assert (interval.low, interval.high) == pytest.approx((paired.low, paired.high))
    assert interval.estimate == pytest.approx(np.mean(b) - np.mean(a))
    assert (interval.n, interval.unit) == (4, "seeds")


def test_the_pooled_deviation_of_a_table_worked_by_hand():
    # without the means of networks and seeds +-1 is left in each of four cells, with one freedom
    assert pooled_sd(seeded((10, 12), (20, 26))) == (pytest.approx(2.0), 1)
    # a seed that shifts all networks alike adds nothing
    shifted = seeded((1, 2, 5), (11, 12, 15), (0, 1, 4))
    assert pooled_sd(shifted) == (pytest.approx(0, abs=1e-9), 4)


def test_pooled_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(1)
    hits = []
    for _ in range(300):
        rows = rng.normal(size=(6, 3)) + 4 * np.arange(6)[:, None] + 5 * rng.normal(size=(1, 3))
        interval = pooled_t(seeded(*rows), {"b": 1, "a": -1})
        hits.append(interval.low <= 4 <= interval.high)
    assert 0.92 < np.mean(hits) < 0.98


def test_a_contrast_uses_the_seeds_that_all_its_networks_have():
    values = seeded((1.0, 2.0, 3.0), (5.0, 6.0))
    interval = pooled_t(values, {"b": 1, "a": -1})
    assert (interval.estimate, interval.n) == (4.0, 2)
    values["b"] = {7: 1.0}
    with pytest.raises(LookupError, match="no seed in common of b, a"):
        pooled_t(values, {"b": 1, "a": -1})


def test_one_seed_has_no_interval():
    interval = pooled_t(seeded((1.0,), (3.0,)), {"b": 1, "a": -1})
    assert (interval.estimate, interval.low, interval.high) == (2.0, -math.inf, math.inf)
    assert f"{interval:+.1f}" == "+2.0 (one run, no interval)"
    assert f"{Interval(2.0, math.nan, math.nan, 3):.1f}" == "2.0 (no interval)"


def test_wilson_interval_by_hand():
    square = stats.norm.ppf(0.975) ** 2
    none, half = wilson(0, 10), wilson(5, 10)
    assert (none.low, none.high) == pytest.approx((0, square / (10 + square)))
    assert half.low + half.high == pytest.approx(1)


def test_newcombe_interval_as_published():  # Newcombe 1998, table II, 56/70 - 48/80, method 10
    interval = less(wilson(56, 70), wilson(48, 80))
    assert (interval.estimate, interval.n) == (pytest.approx(0.2), 150)
    assert (interval.low, interval.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)
