"""The instruments of Zeiler & Fergus (2014), "Visualizing and Understanding Convolutional
Networks".

The public names are loaded when they are first used, so that importing one instrument imports no
other:

    from zfrepro import occlude, pretrained, project, top_units"""

import importlib

__version__ = "0.2.0"

_HOMES = {
    "ARCHITECTURES": "networks", "Architecture": "networks", "build": "networks",
    "krizhevsky": "networks",
    "zfnet": "networks", "zfnet_wide": "networks",
    "Units": "deconvnet", "project": "rules",
    "top_units": "gallery", "occlude": "occlusion",
    "Trained": "weights", "load_weights": "weights", "pretrained": "weights",
}  # fmt: skip

__all__ = sorted(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'zfrepro' has no attribute {name!r}")
    return getattr(importlib.import_module(f"zfrepro.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
