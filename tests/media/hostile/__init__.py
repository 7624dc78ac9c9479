"""Files that are to do harm, or that are broken; `HOSTILE` has them all by name."""

from tests.media.hostile import broken, disguised, outsized
from tests.media.hostile.corpus import HOSTILE

__all__ = ["HOSTILE", "broken", "disguised", "outsized"]
