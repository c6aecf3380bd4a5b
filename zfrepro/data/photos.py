"""Photographs in torchvision's folder layout, decoded once into a uint8 cache."""

import hashlib
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

from zfrepro.records import DAY, read_json, remove_partial, write_json, writing

# torchvision's
SUFFIXES = {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"}
ORIENTATION = 0x0112  # EXIF tag
# Pillow's own `exif_transpose` raises where it cannot write damaged EXIF data back
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90,
}  # fmt: skip
AHEAD = 256  # images decoded at once
DECODER = 2  # raised when the same file is decoded to other pixels

IMAGENETTE = {
    "n01440764": "tench", "n02102040": "English springer", "n02979186": "cassette player",
    "n03000684": "chain saw", "n03028079": "church", "n03394916": "French horn",
    "n03417042": "garbage truck", "n03425413": "gas pump", "n03445777": "golf ball",
    "n03888257": "parachute",
}  # fmt: skip
IMAGEWOOF = {
    "n02086240": "Shih-Tzu", "n02087394": "Rhodesian ridgeback", "n02088364": "beagle",
    "n02089973": "English foxhound", "n02093754": "Border terrier",
    "n02096294": "Australian terrier", "n02099601": "golden retriever",
    "n02105641": "Old English sheepdog", "n02111889": "Samoyed", "n02115641": "dingo",
}  # fmt: skip
WNIDS = {"imagenette": IMAGENETTE, "imagewoof": IMAGEWOOF, "imagenet20": IMAGENETTE | IMAGEWOOF}


class DataError(ValueError):
    """Data that cannot be used, with the file and the remedy in one line."""


def list_images(folder: Path, classes: list[str]) -> tuple[list[Path], list[int]]:
    """List all images under `folder`, class by class in the given order, and their labels."""
    files: list[Path] = []
    labels: list[int] = []
    left_out: Counter[str] = Counter()
    for label, name in enumerate(classes):
        class_files = []
        for file in walk(folder / name):
            if file.suffix.lower() in SUFFIXES and file.is_file():
                class_files.append(file)
            else:
                kind = file.suffix.lower() or "no suffix"
                left_out[kind if file.exists() else "dangling links"] += 1
        class_files.sort()
        if not class_files:
            raise DataError(
                f"{folder / name}: no images ({', '.join(sorted(SUFFIXES))}); each class needs at "
                "least one"
            )
        files += class_files
        labels += [label] * len(class_files)
    if left_out and folder not in _reported:
        _reported.add(folder)
        counts = ", ".join(f"{count:,} {kind}" for kind, count in sorted(left_out.items()))
        print(f"{folder}: left out what is no image by its name: {counts}", file=sys.stderr)
    return files, labels


_reported: set[Path] = set()  # folders whose other files were counted aloud, once a process


def walk(folder: Path) -> Iterator[Path]:
    """List every file below a folder, following links, without what a file manager keeps.

    Raises:
        OSError: a folder that may not be read; its images would be missing unseen.
    """

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise error

    seen = set()
    for top, folders, names in os.walk(folder, followlinks=True, onerror=refuse):
        seen.add(os.path.realpath(top))
        folders[:] = [
            f for f in folders if f[0] != "." and os.path.realpath(os.path.join(top, f)) not in seen
        ]
        yield from (Path(top) / name for name in names if name[0] != ".")


TRAIN_A_CLASS, VAL_A_CLASS = 30, 50  # of Caltech-101, section 5.2; the 50 are at most


def list_part(folder: Path, part: str, classes: list[str]) -> tuple[list[Path], list[int]]:
    """List images and labels of `train` or `val`.

    They are in folders of these names or, in a set without, drawn class by class. The draw orders
    each class by a hash of the file names: the same on every machine, and unlike the sorted order.
    """
    if (folder / part).is_dir():
        return list_images(folder / part, classes)
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        class_files, _ = list_images(folder, [name])
        class_files.sort(key=lambda f: hashlib.sha256(os.fsencode(f.name)).hexdigest())
        if len(class_files) <= TRAIN_A_CLASS:
            raise DataError(
                f"{folder / name}: {len(class_files)} images; "
                f"needs more than {TRAIN_A_CLASS}, to leave some"
            )
        train, rest = class_files[:TRAIN_A_CLASS], class_files[TRAIN_A_CLASS:]
        drawn = train if part == "train" else rest[:VAL_A_CLASS]
        files += drawn
        labels += [label] * len(drawn)
    return files, labels


def decode(file: Path, size: int) -> np.ndarray:
    """Decode a file: shorter side resized to `size` px, central square (section 3).

    Returns uint8 (size, size, 3).
    """
    try:
        with Image.open(file) as image:
            image.draft("RGB", (size, size))
            return square(image, size)
    except Exception as error:  # of damaged files Pillow's decoders raise almost anything
        remedy = "replace or remove it, or skip such files: --skip-damaged, ZFREPRO_SKIP_DAMAGED=1"
        raise DataError(f"{file}: cannot be decoded ({_reason(error, file)}); {remedy}") from error


def square(image: Image.Image, size: int) -> np.ndarray:
    """Return the central square of an opened image, upright and resized.

    Returns uint8 (size, size, 3), of an image of any mode.

    Raises:
        ValueError: pixels without a fixed range, such as a float TIFF's.
    """
    upright = to_rgb(image)
    # read when the pixels are: Pillow itself turns a TIFF, and takes the tag off
    turn = TURNS.get(image.getexif().get(ORIENTATION))
    image = upright.transpose(turn) if turn is not None else upright
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box, reducing_gap=3))


def _reason(error: BaseException, file: Path) -> str:
    return " ".join(str(error).replace(str(file), "it").split()) or type(error).__name__


def to_rgb(image: Image.Image) -> Image.Image:
    """Return an image of any mode as 8-bit RGB; ValueError for pixels without a fixed range.

    Grey of 16 bits, which Pillow would clip at 255, is divided by 257; what is transparent shows
    white.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        grey = np.asarray(image).astype(np.float32) / 257
        return Image.fromarray(grey.round().clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError("its pixels have no fixed range; save it with 8 or 16 bits")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _digest(lines: list[str]) -> str:
    return hashlib.sha256(os.fsencode("\n".join(lines))).hexdigest()[:16]  # names of any bytes


def fingerprint(folder: Path, classes: list[str]) -> str:
    """Return a hash over names and sizes of all files of a set, whatever the resolution."""
    lines = []
    for part in ("train", "val"):
        for f in list_part(folder, part, classes)[0]:
            lines.append(f"{f.relative_to(folder)} {f.stat().st_size}")
    return _digest(lines)


def load_images(
    files: list[Path], root: Path, size: int, cache: Path, *, skip_damaged: bool = False,
    progress: bool = True,
) -> tuple[torch.Tensor, dict[Path, str]]:  # fmt: skip
    """Return images as one uint8 tensor (N, 3, size, size), channels-last, and what was left out.

    They come from the cache or are decoded into it. The cache is one `.npy` a split, mapped and
    not read, written under another name and renamed when whole. Its key covers names, sizes and
    times of the files.

    Args:
        skip_damaged: leave out files that cannot be decoded, with the reason. They are listed
            beside the cache, under the same key, so that a mended file is looked at again.
    Raises:
        DataError: an image cannot be decoded, or of those that may be left out, not one can.
        OSError: a file or the cache cannot be read or written, with its name.
    """
    target = _cache_file(files, root, size, cache)
    list_file = target.with_suffix(".damaged.json")
    if skip_damaged and list_file.is_file():
        bad = {root / name: reason for name, reason in read_json(list_file).items()}
    else:
        try:
            return _decoded(files, target, size, f"decoding {root.name}", progress), {}
        except DataError:
            if not skip_damaged:
                raise
        bad = _damaged(files, size, f"checking {root.name}", progress)
        write_json(list_file, {str(file.relative_to(root)): reason for file, reason in bad.items()})
    sound = [file for file in files if file not in bad]
    if not sound:
        raise DataError(f"{root}: none of its {len(files):,} images can be decoded")
    return load_images(sound, root, size, cache, progress=progress)[0], bad


def _decoded(files: list[Path], target: Path, size: int, what: str, progress: bool) -> torch.Tensor:
    shape = (len(files), size, size, 3)
    images = _cached(target, shape)
    if images is None:
        _write_array(target, shape, _each(files, lambda file: decode(file, size), what, progress))
        images = np.load(target, mmap_mode="c")
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def _cache_file(files: list[Path], root: Path, size: int, cache: Path) -> Path:
    stats = [f.stat() for f in files]
    lines = [
        f"{f.relative_to(root)} {s.st_size} {s.st_mtime_ns}"
        for f, s in zip(files, stats, strict=True)
    ]
    return cache / f"{root.name}-{size}-{DECODER}-{_digest(lines)}.npy"


def _damaged(files: list[Path], size: int, what: str, progress: bool) -> dict[Path, str]:
    def reason(file: Path) -> str:
        try:
            decode(file, size)
        except DataError as error:
            if isinstance(error.__cause__, MemoryError) or getattr(error.__cause__, "errno", None):
                raise  # a full memory or a failing disk, not a damaged image
            return _reason(error.__cause__ or error, file)
        return ""

    reasons = _each(files, reason, what, progress)
    return {file: text for file, text in zip(files, reasons, strict=True) if text}


def _cached(file: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return the mapped cache, or None where there is none or it is damaged."""
    try:
        images = np.lib.format.open_memmap(file, mode="c")
    except Exception:  # absent or cut short; a damaged header raises almost anything
        return None
    return images if images.shape == shape and images.dtype == np.uint8 else None


def _each(files: list[Path], function: Callable, what: str, progress: bool) -> Iterator:
    """Yield `function` of each file, by threads, a few ahead: a large set never lies in memory."""
    with (
        ThreadPoolExecutor() as pool,
        tqdm(desc=what, total=len(files), unit="image", disable=not progress) as bar,
    ):
        for start in range(0, len(files), AHEAD):
            for result in pool.map(function, files[start : start + AHEAD]):
                bar.update()
                yield result


def _write_array(file: Path, shape: tuple[int, ...], rows: Iterable[np.ndarray]) -> None:
    """Write uint8 rows to an `.npy` file, renamed when whole.

    By plain writes: on a full disk they raise, where a write to a mapped file kills the process.
    """
    descr = np.lib.format.dtype_to_descr(np.dtype(np.uint8))
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    with writing(file) as stream:
        remove_partial(file.parent, DAY)
        np.lib.format.write_array_header_1_0(stream, header)
        for row in rows:
            stream.write(np.ascontiguousarray(row).data)


# Names under which the sets are usually unpacked. ImageNet-20 holds the two smaller sets; the
# archive of Kaggle has a val whose images lie flat, which `class_folders` tells.
ALIASES = {
    "imagenette": ("imagenette2-320", "imagenette2", "imagenet20"),
    "imagewoof": ("imagewoof2-320", "imagewoof2", "imagenet20"),
    # the last three: Kaggle's archive, from three of its folders
    "imagenet": ("ILSVRC2012", "imagenet1k", "ILSVRC/Data/CLS-LOC", "Data/CLS-LOC", "CLS-LOC"),
}

FLAT = {"caltech101": ("caltech101/101_ObjectCategories", "caltech101", "101_ObjectCategories")}
"""Sets that come without `train` and `val`, and the folders that hold their class folders."""


def is_path(name: str) -> bool:
    """Return whether a data set is named by its folder: anything with a separator in it."""
    return "/" in name or os.sep in name or name in (".", "..")


def find_folder(name: str, root: str | Path | None) -> Path:
    """Return the folder that holds `train` and `val` of a set, or else its class folders.

    A path is the folder itself, whatever lies around or in it.
    """
    if is_path(name):
        folder = Path(name).expanduser().resolve()
        if folder.name not in FLAT or (folder / "train").is_dir():
            return folder
        name, root = folder.name, folder.parent
    root = root or os.environ.get("ZFREPRO_DATA")
    layout = f"{name}/CLASS/" if name in FLAT else f"{name}/train/CLASS/ and {name}/val/CLASS/"
    if not root:
        raise DataError(f"{name}: set ZFREPRO_DATA (or --data) to the folder that holds {layout}")
    root = Path(root).expanduser()
    for choice in FLAT.get(name, ()):
        if (root / choice).is_dir():
            return root / choice
    choices = [name, *ALIASES.get(name, ())]
    for folder in [*(root / choice for choice in choices), root]:
        if (folder / "train").is_dir() and (folder / "val").is_dir():
            return folder
    raise DataError(
        f"{root}: no {layout} inside; `python -m zfrepro data {name} --data {root} --download` "
        "fetches them or says where they are"
    )


def class_folders(name: str, folder: Path) -> dict[str, str]:
    """Return class folder -> class name, in the order of the labels.

    A set that is named by its path has the classes that are there, under words where the set of
    the folder's name has them.

    Raises DataError for no class folders, only one, or other ones in train than in val.
    """
    if name in WNIDS:
        return dict(sorted(WNIDS[name].items()))

    def below(part: Path) -> list[str]:
        return sorted(f.name for f in part.iterdir() if f.is_dir() and not f.name.startswith("."))

    flat = not (folder / "train").is_dir()
    top, layout = (folder, "CLASS/") if flat else (folder / "train", "train/CLASS/")
    classes = below(top)
    if not classes:
        raise DataError(f"{top}: no class folders inside; images must lie in {layout}")
    val_classes = classes if flat else below(folder / "val")
    if not val_classes and any(f.suffix.lower() in SUFFIXES for f in walk(folder / "val")):
        raise DataError(
            f"{folder / 'val'}: the images lie flat; move each into the folder of its class, "
            "val/CLASS/ (for ImageNet, LOC_val_solution.csv or the development kit tells the "
            "WordNet number of each file)"
        )
    if odd := sorted(set(classes) ^ set(val_classes)):
        raise DataError(
            f"{folder}: class folder {odd[0]!r} is in only one of train and val; "
            "both need the same classes"
        )
    if len(classes) == 1:
        raise DataError(
            f"{top}: only one class folder, {classes[0]!r}; a network needs two: add another"
        )
    words = WNIDS.get(folder.name, {})
    return {folder_name: words.get(folder_name, folder_name) for folder_name in classes}


FETCHED = {
    "imagenette": ("imagenette2-320", "Imagenette", {"split": "train", "size": "320px"}),
    "caltech101": ("caltech101", "Caltech101", {}),
}
"""Sets that torchvision downloads: the folder it makes, its class and the options of that."""
ELSEWHERE = {
    "diorama": "it is drawn, leave --download out",
    "imagewoof": "get imagewoof2-320.tgz from github.com/fastai/imagenette and unpack it",
    "imagenet20": "put the classes of Imagenette and Imagewoof together as imagenet20/train "
    "and imagenet20/val",
    "imagenet": "ILSVRC-2012 needs an account at image-net.org; lay it out as "
    "imagenet/{train,val}/WNID",
}


def download(name: str, root: Path) -> Path:
    """Fetch a set that torchvision knows, with its hash check, and return its folder.

    It is fetched into a folder beside its own, renamed when whole, unless it is there already.
    For another set, DataError says where to get it.
    """
    if name in ELSEWHERE:
        raise DataError(f"{name} cannot be downloaded from here: {ELSEWHERE[name]} (folder {root})")
    if name not in FETCHED:
        raise DataError(
            f"unknown data set {name!r}; there are: {', '.join((*FETCHED, *ELSEWHERE))}"
        )
    from torchvision import datasets

    folder, kind, options = FETCHED[name]
    if not any((root / folder).glob("*")):
        root.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(".part", f".{folder}.", root) as partial:
            getattr(datasets, kind)(partial, **options, download=True)
            os.replace(Path(partial) / folder, root / folder)
    return find_folder(name, root)
