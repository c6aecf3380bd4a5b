"""The classes: which recipe, which coats, and from which sides they are seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from . import animals, things
from .materials import BLOTCHES, CHECKS, PLAIN, SPOTS, STRIPES, WOOD
from .model import Model

ANY = (PLAIN, PLAIN, SPOTS, BLOTCHES, STRIPES, WOOD, CHECKS)
COATS = (PLAIN, PLAIN, PLAIN, BLOTCHES, SPOTS)  # animals', stripes being the zebra's alone
BOLD = (STRIPES, SPOTS, CHECKS, BLOTCHES)
BUILT = (PLAIN, PLAIN, BLOTCHES, WOOD, CHECKS, STRIPES)

FURRY = 1.0


@dataclass(frozen=True)
class Kind:
    """A class.

    Attributes:
        build: puts the object into a `Model`.
        patterns: what its main surface may show, all equally likely.
        turn: the yaw is drawn from -turn to turn degrees (0: the front faces the camera).
        fur: how much of the hair-like variation its surfaces keep.
    """

    build: Callable[[Model], None]
    patterns: tuple[int, ...]
    turn: float = 180.0
    fur: float = 0.3


def _animal(species: animals.Species) -> Callable[[Model], None]:
    return lambda model: animals.animal(model, species)


KINDS: dict[str, Kind] = {
    "dog": Kind(_animal(animals.DOG), COATS, 70, FURRY),
    "cat": Kind(_animal(animals.CAT), COATS, 70, FURRY),
    "bear": Kind(_animal(animals.BEAR), COATS, 70, FURRY),
    "rabbit": Kind(_animal(animals.RABBIT), COATS, 70, FURRY),
    "horse": Kind(_animal(animals.HORSE), COATS, 80, FURRY),
    "zebra": Kind(_animal(animals.HORSE), (STRIPES,), 80, FURRY),
    "car": Kind(things.car, BUILT, 140),
    "truck": Kind(things.truck, BUILT, 140),
    "house": Kind(things.house, BUILT, 65),
    "chapel": Kind(things.chapel, BUILT, 65),
    "hammer": Kind(things.hammer, ANY, 60),
    "mug": Kind(things.mug, ANY, 45),
    "mushroom": Kind(things.mushroom, ANY),
    "cactus": Kind(things.cactus, ANY, 50),
    "ball": Kind(things.ball, BOLD),
    "block": Kind(things.block, BOLD),
}
NOVEL_KINDS: dict[str, Kind] = {
    "pig": Kind(_animal(animals.PIG), COATS, 70, FURRY),
    "elephant": Kind(_animal(animals.ELEPHANT), COATS, 70, FURRY),
    "duck": Kind(animals.duck, COATS, 70, FURRY),
    "bus": Kind(things.bus, BUILT, 140),
    "tractor": Kind(things.tractor, BUILT, 140),
    "castle": Kind(things.castle, BUILT, 70),
    "rocket": Kind(things.rocket, ANY),
    "lamp": Kind(things.lamp, ANY),
    "chair": Kind(things.chair, BUILT, 75),
    "bottle": Kind(things.bottle, ANY),
    "pear": Kind(things.pear, ANY),
    "snowman": Kind(things.snowman, ANY, 70),
}
CLASSES: tuple[str, ...] = tuple(KINDS)
NOVEL_CLASSES: tuple[str, ...] = tuple(NOVEL_KINDS)
