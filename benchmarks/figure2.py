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
    """Project unit after unit. Captum seeds with 1 instead of the activation."""
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
    # all are kept at 2,000 images too
    assert IMAGES * cache.size / len(cache.stored) <= gallery.SWITCH_MEMORY

    def search(number: int) -> None:
        gallery.search_with_switches(network, images[:number], list(models), K, progress=False)

    works: list[Callable[[], object]] = [
        lambda: search(count),
        lambda: search(many),
        lambda: captum_search(deepest, rectifiers, images[:count]),
        lambda: captum_search(deepest, rectifiers, images),
    ]
    searched = captum_search(deepest, rectifiers, images)
    errors = {"search": max(difference(t.values, searched[n].values.T) for n, t in tops.items())}
    chosen: dict[str, list[int]] = {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Setting backward hooks on ReLU")
        for layer, top in tops.items():
            alive = (top.values[:, -1] > 0).nonzero().flatten()
            maps = alive[:: max(1, len(alive) // per_layer)][:per_layer].tolist()
            fields = gallery.fields_of(network, layer, images)

            def show(maps: list[int], top: Top = top, fields: Fields = fields) -> Tensor:
                panel = gallery.show_cached(network, images, images, top, maps, cache, fields)
                return panel.projections

            def loop(maps: list[int], top: Top = top, layer: str = layer) -> list[Tensor]:
                return captum_pictures(models[layer], images, top, maps)

            errors[layer] = _error(show(maps[:1]), loop(maps[:1]), top, maps[:1], fields)
            works += [functools.partial(show, maps), functools.partial(loop, maps[:1])]
            chosen[layer] = maps
        seconds = medians(works, repeats, at_least=0)

    totals = [
        first + (IMAGES - count) * (more - first) / (many - count)
        for first, more in (seconds[:2], seconds[2:4])
    ]
    ours, theirs = (total / IMAGES for total in totals)
    checks = (Check("values", errors["search"], 1e-4),)
    yield faster("Fig. 2, search an image", ours, "hooks", theirs, checks)
    for layer, shown, looped in zip(tops, seconds[4::2], seconds[5::2], strict=True):
        ours, theirs = shown / (K * len(chosen[layer])), looped / K
        checks = (Check("pictures", errors[layer], 1e-4),)
        yield faster(f"Fig. 2, a unit of {layer}", ours, "Captum in a loop", theirs, checks)
        units = K * len(tops[layer].values)
        totals = [totals[0] + units * ours, totals[1] + units * theirs]
    units = sum(K * len(top.values) for top in tops.values())
    name = f"Fig. 2, {IMAGES:,} images, {units:,} units (extrapolated)"
    checks = (Check("pictures", max(errors.values()), 1e-4),)
    yield faster(name, totals[0], "Captum in a loop, hooks", totals[1], checks, GOAL)


def _error(ours: Tensor, expected: list, top: Top, maps: list[int], fields: Fields) -> float:
    _, units = top.of(maps)
    windows = fields.windows(units.rows, units.columns, len(units))
    pictures = crop(torch.cat(expected), *windows)
    pictures = pictures * top.values[maps][top.responds(maps)][:, None, None, None]
    return difference(ours[top.responds(maps)], pictures)
