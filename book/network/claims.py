"""Checks of section 3 and Fig. 3: the geometry of the network. Identities, not results."""

from functools import partial

from zfrepro import paper
from zfrepro.claims import AllOf, Below, Claim, Quantity, Record

TILES = [(name, layer) for name, sides in paper.PATCH_SIZES.items() for layer in sides]


def size_gap(record: Record) -> int:
    """Return the largest difference of a stage's side from Fig. 3, in units."""
    sizes = record["geometry"]["zfnet"]["sizes"]
    return max(abs(sizes[stage] - side) for stage, side in paper.FIG3_SIZES.items())


def computed_gap(record: Record) -> int:
    """Return the largest difference of a computed receptive field from the paper's tile, in px."""
    return max(
        abs(record["geometry"][name]["fields"][layer] - paper.PATCH_SIZES[name][layer])
        for name, layer in TILES
    )


def empirical_gap(record: Record) -> int:
    """Return the largest difference of a computed receptive field from the reach of gradients, in
    px.
    """
    return max(
        abs(side - record["measured_fields"][name][layer])
        for name, geometry in record["geometry"].items()
        for layer, side in geometry["fields"].items()
    )


_gap = partial(Quantity, form=".0f")

CLAIMS = (
    Claim(
        name="network-sizes",
        place="section 3, Fig. 3",
        says="For an image of 224 px the maps measure 110, 55, 26, 13, 13, 13, 13 and 6 a side.",
        measure="Side in units of the eight stages, computed with sizes rounded up at borders.",
        holds=Below(_gap("largest difference from a side in Fig. 3", size_gap, " units"), 1),
        paper=", ".join(map(str, paper.FIG3_SIZES.values())),
        source="instrument",
    ),
    Claim(
        name="network-fields",
        place="Figs. 4, 6 and 7(c), as measured on the bitmaps",
        says="Projections and patches are shown at the size of a unit's receptive field.",
        measure="Side in pixels of the receptive fields at the conv outputs of both networks: by "
        "formula, by the pixels that a gradient reaches, and of the tiles in these figures.",
        holds=AllOf(
            Below(_gap("largest difference of formula and tile", computed_gap, " px"), 1),
            Below(_gap("largest difference of formula and gradient", empirical_gap, " px"), 1),
        ),
        paper="tiles of 7, 27 and 139 px; for the network of Krizhevsky 11 and 51 px",
        source="instrument",
    ),
)
