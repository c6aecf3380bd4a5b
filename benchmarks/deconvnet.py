"""The deconvnet against `captum.attr.NeuronDeconvolution`, on equal units and pictures.

Captum gets the network up to the probed layer only, spelled with modules and without contrast norm
(whose gradient it would take), and the batch size that suits it best.
"""

import warnings
from collections.abc import Iterator
from functools import partial

import torch
import torchvision
from torch import Tensor, nn

from benchmarks.result import Check, Result, compare, difference, faster
from benchmarks.timing import CPU, medians
from benchmarks.training import random_zfnet
from zfrepro import deconvnet, gallery, rules
from zfrepro.deconvnet import Units
from zfrepro.gallery import Top
from zfrepro.networks import Network, as_modules, without_norm

GOALS = {"conv1": 500, "conv2": 100, "conv3": 12, "conv4": None, "conv5": None}
SHARED_GOAL = 5  # of conv5, where units share images; else the forward pass is most of its time
IMAGES, K, BATCH = 2000, 9, 16  # of Fig. 2


def captum_projections(
    model: nn.Module, layer: nn.Module, images: Tensor, units: Units, batch: int = 1
) -> Tensor:
    """Return Captum's pictures, seeded with 1. A function gives each image a unit of its own."""
    from captum.attr import NeuronDeconvolution

    attribution, pictures = NeuronDeconvolution(model, layer), []
    for start in range(0, len(images), batch):
        part = units[slice(start, start + batch)]

        def pick(maps: Tensor, part: Units = part) -> Tensor:
            return maps[torch.arange(len(part)), part.maps, part.rows, part.columns]

        inputs = images[start : start + batch].requires_grad_()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Setting backward hooks on ReLU")
            pictures.append(attribution.attribute(inputs, pick).detach())
    return torch.cat(pictures)


def full_width(device: torch.device) -> tuple[Network, torch.Generator]:
    """Return the full-width ZFNet at 224 px without norm, and a generator for its images."""
    network, generator = random_zfnet(224)
    return without_norm(network).to(device), generator


# --- projections, each at the size of its receptive field ----------------------------------------


def responding(activations: Tensor, generator: torch.Generator) -> Units:
    """Draw one unit an image from all that respond, those at the border included.

    activations: (B, C, H, W).
    """
    flat = torch.multinomial((activations > 0).flatten(1).float(), 1, generator=generator)[:, 0]
    return Units(*torch.unravel_index(flat, activations.shape[1:]))


def projection(
    network: Network, images: Tensor, layer: str, sizes: tuple[int, ...], repeats: int,
    goal: float | None, each: int = 1,
) -> Result:  # fmt: skip
    """Compare `each` units of every image: ours share its forward pass, Captum's cannot."""
    model = as_modules(network, layer)
    of = torch.arange(len(images), device=images.device).repeat_interleave(each)
    with torch.no_grad():
        activations = network.features(images, [layer])[layer][of]
    units = responding(activations, torch.Generator(images.device).manual_seed(1))
    seeds = activations[torch.arange(len(units)), units.maps, units.rows, units.columns]
    loop = partial(captum_projections, model, model[-1], images[of], units)
    project = partial(deconvnet.project_crops, network, images, layer, units, of)
    ours, whole = project(), loop(len(units)) * seeds[:, None, None, None]
    expected = deconvnet.crop(whole, ours.tops, ours.lefts, ours.pixels.shape[-1])
    name = f"projection of {layer}" + (f", {each} units an image" if each > 1 else "")
    rivals = {f"Captum, batches of {size}": partial(loop, size) for size in sizes}
    checks = (Check("pictures", difference(ours.pixels, expected), 1e-4),)
    return compare(name, project, rivals, checks, repeats, items=len(units), goal=goal)


def projections(quick: bool, device: torch.device = CPU) -> Iterator[Result]:
    """Projections on conv1 to conv5 of the full-width ZFNet, sixteen units at once."""
    repeats, sizes, each = (1, (2,), 2) if quick else (15, (1, 4, 16), 8)
    network, generator = full_width(device)
    images = torch.randn((max(sizes), 3, 224, 224), generator=generator).to(device)
    for layer, goal in GOALS.items():
        yield projection(network, images, layer, sizes, repeats, goal)
    yield projection(network, images[:2], "conv5", sizes, repeats, SHARED_GOAL, each)


def units(quick: bool, device: torch.device = CPU) -> Iterator[Result]:
    """The strongest units of resnet18's layer3 in one image, against Captum one after another."""
    torch.manual_seed(0)
    count, side, layer = (3, 96, "layer3") if quick else (9, 224, "layer3")
    model = torchvision.models.resnet18(weights=None).eval().to(device)
    image = torch.randn(1, 3, side, side).to(device)
    maps = rules.activations_of(model, image, layer)[0]
    chosen = Units(*torch.unravel_index(maps.flatten().topk(count).indices, maps.shape))
    of = torch.zeros(count, dtype=torch.int64, device=device)
    together = partial(rules.project, model, image, chosen, layer, of=of, seed="one")
    one_by_one = partial(captum_projections, model, model.get_submodule(layer), image[of], chosen)
    checks = (Check("pictures", difference(together(), one_by_one()), 1e-4),)
    name, rivals = f"{count} units of one resnet18 image", {"Captum in a loop": one_by_one}
    yield compare(name, together, rivals, checks, 1 if quick else 9, items=count, goal=2.2)


# --- all of Fig. 2 -------------------------------------------------------------------------------


@torch.no_grad()
def captum_search(model: nn.Sequential, rectifiers: dict[int, str], images: Tensor) -> dict:
    """Keep every image's maximum of every map, then sort. layer -> values, places."""
    maxima: dict[str, list] = {name: [] for name in rectifiers.values()}
    for x in images.split(BATCH):
        for index, module in enumerate(model):
            x = module(x)
            if index in rectifiers:
                maxima[rectifiers[index]].append(x.flatten(2).max(2))
    return {
        name: torch.cat([best.values for best in parts]).topk(min(K, len(images)), 0)
        for name, parts in maxima.items()
    }


def figure2(quick: bool, device: torch.device = CPU) -> Iterator[Result]:
    """All of Fig. 2 against a loop over its units with Captum, 2,000 images (extrapolated).

    Both sides take a time for each image searched and a time for each unit shown, which are
    measured on some of each; the whole, the top nine of every map, is their sum. The first images
    of a search cost more, since nearly all of them enter the lists: so two lengths of the search
    are timed, the first counts once and their difference for every further image.
    """
    repeats, count, many, per_layer = (1, 10, 20, 1) if quick else (5, 32, 96, 4)
    network, generator = full_width(device)
    images = torch.randn((many, 3, 224, 224), generator=generator).to(device)
    models = {layer: as_modules(network, layer) for layer in network.convs}
    rectifiers = {len(model) - 1: layer for layer, model in models.items()}
    cache = gallery.SwitchCache()
    search = partial(
        gallery.top_units, network, layers=list(models), k=K, switches=cache, batch=BATCH,
        progress=False,
    )  # fmt: skip
    rival = partial(captum_search, models["conv5"], rectifiers)
    tops = search(images)
    each = sum(code.nbytes for code in next(iter(cache.stored.values())).values())
    if IMAGES * each > cache.limit:
        raise RuntimeError(f"switches of {IMAGES} images would not be kept: extrapolation is wrong")
    expected = rival(images)
    errors = [difference(top.values, expected[layer].values.T.cpu()) for layer, top in tops.items()]
    lengths = (images[:count], images)
    searches = [partial(side, part) for side in (search, rival) for part in lengths]
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

        indices, shown = top.of(maps[:1])
        loop = partial(captum_projections, models[layer], models[layer][-1], images[indices], shown)
        windows = fields.windows(shown.rows, shown.columns, len(shown))
        pictures = deconvnet.crop(loop().cpu(), *windows)
        pictures *= top.values[maps[0]][:, None, None, None]
        errors.append(difference(show(maps[:1])[0], pictures))
        seconds, their_seconds = medians([partial(show, maps), loop], repeats, at_least=0)
        total += seconds * len(top.values) / len(maps)
        their_total += their_seconds * len(top.values)
    check = Check("values and pictures", max(errors), 1e-4)
    name = f"Fig. 2, {IMAGES:,} images (extrapolated)"
    yield faster(name, total, "Captum in a loop, hooks", their_total, (check,), 8)
