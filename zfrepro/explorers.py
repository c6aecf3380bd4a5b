"""Interactive views for a live kernel, made of ipywidgets."""

import base64
import html
import io

import ipywidgets as widgets
import torch
from PIL import Image
from torch import Tensor

from zfrepro import gallery, plots
from zfrepro.data import Split
from zfrepro.gallery import Top
from zfrepro.own_images import Bring
from zfrepro.weights import Trained


def picture(image: Tensor, alt: str, side: int = 288) -> str:
    """HTML of a picture with its pixels enlarged. image: (3, S, S), 0 to 255."""
    data = io.BytesIO()
    small = Image.fromarray(plots.array(image.clamp(0, 255).byte().cpu()))
    small.resize((side, side), Image.Resampling.NEAREST).save(data, "PNG")
    return f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}">'


class FeatureBrowser(widgets.VBox):
    """Choose a layer and a map; see its nine strongest units as projections and patches.

    Args:
        trained: the network.
        split: the images that were searched.
        tops: what `gallery.top_activations` found on them.
    """

    def __init__(self, trained: Trained, split: Split, tops: dict[str, Top]):
        self.trained, self.split, self.tops = trained, split, tops
        self.layer = widgets.Dropdown(options=list(tops), value="conv3", description="layer")
        self.map = widgets.IntSlider(description="map", continuous_update=False, layout={"width": "60%"})
        self.note = widgets.HTML()
        self.view = widgets.Image(format="png")
        controls = [widgets.HBox([self.layer, self.map]), Bring(trained, self.take)]
        super().__init__([*controls, self.note, self.view])
        self._fit_slider()
        self.layer.observe(lambda _: self._fit_slider(), "value")
        self.map.observe(lambda _: self.show(), "value")
        self.show()

    def take(self, split: Split) -> None:
        """Search other images instead, such as `own_images.brought(trained, ["my.jpg"])`."""
        self.split = split
        batches = map(self._fetch, torch.arange(len(split)).split(32))
        self.tops = gallery.top_activations(self.trained.network, batches, self.tops, progress=False)
        self.show()

    def _fit_slider(self) -> None:
        last = len(self.tops[self.layer.value].values) - 1
        if self.map.value > last:
            self.map.value = last  # redraws by itself
            self.map.max = last
        else:
            self.map.max = last
            self.show()

    def show(self) -> None:
        """Draw the chosen map."""
        top, number = self.tops[self.layer.value], self.map.value
        if not top.values[number, 0] > 0:
            self.note.value = "This map is dead: no image excites it."
            self.view.layout.visibility = "hidden"
            return
        network = self.trained.network
        projections = gallery.projections(network, self._fetch, top, [number])
        patches = gallery.patches(self.trained.center_crop(self.split.images), network, top, [number])
        labels = self.split.labels[top.of([number])[0]]
        names = ", ".join(self.trained.classes[i] for i in labels.tolist())
        self.note.value = f"strongest activation {top.values[number, 0]:.2f}; images of: {names}"
        self.view.value = plots.png(plots.top9(projections, patches, columns=1, width=7))
        self.view.layout.visibility = "visible"

    def _fetch(self, indices):
        return self.trained.preprocess(self.split.images[indices])
