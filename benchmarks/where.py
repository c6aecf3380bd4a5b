"""Where the time of some work goes, by kind of operation: a profile in five lines instead of five hundred."""

from collections import Counter
from collections.abc import Callable

from torch.profiler import ProfilerActivity, profile

KINDS: dict[str, tuple[str, ...]] = {
    "contrast norm": ("contrastnorm",),
    "convolutions": ("conv",),
    "pools": ("pool", "scatter_add"),
    "ReLU": ("relu",),
    "full layers": ("addmm", "linear", "aten::mm"),
    "views of images": ("grid_sampler", "affine_grid"),
    "optimiser": ("optimizer", "lerp"),
}
"""Kind -> parts of the names that torch gives its operations and their gradients; the first kind that fits."""


def kind_of(names: list[str]) -> str:
    """The kind of an operation. names: of the operation itself and of all that it is part of, outermost first."""
    for name in names:
        for kind, parts in KINDS.items():
            if any(part in name.lower() for part in parts):
                return kind
    return "other"


def shares(work: Callable[[], object]) -> dict[str, float]:
    """Share of the time of `work`, which is called twice, that each kind of operation takes; all of them add up to 1.

    Time outside of torch's operations is not seen.
    """
    work()
    with profile(activities=[ProfilerActivity.CPU]) as found:
        work()
    spent: Counter[str] = Counter()
    for event in found.events():
        chain = [event]
        while chain[-1].cpu_parent:
            chain.append(chain[-1].cpu_parent)
        spent[kind_of([one.name for one in reversed(chain)])] += event.self_cpu_time_total
    total = sum(spent.values())
    return {kind: time / total for kind, time in spent.most_common()}
