"""Every chapter that takes networks that others trained measures one, through its own functions.

The network has random weights, the images are noise; what is tested is that the parts run and hold
what the claims read.
"""

import json
from dataclasses import replace

import pytest
import torch

from book.correspondence import measure as correspondence
from book.gallery import measure as gallery
from book.occlusion import measure as occlusion
from book.projections import controls
from book.projections import measure as projections
from tests.datasets import tiny
from tests.networks import small
from tests.test_imagenet import CPU, made
from zfrepro import claims, measure, networks, records
from zfrepro.data import Dataset, Split
from zfrepro.data.transforms import stored_size
from zfrepro.measure import Study
from zfrepro.weights import Trained

CLASSES = ("tench", "golf ball")  # of the images, before the network has named them
NAME = "squeezenet1_0"


def noise(size: int, count: int = 16) -> Dataset:
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(count, 3, 8, 8, generator=generator)
    images = torch.nn.functional.interpolate(coarse, stored_size(size), mode="bilinear")
    split = Split((255 * images).byte(), torch.arange(count) % len(CLASSES))
    return Dataset("imagenet20", CLASSES, None, split, size, "noise")


@pytest.fixture(scope="module")
def study() -> Study:
    every, dataset = made(), noise(64)
    scores = every.network(every.preprocess(dataset.val.images))
    # one class, and one that wins against it about as often as it loses
    other = int(((scores[:, :1] > scores).sum(0) - len(scores) // 2).abs().argmin())
    classes = (every.classes[0], every.classes[other])
    adapted = every.restrict_classes(classes)
    # what it answers is right, so that there are images to measure on
    answers = adapted.network(adapted.preprocess(dataset.val.images)).argmax(1)
    assert set(answers.tolist()) == {0, 1}
    val = Split(dataset.val.images, answers)
    mean = torch.full((3, *(stored_size(64),) * 2), 100.0)
    ours = Trained(small(networks.zfnet(), 64), tiny(image_size=64), classes, mean)
    return Study(
        replace(dataset, classes=classes, val=val), {NAME: adapted}, CPU, images=12,
        progress=False, network=NAME, ours=ours,
        rows=torch.arange(len(val)) % 2 == 0,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def quick(study, monkeypatch, tmp_path):
    monkeypatch.setenv("ZFREPRO_RESULTS", str(tmp_path))
    monkeypatch.setattr(Study, "our_images", lambda self: self.split_for(noise(64)))
    monkeypatch.setattr(projections, "PAIRS_ADAPTED", 2)
    monkeypatch.setattr(projections, "SEEDS", 1)
    monkeypatch.setattr(gallery, "MAPS", 2)
    monkeypatch.setattr(occlusion, "ROWS", 1)
    monkeypatch.setattr(occlusion, "POSITIONS", 4)
    monkeypatch.setattr(correspondence, "FEWEST", 1)
    generator = torch.Generator().manual_seed(2)
    faces = correspondence.Faces(
        study.trained.center_crop(study.dataset.val.images[:12]),
        20 + 20 * torch.rand(12, 3, 2, generator=generator), torch.arange(12) % 6, tuple("abcdef"),
    )  # fmt: skip
    monkeypatch.setattr(correspondence, "faces_of", lambda *_, **__: faces)
    (tmp_path / "occlusion").mkdir()
    boxes = {"set": "none", "photographs": []}
    (tmp_path / "occlusion" / "boxes.json").write_text(json.dumps(boxes))


claims.all_claims()  # before the folder of records is another
OURS = {"evolution", "network"}  # which take our own networks only
CHAPTERS = set(measure.measurements()) - OURS


# tests/test_transfer.py measures the other
@pytest.mark.parametrize("chapter", sorted(CHAPTERS - {"transfer"}))
def test_a_chapter_measures_it_and_its_claims_can_read_the_record(chapter, study, tmp_path):
    measured = measure.measure(chapter, study, tmp_path / "scratch", say=lambda *_, **__: None)
    record = measure.record(chapter, study, measured, "command")
    assert record["network"] == NAME and record["layers"]["conv1"] == "features.1"
    assert record["unseen"] == 8 and record["validation"] == 16
    records.write_json(tmp_path / chapter / f"{NAME}.json", record)
    judged = claims.of_chapter(chapter) if chapter in claims.CHAPTERS else ()
    findings = [claim.finding(NAME) for claim in judged]
    for finding in findings:
        assert finding.evidence or "python -m" not in finding.reason, finding
    if chapter not in ("own_network", "architecture"):
        assert any(finding.evidence for finding in findings)


def test_one_chapter_measures_nothing_else():
    with pytest.raises(ValueError, match="name a network that others trained with --network"):
        measure.module_of("own_network").parts(Study(noise(64), {}, CPU))


def test_subsampling_exchanges_the_pools_and_shares_the_weights(study):
    network, x = study.trained.network, study.trained.preprocess(study.dataset.val.images[:2])
    other = controls.subsampled(network)
    assert other.first().weight is network.first().weight
    pools = sum(isinstance(m, torch.nn.MaxPool2d) for m in network.modules())
    assert pools == 3 == sum(isinstance(m, controls.Middle) for m in other.modules())
    pooled, sampled = (m.features(x, ["conv1", "conv5"]) for m in (network, other))
    assert torch.equal(pooled["conv1"], sampled["conv1"])
    assert pooled["conv5"].shape == sampled["conv5"].shape
    assert not torch.allclose(pooled["conv5"], sampled["conv5"])


def test_weights_are_randomised_from_the_scores_down(study):
    network = study.trained.network
    every = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    by_layer = {layer: controls.weighted(network, layer) for layer in network.layers}
    assert [m for layer in network.layers for m in by_layer[layer]] == every
    draw = torch.Generator().manual_seed(0)
    (first, changed), (second, _), *_ = controls.cascading_randomization(network, "fc8", draw)
    assert (first, second) == ("fc8", "fc7")
    others = [m for m in changed.modules() if isinstance(m, torch.nn.Conv2d)]
    same = [torch.equal(a.weight, b.weight) for a, b in zip(every, others, strict=True)]
    assert same == [True] * (len(every) - 1) + [False]
