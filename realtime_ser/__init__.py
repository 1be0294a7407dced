"""Live speech emotion analysis: audio goes in as samples, emotion events come out."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from realtime_ser import errors
from realtime_ser.errors import RealtimeSerError
from realtime_ser.settings import (
    CleanSettings,
    GateSettings,
    RestSettings,
    SessionSettings,
    TraceSettings,
    WindowSettings,
)

# onnxruntime's own wheels report to Microsoft, since 1.29 on Linux and macOS too, and keep a device id in the user's
# cache for it. What listens to voices sends nothing; this must stand before its first import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from realtime_ser import events
    from realtime_ser.pool import SessionPool
    from realtime_ser.session import Session

__all__ = [
    "CleanSettings",
    "GateSettings",
    "RealtimeSerError",
    "RestSettings",
    "Session",
    "SessionPool",
    "SessionSettings",
    "TraceSettings",
    "WindowSettings",
    "errors",
    "events",
]


def __getattr__(name: str) -> Any:
    """The sessions when they are asked for: NumPy and onnxruntime are most of a start, and `--help` needs neither."""
    if name == "Session":
        from realtime_ser.session import Session

        return Session
    if name == "SessionPool":
        from realtime_ser.pool import SessionPool

        return SessionPool
    if name == "events":
        return import_module("realtime_ser.events")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
