"""The dashboard for no terminal: a line for each change."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TextIO

from realtime_ser.events import (
    Alert,
    Event,
    Gap,
    Marker,
    Measurement,
    SessionCreated,
    SpeechEnded,
    SpeechStarted,
    Warning,
)
from realtime_ser.printable import printable
from realtime_ser.sinks._file import LineStream
from realtime_ser.sinks.background import Background


class PlainLines:
    """Writes a line when speech begins or ends, the label changes, and for gaps, warnings and markers.

    In a thread of its own: a reader that takes none, as a pager does, holds nothing up.

    Raises
    ------
    SinkError
        When written or closed: the stream's reader is gone, the disk behind it is full, or, in the end, it hangs.
    """

    def __init__(self, stream: TextIO, recording: Path | None = None) -> None:
        lines = LineStream(stream, stream.encoding)
        self._lines = Background(lines, lines.name, items="lines")
        self._recording = recording
        """Still to be told of."""
        self._shown: dict[int | None, str] = {}
        """The label last told of each channel."""

    def __enter__(self) -> PlainLines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Unlike a terminal, the stream is left as it was found."""

    def write(self, event: Event) -> None:
        """Write the event's line, if something changed."""
        match event:
            case SessionCreated():
                self._line(
                    event,
                    0.0,
                    f"{printable(event.source)}, model {printable(event.model_id)} ({printable(event.model_licence)})",
                )
                if self._recording is not None:
                    self._line(event, 0.0, f"RECORDING the audio to {printable(str(self._recording))}")
                    self._recording = None  # it is of all channels
            case SpeechStarted():
                self._line(event, event.start_s, "speech")
            case SpeechEnded():
                self._line(event, event.end_s, f"silence    after {event.duration_s:.1f} s of speech")
                self._shown.pop(event.channel, None)
            case Measurement() if event.scores_smooth:
                self._change(event)
            case Gap():
                self._line(
                    event, event.start_s, f"gap of {event.end_s - event.start_s:.2f} s: {printable(event.cause)}"
                )
            case Warning():
                self._line(event, event.start_s, f"warning: {printable(event.message)}: {printable(event.remedy)}")
            case Marker():
                self._line(event, event.start_s, f"marker: {printable(event.text)}")
            case Alert():
                self._line(event, event.start_s, f"alert: {printable(event.rule)}: {event.value:.2f}")
            case _:
                pass

    def progress(self, audio_s: float, lag_s: float, real_time_factor: float, lost_s: float, trouble: str = "") -> None:
        """Costs are not a change worth a line, and of trouble a warning tells."""

    def pressed(self) -> list[str]:
        """Nobody types here."""
        return []

    @property
    def behind(self) -> int:
        """How many lines are not yet written."""
        return self._lines.behind

    def close(self) -> None:
        """Write what waits, for a while; the stream is its owner's to close."""
        self._lines.close()

    def _change(self, event: Measurement) -> None:
        label = printable(event.label) if event.label else "unsure"
        if label == self._shown.get(event.channel):
            return
        self._shown[event.channel] = label
        if event.label:
            said = f"{event.confidence or 0:.2f}"
        else:
            leading = sorted(event.scores_smooth, key=lambda name: -event.scores_smooth[name])
            said = " or ".join(map(printable, leading[:2]))
        line = f"{label:<10} {said}"
        if event.arousal is not None and event.valence is not None:
            line += f"  (arousal {event.arousal:+.2f} valence {event.valence:+.2f})"
        self._line(event, event.end_s, line)

    def _line(self, event: Event, at_s: float, text: str) -> None:
        lane = f"channel {event.channel}  " if event.channel else ""
        self._lines.write(f"{at_s:9.2f} s  {lane}{text}")
