"""Claims of section 4.1 (arXiv Fig. 6, ECCV Fig. 5) on the first two layers and their repair."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from book.architecture.filters import HIGH, LOW, PLAIN, middle
from zfrepro import paper, stats, sweeps
from zfrepro.claims import Above, AllOf, Below, Claim, Condition, Quantity, Record, points
from zfrepro.networks import STEMS
from zfrepro.stats import Interval

Weights = dict[str, float]

OLD, REPAIRED = "11s4-5s1", "7s2-5s2"  # Krizhevsky's first two layers and the paper's
OLD_WIDE, REPAIRED_WIDE = f"{OLD}-wide", f"{REPAIRED}-wide"
PRINTED = {
    OLD: paper.TABLE1["replication"],
    OLD_WIDE: paper.KRIZHEVSKY_WIDE,
    REPAIRED: paper.TABLE1["zfnet"],
    REPAIRED_WIDE: paper.TABLE1["zfnet-wide"],
}
"""Two changes at once, which no table of the paper shows together."""
FIRST_LAYER = ("kernel", "stride", "blur")  # changes that concern layer 1 only
THIRD = 100 / 3  # % of the filters, if they were spread evenly over low, middle and high


# --- the design ----------------------------------------------------------------------------------


def levels(name: str) -> dict[str, bool]:
    """Return which changes a network of `networks.STEMS` has made, from Krizhevsky's to ZFNet's."""
    first, second, third = STEMS[name].convs[:3]
    return {
        "kernel": first.kernel == 7,
        "stride": first.stride == 2 and not first.blur,
        "stride2": second.stride == 2,
        "width": third.maps == 512,
        "blur": first.blur,
    }


def matched(names: Iterable[str], factor: str, **given: bool) -> list[tuple[str, str]]:
    """Return the pairs (without, with) of networks that differ in one change and nothing else.

    Args:
        factor: one of `levels`.
        given: changes that both have made or not, such as stride2=True.
    """
    by_levels = {frozenset(levels(name).items()): name for name in names}
    pairs = []
    for name in by_levels.values():
        made = levels(name)
        other = by_levels.get(frozenset((made | {factor: True}).items()))
        if other and not made[factor] and all(made[key] == value for key, value in given.items()):
            pairs.append((name, other))
    return pairs


def effect_weights(names: Iterable[str], factor: str, **given: bool) -> Weights:
    """Return the weights of the networks in the mean effect of a change over `matched` pairs."""
    pairs = matched(names, factor, **given)
    weights: Weights = {}
    for old, new in pairs:
        weights[new] = weights.get(new, 0) + 1 / len(pairs)
        weights[old] = weights.get(old, 0) - 1 / len(pairs)
    return weights


def effect(record: Record, factor: str, **given: bool) -> Interval:
    """Return what a change does to the top-1 error, in points: the mean over `matched` pairs.

    The interval is over seeds, by what network and seed leave of the errors (`stats.pooled_t`).
    """
    return sweeps.difference(record, effect_weights(sweeps.errors(record), factor, **given))


def lowpass_less_half(record: Record) -> Interval:
    """Return the effect of a low-pass filter less half of that of stride 2, in points."""
    weights = effect_weights(STEMS, "blur")
    for name, weight in effect_weights(STEMS, "stride", stride2=False, width=False).items():
        weights[name] = weights.get(name, 0) - weight / 2
    return sweeps.difference(record, weights)


def agreements(runs: Iterable[Record], factor: str) -> list[bool]:
    """Return of each matched pair of one seed whether the one that aliases less errs less."""
    rows = {run["arch"]: run for run in runs}
    return [
        (rows[a]["aliased"] < rows[b]["aliased"]) == (rows[a]["top1_error"] < rows[b]["top1_error"])
        for a, b in matched(rows, factor)
    ]


def agreement(record: Record, factors: Iterable[str] = FIRST_LAYER) -> Interval:
    """Return the share of pairs in which the network that aliases less errs less, over seeds."""
    by_seed: dict[int, list[Record]] = {}
    for run in record["runs"]:
        if run["clip"] and run["arch"] in STEMS:
            by_seed.setdefault(run["seed"], []).append(run)
    agree = [[same for f in factors for same in agreements(runs, f)] for runs in by_seed.values()]
    return stats.t_interval([sum(pairs) / len(pairs) for pairs in agree])


def undiagnosed(record: Record) -> str:
    """Return why no pair of small networks can be compared; empty if some can."""
    names = {run["arch"] for run in record["runs"] if run["clip"]} & STEMS.keys()
    return "" if matched(names, "stride") else "no two small networks of one pair are diagnosed"


# --- the pretrained networks ---------------------------------------------------------------------


def share(marked: Sequence[bool]) -> Interval:
    """Return the share of filters that are marked."""
    return stats.wilson(sum(marked), len(marked), "filters")


def middle_share(record: Record, low: float = LOW, arch: str = "krizhevsky") -> Interval:
    """Return the share of a network's filters in the middle band."""
    return share(middle(record["filters"][arch]["centroid"], low))


def middle_gain(record: Record) -> Interval:
    """Return the share of ZFNet's filters in the middle band less that of Krizhevsky's."""
    return stats.less(middle_share(record, arch="zfnet"), middle_share(record))


def fewer_dead(record: Record) -> Interval:
    """Return the share of dead filters in Krizhevsky's layer 1 less that in ZFNet's."""
    filters = record["filters"]
    return stats.less(*(share(filters[arch]["dead"]["any"]) for arch in ("krizhevsky", "zfnet")))


def before_training(record: Record) -> Record:
    """Return the view of a record that shows the untrained networks' aliasing."""
    return {"aliased": {"less": record["aliased"]["untrained"]}}


PLACE = "section 4.1, arXiv Fig. 6"
SHIPPED = "layer 1 of the two pretrained networks, one training each; the interval is over filters"
PERCENT = {"unit": " %", "form": ".0f", "scale": 100.0}
ERRORS = (
    "top-1 error at one crop of small networks (a quarter of the maps, 96 px), the same training "
    "for all; the interval is over seeds"
)
LACKING = partial(sweeps.lacking, networks=tuple(STEMS))
OWN: dict[str, Any] = {"source": "own", "sweep": True, "untestable": LACKING}


def contrast(new: str, old: str) -> Callable[[Record], Interval]:
    """Return the function from a record to the error of one network less that of another."""
    return partial(sweeps.difference, weights={new: 1, old: -1})


def printed_change(new: str, old: str) -> float:
    """Return the difference of two top-1 errors that the paper prints, in points."""
    return paper.contrast(PRINTED, {new: 1, old: -1})


def lowered(name: str, source: Callable[[Record], Interval]) -> Condition:
    """Return the condition that an effect lowers the top-1 error."""
    return Below(points(name, source), 0)


CLAIMS = (
    Claim(
        "architecture-dead", f"{PLACE}(b, c)",
        "The new first layer has fewer dead filters than Krizhevsky's.",
        f"{SHIPPED}: share of filters that no validation image excites, or to less than a tenth of "
        "what is usual in the layer, or that are as disordered as noise",
        Above(points("share of dead filters in Krizhevsky's layer less ZFNet's", fewer_dead,
                     scale=100), 0),
        note="Where no filter is dead, the interval still leaves a difference open.",
        label="dead filters",
    ),
    Claim(
        "architecture-bands", f"{PLACE}(b)",
        "Krizhevsky's first layer is a mix of very high and very low frequencies, with little in "
        "between.",
        f"{SHIPPED}: share of filters whose spectral centroid lies in the middle, above {PLAIN} "
        f"times that of a plain patch of 7x7 and up to {HIGH} cycles per pixel",
        AllOf(
            Below(Quantity("share of Krizhevsky's filters in the middle", middle_share, **PERCENT),
                  THIRD),
            Above(points("ZFNet's share less Krizhevsky's", middle_gain, scale=100), 0),
        ),
        note="Changed after the numbers were known: the middle now begins at the same frequency "
        "for both networks. It began at a plain patch of each network's own filter size, so the "
        "shares were of unequal bands; a second reading, from one cycle across the filter, "
        "decided nothing.",
        label="frequency bands",
    ),
    Claim(
        "architecture-aliasing", f"{PLACE}(d)",
        "The stride of 4 in the first layer causes aliasing; a stride of 2 causes less.",
        "share of the energy of layer 1's maps above the Nyquist limit of the network's own "
        "stride, in the two pretrained networks; the interval is over validation images",
        Above(points("aliased share of Krizhevsky's layer less ZFNet's", "aliased/less"), 0),
        untrained=before_training,
        note="Where untrained networks pass too, the rule tells of the stride, not of learning.",
    ),
    Claim(
        "architecture-second-layer", f"{PLACE}(d, e)",
        "The second layer is cleaner, without the aliasing that is visible in Krizhevsky's.",
        "correlation of layer 2's maps of an image with those of the image shifted by a pixel, "
        "after the first were shifted along by band-limited interpolation, which fails where maps "
        "are aliased; the two pretrained networks, the interval is over validation images",
        Above(Quantity("consistency of ZFNet's layer 2 less Krizhevsky's",
                       "shifts/more/conv2 moved", form="+.3f"), 0),
        note="After the numbers were known, layer 2 was judged without layer 1, where ZFNet is "
        "the more consistent one.",
    ),
    Claim(
        "architecture-size-and-stride", f"{PLACE}: both changed at once",
        "Smaller filters and a smaller stride lower the error each by itself.",
        f"{ERRORS}, the mean over all pairs that differ in one of the two only",
        AllOf(
            lowered("effect of 7x7 instead of 11x11", partial(effect, factor="kernel")),
            lowered("effect of stride 2 instead of 4", partial(effect, factor="stride")),
        ),
        **OWN,
    ),
    Claim(
        "architecture-cause", f"{PLACE}: not separated",
        "A low-pass filter that prevents most aliasing does at least half of what stride 2 does.",
        f"{ERRORS}, of stride 4 behind a low-pass filter against plain stride 4",
        AllOf(
            lowered("effect of the low-pass filter", partial(effect, factor="blur")),
            lowered("the same less half the effect of stride 2", lowpass_less_half),
        ),
        **OWN,
        note="Half of the effect used to be compared without an interval.",
    ),
    Claim(
        "architecture-computation", "Table 1 and the first arXiv version",
        "Repairing layers 1 and 2 lowers the error more than widening layers 3 to 5, which costs "
        "more.",
        f"{ERRORS}, of the repaired narrow network against the old wide one",
        lowered("error of the repaired network less that of the old wide one",
                contrast(REPAIRED, OLD_WIDE)),
        paper=f"top-1 {printed_change(REPAIRED, OLD_WIDE):+.1f} points, in two versions",
        paper_effect=printed_change(REPAIRED, OLD_WIDE),
        **OWN,
        note="Earlier, the distance from a line through the other networks in log multiply-adds "
        "was judged by a prediction interval, as if a design were a sample.",
    ),
    Claim(
        "architecture-predicts", f"{PLACE}: one pair of networks",
        "Of two networks that differ in one change of layer 1, the one that aliases less has the "
        "lower error.",
        "share of all such pairs of the design (filter size, stride, low-pass filter) in which it "
        "does; the interval is over seeds, not over networks, which were designed and not drawn",
        Above(Quantity("share of pairs in which it does", agreement, **PERCENT), 50),
        source="own", untestable=undiagnosed,
        note="Earlier, a rank correlation was bootstrapped over networks, as if they were a "
        "sample.",
    ),
)  # fmt: skip
