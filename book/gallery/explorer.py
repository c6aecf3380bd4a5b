"""Browse every map of every layer in a live kernel."""

import ipywidgets as widgets

from zfrepro import gallery, plots
from zfrepro.data import Split
from zfrepro.explorers import LiveExplorer, figure_html
from zfrepro.gallery import Top
from zfrepro.weights import Trained


class FeatureBrowser(LiveExplorer):
    """Choose a layer and a map; see its nine strongest units as projections and patches.

    Args:
        trained: the network.
        split: the images that were searched.
        tops: what `gallery.top_units` found on them.
        start: number of the first map shown, in the last layer.
    """

    def __init__(self, trained: Trained, split: Split, tops: dict[str, Top], start: int = 0):
        self.tops, self.book_tops = tops, tops
        names = list(tops)
        last = len(tops[names[-1]].values) - 1
        self.layer = widgets.Dropdown(options=names, value=names[-1], description="layer")
        self.map = widgets.BoundedIntText(start, 0, last, description="map")
        super().__init__(trained, split, [self.layer, self.map])
        self.show()

    def prepare(self) -> None:
        """Search the images of the reader."""
        self.tops = self.book_tops
        if not self.labelled:
            x = self.trained.preprocess(self.split.images)
            self.tops = gallery.top_units(self.trained.network, x, self.tops, progress=False)

    def draw(self) -> tuple[str, str]:
        """Return what excites the chosen map, and its pictures."""
        top = self.tops[self.layer.value]
        self.map.max = len(top.values) - 1
        number = self.map.value
        shown = top.responds([number])[0]
        if not shown.any():
            images = "image of the book" if self.labelled else "one of your images"
            return f"map {number}: no {images} excites it", ""
        x = self.trained.preprocess(self.split.images)
        seen = self.trained.center_crop(self.split.images)
        projections = gallery.projections(self.trained.network, x, top, [number])
        patches = gallery.patches(self.trained.network, seen, top, [number])
        figure = plots.top9(projections[:, shown], patches[:, shown], columns=1)
        labels = self.split.labels[top.of([number])[0]]
        names = ", ".join(self.trained.classes[i] for i in labels.tolist())
        text = f"strongest activation {top.values[number, 0]:.2f}; images of: {names}"
        alt = f"Projections and patches of map {number} of {self.layer.value}"
        return text, figure_html(plots.png(figure), alt)
