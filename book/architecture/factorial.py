"""What each of several changes does when all are made one by one: effects in a factorial of networks and seeds.

An effect is the mean difference in error over all pairs of networks that differ in that one change and in nothing
else. In a full factorial this is the main effect of textbooks; where networks are missing it uses the pairs there are.
Its interval is that of `ablation.effect`: by what network and seed leave of the errors, pooled over all networks.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from book.architecture import filters
from zfrepro import contrasts as ablation
from zfrepro.contrasts import Values
from zfrepro.networks import STEMS

FACTORS = {
    "kernel": "layer 1: 11x11 to 7x7",
    "stride": "layer 1: stride 4 to 2",
    "stride2": "layer 2: stride 1 to 2",
    "width": "layers 3 to 5: narrow to wide",
}
"""What differs between the networks of `networks.STEMS`, each from Krizhevsky's side to the paper's."""

OLD, FIXED = "11s4-5s1", "7s2-5s2"
"""Krizhevsky's two layers and the paper's: all of kernel, stride and stride2 changed."""


@dataclass(frozen=True)
class Estimate:
    """A difference in the unit of the errors, with its 95 % interval: nan if no network has two seeds."""

    value: float
    low: float
    high: float
    pairs: int  # comparisons that it is the mean of
    freedom: int  # degrees of freedom of the seeds' variance

    @property
    def told(self) -> str:
        """`-1.20 (-1.90 to -0.50)`."""
        if math.isnan(self.low):
            return f"{self.value:+.2f} (one seed)"
        return f"{self.value:+.2f} ({self.low:+.2f} to {self.high:+.2f})"

    @property
    def below(self) -> bool:
        """Whether the whole interval lies below zero."""
        return self.high < 0


def levels(name: str) -> dict[str, bool]:
    """Which changes a network of `networks.STEMS` has made: those of `FACTORS`, and `blur`."""
    first, second, third = STEMS[name].convs[:3]
    return {
        "kernel": first.kernel == 7,
        "stride": first.stride == 2 and not first.blur,
        "stride2": second.stride == 2,
        "width": third.maps == 512,
        "blur": first.blur,
    }


def contrast(cells: Values, weights: Mapping[str, float], pairs: int = 1) -> Estimate:
    """A weighted sum of the networks' errors, such as {new: 1, old: -1}, with its interval: see `ablation.effect`.

    Raises:
        LookupError: a network with a weight that has no run, or no seed that all of them have.
    """
    found, freedom = ablation.effect(cells, weights), ablation.spread(cells).freedom
    low, high = (found.low, found.high) if freedom else (math.nan, math.nan)
    return Estimate(found.mean, low, high, pairs, freedom)


def matched(cells: Values, factor: str, **given: bool) -> list[tuple[str, str]]:
    """Pairs (without, with) of networks that differ in one factor only; `given` fixes others, stride2=True say."""
    found = {tuple(sorted(levels(name).items())): name for name in cells}
    pairs = []
    for name in cells:
        own = levels(name)
        if own[factor] or any(own[key] != value for key, value in given.items()):
            continue
        other = found.get(tuple(sorted((own | {factor: True}).items())))
        if other:
            pairs.append((name, other))
    return pairs


def effect(cells: Values, factor: str, **given: bool) -> Estimate | None:
    """Mean difference that one factor makes, over `matched` pairs; None if there are none.

    `blur` has no second stride to go with: its partners are the networks of stride 4.
    """
    pairs = matched(cells, factor, **given)
    weights: dict[str, float] = {}
    for old, new in pairs:
        weights[new] = weights.get(new, 0) + 1 / len(pairs)
        weights[old] = weights.get(old, 0) - 1 / len(pairs)
    return contrast(cells, weights, len(pairs)) if pairs else None


def interaction(cells: Values, one: str, other: str) -> Estimate | None:
    """How much the effect of `one` changes when `other` is made too, over matched fours; None if there are none."""
    without, within = ({(a, b) for a, b in matched(cells, one, **{other: made})} for made in (False, True))
    partner = {levels_key(a, other): (a, b) for a, b in within}
    fours = [((a, b), partner[levels_key(a, other)]) for a, b in without if levels_key(a, other) in partner]
    weights: dict[str, float] = {}
    for (a, b), (c, d) in fours:
        for name, sign in ((a, 1), (b, -1), (c, -1), (d, 1)):
            weights[name] = weights.get(name, 0) + sign / len(fours)
    return contrast(cells, weights, len(fours)) if fours else None


def levels_key(name: str, but: str) -> tuple:
    """A network's levels except one, to find what it can be compared with."""
    return tuple(sorted((k, v) for k, v in levels(name).items() if k != but))


@dataclass(frozen=True)
class CostLine:
    """Error as a straight line in the logarithm of multiply-adds."""

    slope: float  # error a doubling
    intercept: float
    explained: float  # R squared, of the networks the line was fitted to

    def at(self, multiply_adds: float) -> float:
        """The error that this much computation is worth."""
        return self.intercept + self.slope * math.log2(multiply_adds)


def cost_line(cells: Values, multiply_adds: Mapping[str, int]) -> CostLine:
    """The line through the networks' mean errors.

    Raises:
        ValueError: fewer than three networks.
    """
    if len(cells) < 3:
        raise ValueError(f"a line through {len(cells)} networks says nothing; three or more wanted")
    x = np.log2([multiply_adds[name] for name in cells])
    y = np.array(list(ablation.means(cells).values()))
    slope, intercept = np.polyfit(x, y, 1)
    rest = y - intercept - slope * x
    scatter = float(np.square(y - y.mean()).sum())
    return CostLine(float(slope), float(intercept), 1 - float(np.square(rest).sum()) / scatter if scatter else math.nan)


def beyond_cost(cells: Values, multiply_adds: Mapping[str, int], name: str = FIXED) -> Estimate | None:
    """How far a network's error lies from what its multiply-adds are worth, by a line through all the other networks.

    Returns:
        with a 95 % prediction interval of that line; None with fewer than four other networks.
    """
    others = {key: values for key, values in cells.items() if key != name}
    if name not in cells or len(others) < 4:
        return None
    line = cost_line(others, multiply_adds)
    x = np.log2([multiply_adds[key] for key in others])
    rest = [mean - line.at(multiply_adds[key]) for key, mean in ablation.means(others).items()]
    freedom = len(others) - 2
    spread = math.sqrt(float(np.square(rest).sum()) / freedom)
    away = (math.log2(multiply_adds[name]) - x.mean()) ** 2 / float(np.square(x - x.mean()).sum())
    reach = float(stats.t.ppf(0.975, freedom)) * spread * math.sqrt(1 + 1 / len(others) + away)
    value = ablation.means(cells)[name] - line.at(multiply_adds[name])
    return Estimate(value, value - reach, value + reach, len(others), freedom)


# --- records ---------------------------------------------------------------------------------------------------------


def cells_of(record: Mapping, kind: str = "top1_error", view: str = "one_crop") -> Values:
    """`ablation.errors_of` a sweep's record, networks in the order of `STEMS`."""
    found = ablation.errors_of(record, view, kind)
    return {name: found[name] for name in STEMS if name in found}


def costs_of(record: Mapping) -> dict[str, int]:
    """Multiply-adds of a forward pass by network."""
    return {run["arch"]: run["multiply_adds"] for run in record["runs"]}


def told_seeds(cells: Values) -> str:
    """How many runs a network has: `one seed each`, `3 seeds each`, `1 to 3 seeds each`."""
    counts = {len(values) for values in cells.values()}
    if counts == {1}:
        return "one seed each"
    return f"{' to '.join(str(count) for count in sorted({min(counts), max(counts)}))} seeds each"


# --- does a diagnosis predict the errors? ----------------------------------------------------------------------------


def rank_correlation(
    x: Sequence[float], y: Sequence[float], given: Sequence[float] | None = None, *, draws: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """Spearman's correlation of two numbers over networks, with its 95 % bootstrap interval.

    Args:
        x, y: one value a network.
        given: a third number whose straight influence on the ranks of both is taken out first (partial correlation).
    Returns:
        value, low, high; nan where one of them does not vary.
    """
    table = np.array([x, y] + ([given] if given is not None else []), dtype=float)
    picks = np.random.default_rng(seed).integers(table.shape[1], size=(draws, table.shape[1]))
    drawn = _partial(table[:, picks])
    low, high = np.nanquantile(drawn, [0.025, 0.975]) if not np.isnan(drawn).all() else (math.nan, math.nan)
    return float(_partial(table)), float(low), float(high)


def _partial(table: np.ndarray) -> np.ndarray:
    """Correlation of the ranks of the first two rows, the third's influence taken out. (2 or 3, ..., N) -> (...)."""
    ranks = stats.rankdata(table, axis=-1)
    ranks -= ranks.mean(-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):  # what does not vary gives nan, as it should
        if len(ranks) == 3:
            third = ranks[2]
            slopes = (ranks[:2] * third).sum(-1) / np.square(third).sum(-1)
            ranks = ranks[:2] - slopes[..., None] * third
        sizes = np.square(ranks[:2]).sum(-1)
        sizes[sizes < 1e-9] = math.nan
        return (ranks[0] * ranks[1]).sum(-1) / np.sqrt(sizes[0] * sizes[1])


def by_network(runs: Sequence[Mapping]) -> dict[str, list[Mapping]]:
    """What `studies.architecture.diagnosed` found of clipped networks of the factorial, in the order of `STEMS`."""
    found = {name: [run for run in runs if run["clip"] and run["arch"] == name] for name in STEMS}
    return {name: own for name, own in found.items() if own}


def diagnoses(runs: Sequence[Mapping]) -> dict[str, dict[str, float]]:
    """Means over seeds of the diagnoses of `by_network`; `middle` is the share of `filters.middle`, per cent.

    Returns:
        network -> {measure: mean}, in the order of `STEMS`.
    """
    measures = ("dead", "aliased", "conv1 moved", "conv2 moved", "kept", "top1_error", "multiply_adds")
    found = {}
    for name, own in by_network(runs).items():
        kernel = STEMS[name].convs[0].kernel
        found[name] = {m: float(np.mean([run[m] for run in own])) for m in measures}
        found[name]["middle"] = 100 * float(np.mean([filters.middle(run["centroids"], kernel) for run in own]))
    return found
