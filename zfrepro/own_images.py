"""Pictures that the reader brings: cut as the networks of this package want them, and the button that takes them."""

import html
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import ipywidgets as widgets
import torch
from PIL import Image

from zfrepro.data import DataError, Split
from zfrepro.data.photos import square
from zfrepro.weights import Trained

UNLABELLED = "Your images come without labels: their class is what the network calls them, as they are."


def brought(trained: Trained, files: Sequence[str | Path] | Mapping[str, BinaryIO]) -> Split:
    """Pictures from disk, or open files by name, as stored images: cut square, and turned as the camera says.

    Nobody has labelled them: each has the label that the network finds most probable.

    Raises:
        DataError: no picture, or one that cannot be read, by name.
    """
    found = []
    for name, file in files.items() if isinstance(files, Mapping) else zip(files, files, strict=True):
        try:
            with Image.open(file) as image:
                found.append(torch.tensor(square(image, trained.mean.shape[-1])))
        except Exception as error:  # Pillow's decoders raise almost anything, see `photos.decode`
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DataError(f"{name}: not a picture that can be read ({reason}); bring another") from error
    if not found:
        raise DataError("no pictures: name at least one file")
    images = torch.stack(found).permute(0, 3, 1, 2)
    return Split(images, trained.predict_proba(images).argmax(1).cpu())


class Bring(widgets.VBox):
    """A button that takes pictures from the reader's disk or camera, and a line that says what became of them.

    Args:
        trained: the network that will see them.
        take: what is done with them.
    """

    def __init__(self, trained: Trained, take: Callable[[Split], None]):
        self.trained, self.take = trained, take
        self.upload = widgets.FileUpload(accept="image/*", multiple=True, description="your images")
        self.note = widgets.HTML()
        super().__init__([self.upload, self.note])
        self.upload.observe(self._brought, "value")

    def _brought(self, change: dict) -> None:
        files = {file["name"]: io.BytesIO(file["content"]) for file in change["new"]}
        if not files:
            return
        try:
            split = brought(self.trained, files)
        except DataError as error:
            self.note.value = html.escape(str(error))
            return
        self.note.value = UNLABELLED
        self.take(split)
