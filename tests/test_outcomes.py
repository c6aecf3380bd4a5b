"""No rule is one that cannot fail. A claim that reads its numbers by their paths alone is judged on
a record of nothing else, once for each part of its rule; any other on its recorded numbers, with
others at the paths that its rule reads, once for every outcome.
"""

import copy
from collections.abc import Iterator
from fnmatch import filter as matching
from itertools import cycle
from typing import Any

import numpy as np
import pytest

from book.architecture.claims import levels
from zfrepro import claims, records
from zfrepro.claims import DATASETS, Claim, Quantity, all_claims
from zfrepro.networks import STEMS
from zfrepro.paper import TABLE2

OPEN, SMALLER, NO = "not resolved", "same direction, other size", "contradicts"
NEVER = ("transfer-caltech256", "transfer-voc", "projections-linear")  # no images, or arithmetic
JUDGED = {claim.name: claim for claim in all_claims() if claim.name not in NEVER}


@pytest.mark.parametrize("name", NEVER)
def test_what_cannot_be_tested_has_no_outcome(name):
    (claim,) = (claim for claim in all_claims() if claim.name == name)
    assert claim.finding("diorama").outcome in ("not tested", "not applicable")


# --- claims that read paths alone ----------------------------------------------------------------

STEP = 0.05  # from a bound, far less than what lies between two bounds


def by_paths(claim: Claim) -> bool:
    return not claim.size and all(isinstance(each.source, str) for each in claim.quantities)


def judged(claim: Claim, values: dict[Quantity, Any]) -> str:
    """Judge a claim on a record of these numbers or intervals, each at the path of its quantity."""
    record = {each.source: np.divide(v, each.scale).tolist() for each, v in values.items()}
    return claim.outcome(record)


@pytest.mark.parametrize("name", [name for name, claim in JUDGED.items() if by_paths(claim)])
def test_every_part_of_a_rule_that_reads_paths_decides(name, monkeypatch):
    monkeypatch.setattr(claims, "lookup", lambda record, path: record[path])
    claim = JUDGED[name]
    parts = getattr(claim.holds, "parts", (claim.holds,))
    values = dict.fromkeys(claim.quantities, 0.0)
    for part in parts:
        values[part.quantity] = values.get(part.bound, part.bound) + part.sign * STEP
    assert judged(claim, values) == "agrees"
    for part in parts:
        bound = values.get(part.bound, part.bound)
        open_ = values | {part.quantity: [bound, bound - STEP, bound + STEP]}
        refuted = values | {part.quantity: bound - part.sign * STEP}
        assert [judged(claim, open_), judged(claim, refuted)] == [OPEN, NO]


# --- all other claims ----------------------------------------------------------------------------

OTHERS = {name for name, claim in JUDGED.items() if not by_paths(claim)}


def places(held: Any, first: str, *rest: str) -> Iterator[tuple[Any, Any]]:
    """Give each container and key at a path of patterns; runs go by the name of their network."""
    keys: list = []
    if isinstance(held, list):
        names = [run.get("arch", run.get("name")) for run in held]
        keys = [i for i, name in enumerate(names) if matching([name], first)]
    elif isinstance(held, dict):
        keys = matching(held, first)
    for key in keys:
        yield from places(held[key], *rest) if rest else [(held, key)]


def with_values(record: dict, values: dict[str, Any]) -> dict:
    """Return a copy of a record with other values at some paths, such as `rules-*/cosine`.

    One number is an interval of no width, or all numbers of a list; two are the ends of an
    interval. Several runs take several numbers in turn. None takes a part of the record away.
    """
    changed = copy.deepcopy(record)
    for path, value in values.items():
        found = list(places(changed, *path.split("/")))
        assert found, f"the record has no {path}"
        numbers = value if isinstance(value, list) else [value]
        for (holder, key), number in zip(found, cycle(numbers), strict=False):
            held = holder[key]
            if value is None:
                del holder[key]
            elif isinstance(held, dict):
                low, high = numbers[0], numbers[-1]
                holder[key] = held | {"mean": (low + high) / 2, "low": low, "high": high}
            elif isinstance(held, list):
                holder[key] = value if value is numbers else numbers * len(held)
            else:
                holder[key] = number
    return changed


def error(name: str, view: str = "one_crop") -> str:
    return f"runs/{name}/errors/{view}/top1_error"


def ten_crops(name: str) -> str:
    return error(name, "ten_crops")


AVERAGE, BOTH = (f"ensembles/{name}/errors/ten_crops/top1_error" for name in ("zfnet", "both"))


def design(**effects: float) -> dict[str, list]:
    """Errors of three seeds of each network of the design, whose changes have these effects."""
    noise = np.random.default_rng(0).normal(50, 0.2, (len(STEMS), 3))
    return {
        error(name): list(
            seeds + sum(effects.get(k, 0) for k, made in levels(name).items() if made)
        )
        for name, seeds in zip(STEMS, noise, strict=True)
    }


EARLY, LATE, LAST = [0.1, 0.95, 0.98, 1], [0.1, 0.79, 0.895, 1], [0.1, 0.2, 0.3, 1]  # CKA
STEPS = {name: sum(levels(name).values()) for name in STEMS}  # from Krizhevsky's to ZFNet's
GROWING = [0.1, 0.2, 0.4, 0.8]
LAYER = {i: f"trained-svm-conv{i}/accuracy" for i in range(1, 6)}
NONE, SOME = [0] * 48, [1] * 30 + [0] * 18  # of 48 filters
MASK = "rules-*/deconvnet_minus/forward mask"

# A record, and what makes every claim agree that reads it.
AGREES: dict[str, dict[str, Any]] = {
    "network/diorama": {},
    "deconvnet/diorama": {
        "relation/*/rule_gap": 1e-6,
        "relation/conv[2345]/gradient_cosine": 0.5,
    },
    "sweeps/training-diorama": {
        ten_crops("*"): 40.5,
        ten_crops("zfnet"): 38.4,
        ten_crops("zfnet-wide"): 37.5,
        ten_crops("zfnet-unclipped"): 41,
        AVERAGE: 36.7,
        BOTH: 36.0,
    },
    "evolution/imagenet20": {
        "seed?/epochs": [1, 5, 60, 100],
        "seed?/cka/conv[123]": EARLY,
        "seed?/cka/conv[45]": LATE,
        "seed?/cosine/*": 0.2,
        "seed?/same_cosine/*": 0.9,
    },
    "architecture/imagenet20": {
        "filters/zfnet/dead/any": NONE,
        "filters/krizhevsky/dead/any": SOME,
        "filters/zfnet/centroid": 0.2,
        "filters/krizhevsky/centroid": 0.3,
        **{
            f"runs/{name}/{key}": -n
            for name, n in STEPS.items()
            for key in ("aliased", "top1_error")
        },
    },
    "sweeps/architecture-imagenet20": design(kernel=-6, stride=-6, blur=-6),
    "invariance/diorama": {
        "translation/amounts": GROWING,
        "scale/amounts": [1.1, 1.2, 1.4, 1.8],
        "*/relative/conv1/mean": [0.5, 0.6, 0.61, 0.61],
        "*/relative/fc7/mean": GROWING,
        "*/right_share": 90,
        "rotation/right_share": 40,
        "rotation/by_class/*": 30,
        "rotation/by_class/ball": 95,
    },
    "occlusion/diorama": {},
    "correspondence/diorama": {
        "conv5/*/*/margin": [25, 35],
        "fc7/*/*/margin": -2,
        "classes/conv5/between": 0.1,
        "classes/fc7/between": 0,
        "untrained/*/conv5/*/*/margin": 0,
    },
    "sweeps/ablation-diorama": {error(name): row.val1 for name, row in TABLE2.items()}
    | {error(name, "train"): row.train1 for name, row in TABLE2.items()},
    "transfer/diorama": {
        "curve-softmax-fc7/*": 85,
        "curve-softmax-fc7/3": 57,
        "scratch-*/accuracy": 46,
        "scratch-*/train": 95,
        "untrained-svm-*/accuracy": 30,
        **{path: 30 + 10 * i for i, path in LAYER.items()},
        "trained-svm-fc?/accuracy": 80,
        "trained-softmax-conv5/accuracy": 83,
        "trained-softmax-fc7/accuracy": 85.4,
    },
    "projections/diorama": {
        "deletion-*/deconvnet_minus/*": -0.2,
        f"{MASK}/coherence": 0.2,
        f"{MASK}/fineness": -0.1,
        "truth-*/deconvnet_minus/*": 0.2,
        "switches-*/other_unit_minus_other_switches": 0.5,
        "switches-*/other_switches_minus_unrelated": 0.02,
        "switches-*/overwritten": 0.99,
        "random-*/max_minus_none": 0.1,
        "adversarial/tried": 10,
        "adversarial/flipped": 9,
        "norm/layers/*/most": 0.594,
        "norm/layers/conv2/least": 0.5,
        "rules-*/true_norm_cosine": 0.99,
    },
}

# A claim, a path, and what leaves the claim open there, and what contradicts it.
CASES: list[tuple[str, str, Any, Any]] = [
    ("deconvnet-backpropagation", "relation/conv3/gradient_cosine", [0.5, 0.4, 1], 1),
    ("training-better", ten_crops("zfnet"), [38, 42], 43.4),
    ("training-wide", ten_crops("zfnet-wide"), [36, 40], 40),
    ("training-ensemble", ten_crops("zfnet"), [35, 39], 36),
    ("training-clipping", ten_crops("zfnet-unclipped"), [36, 41], 36),
    ("invariance-stable", "scale/right_share", [80, 90], 60),
    ("invariance-rotation", "rotation/right_share", [70, 90], 90),
    ("invariance-symmetry", "rotation/by_class/mug", [90, 98], 98),
    ("correspondence-layer5", "conv5/sign/random/margin", [-1, 1], -20),
    ("correspondence-layer5-controlled", "conv5/cosine/borrowed/margin", [-1, 1], -5),
    ("correspondence-layer7-controlled", "fc7/equal number/matched/margin", [0, 2], 5),
    ("correspondence-learned", "conv5/cosine of maps/matched/margin", [-1, 1], -10),
    ("correspondence-learned", "untrained/1/conv5/cosine/matched/margin", 30, 40),
    ("ablation-full", error("krizhevsky-without-6-7"), [36, 50], 35),  # a drop is no slight rise
    ("ablation-middle", error("krizhevsky-without-3-4"), [43, 53], 55.4),
    ("ablation-ruin", error("krizhevsky-without-3-4-6-7"), [50, 75], 41.3),
    ("ablation-depth", error("krizhevsky-without-3-4-6-7"), [45, 55], 46.3),  # worst, not enough
    ("ablation-sizes", error("zfnet-fc2048"), [38, 46], 45.2),
    ("ablation-overfit", error("zfnet-wide-fc8192"), [36, 40], 36.3),
    ("transfer-pretrained", "scratch-*/accuracy", [45, 95], 90),
    ("transfer-few", "curve-softmax-fc7/3", [43, 48, 44, 49, 46], 40),
    ("transfer-depth", LAYER[3], [44, 58, 46, 56, 50], 45),
    ("transfer-flat", "trained-svm-fc7/accuracy", [70, 82, 72, 80, 76], 70),  # a loss is not flat
    ("transfer-top", "trained-softmax-fc7/accuracy", [80, 87, 81, 86, 84], 75),
    ("transfer-learned", "untrained-svm-conv4/accuracy", [65, 76, 67, 74, 70], 80),
    ("projections-weighting", "deletion-conv3/deconvnet_minus/another unit", [-0.1, 0.1], 0.2),
    ("projections-mask", f"{MASK}/coherence", [-0.1, 0.2], -0.1),
    ("projections-part", "truth-conv3/deconvnet_minus/contrast", [-0.1, 0.1], -0.2),
    ("projections-switches", "switches-conv3/other_unit_minus_other_switches", [-0.1, 0.1], -0.5),
    ("projections-without", "switches-conv3/other_switches_minus_unrelated", [0.05, 0.15], 0.5),
    ("projections-pooling", "random-conv3/max_minus_none", [-0.1, 0.1], -0.1),
    ("projections-gradient", "deletion-conv3/deconvnet_minus/gradient", [-0.1, 0.1], 0.1),
    ("projections-collisions", "switches-conv3/overwritten", [0.9, 0.99], 0.5),
    ("projections-norm", "rules-*/true_norm_cosine", [0.9, 0.99], 0.5),
]

# A claim, what is changed where it agrees, and what it becomes.
FURTHER: list[tuple[str, dict[str, Any], str]] = [
    ("network-sizes", {"geometry/zfnet/sizes/conv1": 109}, NO),
    ("network-fields", {"geometry/krizhevsky/fields/conv2": 50}, NO),
    ("network-fields", {"measured_fields/krizhevsky/conv4": 130}, NO),
    ("deconvnet-backpropagation", {"relation/conv5/rule_gap": 1e-3}, NO),
    ("training-better", {ten_crops("zfnet"): 33}, SMALLER),
    ("training-ensemble", {AVERAGE: 31}, SMALLER),
    ("training-both", {ten_crops("krizhevsky"): [39, 42]}, OPEN),  # seeds vary more than it gains
    ("training-both", {BOTH: 35}, SMALLER),
    ("training-both", {BOTH: 39}, NO),
    ("evolution-lower", {"seed1/cka/conv1": LATE}, OPEN),
    ("evolution-lower", {"seed?/cka/conv[12]": LATE, "seed?/cka/conv5": EARLY}, NO),
    ("evolution-lower", {"seed?/cka/conv2": [0.1, 0.8, 0.9, 1], "seed?/cka/conv5": LAST}, SMALLER),
    ("evolution-upper", {"seed1/cka/conv4": EARLY}, OPEN),
    ("evolution-upper", {"seed?/cka/conv1": LATE, "seed?/cka/conv[45]": EARLY}, NO),
    ("evolution-jumps", {"seed1/same_cosine/*": 0.3}, OPEN),
    ("evolution-jumps", {"seed?/same_cosine/*": 0.3}, NO),
    ("evolution-order", {"seed1/cka/conv[45]": EARLY}, OPEN),
    ("evolution-order", {"seed?/cka/conv[123]": LATE, "seed?/cka/conv[45]": EARLY}, NO),
    ("architecture-dead", {"filters/krizhevsky/dead/any": [1, *NONE[1:]]}, OPEN),
    ("architecture-dead", {"filters/*/dead/any": SOME, "filters/k*/dead/any": NONE}, NO),
    ("architecture-bands", {"filters/krizhevsky/centroid": [0.2] * 14 + [0.3] * 34}, OPEN),
    ("architecture-bands", {"filters/krizhevsky/centroid": 0.2}, NO),
    ("architecture-size-and-stride", design(stride=-6, width=-6), OPEN),
    ("architecture-size-and-stride", design(kernel=6, stride=6), NO),
    ("architecture-cause", design(stride=-6, blur=-3), OPEN),
    ("architecture-cause", design(stride=-6, width=-6), NO),
    ("architecture-computation", design(stride=-6, width=-6), OPEN),
    ("architecture-computation", design(kernel=6, stride=6), NO),
    (
        "architecture-predicts",
        {f"runs/{k}/top1_error": [-n, n, -n] for k, n in STEPS.items()},
        OPEN,
    ),
    ("architecture-predicts", {f"runs/{k}/top1_error": n for k, n in STEPS.items()}, NO),
    ("invariance-linear", {"scale/relative/fc7/mean": [0.1, 0.8, 0.8, 0.8]}, NO),
    ("invariance-linear", {"scale/relative/fc7/mean": [0.6, 0.7, 0.9, 1.3]}, SMALLER),
    ("invariance-symmetry", {"rotation/symmetric": ["globe"]}, "not tested"),
    ("invariance-rendered", {"rendered": None}, "not tested"),
    ("occlusion-object", {"objects": None}, "not tested"),
    ("correspondence-layer5", {"conv5/sign/random/margin": 5}, SMALLER),
    *(  # one margin is refuted, another reaches further
        (
            f"correspondence-layer{number}-controlled",
            {f"{layer}/cosine/{control}/margin": value for control, value in margins.items()},
            NO,
        )
        for number, layer, margins in (
            (5, "conv5", {"matched": [-2, -1], "borrowed": [-9, 5]}),
            (7, "fc7", {"matched": [2, 3], "borrowed": [-5, 9]}),
        )
    ),
    ("correspondence-breeds", {"classes/fc7/between": [0.09, 0.11]}, "not applicable"),
    ("ablation-full", {error("krizhevsky-without-6-7"): 60}, NO),
    ("ablation-order", {error(name): 100 - row.val1 for name, row in TABLE2.items()}, NO),
    ("transfer-pretrained", {"scratch-*/accuracy": 75}, SMALLER),
    ("transfer-pretrained", {"scratch-*/train": 89.9}, "not tested"),
    ("transfer-few", {"untrained-svm-conv2/accuracy": 90}, NO),
    ("transfer-depth", {LAYER[1]: 49.9, LAYER[5]: 70.1}, SMALLER),
    ("transfer-flat", {LAYER[1]: 90}, NO),  # nothing rises
    ("transfer-learned", {"untrained-svm-conv1": None}, "not tested"),
    ("projections-mask", {f"{MASK}/coherence": 0.03}, SMALLER),
    ("projections-mask", {f"{MASK}/fineness": 0.1}, NO),
    ("projections-part", {"truth-*": None}, "not tested"),  # as in photographs
    ("projections-adversarial", {"adversarial/flipped": 3}, "not tested"),
    ("projections-norm", {"norm/layers/*/least": 0.59}, "not tested"),  # a constant
]


def outcome(name: str, changes: dict[str, Any]) -> str:
    """Judge a claim where it agrees, with these changes."""
    claim = JUDGED[name]
    (file,) = AGREES.keys() & {claim.file(dataset) for dataset in DATASETS}
    agreeing = with_values(records.read(file), AGREES[file])
    return claim.judge(with_values(agreeing, changes)).outcome


def test_every_other_claim_can_be_contradicted():
    contradicted = {name for name, *_ in CASES} | {name for name, _, word in FURTHER if word == NO}
    assert contradicted == OTHERS


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_every_claim_can_agree(name):
    assert outcome(name, {}) == "agrees"


@pytest.mark.parametrize(("name", "path", "open_", "failing"), CASES)
def test_a_claim_stays_open_and_is_contradicted(name, path, open_, failing):
    assert [outcome(name, {path: value}) for value in (open_, failing)] == [OPEN, NO]


@pytest.mark.parametrize(("name", "changes", "expected"), FURTHER)
def test_a_claim_has_its_other_outcomes_too(name, changes, expected):
    assert outcome(name, changes) == expected
