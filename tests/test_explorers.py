"""The feature browser answers to its widgets."""

import torch

from tests.networks import small
from zfrepro import gallery
from zfrepro.data import Split
from zfrepro.data.transforms import stored_size
from zfrepro.explorers import FeatureBrowser
from zfrepro.networks import zfnet
from zfrepro.training import Recipe
from zfrepro.weights import Trained


def test_feature_browser():
    size = stored_size(96)
    images = torch.randint(0, 255, (10, 3, size, size), dtype=torch.uint8)
    network = small(zfnet(), 96)
    recipe = Recipe(image_size=96, width=0.125, units=32, input_scale=64.0)
    trained = Trained(network, recipe, ("cat", "dog"), torch.full((3, size, size), 128.0))
    split = Split(images, torch.arange(10) % 2)
    tops = gallery.top_activations(network, [trained.preprocess(images)], progress=False)
    tops["conv2"].values[3] = 0  # a dead map
    browser = FeatureBrowser(trained, split, tops)
    assert browser.map.max == len(tops["conv3"].values) - 1 and "cat" in browser.note.value
    before = browser.note.value, browser.view.value
    browser.map.value = 5
    assert browser.note.value != before[0] and browser.view.value != before[1]
    assert bytes(browser.view.value).startswith(b"\x89PNG") and browser.view.layout.visibility == "visible"
    browser.map.value = browser.map.max
    browser.layer.value = "conv1"  # fewer maps: the slider must follow
    assert browser.map.max == len(tops["conv1"].values) - 1 >= browser.map.value
    browser.layer.value, browser.map.value = "conv2", 3
    assert "dead" in browser.note.value and browser.view.layout.visibility == "hidden"
