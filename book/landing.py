"""What the landing page shows: a strong map of each layer, how a projection is made, and a card a
result."""

import html
from collections.abc import Sequence

import matplotlib.pyplot as plt
from IPython.display import HTML
from matplotlib.figure import Figure
from torch import Tensor

from book import thumbnails
from zfrepro import claims, deconvnet, gallery, page, plots
from zfrepro.claims import DATASETS
from zfrepro.data import Split
from zfrepro.receptive_field import stage
from zfrepro.weights import Trained

CANDIDATES = 12  # maps of a layer among which the hero is chosen
SHOWN = 4  # of a map's nine images


def telling_map(trained: Trained, x: Tensor, top: gallery.Top) -> tuple[int, Tensor]:
    """Choose the map whose nine projections resemble each other most, among those that respond
    most.

    Args:
        x: (N, 3, S, S), as the network wants them.
    Returns:
        The map's number and its projections, (9, 3, F, F).
    """
    strongest = top.values[:, -1].argsort(descending=True)[:CANDIDATES].tolist()
    projections = gallery.projections(trained.network, x, top, strongest)
    best = int(gallery.mean_pairwise_correlation(projections).nan_to_num(-1).argmax())
    return strongest[best], projections[best]


def hero(trained: Trained, split: Split, tops: dict[str, gallery.Top]) -> Figure:
    """Draw one strong map of each layer: its strongest projections above the patches that cause
    them.
    """
    x, seen = trained.preprocess(split.images), trained.center_crop(split.images)
    columns, side = [], 168
    for layer, top in tops.items():
        number, projections = telling_map(trained, x, top)
        patches = gallery.patches(trained.network, seen, top, [number])[0]
        pair = (plots.display(projections[None])[0], plots.as_colours(patches))
        blocks = [plots.tiled(plots.enlarge(part[:SHOWN], side), 2, gap=2) for part in pair]
        columns.append((f"Layer {layer[-1]}, map {number}", blocks))
    size = max(block.shape[-1] for _, blocks in columns for block in blocks)
    gap, head = 24, 56
    width = len(columns) * (size + gap) - gap
    figure = plt.figure(figsize=(width / 100, (2 * size + gap + 2 * head) / 100), dpi=100)
    height = 2 * size + gap + 2 * head
    for i, (name, blocks) in enumerate(columns):
        left = i * (size + gap)
        for j, (block, title) in enumerate(zip(blocks, (name, "its patches"), strict=True)):
            bottom = height - head - size - j * (size + gap / 2 + head)
            ax = figure.add_axes((left / width, bottom / height, size / width, size / height))
            ax.imshow(plots.array(block), interpolation="nearest")
            ax.axis("off")
            figure.text(left / width, (bottom + size + 9) / height, title, fontsize=27)
    return plots.detached(figure)


def pipeline(trained: Trained, split: Split, top: gallery.Top) -> Figure:
    """Draw how a projection is made: an image with a unit's receptive field, its feature map, its
    projection.
    """
    number, _ = telling_map(trained, trained.preprocess(split.images), top)
    index, units = top.of([number])
    image, unit = trained.center_crop(split.images[index[:1]]), units[:1]
    x = trained.preprocess(split.images[index[:1]])
    activations = trained.network.features(x, [top.layer])[top.layer][0, number]
    projection = deconvnet.project_crops(trained.network, x, top.layer, unit).pixels
    field = stage(trained.network.architecture, trained.recipe.image_size, top.layer).field
    figure, axes = plt.subplots(1, 3, figsize=(plots.WIDTH, 2.8))
    axes[0].imshow(plots.array(plots.as_colours(image[0])))
    row, column = int(unit.rows[0]), int(unit.columns[0])
    corner = (column * field.jump + field.start, row * field.jump + field.start)
    axes[0].add_patch(
        plt.Rectangle(corner, field.size, field.size, fill=False, ec="#ffd000", lw=2.5)
    )
    axes[0].set_xlim(-0.5, image.shape[-1] - 0.5)
    axes[0].set_ylim(image.shape[-1] - 0.5, -0.5)
    axes[1].imshow(activations, cmap="magma")
    axes[1].plot(column, row, "s", mfc="none", mec="#ffd000", mew=2.5, ms=14)
    axes[2].imshow(plots.array(plots.display(projection[0])))
    layer = f"2  one unit of layer {top.layer[-1]} responds"
    titles = ("1  an image goes up", layer, "3  it is projected down to pixels")
    for ax, title in zip(axes, titles, strict=True):
        ax.set_title(title, loc="left")
        ax.axis("off")
    figure.tight_layout(pad=0.3)
    return plots.detached(figure)


CARDS: tuple[tuple[str, str, str], ...] = (
    ("gallery", "gallery-hierarchy", "What each feature map looks for"),
    ("training", "training-better", "Smaller filters and strides"),
    ("evolution", "evolution-upper", "Feature evolution during training"),
    ("invariance", "invariance-stable", "Invariance to translation, scale and rotation"),
    ("occlusion", "occlusion-object", "Covering the object"),
    ("correspondence", "correspondence-layer5-controlled", "Correspondence between images"),
    ("ablation", "", "Ablation of layers"),
    ("transfer", "transfer-depth", "Transfer to other data sets"),
)
"""Chapter, claim that the card tells (default: the chapter's first) and title."""


def cards() -> HTML:
    """Show a card a result: a picture, what the paper says, and the outcome on each data set."""
    named = {claim.name: claim for claim in claims.all_claims()}
    body = "".join(
        _card(chapter, named.get(name) or claims.of_chapter(chapter)[0], title)
        for chapter, name, title in CARDS
    )
    return HTML(f'<div class="zf-cards">{body}</div>')


def _card(chapter: str, claim: claims.Claim, title: str) -> str:
    rows = []
    for dataset, name in DATASETS.items():
        found = claim.finding(dataset)
        rows.append(f"<li>{html.escape(name)}: {page.outcome_label(found.outcome)}</li>")
    return (
        f'<a class="zf-card" href="{chapter}/{chapter}.html">{thumbnails.of_chapter(chapter)}'
        f"<strong>{html.escape(title)}</strong>"
        f"<span>{html.escape(claim.says)}</span><ul>{''.join(rows)}</ul></a>"
    )


def buttons(links: Sequence[tuple[str, str]]) -> HTML:
    """Show links as buttons."""
    body = "".join(
        f'<a class="zf-button" href="{html.escape(url)}">{html.escape(text)}</a>'
        for text, url in links
    )
    return HTML(f'<p class="zf-buttons">{body}</p>')
