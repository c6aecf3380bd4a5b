"""Our results stand in the prose only as computed values: no decimal number or per cent that somebody typed.

Allowed are what is not a result of ours: the paper's words (its boxes), formulas, code, links, exercises, and what
`ALLOWED` lists, each with a reason.
"""

import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "book").rglob("*.ipynb"))

EVERYWHERE = {"95 %": "the level of an interval"}
ALLOWED = {
    "evolution": {"0.9": "a definition"},
    "index": {"4.0": "the version of a licence"},
    "network": {
        "0.1": "the paper's radius of clipping", "1.21": "0.1 times a root", "1.91": "the same", "1 %": "a definition",
        "0.59": "two to the power of -0.75", "38.3 %": "the paper's, arXiv v1",
    },
    "transfer": {"68.6": "worked out from the paper's Table 6", "75.2": "the same"},
}  # fmt: skip

NOT_OURS = [
    re.compile(r":::+\{admonition\} The paper.*?^:::+$", re.S | re.M),  # what the paper says
    re.compile(r"```+\{(?:exercise|solution)\}.*?^```+$", re.S | re.M),  # worked by hand
    re.compile(r"^(`{3,}).*?^\1$", re.S | re.M),  # code
    re.compile(r"\$\$.*?\$\$", re.S),
    re.compile(r"\$[^$]+\$"),
    re.compile(r"\{glue:?\w*\}`[^`]*`(?: %)?"),  # computed
    re.compile(r"\{\w+(?::\w+)*\}`[^`]*`"),  # other roles
    re.compile(r"`[^`]+`"),
    re.compile(r"(?:[Ss]ections?|Sect\.|Figs?\.|Figures?|Tables?) [\d.]+\w*"),  # a place
]
NUMBER = re.compile(r"(?<![\w.])[-−+]?\d+(?:,\d{3})*(?:\.\d+)?(?: ?%| per cent)|(?<![\w.])\d+\.\d+(?![\w.])")


def typed_numbers(text: str) -> list[str]:
    """Numbers in prose that look like a result: decimals and per cents."""
    for pattern in NOT_OURS:
        text = pattern.sub(" ", text)
    return [found.strip() for found in NUMBER.findall(text)]


def test_results_are_found_and_what_is_not_ours_is_left():
    assert typed_numbers("The error fell to 12.3 % and by 0.4 points, 95 % sure") == ["12.3 %", "0.4", "95 %"]
    assert typed_numbers("It fell to {glue:text}`error:.1f` %, see Section 4.2, $a = 0.5$ and `0.5`, in 3 runs") == []
    assert typed_numbers(":::{admonition} The paper\n:class: paper-says\n40.5 %\n:::\nand 1.5") == ["1.5"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_page_states_a_result_that_was_typed(path):
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]
    allowed = ALLOWED.get(path.stem, {})
    found = {number for cell in cells for number in typed_numbers(cell.source)} - set(allowed) - set(EVERYWHERE)
    assert not found, "take these from a record or a live value, through glue"
