"""Weights on disk: what goes in comes out, and nothing else is taken for weights."""

import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.datasets import tiny
from zfrepro import pretrained, records
from zfrepro.cli import parse
from zfrepro.tensors import load_tensors, save_tensors
from zfrepro.weights import WeightsError, load_weights, save_weights

CPU = torch.device("cpu")
RECIPE = tiny()
CLASSES = ("tench", "café", "class 2")


def made(recipe=RECIPE):
    network = recipe.network(len(CLASSES)).eval()
    return network, torch.rand(3, 73, 73, generator=torch.Generator().manual_seed(0)) * 255


@pytest.fixture
def file(tmp_path):
    network, mean = made()
    file = tmp_path / "a.safetensors"
    sha = save_weights(file, network, RECIPE, CLASSES, mean, commit="abc", command="train")
    assert sha == records.sha256(file)
    return file


def test_a_network_comes_back_in_half_precision(file):
    network, mean = made()
    before = records.sha256(file)
    assert {t.dtype for t in load_file(file).values()} == {torch.float16}
    told = parts_of(file)[1]
    assert (told["commit"], told["command"], told["classes"]) == ("abc", "train", list(CLASSES))
    loaded = load_weights(file, device=CPU)
    assert loaded.recipe == RECIPE and loaded.classes == CLASSES
    assert torch.equal(loaded.mean, mean.half().float()) and loaded.mean.dtype == torch.float32
    for name, weight in loaded.network.state_dict().items():
        assert torch.equal(weight, network.state_dict()[name].half().float())
    sha = save_weights(file, loaded.network, RECIPE, CLASSES, mean, commit="abc", command="train")
    assert sha == before  # nothing is lost by saving once more
    assert not loaded.network.training
    assert not any(p.requires_grad for p in loaded.network.parameters())


def test_images_become_what_the_network_saw_in_training(file):
    loaded = load_weights(file, device=CPU)
    stored = torch.randint(0, 256, (2, 3, 73, 73), dtype=torch.uint8)
    expected = ((stored - loaded.mean) / 64)[:, :, 4:68, 4:68]
    assert torch.allclose(loaded.preprocess(stored), expected)
    assert torch.equal(loaded.center_crop(stored), stored[:, :, 4:68, 4:68])
    with pytest.raises(ValueError, match=r"are \(3, 80, 80\), this network's .* as \(3, 73, 73\)"):
        loaded.preprocess(torch.zeros(2, 3, 80, 80, dtype=torch.uint8))


class Trap:
    """Unpickling it would raise something else than WeightsError."""

    def __reduce__(self):
        return exec, ("raise SystemExit('code in a file was run')",)


def parts_of(file) -> tuple[dict[str, torch.Tensor], dict]:
    """Return tensors and header; views of the file would change with it."""
    tensors, info = load_tensors(file)
    return {name: tensor.clone() for name, tensor in tensors.items()}, info


@pytest.mark.parametrize(
    "damage", ["truncated", "trap", "json", "no mean", "mean size", "nan", "krizhevsky"]
)
def test_other_files_are_refused(file, damage):
    tensors, info = parts_of(file)
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:-100])
    elif damage == "trap":
        file.write_bytes(pickle.dumps(Trap()))
    elif damage == "json":
        save_file(tensors, file, {"zfrepro": "{"})
    else:
        if damage == "no mean":
            del tensors["mean"]
        elif damage == "mean size":
            tensors["mean"] = torch.zeros(3, 8, 8).half()
        elif damage == "nan":
            tensors["network.fulls.fc8.bias"][1] = float("nan")
        else:
            info["recipe"]["arch"] = damage
        save_tensors(file, tensors, **info)
    with pytest.raises(WeightsError) as error:
        load_weights(file, device=CPU)
    text = str(error.value)
    assert str(file) in text and "train them again" in text and "\n" not in text


def test_fields_of_a_later_version_do_not_matter(file):
    tensors, info = parts_of(file)
    info["recipe"]["a_later_field"] = 1
    save_tensors(file, tensors, **info)
    assert load_weights(file, device=CPU).recipe == RECIPE


@pytest.mark.parametrize("value", [float("nan"), 1e6])
def test_weights_that_half_precision_cannot_hold_are_not_written(tmp_path, value):
    network, mean = made()
    network.convs["conv2"].weight.data[0, 0, 0, 0] = value
    with pytest.raises(WeightsError, match="not written, network.convs.conv2.weight is not finite"):
        save_weights(tmp_path / "a.safetensors", network, RECIPE, CLASSES, mean)
    assert list(tmp_path.iterdir()) == []


# --- shipped networks ----------------------------------------------------------------------------


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("ZFREPRO_RESULTS", str(tmp_path / "results"))
    monkeypatch.delenv("ZFREPRO_DATASET", raising=False)
    return tmp_path / "results"


def shipped(results, name: str) -> None:
    network, mean = made()
    file = results / "networks" / f"{name}.safetensors"
    sha = save_weights(file, network, RECIPE, CLASSES, mean)
    records.write_json(file.with_suffix(".json"), {"weights_sha256": sha})


@pytest.mark.parametrize("size", [None, 96])
def test_none_shipped_names_commands_that_are_understood(results, size):
    with pytest.raises(WeightsError) as error:
        pretrained("krizhevsky", "imagenette", image_size=size)
    text = str(error.value)
    assert str(results) in text and "\n" not in text
    train, ship = text.split("train one: ")[1].split(", then ")
    settings = parse(train.split()[3:]).made()
    assert (settings.arch, settings.dataset) == ("krizhevsky", "imagenette")
    shipped = parse(ship.split()[3:])
    assert shipped.runs == ("runs/imagenette-krizhevsky" + ("-96" if size else ""),)
    assert shipped.by_size == bool(size)
    assert settings.image_size == (size or 128)


def test_the_shipped_network_is_found_for_its_data_set(results, monkeypatch):
    shipped(results, "diorama-zfnet")
    assert pretrained().classes == pretrained("zfnet", "diorama").classes == CLASSES
    shipped(results, "imagenet20-zfnet")
    monkeypatch.setenv("ZFREPRO_DATASET", "imagewoof")  # its classes are among ImageNet-20's
    assert pretrained(device=CPU).classes == CLASSES


@pytest.mark.parametrize("damage", ["other weights", "no hash"])
def test_a_shipped_network_that_does_not_match_its_record(results, damage):
    shipped(results, "diorama-zfnet")
    file = results / "networks" / "diorama-zfnet.safetensors"
    if damage == "other weights":
        file.write_bytes(file.read_bytes()[:-1] + b"\0")
    else:
        file.with_suffix(".json").write_text("{}")
    with pytest.raises(WeightsError, match=f"{file}: SHA-256 is .*restore both from git"):
        pretrained()


def test_the_sets_of_ten_classes_choose_among_their_own():
    whole, ten = pretrained("zfnet", "imagenet20"), pretrained("zfnet", "imagewoof")
    assert (len(whole.classes), len(ten.classes)) == (20, 10)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (2, *ten.mean.shape), generator=generator).to(torch.uint8)
    with torch.no_grad():
        scores, of_ten = (t.network(t.preprocess(images)) for t in (whole, ten))
    columns = [whole.classes.index(name) for name in ten.classes]
    torch.testing.assert_close(of_ten, scores[:, columns])
    with pytest.raises(ValueError, match="does not know cat"):
        whole.restrict_classes(("beagle", "cat"))
