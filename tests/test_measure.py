"""Recorded measurements: single parts join the record there is, and hide nothing that it tells."""

import shlex

import pytest
import torch

from book.deconvnet import measure as study_module
from tests import datasets
from tests.photographs import photographs
from zfrepro import measure as studies
from zfrepro import records, training
from zfrepro.cli import main
from zfrepro.data.transforms import stored_size
from zfrepro.weights import save_weights


@pytest.fixture(scope="module")
def study():
    return datasets.study(12)


def test_single_parts_are_measured_and_join_the_record(study, tmp_path):
    def measured(*only: str) -> dict:
        return studies.measure("deconvnet", study, tmp_path, only=only, say=lambda *_, **__: None)

    whole = measured()
    name = next(iter(study_module.parts(study)))
    found = measured(name)
    assert set(found) == {name, "seconds"} and list(found["seconds"]) == [name]
    with pytest.raises(ValueError, match=f"no part nonsense; there are: {name}"):
        measured("nonsense")

    earlier = studies.record("deconvnet", study, whole, "all") | {name: "old"}
    new = studies.record("deconvnet", study, found, "one")
    studies.refuse_other(earlier, new)
    joined = studies.added(earlier, new, found)
    assert joined[name] == whole[name] and set(whole) < set(joined)

    def told(record: dict) -> list:
        return [(note["parts"], note.get("command")) for note in record["added"]]

    assert joined["command"] == "all" and told(joined) == [([name], "one")]
    more = joined | {"added": [*joined["added"], {"parts": ["other"]}]}
    again = studies.added(more, new | {"command": "two"}, found)
    assert told(again) == [(["other"], None), ([name], "two")]
    with pytest.raises(ValueError, match="another seed"):
        studies.refuse_other(earlier | {"seed": 7}, new)


def test_a_folder_of_images_is_measured_under_its_own_name(own_places, tmp_path, monkeypatch):
    folder = photographs(tmp_path, "my photos")
    mean = torch.zeros(3, stored_size(64), stored_size(64))
    for arch in ("zfnet", "krizhevsky"):
        recipe = datasets.tiny(arch=arch, dataset=str(folder))
        file = tmp_path / "results" / "networks" / f"my photos-{arch}.safetensors"
        sha = save_weights(file, recipe.network(3), recipe, ("class0", "class1", "class2"), mean)
        records.write_json(file.with_suffix(".json"), {"weights_sha256": sha})
    seen = []

    def parts(study):
        seen.append(study.load(96, ("val",)))  # as for a network that sees another size
        return {"part": lambda: 1}

    monkeypatch.setattr(study_module, "parts", parts)
    assert main(["measure", "deconvnet", "--dataset", "./my photos", "--quiet"]) == 0
    record = records.read_json(tmp_path / "results" / "deconvnet" / "my photos.json")
    assert record["part"] == 1 and record["dataset"]["name"] == seen[0].name == "my photos"
    assert shlex.split(record["command"])[-1] == str(folder)


def test_networks_trained_again_get_a_record_of_their_own(own_places, tmp_path, monkeypatch):
    folder = photographs(tmp_path, "mine")
    mean, classes = torch.zeros(3, stored_size(64), stored_size(64)), ("class0", "class1", "class2")
    monkeypatch.setattr(training, "fault_of", lambda record: "")
    for seed, arch in ((0, "zfnet"), (0, "krizhevsky"), (1, "zfnet"), (2, "zfnet")):
        recipe = datasets.tiny(arch=arch, dataset=str(folder), seed=seed)
        run = tmp_path / f"{arch}-{seed}"
        sha = save_weights(run / "weights.safetensors", recipe.network(3), recipe, classes, mean)
        record = {"weights_sha256": sha, "recipe": {"seed": seed, "arch": arch}}
        records.write_json(run / "record.json", record)
        if seed == 0:
            file = tmp_path / "results" / "networks" / f"mine-{arch}.safetensors"
            save_weights(file, recipe.network(3), recipe, classes, mean)
            records.write_json(file.with_suffix(".json"), {"weights_sha256": records.sha256(file)})
    seen = []
    monkeypatch.setattr(study_module, "parts", lambda s: seen.append(s) or {"part": lambda: 1})
    command = ["measure", "deconvnet", "--dataset", "./mine", "--quiet", "--trained"]
    assert main([*command, "zfnet-1"]) == 0
    record = records.read_json(tmp_path / "results" / "deconvnet" / "mine-seed1.json")
    assert record["networks"]["zfnet"] == records.sha256(tmp_path / "zfnet-1/weights.safetensors")
    assert seen[0].networks["krizhevsky"].recipe.seed == 0 and "--trained" in record["command"]
    assert main([*command, "zfnet-1", "zfnet-2"]) == 1  # of two seeds
    assert main([*command, "zfnet-0"]) == 1  # of the seed of the pretrained networks
    assert main([*command, "krizhevsky-0"]) == 1  # the network that is measured is not there
    assert main([*command, "zfnet-1", "--network", "squeezenet1_0"]) == 1
    assert main([*command, "nothing-here"]) == 1


@pytest.mark.parametrize("name", ["networks", "command", "seed"])
def test_no_part_of_a_study_hides_what_every_record_tells(study, name):
    assert (
        studies.record("occlusion", study, {"agreement": 1}, "command")["networks"] == study.hashes
    )
    with pytest.raises(ValueError, match=f"parts cannot be called {name}"):
        studies.record("occlusion", study, {name: 1}, "command")


def test_untrained_networks_are_measured_as_a_control_in_a_record_of_their_own(study, tmp_path):
    control = study.before_training()
    assert control.name == f"{study.name}-untrained"
    assert control.networks["zfnet"].mean is study.networks["zfnet"].mean
    first, other = (s.networks["zfnet"].network.convs["conv1"].weight for s in (study, control))
    assert first.shape == other.shape and not torch.equal(first, other)
    record = studies.record("deconvnet", control, {}, "command")
    assert record["weights"] == "before training"
    assert "weights" not in studies.record("deconvnet", study, {}, "command")


@pytest.mark.parametrize(
    ("chapter", "name", "known"),
    [
        ("transfer", "sift", True),
        ("transfer", "tuned-15-fold4", True),  # named by a pattern
        ("invariance", "translation", True),
        ("invariance", "trnslation", False),
        ("projections", "rules-", False),
        ("transfer", "tuned-15", False),
    ],
)
def test_parts_that_the_code_does_not_name_are_refused(chapter, name, known, tmp_path):
    earlier, file = {"seconds": {"old": 1.0}}, tmp_path / "record.json"
    studies.refuse_unknown(chapter, earlier, file, ["old"])
    if known:
        studies.refuse_unknown(chapter, earlier, file, [name])
    else:
        with pytest.raises(ValueError, match=f"has no part {name}; it has: old"):
            studies.refuse_unknown(chapter, earlier, file, [name])
