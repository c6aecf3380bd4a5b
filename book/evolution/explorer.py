"""Leaf through the epochs of a training in a live kernel."""

import io
from collections.abc import Callable, Sequence

import ipywidgets as widgets
import numpy as np
from PIL import Image
from torch import Tensor

from zfrepro.data import Split
from zfrepro.own_images import Bring
from zfrepro.weights import Trained


class EpochSlider(widgets.VBox):
    """A slider over pictures, one an epoch, with a note below.

    Args:
        pictures: uint8 (E, H, W, 3), see `figures.evolution.pages`.
        epochs: what the E pictures are called.
        notes: a line for each.
        trained: a network that the reader may show images of their own, and
        redraw: what makes the E pictures from these, uint8 (N, 3, R, R). Without it there is no button for them.
    """

    def __init__(
        self, pictures: np.ndarray, epochs: Sequence[int], notes: Sequence[str], *, trained: Trained | None = None,
        redraw: Callable[[Tensor], np.ndarray] | None = None,
    ):  # fmt: skip
        if not len(pictures) == len(epochs) == len(notes):
            raise ValueError(f"{len(pictures)} pictures, {len(epochs)} epochs, {len(notes)} notes: not the same number")
        self.pictures, self.notes, self.redraw = pictures, notes, redraw
        self.epoch = widgets.SelectionSlider(description="epoch", options=[(str(e), i) for i, e in enumerate(epochs)])
        self.view, self.note = widgets.Image(format="png"), widgets.Label()
        own = [Bring(trained, self.take)] if trained and redraw else []
        super().__init__([self.epoch, *own, self.view, self.note])
        self.epoch.observe(lambda _: self.show(), "value")
        self.show()

    def take(self, split: Split) -> None:
        """Draw the epochs on other images instead, such as `own_images.brought(trained, ["my.jpg"])`."""
        self.pictures = self.redraw(split.images)
        self.show()

    def show(self) -> None:
        """Draw the chosen epoch."""
        data = io.BytesIO()
        Image.fromarray(self.pictures[self.epoch.value]).save(data, "PNG")
        self.view.value, self.note.value = data.getvalue(), self.notes[self.epoch.value]
