"""Looks into H.264 that was copied, as MP4 holds it (ITU-T H.264, 7.4.1; ISO/IEC 14496-15, 5.3).

Pure; input is hostile.
"""

from worker.output.fragments import Config, Fragment

_SLICES, _IDR, _PARAMETER_SETS = range(1, 6), 5, {7, 8}


def can_begin_at(fragment: Fragment, config: Config) -> bool:
    """Return whether a player can begin with this fragment, whatever it has played before: its first frame
    needs no other (IDR), and no parameter sets but those of the init segment."""
    at = len(fragment.body) - sum(frame.size for frame in fragment.frames)
    end = at + fragment.frames[0].size
    descriptions = config.sample_descriptions
    record = descriptions.index(b"avcC") + len(b"avcC")
    width = (descriptions[record + 4] & 3) + 1
    while at + width < end:
        size = int.from_bytes(fragment.body[at : at + width], "big")
        unit = fragment.body[at + width : at + width + size]
        kind = unit[0] & 31 if unit else 0
        if kind in _SLICES:
            return kind == _IDR
        if kind in _PARAMETER_SETS and unit not in descriptions:
            return False
        at += width + size
    return False
