"""Networks of torchvision behind the instruments' own names, with random weights."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from zfrepro import imagenet, rules
from zfrepro.data import Dataset, Split
from zfrepro.data.transforms import center_crop, stored_size
from zfrepro.deconvnet import window
from zfrepro.gallery import layer_outputs, projections, top_units
from zfrepro.imagenet import CAFFE, LAYERS, MEAN_OF, TORCHVISION, Preparation
from zfrepro.weights import WeightsError

CPU = torch.device("cpu")
SMALL = Preparation(64, TORCHVISION.mean, TORCHVISION.scale)


def made(name: str = "squeezenet1_0", preparation=SMALL, padded: bool = False):
    torch.manual_seed(3)
    model = imagenet.skeleton(name, padded=padded)
    return imagenet.adapt(name, model, preparation, padded=padded, device=CPU)


def stored(count: int, size: int = 64) -> torch.Tensor:
    side, generator = stored_size(size), torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, side, side), generator=generator).byte()


@pytest.mark.parametrize("preparation, padded", [(SMALL, False), (CAFFE, True)])
def test_scores_are_those_of_the_plain_network(preparation, padded):
    own = made(preparation=preparation, padded=padded)
    images, size = stored(2, preparation.image_size), preparation.image_size
    mean, scale = (torch.tensor(v)[:, None, None] for v in (preparation.mean, preparation.scale))
    x = (center_crop(images, size).float() - mean) / scale
    torch.testing.assert_close(own.preprocess(images), x)
    torch.testing.assert_close(own.preprocess_crop(own.center_crop(images)), x)
    with torch.no_grad():
        scores = own.network.model(x)
        torch.testing.assert_close(own.network(x), scores)
    torch.testing.assert_close(own.predict_proba(images), scores.softmax(1))
    three = tuple(own.classes[k] for k in (574, 217, 0))
    few = own.restrict_classes(three)
    torch.testing.assert_close(few.network(x), scores[:, [574, 217, 0]])
    again = few.restrict_classes(three[1:])
    torch.testing.assert_close(again.network(x), scores[:, [217, 0]])
    assert again.classes == three[1:] and len(own.network.layers) == len(LAYERS[own.name]) + 1
    with pytest.raises(ValueError, match="does not know unicorn"):
        own.restrict_classes(("unicorn",))


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_is_the_module_that_the_mapping_names(name):
    own = made(name)
    x = own.preprocess(stored(2))
    found = own.network.features(x, own.network.layers)
    modules = dict(own.network.model.named_modules())
    for layer, module in LAYERS[name].items():
        plain = module.removeprefix(MEAN_OF)
        assert plain in modules
        expected = layer_outputs(own.network.model, x, [plain])[plain]
        expected = expected.mean((2, 3)) if plain != module else expected
        torch.testing.assert_close(found[layer], expected)
        assert found[layer].min() >= 0  # after the ReLU
    assert found["fc8"].shape == (2, 1000)
    assert own.network.first().weight.shape[:2] == (found["conv1"].shape[1], 3)
    with pytest.raises(ValueError, match="choose among conv1"):
        own.network.features(x, ["conv9"])


def test_projections_go_through_the_rules_and_are_cut_to_the_field():
    own = made()
    images = own.preprocess(stored(6))
    top = top_units(own.network, images, ["conv2"], k=2, progress=False)["conv2"]
    maps = (top.values[:, -1] > 0).nonzero().flatten()[:3].tolist()
    found = projections(own.network, images, top, maps)
    chosen, units = top.of(maps)
    whole = rules.project(own.network.model, images[chosen], units, LAYERS[own.name]["conv2"])
    tops, lefts, size = window(own.network, "conv2", units)
    assert found.shape[-1] == size < 64
    inside = [(slice(max(t, 0), t + size), slice(max(q, 0), q + size))
              for t, q in zip(tops.tolist(), lefts.tolist(), strict=True)]  # fmt: skip
    for picture, place in zip(whole, inside, strict=True):
        left = picture.clone()
        left[(slice(None), *place)] = 0
        assert picture.abs().max() > 0 and not left.any()  # nothing outside the field
    torch.testing.assert_close(found.flatten(0, 1).sum(), whole.sum(), rtol=1e-4, atol=1e-4)


def test_the_untrained_control_has_other_weights_and_is_the_same_each_time():
    own = made().restrict_classes(("tench", "dingo"))
    one, two, three = own.untrained(0), own.untrained(0), own.untrained(1)
    weights = [n.network.first().weight for n in (own, one, two, three)]
    assert torch.equal(weights[1], weights[2])
    assert not torch.equal(weights[0], weights[1]) and not torch.equal(weights[1], weights[3])
    assert one.classes == own.classes and one.network(one.preprocess(stored(1))).shape == (1, 2)


@pytest.mark.parametrize("kind", ["safetensors", "pth"])
def test_weights_are_read_from_a_file(kind, tmp_path):
    weights = imagenet.skeleton("squeezenet1_0").state_dict()
    file = tmp_path / f"weights.{kind}"
    save_file(weights, file) if kind == "safetensors" else torch.save(weights, file)
    own = imagenet.load("squeezenet1_0", file, device=CPU)
    assert own.preparation == TORCHVISION and not own.padded and own.image_size == 224
    assert torch.equal(own.network.first().weight, weights["features.0.weight"])
    with pytest.raises(WeightsError, match="no weights of alexnet.*torchvision"):
        imagenet.load("alexnet", file, device=CPU)


def test_the_caffe_form_is_known_by_its_hash(tmp_path, monkeypatch):
    file = tmp_path / "weights.safetensors"
    save_file(imagenet.skeleton("squeezenet1_0").state_dict(), file)
    monkeypatch.setattr(imagenet, "HAN", imagenet.sha256(file))
    own = imagenet.load("squeezenet1_0", file, device=CPU)
    assert own.preparation == CAFFE and own.network.model.classifier[1].padding == (1, 1)


def test_missing_weights_and_unknown_networks_name_the_download(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    for file in (None, tmp_path / "absent.safetensors"):
        with pytest.raises(WeightsError, match="no such file; .*squeezenet1_0.*downloads"):
            imagenet.load("squeezenet1_0", file)
    (tmp_path / "text.pth").write_text("no weights")
    for name in ("text.pth", ""):
        with pytest.raises(WeightsError, match="squeezenet1_0"):
            imagenet.load("squeezenet1_0", tmp_path / name)
    with pytest.raises(ValueError, match="unknown network 'resnet999'.*downloads"):
        imagenet.load("resnet999")


def test_only_images_of_the_official_validation_set_are_unseen(tmp_path):
    names = ("ILSVRC2012_val_00000001", "n01440764_12")
    for part in ("train", "val"):
        for wnid in imagenet.photos.WNIDS["imagenet20"]:
            folder = tmp_path / "imagenet20" / part / wnid
            folder.mkdir(parents=True)
            for name in names:
                Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / f"{name}.png")
    classes = tuple(imagenet.photos.WNIDS["imagenet20"].values())
    split = Split(torch.zeros(40, 3, 8, 8).byte(), torch.arange(20).repeat_interleave(2))
    dataset = Dataset("imagenet20", classes, None, split, 7, "")
    found = imagenet.unseen(dataset, tmp_path)
    assert found.tolist() == [True, False] * 20
    assert split.chosen(found).labels.tolist() == list(range(20))
    for file in tmp_path.rglob("ILSVRC*"):
        file.unlink()
    with pytest.raises(ValueError, match="no image is called ILSVRC2012_val_"):
        imagenet.unseen(dataset, tmp_path)
