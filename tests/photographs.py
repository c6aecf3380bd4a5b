"""Miniature photograph folders, made up on the spot."""

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = ((220, 40, 30), (30, 200, 60), (40, 60, 220))


def picture(label: int, number: int, width: int = 40, height: int = 32) -> Image.Image:
    """Noise around a colour that gives the class away."""
    noise = np.random.default_rng(1000 * label + number).integers(-30, 30, (height, width, 3))
    return Image.fromarray((np.array(COLOURS[label]) + noise).clip(0, 255).astype(np.uint8))


def photographs(
    root: Path, name: str = "imagenet", *, train: int = 4, val: int = 2, classes: int = 3
) -> Path:
    """`root/name/{train,val}/class*/N.png`, and the folder `root/name`."""
    for part, count in (("train", train), ("val", val)):
        for label in range(classes):
            folder = root / name / part / f"class{label}"
            folder.mkdir(parents=True)
            for i in range(count):
                picture(label, i + 100 * (part == "val")).save(folder / f"{i}.png")
    return root / name


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below a folder with size and time, to show that nothing was written."""
    return {
        str(f.relative_to(folder)): (f.stat().st_size, f.stat().st_mtime_ns)
        for f in folder.rglob("*")
        if f.is_file()
    }
