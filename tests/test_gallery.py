"""The search, projections and patches of any model against plain loops; Fig. 2; the page."""

import functools
import itertools
import math
import os
import re
import warnings
from pathlib import Path

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from tests.networks import MapsLast, relative, small
from tests.test_imagenet import made as adapted
from zfrepro import gallery, gallery_page, rules
from zfrepro.networks import krizhevsky, zfnet


@given(
    st.lists(st.integers(1, 7), min_size=1, max_size=6),
    st.integers(1, 9),
    st.booleans(),
    st.integers(0, 99),
)
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
    maps = torch.arange(4)[:, None].expand(-1, n)
    named = stream[top.images[:, :n], maps, top.rows[:, :n], top.columns[:, :n]]
    assert torch.equal(named, top.values[:, :n])
    assert (top.images[:, n:] == -1).all() and torch.isinf(top.values[:, n:]).all()


# --- any model and any data ----------------------------------------------------------------------

MODELS = {
    "resnet18": ("layer2", "layer3.0.conv1", "fc"),
    "squeezenet1_1": ("features.6.squeeze", "features.9", "classifier"),
    "googlenet": ("inception3a", "maxpool3", "inception4a.branch1"),
    "densenet121": ("features.denseblock1", "features.norm5", "classifier"),
}


@functools.cache
def torchvision_model(name: str) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        extra = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
        return getattr(torchvision.models, name)(weights=None, num_classes=20, **extra).eval()


@functools.cache
def noise(count: int = 14, side: int = 64) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def plain_loop(model: nn.Module, images: torch.Tensor, layer: str) -> torch.Tensor:
    """A layer's output, image by image, with a hook: (N, C, H * W)."""
    outputs = []
    hook = model.get_submodule(layer).register_forward_hook(
        lambda module, inputs, output: outputs.append(output.detach().clone())
    )
    with torch.no_grad():
        for image in images:
            model(image[None])
    hook.remove()
    return torch.cat(outputs).flatten(2) if outputs[0].ndim == 4 else torch.cat(outputs)[:, :, None]


@pytest.mark.parametrize("name", MODELS)
def test_top_units_equal_a_plain_loop(name):
    model, images, layers = torchvision_model(name), noise(8), MODELS[name]
    tops = gallery.top_units(model, images, layers, k=4, batch=3, progress=False)
    for layer in layers:
        top, outputs = tops[layer], plain_loop(model, images, layer)
        best, order = outputs.amax(2).sort(0, descending=True)
        assert torch.allclose(top.values, best[:4].T, rtol=1e-4, atol=1e-5)
        apart = (best[:4] - best[1:5]).amin(0) > 1e-4 * best[0].abs()  # no near ties
        assert apart.float().mean() > 0.5 and torch.equal(top.images[apart], order[:4].T[apart])
        if top.rows is None:
            assert outputs.shape[2] == 1
            continue
        width = math.isqrt(outputs.shape[2])
        maps = torch.arange(len(top.values))[:, None].expand_as(top.images)
        named = outputs[top.images, maps, top.rows * width + top.columns]
        assert torch.allclose(named, top.values, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [*MODELS, "zfnet", "adapted"])
def test_projections_and_patches_line_up(name):
    """A projection is that on the whole image, cut to the field, a patch the image cut to it."""
    side = 128 if name == "zfnet" else 64
    stored = torch.randint(1, 255, (14, 3, side, side), dtype=torch.uint8)

    def fetch(indices):
        return (stored[indices].float() - 128) / 64

    if name in MODELS:
        model, layer = torchvision_model(name), MODELS[name][0]
        probed, submodule = model, layer
    else:
        model = small(zfnet(), side) if name == "zfnet" else adapted().network
        layer = "conv3" if name == "zfnet" else "conv2"
        probed, submodule = model.output(layer), None
    images = fetch(torch.arange(14))
    top = gallery.top_units(model, images, layer, k=3, progress=False)[layer]
    fields = gallery.fields_of(model, layer, images)
    alive = (top.values[:, -1] > 0).nonzero().flatten()
    maps = alive[:: len(alive) // 3][:3].tolist()
    drawn = gallery.projections(model, fetch, top, maps, batch=4)
    seen = gallery.patches(model, stored, top, maps).float() - 128  # mid-grey outside
    assert drawn.shape == seen.shape == (3, 3, 3, *fields.window_size)
    for m, j in itertools.product(range(3), range(3)):
        places = (top.images, top.rows, top.columns)
        image, row, column = (int(t[maps[m], j]) for t in places)
        whole = rules.project(probed, images[[image]], [(maps[m], row, column)], submodule)[0]
        y, x = (
            0 if field.size >= side else place * field.jump + field.start
            for place, field in ((row, fields.rows), (column, fields.columns))
        )
        framed = nn.functional.pad(torch.stack([whole, stored[image].float() - 128]), [100] * 4)
        high, wide = fields.window_size
        window = framed[..., 100 + y : 100 + y + high, 100 + x : 100 + x + wide]
        assert relative(drawn[m, j], window[0]) < 1e-4
        assert torch.equal(seen[m, j], window[1])
        window.zero_()
        assert framed[0].abs().max() <= 1e-4 * whole.abs().max()  # nothing lies outside the field


class Items(torch.utils.data.Dataset):
    """Items by index, and how often each was fetched."""

    def __init__(self, items, fail_at: int | None = None):
        self.items, self.fail_at, self.fetched = list(items), fail_at, []

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int):
        if len(self.fetched) == self.fail_at:
            raise KeyboardInterrupt
        self.fetched.append(index)
        return self.items[index]


def tiny() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 5, stride=2), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(6 * 14**2, 4)
    )


def same(a: gallery.Top, b: gallery.Top) -> bool:
    pairs = ((a.values, b.values), (a.images, b.images), (a.rows, b.rows), (a.columns, b.columns))
    close = [(x is y is None) or torch.allclose(x.float(), y.float(), rtol=1e-4) for x, y in pairs]
    return all(close) and a.image_size == b.image_size


def test_tensor_data_set_loader_and_stream_give_the_same():
    images = noise(23, 32)
    pairs = Items(zip(images, range(23), strict=True))
    loader = torch.utils.data.DataLoader
    shuffled = torch.Generator().manual_seed(3)
    repeated = torch.utils.data.WeightedRandomSampler([1.0] * 23, 400, generator=shuffled)
    wanted = gallery.top_units(tiny(), images, ["1", "3"], progress=False)
    for data in (
        pairs,
        Items(images),
        loader(pairs, 5, shuffle=True, generator=shuffled),
        loader(pairs, 7, sampler=repeated),  # every image many times
        loader(pairs, 7, shuffle=True, num_workers=1),
        loader(pairs, 7, sampler=torch.utils.data.SubsetRandomSampler(torch.randperm(23))),
        images.split(4),
        ((x, torch.zeros(len(x))) for x in images.split(4)),
    ):
        tops = gallery.top_units(tiny(), data, ["1", "3"], progress=False)
        assert all(same(tops[layer], wanted[layer]) for layer in wanted), data


class OwnLoader(torch.utils.data.DataLoader):
    def __iter__(self):
        return (2 * images - 1 for images in super().__iter__())


def test_images_are_those_that_the_loader_makes():
    def bright(items):
        return (4 * torch.stack(items) - 2,)

    images, makes, model = noise(12, 32), torch.utils.data.DataLoader, tiny()
    loader = makes(Items(images), 5, shuffle=True, collate_fn=bright)
    top = gallery.top_units(model, loader, "1", k=3, progress=False)["1"]
    for found in (gallery.projections, gallery.patches):
        wanted = found(model, bright(list(images))[0], top, range(6))
        assert torch.equal(found(model, loader, top, range(6)), wanted)

    sampler = torch.utils.data.BatchSampler(range(12), 4, drop_last=False)
    whole = torch.utils.data.TensorDataset(images)
    for own in (OwnLoader(Items(images), 4), makes(whole, batch_size=None, sampler=sampler)):
        assert gallery.top_units(model, own, "1", progress=False)["1"].values.any()  # a stream
        with pytest.raises(ValueError, match="Loader: a stream has no images to go back to"):
            gallery.projections(model, own, top, [0])


@pytest.mark.parametrize("shuffle", [False, True])
def test_an_interrupted_search_goes_on_where_it_was(tmp_path, shuffle):
    images, file = noise(40, 32), tmp_path / "search"

    def search(items):
        loader = torch.utils.data.DataLoader(items, 4, shuffle=shuffle)
        options = {"state": file, "save_every": 0, "progress": False}
        return gallery.top_units(tiny(), loader, ["1", "3"], **options)

    with pytest.raises(KeyboardInterrupt):
        search(Items(images, fail_at=26))
    with pytest.raises(ValueError, match="another model, layers, k or data"):
        search(Items(2 * images))
    rest = Items(images)
    tops = search(rest)
    # six batches were done; the first and the last image tell the data from others
    assert len(rest.fetched) == 40 - 24 + 2
    wanted = gallery.top_units(tiny(), images, ["1", "3"], progress=False)
    assert all(same(tops[layer], wanted[layer]) for layer in wanted)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", [4, 5])
def test_a_stream_goes_on_too_and_other_states_are_refused(tmp_path, size):
    images, file = noise(40, 32), tmp_path / "search"
    options = {"state": file, "save_every": 0, "progress": False}

    def broken():
        yield from images[:12].split(4)
        raise KeyboardInterrupt

    def interrupt():
        with pytest.raises(KeyboardInterrupt):
            gallery.top_units(tiny(), broken(), "1", **options)

    interrupt()
    spoilt = images.clone()
    spoilt[:12] = torch.nan  # not looked at again
    top = gallery.top_units(tiny(), spoilt.split(size), "1", **options)["1"]
    assert same(top, gallery.top_units(tiny(), images, "1", progress=False)["1"])
    interrupt()
    with pytest.raises(ValueError, match="state: weights inside a function .*; give a module"):
        gallery.top_units(lambda x: x, images, **options)
    other = tiny()
    nn.init.zeros_(other[0].bias)
    for model, layer, k in ((other, "1", 9), (tiny(), "3", 9), (tiny(), "1", 8)):
        with pytest.raises(ValueError, match="search: another model, layers, k or data"):
            gallery.top_units(model, images.split(4), layer, k, **options)
    whole = file.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"spoilt" * 20):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match="search: not a search's state .*; delete it"):
            gallery.top_units(tiny(), images.split(4), "1", **options)


def test_memory_stays_flat():
    """A graph kept for each batch, some 7 MB here, would add 1.2 GB."""
    model = nn.Sequential(nn.Conv2d(3, 32, 3), nn.Tanh(), nn.Conv2d(32, 8, 3)).train()
    batch, resident = torch.randn(4, 3, 64, 64), []

    def stream():
        for number in range(200):
            if number in (20, 199):
                pages = int(Path("/proc/self/statm").read_text().split()[1])
                resident.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)
            yield batch

    gallery.top_units(model, stream(), ["0", "2"], progress=False)
    assert resident[1] - resident[0] < 40


def collated(made):
    """A loader of batches of four items, from which it makes others."""
    data = Items(noise(8, 32))
    return torch.utils.data.DataLoader(data, 4, collate_fn=lambda items: torch.stack(made(items)))


@pytest.mark.parametrize(
    ("model", "layer", "data", "says"),
    [
        (tiny, "9", noise(2, 32), "no submodule '9' in Sequential; there are: 0, 1"),
        (lambda: torchvision_model("resnet18"), "layer1.0.relu", noise(2), "run more than once"),
        (lambda: nn.Sequential(nn.Unflatten(3, (4, 8))), "0", noise(2, 32), "wanted feature maps"),
        (tiny, "1", noise(2, 32)[0], r"the data yield \(3, 32, 32\)"),
        (tiny, "1", [{"pixel_values": noise(2, 32)}], "the data yield dict"),
        (tiny, "1", [], "no images to search"),
        (MapsLast, "linear", noise(2, 32)[:, :, :24], r"gives \(2, 22, 30, 6\); wanted feature"),
        (tiny, [], noise(2, 32), "no layers to search"),
        (tiny, "0", [noise(2, 32), noise(2, 40)], r"images of \(32, 32\) and \(40, 40\) px"),
        (tiny, "1", Items([Image.new("RGB", (8, 8))] * 4), "images 0 to 3 .* needs a transform"),
        (tiny, "1", Items(torch.zeros(3, 8 + i, 8) for i in range(4)), "images 0 to 3 .* one size"),
        (tiny, "1", collated(lambda items: items[:-1]), "makes 3 images of 4 items: not one each"),
        (tiny, "1", collated(lambda items: items * 2), "makes 8 images of 4 items: not one each"),
    ],
)
def test_what_cannot_be_searched_is_refused(model, layer, data, says):
    with pytest.raises(ValueError, match=says):
        gallery.top_units(model(), data, layer, progress=False)


def test_images_that_were_not_searched_are_refused():
    model, images = tiny(), noise(6, 32)
    top = gallery.top_units(model, images, "1", progress=False)["1"]
    for call, others, says in (
        (gallery.projections, images[:1], r"image [1-5]: there are 1, counted from 0"),
        (gallery.projections, noise(6, 40), "images are 40 x 40 px; 1 was searched in images of"),
        (gallery.patches, noise(6, 40), "images are 40 x 40 px; 1 was searched in images of"),
        (gallery.projections, iter(images.split(2)), "a stream has no images to go back to"),
        (gallery.projections, images.flip(0), "1: an image excites a unit by"),
    ):
        with pytest.raises(ValueError, match=says):
            call(model, others, top, [0, 1])


# --- kept switches, other precisions -------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "size", "layers", "memory"),
    [
        (lambda: small(zfnet(), 128), 128, ["conv1", "conv3", "conv4"], 0),
        (lambda: small(zfnet(), 128), 128, ["conv1", "conv3", "conv4"], 2**30),
        (lambda: small(krizhevsky(), 128), 128, ["conv1", "conv3", "conv4"], 60_000),
        (lambda: small(zfnet(), 96), 96, ["conv5"], 2**30),  # a field larger than the image
        (tiny, 32, ["1"], 2**30),
    ],
)
def test_kept_switches_give_the_same_projections(make, size, layers, memory):
    model, images = make(), noise(20, size)
    switches = gallery.SwitchCache(memory)
    tops = gallery.top_units(model, images, layers, k=3, switches=switches, progress=False)
    for layer, top in gallery.top_units(model, images, layers, k=3, progress=False).items():
        assert same(tops[layer], top)
        maps = range(len(top.values))
        plain = gallery.projections(model, images, top, maps)
        kept = gallery.projections(model, images, top, maps, switches=switches)
        assert relative(kept, plain) < 1e-5 and plain.any()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_precisions(dtype):
    model, images = tiny().to(dtype), noise(6, 32)
    made = gallery_page.gallery(model, images.to(dtype), "1", maps=2, k=3, progress=False)
    patch = gallery.patches(model, images.abs().byte(), made.top, [0])  # pictures of another type
    assert patch.shape[3:] == made.fields.window_size
    # kernels for bf16 may read one pixel more, with a weight of zero
    assert made.fields.columns.size in (5, 6) and made.projections.any()
    network, images, layers = small(zfnet(), 96), noise(8, 96), ["conv1", "conv3", "conv4"]
    other, images_of = small(zfnet(), 96).to(dtype), images.to(dtype)
    for top in gallery.top_units(other, images_of, layers, k=2, progress=False).values():
        maps = range(len(top.values))
        drawn = gallery.projections(other, images_of, top, maps)
        wanted = gallery.projections(network, images, top, maps)
        alike = torch.cosine_similarity(drawn.flatten(), wanted.flatten(), 0)
        assert alike > 0.95  # rounding decides between pixels that are nearly the largest


# --- the page ------------------------------------------------------------------------------------


def test_a_gallery_in_one_call(tmp_path):
    model, images, layer = torchvision_model("squeezenet1_1"), noise(), "features.6.squeeze"
    made = gallery_page.gallery(model, Items(images), layer, maps=3, progress=False)
    file = made.save(tmp_path / "page.html")
    assert [f.name for f in tmp_path.iterdir()] == ["page.html"]
    page = file.read_text()
    assert made.show().data in page
    for number in made.maps:
        assert page.count(f'id="unit-{number}"') == 1 and page.count(f'href="#unit-{number}"') == 2
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert all(source.startswith(("data:image/jpeg;base64,", "#")) for source in sources)
    assert page.count("<svg") == 3 and page.count("<img") == page.count("alt=") == 3 * (2 + 4)
    assert "<script" not in page and "14 images" in page
    outputs = plain_loop(model, images, layer).amax(2)[:, list(made.maps)]
    assert torch.allclose(made.sample, outputs, rtol=1e-4, atol=1e-5)
    positive = outputs[:, 0][outputs[:, 0] > 0].sort().values
    ranks = [round((1 - q) * (len(positive) - 1)) for q in gallery_page.QUANTILES]
    wanted = [positive[-1 - rank].item() for rank in ranks]
    assert made.lower.values[0].tolist() == pytest.approx(wanted, rel=1e-4)
    shown = gallery.patches(model, gallery_page.as_pictures(images), made.lower, [0])
    assert torch.equal(shown[0], made.lower_patches[0])  # the patches are those of the images named


def test_the_page_knows_only_the_images_that_the_loader_draws():
    data = Items(noise(12, 32))
    loader = torch.utils.data.DataLoader(data, 4, sampler=range(3, 12), drop_last=True)
    made = gallery_page.gallery(tiny(), loader, "1", maps=2, k=9, progress=False)
    assert made.count == len(made.sample) == 8 and not {0, 1, 2, 11} & set(data.fetched[1:])
    torch.testing.assert_close(made.sample.amax(0), made.top.values[list(made.maps), 0])


def test_each_picture_is_stretched_for_itself():
    dark, beyond = torch.rand(1, 3, 8, 8) / 2, noise(1, 8)
    shown = gallery_page.as_pictures(torch.cat([dark, beyond]))
    assert torch.equal(shown[:1], dark) and shown[1].min() == 0 and shown[1].max() == 1


def test_maps_that_never_respond_are_not_shown():
    model = tiny()
    with torch.no_grad():
        model[0].bias[2] = -100
    made = gallery_page.gallery(model, noise(5, 32), "1", maps=[1, 2, 4], progress=False)
    assert made.maps == (1, 4)
    with pytest.raises(ValueError, match="1: no map responds"):
        gallery_page.gallery(model, noise(5, 32), "1", maps=[2], progress=False)


# --- how alike pictures are ----------------------------------------------------------------------


def test_similarity_is_the_mean_over_pairs_and_places_beyond_the_border_have_no_part_in_it():
    three = torch.rand(1, 3, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    corr = torch.corrcoef(three[0].mean(1).flatten(1))
    mean = gallery.mean_pairwise_correlation(three)[0].item()
    assert mean == pytest.approx((corr[0, 1] + corr[0, 2] + corr[1, 2]).item() / 3, abs=1e-5)
    framed = nn.functional.pad(three, (2, 2, 2, 2), value=torch.nan)
    assert gallery.mean_pairwise_correlation(framed)[0] == pytest.approx(mean, abs=1e-6)
