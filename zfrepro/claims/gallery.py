"""Claims of section 4, Fig. 2, on what the features of each layer show."""

from typing import Any

from zfrepro.claims import Claim, Finding
from zfrepro.claims.words import told

DEEP = ("conv2", "conv3", "conv4", "conv5")


def layers(record: dict[str, Any]) -> str:
    return ", ".join(f"{name} {record['purity']['layers'][name][0]:.1f} %" for name in DEEP)


def hierarchy(record: dict[str, Any]) -> Finding:
    steps = record["purity"]["steps"]
    whole = steps["conv2 conv5"]
    falls = [name for name, (_, _, high) in steps.items() if high < 0 and name != "conv2 conv5"]
    grows = whole[1] > 0
    return Finding(
        "reproduced" if grows and not falls else "partly" if grows else "not reproduced",
        f"{layers(record)}, at random {record['purity']['random'][0]:.1f} %; from layer 2 to 5 {told(*whole, '+.1f')} "
        f"points, steps clearly down: {len(falls)} of 3",
    )


def layer4(record: dict[str, Any]) -> Finding:
    step, maps = record["purity"]["steps"]["conv3 conv4"], record["purity"]["maps"]
    return Finding(
        "reproduced" if step[1] > 0 else "not reproduced",
        f"{told(*step, '+.1f')} points over {maps['conv3']} and {maps['conv4']} maps",
    )


def objects(record: dict[str, Any]) -> Finding:
    found = record["on_object"]
    if found is None:
        return Finding("not tested", "photographs without masks of their objects")
    mean, low, high = found["layers"]["conv5"]
    place = found["random_place"]
    return Finding(
        "reproduced" if low > place else "not reproduced",
        f"{told(mean, low, high, '.0f')} % of the top units of layer 5 look at the object, "
        f"layer 2: {found['layers']['conv2'][0]:.0f} %, a random place: {place:.0f} %",
    )


def variation(record: dict[str, Any]) -> Finding:
    leads = {layer: record["likeness"][layer]["lead"] for layer in DEEP}
    clear = [layer for layer, (_, low, _) in leads.items() if low > 0]
    against = [layer for layer, (_, _, high) in leads.items() if high < 0]
    listed = ", ".join(f"{layer} {told(*lead)}" for layer, lead in leads.items())
    verdict = "reproduced" if len(clear) == len(leads) else "partly" if len(clear) > len(against) else "not reproduced"
    return Finding(
        verdict, f"{listed}; clear in {len(clear)} of {len(leads)} layers, clearly the reverse in {len(against)}"
    )


CLAIMS = (
    Claim(
        "gallery-hierarchy",
        "gallery",
        "Section 4, Fig. 2",
        "Features are hierarchical, from corners and colours over textures to objects: the deeper, the more specific.",
        "Purity: share of a map's nine strongest images that belong to their most frequent class, in per cent, "
        "averaged over the maps of a layer.",
        "Reproduced if purity grows from layer 2 to layer 5 (95 % bootstrap interval over maps above zero) and no step "
        "between neighbouring layers clearly falls; partly if one does.",
        hierarchy,
    ),
    Claim(
        "gallery-layer4",
        "gallery",
        "Section 4, Fig. 2",
        "Layer 4 is more class-specific than layer 3.",
        "Difference of the mean purities of layers 4 and 3, in points.",
        "Reproduced if the 95 % bootstrap interval over maps lies above zero, else not.",
        layer4,
    ),
    Claim(
        "gallery-objects",
        "gallery",
        "Section 4, Fig. 2",
        "Layer 5 shows entire objects.",
        "How often the middle of a top unit's receptive field lies on the object, in per cent; only the drawn world "
        "knows where that is.",
        "Reproduced if the 95 % bootstrap interval over maps of layer 5 lies above the share of a random place, else "
        "not. A necessary sign, not a sufficient one.",
        objects,
    ),
    Claim(
        "gallery-variation",
        "gallery",
        "Section 4, Fig. 2",
        "The patches that excite a map vary more than its projections, which show only what excites it.",
        "Mean correlation of all pairs among a map's nine projections, less that among its patches, as grey levels; "
        "averaged over maps drawn at random from layers 2 to 5.",
        "Reproduced if the 95 % bootstrap interval over maps lies above zero in all four layers; partly if that "
        "holds in more layers than the reverse; else not.",
        variation,
    ),
)
