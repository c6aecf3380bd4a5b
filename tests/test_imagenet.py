"""Networks of torchvision behind the instruments' own names, with random weights."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.photographs import picture
from zfrepro import imagenet
from zfrepro.data import Dataset, Split
from zfrepro.data.transforms import center_crop, stored_size
from zfrepro.gallery import layer_outputs
from zfrepro.imagenet import CAFFE, LAYERS, MEAN_OF, TORCHVISION, Preparation
from zfrepro.weights import WeightsError

CPU = torch.device("cpu")
SMALL = Preparation(64, TORCHVISION.mean, TORCHVISION.scale)


def made(name: str = "squeezenet1_0", preparation=SMALL):
    torch.manual_seed(3)
    return imagenet.adapt(name, imagenet.skeleton(name, preparation), preparation, CPU)


def stored(count: int, size: int = 64) -> torch.Tensor:
    side, generator = stored_size(size), torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, side, side), generator=generator).byte()


@pytest.mark.parametrize("preparation", [SMALL, CAFFE])
def test_scores_are_those_of_the_plain_network(preparation):
    trained = made(preparation=preparation)
    images, size = stored(2, preparation.image_size), preparation.image_size
    mean, scale = (torch.tensor(v)[:, None, None] for v in (preparation.mean, preparation.scale))
    x = (center_crop(images, size).float() - mean) / scale
    torch.testing.assert_close(trained.preprocess(images), x)
    torch.testing.assert_close(trained.preprocess_crop(trained.center_crop(images)), x)
    with torch.no_grad():
        scores = trained.network.model(x)
        torch.testing.assert_close(trained.network(x), scores)
    torch.testing.assert_close(trained.predict_proba(images), scores.softmax(1))
    names = tuple(trained.classes[k] for k in (574, 217, 0))
    chosen = trained.restrict_classes(names).restrict_classes(names[1:])
    torch.testing.assert_close(chosen.network(x), scores[:, [217, 0]])
    assert chosen.classes == names[1:]
    with pytest.raises(ValueError, match="does not know unicorn"):
        trained.restrict_classes(("unicorn",))


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_is_the_module_that_the_mapping_names(name):
    trained = made(name)
    x = trained.preprocess(stored(2))
    maps = trained.network.features(x, trained.network.layers)
    modules = dict(trained.network.model.named_modules())
    for layer, module in LAYERS[name].items():
        plain = module.removeprefix(MEAN_OF)
        assert plain in modules
        expected = layer_outputs(trained.network.model, x, [plain])[plain]
        expected = expected.mean((2, 3)) if plain != module else expected
        torch.testing.assert_close(maps[layer], expected)
        assert maps[layer].min() >= 0  # after the ReLU
    assert maps["fc8"].shape == (2, 1000)
    assert trained.network.first().weight.shape[:2] == (maps["conv1"].shape[1], 3)
    with pytest.raises(ValueError, match="choose among conv1"):
        trained.network.features(x, ["conv9"])


def test_fields_are_found_in_evaluation_mode():
    norm = nn.BatchNorm2d(4)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.Conv2d(4, 4, 3))
    network = imagenet.Adapted(model, {"conv1": "0", "conv2": "2"}, 16, torch.arange(4)).double()
    network.train()
    assert network.fields("conv2").window_size == (5, 5)
    assert not norm.running_mean.any() and norm.training


def test_the_untrained_control_has_other_weights_and_is_the_same_each_time():
    trained = made().restrict_classes(("tench", "dingo"))
    control, again, other = (trained.untrained(seed) for seed in (0, 0, 1))
    weight = control.network.first().weight
    assert torch.equal(weight, again.network.first().weight)
    for different in (trained, other):
        assert not torch.equal(weight, different.network.first().weight)
    assert control.network(control.preprocess(stored(1))).shape == (1, 2)


@pytest.mark.parametrize("kind", ["safetensors", "pth"])
def test_weights_are_read_from_a_file_and_the_caffe_form_is_known_by_its_hash(
    kind, tmp_path, monkeypatch
):
    weights = imagenet.skeleton("squeezenet1_0").state_dict()
    file = tmp_path / f"weights.{kind}"
    save_file(weights, file) if kind == "safetensors" else torch.save(weights, file)
    plain = imagenet.load("squeezenet1_0", file, device=CPU)
    assert plain.preparation == TORCHVISION and plain.image_size == 224
    assert torch.equal(plain.network.first().weight, weights["features.0.weight"])
    with pytest.raises(WeightsError, match="no weights of alexnet.*torchvision"):
        imagenet.load("alexnet", file, device=CPU)
    monkeypatch.setattr(imagenet, "HAN", imagenet.sha256(file))
    caffe = imagenet.load("squeezenet1_0", file, device=CPU)
    assert caffe.preparation == CAFFE and caffe.network.model.classifier[1].padding == (1, 1)


def test_missing_weights_and_unknown_networks_name_the_download(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    for file in (None, tmp_path / "absent.safetensors"):
        with pytest.raises(WeightsError, match="no such file; .*squeezenet1_0.*downloads"):
            imagenet.load("squeezenet1_0", file)
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(WeightsError, match="squeezenet1_0"):
        imagenet.load("squeezenet1_0", tmp_path / "text.pth")
    with pytest.raises(ValueError, match="unknown network 'resnet999'.*downloads"):
        imagenet.load("resnet999")


def test_only_images_of_the_official_validation_set_are_unseen(tmp_path):
    names = ("ILSVRC2012_val_00000001", "n01440764_12")
    for part in ("train", "val"):
        for wnid in imagenet.photos.WNIDS["imagenet20"]:
            folder = tmp_path / "imagenet20" / part / wnid
            folder.mkdir(parents=True)
            for name in names:
                picture(0, 0).save(folder / f"{name}.png")
    classes = tuple(imagenet.photos.WNIDS["imagenet20"].values())
    split = Split(torch.zeros(40, 3, 8, 8).byte(), torch.arange(20).repeat_interleave(2))
    dataset = Dataset("imagenet20", classes, None, split, 7, "")
    unseen = imagenet.unseen(dataset, tmp_path)
    assert unseen.tolist() == [True, False] * 20
    assert split.chosen(unseen).labels.tolist() == list(range(20))
    with pytest.raises(ValueError, match="40 validation images, 39 of them loaded; replace"):
        imagenet.unseen(replace(dataset, val=split.chosen(torch.arange(39))), tmp_path)
    for file in tmp_path.rglob("ILSVRC*"):
        file.unlink()
    with pytest.raises(ValueError, match="no image is called ILSVRC2012_val_"):
        imagenet.unseen(dataset, tmp_path)
