"""Shift, enlarge and turn any image in a live kernel, and see what the network says."""

import ipywidgets as widgets
import torch

from book.invariance.figures import notes
from zfrepro.data import Split
from zfrepro.explorers import picture
from zfrepro.invariance import FAMILIES, FILLS, Change, respond_to, warp_view
from zfrepro.own_images import Bring
from zfrepro.weights import Trained

RANGES = {
    "translation": (-60.0, 60.0, 0.0),
    "scale": (1.0, 1.8, 1.0),
    "rotation": (0.0, 350.0, 0.0),
}


class TransformExplorer(widgets.VBox):
    """Choose an image, a transformation, its amount and the fill; each move is one forward pass.

    Args:
        trained: the network.
        split: the images to choose from.
        between: layer -> mean distance between two images; see the record.
    """

    def __init__(self, trained: Trained, split: Split, between: dict[str, float]):
        self.trained, self.split, self.between = trained, split, between
        self.image = widgets.IntSlider(
            description="image", max=len(split) - 1, continuous_update=False
        )
        self.family = widgets.Dropdown(description="change", options=FAMILIES)
        self.fill = widgets.Dropdown(description="fill", options=tuple(FILLS))
        self.amount = widgets.FloatSlider(description="amount", continuous_update=False)
        self.note, self.view = widgets.HTML(), widgets.HTML()
        controls = [
            widgets.HBox([self.image, self.family, self.fill]),
            self.amount,
            Bring(trained, self.take),
        ]
        super().__init__([*controls, self.note, self.view])
        self._fit_range()
        self.family.observe(lambda _: self._fit_range(), "value")
        for control in (self.image, self.fill, self.amount):
            control.observe(lambda _: self.show(), "value")

    def take(self, split: Split) -> None:
        """Choose among other images instead, such as `own_images.brought(trained, ["my.jpg"])`."""
        self.split = split
        self.image.max, self.image.value = len(split) - 1, 0
        self.show()

    def _fit_range(self) -> None:
        low, high, start = RANGES[self.family.value]
        # Widened first, since a slider refuses a lowest value above its highest.
        self.amount.min, self.amount.max = min(low, self.amount.min), max(high, self.amount.max)
        self.amount.value = start
        self.amount.min, self.amount.max, self.amount.step = low, high, (high - low) / 40
        self.show()

    def show(self) -> None:
        """Draw the chosen image as it is changed, and describe what the network answers."""
        family, index = self.family.value, self.image.value
        amount = self.amount.value / 224 if family == "translation" else self.amount.value
        change = Change(family, amount)
        pair = torch.tensor(
            [index, (index + 1) % len(self.split)]
        )  # `respond` compares at least two images
        seen = self.trained.center_crop(self.split.images[pair])
        found = respond_to(self.trained, seen, self.split.labels[pair], [change], self.fill.value)
        self.note.value = notes(found, family, [amount], 0, self.trained.classes, self.between)[0]
        pixels = warp_view(self.trained, seen[:1], change, self.fill.value)[0]
        self.view.value = picture(pixels, "the transformed image")
