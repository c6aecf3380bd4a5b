"""Move a square over an image in a live kernel, and see what the classifier answers."""

import html

import ipywidgets as widgets
import torch

from book.occlusion.measure import LAYER, SCAN_POSITIONS, grey, slide
from zfrepro import occlusion
from zfrepro.data import Split
from zfrepro.data.transforms import center_crop
from zfrepro.explorers import LiveExplorer, image_html
from zfrepro.weights import Trained


def remaining_activity(number: int, covered: float, clean: float) -> str:
    """Describe what is left of a layer-5 map's activity under the square."""
    if not clean > 0:
        return "layer 5 is silent on this image"
    return f"map {number}: {100 * covered / clean:.0f} % of its activity"


def notes(slid: occlusion.Occlusion, k: int, classes: tuple[str, ...]) -> list[str]:
    """Describe each position of image k: most probable class, and the activity of layer 5."""
    number = int(slid.strongest[k])
    p, activity = slid.probabilities[k], slid.activity[k, :, :, number]
    clean = slid.clean_activity[k, number]
    return [
        f"most probable class: {classes[int(p[i, j].argmax())]}; "
        f"{remaining_activity(number, activity[i, j], clean)}"
        for i in range(p.shape[0])
        for j in range(p.shape[1])
    ]


class OcclusionExplorer(LiveExplorer):
    """Choose an image, a square and where it lies; one forward pass answers each move.

    It opens with the square where it hurts most, of a few places.

    Args:
        trained: the network.
        split: the images.
        start: number of the first image shown.
    """

    def __init__(self, trained: Trained, split: Split, start: int = 0):
        size = trained.recipe.image_size
        patch, _ = occlusion.paper_geometry(size)

        def slider(name: str, first: int, last: int) -> widgets.IntSlider:
            return widgets.IntSlider(
                first, first, last, description=name, continuous_update=False,
                layout={"width": "45%"},
            )  # fmt: skip

        self.image = widgets.IntSlider(
            int(start), 0, len(split) - 1, description="image", continuous_update=False
        )
        self.fill = widgets.ToggleButtons(options=occlusion.FILLS, description="fill")
        self.patch = slider("square, px", 1, size)
        self.row, self.column = slider("row, px", 0, size - 1), slider("column, px", 0, size - 1)
        self.patch.value = patch
        rows = [self.image, self.fill], [self.patch], [self.row, self.column]
        super().__init__(trained, split, *rows)
        with self.computing():
            self.row.value, self.column.value = self.most_harmful()
        self.show()

    def prepare(self) -> None:
        """Start with the first image, the square where it hurts most."""
        self.image.max, self.image.value = len(self.split) - 1, 0
        self.row.value, self.column.value = self.most_harmful()

    def most_harmful(self) -> tuple[int, int]:
        """Return row and column at which the square lowers the probability of the class most."""
        index = self.image.value
        x = self.trained.preprocess(self.split.images[[index]])
        slid = slide(self.trained, x, self.patch.value, SCAN_POSITIONS, layer=None)
        p = slid.probabilities[0, :, :, int(self.split.labels[index])]
        row, column = divmod(int(p.argmin()), p.shape[1])
        return int(slid.rows[row]), int(slid.columns[column])

    def covered(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the chosen image and the covered one, as the network wants them: (1, 3, S, S)."""
        x = self.trained.preprocess(self.split.images[[self.image.value]])
        patch, generator = self.patch.value, torch.Generator().manual_seed(0)
        fill = occlusion.filling(
            self.fill.value, x, patch, grey=grey(self.trained), generator=generator
        )
        square = x.clone()
        rows, columns = (slice(k.value, k.value + patch) for k in (self.row, self.column))
        square[..., rows, columns] = fill[..., rows, columns]
        return x, square

    @torch.inference_mode()
    def draw(self) -> tuple[str, str]:
        """Run the network on the covered image and describe what it answers."""
        self.row.max = self.column.max = self.trained.recipe.image_size - self.patch.value
        x, square = self.covered()
        features = self.trained.network.features(torch.cat([x, square]), ["conv5", "fc8"])
        clean, covered = features["fc8"].softmax(1)
        sums = features["conv5"].sum((2, 3))
        label, number = int(self.split.labels[self.image.value]), int(sums[0].argmax())
        names, best = list(map(html.escape, self.trained.classes)), int(covered.argmax())
        note = (
            f"<b>{names[label]}</b>: {clean[label]:.3f} without the square, "
            f"{covered[label]:.3f} with it. Most probable now: "
            f"<b>{names[best]}</b>, {covered[best]:.3f}. Of {LAYER}, "
            f"{remaining_activity(number, float(sums[1, number]), float(sums[0, number]))}."
        )
        mean = center_crop(self.trained.mean[None], self.trained.recipe.image_size)[0]
        pixels = square[0] * self.trained.recipe.input_scale + mean
        return note, image_html(pixels, "the image with the square")
