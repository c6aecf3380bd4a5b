"""Hypothesis draws the same examples in every run, so that a run of CI can be repeated."""

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")
