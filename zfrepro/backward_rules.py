"""The name under which chapters still import `zfrepro.rules`."""

from zfrepro.rules import *  # noqa: F403
from zfrepro.rules import RULES, activations_of, project  # noqa: F401
