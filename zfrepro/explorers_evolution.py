"""Leaf through the epochs of a training in a live kernel."""

import io
from collections.abc import Sequence

import ipywidgets as widgets
import numpy as np
from PIL import Image


class EpochSlider(widgets.VBox):
    """A slider over pictures, one an epoch, with a note below.

    Args:
        pictures: uint8 (E, H, W, 3), see `figures.evolution.pages`.
        epochs: what the E pictures are called.
        notes: a line for each.
    """

    def __init__(self, pictures: np.ndarray, epochs: Sequence[int], notes: Sequence[str]):
        if not len(pictures) == len(epochs) == len(notes):
            raise ValueError(f"{len(pictures)} pictures, {len(epochs)} epochs, {len(notes)} notes: not the same number")
        self.pictures, self.notes = pictures, notes
        self.epoch = widgets.SelectionSlider(description="epoch", options=[(str(e), i) for i, e in enumerate(epochs)])
        self.view, self.note = widgets.Image(format="png"), widgets.Label()
        super().__init__([self.epoch, self.view, self.note])
        self.epoch.observe(lambda _: self.show(), "value")
        self.show()

    def show(self) -> None:
        """Draw the chosen epoch."""
        data = io.BytesIO()
        Image.fromarray(self.pictures[self.epoch.value]).save(data, "PNG")
        self.view.value, self.note.value = data.getvalue(), self.notes[self.epoch.value]
