"""All of Fig. 2 in one call against a loop over its units with Captum and hooks.

Both sides take a time for each image searched and a time for each unit shown, which are measured on
some of each; the whole, 2,000 images and the top nine of every map, is their sum (extrapolated).
The first images of a search cost more, since nearly all of them enter the lists: so two lengths of
the search are timed, the first counts once and their difference for every further image.
"""

import functools
import warnings
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from benchmarks.result import Check, Result, difference, faster
from benchmarks.timing import medians
from zfrepro import gallery
from zfrepro.deconvnet import crop
from zfrepro.gallery import Top
from zfrepro.networks import as_modules, build, initialise_, without_norm, zfnet
from zfrepro.receptive_field import Fields

IMAGES, K, GOAL = 2000, 9, 8
BATCH = 16


def captum_search(model: nn.Sequential, rectifiers: dict[str, int], images: Tensor) -> dict:
    """Search with hooks that keep every image's maximum of every map. layer -> values, places."""
    maxima: dict[str, list] = {name: [] for name in rectifiers}

    def keep(name: str, module: nn.Module, inputs: tuple, output: Tensor) -> None:
        maxima[name].append(output.flatten(2).max(2))

    handles = [
        model[index].register_forward_hook(functools.partial(keep, name))
        for name, index in rectifiers.items()
    ]
    with torch.no_grad():
        for batch in images.split(BATCH):
            model(batch)
    for handle in handles:
        handle.remove()
    return {
        name: torch.cat([best.values for best in found]).topk(min(K, len(images)), 0)
        for name, found in maxima.items()
    }


def captum_pictures(model: nn.Sequential, images: Tensor, top: Top, maps: list[int]) -> list:
    """Project unit after unit, and cut its patch out. Captum seeds with 1 instead of the activation."""
    from captum.attr import NeuronDeconvolution

    attribution, found = NeuronDeconvolution(model, model[-1]), []
    indices, units = top.of(maps)
    for image, *unit in zip(indices, units.maps, units.rows, units.columns, strict=True):
        x = images[int(image)][None].clone().requires_grad_()
        found.append(attribution.attribute(x, tuple(map(int, unit))).detach())
    return found


def run(quick: bool) -> Iterator[Result]:
    """Five layers of the full-width ZFNet at 224 px, without contrast norm, which Captum lacks."""
    repeats, count, many, per_layer = (1, 10, 20, 1) if quick else (3, 32, 96, 4)
    generator = torch.Generator().manual_seed(0)
    network = build(zfnet().with_units(8), 224, 10).eval()
    network = without_norm(initialise_(network, "modern", generator)).requires_grad_(False)
    images = torch.randn((many, 3, 224, 224), generator=generator)
    models = {layer: as_modules(network, layer) for layer in network.convs}
    rectifiers = {layer: len(model) - 1 for layer, model in models.items()}
    deepest = models["conv5"]
    tops, cache = gallery.search_with_switches(network, images, list(models), K, progress=False)
    bytes_an_image = cache.size / len(cache.stored)
    assert IMAGES * bytes_an_image <= gallery.SWITCH_MEMORY  # at 2,000 images all are kept too

    def search(number: int) -> None:
        gallery.search_with_switches(network, images[:number], list(models), K, progress=False)

    works: list[Callable[[], object]] = [
        lambda: search(count),
        lambda: search(many),
        lambda: captum_search(deepest, rectifiers, images[:count]),
        lambda: captum_search(deepest, rectifiers, images),
    ]
    worst = 0.0
    chosen = {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Setting backward hooks on ReLU")
        for layer, top in tops.items():
            alive = (top.values[:, -1] > 0).nonzero().flatten()
            maps = alive[:: max(1, len(alive) // per_layer)][:per_layer].tolist()
            chosen[layer] = maps
            few = 1 if quick else 2
            expected = captum_pictures(models[layer], images, top, maps[:few])
            fields = gallery.fields_of(network, layer, images)
            ours = gallery.show_cached(network, images, images, top, maps[:few], cache, fields)
            worst = max(worst, _error(ours.projections, expected, top, maps[:few], fields))
            works += [
                lambda t=top, m=maps, f=fields: gallery.show_cached(
                    network, images, images, t, m, cache, f
                ),
                lambda t=top, m=maps[:1], n=layer: captum_pictures(models[n], images, t, m),
            ]
        seconds = medians(works, repeats, at_least=0)
    units = {layer: K * len(top.values) for layer, top in tops.items()}
    ours, theirs = (
        first + (IMAGES - count) * (more - first) / (many - count)
        for first, more in (seconds[:2], seconds[2:4])
    )
    yield faster("Fig. 2, search an image", ours / IMAGES, "hooks", theirs / IMAGES, ())
    pairs = zip(tops, seconds[4::2], seconds[5::2], strict=True)
    for layer, shown, looped in pairs:
        ours += units[layer] * shown / (K * len(chosen[layer]))
        theirs += units[layer] * looped / K
        each, their_each = shown / (K * len(chosen[layer])), looped / K
        yield faster(f"Fig. 2, a unit of {layer}", each, "Captum, unit by unit", their_each, ())
    yield Result(
        f"Fig. 2, {IMAGES:,} images, {sum(units.values()):,} units (extrapolated)", ours,
        theirs / ours, (Check("pictures", worst, 1e-4),), "Captum in a loop, hooks", theirs, GOAL,
    )  # fmt: skip


def _error(ours: Tensor, expected: list, top: Top, maps: list[int], fields: Fields) -> float:
    _, units = top.of(maps)
    windows = fields.windows(units.rows, units.columns, len(units))
    pictures = crop(torch.cat(expected), *windows)
    pictures = pictures * top.values[maps][top.responds(maps)][:, None, None, None]
    return difference(ours[top.responds(maps)], pictures)
