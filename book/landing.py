"""What the landing page shows besides its hero: how a projection is made, and a card a result."""

import html
from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt
from IPython.display import HTML
from matplotlib.figure import Figure

from book import thumbnails
from zfrepro import claims, deconvnet, gallery, page, plots
from zfrepro.data import Split
from zfrepro.weights import Trained


def pipeline(trained: Trained, split: Split, top: gallery.Top, number: int) -> Figure:
    """Draw how a projection is made: an image with a unit's receptive field, its feature map, its
    projection.

    number: the map of the unit.
    """
    index, units = top.of([number])
    image, unit = trained.center_crop(split.images[index[:1]]), units[:1]
    x = trained.preprocess(split.images[index[:1]])
    activations = trained.network.features(x, [top.layer])[top.layer][0, number]
    projected = deconvnet.project_crops(trained.network, x, top.layer, unit)
    corner, side = (int(projected.lefts[0]), int(projected.tops[0])), projected.pixels.shape[-1]
    figure, axes = plt.subplots(1, 3, figsize=(plots.WIDTH, 1.85))
    axes[0].imshow(plots.array(plots.as_colours(image[0])))
    axes[0].add_patch(plt.Rectangle(corner, side, side, fill=False, ec="#ffd000", lw=2.5))
    axes[0].set_xlim(-0.5, image.shape[-1] - 0.5)
    axes[0].set_ylim(image.shape[-1] - 0.5, -0.5)
    axes[1].imshow(activations, cmap="magma")
    axes[1].plot(unit.columns, unit.rows, "s", mfc="none", mec="#ffd000", mew=2.5, ms=11)
    axes[2].imshow(plots.array(plots.display(projected.pixels[0])))
    layer = f"2  a unit of layer {top.layer[-1]} responds"
    titles = ("1  an image goes up", layer, "3  its projection to pixels")
    for ax, title in zip(axes, titles, strict=True):
        ax.set_title(title)
        ax.axis("off")
    for left in (0.345, 0.665):
        figure.text(left, 0.45, "→", fontsize=22, ha="center", va="center")
    figure.tight_layout(pad=0.2)
    return plots.detached(figure)


CARDS = {
    "gallery-hierarchy": ("Features", thumbnails.gallery),
    "training-better": ("Smaller filters", thumbnails.training),
    "evolution-upper": ("Evolution", thumbnails.evolution_),
    "invariance-stable": ("Invariance", thumbnails.invariance),
    "occlusion-object": ("Occlusion", thumbnails.occlusion_),
    "correspondence-layer5-controlled": ("Correspondence", thumbnails.correspondence_),
    "ablation-full": ("Ablation", thumbnails.ablation_),
    "transfer-depth": ("Transfer", thumbnails.transfer),
}
"""Claim that a card tells -> the card's title, and what draws its picture."""


def cards() -> HTML:
    """Show a card a result: a picture, what the paper says, and the outcome on photographs."""
    named = {claim.name: claim for claim in claims.all_claims()}
    body = "".join(_card(named[name], *card) for name, card in CARDS.items())
    return HTML(f'<div class="zf-cards">{body}</div>')


def _card(claim: claims.Claim, title: str, draw: Callable[[], Figure]) -> str:
    chapter, outcome = claim.chapter, page.outcome_label(claim.finding("imagenet20").outcome)
    return (
        f'<a class="zf-card" href="{chapter}/{chapter}.html">{thumbnails.shown(draw)}'
        f"<strong>{html.escape(title)}</strong>"
        f"<span>{html.escape(claim.says)}</span><p>{outcome}</p></a>"
    )


def buttons(links: Sequence[tuple[str, str]]) -> HTML:
    """Show links as buttons."""
    body = "".join(
        f'<a class="zf-button" href="{html.escape(url)}">{html.escape(text)}</a>'
        for text, url in links
    )
    return HTML(f'<p class="zf-buttons">{body}</p>')
