"""Features without pretraining: a method of the time, and random filters.

Dense descriptors of gradients, coded by a dictionary and pooled over a spatial pyramid, were what
Caltech's benchmarks were won with. A random two-stage network with rectification, contrast
normalisation and average pooling is Jarrett et al.'s (2009); they print its accuracy on
Caltech-101, which calibrates our probe.
"""

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.functional import center_crop

SIDE = 128  # px of the images that descriptors are taken of
CELL, CELLS, ORIENTATIONS = 4, 4, 8  # as SIFT: 4 x 4 cells of 4 px
NEAREST, BETA = 5, 10.0  # words that a descriptor is shared among, and how sharply
LEVELS = (1, 2, 4)  # of the pyramid: 1, 4 and 16 fields
STAGES_SIDE = 151  # px of the grey images that random filters see


def grey(images: Tensor) -> Tensor:
    """Return the lightness of images. uint8 (..., 3, h, w) -> float (..., h, w), 0 to 1."""
    weights = torch.tensor([0.299, 0.587, 0.114])
    return torch.einsum("...chw,c->...hw", images.float(), weights) / 255


def dense_hog(image: np.ndarray) -> Tensor:
    """Return histograms of oriented gradients every 4 px of a grey image, (rows, columns, 128).

    They are scikit-image's, of length 1, in the cells of SIFT and with its normalisation. Unlike
    SIFT's they do not tell a gradient from its opposite.
    """
    from skimage.feature import hog

    blocks = hog(
        image, ORIENTATIONS, (CELL, CELL), (CELLS, CELLS), "L2-Hys", feature_vector=False
    )  # (rows, columns, 4, 4, 8)
    return torch.from_numpy(blocks).flatten(2).float()


def coded(descriptors: Tensor, words: Tensor) -> Tensor:
    """Share each descriptor among its nearest words (localised soft assignment, Liu et al. 2011).

    Args:
        descriptors: (..., D).
        words: (K, D).
    Returns:
        (..., K), shares that sum to 1.
    """
    distance = torch.cdist(descriptors, words).square()
    near, which = distance.topk(min(NEAREST, len(words)), dim=-1, largest=False)
    shares = (-BETA * near).softmax(-1)
    return torch.zeros_like(distance).scatter_(-1, which, shares)


def pyramid(codes: Tensor) -> Tensor:
    """Return the maximum of each word over the fields of a spatial pyramid.

    codes: (rows, columns, K) -> (21 K,).
    """
    maps = codes.movedim(-1, 0)[None]
    return torch.cat([F.adaptive_max_pool2d(maps, level).flatten() for level in LEVELS])


def hog_pyramids(images: Tensor, learn: Tensor, words: int = 200) -> Tensor:
    """Return dense HOG with a dictionary and a spatial pyramid, rows of length 1.

    Args:
        images: uint8 (N, 3, R, R).
        learn: indices of the images whose descriptors make the dictionary: none of the test.
    Returns:
        (N, 21 words).
    """
    from sklearn.cluster import MiniBatchKMeans

    light = grey(images).numpy()
    generator = torch.Generator().manual_seed(0)
    sample = learn[torch.randperm(len(learn), generator=generator)[:400]]
    descriptors = torch.cat([dense_hog(light[i]).flatten(0, 1)[::4] for i in sample.tolist()])
    means = MiniBatchKMeans(words, random_state=0, batch_size=4096, n_init=1, max_iter=30)
    centres = torch.from_numpy(means.fit(descriptors.numpy()).cluster_centers_).float()
    rows = (pyramid(coded(dense_hog(image), centres)) for image in light)
    return F.normalize(torch.stack([*rows]))


def local_norm(maps: Tensor) -> Tensor:
    """Normalise contrast locally (Jarrett et al. 2009): subtract the weighted mean around a place
    over all maps, then divide by the weighted standard deviation, at least its mean over places.

    maps: (N, C, H, W) -> the same.
    """
    one = torch.signal.windows.gaussian(9, std=9 / 4)
    window = torch.outer(one, one)[None, None]

    def around(values: Tensor) -> Tensor:  # zeros beyond the border do not count
        inside = F.conv2d(torch.ones_like(values[:1]), window, padding=4)
        return F.conv2d(values, window, padding=4) / inside

    centred = maps - around(maps.mean(1, keepdim=True))
    deviation = around(centred.square().mean(1, keepdim=True)).sqrt()
    least = deviation.mean((2, 3), keepdim=True)
    return centred / torch.maximum(deviation, least).clamp_min(1e-6)


def random_filters(seed: int = 0) -> list[Tensor]:
    """Return 64 random filters of 9 px, and 256 of 9 px on 16 random maps each, of length 1."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(64, 1, 9, 9, generator=generator)
    second = torch.randn(256, 64, 9, 9, generator=generator)
    joined = torch.rand(256, 64, generator=generator).argsort(1) < 16
    second = second * joined[:, :, None, None]
    return [w / w.flatten(1).norm(dim=1)[:, None, None, None] for w in (first, second)]


def random_stages(images: Iterable[Tensor], filters: Iterable[Tensor]) -> Tensor:
    """Return features by two stages of filters, tanh, rectification, contrast norm and pooling.

    The first stage averages fields of 10 px every 5, the second of 6 every 4: 256 maps of 4 x 4.

    Args:
        images: N grey ones of 0 to 1, with up to `STAGES_SIDE` px a side. A smaller one lies in the
            middle of zeros, once its contrast is normalised.
        filters: of `random_filters`.
    Returns:
        (N, 4096).
    """
    normalised = (local_norm(image[None, None]) for image in images)
    x = torch.cat([center_crop(image, [STAGES_SIDE] * 2) for image in normalised])
    for weights, field, stride in zip(filters, (10, 6), (5, 4), strict=True):
        x = F.avg_pool2d(local_norm(F.conv2d(x, weights).tanh_().abs_()), field, stride)
    return x.flatten(1)
