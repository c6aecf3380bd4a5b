"""Near-duplicates between the source and the target of a transfer, by normalised correlation (section 5.2)."""

import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 32  # pixels of the thumbnails that are compared
THRESHOLD = 0.95
"""Correlation from which two pictures count as one. The paper gives none. Pictures saved again at another size or
quality stay well above it (tested); different pictures of one plain subject come close."""


def thumbnails(images: Tensor, side: int = SIDE, chunk: int = 512) -> Tensor:
    """Small pictures as rows of length 1, each colour of mean 0. uint8 (N, 3, R, R) -> (N, 3 * side * side).

    With one mean for all colours, whatever is blue all over would correlate: sea with sky, a turtle with a kite. A
    blank picture becomes a row of zeros, which correlates with nothing.
    """
    small = torch.cat([F.adaptive_avg_pool2d(part.float(), side) for part in images.split(chunk)])
    rows = (small - small.mean((2, 3), keepdim=True)).flatten(1)
    length = rows.norm(dim=1, keepdim=True)
    return torch.where(length > 1e-3, rows / length.clamp_min(1e-3), 0)


def closest(target: Tensor, source: Tensor, chunk: int = 1024) -> tuple[Tensor, Tensor]:
    """The highest correlation of each target picture with any source picture, and which one that is.

    Args:
        target, source: rows of `thumbnails`, (N, D) and (M, D).
    Returns:
        correlations (N,), indices into the source (N,).
    """
    best = torch.full((len(target),), -1.0)
    which = torch.zeros(len(target), dtype=torch.long)
    for start in range(0, len(source), chunk):
        values, indices = (target @ source[start : start + chunk].T).max(1)
        better = values > best
        best[better], which[better] = values[better], indices[better] + start
    return best, which
