"""Test projections in other ways, measures on pictures and the linear toy, against oracles."""

import math

import pytest
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr

from book.projections import claims, controls, linear_toy
from book.projections import measure as study
from book.projections import picture_measures as measures
from tests.networks import relative, small
from zfrepro import deconvnet, rules
from zfrepro.data import Dataset, Split
from zfrepro.data.transforms import stored_size
from zfrepro.deconvnet import Units
from zfrepro.measure import Study
from zfrepro.networks import krizhevsky, zfnet
from zfrepro.training import Recipe
from zfrepro.weights import Trained


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="module")
def probed():
    network, images = small(zfnet()), noise(4, 3, 96, 96)
    units = {n: deconvnet.strongest(a) for n, a in network.features(images, network.layers).items()}
    return network, images, units


def gratings(angle: float, side: int = 48) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return torch.sin(0.7 * (math.cos(angle) * x + math.sin(angle) * y)).expand(1, 3, -1, -1)


@pytest.mark.parametrize("measure", [measures.coherence, measures.fineness])
def test_measures_do_not_depend_on_scale_sign_or_orientation(measure):
    picture = noise(2, 3, 40, 40)
    for same in (picture * 1e-4, -picture, picture.flip(-1), picture.transpose(-1, -2)):
        assert torch.allclose(measure(same), measure(picture), rtol=1e-3)


@pytest.mark.parametrize("angle", [0.0, 0.4, 0.8, 1.6])
def test_coherence_is_one_for_stripes_of_any_direction_and_falls_with_noise(angle):
    stripes = gratings(angle)
    found = [measures.coherence(stripes + k * noise(1, 3, 48, 48)).item() for k in (0, 0.2, 0.6, 3)]
    assert found[0] > 0.999 and found == sorted(found, reverse=True) and found[-1] < 0.3


def test_coherence_of_white_noise():
    assert measures.coherence(noise(20, 3, 64, 64)).mean().item() == pytest.approx(0.15, abs=0.03)


def test_fineness_tells_coarse_from_fine_and_noise_has_the_share_of_frequencies():
    side = 48
    coarse, fine = (
        torch.sin(2 * math.pi * f * torch.arange(side)).expand(1, 3, side, side) for f in (0.1, 0.4)
    )
    assert measures.fineness(coarse) < 0.01 and measures.fineness(fine) > 0.99
    share = (
        1 - math.pi * 0.25**2
    )  # of the unit square of frequencies, a disc of radius 1/4 lies below
    assert measures.fineness(noise(8, 3, side, side)).mean().item() == pytest.approx(
        share, abs=0.02
    )


def test_rank_correlation_is_spearmans_also_with_ties():
    a, b = noise(3, 2, 6, 5).round(), noise(3, 2, 6, 5, seed=1)
    found = measures.rank_correlation(a, b)
    for i in range(3):
        assert found[i].item() == pytest.approx(
            spearmanr(a[i].flatten(), b[i].flatten()).statistic, abs=1e-6
        )
    assert measures.rank_correlation(a, torch.zeros_like(a)).tolist() == [0, 0, 0]
    where = torch.zeros(3, 6, 5, dtype=torch.bool)
    where[:, 1:4, 2:] = True
    inside = measures.rank_correlation(a, b, where)
    assert torch.allclose(
        inside, measures.rank_correlation(a[..., 1:4, 2:], b[..., 1:4, 2:]), atol=1e-6
    )
    with pytest.raises(ValueError, match="one shape"):
        measures.rank_correlation(a, b[:2])


def test_ssim_is_one_for_pictures_that_differ_in_scale_and_low_for_unrelated_ones():
    a, b = noise(3, 3, 24, 24), noise(3, 3, 24, 24, seed=1)
    assert torch.allclose(measures.ssim(a, 7 * a), torch.ones(3), atol=1e-5)
    assert measures.ssim(a, b).abs().max() < 0.2
    assert torch.allclose(measures.ssim(a, b)[1:2], measures.ssim(a[1:2], b[1:2]), atol=1e-6)
    with pytest.raises(ValueError, match="11 px"):
        measures.ssim(a[..., :7, :7], b[..., :7, :7])


def test_share_inside_and_local_contrast_by_hand():
    picture = torch.zeros(1, 1, 5, 5)
    picture[0, 0, :, 3:] = 2  # a vertical edge: central differences of 2 at columns 2 and 3
    contrast = measures.local_contrast(picture)
    assert contrast[0, 2].tolist() == [0, 0, 4, 4, 0] and contrast[0, 0].tolist() == [0] * 5
    mask = torch.zeros(1, 5, 5, dtype=torch.bool)
    mask[0, :, 3:] = True
    assert measures.share_inside(contrast, mask).item() == pytest.approx(0.5)


@pytest.mark.parametrize("layer", ["conv1", "conv2", "conv4", "fc8"])
def test_probing_before_the_relu_changes_only_the_scale(probed, layer):
    network, images, units = probed
    ours = controls.project_by_rule(network, images, layer, units[layer])
    theirs = deconvnet.project(network, images, layer, units[layer])
    value = network.features(images, [layer])[layer]
    factor = controls.unit_values(value, units[layer])[:, None, None, None]
    if (
        layer == "fc8"
    ):  # there the explicit form rectifies nothing at the top, and neither does this
        assert (factor > 0).all()
    assert relative(ours * factor, theirs) < 1e-4


def test_gradient_is_autograds(probed):
    network, images, units = probed
    x = images.clone().requires_grad_()
    value = controls.unit_values(network.features(x, ["conv3"])["conv3"], units["conv3"])
    (expected,) = torch.autograd.grad(value.sum(), x)
    assert (
        relative(
            controls.project_by_rule(network, images, "conv3", units["conv3"], "gradient"), expected
        )
        < 1e-4
    )


def test_a_network_without_max_pool_draws_the_same_picture_of_every_image(probed):
    network, images, units = probed
    same = Units(
        *(
            t[:1].expand(4)
            for t in (units["conv4"].maps, units["conv4"].rows, units["conv4"].columns)
        )
    )
    without = controls.project_by_rule(controls.Subsampled.of(network), images, "conv4", same)
    assert relative(without, without[:1].expand_as(without)) < 1e-4
    assert (
        relative(*controls.project_by_rule(network, images, "conv4", same)[:2]) > 0.1
    )  # with max-pool it does not


@pytest.mark.parametrize("make", [zfnet, krizhevsky])
@pytest.mark.parametrize("size", [95, 96, 128])
def test_subsampled_networks_keep_their_shapes(make, size):
    network, images = small(make(), size), noise(1, 3, size, size)
    shapes = {n: a.shape for n, a in network.features(images, network.layers).items()}
    found = controls.Subsampled.of(network).features(images, network.layers)
    assert {n: a.shape for n, a in found.items()} == shapes


def test_switch_experiments_by_hand_and_by_the_plain_form(probed):
    network, images, units = probed
    found = controls.project_by_switches(
        network, images, "conv3", units["conv3"], images.flip(0), generator()
    )
    assert (
        relative(found["own"], controls.project_by_rule(network, images, "conv3", units["conv3"]))
        < 1e-4
    )
    # borrowing from the same image changes nothing; from another, it is that image's deconvnet
    again = controls.project_by_switches(
        network, images, "conv3", units["conv3"], images, generator()
    )
    assert torch.equal(again["another image's"], again["own"]) and torch.equal(
        again["another unit"], again["another unit and image"]
    )
    other = controls.project_by_rule(network, images.flip(0), "conv3", units["conv3"])
    assert relative(found["another image's"], other) < 1e-4


def test_overwriting_keeps_the_last_of_colliding_values():
    peak = torch.zeros(1, 1, 5, 5)
    peak[0, 0, 2, 2] = 9
    _, switches = deconvnet.pool(peak)
    values = torch.tensor([[[[4.0, 3.0], [2.0, 1.0]]]])
    assert controls.overwriting_unpool(values, switches, peak.shape)[0, 0, 2, 2] == 1
    assert deconvnet.unpool(values, switches, peak.shape)[0, 0, 2, 2] == 10
    apart = torch.tensor([[[[0, 4], [20, 24]]]])
    assert torch.equal(
        controls.overwriting_unpool(values, apart, peak.shape),
        deconvnet.unpool(values, apart, peak.shape),
    )


def test_cascade_randomises_from_the_layer_down_and_leaves_the_network_alone():
    network = small(zfnet())
    before = {k: v.clone() for k, v in network.state_dict().items()}
    stages = list(controls.cascading_randomization(network, "conv3", generator()))
    assert [name for name, _ in stages] == ["conv3", "conv2", "conv1"]
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    for i, (_, changed) in enumerate(stages):
        for j, name in enumerate(("conv3", "conv2", "conv1")):
            own, new = network.convs[name].weight, changed.convs[name].weight
            assert torch.equal(own, new) == (j > i)
            assert new.square().mean().item() == pytest.approx(own.square().mean().item(), rel=0.2)
        assert torch.equal(changed.fulls["fc8"].weight, network.fulls["fc8"].weight)


def test_deletion_loses_nothing_at_first_and_the_bias_remains_at_last(probed):
    network, images, units = probed
    ranking = torch.rand(4, 96, 96, generator=generator())
    curves = controls.deletion_curve(
        network, images, "conv2", units["conv2"], ranking, (0.0, 0.5, 1.0)
    )
    field = controls.field_mask(network, "conv2", units["conv2"], images)
    assert field.flatten(1).sum(1).max() <= 27 * 27 and torch.allclose(curves[:, 0], torch.ones(4))
    model, gone = controls.before_relu(network, "conv2"), images.masked_fill(field[:, None], 0)
    expected = controls.unit_values(model(gone), units["conv2"]).clamp_min(0)
    expected /= controls.unit_values(model(images), units["conv2"])
    assert torch.allclose(curves[:, 2], expected, atol=1e-5)


def test_deletion_takes_the_highest_first_and_refuses_silent_units():
    network = small(zfnet())
    with torch.no_grad():
        network.convs["conv1"].weight.zero_()
        network.convs["conv1"].weight[:, :, 3, 3] = 1 / 3  # the mean of the middle pixel's channels
        network.convs["conv1"].bias.zero_()
    images, ranking = torch.full((1, 3, 96, 96), 2.0), torch.zeros(1, 96, 96)
    unit = Units(torch.tensor([0]), torch.tensor([5]), torch.tensor([6]))
    ranking[0, 13, 15] = 1  # conv1 unit (5, 6) sees 7 px from (10, 12)
    assert controls.deletion_curve(network, images, "conv1", unit, ranking, (0.0, 1 / 49))[
        0
    ].tolist() == [1, 0]
    ranking[0, 13, 15] = -1  # last
    assert controls.deletion_curve(network, images, "conv1", unit, ranking, (0.0, 48 / 49))[
        0
    ].tolist() == [1, 1]
    parts = torch.zeros(1, 96, 96, dtype=torch.uint8)
    parts[0, 10:13], parts[0, 13:17] = 4, 7
    assert controls.most_needed_part(network, images, "conv1", unit, parts).tolist() == [7]
    assert controls.most_needed_part(
        network, images, "conv1", unit, parts * (parts == 4)
    ).tolist() == [0]
    with pytest.raises(ValueError, match="does not respond"):
        controls.deletion_curve(network, -images, "conv1", unit, ranking)


def test_area_under_a_straight_line():
    fractions = (0.0, 0.25, 1.0)
    assert controls.area_under(torch.tensor([[1.0, 0.75, 0.0]]), fractions).item() == pytest.approx(
        0.5
    )


def test_adversarial_images_stay_near_and_raise_the_loss(probed):
    network, images, units = probed
    labels = units["fc8"].maps
    for steps in (1, 5):
        moved = controls.adversarial_images(network, images, labels, 0.05, steps)
        assert (moved - images).abs().max() <= 0.05 + 1e-6
        assert F.cross_entropy(network(moved), labels) > F.cross_entropy(network(images), labels)


@pytest.mark.parametrize("angle", [0.0, 0.5, 0.8])
def test_the_toys_filter_cancels_the_distractor_and_its_pattern_is_the_signal(angle):
    toy = linear_toy.fit_toy(angle)
    assert linear_toy.cosine(toy.signal, toy.distractor) == pytest.approx(angle, abs=1e-5)
    assert linear_toy.cosine(toy.filter, toy.distractor) == pytest.approx(0, abs=1e-4)
    assert linear_toy.cosine(toy.filter, toy.signal) == pytest.approx(
        (1 - angle**2) ** 0.5, abs=1e-4
    )
    assert linear_toy.cosine(toy.pattern, toy.signal) > 0.99
    with pytest.raises(ValueError, match="cosine"):
        linear_toy.fit_toy(1.0)


def test_bad_input_is_named(probed):
    network, images, units = probed
    with pytest.raises(ValueError, match="rule 'x'"):
        controls.project_by_rule(network, images, "conv2", units["conv2"], "x")
    with pytest.raises(ValueError, match="layer 'fc6'"):
        controls.before_relu(network, "fc6")
    with pytest.raises(ValueError, match="fc8"):
        controls.project_by_switches(network, images, "fc8", units["fc8"], images, generator())
    assert set(controls.RULES) >= set(rules.RULES) - {"deconvnet"}


def summary(mean: float, half: float = 0.01) -> dict:
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": 7}


class Everywhere(dict):
    """A record that holds the same summary under every name, so that a rule can be tried."""

    def __init__(self, leaf: dict):
        super().__init__(leaf)
        self.leaf = leaf

    def __missing__(self, key):
        return Everywhere(self.leaf)

    def __contains__(self, key):
        return True


def outcome(name: str, record: dict) -> str:
    (claim,) = (own for own in claims.CLAIMS if own.name == f"projections-{name}")
    return claim.judge(record).outcome


@pytest.mark.parametrize(
    ("name", "agrees", "open_", "contradicts"),
    [
        ("weighting", -0.2, 0.0, 0.2),
        ("part", 0.2, 0.0, -0.2),
        ("switches", 0.5, 0.0, -0.5),
        ("without", 0.02, 0.1, 0.5),
        ("pooling", 0.1, 0.0, -0.1),
        ("gradient", -0.1, 0.0, 0.1),
        ("upper", 0.2, 0.5, 0.8),
        ("collisions", 0.99, 0.95, 0.5),
    ],
)
def test_every_outcome_of_the_claims_occurs(name, agrees, open_, contradicts):
    found = [outcome(name, Everywhere(summary(mean))) for mean in (agrees, open_, contradicts)]
    assert found == ["agrees", "not resolved", "contradicts"]


def test_the_layer_that_speaks_most_against_a_claim_decides():
    record = {
        f"switches-{layer}": {"other_unit_minus_other_switches": summary(0.3)}
        for layer in claims.LAYERS
    }
    assert outcome("switches", record) == "agrees"
    record["switches-conv4"] = {"other_unit_minus_other_switches": summary(-0.3)}
    assert outcome("switches", record) == "contradicts"


@pytest.mark.parametrize(
    ("coherence", "fineness", "expected"),
    [
        (0.2, -0.1, "agrees"),
        (0.03, -0.1, "same direction, other size"),
        (0.2, 0.1, "contradicts"),
        (-0.1, -0.1, "contradicts"),
    ],
)
def test_markedly_clearer_asks_for_size_and_no_speckle(coherence, fineness, expected):
    gain = {"coherence": summary(coherence), "fineness": summary(fineness)}
    rules = {"deconvnet_minus": {"forward mask": gain}}
    assert outcome("mask", {f"rules-{layer}": rules for layer in claims.LAYERS}) == expected


@pytest.mark.parametrize(
    ("guided", "gradient", "expected"),
    [(0.9, 0.0, "agrees"), (0.9, 0.5, "contradicts"), (0.5, 0.0, "contradicts")],
)
def test_guided_must_stay_and_the_gradient_go(guided, gradient, expected):
    curves = {"guided, conv5": summary(guided), "gradient, conv5": summary(gradient)}
    assert outcome("guided", {"cascade-fc8": {"curves": curves}}) == expected


@pytest.mark.parametrize(
    ("flipped", "cosine", "expected"),
    [
        (9, 0.95, "agrees"),
        (9, 0.9, "not resolved"),
        (9, 0.2, "contradicts"),
        (3, 0.95, "not tested"),
    ],
)
def test_an_adversarial_change_must_flip_most_images(flipped, cosine, expected):
    moved = Everywhere(summary(cosine))
    assert (
        outcome("adversarial", {"adversarial": {"tried": 10, "flipped": flipped, "moved": moved}})
        == expected
    )


@pytest.mark.parametrize(
    ("cosine", "least", "expected"),
    [(0.99, 0.5, "agrees"), (0.5, 0.5, "contradicts"), (1.0, 0.59, "not tested")],
)
def test_skipping_a_norm_that_is_a_constant_is_not_tested(cosine, least, expected):
    record: dict = {
        f"rules-{layer}": {"true_norm_cosine": summary(cosine)} for layer in claims.LAYERS
    }
    factors = {"conv1": {"least": 0.594, "most": 0.594}, "conv2": {"least": least, "most": 0.594}}
    assert outcome("norm", record | {"norm": {"images": 9, "layers": factors}}) == expected


def test_parts_of_photographs_are_not_known_and_arithmetic_is_no_result():
    assert outcome("part", {}) == "not tested" and outcome("linear", {}) == "not tested"


def test_the_factor_of_the_norm_is_that_of_its_formula():
    size = stored_size(96)
    images = torch.randint(0, 255, (4, 3, size, size), dtype=torch.uint8, generator=generator())
    dataset = Dataset(
        "x", ("cat", "dog"), None, Split(images, torch.zeros(4, dtype=torch.long)), 96, "0"
    )
    trained = Trained(
        small(zfnet()), Recipe(image_size=96), dataset.classes, torch.full((3, size, size), 128.0)
    )
    found = study.norm_factor(
        study.Bench(Study(dataset, {"zfnet": trained}, torch.device("cpu"), progress=False))
    )
    pooled = deconvnet.pool(
        trained.network.features(trained.preprocess(images), ["conv1"])["conv1"]
    )[0]
    squares = F.pad(pooled.square(), (0, 0, 0, 0, 2, 2)).unfold(1, 5, 1).sum(-1)
    factor = ((2 + 1e-4 / 5 * squares) ** -0.75)[pooled > 0]
    assert found["images"] == 4 and set(found["layers"]) == {"conv1", "conv2"}
    assert found["layers"]["conv1"]["least"] == pytest.approx(factor.min().item(), rel=1e-5)
    assert found["layers"]["conv1"]["most"] == pytest.approx(factor.max().item(), rel=1e-5)
