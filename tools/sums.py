"""`SHA256SUMS` beside the shipped ONNX files, as `sha256sum -c` reads it: what is loaded is checked against it."""

from __future__ import annotations

import hashlib
from pathlib import Path


def write_sums(folder: Path) -> None:
    """Write the hashes of the folder's ONNX files."""
    lines = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}\n" for p in sorted(folder.glob("*.onnx"))]
    (folder / "SHA256SUMS").write_text("".join(lines), newline="\n")
