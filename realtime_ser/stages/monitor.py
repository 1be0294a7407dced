"""What a person should know about the input."""

from __future__ import annotations

from dataclasses import dataclass

from realtime_ser.settings import RATE_HZ
from realtime_ser.stages.gate import FRAME_SAMPLES, SILENCE_DBFS, FrameLevel

_SECOND_FRAMES = RATE_HZ // FRAME_SAMPLES
_ZEROS_FRAMES = 2 * _SECOND_FRAMES
_AGAIN_FRAMES = 60 * _SECOND_FRAMES
_CLIPPED_SHARE = 0.01
"""Of a second's samples."""


@dataclass(frozen=True)
class Notice:
    """One thing wrong with the input."""

    code: str
    message: str
    remedy: str


SILENT_ZEROS = Notice(
    "silent_zeros",
    "the input has been exact zeros for 2 s",
    "check mute, the microphone permission, the device chosen; a recording may hold digital silence",
)
CLIPPED = Notice("clipped", "the input is clipped", "lower the recording level")


def bad_samples(count: int) -> Notice:
    """NaN or infinity arrived."""
    return Notice(
        "bad_samples", f"{count} samples were NaN or infinite, heard as silence", "check what made the recording"
    )


class InputMonitor:
    """Watches the level of every 20 ms frame; tells each fault at once, then no more than once a minute."""

    _zeros: int
    _clipped: int

    def __init__(self) -> None:
        self.reset()

    def push(self, frame: FrameLevel) -> list[Notice]:
        """Give the next frame; get the faults that it completes."""
        self._frames += 1
        notices = []
        self._zeros = self._zeros + 1 if frame.level_dbfs <= SILENCE_DBFS else 0
        if self._zeros == _ZEROS_FRAMES:
            notices.append(SILENT_ZEROS)
        self._clipped += frame.clipped
        if self._frames % _SECOND_FRAMES == 0:
            if self._clipped >= _CLIPPED_SHARE * RATE_HZ:
                notices.append(CLIPPED)
            self._clipped = 0
        return [notice for notice in notices if self._is_new(notice)]

    def reset(self) -> None:
        """Forget everything, as if new."""
        self._frames = 0
        self._zeros = 0
        self._clipped = 0
        self._told: dict[str, int] = {}

    def _is_new(self, notice: Notice) -> bool:
        last = self._told.get(notice.code)
        if last is not None and self._frames - last < _AGAIN_FRAMES:
            return False
        self._told[notice.code] = self._frames
        return True
