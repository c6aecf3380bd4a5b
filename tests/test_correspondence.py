"""Test masks, distances, study and claims on correspondence, by hand-worked cases and loops."""

import itertools
import math

import numpy as np
import pytest
import torch
from PIL import Image

import zfrepro
from book.correspondence import claims
from book.correspondence import measure as study
from tests.test_outcomes import with_values
from zfrepro import correspondence as c
from zfrepro import records
from zfrepro.stats import of_samples


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


EPS = torch.tensor([[0.0, 2.0, -1.0, 0.0], [0.0, 1.0, 3.0, 0.5], [0.0, 0.0, 0.0, 0.0]])


def test_signs_worked_by_hand():
    third = torch.tensor([[0, 2, 2], [2, 0, 3], [2, 3, 0]]) / 4
    two = torch.tensor([[0, 1, 1], [1, 0, 0], [1, 0, 0]]) / 4
    torch.testing.assert_close(c.sign_distance(EPS), third)
    torch.testing.assert_close(c.sign_distance(EPS, "positive"), two)
    assert c.opposite_share(EPS)[0, 1] == 0.5  # both change units 1 and 2, one of them oppositely
    assert c.opposite_share(EPS)[0, 2].isnan()
    assert c.cosine_distance(EPS)[0, 2] == 1
    assert math.isclose(c.mean_over_pairs(c.sign_distance(EPS)).item(), 7 / 12, rel_tol=1e-6)
    assert c.keep_strongest(EPS[:1], 1).tolist() == [[0.0, 2.0, 0.0, 0.0]]
    with pytest.raises(ValueError, match="third, positive"):
        c.sign_distance(EPS, "none")


def test_weights_of_a_mean_over_pairs_are_repeated_images():
    distance = torch.rand(5, 5, generator=rng())
    distance = distance + distance.T
    distance[1, 3] = distance[3, 1] = torch.nan
    weights = torch.tensor([[2.0, 1, 0, 1, 1], [1, 1, 1, 1, 1]])
    for counts, mean in zip(weights, c.mean_over_pairs(distance, weights), strict=True):
        drawn = torch.arange(5).repeat_interleave(counts.long())
        pairs = [distance[a, b] for a, b in itertools.permutations(drawn.tolist(), 2) if a != b]
        assert math.isclose(torch.stack(pairs).nanmean(), mean, rel_tol=1e-5)


def test_bootstrap_interval_agrees_with_scipy():
    from scipy.stats import bootstrap

    values = torch.randn(60, generator=rng()).double()
    samples = (c.bootstrap_counts(60, 4000, rng(1)).double() @ values) / 60
    ours = of_samples(values.mean(), samples, 60)
    options = {"method": "percentile", "rng": np.random.default_rng(0)}
    oracle = bootstrap((values.numpy(),), np.mean, **options).confidence_interval
    assert abs(ours.low - oracle.low) < 0.03 and abs(ours.high - oracle.high) < 0.03


def test_a_mask_covers_its_square_and_no_more():
    images = torch.randint(0, 100, (2, 3, 20, 20), generator=rng()).to(torch.uint8)
    places = torch.tensor([[10.0, 6.0], [0.0, 19.5]])
    assert c.mask_corners(places, 4, 20).tolist() == [[8, 4], [0, 16]]
    hidden = c.mask_squares(images, places, 4)
    assert (hidden[0, :, 4:8, 8:12] == 124).all() and (hidden[1, :, 16:, :4] == 124).all()
    assert (hidden != images).sum() == 2 * 3 * 16
    grey = images[0, :, 4:8, 8:12].float().mean(0)
    expected = torch.stack([grey.mean(), grey.std(correction=0)])
    torch.testing.assert_close(c.grey_under_mask(images, places[:, None], 4)[0, 0], expected)
    with pytest.raises(ValueError, match="not finite"):
        c.mask_squares(images, places * torch.nan, 4)
    with pytest.raises(ValueError, match="does not fit"):
        c.mask_squares(images, places, 21)


def test_controls_match_what_they_say():
    images = torch.randint(0, 255, (6, 3, 64, 64), generator=rng()).to(torch.uint8)
    images[:, :, :20] = 90
    parts = 14 + 36 * torch.rand(6, 3, 2, generator=rng(1))
    eye = parts[:, 0]
    matched = c.matched_places(images, eye, parts, 8, rng(2))
    some = matched.isfinite().all(1)
    assert some.any() and c.avoids_parts(matched[some][:, None], parts[some], 8).all()
    distance = (matched[some] - 32).norm(dim=1) - (eye[some] - 32).norm(dim=1)
    assert distance.abs().max() < 2  # a pixel, and the rounding of a corner
    at = torch.stack([eye, matched, c.random_places(6, 64, 8, rng(3))], 1)[some]
    wanted, near, far = c.grey_under_mask(images[some], at, 8).unbind(1)
    assert (wanted - near).norm(dim=1).mean() <= (wanted - far).norm(dim=1).mean()
    for i, place in enumerate(c.borrowed_places(eye, parts, 8, rng(4))):
        if place.isfinite().all():
            assert (place == eye).all(1).nonzero().flatten().tolist() != [i]
            assert c.avoids_parts(place[None, None], parts[i : i + 1], 8).all()
    crowded = torch.tensor([[[10.0, 10.0]], [[11.0, 10.0]]])
    assert c.borrowed_places(crowded[:, 0], crowded, 8, rng()).isnan().all()


def test_differences_are_plain_and_rounding_is_none():
    def features(x):
        x = x.float()
        return {"a": x.sum((2, 3)), "b": x * 1e3 + 1e-7}

    images = torch.randint(0, 255, (5, 3, 6, 6), generator=rng()).to(torch.uint8)
    hidden = c.mask_squares(images, torch.full((5, 2), 3.0), 2)
    clean = c.batched_features(features, images, batch=3)
    changes = c.differences(features, clean, hidden, batch=2)
    expected = images.float().sum((2, 3)) - hidden.float().sum((2, 3))
    torch.testing.assert_close(changes["a"], expected)
    assert changes["b"].shape == (5, 108) and ((changes["b"] != 0).sum(1) <= 12).all()


def test_search_finds_a_planted_part():
    places = [[x, y] for y in (2, 5, 8) for x in (2, 5, 8)]
    assert c.grid_places(10, 4, 3).tolist() == places
    images = torch.full((3, 3, 16, 16), 50, dtype=torch.uint8)
    at = torch.tensor([[6.0, 2], [10, 14], [2, 6]])
    for image, (x, y) in zip(images, at.long(), strict=True):
        image[0, y - 2 : y + 2, x - 2 : x + 2] = 200  # red squares; all else is grey
    settings = (images, at[:, None], 4, 4, [0, 1, 2])
    similarity = c.similarity_maps(lambda x: {"colour": x.float() / 255}, "colour", *settings)
    assert similarity.shape == (3, 1, 16)
    assert similarity[:, 0].argmax(1).tolist() == [1, 14, 4]  # squares in rows of four


def test_nearest_mean_agrees_with_a_loop():
    classes = torch.arange(4).repeat_interleave(5)
    vectors = torch.eye(4)[classes].repeat(1, 6) + 1.2 * torch.randn(20, 24, generator=rng())
    unit = torch.nn.functional.normalize(vectors, dim=1)
    plain = []
    for i in range(20):
        rest = torch.arange(20) != i
        means = torch.stack([unit[rest & (classes == k)].mean(0) for k in range(4)])
        plain.append(int((torch.nn.functional.normalize(means, dim=1) @ unit[i]).argmax()))
    assert 0 < sum(a != b for a, b in zip(plain, classes.tolist(), strict=True)) < 20
    assert c.nearest_mean(1 - c.cosine_distance(vectors), classes).tolist() == plain
    with pytest.raises(ValueError, match="two images"):
        c.nearest_mean(torch.eye(20), torch.arange(20))


# --- the study ---------------------------------------------------------------------------------


def test_places_on_photographs_follow_the_crop(tmp_path, monkeypatch):
    picture = np.zeros((224, 300, 3), np.uint8)
    picture[96:105, 146:155] = 255  # a spot whose middle is at x = 150.5, y = 100.5
    for part in ("train", "val"):
        (tmp_path / "imagenet20" / part / "n1").mkdir(parents=True)
    Image.fromarray(picture).save(tmp_path / "imagenet20/val/n1/dog.png")
    spot = dict.fromkeys(("right_eye", "left_eye", "nose"), [150.5, 100.5])
    dog = {"file": "val/n1/dog.png", "breed": "spot", **spot}
    records.write_json(tmp_path / "results/correspondence/dog_parts.json", {"dogs": [dog]})
    monkeypatch.setenv("ZFREPRO_RESULTS", str(tmp_path / "results"))
    faces = study.photographed_faces(128, tmp_path)
    bright = faces.images[0, 0].float()
    at = torch.arange(128) + 0.5
    middle = torch.stack([(bright.sum(0) * at).sum(), (bright.sum(1) * at).sum()]) / bright.sum()
    assert (middle - faces.places[0]).abs().max() < 0.3


def test_the_listed_dogs_are_many_and_whole():
    dogs = records.read("correspondence/dog_parts")["dogs"]
    assert len(dogs) >= 20 and len({dog["file"] for dog in dogs}) == len(dogs)
    breeds = [dog["breed"] for dog in dogs]
    assert len(set(breeds)) >= 10 and min(map(breeds.count, breeds)) >= 2
    for dog in dogs:
        right, left, nose = (np.array(dog[part]) for part in ("right_eye", "left_eye", "nose"))
        assert right[0] < left[0] and nose[1] > min(right[1], left[1])  # the right way up


@pytest.fixture(scope="module")
def few():
    return study.diorama_faces(96, 2)


def test_the_study_runs_and_its_numbers_agree(few, monkeypatch):
    monkeypatch.setattr(study, "TIMES", 40)
    network = zfrepro.pretrained("zfnet", "diorama", image_size=96)
    features = study.features_of(network, "fc7")
    masks = study.Masks(few, features, 12, 2, seed=0)
    table = study.layer_table(masks)["sign"]["random"]
    signs = study.Masks(few, features, 12, 2, seed=0, signs=True)
    assert study.layer_table(signs, ["sign"])["sign"]["random"] == table
    assert signs.changed() == masks.changed()
    part = [c.mean_over_pairs(c.sign_distance(eps)) for eps in masks.eps["part"]]
    random = [c.mean_over_pairs(c.sign_distance(e)) for e in masks.eps["random"]]
    part, random = sum(part) / 3, sum(random) / 2
    assert math.isclose(table["part"], part, rel_tol=1e-3)
    assert math.isclose(table["control"], random, rel_tol=1e-3)
    margin = table["margin"]
    assert math.isclose(margin["mean"], 100 * (1 - part / random), rel_tol=1e-2)
    assert margin["low"] < margin["mean"] < margin["high"] and margin["n"] == 12
    assert all(len(few.classes[five].unique()) == 5 for five in study.fives(few, 5, rng()))
    classes = study.classes_table(masks)
    less = classes["within"]["mean"] - classes["between"]["mean"]
    assert math.isclose(classes["gained"]["mean"], less, abs_tol=2e-4)


def test_untrained_networks_are_judged_by_their_spread():
    record = with_values(
        records.read("correspondence/diorama"),
        {"untrained/0/conv5/sign/random/margin": 2, "untrained/[12]/conv5/sign/random/margin": 5},
    )
    margin = claims.untrained(record)["conv5"]["sign"]["random"]["margin"]
    assert (margin["mean"], margin["n"]) == (4, 3)
    error = 1.0  # a standard deviation of the root of 3 over three networks
    assert margin["high"] == pytest.approx(4 + 4.303 * error, abs=1e-3)


def test_fewer_changed_units_mean_a_smaller_distance_and_the_control_sees_through_it():
    many, few = torch.randn(20, 500, generator=rng()), torch.randn(20, 500, generator=rng(1))
    few[:, 50:] = 0  # the same 50 units: nothing is consistent about their signs
    signs = [c.mean_over_pairs(c.sign_distance(eps)) for eps in (many, few)]
    opposite = [c.mean_over_pairs(c.opposite_share(eps)) for eps in (many, few)]
    assert signs[1] < signs[0] / 5 and abs(opposite[1] - opposite[0]) < 0.03
    assert (c.keep_strongest(many, 30) != 0).sum(1).eq(30).all()
    with pytest.raises(ValueError, match="cannot keep 9"):
        c.keep_strongest(EPS, 9)
