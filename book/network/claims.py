"""Claims of section 3 and Fig. 3 on the network itself."""

from typing import Any

from zfrepro import paper
from zfrepro.verdicts import Claim, Finding
from zfrepro.words import graded


def sizes(record: dict[str, Any]) -> Finding:
    ours = record["geometry"]["zfnet"]["sizes"]
    same = [name for name, side in paper.FIG3_SIZES.items() if ours[name] == side]
    listed = ", ".join(str(ours[name]) for name in paper.FIG3_SIZES)
    return Finding(
        graded(*(name in same for name in paper.FIG3_SIZES)),
        f"{listed}: {len(same)} of {len(paper.FIG3_SIZES)} agree; "
        f"{record['geometry']['zfnet']['parameters']:,} parameters",
    )


def fields(record: dict[str, Any]) -> Finding:
    tiles = {(n, layer): side for n, own in paper.PATCH_SIZES.items() for layer, side in own.items()}
    computed = {key: record["geometry"][key[0]]["fields"][key[1]] for key in tiles}
    measured = {key: record["measured_fields"][key[0]][key[1]] for key in tiles}
    same = [key for key in tiles if computed[key] == measured[key] == tiles[key]]
    listed = ", ".join(f"{name} {layer} {measured[name, layer]}" for name, layer in tiles)
    return Finding(
        graded(*(key in same for key in tiles)),
        f"{listed} px: {len(same)} of {len(tiles)} agree",
    )


def wilson(hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a share, in per cent."""
    share, extra = hits / n, z * z / n
    middle = (share + extra / 2) / (1 + extra)
    half = z * (share * (1 - share) / n + extra / (4 * n)) ** 0.5 / (1 + extra)
    return 100 * max(0.0, middle - half), 100 * min(1.0, middle + half)


def clipping(record: dict[str, Any]) -> Finding:
    clearly, larger, said = [], [], []
    for name, own in record["clipping"].items():
        shares = {layer: wilson(hits, own["filters"][layer]) for layer, hits in own["at_clip"].items()}
        points = {layer: 100 * hits / own["filters"][layer] for layer, hits in own["at_clip"].items()}
        others = [layer for layer in shares if layer != "conv1"]
        clearly.append(all(shares["conv1"][0] > shares[layer][1] for layer in others))
        larger.append(all(points["conv1"] > points[layer] for layer in others))
        most = max(others, key=points.__getitem__)
        low, high = shares["conv1"]
        said.append(
            f"{name}: {points['conv1']:.0f} % of {own['filters']['conv1']} ({low:.0f} to {high:.0f}), "
            f"above layer 1 at most {points[most]:.1f} % ({most})"
        )
    return Finding("reproduced" if all(clearly) else "partly" if any(larger) else "not reproduced", "; ".join(said))


CLAIMS = (
    Claim(
        "network-sizes",
        "network",
        "Section 3, Fig. 3",
        "For an image of 224 px the maps measure 110, 55, 26, 13, 13, 13, 13 and 6 a side.",
        "Side in units of the eight stages, computed from the architecture with borders rounded up.",
        "Reproduced if all eight sizes agree, partly if some do.",
        sizes,
        ", ".join(map(str, paper.FIG3_SIZES.values())),
    ),
    Claim(
        "network-fields",
        "network",
        "Figs. 4, 5 and 6(c), as measured on the bitmaps",
        "Projections and patches are shown at the size of a unit's receptive field.",
        "Side in pixels of the receptive fields at the conv outputs, by formula and by the reach of gradients, against "
        "the tiles in the paper's figures.",
        "Reproduced if formula, gradient and tile agree for all five tiles, partly if for some.",
        fields,
        "tiles of 7, 27 and 139 px; for the network of Krizhevsky 11 and 51 px",
    ),
    Claim(
        "network-clipping",
        "network",
        "Section 3",
        "Rescaling filters whose root mean square exceeds 0.1 matters most in the first layer.",
        "Share of each layer's filters within 1 % of the clip at the end of training, in one trained network of each "
        "kind (trained equally long or not, see the page).",
        "Reproduced if in both networks the 95 % interval (Wilson) of layer 1 lies above those of all other layers, "
        "partly if layer 1 has the largest share in at least one.",
        clipping,
    ),
)
