"""Claims of section 4, Fig. 4, on how features develop during training."""

from typing import Any

import numpy as np

from zfrepro.verdicts import Claim, Finding
from zfrepro.words import graded

SETTLED = 0.9  # CKA with the final self from which a layer counts as settled
OTHERWISE = (0.7, 0.8, 0.85, 0.9, 0.95)  # what might be called settled as well
FEW, LATE = 10, 40  # epochs
LOWER, UPPER = ("conv1", "conv2"), ("conv4", "conv5")
CONVS = ("conv1", "conv2", "conv3", "conv4", "conv5")
FILTERED = CONVS[1:]  # a projection from layer 1 is the filter itself, times the activation, whatever the image


def runs(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The curves of every recorded run."""
    return [value for name, value in sorted(record.items()) if name.startswith("seed") and isinstance(value, dict)]


def settled(run: dict[str, Any], layer: str, at: float = SETTLED) -> int:
    """The first kept epoch from which a layer stays settled, its CKA with its final self no lower than `at`."""
    below = [e for e, value in zip(run["epochs"], run["cka"][layer], strict=True) if not value >= at]
    later = [e for e in run["epochs"] if not below or e > below[-1]]
    return later[0]


def when_settled(record: dict[str, Any], layers: tuple[str, ...], at: float) -> str:
    found = runs(record)
    when = ", ".join(f"{layer} {'/'.join(str(settled(run, layer, at)) for run in found)}" for layer in layers)
    return f"settled at epoch: {when} (of {found[0]['epochs'][-1]}, {len(found)} run{'s' * (len(found) > 1)})"


def lower(record: dict[str, Any], at: float = SETTLED) -> Finding:
    early = [settled(run, layer, at) <= FEW for run in runs(record) for layer in LOWER]
    return Finding(graded(*early), when_settled(record, LOWER, at))


def upper(record: dict[str, Any], at: float = SETTLED) -> Finding:
    late = [settled(run, layer, at) > LATE for run in runs(record) for layer in UPPER]
    return Finding(graded(*late), when_settled(record, UPPER, at))


def order(record: dict[str, Any], at: float = SETTLED) -> Finding:
    whole = [
        all(a <= b for a, b in zip(when, when[1:], strict=False)) and when[0] < when[-1]
        for when in ([settled(run, layer, at) for layer in CONVS] for run in runs(record))
    ]
    ends = [settled(run, CONVS[0], at) < settled(run, CONVS[-1], at) for run in runs(record)]
    verdict = "reproduced" if all(whole) else "partly" if all(ends) else "not reproduced"
    return Finding(verdict, when_settled(record, CONVS, at))


def costs_of_freezing(record: dict[str, Any]) -> dict[str, list[float]]:
    """Epoch of the freezing -> points of accuracy that it costs, one a seed."""
    accuracy = record["freezing"]["accuracy"]
    return {
        after: [whole - left for whole, left in zip(accuracy["never"], values, strict=True)]
        for after, values in accuracy.items()
        if after != "never"
    }


def lead_of_same(run: dict[str, Any], layer: str) -> float:
    """By how much nearer maps whose strongest image stays come to their last projection than maps in general."""
    pairs = zip(run["same_cosine"][layer], run["cosine"][layer], strict=True)
    return float(np.mean([same - both for same, both in pairs if same is not None and both is not None]))


def jumps(record: dict[str, Any]) -> Finding:
    found = runs(record)
    leads = {layer: [lead_of_same(run, layer) for run in found] for layer in FILTERED}
    held = all(min(own) > 0 for own in leads.values())
    listed = ", ".join(f"{layer} {min(own):+.2f} to {max(own):+.2f}" for layer, own in leads.items())
    return Finding(
        "partly" if held else "not reproduced",
        f"jumps {'go' if held else 'do not always go'} with another strongest image; cosine where the image stays, "
        f"less that of all maps, lowest to highest of {len(found)} run{'s' * (len(found) > 1)}: {listed}",
    )


RULE_WHEN = (
    f"a layer is settled from the kept epoch on after which its CKA with its final self stays at {SETTLED} or above; "
)

CLAIMS = (
    Claim(
        "evolution-lower", "evolution", "section 4, Fig. 4", "The lower layers converge within a few epochs.",
        "linear CKA of layers 1 and 2 on validation images with their final selves",
        RULE_WHEN + f"reproduced if layers 1 and 2 are by epoch {FEW} in every run, partly if in some",
        lower, "a few epochs",
    ),
    Claim(
        "evolution-upper", "evolution", "section 4, Fig. 4",
        "The upper layers develop only after a considerable number of epochs (40 to 50).",
        "the same of layers 4 and 5",
        RULE_WHEN + f"reproduced if layers 4 and 5 are only after epoch {LATE} in every run, partly if in some",
        upper, "40 to 50 epochs",
    ),
    Claim(
        "evolution-order", "evolution", "section 4, Fig. 4", "Layers settle from the bottom up.",
        "the epoch from which each conv layer is settled",
        RULE_WHEN + "reproduced if no layer is so before the one below it, and layer 5 after layer 1, in every run; "
        "partly if only the latter",
        order,
    ),
    Claim(
        "evolution-jumps", "evolution", "section 4, Fig. 4",
        "Sudden jumps of a projection come from another image becoming the strongest.",
        "cosine of a map's projections at successive kept epochs, mean over maps, epochs and runs",
        "partly if in each of layers 2 to 5 and in every run maps whose strongest image stays change less than maps do "
        "in general, else not reproduced. Never more than partly: projections of two images have little in common even "
        "at one moment, so that jumps go with another image is nearly bound to hold and does not show the cause. Layer "
        "1 is left out: its projection is the filter itself, whatever the image",
        jumps,
    ),
)  # fmt: skip
