"""The shipped networks are what their records say."""

import math
import os
import statistics
from pathlib import Path

import pytest
import torch

import diorama
from zfrepro import data, records, training, weights
from zfrepro.cli import parse
from zfrepro.data import DataError, Dataset
from zfrepro.records import results_root
from zfrepro.training import command_of, scale_of

RECORDS = sorted((results_root() / "networks").glob("*.json"))


@pytest.mark.parametrize("file", RECORDS, ids=lambda f: f.stem)
def test_record_and_weights_agree(file):
    record = records.read_json(file)
    sha = record["weights_sha256"]
    trained = weights.load_weights(file.with_suffix(".safetensors"), expected_sha256=sha)
    assert vars(trained.recipe) == record["recipe"]
    assert record["scale"] == scale_of(trained.recipe)
    assert record["command"] == command_of(trained.recipe)
    assert record["parameters"] == sum(p.numel() for p in trained.network.parameters())
    assert len(record["history"]) == record["recipe"]["epochs"]
    if record["recipe"]["dataset"] == "diorama":  # else train again, as the record says
        assert record["dataset"]["fingerprint"] == diorama.VERSION
    # what was measured on the weights as written is what training said, up to half precision
    told = record["history"][-1]["val_top1_error"]
    assert abs(record["errors"]["one_crop"]["top1_error"] - told) < 1


def test_the_readmes_commands_are_those_that_made_the_networks():
    text = (Path(__file__).parents[1] / "README.md").read_text()
    block = text.split("## Training")[1].split("```")[1]
    commands = [
        line.split()[3:] for line in block.splitlines() if line.startswith("python -m zfrepro")
    ]
    told = [parse(words).made() for words in commands]
    recorded = [training.Recipe(**records.read_json(file)["recipe"]) for file in RECORDS]
    assert len(told) == len(recorded) and all(recipe in recorded for recipe in told)


def test_the_recorded_command_gives_the_same_accuracy_with_other_seeds():
    files = sorted((results_root() / "runs").glob("diorama-zfnet-own-seed*.json"))
    runs = [records.read("networks/diorama-zfnet"), *map(records.read_json, files)]
    recipes = [run["recipe"] | {"seed": None} for run in runs]
    assert all(recipe == recipes[0] for recipe in recipes)
    assert len({run["recipe"]["seed"] for run in runs}) == len(runs) >= 3
    errors = [run["errors"]["one_crop"]["top1_error"] for run in runs]
    assert max(errors) <= 10
    assert statistics.stdev(errors) < 2


def some_images(record: dict, count: int) -> Dataset:
    """Every n-th validation image, so that all classes are among them."""
    name, size = record["recipe"]["dataset"], record["recipe"]["image_size"]
    root = os.environ.get("ZFREPRO_DATA") or results_root().parents[1] / "shared" / "data"
    try:
        whole = data.load(name, size, root=root, parts=("val",), progress=False)
    except DataError as error:
        pytest.skip(str(error))
    val = whole.val.chosen(torch.arange(0, len(whole.val), max(1, len(whole.val) // count)))
    return Dataset(whole.name, whole.classes, None, val, size, whole.fingerprint)


@pytest.mark.parametrize("file", RECORDS, ids=lambda f: f.stem)
def test_recorded_error_is_found_again(file):
    record = records.read_json(file)
    dataset = some_images(record, 400)
    trained = weights.load_weights(file.with_suffix(".safetensors"), device=torch.device("cpu"))
    assert trained.classes == dataset.classes
    probabilities = trained.predict_proba(dataset.val.images)
    measured = training.errors(probabilities, dataset.val.labels)["top1_error"]
    recorded = record["errors"]["one_crop"]["top1_error"]
    standard_error = math.sqrt(recorded * (100 - recorded) / len(dataset.val))
    assert abs(measured - recorded) < 3.5 * standard_error
