"""Projections on receptive-field crops equal those on the whole image, at every position of every
layer."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.networks import relative, small
from zfrepro import deconvnet
from zfrepro.deconvnet import Units
from zfrepro.networks import Network, krizhevsky, zfnet


def positions(size: int, count: int = 6) -> torch.Tensor:
    """The first, the last and some places between, all pairs."""
    places = torch.unique(torch.linspace(0, size - 1, min(count, size)).long())
    return torch.cartesian_prod(places, places)


@pytest.mark.parametrize("make", [zfnet, krizhevsky])
@pytest.mark.parametrize("layer", ["conv1", "conv2", "conv3", "conv4", "conv5"])
def test_crops_equal_whole_images_border_units_included(make, layer):
    size = 160
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
    assert torch.allclose(
        found.activations, activations[0, maps, where[:, 0], where[:, 1]], rtol=1e-4, atol=1e-5
    )


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
    assert (
        relative(
            found.pixels, deconvnet.crop(whole, found.tops, found.lefts, found.pixels.shape[-1])
        )
        < 1e-4
    )


def test_unknown_layer():
    with pytest.raises(ValueError, match="no conv layer 'fc6'"):
        deconvnet.project_crops(
            small(zfnet(), 96), torch.zeros(1, 3, 96, 96), "fc6", Units(torch.tensor([0]))
        )


@pytest.mark.parametrize(
    ("size", "told"), [((140, 96), "140 x 96"), ((96, 140), "96 x 140"), ((99, 99), "99 x 99")]
)
def test_images_of_another_size_are_refused(size, told):
    units = Units(torch.tensor([0]), torch.tensor([0]), torch.tensor([0]))
    with pytest.raises(ValueError, match=f"images are {told} px, this network sees 96"):
        deconvnet.project_crops(small(zfnet(), 96), torch.zeros(1, 3, *size), "conv3", units)


# --- units that share images ---------------------------------------------------------------------


def random_units(network: Network, layer: str, images: torch.Tensor, count: int):
    """Units that respond, border units included, and the image of each."""
    generator = torch.Generator().manual_seed(3)
    of = torch.randint(len(images), (count,), generator=generator)
    maps = network.features(images, [layer])[layer].detach()
    flat = torch.multinomial((maps[of] > 0).flatten(1).float(), 1, generator=generator)[:, 0]
    side = maps.shape[-1]
    units = Units(flat // side**2, flat % side**2 // side, flat % side)
    return units, of, maps[of, units.maps, units.rows, units.columns]


@pytest.mark.parametrize("make", [zfnet, krizhevsky])
@pytest.mark.parametrize("layer", ["conv1", "conv2", "conv3", "conv4", "conv5"])
def test_units_that_share_images_equal_units_one_by_one(make, layer, monkeypatch):
    network = small(make(), 192)
    images = torch.randn(3, 3, 192, 192, generator=torch.Generator().manual_seed(0))
    units, of, values = random_units(network, layer, images, 12)
    whole = deconvnet.project(network, images[of], layer, units)
    for on_crops in (True, False):  # either way the switches are found
        monkeypatch.setattr(deconvnet, "_crops_cost_less", lambda *_, answer=on_crops: answer)
        found = deconvnet.project_crops(network, images, layer, units, of)
        side = found.pixels.shape[-1]
        wanted = deconvnet.crop(whole, found.tops, found.lefts, side)
        assert relative(found.pixels, wanted) < 1e-5
        assert torch.allclose(found.activations, values, rtol=1e-4, atol=1e-5)


def test_crops_are_chosen_where_they_cost_less(monkeypatch):
    network = small(zfnet(), 224)
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    chosen = []
    decide = deconvnet._crops_cost_less

    def note(*arguments):
        chosen.append(decide(*arguments))
        return chosen[-1]

    monkeypatch.setattr(deconvnet, "_crops_cost_less", note)
    for layer, count in (("conv2", 4), ("conv5", 2), ("conv5", 40)):
        units, of, _ = random_units(network, layer, images, count)
        deconvnet.project_crops(network, images, layer, units, of)
    assert chosen == [True, True, False]


@pytest.mark.parametrize("make", [zfnet, krizhevsky])
@pytest.mark.parametrize("layer", ["conv1", "conv3", "conv5"])
def test_kept_switches_give_the_same_pictures(make, layer):
    network = small(make(), 192)
    images = torch.randn(3, 3, 192, 192, generator=torch.Generator().manual_seed(0))
    units, of, values = random_units(network, layer, images, 12)
    switches = deconvnet.forward(network, images, "conv5").switches
    codes = {name: code[of] for name, code in deconvnet.switch_codes(switches).items()}
    found = deconvnet.project_codes(network, layer, units, values, codes)
    wanted = deconvnet.project_crops(network, images, layer, units, of)
    assert relative(found.pixels, wanted.pixels) < 1e-5
    assert torch.equal(found.tops, wanted.tops) and torch.equal(found.lefts, wanted.lefts)


@given(st.integers(4, 21), st.integers(4, 21))
@settings(max_examples=30, deadline=None)
def test_a_switch_code_is_its_place_in_the_window(height, width):
    x = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(height))
    _, indices = deconvnet.pool(x)
    code = deconvnet.switch_codes({"conv1": (indices, x.shape)})["conv1"].long()
    rows = torch.arange(indices.shape[2])[:, None] * 2 + code // 3
    columns = torch.arange(indices.shape[3]) * 2 + code % 3
    assert torch.equal(rows * width + columns, indices)


@given(st.integers(1, 11), st.integers(1, 5), st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_the_last_filtering_equals_a_transposed_convolution(kernel, stride, extent):
    generator = torch.Generator().manual_seed(kernel)
    x = torch.randn(2, 4, extent, extent, generator=generator, dtype=torch.double)
    weight = torch.randn(4, 3, kernel, kernel, generator=generator, dtype=torch.double)
    wanted = F.conv_transpose2d(x, weight, stride=stride)
    if kernel < stride:  # pixels between the windows stay zero in both
        wanted = wanted[:, :, : (extent - 1) * stride + kernel]
    assert relative(deconvnet._filter_to_pixels(x, weight, stride), wanted) < 1e-12


def test_units_of_images_that_are_not_there_are_refused():
    network, images = small(zfnet(), 96), torch.zeros(2, 3, 96, 96)
    unit = Units(torch.tensor([0]), torch.tensor([0]), torch.tensor([0]))
    with pytest.raises(ValueError, match="conv3: image 2: there are 2"):
        deconvnet.project_crops(network, images, "conv3", unit, torch.tensor([2]))
    with pytest.raises(ValueError, match="needs a map, row and column for each of the 2 images"):
        deconvnet.project_crops(network, images, "conv3", unit, torch.tensor([0, 1]))
