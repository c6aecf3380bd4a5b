"""Names under which chapters still call the deconvnet on crops."""

from zfrepro.deconvnet import crop as cut
from zfrepro.deconvnet import project_crops as project
from zfrepro.deconvnet import window

__all__ = ["cut", "project", "window"]
