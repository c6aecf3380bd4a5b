"""Projections on receptive-field crops equal those on the whole image, at every position of every layer."""

import pytest
import torch

from tests.networks import relative, small
from zfrepro import deconvnet
from zfrepro.deconvnet import Units
from zfrepro.networks import krizhevsky, zfnet


def positions(size: int, count: int = 6) -> torch.Tensor:
    """The first, the last and some places between, all pairs."""
    places = torch.unique(torch.linspace(0, size - 1, min(count, size)).long())
    return torch.cartesian_prod(places, places)


@pytest.mark.parametrize("make", [zfnet, krizhevsky])
@pytest.mark.parametrize("size", [160, 224])
@pytest.mark.parametrize("layer", ["conv1", "conv2", "conv3", "conv4", "conv5"])
def test_crops_equal_whole_images_border_units_included(make, size, layer):
    network = small(make(), size)
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(1, 3, size, size, generator=generator)
    activations = deconvnet.forward(network, image, layer).activations
    where = positions(activations.shape[-1])
    maps = activations[0, :, where[:, 0], where[:, 1]].argmax(0)  # the strongest map at each place
    units = Units(maps, where[:, 0], where[:, 1])
    images = image.expand(len(units), -1, -1, -1)
    found = deconvnet.project_crops(network, images, layer, units)
    whole = deconvnet.project(network, images, layer, units)
    side = found.pixels.shape[-1]
    assert torch.equal(deconvnet.window(network, layer, units)[0], found.tops)
    assert relative(found.pixels, deconvnet.crop(whole, found.tops, found.lefts, side)) < 1e-5
    pasted = torch.zeros_like(whole)  # nothing may lie outside the receptive field
    for i, (top, left) in enumerate(zip(found.tops.tolist(), found.lefts.tolist(), strict=True)):
        y, x = max(top, 0), max(left, 0)
        part = found.pixels[i, :, y - top : size - top, x - left : size - left]
        pasted[i, :, y : y + part.shape[1], x : x + part.shape[2]] = part
    assert relative(pasted, whole) < 1e-5
    assert torch.allclose(found.activations, activations[0, maps, where[:, 0], where[:, 1]], rtol=1e-4, atol=1e-5)


def test_flat_images_keep_the_order_of_equal_maxima():
    """All positions of a flat image tie in every pool; crops must choose the same switches."""
    network = small(zfnet(), 160)
    image = torch.ones(1, 3, 160, 160)
    activations = deconvnet.forward(network, image, "conv3").activations
    where = positions(activations.shape[-1], 10)
    units = Units(activations[0, :, where[:, 0], where[:, 1]].argmax(0), where[:, 0], where[:, 1])
    images = image.expand(len(units), -1, -1, -1)
    found = deconvnet.project_crops(network, images, "conv3", units)
    whole = deconvnet.project(network, images, "conv3", units)
    assert relative(found.pixels, deconvnet.crop(whole, found.tops, found.lefts, found.pixels.shape[-1])) < 1e-4


def test_unknown_layer():
    with pytest.raises(ValueError, match="no conv layer 'fc6'"):
        deconvnet.project_crops(small(zfnet(), 96), torch.zeros(1, 3, 96, 96), "fc6", Units(torch.tensor([0])))


@pytest.mark.parametrize(("size", "told"), [((140, 96), "140 x 96"), ((96, 140), "96 x 140"), ((99, 99), "99 x 99")])
def test_images_of_another_size_are_refused(size, told):
    units = Units(torch.tensor([0]), torch.tensor([0]), torch.tensor([0]))
    with pytest.raises(ValueError, match=f"images are {told} px, this network sees 96"):
        deconvnet.project_crops(small(zfnet(), 96), torch.zeros(1, 3, *size), "conv3", units)
