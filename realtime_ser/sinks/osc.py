"""The trace as Open Sound Control messages over UDP (extra `osc`)."""

from __future__ import annotations

from typing import Any

from realtime_ser.errors import SettingsError, SinkError, UsageError
from realtime_ser.events import Alert, Event, Marker, Measurement
from realtime_ser.printable import printable


class OscSink:
    """Sends each hop to HOST:PORT, under /realtime_ser, or /realtime_ser/N for channel N.

    /state (string), and in speech /label (string; empty while unsure), /confidence, /arousal, /valence and /score/LABEL
    (floats); /alert (string, float) and /marker (string).

    Raises
    ------
    UsageError
        For an address that is none.
    SettingsError
        If python-osc is not installed.
    SinkError
        If the host is not known.
    """

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
            raise UsageError(f"--osc {address}", "give HOST:PORT")
        try:
            from pythonosc.udp_client import SimpleUDPClient
        except ImportError:
            raise SettingsError("python-osc is not installed", "pip install 'realtime-ser[osc]'") from None
        try:
            self._client: Any = SimpleUDPClient(host.strip("[]"), int(port))
        except OSError as error:
            raise SinkError(f"--osc {address}: {(error.strerror or str(error)).lower()}", "check the host") from None

    def write(self, event: Event) -> None:
        """Send what the event tells; UDP does not know whether anybody hears it."""
        root = f"/realtime_ser/{event.channel}" if event.channel else "/realtime_ser"
        match event:
            case Measurement(trigger="hop"):
                self._send(f"{root}/state", event.state)
                if event.scores_smooth:
                    self._send(f"{root}/label", printable(event.label or ""))
                    for name in ("confidence", "arousal", "valence"):
                        if (value := getattr(event, name)) is not None:
                            self._send(f"{root}/{name}", value)
                    for label, score in event.scores_smooth.items():
                        self._send(printable(f"{root}/score/{label}"), score)
            case Alert():
                self._send(f"{root}/alert", [printable(event.rule), event.value])
            case Marker():
                self._send(f"{root}/marker", printable(event.text))
            case _:
                pass

    def close(self) -> None:
        """UDP has nothing to close."""

    def _send(self, address: str, value: Any) -> None:
        try:
            self._client.send_message(address, value)
        except OSError:
            return  # nobody listens there at the moment, and UDP would not have told either
