"""Section 4, Fig. 2: what the features of each layer show."""

from functools import partial

from zfrepro.claims import Above, AllOf, Claim, Quantity, points

DEEP = ("conv2", "conv3", "conv4", "conv5")
UNTRAINED = (0, 1, 2)  # seeds


def _step(below: str, above: str) -> Quantity:
    name = f"purity of layer {above[-1]} less that of layer {below[-1]}"
    return points(name, f"purity/steps/{below} {above}")


def _leads(how: str) -> list[Quantity]:
    return [
        Quantity(f"margin of projections in layer {layer[-1]}", f"similarity/{layer}/{how}/lead")
        for layer in DEEP
    ]


WHOLE = _step("conv2", "conv5")
LEAD = points("margin of layer 5", "on_object/lead/conv5")
CONTROLS = {f"untrained {seed}": f"layer 5 of untrained network {seed + 1}" for seed in UNTRAINED}
VARIATION = (
    "Mean correlation of all pairs among a map's nine projections, less that among its patches, "
    "each less that of other images at the same places; the unit is in the middle of all. "
    "Over maps drawn at random from layers 2 to 5."
)

claim = partial(Claim, place="section 4, Fig. 2")

CLAIMS = (
    claim(
        name="gallery-hierarchy",
        says="Features are hierarchical, from corners and colours over textures to objects: the "
        "deeper, the more class-specific.",
        measure="Purity: share of a map's nine strongest images that belong to their most frequent "
        "class, in per cent, averaged over the maps of a layer; 95 % bootstrap over maps.",
        holds=AllOf(*(Above(_step(*pair), 0) for pair in zip(DEEP, DEEP[1:], strict=False))),
        effect=WHOLE,
        note="Rule changed after the numbers were known: every step must be above zero, where "
        "before none had to be below it; that layer 5 exceeds layer 2, which follows, was taken "
        "out. It includes that layer 4 is more class-specific than layer 3.",
        label="hierarchy of features",
    ),
    claim(
        name="gallery-objects",
        says="Layer 5 shows entire objects.",
        measure="How often the middle of a top unit's receptive field lies on the object, less how "
        "often the same places of all other images do, in points over maps. Whether the object is "
        "seen entire is not tested.",
        holds=AllOf(
            Above(LEAD, 0),
            *(
                Above(points(f"layer 5 over {name}", f"on_object/over/{key}"), 0)
                for key, name in CONTROLS.items()
            ),
        ),
        untestable=lambda record: "" if record["on_object"] else "these photographs have no masks",
        note="Rule changed after the numbers were known: the margin was first taken over random "
        "pixels, without untrained networks. Then layer 5 had to exceed layer 1 too, whose fields "
        "of a few pixels say nothing of entire objects.",
        label="entire objects",
    ),
    claim(
        name="gallery-variation",
        says="The patches that excite a map vary more than its projections, which show only what "
        "excites it.",
        measure=f"{VARIATION} Grey levels are compared pixel by pixel.",
        holds=AllOf(*(Above(lead, 0) for lead in _leads("pixels"))),
        effect=_leads("pixels")[-1],
        note="Pictures were aligned on the unit after the numbers were first known. The similarity "
        "by contrast, added then, is judged apart.",
        label="patches and projections",
    ),
    claim(
        name="gallery-variation-contrast",
        says="Patches vary more than projections in where their contrast lies.",
        measure=f"{VARIATION} Contrast at six by six places is compared, which tolerates shifts.",
        holds=AllOf(*(Above(lead, 0) for lead in _leads("contrast"))),
        effect=_leads("contrast")[-1],
        source="own",
    ),
)
