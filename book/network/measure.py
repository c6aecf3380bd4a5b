"""The geometry of both networks at the paper's 224 px, computed and found from gradients."""

import torch

from zfrepro import networks
from zfrepro.measure import Parts, Study
from zfrepro.networks import Architecture
from zfrepro.receptive_field import probe, stages

OURS_ONLY = True  # takes no network that others trained
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
    """Return the sides of units' receptive fields, from gradients, by network."""
    return {net.name: {conv.name: side(net, conv.name) for conv in net.convs} for net in BOTH}


@torch.random.fork_rng(devices=[])
def side(architecture: Architecture, layer: str) -> int:
    """Return the side of the receptive field of a layer's units, from gradients."""
    torch.manual_seed(0)
    narrow = architecture.with_maps(*(2 for _ in architecture.convs)).with_units(1)
    network = networks.build(narrow, PAPER_SIZE, classes=1)
    for weight in network.convs.parameters():
        weight.data.abs_()  # so that no path to a pixel is cut by a ReLU or cancels another
    return probe(network.output(layer), torch.rand(1, 3, PAPER_SIZE, PAPER_SIZE)).rows.size


def parts(study: Study) -> Parts:
    """Return the measurements by name; none of them depends on images or on trained weights."""
    return {"geometry": geometry, "measured_fields": measured_fields}
