"""Masks, signs and statistics of the correspondence chapter, against hand-worked cases and plain loops."""

import itertools
import math

import numpy as np
import pytest
import torch
from PIL import Image

import zfrepro
from book.correspondence import figures
from book.correspondence import measure as study
from zfrepro import correspondence, records
from zfrepro import verdicts as claims
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
    found = differences(features, correspondence.features_in_batches(features, images, batch=3), hidden, batch=2)
    torch.testing.assert_close(found["a"], images.float().sum((2, 3)) - hidden.float().sum((2, 3)))
    assert found["b"].shape == (5, 108) and ((found["b"] != 0).sum(1) <= 12).all()


def test_search_finds_a_planted_part():
    assert correspondence.grid_places(10, 4, 3).tolist() == [[x, y] for y in (2, 5, 8) for x in (2, 5, 8)]
    likeness = torch.tensor([[0.1, 0.9, 0.5], [0.5, 0.5, 0.7], [0.9, 0.1, 0.2]])
    assert correspondence.rank_of(likeness, torch.tensor([1, 0, 1])).tolist() == [1, 0.25, 0]
    eps = torch.tensor([[1.0, 0], [0, 2], [0, 3]])
    torch.testing.assert_close(
        correspondence.examples_of_others(eps), torch.tensor([[0, 1], [0.5**0.5, 0.5**0.5], [0.5**0.5, 0.5**0.5]])
    )
    images = torch.full((3, 3, 16, 16), 50, dtype=torch.uint8)
    places = torch.tensor([[6.0, 2], [10, 14], [2, 6]])
    for image, (x, y) in zip(images, places.long(), strict=True):
        image[0, y - 2 : y + 2, x - 2 : x + 2] = 200  # red squares; all else is grey

    def features(x):
        return {"colour": x.float() / 255}

    faces = study.Faces(images, places[:, None].expand(-1, 3, -1), torch.zeros(3, dtype=torch.long), ("one",))
    found = study.likeness_maps(faces, features, ("colour",), 4, 4, range(3))["colour"]
    assert found.shape == (3, 3, 16)
    assert found[:, 0].argmax(1).tolist() == [1, 14, 4]  # squares in rows of four


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


# --- the study and the claims ----------------------------------------------------------------------------------------


def test_places_on_photographs_follow_the_crop(tmp_path, monkeypatch):
    picture = np.zeros((224, 300, 3), np.uint8)
    picture[96:105, 146:155] = 255  # a spot whose middle is at x = 150.5, y = 100.5
    for part in ("train", "val"):
        (tmp_path / "imagenet20" / part / "n1").mkdir(parents=True)
    Image.fromarray(picture).save(tmp_path / "imagenet20/val/n1/dog.png")
    spot = [150.5, 100.5]
    dog = {"file": "val/n1/dog.png", "breed": "spot", "right_eye": spot, "left_eye": spot, "nose": spot}
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
    counts = [sum(dog["breed"] == breed for dog in dogs) for breed in {dog["breed"] for dog in dogs}]
    assert len(counts) >= 10 and min(counts) >= 2
    for dog in dogs:
        right, left, nose = (np.array(dog[part]) for part in ("right_eye", "left_eye", "nose"))
        assert right[0] < left[0] and nose[1] > min(right[1], left[1])  # a face the right way up


@pytest.fixture(scope="module")
def few():
    return study.drawn_faces(96, 2)


def test_drawn_faces_are_faces(few):
    assert len(few) == 12 and few.kinds.bincount().tolist() == [2] * 6
    apart = (few.places[:, :, None] - few.places[:, None]).abs().amax(-1)[:, *torch.triu_indices(3, 3, 1)]
    assert apart.min() > 6 and few.places.min() >= 6 and few.places.max() <= 90


def test_the_study_runs_and_its_numbers_agree(few, monkeypatch):
    monkeypatch.setattr(study, "TIMES", 40)
    trained = zfrepro.pretrained("zfnet", "diorama")
    features = study.features_of(trained, ("conv5", "pool5", "fc7"))
    stored = torch.nn.functional.pad(few.images, (7, 7, 7, 7))
    there = trained.network.features(trained.normalised(stored), ["conv5", "fc7"])
    for layer in ("conv5", "fc7"):
        torch.testing.assert_close(features(few.images)[layer], there[layer], rtol=1e-4, atol=1e-4)
    masks = study.Masks(few, features, 12, 2, seed=0)
    table = study.layer_table(masks, "fc7", 0)
    eye = sign_distance(masks.of_part[0]["fc7"])
    found = table["right eye"]["sign"]["random"]
    assert math.isclose(found["part"], over_pairs(eye), rel_tol=1e-3) and found["images"] == 12
    both = [over_pairs(sign_distance(e["fc7"])) for e in masks.of_control["random"]]
    assert math.isclose(found["control"], sum(both) / 2, rel_tol=1e-3)
    assert found["interval"][0] < found["better"] < found["interval"][1]
    assert study.compared(eye, [0], 12, torch.arange(12) < 11, 0) == {"images": 11}
    thousand = study.papers_table(masks, "conv5", 0, times=50)
    assert set(thousand) == {*correspondence.PARTS, "random", "below"}
    assert 0 <= thousand["below"]["all"] <= min(thousand["below"][part] for part in correspondence.PARTS)
    for five in study.fives(few, 5, rng()):
        assert len(few.kinds[five].unique()) == 5
    kinds = study.kinds_table(masks, "fc7", 0)
    assert math.isclose(
        kinds["sign"]["gained"], kinds["sign"]["within"]["better"] - kinds["sign"]["between"]["better"], abs_tol=2e-4
    )


def record(lead5, lead7, accuracy7=60.0, gained=(0.1, 0.2), untrained=0.0, between=(0.1, 0.0), maps=None):
    """Leads of layers 5 and 7; gained: layer 7's interval, layer 5's is 0 to 0.05; between: leads between kinds."""

    def row(lead):
        return {"part": 0.5 - lead, "control": 0.5, "better": lead, "interval": [lead - 0.01, lead + 0.01], "p": 0.01}

    def layer(lead):
        table = {m: dict.fromkeys(study.CONTROLS, row(lead)) for m in study.MEASURES}
        return dict.fromkeys((*correspondence.PARTS, "mean"), table)

    def kinds(accuracy, lead, gained):
        cosine = {"within": row(lead + 0.1), "between": row(lead), "gained": 0.1, "gained interval": gained}
        return {"features": {"accuracy": accuracy}, "cosine": cosine}

    raw = layer(untrained)["mean"]
    raw |= {} if maps is None else {"cosine of maps": dict.fromkeys(study.CONTROLS, row(maps))}
    return {
        "faces": {"images": 40, "kinds": {"dog": 20, "cat": 20}},
        "conv5": layer(lead5),
        "fc7": layer(lead7),
        "kinds": {"conv5": kinds(50.0, between[0], (0.0, 0.05)), "fc7": kinds(accuracy7, between[1], gained)},
        "untrained": {"0": {"conv5": layer(0.0)["mean"]}, "1": {"conv5": raw}},
    }


@pytest.mark.parametrize(
    ("name", "yes", "no"),
    [
        ("layer5", record(0.1, 0), record(-0.1, 0)),
        ("layer5-controlled", record(0.1, 0), record(0.005, 0)),
        ("learned", record(0.1, 0), record(0.1, 0, untrained=0.095)),
        ("layer7", record(0.1, 0.02), record(0.1, 0.1)),
        ("layer7-controlled", record(0.1, 0), record(0.1, 0.1)),
        ("kinds", record(0.1, 0), record(0.1, 0, accuracy7=40.0, gained=(-0.1, 0.1))),
        ("kinds", record(0.1, 0), record(0.1, 0, between=(0.1, 0.3))),  # nothing lost that kinds could explain
        ("kinds", record(0.1, 0), record(0.1, 0, between=(0.1, 0.085))),  # lower, but not clearly
    ],
)
def test_every_claim_can_hold_and_fail(name, yes, no):
    claim = next(c for c in claims.of_chapter("correspondence") if c.name == f"correspondence-{name}")
    assert claim.judge(yes).verdict == "reproduced" and claim.judge(no).verdict == "not reproduced"
    assert "40 faces of 2 kinds" in claim.judge(yes).numbers


@pytest.mark.parametrize("changes", [{"gained": (-0.1, 0.1)}, {"gained": (0.04, 0.2)}, {"accuracy7": 40.0}])
def test_kinds_claim_may_hold_in_part(changes):
    """Layer 7 gains no more within kinds than layer 5, or does not tell kinds apart better."""
    claim = next(c for c in claims.of_chapter("correspondence") if c.name == "correspondence-kinds")
    assert claim.judge(record(0.1, 0, **changes)).verdict == "partly"


def test_untrained_maps_count_against_what_was_learned():
    claim = next(c for c in claims.of_chapter("correspondence") if c.name == "correspondence-learned")
    found = claim.judge(record(0.1, 0, maps=0.3))
    assert found.verdict == "partly" and found.numbers.startswith("6 of 8;")
    assert "cosine of maps, matched 20.0 (at least 18.0), untrained 60.0" in found.numbers
    rows = figures.rows_of_learned({"diorama": record(0.1, 0, maps=0.3)})
    assert len(rows) == 8 and (rows[-1]["untrained 1"], rows[-1]["untrained 2"]) == ("+0.0", "+60.0")
    assert figures.learned_told(record(0.1, 0, maps=0.3)) == "clearly ahead of all in 6, behind all in 0"
    assert figures.maps_told(record(0.1, 0, maps=0.3)) == "20.0 % (before training 0.0 and 60.0)"
    assert figures.learned_told(record(-0.1, 0)) == "clearly ahead of all in 0, behind all in 8"


def test_a_search_is_helped_where_its_interval_is_above_the_untrained_hits():
    def searched(*hits):
        parts = {part: {"hit": [hit, hit - 5, hit + 5]} for part, hit in zip(correspondence.PARTS, hits, strict=True)}
        return {"chance": 1.0, "conv5": parts, "fc7": parts}

    made = {"search": searched(20, 30, 40), "search untrained": searched(10, 28, 50)}
    assert figures.search_gains(made) == "2 of 6" and figures.hits(made, "search", "fc7") == 30
    assert figures.gained(record(0.1, 0), "fc7") == "+0.100 (+0.100 to +0.200)"
