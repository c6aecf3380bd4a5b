"""Claims of section 5.1, Table 1: which network does best, alone and averaged with others."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from book.ablation.claims import above, below, change, needing, of, points
from zfrepro.contrasts import precisions_of
from zfrepro.paper import TABLE1
from zfrepro.verdicts import Claim, Finding

VIEW = "ten_crops"  # by which Table 1 is judged
OLD, OURS, WIDE, UNCLIPPED = "krizhevsky", "zfnet", "zfnet-wide", "zfnet-unclipped"

Record = dict[str, Any]


def averages(record: Record, name: str, kind: str = "top1_error", view: str = VIEW) -> dict[tuple, float]:
    """The errors of a sweep's ensembles of one name, by members."""
    found = [row for row in record.get("ensembles", ()) if row["name"] == name]
    return {tuple(map(tuple, row["members"])): row["errors"][view][kind] for row in found}


def single(record: Record, members: tuple, kind: str = "top1_error", view: str = VIEW) -> list[float]:
    """The errors of single runs."""
    found = {(run["arch"], run["seed"]): run["errors"][view][kind] for run in record["runs"]}
    return [found[member] for member in members]


def crossed(record: Record, weights: Mapping[str, float]) -> list[int]:
    """Seeds at which the networks of a contrast were trained in different precisions."""
    by_seed: dict[int, set[str]] = {}
    for (name, seed), precision in precisions_of(record).items():
        if name in weights:
            by_seed.setdefault(seed, set()).add(precision)
    return sorted(seed for seed, precisions in by_seed.items() if len(precisions) > 1)


def seeds(record: Record, weights: Mapping[str, float]) -> str:
    """How many seeds a contrast is of, and how many of them mix precisions."""
    count, mixed = of(record, weights, VIEW).seeds, len(crossed(record, weights))
    return f"{count} seed{'s' * (count > 1)}" + (f", {mixed} of them bf16 against fp32" if mixed else "")


def told(record: Record, weights: Mapping[str, float]) -> str:
    """A contrast in both errors at ten crops and in top-1 at one."""
    one, top5 = of(record, weights), of(record, weights, VIEW, "top5_error")
    ten, count = of(record, weights, VIEW), seeds(record, weights)
    return f"top-1 {points(ten)} points, top-5 {points(top5)}; at one crop top-1 {points(one)}; {count}"


@needing(OLD, OURS)
def better(record: Record) -> Finding:
    weights = change(OURS, OLD)
    return Finding(below(of(record, weights, VIEW), 0), told(record, weights))


@needing(OURS, WIDE)
def wider(record: Record) -> Finding:
    weights = change(WIDE, OURS)
    return Finding(below(of(record, weights, VIEW), 0), told(record, weights))


def ensemble(record: Record) -> Finding:
    found = averages(record, OURS)
    if not found:
        return Finding("not tested", "no ensemble yet: it takes two runs of zfnet")
    ((members, error),) = found.items()
    alone = single(record, members)
    verdict = "reproduced" if error < min(alone) else "partly" if error < np.mean(alone) else "not reproduced"
    said = f"{len(members)} together {error:.1f} %, alone {np.mean(alone):.1f} % ({min(alone):.1f} to {max(alone):.1f})"
    return Finding(verdict, f"{said}: {error - np.mean(alone):+.1f} points of top-1")


def both(record: Record) -> Finding:
    core, joined = averages(record, OURS), averages(record, "both")
    if not core or not joined:
        return Finding("not tested", "no ensemble of both kinds yet")
    ((members, error),) = core.items()
    gains = [value - error for value in joined.values()]
    verdict = "reproduced" if max(gains) < 0 else "partly" if np.mean(gains) < 0 else "not reproduced"
    each = ", ".join(f"{gain:+.1f}" for gain in gains)
    return Finding(verdict, f"{len(members)} networks {error:.1f} %; with one wide network more {each} points of top-1")


@needing(OURS, UNCLIPPED)
def clipping(record: Record) -> Finding:
    weights = change(UNCLIPPED, OURS)
    return Finding(above(of(record, weights, VIEW), 0), told(record, weights))


def _printed(name: str, base: str) -> str:
    new, old = TABLE1[name], TABLE1[base]
    return f"top-1 {new.val1 - old.val1:+.1f}, top-5 {new.val5 - old.val5:+.1f} points"


PLACE = "section 5.1, Table 1"
DIFFERENCE = "validation error at ten crops, less the other's, seed by seed; the verdict is by top-1"
BELOW = "reproduced if the whole 95 % interval is below 0, partly if the mean is"

CLAIMS = (
    Claim(
        "training-better", "training", PLACE,
        "The paper's network clearly outperforms that of Krizhevsky et al.", DIFFERENCE, BELOW,
        better, _printed("zfnet", "replication"), sweep=True,
    ),
    Claim(
        "training-wide", "training", PLACE,
        "With 512, 1024 and 512 maps in layers 3 to 5 the network is better still.", DIFFERENCE, BELOW,
        wider, _printed("zfnet-wide", "zfnet"), sweep=True,
    ),
    Claim(
        "training-ensemble", "training", PLACE,
        "Several networks averaged are better than one.",
        "validation top-1 error at ten crops of the mean of the networks' probabilities, and of each alone",
        "reproduced if the average beats the best of its networks, partly if their mean",
        ensemble, _printed("zfnet-5", "zfnet") + " for five", sweep=True,
    ),
    Claim(
        "training-both", "training", PLACE,
        "Averaged with a wide network, they are better again.",
        "the same of all networks of the one kind and one of the wide ones, each wide one in turn",
        "reproduced if every one of them lowers the error of the average, partly if they do on the mean",
        both, _printed("both-6", "zfnet-5"), sweep=True,
    ),
    Claim(
        "training-clipping", "training", "section 3.1",
        "Rescaling filters that have grown too large is crucial.",
        "validation error at ten crops without the rescaling, less that with it, seed by seed",
        "reproduced if the whole 95 % interval is above 0, partly if the mean is",
        clipping, sweep=True,
    ),
)  # fmt: skip
