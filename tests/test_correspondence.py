"""Masks, signs and statistics of the correspondence chapter, against hand-worked cases and plain loops."""

import itertools
import math

import numpy as np
import pytest
import torch

from zfrepro.correspondence import (
    borrowed_places,
    corners,
    cosine_distance,
    covered,
    differences,
    disagreement,
    distance_by_number,
    interval,
    matched_places,
    nearest_mean,
    off_parts,
    over_pairs,
    pairs_of,
    permutation_p,
    random_places,
    resamples,
    separation,
    sign_distance,
    strongest,
    under,
)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def sparse(n=7, d=60, seed=0):
    eps = torch.randn(n, d, generator=rng(seed))
    eps[torch.rand(n, d, generator=rng(seed + 1)) < 0.6] = 0
    return eps


EPS = torch.tensor([[0.0, 2.0, -1.0, 0.0], [0.0, 1.0, 3.0, 0.5], [0.0, 0.0, 0.0, 0.0]])


def test_signs_worked_by_hand():
    third = torch.tensor([[0, 2, 2], [2, 0, 3], [2, 3, 0]]) / 4
    two = torch.tensor([[0, 1, 1], [1, 0, 0], [1, 0, 0]]) / 4
    torch.testing.assert_close(sign_distance(EPS), third)
    torch.testing.assert_close(sign_distance(EPS, "positive"), two)
    assert disagreement(EPS)[0, 1] == 0.5  # both change units 1 and 2, one of them in opposite ways
    assert disagreement(EPS)[0, 2].isnan()
    assert cosine_distance(EPS)[0, 2] == 1
    assert math.isclose(over_pairs(sign_distance(EPS)).item(), 7 / 12, rel_tol=1e-6)
    with pytest.raises(ValueError, match="third, positive"):
        sign_distance(EPS, "none")


def test_sign_distance_is_a_plain_count():
    signs = sparse().sign()
    plain = torch.stack([torch.stack([(a != b).float().mean() for b in signs]) for a in signs])
    torch.testing.assert_close(sign_distance(sparse()), plain)
    bits = sparse() >= 0
    plain = torch.stack([torch.stack([(a != b).float().mean() for b in bits]) for a in bits])
    torch.testing.assert_close(sign_distance(sparse(), "positive"), plain)


def test_distance_by_number_is_the_mean_over_shuffled_units():
    eps = sparse(2, 40)
    generator = rng(3)
    found = [
        sign_distance(torch.stack([eps[0], eps[1, torch.randperm(40, generator=generator)]]))[0, 1] for _ in range(4000)
    ]
    assert abs(torch.stack(found).mean() - distance_by_number(eps)[0, 1]) < 0.005


def test_fewer_changed_units_mean_a_smaller_distance_and_the_control_sees_through_it():
    many, few = torch.randn(20, 500, generator=rng()), torch.randn(20, 500, generator=rng(1))
    few[:, 50:] = 0  # the same 50 units: nothing is consistent about their signs
    assert over_pairs(sign_distance(few)) < over_pairs(sign_distance(many)) / 5
    assert abs(over_pairs(disagreement(few)) - over_pairs(disagreement(many))) < 0.03
    assert (strongest(many, 30) != 0).sum(1).eq(30).all()
    assert torch.equal(strongest(EPS[:1], 1), torch.tensor([[0.0, 2.0, 0.0, 0.0]]))
    with pytest.raises(ValueError, match="cannot keep 9"):
        strongest(EPS, 9)


def test_over_pairs_weights_are_repeated_images():
    distance = torch.rand(5, 5, generator=rng())
    distance = distance + distance.T
    distance[1, 3] = distance[3, 1] = torch.nan
    weights = torch.tensor([[2.0, 1, 0, 1, 1], [1, 1, 1, 1, 1]])
    for counts, found in zip(weights, over_pairs(distance, weights), strict=True):
        drawn = torch.arange(5).repeat_interleave(counts.long())
        pairs = [distance[a, b] for a, b in itertools.permutations(drawn.tolist(), 2) if a != b]
        assert math.isclose(torch.stack(pairs).nanmean(), found, rel_tol=1e-5)


def test_bootstrap_interval_agrees_with_scipy():
    from scipy.stats import bootstrap

    values = torch.randn(60, generator=rng()).double()
    low, high = interval((resamples(60, 4000, rng(1)).double() @ values) / 60)
    there = bootstrap((values.numpy(),), np.mean, method="percentile", rng=np.random.default_rng(0)).confidence_interval
    assert abs(low - there.low) < 0.03 and abs(high - there.high) < 0.03


def test_permutation_finds_what_is_there_and_nothing_else():
    shared = torch.randn(80, generator=rng())
    part = shared + torch.randn(12, 80, generator=rng(1))
    other = torch.randn(24, 80, generator=rng(2))
    assert permutation_p(sign_distance(torch.cat([part, other])), 12, 400, rng(3)) < 0.01
    found = [permutation_p(sign_distance(torch.randn(24, 80, generator=rng(s))), 8, 100, rng(s)) for s in range(10, 50)]
    assert 0.35 < float(np.mean(found)) < 0.65
    with pytest.raises(ValueError, match="at least two"):
        permutation_p(torch.zeros(5, 5), 5, 10, rng())


def test_a_mask_covers_its_square_and_no_more():
    images = torch.randint(0, 100, (2, 3, 20, 20), generator=rng()).to(torch.uint8)
    places = torch.tensor([[10.0, 6.0], [0.0, 19.5]])
    assert corners(places, 4, 20).tolist() == [[8, 4], [0, 16]]
    hidden = covered(images, places, 4)
    assert (hidden[0, :, 4:8, 8:12] == 124).all() and (hidden[1, :, 16:, :4] == 124).all()
    assert (hidden != images).sum() == 2 * 3 * 16
    grey = images[0, :, 4:8, 8:12].float().mean(0)
    torch.testing.assert_close(under(images, places, 4)[0], torch.stack([grey.mean(), grey.std(correction=0)]))
    with pytest.raises(ValueError, match="not finite"):
        covered(images, places * torch.nan, 4)
    with pytest.raises(ValueError, match="does not fit"):
        covered(images, places, 21)


def test_controls_match_what_they_say():
    images = torch.randint(0, 255, (6, 3, 64, 64), generator=rng()).to(torch.uint8)
    images[:, :, :20] = 90
    parts = 14 + 36 * torch.rand(6, 3, 2, generator=rng(1))
    eye = parts[:, 0]
    found = matched_places(images, eye, parts, 8, rng(2))
    kept = found.isfinite().all(1)
    assert kept.any() and off_parts(found[kept][:, None], parts[kept], 8).all()
    distance = (found[kept] - 32).norm(dim=1) - (eye[kept] - 32).norm(dim=1)
    assert distance.abs().max() < 2  # a pixel, and the rounding of a corner
    miss = (under(images, eye, 8)[kept] - under(images[kept], found[kept], 8)).norm(dim=1)
    free = random_places(6, 64, 8, rng(3))[kept]
    assert miss.mean() <= (under(images, eye, 8)[kept] - under(images[kept], free, 8)).norm(dim=1).mean()
    borrowed = borrowed_places(eye, parts, 8, rng(4))
    for i, place in enumerate(borrowed):
        if place.isfinite().all():
            assert (place == eye).all(1).nonzero().flatten().tolist() != [i]
            assert off_parts(place[None, None], parts[i : i + 1], 8).all()
    crowded = torch.tensor([[[10.0, 10.0]], [[11.0, 10.0]]])
    assert borrowed_places(crowded[:, 0], crowded, 8, rng()).isnan().all()


def test_differences_are_plain_and_rounding_is_none():
    def features(x):
        x = x.float()
        return {"a": x.sum((2, 3)), "b": x * 1e3 + 1e-7}

    images = torch.randint(0, 255, (5, 3, 6, 6), generator=rng()).to(torch.uint8)
    hidden = covered(images, torch.full((5, 2), 3.0), 2)
    found = differences(features, images, hidden, batch=2)
    torch.testing.assert_close(found["a"], images.float().sum((2, 3)) - hidden.float().sum((2, 3)))
    assert found["b"].shape == (5, 108) and ((found["b"] != 0).sum(1) <= 12).all()


def test_kinds_are_told_apart_where_they_differ():
    kinds = torch.arange(4).repeat_interleave(5)
    vectors = torch.eye(4)[kinds].repeat(1, 6) + 0.3 * torch.randn(20, 24, generator=rng())
    cosine = 1 - cosine_distance(vectors)
    unit = torch.nn.functional.normalize(vectors, dim=1)
    plain = []
    for i in range(20):
        rest = torch.arange(20) != i
        means = torch.stack([unit[rest & (kinds == k)].mean(0) for k in range(4)])
        plain.append(int((torch.nn.functional.normalize(means, dim=1) @ unit[i]).argmax()))
    assert nearest_mean(cosine, kinds).tolist() == plain
    found = separation(cosine, kinds, 200, rng())
    assert found.accuracy == 100 and found.gap > 0.5 and found.p < 0.01 and found.chance < 50
    noise = separation(1 - cosine_distance(torch.randn(20, 24, generator=rng(5))), kinds, 200, rng())
    assert noise.accuracy < 60 and noise.p > 0.05
    same, apart = pairs_of(kinds)
    assert same.sum() == 4 * 20 and (same | apart).sum() == 20 * 19
    with pytest.raises(ValueError, match="two images"):
        nearest_mean(cosine, torch.arange(20))
