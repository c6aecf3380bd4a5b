"""All of Fig. 2 against a loop over its units with Captum and hooks.

Both sides take a time for each image searched and a time for each unit shown, which are measured on
some of each; the whole, 2,000 images and the top nine of every map, is their sum (extrapolated).
The first images of a search cost more, since nearly all of them enter the lists: so two lengths of
the search are timed, the first counts once and their difference for every further image.
"""

import functools
import warnings
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from benchmarks.result import Check, Result, difference, faster
from benchmarks.timing import CPU, medians
from zfrepro import gallery
from zfrepro.deconvnet import crop
from zfrepro.gallery import Top
from zfrepro.networks import as_modules, build, initialise_, without_norm, zfnet

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
        name: torch.cat([best.values for best in parts]).topk(min(K, len(images)), 0)
        for name, parts in maxima.items()
    }


def captum_pictures(model: nn.Sequential, images: Tensor, top: Top, maps: list[int]) -> Tensor:
    """Project unit after unit. Captum seeds with 1 instead of the activation."""
    from captum.attr import NeuronDeconvolution

    attribution, pictures = NeuronDeconvolution(model, model[-1]), []
    indices, units = top.of(maps)
    for image, *unit in zip(indices, units.maps, units.rows, units.columns, strict=True):
        x = images[int(image)][None].clone().requires_grad_()
        pictures.append(attribution.attribute(x, tuple(map(int, unit))).detach())
    return torch.cat(pictures)


def run(quick: bool, device: torch.device = CPU) -> Iterator[Result]:
    """Compare on the full-width ZFNet at 224 px, without contrast norm, which Captum lacks."""
    repeats, count, many, per_layer = (1, 10, 20, 1) if quick else (3, 32, 96, 4)
    generator = torch.Generator().manual_seed(0)
    network = build(zfnet().with_units(8), 224, 10).eval()
    network = without_norm(initialise_(network, "modern", generator)).requires_grad_(False)
    network = network.to(device)
    images = torch.randn((many, 3, 224, 224), generator=generator).to(device)
    models = {layer: as_modules(network, layer) for layer in network.convs}
    rectifiers = {layer: len(model) - 1 for layer, model in models.items()}
    cache = gallery.SwitchCache()
    search = functools.partial(
        gallery.top_units, network, layers=list(models), k=K, switches=cache, batch=BATCH,
        progress=False,
    )  # fmt: skip
    rival = functools.partial(captum_search, models["conv5"], rectifiers)
    tops = search(images)
    each = sum(code.nbytes for code in next(iter(cache.stored.values())).values())
    if IMAGES * each > cache.limit:
        raise RuntimeError(f"switches of {IMAGES} images would not be kept: extrapolation is wrong")
    expected = rival(images)
    errors = [difference(top.values, expected[layer].values.T.cpu()) for layer, top in tops.items()]
    lengths = (images[:count], images)
    searches = [functools.partial(side, part) for side in (search, rival) for part in lengths]
    short, long, their_short, their_long = medians(searches, repeats, at_least=0)
    further = (IMAGES - count) / (many - count)
    total = short + further * (long - short)
    their_total = their_short + further * (their_long - their_short)

    for layer, top in tops.items():
        alive = (top.values[:, -1] > 0).nonzero().flatten()
        maps = alive[:: max(1, len(alive) // per_layer)][:per_layer].tolist()
        fields = gallery.fields_of(network, layer, images)

        def show(maps: list[int], top: Top = top, fields: gallery.Fields = fields) -> Tensor:
            gallery.patches(network, images, top, maps, fields=fields)
            return gallery.projections(network, images, top, maps, fields=fields, switches=cache)

        loop = functools.partial(captum_pictures, models[layer], images, top, maps[:1])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Setting backward hooks on ReLU")
            errors.append(_error(show(maps[:1]), loop(), top, maps[:1], fields))
            panel = functools.partial(show, maps=maps)
            seconds, their_seconds = medians([panel, loop], repeats, at_least=0)
        total += seconds * len(top.values) / len(maps)
        their_total += their_seconds * len(top.values)
    check = Check("values and pictures", max(errors), 1e-4)
    name = f"Fig. 2, {IMAGES:,} images (extrapolated)"
    yield faster(name, total, "Captum in a loop, hooks", their_total, (check,), GOAL)


def _error(ours: Tensor, whole: Tensor, top: Top, maps: list[int], fields: gallery.Fields) -> float:
    _, units = top.of(maps)
    pictures = crop(whole.cpu(), *fields.windows(units.rows, units.columns, len(units)))
    responds = top.responds(maps)
    return difference(ours[responds], pictures * top.values[maps][responds][:, None, None, None])
