"""Images of the diorama drawn in a second, and where the time goes."""

import cProfile
import pstats
from collections.abc import Iterator
from functools import partial

import torch

import diorama
from benchmarks.result import Check, Result
from benchmarks.timing import medians
from diorama import rendering
from diorama.threads import single_threaded

STAGES = {
    "sample": "sampling",
    "cast": "rays to objects",
    "shadow": "rays to the lamp",
    "_behind": "table and backdrop",
    "_shade": "surfaces",
    "_photographed": "blur and grain",
}
"""Functions of the diorama -> what they do. None calls another."""


def stages(count: int) -> dict[str, float]:
    """Return the share of the time that each stage takes, in one thread; they add up to 1."""

    def work() -> None:
        scene = diorama.sample(range(count))
        for start in range(0, count, rendering.CHUNK):
            rendering.render_chunk(scene.rows(slice(start, start + rendering.CHUNK)), 128)

    with single_threaded():
        work()
        profile = cProfile.Profile()
        profile.runcall(work)
    stats = pstats.Stats(profile).get_stats_profile()
    seconds = {what: stats.func_profiles[name].cumtime for name, what in STAGES.items()}
    spent = {what: time / stats.total_tt for what, time in seconds.items()}
    spent["other"] = 1 - sum(spent.values())
    return dict(sorted(spent.items(), key=lambda pair: -pair[1]))


def run(quick: bool) -> Iterator[Result]:
    """With their truth, at 128 px, nothing cached."""
    repeats, count = (1, 16) if quick else (3, 512)
    whole = diorama.split(count, size=128, progress=False)
    chosen = [0, count // 2, count - 1]
    alone = [diorama.draw([i], size=128) for i in chosen]
    change = torch.cat([d.images for d in alone]).int() - whole["images"][chosen].int()
    moved = torch.cat([d.mask for d in alone]) != whole["mask"][chosen]
    pixels, masks = change.abs().max().item(), moved.float().mean().item()
    again = partial(diorama.split, count, size=128, progress=False)
    (seconds,) = medians([again], repeats, at_least=0)
    checks = (Check("the same one by one, grey levels", pixels, 0), Check("masks", masks, 0))
    yield Result(
        f"diorama, 128 px, {count} images",
        seconds / count,
        count / seconds,
        checks,
        goal=300,
        unit="images/s",
        shares=stages(min(count, 128)),
    )
