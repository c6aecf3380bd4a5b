"""Table 5 and Fig. 9 as the paper has them, on Caltech-256. Not run here."""

from book.transfer import measure
from zfrepro.measure import Parts, Study


def parts(study: Study) -> Parts:
    """Return the measurements of Caltech-101, with up to 60 images a class."""
    return measure.parts(study, "caltech256")
