"""Claims of section 5.1, Table 2: which parts of the network its accuracy depends on."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from zfrepro import contrasts as ablation
from zfrepro.contrasts import Effect, Values, errors_of
from zfrepro.paper import TABLE2
from zfrepro.verdicts import Claim, Finding
from zfrepro.words import graded, told

LITTLE = 0.2  # of the base's error: a rise below it is small; the paper's two are 0.11 and 0.12
RUIN = 0.5  # of the base's error: a rise above it is ruinous; the paper's is 0.76
SAME = 0.1  # of the base's error: a change within it is none to speak of; the paper's four are at most 0.05
ALIKE = 0.7  # rank correlation with the paper's rows from which the order counts as the same

OLD, OURS, WIDE, WIDEST = "krizhevsky", "zfnet", "zfnet-wide", "zfnet-wide-fc8192"
MIDDLE, FULL, ALL = "krizhevsky-without-3-4", "krizhevsky-without-6-7", "krizhevsky-without-3-4-6-7"
ONE_FULL = "krizhevsky-without-7"
SIZES = ("krizhevsky-fc2048", "krizhevsky-fc8192", "zfnet-fc2048", "zfnet-fc8192")
INTERACTION: dict[str, float] = {ALL: 1, MIDDLE: -1, FULL: -1, OLD: 1}
"""What removing both pairs costs beyond the sum of what each costs."""

Record = dict[str, Any]
Judge = Callable[[Record], Finding]


def change(name: str, base: str | None = None) -> dict[str, float]:
    """The contrast of a row with the network it was changed from."""
    return {name: 1, base or ablation.base_of(name): -1}


def of(record: Record, weights: Mapping[str, float], part: str = "one_crop", kind: str = "top1_error") -> Effect:
    """A contrast of validation top-1 errors at one crop, or of other errors, from a sweep's record."""
    return ablation.effect(errors_of(record, part, kind), weights)


def points(found: Effect) -> str:
    """`+2.1 (-0.3 to +4.5)`, or `+2.1, no interval` where there is none."""
    if math.isinf(found.low):
        return f"{found.mean:+.1f}, no interval"
    return told(found.mean, found.low, found.high, "+.1f")


def level(record: Record, name: str) -> float:
    """Mean validation top-1 error of a network."""
    return ablation.means(errors_of(record))[name]


def below(found: Effect, limit: float) -> str:
    return "reproduced" if found.high < limit else "partly" if found.mean < limit else "not reproduced"


def above(found: Effect, limit: float) -> str:
    return "reproduced" if found.low > limit else "partly" if found.mean > limit else "not reproduced"


def needing(*names: str) -> Callable[[Judge], Judge]:
    """Not tested while the record lacks one of the networks, or has too few seeds for an interval."""

    def wrap(judge: Judge) -> Judge:
        def judged(record: Record) -> Finding:
            values: Values = errors_of(record)
            missing = [name for name in names if name not in values]
            if missing:
                return Finding("not tested", f"no run yet of {', '.join(missing)}")
            if not set.intersection(*(set(values[name]) for name in names)):
                return Finding("not tested", f"no seed in common of {', '.join(names)}")
            if not ablation.spread(values).freedom:
                return Finding("not tested", "one seed only, so no difference has an interval")
            return judge(record)

        return judged

    return wrap


def both_errors(record: Record, weights: Mapping[str, float]) -> str:
    top1, top5 = (of(record, weights, kind=f"top{k}_error") for k in (1, 5))
    return f"top-1 {points(top1)} points, top-5 {points(top5)}; {_seeds(top1)}"


def _seeds(found: Effect) -> str:
    return f"{found.seeds} seed{'s' * (found.seeds > 1)}"


def slight(name: str) -> Judge:
    @needing(OLD, name)
    def judge(record: Record) -> Finding:
        base = level(record, OLD)
        said = f"{both_errors(record, change(name))}; the limit is {LITTLE * base:+.1f}, the base {base:.1f} %"
        found = of(record, change(name))
        return Finding("partly" if found.high < 0 else below(found, LITTLE * base), said)

    return judge


@needing(OLD, ALL)
def ruin(record: Record) -> Finding:
    base = level(record, OLD)
    said = f"{both_errors(record, change(ALL))}; the limit is {RUIN * base:+.1f}, the base {base:.1f} %"
    return Finding(above(of(record, change(ALL)), RUIN * base), said)


@needing(OLD, MIDDLE, FULL, ONE_FULL, ALL)
def depth(record: Record) -> Finding:
    beyond = of(record, INTERACTION)
    worse = {name: of(record, change(ALL, name)) for name in (MIDDLE, ONE_FULL, FULL)}
    verdict = graded(beyond.low > 0, all(found.low > 0 for found in worse.values()))
    against = ", ".join(f"{ablation.short(name)} {points(found)}" for name, found in worse.items())
    return Finding(verdict, f"beyond the sum {points(beyond)} points; four layers less, against {against}")


@needing(OLD, OURS, *SIZES)
def sizes(record: Record) -> Finding:
    inside, near, said = [], [], []
    for name in SIZES:
        found, limit = of(record, change(name)), SAME * level(record, ablation.base_of(name))
        inside.append(-limit < found.low and found.high < limit)
        near.append(abs(found.mean) < limit)
        base = ablation.short(ablation.base_of(name))
        said.append(f"{base} {ablation.short(name)} {points(found)} of {limit:.1f} allowed")
    verdict = "reproduced" if all(inside) else "partly" if all(near) else "not reproduced"
    return Finding(verdict, "; ".join(said))


@needing(OURS, WIDE)
def widening(record: Record) -> Finding:
    return Finding(below(of(record, change(WIDE)), 0), both_errors(record, change(WIDE)))


@needing(WIDE, WIDEST)
def overfit(record: Record) -> Finding:
    weights = change(WIDEST, WIDE)
    val, train = of(record, weights), of(record, weights, "train")
    gap = ablation.effect(ablation.gaps(record), weights)
    rises = val.low > 0 and train.high < 0
    verdict = "reproduced" if rises else "partly" if gap.low > 0 else "not reproduced"
    said = f"validation {points(val)} points, training {points(train)}, the gap between them {points(gap)}"
    return Finding(verdict, f"{said}; {_seeds(val)}")


@needing(*TABLE2)
def order(record: Record) -> Finding:
    values, paper = errors_of(record), {name: row.val1 for name, row in TABLE2.items()}
    found = ablation.rank_correlation(ablation.means(values), paper)
    seeds = sorted(set.intersection(*(set(values[name]) for name in TABLE2)))
    each = [ablation.rank_correlation({name: values[name][seed] for name in TABLE2}, paper).rho for seed in seeds]
    likely = found.rho > 0 and found.p < 0.05
    verdict = "reproduced" if found.rho >= ALIKE and likely else "partly" if likely else "not reproduced"
    chance = "below 0.01" if found.p < 0.01 else f"{found.p:.2f}"
    said = f"rank correlation {found.rho:+.2f} over {found.networks} networks (as high by chance: {chance})"
    return Finding(verdict, f"{said}; seed by seed {', '.join(f'{rho:+.2f}' for rho in each)}")


def _printed(name: str, base: str | None = None) -> str:
    new, old = TABLE2[name], TABLE2[base or ablation.base_of(name)]
    return f"top-1 {new.val1 - old.val1:+.1f}, top-5 {new.val5 - old.val5:+.1f} points"


def _printed_beyond() -> str:
    beyond = sum(weight * TABLE2[name].val1 for name, weight in INTERACTION.items())
    return f"top-1 {beyond:+.1f} points beyond the sum"


PLACE = "section 5.1, Table 2"
RISE = "validation top-1 error at one crop, less the base's, seed by seed"

SLIGHT = (
    f"reproduced if the whole interval of the rise is below {LITTLE} of the base's error; partly if the mean is, or if "
    "the whole interval is below 0, since a gain is no slight loss"
)

CLAIMS = (
    Claim(
        "ablation-full", "ablation", PLACE,
        "Removing both fully connected layers raises the error only slightly.", RISE,
        SLIGHT,
        slight(FULL), _printed(FULL), sweep=True,
    ),
    Claim(
        "ablation-middle", "ablation", PLACE,
        "Removing two of the middle convolutional layers makes a relatively small difference.", RISE,
        SLIGHT,
        slight(MIDDLE), _printed(MIDDLE), sweep=True,
    ),
    Claim(
        "ablation-ruin", "ablation", PLACE,
        "Removing the middle convolutional and the fully connected layers is dramatically worse.", RISE,
        f"reproduced if the whole interval of the rise is above {RUIN} of the base's error, partly if the mean is",
        ruin, _printed(ALL), sweep=True,
    ),
    Claim(
        "ablation-depth", "ablation", PLACE,
        "The overall depth matters, more than any one part.",
        "the rise without layers 3, 4, 6 and 7, less the rises without 3, 4 and without 6, 7; and less each rise of "
        "fewer layers",
        "two parts: the interval of the first is above 0; the intervals of all of the second are. Reproduced if both "
        "hold, partly if one",
        depth, _printed_beyond(), sweep=True,
    ),
    Claim(
        "ablation-sizes", "ablation", PLACE,
        "The size of the fully connected layers makes little difference, in either network.",
        "validation top-1 error at one crop with half and with twice the units, less the base's, seed by seed",
        f"reproduced if all four intervals lie within {SAME} of the base's error around 0, partly if all means do",
        sizes,
        "; ".join(f"{TABLE2[n].val1 - TABLE2[ablation.base_of(n)].val1:+.1f}" for n in SIZES) + " points of top-1",
        sweep=True,
    ),
    Claim(
        "ablation-wide", "ablation", PLACE, "Wider middle convolutional layers are a useful gain.", RISE,
        "reproduced if the whole interval is below 0, partly if the mean is",
        widening, _printed(WIDE), sweep=True,
    ),
    Claim(
        "ablation-overfit", "ablation", PLACE,
        "Enlarging the fully connected layers of the wide network too makes it overfit.",
        "top-1 errors at one crop on validation and on training images, less those of the wide network, seed by seed",
        "reproduced if the validation error rises and the training error falls, each with an interval that excludes 0; "
        "partly if at least the gap between them grows, its interval above 0",
        overfit,
        f"validation {TABLE2[WIDEST].val1 - TABLE2[WIDE].val1:+.1f}, training "
        f"{TABLE2[WIDEST].train1 - TABLE2[WIDE].train1:+.1f} points of top-1",
        sweep=True,
    ),
    Claim(
        "ablation-order", "ablation", "Table 2", "The order of the twelve networks.",
        "Spearman's correlation of mean validation top-1 errors with the paper's",
        f"reproduced if it is at least {ALIKE} and less likely by chance than one in twenty, partly if only the latter",
        order, "1 by definition", sweep=True,
    ),
)  # fmt: skip
