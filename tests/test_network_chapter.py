"""The chapter on the network: its measurements, and its checks on made-up records."""

import copy

import pytest

from book.network import claims, measure
from zfrepro import paper


@pytest.fixture(scope="module")
def record() -> dict:
    return {"geometry": measure.geometry(), "measured_fields": measure.measured_fields()}


def outcomes(record: dict) -> list[str]:
    return [claim.judge(record).outcome for claim in claims.CLAIMS]


def test_geometry_is_the_papers(record):
    zfnet = record["geometry"]["zfnet"]
    assert {stage: zfnet["sizes"][stage] for stage in paper.FIG3_SIZES} == paper.FIG3_SIZES
    assert zfnet["fields"] == {"conv1": 7, "conv2": 27, "conv3": 75, "conv4": 107, "conv5": 139}
    assert outcomes(record) == ["agrees", "agrees"]


@pytest.mark.parametrize(
    "path, expected",
    [
        (("geometry", "zfnet", "sizes", "conv1"), ["contradicts", "agrees"]),
        (("geometry", "krizhevsky", "fields", "conv2"), ["agrees", "contradicts"]),
        (("measured_fields", "krizhevsky", "conv4"), ["agrees", "contradicts"]),
    ],
)
def test_one_unit_or_pixel_off_contradicts(record, path, expected):
    wrong = copy.deepcopy(record)
    place = wrong
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] -= 1
    assert outcomes(wrong) == expected


def test_printed_numbers_pass_and_the_checks_are_no_claims_of_the_paper():
    assert {claim.printed_outcome() for claim in claims.CLAIMS} == {"agrees"}
    assert {claim.source for claim in claims.CLAIMS} == {"instrument"}
