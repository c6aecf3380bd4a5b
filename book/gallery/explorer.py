"""Browse every map of every layer in a live kernel."""

import html

import ipywidgets as widgets

from book.gallery import figures
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
        start: the map of the last layer that is shown first; default, the one excited most.
    """

    def __init__(
        self, trained: Trained, split: Split, tops: dict[str, Top], start: int | None = None
    ):
        self.tops = self.book_tops = tops
        last = list(tops)[-1]
        if start is None:
            start = int(tops[last].values[:, 0].argmax())
        self.layer = widgets.ToggleButtons(options=list(tops), value=last, description="layer")
        self.map = widgets.IntText(start, description="map", continuous_update=False)
        super().__init__(trained, split, [self.layer, self.map])
        self.show()

    def prepare(self) -> None:
        """Search the images of the reader."""
        self.tops = self.book_tops
        if not self.labelled:
            x, layers = self.trained.preprocess(self.split.images), list(self.book_tops)
            self.tops = gallery.top_units(self.trained.network, x, layers, progress=False)

    def draw(self) -> tuple[str, str]:
        """Return what excites the chosen map, and its pictures."""
        layer, number = self.layer.value, self.map.value
        top = self.tops[layer]
        last = len(top.values) - 1
        if not 0 <= number <= last:
            return f"{layer} has maps 0 to {last}, and no map {number}.", ""
        if not top.responds([number]).any():
            if self.labelled:
                return f"Map {number} is dead: no image of the book excites it.", ""
            return f"None of your images excites map {number}.", ""
        note = figures.described(self.trained, top, number, self.split.labels)
        if not self.labelled:
            note += ", as the network calls them"
        figure = figures.fig2(self.trained, self.split, self.tops, {layer: [number]})
        alt = f"{layer}, map {number}: projections and patches"
        return html.escape(note), figure_html(plots.png(figure), alt)
