"""How cost grows with work: time in proportion to it, memory not at all.

Of n images the search keeps nine values and places a map (28 bytes each: 350 kB for all five layers of the full
network), whatever n; a batch and its feature maps are gone before the next comes. Images themselves are mapped from the
cache on disk, whose pages the system takes back when it needs them. Occlusion keeps its answer alone, a probability a
class and position.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.result import Check, Result, difference
from benchmarks.timing import medians
from zfrepro.gallery import projections, top_units
from zfrepro.networks import Network, build, initialise_, zfnet
from zfrepro.occlusion import occlude
from zfrepro.records import ROOT

SIZE, BATCH, PATCH = 64, 50, 16
MEMORY = 32.0  # MB that may be held beyond a small run: less than the images of the quick run, had they been kept


def narrow() -> Network:
    """An eighth of the width at 64 px, some 0.3 ms an image: what grows is not the network."""
    network = build(zfnet().with_width(0.125).with_units(32), SIZE, 10)
    return initialise_(network, "modern", torch.Generator().manual_seed(0)).eval().requires_grad_(False)


def stream(count: int) -> Iterator[Tensor]:
    """`count` different images, never more than a batch of them in memory."""
    base = torch.randn((BATCH, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(0))
    for number in range(count // BATCH):
        yield base.roll((number // SIZE, number % SIZE), (2, 3))


def covered(network: Network, image: Tensor, side: int):
    """A square at `side` x `side` positions."""
    stride = (SIZE - PATCH) / (side - 1)
    return occlude(network, image, patch=PATCH, stride=stride, layer="convs.conv5", progress=False)


def peak(work: Callable[[], object]) -> float:
    """Most memory that this process held during `work`, in MB, as the system counts it. Linux only."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak from here on: importing torch takes more than the work
    work()
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def memory(small: int, large: int) -> None:
    """Print, of the search and of occlusion, the peaks of little and of much work and the seconds an item."""
    network = narrow()
    image = next(stream(BATCH))[:1]
    works = {
        "search": lambda count: top_units(network, stream(count), progress=False),
        "occlusion": lambda count: covered(network, image, round(count**0.5)),
    }
    found = {}
    for (name, work), counts in zip(works.items(), ((small, large), (16, 900)), strict=True):
        peak(lambda work=work, count=counts[0]: work(count))  # what is allocated once is not growth
        peaks = [peak(lambda work=work, count=count: work(count)) for count in counts]
        began = time.perf_counter()
        work(counts[0])
        found[name] = {"peaks": peaks, "seconds": (time.perf_counter() - began) / counts[0]}
    print(json.dumps(found))


def run(quick: bool) -> Iterator[Result]:
    """The search against images, projections against maps, occlusion against positions and images; peaks of memory."""
    repeats, few, many, large = (1, 50, 200, 2_000) if quick else (5, 250, 2_000, 50_000)
    network = narrow()

    def grows(name: str, small, big, counts: tuple[int, int], check: Check) -> Result:
        times = medians([small, big], repeats, at_least=0)
        a, b = (seconds / count for seconds, count in zip(times, counts, strict=True))
        text = f"{name}, {counts[1]:,} against {counts[0]:,}"
        return Result(text, b, b / a, (check,), "the few", a, 1.1, at_most=True, unit="x the time of one")

    def search(count: int):
        return top_units(network, stream(count), progress=False)

    first = {name: top.values for name, top in search(few).items()}
    more = search(many)  # which sees the few too: it must find values as large or larger
    missed = max(float((first[name] - top.values).clamp_min(0).max()) for name, top in more.items())
    yield grows(
        "search, images", lambda: search(few), lambda: search(many), (few, many), Check("values lost", missed, 1e-5)
    )

    top, images = more["conv3"], torch.cat(list(stream(many)))

    def project(maps: int) -> Tensor:
        return projections(network, lambda indices: images[indices], top, range(maps))

    gap = difference(project(40)[:5], project(5))
    yield grows("projections, maps", lambda: project(5), lambda: project(40), (5, 40), Check("pictures", gap, 1e-5))

    pair = images[:4]
    coarse, fine = covered(network, pair[:1], 5), covered(network, pair[:1], 25)
    gap = difference(fine.probabilities[:, ::6, ::6], coarse.probabilities)
    yield grows(
        "occlusion, positions", lambda: covered(network, pair[:1], 5), lambda: covered(network, pair[:1], 25),
        (25, 625), Check("probabilities", gap, 1e-5),
    )  # fmt: skip
    gap = difference(covered(network, pair, 5).probabilities[:1], coarse.probabilities)
    yield grows(
        "occlusion, images", lambda: covered(network, pair[:1], 9), lambda: covered(network, pair, 9),
        (1, 4), Check("probabilities", gap, 1e-5),
    )  # fmt: skip

    if not Path("/proc/self/clear_refs").exists():
        return
    words = [sys.executable, "-m", "benchmarks.growth", "100", str(large)]
    found = json.loads(subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT).stdout)
    for name, work in (("search", f"{large:,} against 100 images"), ("occlusion", "900 against 16 positions")):
        grown = found[name]["peaks"][1] - found[name]["peaks"][0]
        yield Result(
            f"peak memory of the {name}, {work}", found[name]["seconds"], grown, (Check("MB more", grown, MEMORY),),
            goal=MEMORY, at_most=True, unit="MB more",
        )  # fmt: skip


if __name__ == "__main__":
    memory(*map(int, sys.argv[1:]))
