"""One colour for each emotion, readable on light and on dark paper."""

from __future__ import annotations

from collections.abc import Sequence

_COLOURS = {
    "neutral": "#9aa1ac",
    "happy": "#e5b800",
    "sad": "#3b82f6",
    "angry": "#e5484d",
    "fearful": "#9d6ff0",
    "disgusted": "#3fa34d",
    "surprised": "#f0822e",
}
_OTHERS = ("#12a594", "#d6409f", "#65a30d", "#0ea5e9", "#b45309", "#f472b6")


def colours_of(labels: Sequence[str]) -> list[str]:
    """In their order; labels that are none of the usual take turns with others."""
    return [_COLOURS.get(label, _OTHERS[i % len(_OTHERS)]) for i, label in enumerate(labels)]
