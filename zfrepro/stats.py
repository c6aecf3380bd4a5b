"""Means and shares with their intervals."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor


def rounded(value: float, digits: int = 4) -> float | None:
    """Round a number for a record to significant digits; nan, which JSON lacks, is None."""
    value = float(value)
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None


def rounded_all(values: Iterable[float], digits: int = 4) -> list[float | None]:
    """Round several numbers, see `rounded`."""
    return [rounded(value, digits) for value in values]


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval. A plain number is an interval of no width."""

    estimate: float
    low: float
    high: float
    n: int = 0  # how many units were seen; 0 if not said
    unit: str = ""  # of replication: images, maps, seeds, folds
    method: str = ""

    @classmethod
    def of(cls, value: Any) -> "Interval":
        """Read an interval from a record: a number, (mean, low, high), or a mapping of these.

        None, which stands in records for what is not finite, is nan.
        """
        if isinstance(value, Interval):
            return value
        if isinstance(value, Mapping):
            values = (value["mean"], value["low"], value["high"])
            return cls(*map(_float, values), n=int(value.get("n") or 0), unit=value.get("unit", ""))
        if isinstance(value, (list, tuple)):
            return cls(*map(_float, value[:3]))
        return cls(*(_float(value),) * 3)

    def scaled(self, factor: float) -> "Interval":
        """Return the interval in another unit."""
        low, high = sorted((factor * self.low, factor * self.high))
        return replace(self, estimate=factor * self.estimate, low=low, high=high)

    def __format__(self, form: str) -> str:
        """Return `+0.36 (+0.31 to +0.39)`, a plain number alone, and say where bounds are infinite.
        """
        form = form or ".2f"
        if math.isnan(self.estimate):
            return "not defined"
        if self.low == self.high:
            return f"{self.estimate:{form}}"
        if not math.isfinite(self.low + self.high):
            once = "one run, " if self.n == 1 else ""
            return f"{self.estimate:{form}} ({once}no interval)"
        return f"{self.estimate:{form}} ({self.low:{form}} to {self.high:{form}})"

    def __iter__(self) -> Iterator[float]:
        """Give estimate, low and high."""
        return iter((self.estimate, self.low, self.high))

    def record(self) -> dict[str, float | int | None]:
        """Return the interval as a record holds it."""
        mean, low, high = rounded_all(self)
        return {"mean": mean, "low": low, "high": high, "n": self.n}


def _float(value: float | None) -> float:
    return math.nan if value is None else float(value)


def bootstrap(values: Tensor, seed: int = 0, *, unit: str = "images") -> Interval:
    """Return the mean and its percentile bootstrap interval, nan left out. values: (N,)."""
    values = values.double().cpu()
    values = values[~values.isnan()]
    if not len(values):
        return Interval(math.nan, math.nan, math.nan, 0, unit, "bootstrap")
    generator = torch.Generator().manual_seed(seed)
    picks = torch.randint(len(values), (2000, len(values)), generator=generator)
    return of_samples(values.mean(), values[picks].mean(1), len(values), unit)


def of_samples(estimate: Tensor, samples: Tensor, n: int, unit: str = "images") -> Interval:
    """Return an estimate with the middle 95 % of its bootstrap samples, (B,), nan left out."""
    ends = torch.tensor([0.025, 0.975], dtype=torch.double)
    low, high = torch.nanquantile(samples.double(), ends).tolist()
    return Interval(float(estimate), low, high, n, unit, "bootstrap")


def summary(values: Tensor, seed: int = 0) -> dict[str, float | int | None]:
    """Return the `bootstrap` of values as a record holds it. values: (N,)."""
    return bootstrap(values, seed).record()


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Return Pearson's correlation of pairs, nan where one is constant. (B, ...) -> (B,)."""
    a, b = (x.flatten(1).double() for x in (a, b))
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return ((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))).float()


def by_t(mean: float, error: float, freedom: int, n: int, unit: str, method: str) -> Interval:
    """Return an interval by Student's t; without freedom it has no bounds."""
    half = float(stats.t.ppf(0.975, freedom)) * error if freedom else math.inf
    return Interval(mean, mean - half, mean + half, n, unit, method)


def t_interval(
    differences: Sequence[float], unit: str = "seeds", correlation: float = 0.0
) -> Interval:
    """Return the mean and its interval by Student's t; of one value, without bounds.

    Args:
        differences: one a unit of replication.
        correlation: of two of them, where they share data. For folds that share training images it
            is the share of images in the test part (Nadeau and Bengio 2003, corrected resampled
            t-test).
    """
    values, n = np.asarray(differences, float), len(differences)
    error = values.std(ddof=min(1, n - 1)) * math.sqrt(1 / n + correlation / (1 - correlation))
    return by_t(float(values.mean()), error, n - 1, n, unit, "t")


def pooled_sd(values: Mapping[str, Mapping[int, float]]) -> tuple[float, int]:
    """Return the standard deviation over seeds, pooled over groups, and its freedom.

    Values (group, such as a network -> seed -> value) are modelled as group + seed + rest, the rest
    as large in every group; groups need not have the same seeds. Seeds are a term of their own:
    networks of one seed see the same images in the same order. Nan and 0 where nothing is left.
    """
    cells = [(name, seed, value) for name, row in values.items() for seed, value in row.items()]
    if not cells:
        return math.nan, 0
    names, group = np.unique([name for name, *_ in cells], return_inverse=True)
    seeds, seed = np.unique([seed for _, seed, _ in cells], return_inverse=True)
    design = np.hstack([np.eye(len(names))[group], np.eye(len(seeds))[seed]])
    errors = np.array([value for *_, value in cells], float)
    fitted, _, rank, _ = np.linalg.lstsq(design, errors)
    freedom = len(cells) - int(rank)
    rest = ((errors - design @ fitted) ** 2).sum()
    return (math.sqrt(rest / freedom), freedom) if freedom else (math.nan, 0)


def pooled_t(values: Mapping[str, Mapping[int, float]], weights: Mapping[str, float]) -> Interval:
    """Return a contrast of groups, taken seed by seed, and its interval by Student's t.

    The standard deviation is that of `pooled_sd`, from all groups; of two groups alone this is the
    paired t interval. It says what other seeds would give on the same images.

    Args:
        values: as for `pooled_sd`.
        weights: such as {changed: 1, base: -1}. Only seeds that all of these have are used;
            LookupError if there is none.
    """
    seeds = sorted(set.intersection(*(set(values.get(name, ())) for name in weights)))
    if not seeds:
        raise LookupError(f"no seed in common of {', '.join(weights)}")
    by_seed = [sum(w * values[name][seed] for name, w in weights.items()) for seed in seeds]
    sd, freedom = pooled_sd(values)
    error = sd * math.sqrt(sum(w**2 for w in weights.values()) / len(seeds))
    return by_t(float(np.mean(by_seed)), error, freedom, len(seeds), "seeds", "pooled t")


def wilson(count: int, n: int, unit: str = "images") -> Interval:
    """Return a share and its Wilson score interval."""
    low, high = stats.binomtest(count, n).proportion_ci(method="wilson")
    return Interval(count / n, low, high, n, unit, "Wilson")


def less(a: Interval, b: Interval) -> Interval:
    """Return a less b, which are independent: distances to their ends add as variances do.

    For any intervals, as in Zou and Donner (2008); of two shares by `wilson` it is the hybrid score
    interval of Newcombe (1998, method 10).
    """
    difference = a.estimate - b.estimate
    low = difference - math.hypot(a.estimate - a.low, b.high - b.estimate)
    high = difference + math.hypot(a.high - a.estimate, b.estimate - b.low)
    return Interval(difference, low, high, a.n + b.n, a.unit, a.method)
