"""Live speech emotion analysis: audio goes in as samples, emotion events come out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from realtime_ser.errors import RealtimeSerError
from realtime_ser.settings import GateSettings, SessionSettings, TraceSettings, WindowSettings

if TYPE_CHECKING:
    from realtime_ser.pool import SessionPool
    from realtime_ser.session import Session

__all__ = [
    "GateSettings",
    "RealtimeSerError",
    "Session",
    "SessionPool",
    "SessionSettings",
    "TraceSettings",
    "WindowSettings",
]


def __getattr__(name: str) -> Any:
    """The sessions when they are asked for: NumPy and onnxruntime are most of a start, and `--help` needs neither."""
    if name == "Session":
        from realtime_ser.session import Session

        return Session
    if name == "SessionPool":
        from realtime_ser.pool import SessionPool

        return SessionPool
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
