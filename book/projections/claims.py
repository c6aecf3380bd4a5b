"""Claims of section 2.1 on what a projection shows, and claims of later work against them.

Numbers are means over (unit, image) pairs of one trained network. A claim about layers 2 to 5 is
judged in the layer with the strongest evidence against it.
"""

from collections.abc import Callable
from functools import partial

from zfrepro.claims import Above, AllOf, Below, Claim, Quantity, Record, Within, lookup
from zfrepro.stats import Interval

LAYERS = ("conv2", "conv3", "conv4", "conv5")
MARKED = 0.085  # a tenth of the way from white noise, 0.15, to clean lines, 1
SAME = 0.95  # cosine or SSIM from which two pictures count as the same
IDLE = 5.0  # per cent by which the norm's factor must vary to bring a cosine below 0.95
EACH = "in the layer, of 2 to 5, with the strongest evidence against the claim"


def over_layers(record: Record, path: str) -> list[Interval]:
    """Return a quantity in layers 2 to 5; `path` has {} where the layer stands."""
    return [Interval.of(lookup(record, path.format(layer))) for layer in LAYERS]


def least(name: str, path: str, form: str = "+.2f") -> Quantity:
    """Return the quantity of the layer whose interval reaches lowest."""
    lowest = partial(min, key=lambda interval: interval.low)
    return Quantity(f"smallest {name}", lambda record: lowest(over_layers(record, path)), form=form)


def most(name: str, path: str) -> Quantity:
    """Return the quantity of the layer whose interval reaches highest."""
    highest = partial(max, key=lambda interval: interval.high)
    return Quantity(
        f"largest {name}", lambda record: highest(over_layers(record, path)), form="+.2f"
    )


def mean_of(path: str) -> Callable[[Record], float]:
    """Return the function from a record to the mean over layers 2 to 5, without an interval."""
    return lambda record: sum(i.estimate for i in over_layers(record, path)) / len(LAYERS)


def norm_variation(record: Record) -> float:
    """Return by how many per cent the norm's factor varies, in the layer where it does most."""
    layers = record["norm"]["layers"].values()
    return max(100 * (1 - factor["least"] / factor["most"]) for factor in layers)


def idle_norm(record: Record) -> str:
    """Return why contrast norm cannot be tested on this record; empty if it can."""
    varies = norm_variation(record)
    if varies >= IDLE:
        return ""
    return (
        f"on inputs of unit variance the normalisation is nearly constant: its factor varies by "
        f"{varies:.2f} % over {record['norm']['images']} images, too little to matter"
    )


def few_flips(record: Record) -> str:
    """Return why the adversarial change cannot be tested; empty if most images change class."""
    flipped, tried = (record["adversarial"][key] for key in ("flipped", "tried"))
    return "" if 2 * flipped >= tried else f"only {flipped} of {tried} images change class"


COHERENCE = "rules-{}/deconvnet_minus/forward mask/coherence"
FINENESS = "rules-{}/deconvnet_minus/forward mask/fineness"
EXCHANGED = "switches-{}/other_unit_minus_other_switches"
REMAINING = "switches-{}/other_switches_minus_unrelated"
DELETED = "deletion-{}/deconvnet_minus/"
PART = "truth-{}/deconvnet_minus/"
CASCADE = "cascade-fc8/curves/{}, conv5"
FLIPPED = "adversarial/moved/adversarial, {}"

later_claim = partial(Claim, source="later")
own_claim = partial(Claim, source="own", place="section 2.1 does not say")

CLAIMS = (
    Claim(
        "projections-weighting",
        place="section 2.1",
        says="A projection's structures are weighted by what they contribute to the activation.",
        measure="Mean height of the deletion curve (activation left when pixels are deleted in "
        "the order of projected energy), minus that of a random order and of another unit's "
        f"projection at the same place, {EACH}",
        holds=AllOf(
            Below(most("difference from random order", DELETED + "random"), 0.0),
            Below(most("difference from another unit", DELETED + "another unit"), 0.0),
        ),
        note="Before the rules were rewritten, half of the layers made it partly reproduced.",
    ),
    Claim(
        "projections-mask",
        place="section 2.1, footnote 1",
        says="With the forward ReLU mask instead of the backward ReLU, projections are markedly "
        "less clear.",
        measure="Coherence of local directions (clean lines 1, white noise about 0.15), deconvnet "
        f"minus forward mask, {EACH}; and the share of fine speckle, which must not be higher",
        holds=AllOf(
            Above(least("gain in coherence", COHERENCE), 0.0),
            Below(most("gain in fineness", FINENESS), 0.01),
        ),
        size=Above(Quantity("mean gain in coherence", mean_of(COHERENCE), form="+.3f"), MARKED),
        paper="no number: markedly",
        note="The threshold for markedly was raised once, when the coherence of white noise was "
        "known. Fineness had no bound of its own before: no interval was to lie above 0.",
        label="ReLU mask",
    ),
    Claim(
        "projections-part",
        place="section 2.1",
        says="A projection shows the part of the object that the unit responds to.",
        measure="Share of projected energy inside the part whose masking lowers the unit most, "
        "minus the part's share of the area, an edge detector's share, and that of another unit's "
        f"projection, {EACH}",
        holds=AllOf(
            Above(least("gain over area", PART + "area"), 0.0),
            Above(least("gain over edges", PART + "contrast"), 0.0),
            Above(least("gain over another unit", PART + "another unit"), 0.0),
        ),
        untestable=lambda record: (
            "" if f"truth-{LAYERS[0]}" in record else "the parts in photographs are not known"
        ),
        label="parts of the object",
    ),
    later_claim(
        "projections-switches",
        place="Mahendran & Vedaldi 2016",
        says="The switches shape a projection more than the unit does.",
        measure="Rank correlation with a unit's projection: of another unit at the same place "
        "with the same switches, minus that of the same unit with another image's switches, "
        f"{EACH}",
        holds=Above(least("difference of correlations", EXCHANGED), 0.0),
    ),
    later_claim(
        "projections-without",
        place="Springenberg et al. 2015; Mahendran & Vedaldi 2016",
        says="With another image's switches, a unit's projection is unrelated to its own.",
        measure="Rank correlation of a unit's projection with that by another image's switches, "
        f"minus that of an unrelated one (another unit, another image's switches), {EACH}",
        holds=Below(most("remaining correlation", REMAINING), 0.1),
        note="A second bound, 0.25, used to make it partly reproduced.",
    ),
    later_claim(
        "projections-pooling",
        place="Nie et al. 2018",
        says="Max-pooling alone makes the deconvnet of a network with random weights resemble the "
        "image.",
        measure="SSIM with the image less SSIM with another image; with max-pooling minus with "
        f"subsampling in its place; mean of two networks with random weights, {EACH}",
        holds=Above(least("gain by max-pooling", "random-{}/max_minus_none", "+.3f"), 0.0),
        note="The rule asks for a gain of any size. Ours is slight, on a scale that ends at 1: the "
        "pictures resemble the image more, not much. The source prints no number.",
    ),
    later_claim(
        "projections-guided",
        place="Adebayo et al. 2018",
        says="Random weights in the upper layers hardly change guided backpropagation, but change "
        "the gradient.",
        measure="Rank correlation of a class score's picture before and after layers fc8 to conv5 "
        "get random weights, drawn once",
        holds=AllOf(
            Above(Quantity("correlation, guided", CASCADE.format("guided")), 0.8),
            Below(Quantity("correlation, gradient", CASCADE.format("gradient")), 0.2),
        ),
    ),
    later_claim(
        "projections-gradient",
        place="Simonyan et al. 2014; Samek et al. 2017",
        says="Projected energy finds what excites a unit better than the gradient's energy.",
        measure=f"Mean height of the deletion curve, deconvnet minus gradient, {EACH}",
        holds=Below(most("difference", DELETED + "gradient"), 0.0),
        note="More layers for than against used to make it partly reproduced.",
    ),
    later_claim(
        "projections-adversarial",
        place="Nie et al. 2018",
        says="A small change that flips the class hardly alters deconvnet and guided pictures.",
        measure="Cosine of the true class's pictures before and after ten steps of projected "
        "gradient within 2 of 255 levels",
        holds=AllOf(
            Above(Quantity("cosine, deconvnet", FLIPPED.format("deconvnet")), 0.9),
            Above(Quantity("cosine, guided", FLIPPED.format("guided")), 0.9),
        ),
        untestable=few_flips,
        note="A second bound, 0.5, used to make it partly reproduced.",
    ),
    later_claim(
        "projections-linear",
        place="Kindermans et al. 2018",
        says="In a linear model with a distractor, what deconvnet and gradient show is not the "
        "signal.",
        measure="Cosine of the learned filter with the known signal, where signal and distractor "
        "have a cosine of 0.8",
        holds=Within(Quantity("cosine of the filter", "toy/filter_signal"), 0.59, 0.61),
        untestable=lambda record: (
            "this is arithmetic: the filter has a cosine of sqrt(1 - 0.8^2) = 0.6 with the signal "
            "for any images"
        ),
    ),
    own_claim(
        "projections-upper",
        place="implied by section 2.1",
        says="The projection of a class depends on what the upper layers have learned.",
        measure="Rank correlation of a class score's projection before and after layers fc8 to "
        "conv5 get random weights, drawn once",
        holds=Below(Quantity("correlation, deconvnet", CASCADE.format("deconvnet")), 0.5),
    ),
    own_claim(
        "projections-collisions",
        says="Where pooling windows share a maximum, summing and overwriting its values give the "
        "same picture.",
        measure=f"SSIM of both projections, {EACH}",
        holds=Above(least("SSIM", "switches-{}/overwritten", ".2f"), SAME),
        adapted="overwriting is written for this package's own networks",
    ),
    own_claim(
        "projections-norm",
        says="Contrast normalisation may be skipped in the deconvnet: its gradient gives nearly "
        "the same picture.",
        measure=f"Cosine of the projections with it skipped and with its gradient, {EACH}",
        holds=Above(least("cosine", "rules-{}/true_norm_cosine", ".4f"), SAME),
        adapted="the network has no contrast normalisation",
        untestable=idle_norm,
    ),
)
