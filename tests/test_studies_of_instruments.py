"""Recorded measurements of the chapters on deconvnet and gallery: on hand-made input and a small network."""

import pytest
import torch

from book.deconvnet import claims
from book.deconvnet import measure as deconvnet_study
from book.gallery import measure as gallery_study
from tests.networks import small
from tests.worlds import stripes, tiny
from zfrepro import measure as studies
from zfrepro import networks
from zfrepro.measure import Study
from zfrepro.weights import Trained


@pytest.fixture(scope="module")
def study() -> Study:
    world = stripes(val=24, image_size=96)
    network = small(networks.zfnet())
    mean = torch.full((3, *world.val.images.shape[2:]), 60.0)
    trained = Trained(network, tiny(image_size=96), world.classes, mean)
    return Study(world, {"zfnet": trained}, torch.device("cpu"), images=24, progress=False)


def test_correlation_by_hand():
    a = torch.tensor([0.0, 1, 2, 3]).expand(1, 3, 2, 4)
    assert deconvnet_study.correlation(a, 5 * a + 7).item() == pytest.approx(1)
    assert deconvnet_study.correlation(a, -a).item() == pytest.approx(-1)


def test_difference_of_means_and_its_interval():
    a, b = torch.zeros(400), torch.cat([torch.zeros(200), torch.ones(200)])
    mean, low, high = gallery_study.difference(a, b, 0)
    assert mean == 0.5
    standard_error = 0.5 / 400**0.5
    assert low == pytest.approx(0.5 - 1.96 * standard_error, abs=0.01)
    assert high == pytest.approx(0.5 + 1.96 * standard_error, abs=0.01)


@pytest.mark.parametrize("chapter", ["deconvnet", "gallery"])
def test_a_study_runs_and_goes_on_where_it_was(chapter, study, tmp_path):
    said = []
    found = studies.measure(chapter, study, tmp_path, say=lambda text, **_: said.append(text))
    again = studies.measure(chapter, study, tmp_path, say=lambda text, **_: said.append(text))
    assert again == found
    assert said[-1].endswith("kept from before")
    if chapter == "deconvnet":
        assert found["untrained"] != found["resemblance"] and set(found["untrained"]) == set(found["resemblance"])
        assert max(own["rule_gap"] for own in found["relation"].values()) < 1e-4
        assert found["relation"]["conv1"]["gradient_cosine"][0] == pytest.approx(1)
    else:
        assert found["on_object"] is None  # no masks in this world
        assert set(found["likeness"]["conv5"]) == {"maps", "pixels", "contrast"}
        assert set(found["purity"]["layers"]) == {"conv1", "conv2", "conv3", "conv4", "conv5"}


def test_the_objects_of_a_drawn_world_are_looked_for_with_controls(study):
    masks = torch.zeros(24, *study.dataset.val.images.shape[2:], dtype=torch.bool)
    masks[::2, 40:80, 40:80] = True
    trained, images = study.networks["zfnet"], study.dataset.val.images
    found = gallery_study.on_object(trained, images, gallery_study.searched(trained, images), masks, 0)
    assert list(found["over"]) == ["conv1", "untrained 0", "untrained 1", "untrained 2"]
    own, place, lead = (found[key]["conv5"] for key in ("layers", "same_places", "lead"))
    assert lead[0] == pytest.approx(own[0] - place, abs=0.1)
    assert found["over"]["conv1"][0] == pytest.approx(lead[0] - found["lead"]["conv1"][0], abs=0.1)


@pytest.mark.parametrize("leads, verdict", [((1, 1, 1, 1), "reproduced"), ((1, 1, 1, 0), "partly"),
                                            ((0, 0, 0, 0), "not reproduced")])  # fmt: skip
def test_resemblance_is_judged_and_its_control_told(leads, verdict):
    layers = {layer: {"lead": [v, v - 0.5, v + 0.5]} for layer, v in zip(claims.DEEP, leads, strict=True)}
    nothing = {layer: {"lead": [-1, -1.1, -0.9]} for layer in claims.DEEP}
    found = claims.resemblance({"count": 60, "resemblance": layers, "untrained": nothing})
    assert found.verdict == verdict and found.numbers.endswith("leads by as much in 0 of 4 layers")
    same = claims.resemblance({"count": 60, "resemblance": layers, "untrained": layers})
    assert same.verdict == verdict and "in 4 of 4 layers: there the likeness is the instrument's" in same.numbers


def test_single_parts_are_measured_and_join_the_record(study, tmp_path):
    def measured(*only: str) -> dict:
        return studies.measure("deconvnet", study, tmp_path, only=only, say=lambda *_, **__: None)

    whole = measured()
    name = next(iter(deconvnet_study.parts(study)))
    found = measured(name)
    assert set(found) == {name, "seconds"} and list(found["seconds"]) == [name]
    with pytest.raises(ValueError, match=f"no part nonsense; there are: {name}"):
        measured("nonsense")

    earlier = studies.record("deconvnet", study, whole, "all") | {name: "old"}
    new = studies.record("deconvnet", study, found, "one")
    studies.refuse_other(earlier, new)
    joined = studies.added(earlier, new, found)
    assert joined[name] == whole[name] and set(whole) < set(joined)
    assert joined["command"] == "all" and [(a["parts"], a["command"]) for a in joined["added"]] == [([name], "one")]
    again = studies.added(joined | {"added": [*joined["added"], {"parts": ["other"]}]}, new | {"command": "two"}, found)
    assert [(a["parts"], a.get("command")) for a in again["added"]] == [(["other"], None), ([name], "two")]
    with pytest.raises(ValueError, match="another seed"):
        studies.refuse_other(earlier | {"seed": 7}, new)


@pytest.mark.parametrize("name", ["networks", "command", "seed"])
def test_no_part_of_a_study_hides_what_every_record_tells(study, name):
    assert studies.record("occlusion", study, {"agreement": 1}, "command")["networks"] == study.hashes
    with pytest.raises(ValueError, match=f"parts cannot be called {name}"):
        studies.record("occlusion", study, {name: 1}, "command")
