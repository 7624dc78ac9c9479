"""Malicious and broken files; `HOSTILE` holds all of them by name."""

from tests.media.hostile import broken, disguised, outsized
from tests.media.hostile.corpus import HOSTILE

__all__ = ["HOSTILE", "broken", "disguised", "outsized"]
