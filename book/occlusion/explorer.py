"""Move a square over an image in a live kernel, and see what the classifier answers."""

import ipywidgets as widgets
import torch

from book.occlusion.measure import WATCHED, grey
from zfrepro import occlusion
from zfrepro.data import Split
from zfrepro.data.transforms import center_crop
from zfrepro.explorers import picture
from zfrepro.own_images import Bring
from zfrepro.weights import Trained


def notes(found: occlusion.Occlusion, k: int, label: int, classes: tuple[str, ...]) -> list[str]:
    """Describe each position of image k: probabilities of classes, and the activity of layer 5."""
    number = int(found.strongest[k])
    p, activity = found.probabilities[k], found.activity[k, :, :, number]
    clean = found.clean_activity[k, number]
    return [
        f"{classes[label]} {p[i, j, label]:.2f}; "
        f"most probable: {classes[int(p[i, j].argmax())]} {p[i, j].max():.2f}; "
        f"map {number}: {100 * activity[i, j] / clean:.0f} % of its activity"
        for i in range(p.shape[0])
        for j in range(p.shape[1])
    ]


class OcclusionExplorer(widgets.VBox):
    """Choose an image, a square and where it lies; one forward pass answers each move.

    Args:
        trained: the network.
        split: the images.
        start: number of the first image shown.
    """

    def __init__(self, trained: Trained, split: Split, start: int = 0):
        self.trained, self.split = trained, split
        size = trained.recipe.image_size
        patch, _ = occlusion.paper_geometry(size)

        def slider(name: str, last: int, value: int, first: int = 0) -> widgets.IntSlider:
            return widgets.IntSlider(value, first, last, description=name, layout={"width": "60%"})

        self.image = widgets.BoundedIntText(start, 0, len(split) - 1, description="image")
        self.patch = slider("square, px", size, patch, 1)
        self.row = slider("row", size - patch, size // 3)
        self.column = slider("column", size - patch, size // 3)
        self.fill = widgets.Dropdown(options=occlusion.FILLS, description="fill")
        self.view, self.note = widgets.HTML(), widgets.HTML()
        controls = (self.image, self.fill, self.patch, self.row, self.column)
        super().__init__([*controls, Bring(trained, self.take), self.note, self.view])
        for control in controls:
            control.observe(lambda change: self.show(), "value")
        self.show()

    def take(self, split: Split) -> None:
        """Choose among other images instead, such as `own_images.brought(trained, ["my.jpg"])`."""
        self.split = split
        self.image.max, self.image.value = len(split) - 1, 0
        self.show()

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
    def show(self) -> None:
        """Run the network on the covered image and show what it answers."""
        self.row.max = self.column.max = self.trained.recipe.image_size - self.patch.value
        x, square = self.covered()
        found = self.trained.network.features(torch.cat([x, square]), ["conv5", "fc8"])
        clean, covered = found["fc8"].softmax(1)
        sums = found["conv5"].sum((2, 3))
        label, number = int(self.split.labels[self.image.value]), int(sums[0].argmax())
        names, best = self.trained.classes, int(covered.argmax())
        self.note.value = (
            f"<b>{names[label]}</b>: {clean[label]:.3f} without the square, "
            f"{covered[label]:.3f} with it. Now "
            f"<b>{names[best]}</b>, {covered[best]:.3f}. Layer-5 map {number}: "
            f"{100 * sums[1, number] / sums[0, number]:.0f} % of its activity ({WATCHED})."
        )
        mean = center_crop(self.trained.mean[None], self.trained.recipe.image_size)[0]
        pixels = square[0] * self.trained.recipe.input_scale + mean
        self.view.value = picture(pixels, "the image with the square")
