"""The classes: which recipe, which patterns, and from which sides they are seen."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from . import animals, things
from .materials import BLOTCHES, CHECKS, PLAIN, SPOTS, STRIPES, WOOD
from .model import Model
from .random import Draws

ANY = (PLAIN, PLAIN, SPOTS, BLOTCHES, STRIPES, WOOD, CHECKS)
COATS = (PLAIN, PLAIN, PLAIN, BLOTCHES, SPOTS)  # animals', stripes being the zebra's alone
BOLD = (STRIPES, SPOTS, CHECKS, BLOTCHES)
BUILT = (PLAIN, PLAIN, BLOTCHES, WOOD, CHECKS, STRIPES)


@dataclass(frozen=True)
class Kind:
    """A class of objects."""

    build: Callable[[Model, Draws], None]  # adds the object's primitives to a model
    patterns: tuple[int, ...]  # what its main surface may show, all equally likely
    turn: float = 180.0  # yaw is drawn from -turn to turn degrees (0: the front faces the camera)
    fur: float = 0.3  # how much of the hair-like variation its surfaces keep


def _animal(species: animals.Species, patterns: tuple[int, ...] = COATS, turn: float = 70) -> Kind:
    return Kind(partial(animals.animal, s=species), patterns, turn, fur=1.0)


KINDS: dict[str, Kind] = {
    "dog": _animal(animals.DOG),
    "cat": _animal(animals.CAT),
    "bear": _animal(animals.BEAR),
    "rabbit": _animal(animals.RABBIT),
    "horse": _animal(animals.HORSE, turn=80),
    "zebra": _animal(animals.HORSE, (STRIPES,), turn=80),
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
    "pig": _animal(animals.PIG),
    "elephant": _animal(animals.ELEPHANT),
    "duck": Kind(animals.duck, COATS, 70, fur=1.0),
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
