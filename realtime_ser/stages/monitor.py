"""What a person should know about the input."""

from __future__ import annotations

import math
import platform
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from realtime_ser.settings import RATE_HZ
from realtime_ser.stages.detector import FRAME_SAMPLES
from realtime_ser.stages.gate import SILENCE_DBFS

_SECOND_FRAMES = RATE_HZ // FRAME_SAMPLES
_ZEROS_FRAMES = 2 * _SECOND_FRAMES
_AGAIN_FRAMES = 60 * _SECOND_FRAMES
_CLIPPED_SHARE = 0.01
"""Of a second's samples."""
_QUIET_DBFS = (-50.0, -45.0)
"""Speech below the first is too quiet until it is above the second. 16 bits leave it 46 dB above their own noise."""
_NOISY_DB = (8.0, 12.0)
"""The same of its distance from the noise floor, below which the scores suffer most (docs/evaluation)."""
_LONG_S = 600.0
_NEARLY_ALL = 0.9
"""Of the speech scored in so long a session."""
_PERSISTS = 20
"""Hops of speech in a row."""


@dataclass(frozen=True)
class Notice:
    """One thing wrong with the input."""

    code: str
    message: str
    remedy: str


NO_SOUND = {
    "Darwin": "allow the terminal in System Settings, Privacy & Security, Microphone; check mute and the device chosen",
    "Windows": "allow desktop apps in Settings, Privacy & security, Microphone; check mute and the device chosen",
}.get(platform.system(), "check mute in the mixer (pavucontrol, alsamixer), a closed lid, and the device chosen")
"""What to do on this platform about a microphone that delivers digital silence."""
SILENT_ZEROS = Notice("silent_zeros", "the input has been exact zeros for 2 s", f"if this is a microphone, {NO_SOUND}")
CLIPPED = Notice("clipped", "the input is clipped", "lower the recording level")
TOO_QUIET = Notice("too_quiet", "speech is very quiet", "raise the recording level, or come closer to the microphone")
TOO_NOISY = Notice(
    "too_noisy", "speech hardly rises above the noise", "come closer to the microphone, or go where it is quieter"
)


def bad_samples(count: int) -> Notice:
    """NaN or infinity arrived."""
    return Notice(
        "bad_samples", f"{count} samples were NaN or infinite, heard as silence", "check what made the recording"
    )


def doubt(shares: Mapping[str, float], scored_s: float) -> Notice | None:
    """One emotion holds nearly all of a long session. Neutral may well, for most speech is."""
    label = max(shares, key=shares.__getitem__)
    if label == "neutral" or shares[label] < _NEARLY_ALL or scored_s < _LONG_S:
        return None
    return Notice(
        "one_label",
        f"{label} in {shares[label]:.0%} of all speech so far",
        "if that is not what is spoken, the model does not fit this voice or microphone",
    )


class Levels:
    """Level, noise floor and clipped samples since they were last asked for, of the last `longest` frames at most."""

    def __init__(self, longest: int | None = None) -> None:
        self._levels_dbfs: deque[float] = deque(maxlen=longest)
        self._clipped: deque[int] = deque(maxlen=longest)
        self._floor_dbfs = SILENCE_DBFS

    def add(self, levels_dbfs: Sequence[float], floor_dbfs: float, clipped: Sequence[int]) -> None:
        """Take in the levels of some frames, the noise floor at the last, and how many samples of each are clipped."""
        self._levels_dbfs += levels_dbfs
        self._floor_dbfs = floor_dbfs
        self._clipped += clipped

    def take(self, behind: int = 0) -> dict[str, Any]:
        """The fields of a measurement that speak of level, without the last `behind` frames.

        `snr_db` is for speech alone.
        """
        n = len(self._levels_dbfs) - behind
        levels_dbfs = list(self._levels_dbfs)[:n]
        # All at once and exactly: a sum of sums would depend on how the frames came.
        power = math.fsum(10 ** (level / 10) for level in levels_dbfs)
        level = 10 * math.log10(power / n) if levels_dbfs else SILENCE_DBFS
        known = level > SILENCE_DBFS + 0.1
        fields = {
            "level_dbfs": level if known else None,
            "snr_db": level - self._floor_dbfs if known else None,
            "clipped": sum(list(self._clipped)[:n]),
        }
        self.clear()
        return fields

    def clear(self) -> None:
        """Forget what was added."""
        self._levels_dbfs.clear()
        self._clipped.clear()
        self._floor_dbfs = SILENCE_DBFS


class _Low:
    """True once a value has been low for `_PERSISTS` in a row; then not again before it was high."""

    def __init__(self, low: float, high: float) -> None:
        self._low, self._high = low, high
        self._count = 0

    def push(self, value: float) -> bool:
        if value < self._low:
            self._count += 1
            return self._count == _PERSISTS
        if value > self._high or self._count < _PERSISTS:
            self._count = 0
        return False


class InputMonitor:
    """Watches levels; tells each fault once it is sure, then no more than once a minute."""

    _zeros: int
    _clipped: float

    def __init__(self) -> None:
        self.reset()

    def speech(self, level_dbfs: float | None, snr_db: float | None) -> list[Notice]:
        """Give the level of each hop of speech; get the faults that it completes."""
        quiet = level_dbfs is not None and self._quiet.push(level_dbfs)
        noisy = snr_db is not None and self._noisy.push(snr_db)
        notices = [TOO_QUIET] * quiet + [TOO_NOISY] * noisy
        return [notice for notice in notices if self._is_new(notice)]

    def push(self, levels_dbfs: Sequence[float], clipped: Sequence[float]) -> list[tuple[int, Notice]]:
        """Give the levels of the next frames and what share of each is clipped.

        Get the faults that they complete, each with the number of the frame that does, counted from 0.
        """
        told: list[tuple[int, Notice]] = []
        for i, (level_dbfs, share) in enumerate(zip(levels_dbfs, clipped, strict=True)):
            self._frames += 1
            self._zeros = self._zeros + 1 if level_dbfs <= SILENCE_DBFS else 0
            if self._zeros == _ZEROS_FRAMES and self._is_new(SILENT_ZEROS):
                told.append((i, SILENT_ZEROS))
            self._clipped += share
            if self._frames % _SECOND_FRAMES == 0:
                if self._clipped >= _CLIPPED_SHARE * _SECOND_FRAMES and self._is_new(CLIPPED):
                    told.append((i, CLIPPED))
                self._clipped = 0.0
        return told

    def reset(self) -> None:
        """Forget everything, as if new."""
        self._frames = 0
        self._zeros = 0
        self._clipped = 0.0
        self._quiet = _Low(*_QUIET_DBFS)
        self._noisy = _Low(*_NOISY_DB)
        self._told: dict[str, int] = {}

    def _is_new(self, notice: Notice) -> bool:
        last = self._told.get(notice.code)
        if last is not None and self._frames - last < _AGAIN_FRAMES:
            return False
        self._told[notice.code] = self._frames
        return True
