"""Text from outside (file names, markers, labels) made harmless for a terminal and for a line of text."""

from __future__ import annotations

import re

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def printable(text: str) -> str:
    """Without control characters, line separators, and the stand-ins for undecodable bytes of a file name."""
    return _UNPRINTABLE.sub("�", text)
