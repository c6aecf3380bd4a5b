"""The top-9 search over a data set against the forward pass that it cannot do without."""

from collections.abc import Iterator

import torch

from benchmarks.result import Check, Result
from benchmarks.timing import medians
from zfrepro.gallery import Top, top_units
from zfrepro.networks import Network, build, initialise_, zfnet


@torch.no_grad()
def forward(network: Network, batches: list[torch.Tensor]) -> None:
    """The forward pass alone, up to layer 5."""
    for batch in batches:
        network.features(batch, ["conv5"])


@torch.no_grad()
def largest_error(network: Network, batches: list[torch.Tensor], tops: dict[str, Top]) -> float:
    """Against sorting every image's maximum of every map: values, and whether the units named hold them."""
    maxima: dict[str, list[torch.Tensor]] = {name: [] for name in tops}
    places: dict[str, list[torch.Tensor]] = {name: [] for name in tops}
    widths = {}
    for batch in batches:
        for name, maps in network.features(batch, tops).items():
            best = maps.flatten(2).max(2)
            maxima[name].append(best.values)
            places[name].append(best.indices)
            widths[name] = maps.shape[3]
    worst = 0.0
    for name, top in tops.items():
        values, where = torch.cat(maxima[name]), torch.cat(places[name])
        expected = values.topk(top.values.shape[1], dim=0).values.T
        named = values.T.gather(1, top.images)
        responds = top.values > 0  # where nothing responds, all places are equal
        wrong = (where.T.gather(1, top.images) != top.rows * widths[name] + top.columns) & responds
        if wrong.any():
            return float("inf")
        worst = max(worst, (top.values - expected).abs().max().item(), (top.values - named).abs().max().item())
    return worst


def run(quick: bool) -> Iterator[Result]:
    """All five layers of the full-width ZFNet at 128 px."""
    repeats, count = (1, 2) if quick else (3, 32)
    generator = torch.Generator().manual_seed(0)
    network = initialise_(build(zfnet().with_units(8), 128, 10), "modern", generator).eval()
    network = network.requires_grad_(False).to(memory_format=torch.channels_last)
    batches = [
        torch.randn((16, 3, 128, 128), generator=generator).contiguous(memory_format=torch.channels_last)
        for _ in range(count)
    ]
    error = largest_error(network, batches, top_units(network, batches, progress=False))
    ours, alone = medians(
        [lambda: top_units(network, batches, progress=False), lambda: forward(network, batches)],
        repeats,
        at_least=0,
    )
    images = 16 * count
    yield Result(
        f"top-9 search, 5 layers, {images} images", ours / images, ours / alone,
        (Check("values and places", error, 0),), "forward pass alone", alone / images, 1.15, at_most=True,
        unit="x its time",
    )  # fmt: skip
