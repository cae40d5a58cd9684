"""``MENDABLE``: what goes wrong for reasons that the user can see to, and is told in a sentence."""

from __future__ import annotations

from deidlib.media import MediaError
from deidlib.weights import CorruptWeights, WeightsNotFound

MENDABLE = (MediaError, ValueError, OSError, WeightsNotFound, CorruptWeights, ModuleNotFoundError)
"""As on the command line. All else is a bug."""
