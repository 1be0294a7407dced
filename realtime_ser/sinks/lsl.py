"""The trace as a Lab Streaming Layer outlet (extra `lsl`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from realtime_ser.errors import SettingsError
from realtime_ser.events import Event, Measurement
from realtime_ser.printable import printable


class LslSink:
    """An outlet `realtime_ser` of type `Emotion`, a sample each hop at LSL's own time.

    Channels: arousal, valence, confidence, level_dbfs, and s_LABEL for each label; NaN in silence.

    Raises
    ------
    SettingsError
        If pylsl is not installed, or finds no liblsl.
    """

    def __init__(self, labels: Sequence[str], source: str) -> None:
        try:
            import pylsl
        except (ImportError, RuntimeError):
            raise SettingsError("pylsl is not installed", "pip install 'realtime-ser[lsl]'") from None
        self._labels = tuple(labels)
        names = ("arousal", "valence", "confidence", "level_dbfs", *(f"s_{label}" for label in labels))
        info = pylsl.StreamInfo(
            "realtime_ser", "Emotion", len(names), pylsl.IRREGULAR_RATE, "float32", printable(source)
        )
        described = info.desc().append_child("channels")
        for name in names:
            described.append_child("channel").append_child_value("label", printable(name))
        self._outlet: Any = pylsl.StreamOutlet(info)

    def write(self, event: Event) -> None:
        """Push a hop's sample."""
        if isinstance(event, Measurement) and event.trigger == "hop":
            spoken = bool(event.scores_smooth)
            affect = [event.arousal, event.valence, event.confidence] if spoken else [None] * 3
            values = [*affect, event.level_dbfs, *(event.scores_smooth.get(label) for label in self._labels)]
            self._outlet.push_sample([math.nan if value is None else value for value in values])

    def close(self) -> None:
        """The outlet ends with the sink."""
        del self._outlet
