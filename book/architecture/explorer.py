"""One first-layer filter and one grating or picture, in a live kernel."""

import io
from collections.abc import Mapping

import ipywidgets as widgets
from PIL import Image

from book.architecture.figures import NAMES, as_bytes
from book.architecture.gratings import answer, bench, direction_of
from zfrepro.data import Split
from zfrepro.own_images import Bring
from zfrepro.weights import Trained

GRATING = "a grating"


class FilterBench(widgets.VBox):
    """Choose a network, one of its filters, and a grating or a picture: the answer, and what the stride leaves of it.

    Args:
        networks: by architecture, see `figures.architecture.NAMES`.
        split: the pictures to choose from.
    """

    def __init__(self, networks: Mapping[str, Trained], split: Split):
        self.networks, self.split = networks, split
        self.network = widgets.Dropdown(description="network", options=[(NAMES[arch], arch) for arch in networks])
        self.filter = widgets.IntSlider(description="filter", continuous_update=False)
        self.frequency = widgets.FloatSlider(
            description="frequency", min=0.02, max=0.5, step=0.02, value=0.16, continuous_update=False
        )
        self.direction = widgets.IntSlider(description="direction", max=180, step=5, continuous_update=False)
        self.seen = widgets.Dropdown(description="sees")
        self.view, self.note = widgets.Image(format="png"), widgets.Label()
        bring = Bring(next(iter(networks.values())), self.take)
        choices = [widgets.HBox([self.network, self.filter]), widgets.HBox([self.seen, bring])]
        super().__init__([*choices, widgets.HBox([self.frequency, self.direction]), self.view, self.note])
        self._list_pictures()
        self.network.observe(lambda _: self._fit(), "value")
        self.filter.observe(lambda _: self._turn(), "value")
        for control in (self.frequency, self.direction, self.seen):
            control.observe(lambda _: self.show(), "value")
        self._fit()

    def take(self, split: Split) -> None:
        """Choose among other images instead, such as `own_images.brought(trained, ["my.jpg"])`."""
        self.split = split
        self._list_pictures()
        self.seen.value = 0

    def _list_pictures(self) -> None:
        self.seen.options = [(GRATING, GRATING), *((f"image {i}", i) for i in range(len(self.split)))]
        self.seen.value = GRATING

    @property
    def trained(self) -> Trained:
        """The chosen network."""
        return self.networks[self.network.value]

    def _fit(self) -> None:
        """Let the slider reach all filters of the chosen network."""
        self.filter.max = len(self.trained.network.convs["conv1"].weight) - 1
        self._turn()

    def _turn(self) -> None:
        """Turn the grating the filter's own way, from where the reader may turn it on."""
        weight = self.trained.network.convs["conv1"].weight
        self.direction.value = round(direction_of(weight[self.filter.value].detach().cpu()) / 5) * 5
        self.show()

    def show(self) -> None:
        """Draw the filter, its spectrum, what it sees, and its answer at every pixel and at the stride's."""
        network, number = self.trained.network, self.filter.value
        if self.seen.value == GRATING:
            image, self.note.value = bench(network, number, self.frequency.value, self.direction.value, side=120)
        else:
            stored = self.split.images[self.seen.value][None]
            shown = self.trained.seen(stored)[0].float() / 255
            image, share = answer(network, number, shown, self.trained.normalised(stored)[0], side=120)
            self.note.value = f"filter {number}, image {self.seen.value}: the stride aliases {100 * share:.0f} % of it"
        data = io.BytesIO()
        Image.fromarray(as_bytes(image[None])[0]).save(data, "PNG")
        self.view.value = data.getvalue()
