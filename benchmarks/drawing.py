"""How many pictures of the diorama are drawn in a second."""

from collections.abc import Iterator

from benchmarks.result import Check, Result
from benchmarks.timing import medians
from zfrepro.data import diorama


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
        f"diorama, 128 px, {count} images", seconds / count, count / seconds, checks, goal=300, unit="images/s"
    )
