"""The diorama: a synthetic data set, rendered, so that its truth is known.

Scenes of ellipsoids, boxes, cylinders and cones on a table, ray cast in closed form, follow from
(seed, index) alone:

    drawing = draw(range(9), size=224)  # images, labels, masks, parts, keypoints and the scenes
    turned = render(rotated(drawing.scene, 10), 224)

All classes draw colours, table, backdrop, light and clutter from the same distributions, and most
of them patterns too. Three pairs differ in one thing alone:

    by texture       zebra and horse   the same bodies; stripes, or any coat but stripes
    by shape         ball and block    the same patterns and materials
    by a small part  chapel and house  a cross on the ridge, or none
"""

from collections.abc import Sequence

from torch import Tensor

from .classes import CLASSES, NOVEL_CLASSES
from .rendering import render
from .sampling import sample
from .scene import PART_NAMES, Drawing, Scene, moved, rotated, scaled, shifted, without_part, zoomed
from .splits import VERSION, split


def draw(
    indices: Sequence[int] | Tensor, *, seed: int = 0, size: int = 128, novel: bool = False
) -> Drawing:
    """Sample and render images by number, on the indices' device (the CPU for a list).

    Args:
        indices: integers of at least 0, in any order.
        seed: 0 is for training, 1 for validation.
        size: side of the images in pixels, 16 to 512.
        novel: draw NOVEL_CLASSES instead of CLASSES.

    Raises:
        ValueError: if an argument is out of range.
    """
    return render(sample(indices, seed, novel), size)


__all__ = [
    "CLASSES", "NOVEL_CLASSES", "PART_NAMES", "VERSION", "Drawing", "Scene", "draw", "moved",
    "render", "rotated", "sample", "scaled", "shifted", "split", "without_part", "zoomed",
]  # fmt: skip
