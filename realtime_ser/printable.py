"""Text from outside (file names, markers, labels) made harmless for a terminal and for a line of text."""

from __future__ import annotations

import re

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Without control characters, text-direction marks, line separators, and stand-ins for undecodable bytes."""
    return _UNPRINTABLE.sub("�", text)
