"""What the chapters' judges share: a verdict from which parts of a claim held, and a mean with its interval."""


def graded(*held: bool) -> str:
    """A verdict on a claim of several parts. All held: reproduced; none: not reproduced; else partly."""
    return "reproduced" if all(held) else "partly" if any(held) else "not reproduced"


def told(mean: float, low: float, high: float, form: str = "+.2f") -> str:
    """`+0.36 (+0.31 to +0.39)`."""
    return f"{mean:{form}} ({low:{form}} to {high:{form}})"


def told_of(found: dict[str, float], form: str = "+.2f", factor: float = 1) -> str:
    """`told` of a `statistics.summary`."""
    return told(*(factor * found[key] for key in ("mean", "low", "high")), form)
