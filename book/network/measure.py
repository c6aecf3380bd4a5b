"""The geometry of both networks at the paper's 224 px, computed and found from gradients."""

from zfrepro import networks
from zfrepro.measure import Parts, Study
from zfrepro.networks import Architecture
from zfrepro.receptive_field import empirical_receptive_field, stage, stages

PAPER_SIZE = 224


BOTH = (networks.zfnet(), networks.krizhevsky())


def geometry() -> dict[str, dict[str, dict[str, int]]]:
    """Return the sides of all stages and of the receptive fields of conv layers, by network."""
    by_network = {}
    for architecture in BOTH:
        every = stages(architecture, PAPER_SIZE)
        by_network[architecture.name] = {
            "sizes": {s.name: s.size for s in every},
            "fields": {s.name: s.field.size for s in every if s.name.startswith("conv")},
        }
    return by_network


def measured_fields() -> dict[str, dict[str, int]]:
    """Return the sides of the middle units' receptive fields, from gradients, by network."""

    def side(architecture: Architecture, layer: str) -> int:
        middle = stage(architecture, PAPER_SIZE, layer).size // 2
        seen = empirical_receptive_field(architecture, PAPER_SIZE, layer, middle, middle)
        columns = seen.any(0).nonzero()
        return int(columns.max() - columns.min()) + 1

    return {net.name: {conv.name: side(net, conv.name) for conv in net.convs} for net in BOTH}


def parts(study: Study) -> Parts:
    """Return the measurements by name; none of them depends on images or on trained weights."""
    return {"geometry": geometry, "measured_fields": measured_fields}
