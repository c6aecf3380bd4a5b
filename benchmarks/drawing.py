"""How many pictures of the diorama are drawn in a second, and where the time goes."""

import cProfile
import pstats
from collections.abc import Iterator

import diorama
from benchmarks.result import Check, Result
from benchmarks.timing import medians
from diorama import rendering
from diorama.threads import one_thread_a_tensor

STAGES = {
    "sample": "drawing lots",
    "_cast": "rays to objects",
    "_shadow": "rays to the lamp",
    "_behind": "table and backdrop",
    "_shade": "surfaces",
    "_photographed": "blur and grain",
}
"""Functions of the diorama -> what they do. None calls another."""


def stages(count: int) -> dict[str, float]:
    """Share of the time that each stage takes, in one thread; all of them add up to 1."""

    def work() -> None:
        scene = diorama.sample(range(count))
        for start in range(0, count, rendering.CHUNK):
            rendering._drawn(scene.rows(slice(start, start + rendering.CHUNK)), 128)

    with one_thread_a_tensor():
        work()
        profile = cProfile.Profile()
        profile.runcall(work)
    found = pstats.Stats(profile).get_stats_profile()
    spent = {what: found.func_profiles[name].cumtime / found.total_tt for name, what in STAGES.items()}
    spent["other"] = 1 - sum(spent.values())
    return dict(sorted(spent.items(), key=lambda pair: -pair[1]))


def run(quick: bool) -> Iterator[Result]:
    """With their truth, at 128 px, nothing cached."""
    repeats, count = (1, 16) if quick else (3, 512)
    whole = diorama.split(count, size=128, progress=False)
    pixels = masks = 0.0
    for i in (0, count // 2, count - 1):
        alone = diorama.draw([i], size=128)
        pixels = max(pixels, (whole["images"][i].int() - alone.images[0].int()).abs().max().item())
        masks = max(masks, (whole["mask"][i] != alone.mask[0]).float().mean().item())
    (seconds,) = medians([lambda: diorama.split(count, size=128, progress=False)], repeats, at_least=0)
    checks = (Check("the same one by one, grey levels", pixels, 0), Check("masks", masks, 0))
    yield Result(
        f"diorama, 128 px, {count} images", seconds / count, count / seconds, checks, goal=300, unit="images/s",
        shares=stages(min(count, 128)),
    )  # fmt: skip
