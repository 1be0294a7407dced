"""The recording that comes with the package (made by `tools/demo.py`)."""

from __future__ import annotations

from pathlib import Path


def demo_path() -> Path:
    """Where the demo recording lies: about a minute of synthetic speech in several voices and styles."""
    return Path(__file__).parent.parent / "data" / "demo.flac"
