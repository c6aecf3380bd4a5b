"""Shift, enlarge and turn any image in a live kernel, and see what the network says."""

import html

import ipywidgets as widgets
import torch

from book.invariance.figures import UNITS, notes
from book.invariance.warps import FAMILIES, FILLS, respond_to, warp_view
from zfrepro.data import Split
from zfrepro.explorers import LiveExplorer, image_html
from zfrepro.weights import Trained

RANGES = {  # lowest amount, highest, and where it starts
    "translation": (-60.0, 60.0, 30.0),
    "scale": (1.0, 1.8, 1.4),
    "rotation": (0.0, 350.0, 90.0),
}


class TransformExplorer(LiveExplorer):
    """Choose an image, a transformation, its amount and the fill; each move is one forward pass.

    It opens on an image turned by 90 degrees.

    Args:
        trained: the network.
        split: the images to choose from.
        between: layer -> mean distance between two images; see the record.
    """

    def __init__(self, trained: Trained, split: Split, between: dict[str, float]):
        self.between = between
        self.image = widgets.IntSlider(
            description="image", max=len(split) - 1, continuous_update=False
        )
        self.family = widgets.ToggleButtons(
            description="change", options=FAMILIES, value="rotation"
        )
        self.fill = widgets.ToggleButtons(description="fill", options=tuple(FILLS))
        self.amount = widgets.FloatSlider(
            continuous_update=False, style={"description_width": "initial"}, layout={"width": "60%"}
        )
        rows = [self.family, self.fill], [self.image, self.amount]
        self.family.observe(lambda _: self._fit_range(), "value")  # before it is drawn
        super().__init__(trained, split, *rows)
        self._fit_range()
        self.show()

    def prepare(self) -> None:
        """Start with the first image."""
        self.image.max, self.image.value = len(self.split) - 1, 0

    def _fit_range(self) -> None:
        low, high, start = RANGES[self.family.value]
        with self.computing():
            # Widened first, since a slider refuses a lowest value above its highest.
            self.amount.min, self.amount.max = min(low, self.amount.min), max(high, self.amount.max)
            self.amount.value = start
            self.amount.min, self.amount.max = low, high
            self.amount.step = (high - low) / 40
            self.amount.description = f"amount, {UNITS[self.family.value]}"

    def draw(self) -> tuple[str, str]:
        """Draw the chosen image as it is changed, and describe what the network answers."""
        family, amount, index = self.family.value, self.amount.value, self.image.value
        amount = amount / 224 if family == "translation" else amount
        pair = torch.tensor([index, (index + 1) % len(self.split)])  # `respond` compares two
        seen = self.trained.center_crop(self.split.images[pair])
        labels, classes = self.split.labels[pair], self.trained.classes
        response = respond_to(self.trained, seen, labels, family, [amount], self.fill.value)
        (note,) = notes(
            response, family, [amount], 0, classes, self.between, labelled=self.labelled
        )
        pixels = warp_view(self.trained, seen[:1], family, amount, self.fill.value)[0]
        return html.escape(note), image_html(pixels, "the transformed image")
