"""Table 5 and Fig. 9 as the paper has them, on Caltech-256. Not run here: the images are not at hand."""

from collections.abc import Callable
from typing import Any

from book.transfer import measure as transfer
from zfrepro.measure import Study


def parts(study: Study) -> dict[str, Callable[[], Any]]:
    """As for Caltech-101, with up to 60 images a class."""
    return transfer.parts(study, "caltech256")
