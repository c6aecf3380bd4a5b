"""Recorded measurements: single parts join the record there is, and hide nothing that it tells."""

import shlex
from pathlib import Path

import pytest
import torch

from book.deconvnet import measure as study_module
from tests import datasets
from tests.command_line import refused
from tests.photographs import photographs
from zfrepro import measure as studies
from zfrepro import records, training
from zfrepro.cli import main
from zfrepro.data.transforms import stored_size
from zfrepro.weights import save_weights

CLASSES, MEAN = ("class0", "class1", "class2"), torch.zeros(3, stored_size(64), stored_size(64))


@pytest.fixture(scope="module")
def study():
    return datasets.study(12)


def save(file: Path, folder: Path, arch: str, seed: int = 0) -> str:
    """Write an untrained network of the photographs in a folder; return the SHA-256."""
    recipe = datasets.tiny(arch=arch, dataset=str(folder), seed=seed)
    return save_weights(file, recipe.network(3), recipe, CLASSES, MEAN)


def ship(results: Path, folder: Path, arch: str) -> None:
    """The same as the shipped network of the folder's name."""
    file = results / "networks" / f"{folder.name}-{arch}.safetensors"
    records.write_json(file.with_suffix(".json"), {"weights_sha256": save(file, folder, arch)})


def test_single_parts_are_measured_and_join_the_record(study, tmp_path):
    def measured(*only: str) -> dict:
        return studies.measure("deconvnet", study, tmp_path, only=only, say=lambda *_, **__: None)

    whole = measured()
    name = next(iter(study_module.parts(study)))
    part = measured(name)
    assert set(part) == {name, "seconds"} and list(part["seconds"]) == [name]
    with pytest.raises(ValueError, match=f"no part nonsense; there are: {name}"):
        measured("nonsense")

    earlier = studies.record("deconvnet", study, whole, "all") | {name: "old"}
    new = studies.record("deconvnet", study, part, "one")
    studies.refuse_other(earlier, new)
    joined = studies.joined(earlier, new, True)
    assert joined[name] == whole[name] and set(whole) < set(joined)

    def told(record: dict) -> list:
        return [(note["parts"], note.get("command")) for note in record["added"]]

    assert joined["command"] == "all" and told(joined) == [([name], "one")]
    more = joined | {"added": [*joined["added"], {"parts": ["other"]}]}
    again = studies.joined(more, new | {"command": "two"}, True)
    assert told(again) == [(["other"], None), ([name], "two")]
    with pytest.raises(ValueError, match="another seed"):
        studies.refuse_other(earlier | {"seed": 7}, new)

    added = {"other": 1, "seconds": {"other": 2.0}, "added": [{"parts": [name, "other"]}]}
    anew = studies.joined(earlier | added, earlier, False)  # what is not measured again stays
    assert anew["other"] == 1 and anew["seconds"] == earlier["seconds"] | {"other": 2.0}
    assert told(anew) == [(["other"], None)] and anew[name] == earlier[name]
    assert studies.joined(earlier | added | {"seed": 7}, earlier, False) == earlier


def test_a_folder_of_images_is_measured_under_its_own_name(own_places, tmp_path, monkeypatch):
    folder = photographs(tmp_path, "my photos")
    for arch in ("zfnet", "krizhevsky"):
        ship(tmp_path / "results", folder, arch)
    seen = []

    def parts(study):
        seen.append(study.load(96, ("val",)))  # as for a network that sees another size
        return {"part": lambda: 1}

    monkeypatch.setattr(study_module, "parts", parts)
    assert main(["measure", "deconvnet", "--dataset", "./my photos", "--quiet"]) == 0
    record = records.read_json(tmp_path / "results" / "deconvnet" / "my photos.json")
    assert record["part"] == 1 and record["dataset"]["name"] == seen[0].name == "my photos"
    assert shlex.split(record["command"])[-1] == str(folder)


def test_networks_trained_again_get_a_record_of_their_own(
    own_places, tmp_path, monkeypatch, capsys
):
    folder = photographs(tmp_path, "mine")
    monkeypatch.setattr(training, "require_training", lambda record: None)
    for arch, seed in (("zfnet", 0), ("krizhevsky", 0), ("zfnet", 1), ("krizhevsky", 1)):
        run = tmp_path / f"{arch}-{seed}"
        sha = save(run / "weights.safetensors", folder, arch, seed)
        record = {"weights_sha256": sha, "recipe": {"seed": seed, "arch": arch}}
        records.write_json(run / "record.json", record)
        if seed == 0:
            ship(tmp_path / "results", folder, arch)
    seen = []
    monkeypatch.setattr(study_module, "parts", lambda s: seen.append(s) or {"part": lambda: 1})
    command = ["measure", "deconvnet", "--dataset", "./mine", "--quiet", "--trained"]
    assert main([*command, "zfnet-1"]) == 0
    record = records.read_json(tmp_path / "results" / "deconvnet" / "mine-seed1.json")
    assert record["networks"]["zfnet"] == records.sha256(tmp_path / "zfnet-1/weights.safetensors")
    assert seen[0].networks["krizhevsky"].recipe.seed == 0 and "--trained" in record["command"]
    recipe = datasets.tiny(arch="krizhevsky", image_size=96, dataset=str(folder), seed=1)
    file, mean = tmp_path / "krizhevsky-1" / "weights.safetensors", torch.zeros(3, 110, 110)
    save_weights(file, recipe.network(3), recipe, CLASSES, mean)
    refused([*command, "zfnet-1", "krizhevsky-1"], capsys, "krizhevsky sees 96 px, zfnet 64")
    # one twice, of two seeds, of the pretrained networks' seed, without the one that is measured
    for runs in ("zfnet-1 ./zfnet-1", "zfnet-1 krizhevsky-0", "zfnet-0", "krizhevsky-1"):
        refused([*command, *runs.split()], capsys, f"{runs}: name a run of zfnet")


def test_no_part_of_a_study_hides_what_every_record_tells(study):
    with pytest.raises(ValueError, match="parts cannot be called networks"):
        studies.record("occlusion", study, {"networks": 1}, "command")
