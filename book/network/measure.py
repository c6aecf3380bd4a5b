"""The geometry of both networks at the paper's 224 px, computed and found from gradients."""

from zfrepro import networks
from zfrepro.measure import Parts, Study
from zfrepro.receptive_field import empirical_receptive_field, stages

PAPER_SIZE = 224


def geometry() -> dict[str, dict[str, dict[str, int]]]:
    """Return the sides of all stages and of the receptive fields of conv layers, by network."""
    found = {}
    for architecture in (networks.zfnet(), networks.krizhevsky()):
        all_stages = stages(architecture, PAPER_SIZE)
        found[architecture.name] = {
            "sizes": {s.name: s.size for s in all_stages},
            "fields": {s.name: s.field.size for s in all_stages if s.name.startswith("conv")},
        }
    return found


def measured_fields() -> dict[str, dict[str, int]]:
    """Return the sides of the middle units' receptive fields, from gradients, by network."""
    found: dict[str, dict[str, int]] = {}
    for architecture in (networks.zfnet(), networks.krizhevsky()):
        sides = found.setdefault(architecture.name, {})
        for s in stages(architecture, PAPER_SIZE):
            if s.name.startswith("conv"):
                middle = s.size // 2
                seen = empirical_receptive_field(architecture, PAPER_SIZE, s.name, middle, middle)
                columns = seen.any(0).nonzero()
                sides[s.name] = int(columns.max() - columns.min()) + 1
    return found


def parts(study: Study) -> Parts:
    """Return the measurements by name; none of them depends on images or on trained weights."""
    return {"geometry": geometry, "measured_fields": measured_fields}
