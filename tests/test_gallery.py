"""The streaming top-9 search and the mosaics' contents."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.networks import small
from zfrepro import deconvnet, gallery
from zfrepro.deconvnet import Units
from zfrepro.networks import zfnet


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
    one = gallery.top_activations(network, images.split(11), progress=False)
    many = gallery.top_activations(network, images.split(3), progress=False)
    assert list(one) == ["conv1", "conv2", "conv3", "conv4", "conv5"]
    for name in one:
        assert torch.equal(one[name].images, many[name].images)
        assert torch.allclose(one[name].values, many[name].values, rtol=1e-4, atol=1e-5)


def test_projections_and_patches_belong_to_the_units():
    network = small(zfnet(), 128)
    stored = torch.randint(0, 255, (12, 3, 128, 128), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    def fetch(indices):
        return (stored[indices].float() - 128) / 64

    top = gallery.top_activations(network, [fetch(torch.arange(12))], progress=False)["conv3"]
    maps = [5, 2]
    pixels = gallery.projections(network, fetch, top, maps, batch=4)
    seen = gallery.patches(stored, network, top, maps)
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
    top = gallery.top_activations(network, [images], ["conv1"], progress=False)["conv1"]
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
    assert gallery.likeness(same)[0] == pytest.approx(1)
    three = torch.rand(1, 3, 3, 5, 5, generator=generator)
    corr = torch.corrcoef(three[0].mean(1).flatten(1))
    assert gallery.likeness(three)[0] == pytest.approx((corr[0, 1] + corr[0, 2] + corr[1, 2]).item() / 3, abs=1e-5)


def test_on_mask_looks_at_the_middle_of_the_field():
    network = small(zfnet(), 96)
    mask = torch.zeros(1, 96, 96, dtype=torch.bool)
    mask[0, 2 * 10 + 3, 2 * 20 + 3] = True  # middle of conv1's unit (10, 20): 7 px from 2 i
    place = torch.tensor([[10]]), torch.tensor([[20]])
    top = gallery.Top("conv1", torch.tensor([[1.0]]), torch.tensor([[0]]), *place)
    assert gallery.on_mask(top, network, mask) == 1
    beside = gallery.Top("conv1", torch.tensor([[1.0]]), torch.tensor([[0]]), place[0], place[1] + 1)
    assert gallery.on_mask(beside, network, mask) == 0
