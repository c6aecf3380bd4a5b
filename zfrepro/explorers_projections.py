"""A bench for a live kernel: choose a unit, and what its projection is drawn with."""

import ipywidgets as widgets
import torch

from zfrepro import gallery, plots, projections
from zfrepro import picture_measures as measures
from zfrepro.data import Split
from zfrepro.gallery import Top
from zfrepro.own_images import Bring
from zfrepro.weights import Trained


class ProjectionBench(widgets.VBox):
    """The strongest unit of a map, projected as it should be and in another way, with their likeness in numbers.

    Args:
        trained: the network.
        split: the images that were searched.
        tops: what `gallery.top_units` found, by layer.
        searched: (N,) which image of the split each image of `tops` is.
    """

    def __init__(self, trained: Trained, split: Split, tops: dict[str, Top], searched: torch.Tensor):
        self.trained, self.split, self.tops, self.searched = trained, split, tops, searched
        ways = [*projections.RULES, *(f"{name} switches" for name in projections.SWITCHES[1:]), "another unit"]
        self.layer = widgets.Dropdown(options=list(tops), value=list(tops)[-1], description="layer")
        self.map = widgets.BoundedIntText(description="map", max=10_000)
        self.way = widgets.Dropdown(options=ways, value="another unit", description="drawn with")
        self.note, self.view = widgets.HTML(), widgets.Image(format="png")
        controls = [widgets.HBox([self.layer, self.map, self.way]), Bring(trained, self.take)]
        super().__init__([*controls, self.note, self.view])
        for control in (self.layer, self.map, self.way):
            control.observe(lambda _: self.show(), "value")
        self.show()

    def take(self, split: Split) -> None:
        """Search other images instead, such as `own_images.brought(trained, ["my.jpg"])`."""
        self.split, self.searched = split, torch.arange(len(split))
        batches = map(self.trained.normalised, split.images.split(32))
        self.tops = gallery.top_units(self.trained.network, batches, self.tops, progress=False)
        self.show()

    def show(self) -> None:
        """Draw the chosen unit in the chosen way."""
        layer, way, network = self.layer.value, self.way.value, self.trained.network
        top = self.tops[layer]
        number = self.map.value % len(top.values)
        if not top.values[number, 0] > 0:
            self.view.layout.visibility = "hidden"
            self.note.value = f"Map {number} is dead: no image excites it."
            return
        images, units = top.of([number])
        image, unit = self.searched[images[:1]], units[:1]
        other = self.searched[(images[:1] + 1) % len(self.searched)]
        x, y = (self.trained.normalised(self.split.images[i]) for i in (image, other))
        own = projections.by_rule(network, x, layer, unit)
        if way in projections.RULES:
            drawn = projections.by_rule(network, x, layer, unit, way)
        else:
            found = projections.by_switches(network, x, layer, unit, y, torch.Generator().manual_seed(number))
            drawn = found[way.removesuffix(" switches")]
        where = projections.field_mask(network, layer, unit, x)
        alike = measures.rank_correlation(own, drawn, where).item()
        self.note.value = f"Map {number} of {layer}; rank correlation of the two projections {alike:.2f}"
        seen = self.trained.seen(self.split.images[image])
        patch, *cut = (
            projections.cut_to_field(network, layer, unit, t, fill)[0]
            for t, fill in ((seen, 128), (own, 0), (drawn, 0))
        )
        figure = plots.grid([[patch, *map(plots.shown, cut)]], ["image", "deconvnet", way], [""], width=7)
        self.view.value, self.view.layout.visibility = plots.png(figure), "visible"
