"""What a change to a network does to its error, over seeds (Table 2): differences, their intervals, and rank order.

Three seeds are few: a difference of two networks with an interval from its own three values has two degrees of freedom
and is four standard errors wide. The spread of a network over seeds, though, can be told from all networks of the table
at once. So the errors are modelled as network + seed + rest, with a rest as large for every network, and its standard
deviation is pooled. Seeds are a term of their own because all networks of one seed saw the same images in the same
order and the same crops.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from zfrepro.networks import ARCHITECTURES, Architecture
from zfrepro.receptive_field import table

Values = Mapping[str, Mapping[int, float]]
"""Network -> seed -> error in per cent."""

BASES = ("krizhevsky", "zfnet")  # what the two halves of Table 2 start from


@dataclass(frozen=True)
class Spread:
    """How far the runs of one network lie apart by chance."""

    sd: float  # standard deviation over seeds in points, nan when there is nothing to tell it from
    freedom: int  # degrees of freedom


@dataclass(frozen=True)
class Effect:
    """A difference of errors in points, mean over seeds, with an interval; infinite without a second seed."""

    mean: float
    low: float
    high: float
    seeds: int


@dataclass(frozen=True)
class Ranks:
    """Spearman's rank correlation of two lists of networks."""

    rho: float
    p: float  # one-sided: the chance of one as high if the order were random
    networks: int


def errors_of(sweep: Mapping[str, Any], part: str = "one_crop", kind: str = "top1_error") -> Values:
    """The errors in a sweep's record by network and seed.

    Args:
        part: `train`, `one_crop` or `ten_crops`, the latter two of the validation images.
        kind: `top1_error` or `top5_error`.
    """
    found: dict[str, dict[int, float]] = {}
    for run in sweep["runs"]:
        found.setdefault(run["arch"], {})[run["seed"]] = run["errors"][part][kind]
    return found


def precisions_of(sweep: Mapping[str, Any]) -> dict[tuple[str, int], str]:
    """The precision that each run of a sweep's record was made in, by (network, seed)."""
    usual = sweep["recipe"]["precision"]  # of runs from before each named its own
    return {(run["arch"], run["seed"]): run.get("precision", usual) for run in sweep["runs"]}


def gaps(sweep: Mapping[str, Any]) -> Values:
    """Validation less training top-1 error, both at one crop, by network and seed."""
    val, train = errors_of(sweep), errors_of(sweep, "train")
    return {name: {seed: val[name][seed] - train[name][seed] for seed in val[name]} for name in val}


def base_of(name: str) -> str:
    """The network that a row of Table 2 was changed from, itself for a base.

    Raises:
        ValueError: no row of that name.
    """
    if name not in ARCHITECTURES:
        raise ValueError(f"no row of Table 2 called {name!r}; there are: {', '.join(ARCHITECTURES)}")
    return next(base for base in BASES if name == base or name.startswith(f"{base}-"))


def short(name: str) -> str:
    """A row's change in a few words: `without 3, 4`, `FC 2048`, `wide, FC 8192`; for a base its name."""
    if name in BASES:
        return {"krizhevsky": "Krizhevsky", "zfnet": "ZFNet"}[name]
    words = name.removeprefix(f"{base_of(name)}-").split("-")
    if words[0] == "without":
        return "without " + ", ".join(words[1:])
    return ", ".join(word.replace("fc", "FC ") for word in words)


def depth(architecture: Architecture) -> int:
    """Layers with weights, the softmax layer among them: 8 in the paper's networks."""
    return len(architecture.convs) + len(architecture.fulls) + 1


def parameters(architecture: Architecture, image_size: int = 224, classes: int = 1000) -> dict[str, int]:
    """Weights and biases of each layer, pools left out."""
    return {row["layer"]: row["parameters"] for row in table(architecture, image_size, classes) if row["parameters"]}


def held(layers: Iterable[str], architecture: Architecture, image_size: int = 224, classes: int = 1000) -> float:
    """The share of a network's parameters that some of its layers hold, in per cent.

    It is not what the network shrinks by without them: their neighbours then grow or shrink too.
    """
    count = parameters(architecture, image_size, classes)
    return 100 * sum(count[layer] for layer in layers) / sum(count.values())


def spread(values: Values) -> Spread:
    """The pooled standard deviation over seeds: what network + seed leaves of the errors, by least squares.

    Networks need not have the same seeds. Of a network with one seed nothing is learned, and nothing is lost.
    """
    cells = [(name, seed, error) for name, by_seed in values.items() for seed, error in by_seed.items()]
    if not cells:
        return Spread(math.nan, 0)
    names, seeds = sorted(values), sorted({seed for _, seed, _ in cells})
    design = np.zeros((len(cells), len(names) + len(seeds)))
    for row, (name, seed, _) in enumerate(cells):
        design[row, names.index(name)] = design[row, len(names) + seeds.index(seed)] = 1
    errors = np.array([error for *_, error in cells], float)
    fitted, _, rank, _ = np.linalg.lstsq(design, errors)
    freedom = len(cells) - int(rank)
    if not freedom:
        return Spread(math.nan, 0)
    return Spread(math.sqrt(((errors - design @ fitted) ** 2).sum() / freedom), freedom)


def effect(values: Values, weights: Mapping[str, float], level: float = 0.95) -> Effect:
    """A contrast of networks, such as {changed: 1, base: -1}, seed by seed, with an interval by Student's t.

    Only seeds that all its networks have are used; the standard deviation is that of `spread`, from all networks. The
    interval says what other seeds would give on the same validation images, and nothing of other images.

    Raises:
        LookupError: a network without runs, or no seed in common.
    """
    missing = [name for name in weights if not values.get(name)]
    if missing:
        raise LookupError(f"no run of {', '.join(missing)}")
    seeds = set.intersection(*(set(values[name]) for name in weights))
    if not seeds:
        raise LookupError(f"no seed in common of {', '.join(weights)}")
    found = [sum(weight * values[name][seed] for name, weight in weights.items()) for seed in sorted(seeds)]
    mean, pooled = float(np.mean(found)), spread(values)
    if not pooled.freedom:
        return Effect(mean, -math.inf, math.inf, len(seeds))
    error = pooled.sd * math.sqrt(sum(weight**2 for weight in weights.values()) / len(seeds))
    half = float(stats.t.ppf((1 + level) / 2, pooled.freedom)) * error
    return Effect(mean, mean - half, mean + half, len(seeds))


def means(values: Values) -> dict[str, float]:
    """Mean error of each network over its seeds."""
    return {name: float(np.mean(list(by_seed.values()))) for name, by_seed in values.items() if by_seed}


def rank_correlation(ours: Mapping[str, float], theirs: Mapping[str, float], names: Iterable[str] = ()) -> Ranks:
    """Whether two lists put the networks in the same order; networks that one of them lacks are left out.

    Args:
        names: only these networks.
    Raises:
        ValueError: fewer than three networks in common.
    """
    common = [name for name in (names or ours) if name in ours and name in theirs]
    if len(common) < 3:
        raise ValueError(f"three networks or more wanted, got {len(common)}")
    a, b = ([values[name] for name in common] for values in (ours, theirs))
    if len(set(a)) == 1 or len(set(b)) == 1:
        return Ranks(math.nan, math.nan, len(common))
    found = stats.spearmanr(a, b, alternative="greater")
    return Ranks(float(found.statistic), float(found.pvalue), len(common))
