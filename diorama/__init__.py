"""The diorama: a world that is drawn, so that its truth is known.

Scenes of ellipsoids, boxes, cylinders and cones on a table, ray cast in closed form, from (seed, index) alone:

    drawing = draw(range(9), size=224)      # pictures, labels, masks, parts, eyes and noses, and the scenes
    turned = render(rotated(drawing.scene, 10), 224)

All classes draw colours, table, backdrop, light and clutter from the same laws, and most of them coats too. Three pairs
differ in one thing alone, everything else being drawn from the same distributions:

    by texture      zebra and horse     the same bodies; stripes, or any coat but stripes
    by shape        ball and block      the same patterns and paints
    by a small part chapel and house    a cross on the ridge, or none
"""

from .kinds import CLASSES, NOVEL_CLASSES
from .rendering import render
from .sampling import as_indices, sample
from .scene import (
    PART_NAMES,
    Drawing,
    Scene,
    moved,
    rotated,
    scaled,
    shifted,
    without_part,
    zoomed,
)
from .splits import VERSION, split


def draw(indices, *, seed: int = 0, size: int = 128, novel: bool = False, device: str = "cpu") -> Drawing:
    """Draw pictures by number.

    Args:
        indices: integers of at least 0, in any order.
        seed: which world; 0 is for training, 1 for validation.
        size: side in pixels, 16 to 512.
        novel: draw NOVEL_CLASSES instead of CLASSES.
        device: where to draw.

    Returns:
        A `Drawing` of len(indices) pictures, on the device.

    Raises:
        ValueError: if an argument is out of range.
    """
    return render(sample(as_indices(indices).to(device), seed, novel), size)


__all__ = [
    "CLASSES",
    "NOVEL_CLASSES",
    "PART_NAMES",
    "VERSION",
    "Drawing",
    "Scene",
    "draw",
    "moved",
    "render",
    "rotated",
    "sample",
    "scaled",
    "shifted",
    "split",
    "without_part",
    "zoomed",
]
