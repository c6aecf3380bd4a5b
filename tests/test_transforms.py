"""From stored images to what a network sees."""

import pytest
import torch

from zfrepro.data.transforms import (
    CROPS,
    augment,
    crop,
    mean_image,
    normalise,
    ten_crops,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def places(count: int, side: int) -> torch.Tensor:
    """Images whose first two channels tell each pixel's row and column. (count, 3, side, side)"""
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return torch.stack([rows, columns, torch.zeros_like(rows)]).float().expand(count, 3, side, side)


def test_mean_image_is_exact():
    images = torch.randint(0, 256, (23, 3, 5, 5), dtype=torch.uint8, generator=generator())
    mean = mean_image(images, chunk=7)
    assert mean.dtype == torch.float32
    assert torch.equal(mean, images.double().mean(0).float())


def test_normalise_is_the_difference_and_leaves_its_input_alone():
    images = torch.randint(0, 256, (4, 3, 6, 6), dtype=torch.uint8, generator=generator())
    mean = mean_image(images)
    seen = normalise(images, mean, 64)
    assert torch.equal(seen, (images.float() - mean) / 64)
    assert seen.is_contiguous(memory_format=torch.channels_last)
    floats = images.float()
    assert torch.equal(normalise(floats, mean, 64), seen) and torch.equal(floats, images.float())


def test_crop_takes_each_images_own_window():
    images = places(4, 9)
    tops, lefts = torch.tensor([0, 1, 2, 5]), torch.tensor([5, 0, 3, 5])
    windows = crop(images, tops, lefts, 4)
    assert windows.shape == (4, 3, 4, 4)
    assert torch.equal(windows[:, 0, 0, 0].long(), tops)
    assert torch.equal(windows[:, 1, 0, 0].long(), lefts)
    assert torch.equal(crop(images, 2, torch.tensor([3] * 4), 4), crop(images, 2, 3, 4))
    with pytest.raises(ValueError, match=r"10 px does not fit into images of \(9, 9\) px"):
        crop(images, 0, 0, 10)


def test_the_ten_crops_are_corners_and_centre_and_their_mirror_images():
    views = ten_crops(places(2, 256), 224)
    assert views.shape == (10, 2, 3, 224, 224)
    corners = [tuple(v[0, :2, 0, 0].int().tolist()) for v in views[:5]]
    assert corners == [(0, 0), (0, 32), (32, 0), (32, 32), (16, 16)]
    for i in range(5):
        assert torch.equal(views[i + 5], views[i].flip(-1))


def test_training_views_of_the_paper_are_all_ten_equally_often():
    views = augment(places(4000, 12), 8, "ten", generator())
    # Row and column of the upper left pixel: a flipped view has its last column there.
    keys, counts = torch.unique(views[:, :2, 0, 0].int(), dim=0, return_counts=True)
    expected = [
        (top, left + flip)
        for top, left in ((0, 0), (0, 4), (4, 0), (4, 4), (2, 2))
        for flip in (0, 7)
    ]
    assert sorted(map(tuple, keys.tolist())) == sorted(expected)
    assert counts.min() > 300 and counts.max() < 500


def test_random_crops_reach_every_offset_and_flip():
    views = augment(places(4000, 11), 8, "random", generator())
    rows, columns = views[:, 0, 0, 0], views[:, 1, 0, 0]
    assert set(rows.tolist()) == {0, 1, 2, 3} and set(columns.tolist()) == {0, 1, 2, 3, 7, 8, 9, 10}
    step = views[:, 1, 0, 1] - columns
    assert 0.45 < step.eq(-1).float().mean() < 0.55


def test_resized_crops_stay_inside_and_have_the_asked_sizes():
    side, size = 90, 60
    views = augment(places(500, side), size, "resized", generator(), (0.3, 0.9))
    rows, columns = views[:, 0], views[:, 1]
    assert views[:, :2].min() >= 0 and views[:, :2].max() <= side - 1
    # Two pixels in the middle tell the scale: image pixels for one pixel of the view.
    high = (rows[:, 40, 30] - rows[:, 20, 30]) / 20 * size / side
    wide = (columns[:, 30, 40] - columns[:, 30, 20]).abs() / 20 * size / side
    assert high.min() > 0 and wide.min() > 0 and high.max() <= 1 + 1e-4 and wide.max() <= 1 + 1e-4
    shares, aspect = high * wide, wide / high
    inside = (high < 0.999) & (wide < 0.999)  # others were cut at the border
    assert shares[inside].min() > 0.299 and shares[inside].max() < 0.901
    assert aspect.min() > 0.749 and aspect.max() < 1.334
    assert shares.std() > 0.1 and aspect.std() > 0.1
    # `reflection` would hide a window that leaves the image, so its borders are worked out from its
    # middle.
    for middle, length in (
        (rows[:, 29:31, 30].mean(1), high),
        (columns[:, 30, 29:31].mean(1), wide),
    ):
        assert (middle - length * side / 2).min() > -0.51
        assert (middle + length * side / 2).max() < side - 0.49
    # A window is a straight view: rows depend on rows alone.
    assert torch.allclose(rows, rows[:, :, :1].expand_as(rows), atol=1e-3)


@pytest.mark.parametrize("crops", CROPS)
def test_the_same_generator_gives_the_same_views(crops):
    images = torch.randn(6, 3, 20, 20)
    before = images.clone()
    first = augment(images, 16, crops, generator(3))
    assert first.shape == (6, 3, 16, 16) and first.is_contiguous(memory_format=torch.channels_last)
    torch.manual_seed(99)  # the global generator does not matter
    assert torch.equal(first, augment(images, 16, crops, generator(3)))
    assert not torch.equal(first, augment(images, 16, crops, generator(4)))
    assert torch.equal(images, before)
