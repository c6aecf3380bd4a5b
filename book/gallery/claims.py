"""Claims of section 4, Fig. 2, on what the features of each layer show."""

from typing import Any

from zfrepro.verdicts import Claim, Finding
from zfrepro.words import told

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
    leads, over = found["lead"], found["over"]
    ahead, above = leads["conv5"][1] > 0, all(low > 0 for _, low, _ in over.values())
    listed = ", ".join(f"{layer} {leads[layer][0]:+.0f}" for layer in ("conv1", *DEEP[:-1]))
    return Finding(
        "reproduced" if ahead and above else "partly" if ahead else "not reproduced",
        f"points over the same places in other images: {listed}, conv5 {told(*leads['conv5'], '+.0f')}; layer 5 over "
        + ", over ".join(f"{name} {told(*lead, '+.0f')}" for name, lead in over.items()),
    )


def variation(record: dict[str, Any]) -> Finding:
    told_of_each, whole, more = [], [], []
    for how in ("pixels", "contrast"):
        leads = {layer: record["likeness"][layer][how]["lead"] for layer in DEEP}
        clear = sum(low > 0 for _, low, _ in leads.values())
        against = sum(high < 0 for _, _, high in leads.values())
        whole.append(clear == len(leads))
        more.append(clear > against)
        listed = ", ".join(f"{layer} {told(*lead)}" for layer, lead in leads.items())
        told_of_each.append(f"{how}: {listed}; clear in {clear} of {len(leads)} layers, the reverse in {against}")
    return Finding("reproduced" if all(whole) else "partly" if any(more) else "not reproduced", ". ".join(told_of_each))


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
        "Whether layer 5's units look at the object; that they show it entire is not tested. How often the middle of a "
        "top unit's receptive field lies on the object, less how often the same places of all other images do, in "
        "points; only the drawn world knows where its objects are.",
        "Reproduced if the lead of layer 5 is above zero, above that of layer 1, and above those of layer 5 of three "
        "untrained networks (95 % bootstrap intervals over maps); partly if only above zero; else not.",
        objects,
    ),
    Claim(
        "gallery-variation",
        "gallery",
        "Section 4, Fig. 2",
        "The patches that excite a map vary more than its projections, which show only what excites it.",
        "Mean correlation of all pairs among a map's nine projections, less that among its patches, each less that of "
        "other images at the same places; all with the unit in the middle. Twice: of grey levels pixel by pixel, and "
        "of the contrast at six by six places, which forgives small shifts. Maps drawn at random from layers 2 to 5.",
        "Reproduced if the 95 % bootstrap interval over maps lies above zero in all four layers by both likenesses; "
        "partly if by one of them that holds in more layers than the reverse; else not.",
        variation,
    ),
)
