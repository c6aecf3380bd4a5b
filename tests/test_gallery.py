"""The streaming top-9 search and the mosaics' contents."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.networks import small
from zfrepro import deconvnet, gallery
from zfrepro.claims import gallery as claims
from zfrepro.deconvnet import Units
from zfrepro.networks import zfnet
from zfrepro.receptive_field import stage


@given(st.lists(st.integers(1, 7), min_size=1, max_size=6), st.integers(1, 9), st.booleans(), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_streaming_search_equals_a_sort(batches, k, ties, seed):
    generator = torch.Generator().manual_seed(seed)
    stream = torch.rand(sum(batches), 4, 3, 5, generator=generator)
    if ties:
        stream = (stream * 4).round() / 4
    tracker = gallery.TopTracker("conv1", 4, k)
    for part in stream.split(batches):
        tracker.add(part)
    top = tracker.top()
    flat = stream.flatten(2)
    best, order = torch.sort(flat.amax(2), dim=0, descending=True, stable=True)  # (N, C)
    n = min(k, len(stream))
    assert torch.equal(top.values[:, :n], best[:n].T)
    assert torch.equal(top.images[:, :n], order[:n].T)
    for c in range(4):
        for j in range(n):
            assert stream[top.images[c, j], c, top.rows[c, j], top.columns[c, j]] == top.values[c, j]
    assert (top.images[:, n:] == -1).all() and torch.isinf(top.values[:, n:]).all()


def test_batch_size_does_not_matter_and_all_layers_are_found():
    network = small(zfnet(), 96)
    images = torch.randn(11, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    one = gallery.top_units(network, images.split(11), progress=False)
    many = gallery.top_units(network, images.split(3), progress=False)
    assert list(one) == ["conv1", "conv2", "conv3", "conv4", "conv5"]
    for name in one:
        assert torch.equal(one[name].images, many[name].images)
        assert torch.allclose(one[name].values, many[name].values, rtol=1e-4, atol=1e-5)


def test_projections_and_patches_belong_to_the_units():
    network = small(zfnet(), 128)
    stored = torch.randint(0, 255, (12, 3, 128, 128), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    def fetch(indices):
        return (stored[indices].float() - 128) / 64

    top = gallery.top_units(network, [fetch(torch.arange(12))], progress=False)["conv3"]
    maps = [5, 2]
    pixels = gallery.projections(network, fetch, top, maps, batch=4)
    seen = gallery.patches(network, stored, top, maps)
    assert pixels.shape == seen.shape == (2, 9, 3, 75, 75)
    for m, c in enumerate(maps):
        for j in (0, 8):
            image, row, column = (int(t[c, j]) for t in (top.images, top.rows, top.columns))
            y, x = 16 * row - 16, 16 * column - 16  # PAPER: conv3 sees 75 px from 16 i - 16
            unit = Units(torch.tensor([c]), torch.tensor([row]), torch.tensor([column]))
            whole = deconvnet.project(network, fetch(torch.tensor([image])), "conv3", unit)[0]
            y0, y1, x0, x1 = max(y, 0), min(y + 75, 128), max(x, 0), min(x + 75, 128)
            inside = (slice(None), slice(y0 - y, y1 - y), slice(x0 - x, x1 - x))
            assert torch.allclose(
                pixels[m, j][inside], whole[:, y0:y1, x0:x1], rtol=1e-3, atol=1e-5 * whole.abs().max().item()
            )
            assert torch.equal(seen[m, j][inside], stored[image, :, y0:y1, x0:x1])


def test_fewer_images_than_places():
    network = small(zfnet(), 96)
    images = torch.randn(2, 3, 96, 96)
    top = gallery.top_units(network, [images], ["conv1"], progress=False)["conv1"]
    pixels = gallery.projections(network, lambda i: images[i], top, [0])
    assert pixels.shape == (1, 9, 3, 7, 7) and not pixels[0, 2:].any()


def test_nan_is_refused():
    with pytest.raises(ValueError, match="not finite"):
        gallery.TopTracker("conv1", 2).add(torch.full((1, 2, 3, 3), torch.nan))


def test_purity_counts_the_most_frequent_class():
    top = gallery.Top(
        "conv1",
        values=torch.tensor([[3.0, 2.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]]),
        images=torch.tensor([[0, 1, 2, 3], [0, 1, 2, 3]]),
        rows=torch.zeros(2, 4, dtype=torch.long),
        columns=torch.zeros(2, 4, dtype=torch.long),
    )
    found = gallery.purity(top, torch.tensor([5, 5, 1, 1]))  # the fourth unit does not respond and has no vote
    assert found[0] == pytest.approx(2 / 3) and torch.isnan(found[1])


def test_likeness_is_one_for_equal_pictures_and_the_mean_over_pairs():
    generator = torch.Generator().manual_seed(0)
    same = torch.rand(1, 1, 3, 5, 5, generator=generator).expand(-1, 4, -1, -1, -1)
    assert gallery.mean_pairwise_correlation(same)[0] == pytest.approx(1)
    three = torch.rand(1, 3, 3, 5, 5, generator=generator)
    corr = torch.corrcoef(three[0].mean(1).flatten(1))
    assert gallery.mean_pairwise_correlation(three)[0] == pytest.approx((corr[0, 1] + corr[0, 2] + corr[1, 2]).item() / 3, abs=1e-5)


def test_places_beyond_the_border_make_no_pictures_alike():
    pictures = torch.rand(1, 4, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    alone = gallery.mean_pairwise_correlation(pictures)
    framed = torch.nn.functional.pad(pictures, (2, 2, 2, 2), value=torch.nan)
    assert gallery.mean_pairwise_correlation(framed)[0] == pytest.approx(alone[0].item(), abs=1e-6)
    frame_of_grey = torch.nn.functional.pad(pictures, (2, 2, 2, 2), value=0.0)
    assert gallery.mean_pairwise_correlation(frame_of_grey)[0] > alone[0] + 0.3


def test_contrast_says_where_structure_is_and_forgives_a_small_shift():
    stripes = torch.zeros(1, 2, 3, 24, 24)
    stripes[:, 0, :, :12, ::2], stripes[:, 0, :, :12, 1::2] = 1, -1
    stripes[:, 1] = stripes[:, 0].roll(1, -1)  # the same stripes, a pixel further
    assert gallery.contrast(stripes).shape == (1, 2, 1, 6, 6)
    assert gallery.contrast(stripes)[0, 0, 0, :, 0].tolist() == [1, 1, 1, 0, 0, 0]
    assert gallery.mean_pairwise_correlation(stripes)[0] == pytest.approx(-1)
    assert gallery.mean_pairwise_correlation(gallery.contrast(stripes))[0] == pytest.approx(1)


@pytest.mark.parametrize("layer, size", [("conv3", 128), ("conv5", 96)])
def test_pictures_are_in_step_with_the_unit_in_the_middle(layer, size):
    network = small(zfnet(), size)
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    units = Units(torch.tensor([3, 3]), torch.tensor([1, 4]), torch.tensor([2, 0]))
    field = stage(network.architecture, size, layer).field
    projections, patches = gallery.centered_pairs(network, images, layer, units)
    assert projections.shape == patches.shape == (2, 3, field.size, field.size)
    whole = deconvnet.project(network, images, layer, units)
    for i in range(2):
        y, x = (int(t[i]) * field.jump + field.start for t in (units.rows, units.columns))
        inside = (slice(None), slice(max(-y, 0), size - y), slice(max(-x, 0), size - x))
        seen = (slice(None), slice(max(y, 0), y + field.size), slice(max(x, 0), x + field.size))
        assert torch.equal(patches[i][inside], images[i][seen])
        assert torch.allclose(projections[i][inside], whole[i][seen], rtol=1e-3, atol=1e-5)
        assert torch.equal(patches[i].isnan(), projections[i].isnan())
        assert patches[i].isnan().sum() == patches[i].numel() - patches[i][inside].numel()


def test_others_have_a_map_that_responds_at_the_same_place():
    network = small(zfnet(), 96)
    images = torch.randn(40, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    places = Units(torch.zeros(40, dtype=torch.long), torch.arange(40) % 5, torch.arange(40) % 4)
    units = gallery.random_responding_units(network, images, "conv4", places, torch.Generator().manual_seed(0))
    maps = network.features(images, ["conv4"])["conv4"]
    assert (maps[torch.arange(40), units.maps, places.rows, places.columns] > 0).all()
    assert len(units.maps.unique()) > 5


def test_likeness_is_measured_beside_that_of_other_images():
    network = small(zfnet(), 96)
    images = torch.randn(30, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    top = gallery.top_units(network, [images], ["conv1"], progress=False)["conv1"]
    found = gallery.similarities(network, lambda i: images[i], top, [0, 3], len(images))
    assert set(found) == set(gallery.SIMILARITIES)
    pixels = found["pixels"]
    assert pixels["projections"] == pytest.approx(torch.ones(2), abs=1e-3)  # of layer 1: always the filter
    assert (pixels["random patches"].abs() < 0.2).all() and (pixels["random projections"] < 0.5).all()
    values = dict(zip(pixels, torch.tensor([[0.9], [0.4], [0.3], [0.1]]), strict=True))
    lead = gallery.patches_vary_more(values)
    assert list(pixels) == ["projections", "patches", "random projections", "random patches"]
    assert lead.item() == pytest.approx((0.9 - 0.3) - (0.4 - 0.1))


def test_on_mask_looks_at_the_middle_of_the_field():
    network = small(zfnet(), 96)
    mask = torch.zeros(1, 96, 96, dtype=torch.bool)
    mask[0, 2 * 10 + 3, 2 * 20 + 3] = True  # middle of conv1's unit (10, 20): 7 px from 2 i
    place = torch.tensor([[10]]), torch.tensor([[20]])
    top = gallery.Top("conv1", torch.tensor([[1.0]]), torch.tensor([[0]]), *place)
    assert gallery.on_mask(top, network, mask) == 1
    beside = gallery.Top("conv1", torch.tensor([[1.0]]), torch.tensor([[0]]), place[0], place[1] + 1)
    assert gallery.on_mask(beside, network, mask) == 0


def test_shares_on_the_object_stand_beside_those_of_the_same_places():
    network = small(zfnet(), 96)
    mask = torch.zeros(4, 96, 96, dtype=torch.bool)
    mask[0, 23, 43] = mask[1, 23, 43] = True  # middle of conv1's unit (10, 20), in two images of four
    rows, columns = torch.full((2, 2), 10), torch.full((2, 2), 20)
    values = torch.tensor([[2.0, 1.0], [0.0, 0.0]])  # the second map never responds
    top = gallery.Top("conv1", values, torch.tensor([[0, 2], [0, 1]]), rows, columns)
    own, elsewhere = gallery.shares_on_mask(top, network, mask)
    assert own[0] == 0.5 and elsewhere[0] == 0.5 and own[1].isnan()
    top = gallery.Top("conv1", values, torch.tensor([[0, 1], [0, 1]]), rows, columns)
    assert [t[0].item() for t in gallery.shares_on_mask(top, network, mask)] == [1, 0.5]


def on_object(lead: float, over: float) -> dict:
    """A record in which layer 5 leads by so much, and leads its controls by so much."""
    leads = dict.fromkeys(("conv1", "conv2", "conv3", "conv4"), [1, 0, 2]) | {"conv5": [lead, lead - 1, lead + 1]}
    controls = {"conv1": [9, 8, 10], "untrained 0": [over, over - 1, over + 1]}
    return {"on_object": {"lead": leads, "over": controls}}


def test_layer_5_looks_at_objects_only_if_it_leads_its_controls():
    given = {(5, 3): "reproduced", (5, 0.5): "partly", (0.5, 3): "not reproduced"}
    for (lead, over), verdict in given.items():
        assert claims.objects(on_object(lead, over)).verdict == verdict
    assert "conv1 +1, conv2 +1, conv3 +1, conv4 +1, conv5 +5 (+4 to +6)" in claims.objects(on_object(5, 3)).numbers
    assert claims.objects({"on_object": None}).verdict == "not tested"


def alike(pixels: list[float], contrast: list[float]) -> dict:
    """A record of leads, one a layer."""
    return {"likeness": {
        layer: {how: {"lead": [v, v - 0.1, v + 0.1]} for how, v in {"pixels": p, "contrast": c}.items()}
        for layer, p, c in zip(claims.DEEP, pixels, contrast, strict=True)
    }}  # fmt: skip


def test_patches_vary_more_by_both_likenesses_or_by_one():
    up, down, unclear = [0.3] * 4, [-0.3] * 4, [0.3, -0.3, 0, 0]
    assert claims.variation(alike(up, up)).verdict == "reproduced"
    assert claims.variation(alike(down, up)).verdict == "partly"
    assert claims.variation(alike(up, [0.3, 0.3, 0.3, 0])).verdict == "partly"
    assert claims.variation(alike(down, unclear)).verdict == "not reproduced"
    assert "contrast: conv2 +0.30 (+0.20 to +0.40)" in claims.variation(alike(down, unclear)).numbers
