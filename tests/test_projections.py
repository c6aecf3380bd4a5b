"""Test projections in other ways, measures on pictures and the linear toy, against oracles."""

import math

import pytest
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr

from book.projections import controls, linear_toy
from book.projections import picture_measures as measures
from tests.networks import relative, small
from zfrepro import deconvnet
from zfrepro.deconvnet import Units
from zfrepro.networks import zfnet


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="module")
def probed():
    network, images = small(zfnet()), noise(4, 3, 96, 96)
    units = {n: deconvnet.strongest(a) for n, a in network.features(images, network.layers).items()}
    return network, images, units


# --- measures on pictures ---


@pytest.mark.parametrize("angle", [0.0, 0.8])
def test_coherence_is_one_for_stripes_of_any_direction_and_falls_with_noise(angle):
    y, x = torch.meshgrid(torch.arange(48), torch.arange(48), indexing="ij")
    stripes = torch.sin(0.7 * (math.cos(angle) * x + math.sin(angle) * y)).expand(1, 3, -1, -1)
    noisy = [stripes + k * noise(1, 3, 48, 48) for k in (0, 0.2, 0.6, 3)]
    coherences = [measures.coherence(picture).item() for picture in noisy]
    assert coherences[0] > 0.999 and coherences[-1] < 0.3
    assert coherences == sorted(coherences, reverse=True)
    assert measures.coherence(noise(20, 3, 64, 64)).mean().item() == pytest.approx(0.15, abs=0.03)


def test_fineness_tells_coarse_from_fine_and_noise_has_the_share_of_frequencies():
    coarse, fine = (
        torch.sin(2 * math.pi * f * torch.arange(48)).expand(1, 3, 48, 48) for f in (0.1, 0.4)
    )
    assert measures.fineness(coarse) < 0.01 and measures.fineness(fine) > 0.99
    share = 1 - math.pi * 0.25**2  # a disc of radius 1/4 in the unit square of frequencies
    assert measures.fineness(noise(8, 3, 48, 48)).mean().item() == pytest.approx(share, abs=0.02)


def test_rank_correlation_is_spearmans_also_with_ties():
    a, b = noise(3, 2, 6, 5).round(), noise(3, 2, 6, 5, seed=1)
    where = torch.zeros(3, 6, 5, dtype=torch.bool)
    where[:, 1:4, 2:] = True
    inside = [t[..., 1:4, 2:].flatten(1) for t in (a, b)]
    expected = [spearmanr(x, y).statistic for x, y in zip(*inside, strict=True)]
    assert measures.rank_correlation(a, b, where).tolist() == pytest.approx(expected, abs=1e-6)
    assert measures.rank_correlation(a, torch.zeros_like(a), where).tolist() == [0, 0, 0]


def test_share_inside_and_local_contrast_by_hand():
    picture = torch.zeros(1, 1, 5, 5)
    picture[0, 0, :, 3:] = 2  # a vertical edge: central differences of 2 at columns 2 and 3
    contrast = measures.local_contrast(picture)
    assert contrast[0, 2].tolist() == [0, 0, 4, 4, 0] and contrast[0, 0].tolist() == [0] * 5
    mask = torch.zeros(1, 5, 5, dtype=torch.bool)
    mask[0, :, 3:] = True
    assert measures.share_inside(contrast, mask).item() == pytest.approx(0.5)


# --- other ways to project ---


@pytest.mark.parametrize("layer", ["conv2", "conv4", "fc8"])
def test_probing_before_the_relu_changes_only_the_scale(probed, layer):
    network, images, units = probed
    ours = controls.project_by_rule(network, images, layer, units[layer])
    theirs = deconvnet.project(network, images, layer, units[layer])
    factor = controls.unit_values(network, images, layer, units[layer])
    assert relative(ours * factor[:, None, None, None], theirs) < 1e-4


def test_borrowed_switches_are_those_of_the_explicit_form(probed):
    network, images, units = probed
    borrowed, same = (
        controls.project_by_switches(network, images, "conv3", units["conv3"], others, generator())
        for others in (images.flip(0), images)
    )
    assert list(borrowed) == list(controls.WAYS)
    up, other = (deconvnet.forward(network, x, "conv3") for x in (images, images.flip(0)))
    seed = deconvnet.seed(torch.ones_like(up.activations), units["conv3"])
    for way, trace in (("own", up), ("another image's", other)):
        assert relative(borrowed[way], deconvnet.backward(network, trace, "conv3", seed)) < 1e-4
    # borrowing from the same image changes nothing
    assert torch.equal(same["another image's"], same["own"])
    assert torch.equal(same["another unit"], same["another unit and image"])


def test_overwriting_keeps_the_last_of_colliding_values():
    peak = torch.zeros(1, 1, 5, 5)
    peak[0, 0, 2, 2] = 9
    _, switches = deconvnet.pool(peak)
    values = torch.tensor([[[[4.0, 3.0], [2.0, 1.0]]]])
    assert controls.overwriting_unpool(values, switches, peak.shape)[0, 0, 2, 2] == 1
    apart = torch.tensor([[[[0, 4], [20, 24]]]])
    summed = deconvnet.unpool(values, apart, peak.shape)
    assert torch.equal(controls.overwriting_unpool(values, apart, peak.shape), summed)


def test_cascade_randomises_from_the_layer_down_and_leaves_the_network_alone():
    network = small(zfnet())
    before = {k: v.clone() for k, v in network.state_dict().items()}
    stages = list(controls.cascading_randomization(network, "conv3", generator()))
    assert [name for name, _ in stages] == ["conv3", "conv2", "conv1"]
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    for i, (_, changed) in enumerate(stages):
        for j, name in enumerate(("conv3", "conv2", "conv1")):
            trained, new = network.convs[name].weight, changed.convs[name].weight
            assert torch.equal(trained, new) == (j > i)
            size = trained.square().mean().item()
            assert new.square().mean().item() == pytest.approx(size, rel=0.2)
        assert torch.equal(changed.fulls["fc8"].weight, network.fulls["fc8"].weight)


def test_deletion_takes_the_highest_first_and_refuses_silent_units():
    network = small(zfnet())
    with torch.no_grad():
        network.convs["conv1"].weight.zero_()
        network.convs["conv1"].weight[:, :, 3, 3] = 1 / 3  # the mean of the middle pixel's channels
        network.convs["conv1"].bias.zero_()
    images, ranking = torch.full((1, 3, 96, 96), 2.0), torch.zeros(1, 96, 96)
    unit = Units(torch.tensor([0]), torch.tensor([5]), torch.tensor([6]))
    for rank, share, height_by_hand in ((1, 1 / 49, 1 / 2), (-1, 48 / 49, 1)):  # first, or last
        ranking[0, 13, 15] = rank  # conv1 unit (5, 6) sees 7 px from (10, 12)
        height = controls.deletion_height(network, images, "conv1", unit, ranking, (0.0, share))
        assert height.item() == pytest.approx(height_by_hand)
    parts = torch.zeros(1, 96, 96, dtype=torch.uint8)
    parts[0, 10:13], parts[0, 13:17] = 4, 7
    for drawn, needed in ((parts, 7), (parts * (parts == 4), 0)):
        part = controls.most_needed_part(network, images, "conv1", unit, drawn)
        assert part.tolist() == [needed]
    with pytest.raises(ValueError, match="does not respond"):
        controls.deletion_height(network, -images, "conv1", unit, ranking)


def test_adversarial_images_stay_near_and_raise_the_loss(probed):
    network, images, units = probed
    labels = units["fc8"].maps
    moved = controls.adversarial_images(network, images, labels, 0.05)
    assert (moved - images).abs().max() <= 0.05 + 1e-6
    assert F.cross_entropy(network(moved), labels) > F.cross_entropy(network(images), labels)


@pytest.mark.parametrize("angle", [0.0, 0.8])
def test_the_toys_filter_cancels_the_distractor_and_its_pattern_is_the_signal(angle):
    toy = linear_toy.fit_toy(angle)
    cosines = {
        (toy.signal, toy.distractor): angle, (toy.filter, toy.distractor): 0,
        (toy.filter, toy.signal): (1 - angle**2) ** 0.5,
    }  # fmt: skip
    for pair, expected in cosines.items():
        assert linear_toy.cosine(*pair) == pytest.approx(expected, abs=1e-4)
    assert linear_toy.cosine(toy.pattern, toy.signal) > 0.99
