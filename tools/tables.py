"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

Lines = list[str]


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> Lines:
    """With an empty line before."""
    return [
        "",
        f"| {' | '.join(header)} |",
        "|---" * len(header) + "|",
        *(f"| {' | '.join(map(str, r))} |" for r in rows),
    ]
