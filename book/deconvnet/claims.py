"""Claims of section 2.1 on the deconvnet."""

from typing import Any

from zfrepro.verdicts import Claim, Finding
from zfrepro.words import told

SAME = 1e-4  # relative; half a hundred rounding errors of single precision
DEEP = ("conv2", "conv3", "conv4", "conv5")


def backpropagation(record: dict[str, Any]) -> Finding:
    found = record["relation"]
    gap = max(own["rule_gap"] for own in found.values())
    cosine = {layer: own["gradient_cosine"][0] for layer, own in found.items()}
    listed = ", ".join(f"{layer} {value:.2f}" for layer, value in cosine.items())
    # Layer 1 has no ReLU below it and no norm, so both must be the same there and differ above.
    differ = all(cosine[layer] < 1 - SAME for layer in DEEP)
    same = gap < SAME
    return Finding(
        "reproduced" if same and differ else "partly" if same else "not reproduced",
        f"largest relative difference {gap:.0e} over five layers; cosine with the plain gradient: {listed}",
    )


def resemblance(record: dict[str, Any]) -> Finding:
    leads = {layer: record["resemblance"][layer]["lead"] for layer in DEEP}
    control = {layer: record["untrained"][layer]["lead"] for layer in DEEP}
    clear = [layer for layer, (_, low, _) in leads.items() if low > 0]
    as_much = [layer for layer in DEEP if control[layer][2] >= leads[layer][1]]
    listed = ", ".join(f"{layer} {told(*lead)}, untrained {control[layer][0]:+.2f}" for layer, lead in leads.items())
    return Finding(
        "reproduced" if len(clear) == len(leads) else "partly" if clear else "not reproduced",
        f"lead over {record['count']} images: {listed}. An untrained network leads by as much in {len(as_much)} of "
        f"{len(DEEP)} layers" + (": there the likeness is the instrument's, not the feature's" if as_much else ""),
    )


CLAIMS = (
    Claim(
        "deconvnet-backpropagation",
        "deconvnet",
        "Section 2.1 (ECCV)",
        "Projecting one activation resembles backpropagating it; what differs is the ReLU, applied to the signal on "
        "its way down, and the contrast norm, which is skipped.",
        "Largest relative difference between the deconvnet, written layer by layer, and the gradient of the same units "
        "with just these two changes; cosine with the unchanged gradient.",
        "Reproduced if the difference is below 1e-4 in all five layers and the unchanged gradient differs in layers 2 "
        "to 5; partly if only the former.",
        backpropagation,
    ),
    Claim(
        "deconvnet-resembles",
        "deconvnet",
        "Section 2.1",
        "The reconstruction of a single activation resembles a small piece of the input image.",
        "Correlation (grey levels) of the strongest unit's projection with the patch it saw, less that with the same "
        "place in another image, averaged over images; layers 2 to 5. The same of an untrained network is the control: "
        "what it has too comes with the switches of the image, not with what was learned.",
        "Reproduced if the 95 % bootstrap interval of the difference lies above zero in all four layers, partly if in "
        "some. The paper says no more than that the picture resembles the image, so the control changes what the "
        "verdict is worth, not the verdict.",
        resemblance,
    ),
)
