"""Photographs in torchvision's folder layout, `ROOT/SET/{train,val}/CLASS/*`, decoded once into a uint8 cache."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from tqdm.auto import tqdm

from zfrepro.data.transforms import stored_size

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm"}

IMAGENETTE = {
    "n01440764": "tench", "n02102040": "English springer", "n02979186": "cassette player", "n03000684": "chain saw",
    "n03028079": "church", "n03394916": "French horn", "n03417042": "garbage truck", "n03425413": "gas pump",
    "n03445777": "golf ball", "n03888257": "parachute",
}  # fmt: skip
IMAGEWOOF = {
    "n02086240": "Shih-Tzu", "n02087394": "Rhodesian ridgeback", "n02088364": "beagle",
    "n02089973": "English foxhound", "n02093754": "Border terrier", "n02096294": "Australian terrier",
    "n02099601": "golden retriever", "n02105641": "Old English sheepdog", "n02111889": "Samoyed", "n02115641": "dingo",
}  # fmt: skip
WNIDS = {"imagenette": IMAGENETTE, "imagewoof": IMAGEWOOF, "imagenet20": IMAGENETTE | IMAGEWOOF}


class DataError(Exception):
    """Data that cannot be used, with the file and the remedy in one line."""


def list_images(folder: Path, classes: list[str]) -> tuple[list[Path], list[int]]:
    """All images under `folder`, class by class in the given order, and their labels."""
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        own = sorted(f for f in (folder / name).rglob("*") if f.suffix.lower() in SUFFIXES)
        if not own:
            raise DataError(f"{folder / name}: no images ({', '.join(sorted(SUFFIXES))}); each class needs at least one")
        files += own
        labels += [label] * len(own)
    return files, labels


def decode(file: Path, size: int) -> np.ndarray:
    """Shorter side resized to `size` px, central square: uint8 (size, size, 3) (section 3.1)."""
    try:
        with Image.open(file) as image:
            image.draft("RGB", (size, size))
            image = image.convert("RGB")
            side = min(image.size)
            left, top = (image.width - side) / 2, (image.height - side) / 2
            square = image.resize((size, size), Image.Resampling.BILINEAR, (left, top, left + side, top + side), reducing_gap=3)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(f"{file}: cannot be decoded ({error}); replace or remove it") from error
    return np.asarray(square)


def fingerprint(files: list[Path], root: Path, size: int) -> str:
    """Hash over names and file sizes, which changes when a photograph is added, removed or replaced."""
    digest = hashlib.sha256(str(size).encode())
    for f in files:
        digest.update(f"{f.relative_to(root)} {f.stat().st_size}\n".encode())
    return digest.hexdigest()


def decoded(files: list[Path], root: Path, size: int, cache: Path, *, progress: bool = True) -> torch.Tensor:
    """All files as one uint8 tensor (N, 3, size, size), from the cache or decoded into it.

    The cache is one `.npy` a split, mapped and not read, written under another name and renamed when whole.
    """
    key = fingerprint(files, root, size)[:16]
    target = cache / f"{root.name}-{size}-{key}.npy"
    if not target.exists():
        cache.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"{target.name}.{os.getpid()}.part")
        try:
            store = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=(len(files), size, size, 3))
            with ThreadPoolExecutor() as pool:
                images = pool.map(lambda f: decode(f, size), files)
                bar = tqdm(images, total=len(files), desc=f"decoding {root.name}", unit="image", disable=not progress)
                for i, image in enumerate(bar):
                    store[i] = image
            store.flush()
            os.replace(partial, target)
        finally:
            partial.unlink(missing_ok=True)
    images = np.load(target, mmap_mode="c")
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def find_folder(name: str, root: str | Path | None) -> Path:
    """The folder that holds `train` and `val` of a set, among the names it is usually unpacked under."""
    root = root or os.environ.get("ZFREPRO_DATA")
    if not root:
        raise FileNotFoundError(f"{name}: set ZFREPRO_DATA (or --data) to the folder that holds {name}/train and {name}/val")
    root = Path(root).expanduser()
    choices = [name, *ALIASES.get(name, ())]
    for choice in choices:
        if (root / choice / "train").is_dir() and (root / choice / "val").is_dir():
            return root / choice
    if (root / "train").is_dir() and (root / "val").is_dir():
        return root
    raise FileNotFoundError(f"{root}: no folder {' or '.join(choices)} with train and val inside; see the README on data")


ALIASES = {
    "imagenette": ("imagenette2-320", "imagenette2", "imagenet20"),
    "imagewoof": ("imagewoof2-320", "imagewoof2", "imagenet20"),
    "imagenet": ("ILSVRC2012", "imagenet1k"),
}


def load_photographs(name: str, image_size: int, *, root: str | Path | None = None, progress: bool = True):
    """A `Dataset` of photographs; see `zfrepro.data.load`."""
    from zfrepro.data import Dataset, Split, cache_root

    folder = find_folder(name, root)
    wnids = WNIDS.get(name)
    folders = sorted(wnids) if wnids else sorted(f.name for f in (folder / "train").iterdir() if f.is_dir())
    if not folders:
        raise DataError(f"{folder / 'train'}: no class folders inside")
    size = stored_size(image_size)
    splits, keys = {}, []
    for part in ("train", "val"):
        files, labels = list_images(folder / part, folders)
        images = decoded(files, folder / part, size, cache_root() / name, progress=progress)
        keys.append(fingerprint(files, folder / part, size))
        splits[part] = Split(images, torch.tensor(labels))
    classes = tuple(wnids[f] for f in folders) if wnids else tuple(folders)
    return Dataset(name, classes, splits["train"], splits["val"], image_size, hashlib.sha256("".join(keys).encode()).hexdigest()[:16])
