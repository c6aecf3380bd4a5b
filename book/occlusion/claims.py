"""Section 4.2 of the arXiv text and Fig. 7: covering the object hurts, and what the strongest map has to do with it."""

from typing import Any

from zfrepro.verdicts import Claim, Finding
from zfrepro.words import graded, told_of

WEAK = 0.1  # share of images that we call "some"


def _told(found: dict[str, Any], percent: bool = False) -> str:
    return told_of(found, ".0f", 100).replace(" (", " % (", 1) if percent else told_of(found)


NO_MASKS = "nobody drew the masks of these photographs"


def _object(record: dict[str, Any]) -> Finding:
    if "shapes" not in record:
        return Finding("not tested", NO_MASKS)
    squares, shapes = record["main"]["object"], record["shapes"]
    held = [found["extra"]["low"] > 0 and found["lower"]["low"] > 0.5 for found in (squares, shapes)]
    return Finding(
        graded(*held),
        f"squares on the object take {_told(squares['extra'])} more of the probability than squares beside it, lower "
        f"in {_told(squares['lower'], True)} of {squares['lower']['n']} images; the object covered to the pixel takes "
        f"{_told(shapes['extra'])} more than the same shape elsewhere, lower in {_told(shapes['lower'], True)} of "
        f"{shapes['lower']['n']}",
    )


def _pointing(record: dict[str, Any]) -> Finding:
    if "object" not in record["main"]:
        return Finding("not tested", NO_MASKS)
    found = record["main"]["object"]
    above_chance = found["pointing"]["low"] > found["pointing_random"]["high"]
    return Finding(
        graded(above_chance, found["pointing_gain"]["low"] > 0),
        f"the minimum lies on the object in {_told(found['pointing'], True)} of {found['pointing']['n']} images, a "
        f"random position in {_told(found['pointing_random'], True)}, the middle of the picture in "
        f"{_told(found['pointing_centre'], True)}",
    )


def _projection(record: dict[str, Any]) -> Finding:
    found = record["projections"]
    own, other = found["own"], found["other"]
    return Finding(
        graded(own["high"] < 0, own["high"] < other["low"]),
        f"correlation of the projection's energy under the square with the map's activity {_told(own)}, with another "
        f"image's projection {_told(other)}, n = {own['n']}; at its strongest place {_told(found['left_own'], True)} "
        f"of the activity is left, at the other's {_told(found['left_other'], True)}",
    )


def _differs(record: dict[str, Any]) -> Finding:
    found = record["maps"]
    negative = found["negative"]
    return Finding(
        graded(negative["mean"] >= WEAK, negative["low"] >= WEAK),
        f"correlation of the strongest map's activity with the class's probability {_told(found['strongest'])} over "
        f"{found['strongest']['n']} images, below 0 in {_told(negative, True)}, above 0.3 in "
        f"{_told(found['positive'], True)}",
    )


def _label(record: dict[str, Any]) -> Finding:
    kept, changes = record["main"]["label_kept"], record["main"]["label_changes"]
    return Finding(
        graded(kept["low"] > 0.5, changes["low"] > 0.5),
        f"the true class wins at {_told(kept, True)} of the positions; it loses at one position at least in "
        f"{_told(changes, True)} of {changes['n']} images",
    )


CLAIMS = (
    Claim(
        name="occlusion-object",
        chapter="occlusion",
        place="section 4.2, Fig. 7(d)",
        says="When the object is covered, the probability of its class falls: the network finds the object and does "
        "not go by what surrounds it.",
        measure="Fall of the true class's probability (0 to 1) for grey squares half or more on the object against "
        "squares of the same size beside it, and for the object covered to the pixel against the same shape elsewhere; "
        "images that the network names rightly.",
        rule="Reproduced if, for squares and for shapes, the 95 % bootstrap interval of the extra fall lies above 0 "
        "and that of the share of images with a lower probability above one half; partly if for one of them. Not "
        "tested without true masks.",
        judge=_object,
        paper="three pictures: lowest probability .05, .01, .00 where the median is .96, .14, .37",
    ),
    Claim(
        name="occlusion-pointing",
        chapter="occlusion",
        place="section 4.2, Fig. 7(d)",
        says="The map of the probability shows where the object is.",
        measure="Pointing game: share of images whose lowest probability is at a square with its middle on the object; "
        "against all positions, and against the middle of the picture.",
        rule="Reproduced if above both baselines, the intervals of the share and of the random positions being apart "
        "and that of the paired difference from the middle above 0; partly if above one.",
        judge=_pointing,
    ),
    Claim(
        name="occlusion-projection",
        chapter="occlusion",
        place="section 4.2, Fig. 7(b) and (c)",
        says="When the square covers what the projection of a map shows, that map's activity falls: the projections "
        "show what excites the map.",
        measure="Over positions of an image, correlation of the projection's energy under the square with the summed "
        "activity of the map; control, the projection of another image.",
        rule="Reproduced if the 95 % interval of the mean correlation lies below 0 and below that of the control; "
        "partly if only below 0, which the place of objects in pictures can explain.",
        judge=_projection,
    ),
    Claim(
        name="occlusion-strongest-map",
        chapter="occlusion",
        place="section 4.2, Fig. 7, rows 2 and 3",
        says="What excites the strongest map may not be what the class depends on: there, its activity does not fall "
        "with the probability.",
        measure="Correlation over positions of panel (b) with panel (d), image by image.",
        rule="Reproduced if the share of images with a correlation below 0 is surely at least a tenth (its 95 % "
        "interval); partly if the share alone is; not reproduced if it is less.",
        judge=_differs,
        paper="+.66, -.39, -.19 (measured on the figure; the paper prints no number)",
    ),
    Claim(
        name="occlusion-label",
        chapter="occlusion",
        place="Fig. 7(e)",
        says="At most positions the true class stays the most probable; covering the right place changes it.",
        measure="Share of positions at which the true class wins; share of images in which it loses anywhere.",
        rule="Reproduced if both intervals lie above one half; partly if one does.",
        judge=_label,
        paper="97.7 %, 14.3 % and 84.7 % of the positions (measured on the figure)",
    ),
)
