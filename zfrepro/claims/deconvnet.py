"""Claims of section 2.1 on the deconvnet."""

from typing import Any

from zfrepro.claims import Claim, Finding

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
    clear = [layer for layer, (_, low, _) in leads.items() if low > 0]
    listed = ", ".join(
        f"{layer} {record['resemblance'][layer]['own'][0]:.2f} against {record['resemblance'][layer]['other'][0]:.2f} "
        f"(lead {mean:+.2f}, {low:+.2f} to {high:+.2f})"
        for layer, (mean, low, high) in leads.items()
    )
    return Finding(
        "reproduced" if len(clear) == len(leads) else "partly" if clear else "not reproduced",
        f"{record['count']} images: {listed}",
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
        "place in another image, averaged over images; layers 2 to 5.",
        "Reproduced if the 95 % bootstrap interval of the difference lies above zero in all four layers, partly if in "
        "some.",
        resemblance,
    ),
)
