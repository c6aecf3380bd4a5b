"""What every test may use.

Hypothesis draws the same examples in every run, so that a run of CI can be repeated."""

import pytest
from hypothesis import settings

settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")


@pytest.fixture
def own_places(tmp_path, monkeypatch):
    """Read nothing of the user's, write nothing into the checkout; `cache` and `results` are here.
    """
    for name in ("DATA", "DATASET", "DEVICE", "SKIP_DAMAGED"):
        monkeypatch.delenv(f"ZFREPRO_{name}", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    for name in ("cache", "results"):
        monkeypatch.setenv(f"ZFREPRO_{name.upper()}", str(tmp_path / name))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium, or a plain word that there is none."""
    from tests.chromium import Browser, program

    if program() is None:
        pytest.skip(
            "no Chromium found, so the pages are not tested in a browser: apt install chromium"
        )
    with Browser() as started:
        yield started
