"""A reproduction of Zeiler & Fergus (2014), "Visualizing and Understanding Convolutional Networks"."""

from zfrepro.networks import ARCHITECTURES, Architecture, build, krizhevsky, zfnet, zfnet_wide
from zfrepro.weights import Trained, load_weights, pretrained

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "Trained",
    "build",
    "krizhevsky",
    "load_weights",
    "pretrained",
    "zfnet",
    "zfnet_wide",
]
