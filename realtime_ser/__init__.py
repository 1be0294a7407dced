"""Live speech emotion analysis: audio goes in as samples, emotion events come out."""

from realtime_ser.errors import RealtimeSerError
from realtime_ser.session import Session
from realtime_ser.settings import GateSettings, SessionSettings, TraceSettings, WindowSettings

__all__ = ["GateSettings", "RealtimeSerError", "Session", "SessionSettings", "TraceSettings", "WindowSettings"]
