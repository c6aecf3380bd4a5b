"""Section 2.1: what the deconvnet computes, and whether its pictures resemble the image."""

from zfrepro.claims import Above, AllOf, Below, Claim, Quantity, Record

LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5")
DEEP = LAYERS[1:]
SAME = 1e-4  # relative; half a hundred rounding errors of single precision


def _gap(record: Record) -> float:
    return max(layer["rule_gap"] for layer in record["relation"].values())


def _cosine(layer: str) -> Quantity:
    name = f"cosine with the plain gradient in layer {layer[-1]}"
    return Quantity(name, f"relation/{layer}/gradient_cosine", form=".2f")


GAP = Quantity("largest relative difference over five layers", _gap, form=".0e")
LEADS = [Quantity(f"margin in layer {layer[-1]}", f"resemblance/{layer}/lead") for layer in DEEP]

CLAIMS = (
    Claim(
        name="deconvnet-backpropagation",
        place="section 2.1 (ECCV)",
        says="Projecting one activation resembles backpropagating it; what differs is the ReLU, "
        "applied to the signal on its way down, and the contrast norm, which is skipped.",
        measure="Largest relative difference between the deconvnet, written layer by layer, and "
        "the gradient of the same units with just these two changes; cosine with the unchanged "
        "gradient, which must differ from 1 above layer 1.",
        holds=AllOf(Below(GAP, SAME), *(Below(_cosine(layer), 1 - SAME) for layer in DEEP)),
        source="instrument",
        adapted="it checks the deconvnet of this package's own networks",
    ),
    Claim(
        name="deconvnet-resembles",
        place="section 2.1",
        says="The reconstruction of a single activation resembles a small piece of the input "
        "image.",
        measure="Correlation of grey levels of the strongest unit's projection with the patch it "
        "saw, less that with the same place in another image; mean over images with 95 % "
        "bootstrap intervals, layers 2 to 5.",
        holds=AllOf(*(Above(lead, 0) for lead in LEADS)),
        untrained=lambda record: {**record, "resemblance": record["untrained"]},
        note="The control is an untrained network: what it has too comes from the switches of the "
        "image, not from what was learned.",
        label="resemblance to the input",
    ),
)
