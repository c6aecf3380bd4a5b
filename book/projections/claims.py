"""What the paper says a projection shows, and what later work says it does not.

A difference counts when its bootstrap 95 % interval over (unit, image) pairs leaves out zero. The verdict `reproduced`
means that the sentence holds here, whoever said it.
"""

from collections.abc import Callable
from typing import Any

from zfrepro.verdicts import Claim, Finding

CHAPTER = "projections"
LAYERS = ("conv2", "conv3", "conv4", "conv5")

Record = dict[str, Any]


def text(s: dict[str, float], digits: int = 2) -> str:
    """A mean with its interval."""
    return f"{s['mean']:.{digits}f} [{s['low']:.{digits}f}, {s['high']:.{digits}f}]"


def above(s: dict[str, float]) -> bool:
    return s["low"] > 0


def below(s: dict[str, float]) -> bool:
    return s["high"] < 0


def by_share(held: int, of: int) -> str:
    """All hold: reproduced; half or more: partly."""
    return "reproduced" if held == of else "partly" if 2 * held >= of else "not reproduced"


def across(record: Record, part: str, pick: Callable[[Record], dict[str, float]], layers=LAYERS) -> dict[str, Any]:
    return {layer: pick(record[f"{part}-{layer}"]) for layer in layers}


def listed(values: dict[str, dict[str, float]], digits: int = 2) -> str:
    """Numbers of several layers, and n."""
    counts = sorted({s["n"] for s in values.values()})
    n = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
    return ", ".join(f"{layer} {text(s, digits)}" for layer, s in values.items()) + f" (n = {n} pairs a layer)"


def briefly(values: dict[str, dict[str, float]], digits: int = 2) -> str:
    """Means of several layers, in their order, and the widest interval, where a cell of the table has many numbers."""
    widest = max(values.values(), key=lambda s: s["high"] - s["low"])
    n = "/".join(str(count) for count in sorted({s["n"] for s in values.values()}))
    means = ", ".join(f"{s['mean']:.{digits}f}" for s in values.values())
    return f"{means} (widest interval [{widest['low']:.{digits}f}, {widest['high']:.{digits}f}], n = {n})"


def judge_image(record: Record) -> Finding:
    found = across(record, "switches", lambda r: r["own_minus_other_image"]["edges"])
    return Finding(by_share(sum(map(above, found.values())), len(found)), listed(found))


def judge_weighting(record: Record) -> Finding:
    random = across(record, "deletion", lambda r: r["deconvnet_minus"]["random"])
    other = across(record, "deletion", lambda r: r["deconvnet_minus"]["another unit"])
    held = sum(below(random[layer]) and below(other[layer]) for layer in LAYERS)
    verdict = by_share(held, len(LAYERS))
    if verdict == "not reproduced" and all(map(below, random.values())):
        verdict = "partly"
    return Finding(
        verdict, f"layers 2 to 5, against random: {briefly(random)}; against another unit's: {briefly(other)}"
    )


MARKED = 0.085  # a tenth of the way from white noise, 0.15, to clean lines, 1


def judge_mask(record: Record) -> Finding:
    found = across(record, "rules", lambda r: r["deconvnet_minus"]["forward mask"]["coherence"])
    fine = across(record, "rules", lambda r: r["deconvnet_minus"]["forward mask"]["fineness"])
    held = sum(map(above, found.values()))
    marked = sum(s["mean"] for s in found.values()) / len(found) >= MARKED
    verdict = by_share(held, len(found))
    if verdict == "reproduced" and (not marked or any(map(above, fine.values()))):
        verdict = "partly"
    return Finding(verdict, f"layers 2 to 5, coherence: {briefly(found)}; fineness: {briefly(fine)}")


IDLE = 5.0
"""Per cent by which the norm's factor must vary to make a test: its gradient departs from a constant by some three
times as much, those of two layers by six times, and a departure of 0.3 leaves a cosine of sqrt(1 - 0.3^2) = 0.95."""


def norm_varies(record: Record) -> float:
    """By how many per cent of its largest value the norm's factor varies, in the layer where it varies most."""
    return max(100 * (1 - own["least"] / own["most"]) for own in record["norm"]["layers"].values())


def judge_norm(record: Record) -> Finding:
    found = across(record, "rules", lambda r: r["rules"]["deconvnet, true norm"]["cosine"])
    lowest, varies = min(s["low"] for s in found.values()), norm_varies(record)
    verdict = "reproduced" if lowest > 0.95 else "partly" if lowest > 0.8 else "not reproduced"
    factor = f"the norm's factor varies by {varies:.2f} % over {record['norm']['images']} images"
    return Finding("not tested" if varies < IDLE else verdict, f"{factor}; cosine: {listed(found, 4)}")


def judge_collisions(record: Record) -> Finding:
    found = across(record, "switches", lambda r: r["to_own"]["overwritten"]["ssim"])
    lowest = min(s["low"] for s in found.values())
    return Finding("reproduced" if lowest > 0.95 else "partly" if lowest > 0.8 else "not reproduced", listed(found))


def judge_switches(record: Record) -> Finding:
    found = across(record, "switches", lambda r: r["other_unit_minus_other_switches"]["rank"])
    return Finding(by_share(sum(map(above, found.values())), len(found)), listed(found))


def judge_without(record: Record) -> Finding:
    found = across(record, "switches", lambda r: r["other_switches_minus_unrelated"]["rank"])
    most = max(s["high"] for s in found.values())
    return Finding("reproduced" if most < 0.1 else "partly" if most < 0.25 else "not reproduced", listed(found))


def judge_pooling(record: Record) -> Finding:
    found = across(record, "random", lambda r: r["max_minus_none"]["random"]["ssim"])
    kept = across(record, "random", lambda r: r["to_image"]["deconvnet, random, max"]["ssim"])
    verdict = by_share(sum(map(above, found.values())), len(found))
    numbers = f"layers 2 to 5, gain by max-pool: {briefly(found, 3)}; SSIM with it: {briefly(kept)}"
    return Finding(verdict, numbers)


def judge_guided(record: Record) -> Finding:
    curves = record["cascade-fc8"]["curves"]
    guided, gradient = (curves[f"{rule}, conv5"]["rank"] for rule in ("guided", "gradient"))
    held = guided["low"] > 0.8
    verdict = "reproduced" if held and gradient["high"] < 0.2 else "partly" if held else "not reproduced"
    return Finding(verdict, f"guided {text(guided)}, gradient {text(gradient)} (n = {guided['n']} images)")


def judge_upper(record: Record) -> Finding:
    curves = record["cascade-fc8"]["curves"]
    found, last = curves["deconvnet, conv5"]["rank"], curves["deconvnet, conv1"]["rank"]
    verdict = "reproduced" if found["high"] < 0.5 else "not reproduced" if found["low"] > 0.5 else "partly"
    return Finding(verdict, f"fc8 to conv5 {text(found)}, all layers {text(last)} (n = {found['n']} images)")


def judge_gradient(record: Record) -> Finding:
    found = across(record, "deletion", lambda r: r["deconvnet_minus"]["gradient"])
    better, worse = (sum(map(test, found.values())) for test in (below, above))
    verdict = "reproduced" if better == len(found) else "partly" if better > worse else "not reproduced"
    return Finding(verdict, listed(found))


def judge_part(record: Record) -> Finding:
    if f"truth-{LAYERS[0]}" not in record:
        return Finding("not tested", "photographs: their parts are not known")
    gains = {layer: record[f"truth-{layer}"]["deconvnet_minus"]["part"] for layer in LAYERS}
    controls = ("area", "contrast", "another unit")
    held = sum(all(above(gain[name]) for name in controls) for gain in gains.values())
    verdict = by_share(held, len(gains))
    if verdict == "not reproduced" and all(above(gain["area"]) for gain in gains.values()):
        verdict = "partly"
    over = {name: briefly({layer: gain[name] for layer, gain in gains.items()}) for name in controls}
    return Finding(verdict, "layers 2 to 5, " + "; ".join(f"over {name}: {said}" for name, said in over.items()))


def judge_adversarial(record: Record) -> Finding:
    found = record["adversarial"]
    moved, flipped = found["moved"], found["flipped"]["pgd"]
    if 2 * flipped < found["tried"]:
        return Finding("not tested", f"only {flipped} of {found['tried']} images change class")
    adversarial = {rule: moved[f"adversarial, fc8, {rule}"]["cosine"] for rule in ("deconvnet", "guided")}
    lowest = min(s["low"] for s in adversarial.values())
    verdict = "reproduced" if lowest > 0.9 else "partly" if lowest > 0.5 else "not reproduced"
    other = moved["another image, fc8, deconvnet"]["cosine"]
    numbers = ", ".join(f"{rule} {text(s)}" for rule, s in adversarial.items())
    return Finding(
        verdict,
        f"{flipped} of {found['tried']} images change class; cosine {numbers}, gradient "
        f"{text(moved['adversarial, fc8, gradient']['cosine'])}, another image {text(other)}",
    )


def judge_linear(record: Record) -> Finding:
    row = max(record["toy"]["rows"], key=lambda r: r["angle"])
    expected = (1 - row["angle"] ** 2) ** 0.5
    held = abs(row["filter_signal"] - expected) < 0.01 and row["pattern_signal"] > 0.99
    numbers = f"cosine with the signal: filter {row['filter_signal']:.2f}, covariance {row['pattern_signal']:.2f}"
    return Finding("not tested" if held else "not reproduced", f"arithmetic, no image of this world enters; {numbers}")


EACH = "reproduced: in all of layers 2 to 5; partly: in half of them or more"

CLAIMS = (
    Claim(
        "projections-image", CHAPTER, "section 2.1", "A projection resembles a small piece of its own image.",
        "rank correlation of a projection's energy with the local contrast of its image, minus that with another "
        "image's, in the receptive field",
        f"the 95 % interval lies above 0; {EACH}", judge_image,
    ),
    Claim(
        "projections-weighting", CHAPTER, "section 2.1",
        "A projection's structures are weighted by what they contribute to the activation.",
        "mean height of the deletion curve (activation left when pixels go in the order of projected energy), minus "
        "that of a random order and of another unit's projection at the same place",
        f"both intervals lie below 0; {EACH}, or below random in all", judge_weighting,
    ),
    Claim(
        "projections-mask", CHAPTER, "section 2.1, footnote 1",
        "With the forward ReLU mask instead of the backward ReLU, projections are markedly less clear.",
        "coherence of local directions (1 clean lines, about 0.15 white noise): deconvnet minus forward mask",
        f"the interval lies above 0; {EACH}; for reproduced also a mean of {MARKED} or more, and no layer in which the "
        "share of fine speckle is higher", judge_mask, paper="no number: 'markedly'",
    ),
    Claim(
        "projections-norm", CHAPTER, "section 2.1; Mahendran & Vedaldi 2016",
        "Contrast norm may be skipped on the way down: its true gradient gives nearly the same picture.",
        "cosine of the projections with the norm skipped and with its gradient; and the range of the factor that the "
        "norm multiplies units with",
        f"not tested while the factor varies by less than {IDLE:.0f} %, which could not bring the cosine below 0.95; "
        "reproduced: the lower end of the interval is above 0.95 in layers 2 to 5; partly: above 0.8", judge_norm,
    ),
    Claim(
        "projections-collisions", CHAPTER, "section 2.1, which is silent",
        "Where switches of overlapping windows collide, summing and overwriting give the same picture.",
        "SSIM of both projections",
        "reproduced: the lower end of the interval is above 0.95 in layers 2 to 5; partly: above 0.8", judge_collisions,
    ),
    Claim(
        "projections-switches", CHAPTER, "Mahendran & Vedaldi 2016",
        "The switches shape a projection more than the unit does.",
        "rank correlation with a unit's projection: of another unit at the same place with the same switches, minus of "
        "the same unit with another image's switches",
        f"the interval lies above 0; {EACH}", judge_switches,
    ),
    Claim(
        "projections-without", CHAPTER, "Springenberg et al. 2015; Mahendran & Vedaldi 2016",
        "Without its own switches nothing of a unit's projection is left.",
        "rank correlation of a unit's projection with that by another image's switches, minus that of an unrelated one "
        "(another unit, another image's switches)",
        "reproduced: the upper end of the interval is below 0.1 in layers 2 to 5; partly: below 0.25", judge_without,
    ),
    Claim(
        "projections-pooling", CHAPTER, "Nie et al. 2018",
        "Max-pooling alone makes the deconvnet of a network with random weights resemble the image.",
        "SSIM with the image above SSIM with another image, with max-pool minus with subsampling in its place; mean of "
        "two networks with random weights",
        f"the interval lies above 0; {EACH}", judge_pooling,
    ),
    Claim(
        "projections-guided", CHAPTER, "Adebayo et al. 2018",
        "Guided backpropagation hardly notices random weights in the upper layers; the gradient does.",
        "rank correlation of a class score's picture before and after layers fc8 to conv5 get random weights, drawn "
        "once",
        "reproduced: guided above 0.8 and gradient below 0.2 (ends of intervals); partly: guided alone", judge_guided,
    ),
    Claim(
        "projections-upper", CHAPTER, "implied by section 2.1",
        "The projection of a class depends on what the upper layers have learned.",
        "rank correlation of a class score's projection before and after layers fc8 to conv5 get random weights, drawn "
        "once",
        "reproduced: the interval lies below 0.5; not reproduced: above 0.5", judge_upper,
    ),
    Claim(
        "projections-gradient", CHAPTER, "Simonyan et al. 2014; Samek et al. 2017",
        "Projected energy finds what excites a unit better than the gradient's energy.",
        "mean height of the deletion curve, deconvnet minus gradient",
        "reproduced: the interval lies below 0 in all of layers 2 to 5; partly: in more layers below than above",
        judge_gradient,
    ),
    Claim(
        "projections-part", CHAPTER, "section 2.1",
        "A projection shows the part of the object that the unit responds to.",
        "share of projected energy inside the part whose covering costs the unit most, minus the part's share of the "
        "area, an edge detector's share, and the share of another unit's projection",
        f"all three intervals lie above 0; {EACH}, or above the area in all", judge_part,
    ),
    Claim(
        "projections-adversarial", CHAPTER, "Nie et al. 2018",
        "A faint change that flips the class hardly moves deconvnet and guided pictures.",
        "cosine of the true class's pictures before and after ten steps of projected gradient within 2 of 255 levels",
        "reproduced: the lower end of both intervals is above 0.9; partly: above 0.5; not tested if under half flip",
        judge_adversarial,
    ),
    Claim(
        "projections-linear", CHAPTER, "Kindermans et al. 2018",
        "In a linear model with a distractor, what deconvnet and gradient show is not the signal.",
        "cosine with the known signal, of the learned filter and of the covariance of pixels and label, where signal "
        "and distractor have a cosine of 0.8",
        "not tested on any world: by arithmetic the filter has sqrt(1 - 0.8^2) = 0.6 and the covariance near 1, "
        "whatever the images; not reproduced if ours miss these by more than 0.01", judge_linear,
    ),
)  # fmt: skip


READINGS: dict[str, dict[str, str]] = {
    "projections-image": {
        "reproduced": "Its lines are those of its own image: read it as a trace of that image.",
        "partly": "In some layers its lines are those of its own image, and it may be read as a trace of it.",
        "not reproduced": "Its lines are not those of its own image.",
    },
    "projections-weighting": {
        "reproduced": "Strong structures in it are those that excite the unit, more than its neighbours at that place.",
        "partly": "Strong structures in it are those that excite something at that place, not always this very unit.",
        "not reproduced": "Strong structures in it need not be those that excite the unit.",
    },
    "projections-part": {
        "reproduced": "It marks the part of the object that the unit responds to.",
        "partly": "It is drawn to the part that the unit responds to, though not always more than controls are.",
        "not reproduced": "It does not mark the part that the unit responds to.",
    },
    "projections-mask": {
        "reproduced": "It is clearer than with the forward mask, as the paper says.",
        "partly": "It is somewhat clearer than with the forward mask.",
        "not reproduced": "It is no clearer than with the forward mask.",
    },
    "projections-gradient": {
        "reproduced": "It points at what excites the unit better than the gradient does.",
        "partly": "It points at what excites the unit better than the gradient in some layers only.",
        "not reproduced": "It is prettier than the gradient, but does not point better at what excites the unit.",
    },
    "projections-switches": {
        "reproduced": "Do not read its form as the unit's own: another unit with the same switches looks more like it.",
        "partly": "Read its form with care: in some layers another unit with the same switches looks more like it.",
        "not reproduced": "Its form is the unit's own more than the switches'.",
    },
    "projections-upper": {
        "reproduced": "It depends on what the upper layers have learned.",
        "partly": "It depends in part on what the upper layers have learned.",
        "not reproduced": "Do not read off what the upper layers have learned: random weights there leave most of it.",
    },
    "projections-pooling": {
        "reproduced": "Likeness to the image is no sign of learning: max-pooling gives it to random weights.",
        "partly": "Likeness to the image is a poor sign of learning: max-pooling can give it to random weights.",
        "not reproduced": "Likeness to the image does not come from max-pooling alone.",
    },
    "projections-adversarial": {
        "reproduced": "Do not explain a decision with it: the decision flips and the picture stays.",
        "partly": "Do not lean on it to explain a decision: the decision flips while much of the picture stays.",
        "not reproduced": "When the decision flips, the picture changes too.",
    },
}  # fmt: skip
"""What a reader may take from a projection, by the verdict on a claim."""


def readings(worlds: tuple[str, ...]) -> list[dict[str, str]]:
    """The conclusion: for each claim of `READINGS` and each world, the sentence that its verdict allows."""
    by_name = {claim.name: claim for claim in CLAIMS}
    rows = []
    for name, sentences in READINGS.items():
        verdicts = {world: by_name[name].finding(world).verdict for world in worlds}
        allowed = {w: sentences[v] for w, v in verdicts.items() if v in sentences}
        for sentence in dict.fromkeys(allowed.values()):
            where = [world for world in allowed if allowed[world] == sentence]
            rows.append({"claim": name, "on": ", ".join(where), "so": sentence})
    return rows
