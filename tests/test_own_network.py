"""The page on a network of one's own: real photographs of any mode, a network that learned
something.
"""

import contextlib

import pytest
import torch
import torchvision
from PIL import Image

from book.own_network import examples, figures, support
from zfrepro import project, records, rules


def test_every_photograph_has_its_credit_and_is_in_colour():
    loaded = examples.photographs()
    assert list(loaded) == list(examples.CREDITS)
    assert all(photo.mode == "RGB" and min(photo.size) >= 300 for photo in loaded.values())


def test_windows_are_squares_inside_the_photograph():
    parts = examples.windows(Image.new("RGB", (60, 40)), share=0.5, grid=3)
    assert len(parts) == 9 and {part.size for part in parts} == {(20, 20)}
    photo = Image.linear_gradient("L").resize((60, 40))
    first, last = examples.windows(photo, share=0.5, grid=3)[0::8]
    assert first.tobytes() == photo.crop((0, 0, 20, 20)).tobytes()
    assert last.tobytes() == photo.crop((40, 20, 60, 40)).tobytes()


@pytest.fixture
def no_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    return tmp_path


def test_without_cached_weights_the_shipped_network_is_taken(no_cache):
    network = examples.pretrained()
    assert "ZFNet" in network.name and len(network.classes) == 20
    assert all(layer in dict(network.model.named_modules()) for layer in network.layers)
    photo = Image.linear_gradient("L").resize((300, 260))
    seen = [network.preprocess(photo.convert(mode)) for mode in ("L", "RGB", "RGBA", "P")]
    assert all(torch.equal(x, seen[0]) for x in seen) and seen[0].shape == (3, 224, 224)
    view = network.view(seen[0][None])[0]
    assert view[:, 5].mean() < 0.1 and view[:, -5].mean() > 0.9  # the gradient, from the top


def test_cached_weights_of_torchvision_come_first(no_cache, monkeypatch):
    weights = torchvision.models.get_model_weights("squeezenet1_1").DEFAULT
    folder = no_cache / "checkpoints"
    folder.mkdir()
    (folder / weights.url.rsplit("/", 1)[-1]).touch()
    made = torchvision.models.squeezenet1_1(weights=None)
    monkeypatch.setattr(torchvision.models, "get_model", lambda name, weights: made)
    network = examples.pretrained()
    assert network.model is made and network.layers == examples.TORCHVISION["squeezenet1_1"]
    photo = Image.linear_gradient("L").convert("RGBA")
    view = network.view(network.preprocess(photo)[None])
    assert view.shape == (1, 3, 224, 224) and 0 <= view.min() and view.max() <= 1


def test_refusals_are_counted_by_their_first_operation():
    networks = [{"status": "handled", "name": "a", "reason": ""}]
    networks += [{"status": "refused", "name": f"n{i}", "reason": f"op{i % 3} in 'x' has no"}
                 for i in range(6)]  # fmt: skip
    text = figures.refusals({"networks": networks}, most=2).data
    assert all(word in text for word in ("op0", "op1", "1 other operations")) and "op2" not in text
    assert figures.counts({"networks": networks}) == {"handled": 1, "refused": 6, "wrong": 0}


def test_no_network_of_the_list_is_wrong():
    record = records.read("support")
    assert len(record["networks"]) >= 100 and figures.counts(record)["wrong"] == 0


def test_the_oracle_tells_handled_from_refused_and_wrong(monkeypatch):
    handled = support.check("torchvision", "squeezenet1_1")
    assert handled["status"] == "handled" and handled["difference"] <= support.TOLERANCE
    refused = support.check("torchvision", "regnet_y_400mf")
    assert refused["status"] == "refused" and "sigmoid" in refused["reason"]

    def silent(model, x, units):  # the fault that the list is there to find
        with contextlib.suppress(UserWarning):
            return project(model, x, units, rule="gradient")

    monkeypatch.setattr(rules, "project", silent)
    assert support.check("torchvision", "squeezenet1_1")["status"] == "wrong"
