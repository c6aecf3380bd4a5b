"""Claims of section 4.1 of the arXiv text, Fig. 5, on shifts, scales and turns of the image."""

from typing import Any

from zfrepro.verdicts import Claim, Finding
from zfrepro.words import graded, told_of

FAMILIES = ("translation", "scale", "rotation")
LINEAR = 0.9  # R squared of a line through zero from which a curve counts as quasi-linear
STABLE = 80  # per cent of labels that stay


def percent(found: dict[str, float]) -> str:
    return told_of(found, ".0f")


def small(record: dict[str, Any]) -> Finding:
    listed = ", ".join(
        f"{family} {record[family]['small']['conv1']['mean']:.2f} against {record[family]['small']['fc7']['mean']:.2f} "
        f"(lead {told_of(record[family]['small_lead'])})"
        for family in FAMILIES
    )
    held = [record[family]["small_lead"]["low"] > 0 for family in FAMILIES]
    return Finding(graded(*held), f"layer 1 against layer 7, {record['scale']['n']} images: {listed}")


def linear(record: dict[str, Any]) -> Finding:
    reached = {family: record[family]["linearity"]["fc7"] for family in ("translation", "scale")}
    listed = ", ".join(f"{family} {value:.2f}" for family, value in reached.items())
    held = [value >= LINEAR for value in reached.values()]
    return Finding(graded(*held), f"R squared of a line: {listed}")


def stable(record: dict[str, Any]) -> Finding:
    shares = {family: record[family]["kept_share"] for family in ("translation", "scale")}
    listed = ", ".join(f"{family} {percent(share)} %" for family, share in shares.items())
    worst = ", ".join(f"{family} {record[family]['worst_right']:.0f} %" for family in shares)
    held = [share["low"] >= STABLE for share in shares.values()]
    return Finding(
        graded(*held),
        f"labels that stay: {listed}; images right under every amount: {worst}, untouched "
        f"{record['scale']['clean_right']:.0f} %",
    )


def rotation(record: dict[str, Any]) -> Finding:
    turned = record["rotation"]["kept_share"]
    others = [record[family]["kept_share"] for family in ("translation", "scale")]
    held = [turned["high"] < other["low"] for other in others] + [turned["high"] < STABLE]
    return Finding(
        graded(*held),
        f"labels that stay under turns: {percent(turned)} %, under shifts {percent(others[0])} %, scales "
        f"{percent(others[1])} %",
    )


def symmetric(record: dict[str, Any]) -> Finding:
    kinds = record["rotation"]["by_class"]
    names = [name for name in record["rotation"]["symmetric"] if name in kinds]
    if not names:
        return Finding("not tested", "no sphere was recognised")
    sphere = max(names, key=lambda name: kinds[name]["mean"])
    others = {name: found["mean"] for name, found in kinds.items() if name not in names}
    best = max(others, key=others.get)
    low, average = kinds[sphere]["low"], sum(others.values()) / len(others)
    rank = 1 + sum(mean > kinds[sphere]["mean"] for mean in others.values())
    return Finding(
        "reproduced" if low > others[best] else "partly" if low > average else "not reproduced",
        f"{sphere} still right in {percent(kinds[sphere])} % of the turns, rank {rank} of {len(kinds)} classes; the "
        f"best other, {best}, {others[best]:.0f} %, mean of the others {average:.0f} %",
    )


WHERE = "arXiv section 4.1, Fig. 5"

CLAIMS = (
    Claim(
        "invariance-small", "invariance", WHERE,
        "Small transformations have a dramatic effect in the first layer and a lesser one in the top layer.",
        "distance of features in units of the distance between two images, layer 1 and layer 7, at the smallest change "
        "(5 of 224 px, 5 % larger, 5 degrees)",
        "reproduced if layer 1's lead over layer 7 is above zero (95 % interval over images) in all three families, "
        "partly if in some",
        small,
    ),
    Claim(
        "invariance-linear", "invariance", WHERE,
        "In the top layer the effect is quasi-linear for translation and scale.",
        "R squared of a line through zero for the mean layer-7 distance against the size of the change",
        f"reproduced if at least {LINEAR} for both, partly if for one",
        linear,
    ),
    Claim(
        "invariance-stable", "invariance", WHERE, "The network's output is stable to translations and scalings.",
        "share of images whose label stays, mean over all amounts of Fig. 5",
        f"reproduced if the 95 % interval lies above {STABLE} % for both, partly if for one",
        stable,
    ),
    Claim(
        "invariance-rotation", "invariance", WHERE, "The output is not invariant to rotation.",
        "the same under turns of 5 to 315 degrees",
        f"reproduced if the interval lies below those of shifts and scales and below {STABLE} %, partly if in part",
        rotation,
    ),
    Claim(
        "invariance-symmetry", "invariance", WHERE, "Except for objects with rotational symmetry.",
        "share of turns after which an image that was right is still right, class by class; the sphere (ball, golf "
        "ball) against the others",
        "reproduced if the sphere's 95 % interval over images lies above the mean of every other class, partly if "
        "above the mean of all the others",
        symmetric, "one image",
    ),
)  # fmt: skip
