"""When is someone speaking? webrtcvad, an adaptive noise floor and a small network, on 20 ms frames."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
import webrtcvad
from numpy.typing import NDArray

from realtime_ser.settings import RATE_HZ, GateSettings
from realtime_ser.stages.calls import Steps, alone
from realtime_ser.stages.detector import FRAME_SAMPLES, SpectrumContext, speech_steps

_FLOOR_START_DBFS = -35.0
"""The floor begins at the first frame's level, but no higher than this: a recording may begin within a word."""
_FLOOR_LOWEST_DBFS = -75.0
"""No room is quieter; a fade from digital silence must not make its noise stand out."""
_FLOOR_BLOCK_FRAMES = 5
_FLOOR_BLOCKS = 20
"""The floor looks back 2 s: speech pauses within them."""
_VAD_FLOOR_DBFS = -50.0
"""webrtcvad hears the input with its noise floor brought here: it is deaf to quiet voices and trusts loud noise."""
_VAD_GAIN_DB = (-20.0, 30.0)
_FRAMES_AT_ONCE = 100
SILENCE_DBFS = -120.0
"""What exact zeros count as."""


@dataclass(frozen=True)
class FrameLevels:
    """How loud each of some 20 ms frames was, and the noise floor then; both of shape (frames,)."""

    level_dbfs: NDArray[np.float64]
    floor_dbfs: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.level_dbfs)

    def __getitem__(self, part: slice) -> FrameLevels:
        return FrameLevels(self.level_dbfs[part], self.floor_dbfs[part])


@dataclass(frozen=True)
class SpeechOpened:
    """Speech began at `onset`; the segment's samples begin at `start` (with pre-roll)."""

    start: int
    onset: int
    at: int
    """Where the gate noticed."""
    samples: NDArray[np.float32]
    frames: FrameLevels
    """The one that ends at `at`; those before it were told as silence."""


@dataclass(frozen=True)
class SpeechContinued:
    """More of the open segment, ending at `at`."""

    at: int
    samples: NDArray[np.float32]
    frames: FrameLevels


@dataclass(frozen=True)
class SpeechClosed:
    """The segment ended; the last frame of speech ended at `speech_end`, and the gate noticed at `at`."""

    speech_end: int
    at: int


@dataclass(frozen=True)
class Silence:
    """Some of it outside speech, ending at `at`."""

    at: int
    frames: FrameLevels


GateOutput = SpeechOpened | SpeechContinued | SpeechClosed | Silence


def level_dbfs(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """RMS level over the last axis in dB re full scale; `SILENCE_DBFS` for exact zeros."""
    power = np.add.reduce(np.square(samples, dtype=np.float64), axis=-1) / samples.shape[-1]
    return 10 * np.log10(np.maximum(power, 10 ** (SILENCE_DBFS / 10)))


class FloorTracker:
    """The noise floor: minimum statistics (Martin, 2001) in its simplest form, the quietest block of the last 2 s."""

    floor_dbfs: float
    """Now."""
    _block_power: float
    _block_frames: int

    def __init__(self) -> None:
        self._quietest: deque[float] = deque(maxlen=_FLOOR_BLOCKS)
        self.reset()

    def push(self, level_dbfs: float) -> float:
        """Give the level of the next 20 ms frame; get the noise floor."""
        if level_dbfs <= SILENCE_DBFS:
            return self.floor_dbfs  # exact zeros tell nothing of the room
        if not self._quietest:
            self._add(min(level_dbfs, _FLOOR_START_DBFS))
        self._block_power += 10 ** (level_dbfs / 10)
        self._block_frames += 1
        if self._block_frames == _FLOOR_BLOCK_FRAMES:
            self._add(10 * math.log10(self._block_power / _FLOOR_BLOCK_FRAMES))
            self._block_power, self._block_frames = 0.0, 0
        return self.floor_dbfs

    def _add(self, block_dbfs: float) -> None:
        self._quietest.append(max(block_dbfs, _FLOOR_LOWEST_DBFS))
        self.floor_dbfs = min(self._quietest)

    def reset(self) -> None:
        """Forget everything, as if new."""
        self._quietest.clear()
        self._block_power = 0.0
        self._block_frames = 0
        self.floor_dbfs = _FLOOR_START_DBFS


class SpeechGate:
    """Samples at 16 kHz → opened, continued and closed speech segments, and silence between them.

    webrtcvad, at its most generous, wakes the detector; what the detector is sure of is speech. Both hear the input
    relative to its noise floor, the quietest moment of the last seconds, which follows a fan but not a sentence.
    """

    _pending: NDArray[np.float32]
    _around: NDArray[np.float32]
    """The samples in hand, and those before them as far back as a segment may begin."""

    def __init__(self, settings: GateSettings | None = None) -> None:
        self._settings = settings or GateSettings()
        s = self._settings
        self._onset_frames = s.onset_ms // 20
        self._hangover_samples = s.hangover_ms // 20 * FRAME_SAMPLES
        self._floor = FloorTracker()
        self._spectrum = SpectrumContext()
        self._recent_frames = s.onset_window_ms // 20
        self._recent: deque[bool] = deque(maxlen=self._recent_frames)
        self._preroll_frames = s.preroll_ms // 20
        self.reset()

    def push(self, samples: NDArray[np.float32]) -> list[GateOutput]:
        """Give float32 samples of shape (n,); get what its whole 20 ms frames are, in order, like ones together."""
        return alone(self.steps(samples))

    def steps(self, samples: NDArray[np.float32]) -> Steps[list[GateOutput]]:
        """`push`, asking for each run of the detector (`stages/calls.py`)."""
        pending = np.concatenate((self._pending, samples))
        n_frames = len(pending) // FRAME_SAMPLES
        frames = pending[: n_frames * FRAME_SAMPLES].reshape(n_frames, FRAME_SAMPLES)
        self._pending = pending[n_frames * FRAME_SAMPLES :].copy()
        levels = level_dbfs(frames)
        outputs: list[GateOutput] = []
        # In pieces: a whole recording at once would need thirty times its size.
        for start in range(0, n_frames, _FRAMES_AT_ONCE):
            part = slice(start, start + _FRAMES_AT_ONCE)
            outputs += yield from self._listen(frames[part], levels[part])
        return outputs

    def flush(self) -> list[SpeechClosed]:
        """End of input: close an open segment. Samples short of a frame are not looked at."""
        closing = [SpeechClosed(self._speech_end, self._at)] if self._open else []
        self.reset(self._at)
        return closing

    def reset(self, at: int = 0) -> None:
        """Forget everything, as if new, with the clock at sample `at`."""
        # A new Vad: the old one keeps its own noise statistics.
        self._vad = webrtcvad.Vad(self._settings.aggressiveness)
        self._at = at
        self._open = False
        self._speech_end = at
        self._unvoiced_frames = self._recent_frames
        self._floor.reset()
        self._spectrum.reset()
        self._pending = np.empty(0, np.float32)
        self._recent.clear()
        self._shut_frames = 0
        self._around = np.empty(0, np.float32)

    def _listen(self, frames: NDArray[np.float32], levels: NDArray[np.float64]) -> Steps[list[GateOutput]]:
        """All that needs no decision is computed for many frames at once; then they are gone through one by one."""
        audible = levels > SILENCE_DBFS
        heard = FrameLevels(levels, np.array([self._floor.push(level) for level in levels.tolist()]))
        contexts = self._spectrum.push(frames[audible], heard.floor_dbfs[audible])
        unvoiced = self._unvoiced(frames[audible], heard.floor_dbfs[audible])
        longest = (self._preroll_frames + self._recent_frames) * FRAME_SAMPLES
        samples = frames.reshape(-1)
        self._around = samples if self._open else np.concatenate((self._around[-longest:], samples))
        outputs: list[GateOutput] = []
        probabilities: list[float] | None = None
        n_heard = told = 0
        for i, sounds in enumerate(audible.tolist()):
            self._at += FRAME_SAMPLES
            speech = False
            if sounds:
                # In silence webrtcvad sleeps for long, and so does the network.
                awake = unvoiced[n_heard] < self._recent_frames or self._open
                if awake and levels[i] >= self._settings.min_level_dbfs:
                    if probabilities is None:
                        heard_as = yield from speech_steps(contexts[n_heard:])
                        probabilities = [0.0] * n_heard + heard_as.tolist()
                    speech = probabilities[n_heard] >= self._threshold()
                n_heard += 1
            if self._open:
                if speech:
                    self._speech_end = self._at
                elif self._at - self._speech_end >= self._hangover_samples:
                    outputs.append(self._more(frames, heard, told, i + 1))
                    outputs.append(SpeechClosed(self._speech_end, self._at))
                    self._open = False
                    told = i + 1
            elif self._opens(speech):
                if told < i:
                    outputs.append(Silence(self._at - FRAME_SAMPLES, heard[told:i]))
                outputs.append(self._begin(heard[i : i + 1], behind=len(frames) - 1 - i))
                told = i + 1
        if told < len(frames):
            outputs.append(self._more(frames, heard, told, len(frames)))
        return outputs

    def _more(self, frames: NDArray[np.float32], heard: FrameLevels, start: int, end: int) -> GateOutput:
        """Frames `start` to `end` of these, after which the clock is now: of the open segment, or of silence."""
        if self._open:
            return SpeechContinued(self._at, frames[start:end].reshape(-1), heard[start:end])
        return Silence(self._at, heard[start:end])

    def _unvoiced(self, frames: NDArray[np.float32], floors: NDArray[np.float64]) -> list[int]:
        """How many frames webrtcvad has not called speech in a row, at each of them."""
        least_db, most_db = _VAD_GAIN_DB
        gains_db = np.minimum(np.maximum(_VAD_FLOOR_DBFS - floors, least_db), most_db)
        loud = frames * (32768 * 10 ** (gains_db[:, None] / 20))
        pcm = np.minimum(np.maximum(loud, -32768), 32767).astype(np.int16).tobytes()
        in_a_row = []
        for start in range(0, len(pcm), 2 * FRAME_SAMPLES):
            voiced = self._vad.is_speech(pcm[start : start + 2 * FRAME_SAMPLES], RATE_HZ)
            self._unvoiced_frames = 0 if voiced else self._unvoiced_frames + 1
            in_a_row.append(self._unvoiced_frames)
        return in_a_row

    def _threshold(self) -> float:
        return self._settings.speech_stay if self._open else self._settings.speech_enter

    def _opens(self, speech: bool) -> bool:
        """Whether the next frame outside speech opens a segment."""
        self._recent.append(speech)
        self._shut_frames += 1
        return sum(self._recent) >= self._onset_frames

    def _begin(self, heard: FrameLevels, behind: int) -> SpeechOpened:
        """A segment that is noticed here, with so many frames in hand behind it."""
        first = len(self._recent) - list(self._recent).index(True)
        onset = self._at - first * FRAME_SAMPLES
        n_samples = min(first + self._preroll_frames, self._shut_frames) * FRAME_SAMPLES
        end = len(self._around) - behind * FRAME_SAMPLES
        self._open = True
        self._speech_end = self._at
        self._recent.clear()
        self._shut_frames = 0
        return SpeechOpened(self._at - n_samples, onset, self._at, self._around[end - n_samples : end], heard)
