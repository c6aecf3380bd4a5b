"""The network's geometry, computed and measured, and how far filter clipping reaches in the trained networks."""

from typing import Any

from zfrepro import networks
from zfrepro.receptive_field import empirical_receptive_field, stages, table
from zfrepro.studies import Parts, Study

PAPER_SIZE = 224
AT_CLIP = 0.99  # of the radius; half precision moves a clipped filter by less


def geometry() -> dict[str, Any]:
    """Sizes, parameters and receptive fields at the paper's 224 px and 1,000 classes."""
    found = {}
    for architecture in (networks.zfnet(), networks.krizhevsky()):
        found[architecture.name] = {
            "sizes": {s.name: s.size for s in stages(architecture, PAPER_SIZE)},
            "maps": {c.name: c.maps for c in architecture.convs},
            "fields": {s.name: s.field.size for s in stages(architecture, PAPER_SIZE) if s.name.startswith("conv")},
            "parameters": sum(row["parameters"] for row in table(architecture)),
        }
    return found


def measured_fields() -> dict[str, dict[str, int]]:
    """Sides of the middle units' receptive fields, from gradients: no formula takes part."""
    found: dict[str, dict[str, int]] = {}
    for architecture in (networks.zfnet(), networks.krizhevsky()):
        own = found.setdefault(architecture.name, {})
        for s in stages(architecture, PAPER_SIZE):
            if s.name.startswith("conv"):
                columns = empirical_receptive_field(architecture, PAPER_SIZE, s.name, s.size // 2, s.size // 2).any(0).nonzero()
                own[s.name] = int(columns.max() - columns.min()) + 1
    return found


def clipping(study: Study) -> dict[str, Any]:
    """Filters of each layer whose root mean square stands at the clip, for each trained network."""
    found = {}
    for name, trained in study.networks.items():
        radius = trained.recipe.clip
        rms = {layer: conv.weight.square().mean((1, 2, 3)).sqrt() for layer, conv in trained.network.convs.items()}
        found[name] = {
            "radius": radius,
            "filters": {layer: len(values) for layer, values in rms.items()},
            "at_clip": {layer: int((values > AT_CLIP * radius).sum()) for layer, values in rms.items()},
            "largest_rms": {layer: float(f"{values.max():.4g}") for layer, values in rms.items()},
        }
    return found


def parts(study: Study) -> Parts:
    """The recorded measurements; nothing in them depends on images but the training of the networks."""
    return {"geometry": geometry, "measured_fields": measured_fields, "clipping": lambda: clipping(study)}
