"""What to call recordings where there is no room for their paths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path


def short_names(files: Iterable[str]) -> dict[str, str]:
    """Each file's name, with as many of its folders before it as tell it from the others."""
    names = {file: Path(file).name for file in dict.fromkeys(files)}
    parts = {file: file.split("/") for file in names}
    for n in range(2, 1 + max(map(len, parts.values()), default=0)):
        often = Counter(names.values())
        names |= {file: "/".join(parts[file][-n:]) for file, name in names.items() if often[name] > 1}
    return names
