"""The whole pipeline behind one verb: push samples, get events."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from realtime_ser import events
from realtime_ser.errors import ModelError, SettingsError
from realtime_ser.event_log import EventLog
from realtime_ser.measurer import Measurer, utc_now
from realtime_ser.settings import RATE_HZ, SessionSettings
from realtime_ser.stages.calls import Steps, alone
from realtime_ser.stages.clean import Cleaner
from realtime_ser.stages.detector import FRAME_SAMPLES
from realtime_ser.stages.gate import (
    FrameLevels,
    Silence,
    SpeechClosed,
    SpeechContinued,
    SpeechGate,
    SpeechOpened,
)
from realtime_ser.stages.model import Model, load_model
from realtime_ser.stages.monitor import InputMonitor, Levels, Notice, bad_samples
from realtime_ser.stages.profile import Profile
from realtime_ser.stages.resample import Resampler, checked_rate, to_float32
from realtime_ser.stages.rest import RestFinder
from realtime_ser.stages.scorer import Scored, Scorer
from realtime_ser.stages.trace import AFFECT_SOURCE
from realtime_ser.stages.window import LONGEST_UTTERANCE_S
from realtime_ser.stages.window_model import WindowModel
from realtime_ser.tally import Tally

_SPEECH = SpeechOpened, SpeechContinued
_PIECE_S = 2
"""What is heard at once: more saves hardly any time, and a whole recording must not need its size many times over."""
_VERSIONED = ("realtime-ser", "numpy", "onnxruntime", "soxr", "webrtcvad-wheels")


def software_versions() -> dict[str, str]:
    """Of everything that has a say in the measurements; "unknown" of what was copied without its metadata."""
    return {"python": platform.python_version()} | {name: _version(name) for name in _VERSIONED}


@cache
def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"


@dataclass(frozen=True)
class Beginning:
    """What a session that hears a piece of a longer recording has to know of what came before its first sample."""

    at_s: float
    """Where that is, a rest (`stages/rest.py`)."""
    utterances: int
    tally: Tally


class Session:
    """Samples in, events out: a pure function of the samples, however they are cut into blocks.

    Parameters
    ----------
    model
        A loaded model, the name of a bundled one, or the path of a folder or file; the default model if None.
    settings
        Of all stages.
    source
        What the samples come from, for the record.
    channel
        Which channel of it they are, for the record; None for all.
    profile
        The speaker's own neutral speech (`realtime-ser calibrate`): the trace is then relative to it.
    rules
        Such as "arousal > 0.4 for 8s": each gives an `alert` when it comes true (`stages/rules.py`).
    beginning
        Where in a longer recording the first sample is; at its start if None.

    Raises
    ------
    ModelError
        If the model cannot be loaded.
    SettingsError
        If the settings ask for what the model cannot do, or a rule cannot be understood.
    ProfileError
        If the profile was made with another model.
    """

    def __init__(
        self,
        model: Model | WindowModel | str | Path | None = None,
        settings: SessionSettings | None = None,
        source: str = "push",
        channel: int | None = None,
        profile: Profile | None = None,
        rules: Sequence[str] = (),
        beginning: Beginning | None = None,
    ) -> None:
        self._model = load_model(model) if model is None or isinstance(model, str | Path) else model
        self._settings = s = SessionSettings() if settings is None else settings
        if not isinstance(s, SessionSettings):
            raise SettingsError(f"settings of type {type(s).__name__}", "give SessionSettings")
        contract = self._model.contract
        shortest_s, longest_s = contract.shortest_window_s, contract.longest_window_s
        if not shortest_s <= min(s.window.window_s, s.window.first_s) <= s.window.window_s <= longest_s:
            raise SettingsError(
                f"window of {s.window.window_s} s, first of {s.window.first_s} s",
                f"{contract.model_id} takes {shortest_s} to {longest_s} s",
            )
        if profile:
            profile.check(contract.model_id, self._model.sha256)
        self._profile = profile
        self._source = source
        self._resampler: Resampler | None = None
        self._cleaner = Cleaner(s.clean)
        self._gate = SpeechGate(s.gate)
        self._monitor = InputMonitor()
        self._scorer = Scorer(self._model, s.window)
        self._hop_samples = round(s.window.hop_s * RATE_HZ)
        self._levels = Levels()
        """Of the hop."""
        self._spoken_levels = Levels(round(LONGEST_UTTERANCE_S * RATE_HZ) // FRAME_SAMPLES)
        """Of the utterance, as far as its measurement looks back."""
        self._closed = False
        self._beginning = beginning or Beginning(0, 0, Tally(contract.labels, self._hop_samples))
        self._tally = self._beginning.tally
        self._log = EventLog(channel, self._tally)
        self._measurer = Measurer(contract.labels, s.trace, profile, rules, self._log)
        self._rest: RestFinder | None = None
        self._base = round(self._beginning.at_s * RATE_HZ)
        """Where on the clock the resampler began."""
        self._gate.reset(self._base)
        self._native_samples = 0
        """Pushed since then, at its rate."""
        self._at = self._base
        """Up to where the gate has heard."""
        self._hop_start = self._base
        self._utterance = self._beginning.utterances
        self._segment: SpeechOpened | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """The model's labels, in its order."""
        return self._model.contract.labels

    @property
    def model(self) -> Model | WindowModel:
        """The model in use."""
        return self._model

    @property
    def clock_s(self) -> float:
        """Seconds of audio pushed so far, gaps included."""
        return self._clock() / RATE_HZ

    @property
    def needs_s(self) -> float:
        """Seconds of audio until the next hop ends. With less, only a beginning or an end of speech can be told."""
        silent = self._hop_samples - (self._at - self._hop_start)
        return max(0, self._scorer.missing_samples if self.speaking else silent) / RATE_HZ

    @property
    def speaking(self) -> bool:
        """Whether an utterance is open."""
        return self._segment is not None

    def push(self, block: NDArray[Any], sample_rate: int = RATE_HZ, arrived: float | None = None) -> list[events.Event]:
        """Give samples, int16 or float32 of shape (n,) or (n, channels); get the events that they complete.

        `arrived` is when they came by `time.perf_counter`, for `latency_ms`; now if None.

        Raises
        ------
        SettingsError
            For samples of a type or shape that is no audio, an impossible rate, or after `flush`.
        ModelError
            If the model gives anything but scores. The open utterance is given up; `flush` tells the rest.
        """
        return alone(self.steps(block, sample_rate, arrived))

    def steps(
        self, block: NDArray[Any], sample_rate: int = RATE_HZ, arrived: float | None = None
    ) -> Steps[list[events.Event]]:
        """`push`, asking for each run of a network: what `SessionPool` runs for many sessions at once."""
        if self._closed:
            raise SettingsError("push after flush", "begin a new Session")
        begun = time.perf_counter() if arrived is None else arrived
        rate_hz = checked_rate(sample_rate)
        samples = to_float32(np.asarray(block))
        self._created()
        if not len(samples):
            return self._log.take()  # of whatever rate and shape: nothing ends by it
        if self._resampler is None or (self._resampler.rate_hz, self._resampler.channels) != (
            rate_hz,
            samples.shape[1],
        ):
            replacement = Resampler(rate_hz, samples.shape[1])
            yield from self._end_of_stretch(begun)
            self._resampler = replacement
            begun_s = self._beginning.at_s if self._rest is None else 0.0
            self._rest = RestFinder(self._settings.rest, rate_hz, begun_s, rested=begun_s > 0)
        assert self._rest is not None  # made with the first resampler
        while len(samples):
            part = samples[: _PIECE_S * rate_hz]
            rest = self._rest.push(part)
            part = part[:rest]
            samples = samples[len(part) :]
            self._native_samples += len(part)
            try:
                yield from self._hear(self._resampler.push(part), begun)
            except BaseException:  # most often ModelError
                self._begin_stretch()  # `flush` can still tell all that was heard before
                raise
            if rest:
                yield from self._begin_anew(begun)
        return self._log.take()

    def gap(self, lost_samples: int, cause: str) -> list[events.Event]:
        """Samples were lost here, counted at 16 kHz: the clock runs on over them, and all stages begin anew."""
        if self._closed or not (lost_samples > 0 and float(lost_samples).is_integer()):
            raise SettingsError(f"gap of {lost_samples} samples", "give a positive whole number, before flush")
        lost = int(lost_samples)  # NumPy's integers overflow in a long session
        self._created()
        try:
            alone(self._end_of_stretch(time.perf_counter()))
        finally:  # the model may have failed; the clock goes on all the same
            start = self._base
            self._base += lost
            self._gate.reset(self._base)
            self._monitor.reset()
            self._measurer.reset()
            self._levels.clear()
            self._at = self._hop_start = self._base
            self._log.add(events.Gap, start, self._base, cause=cause, lost_samples=lost)
        return self._log.take()

    def pause(self) -> list[events.Event]:
        """No samples come for a while: what was heard is told, speech ends, and whatever comes then is heard anew.

        The clock stands; a `gap` may follow once it is known how long it should have run.

        Raises
        ------
        SettingsError
            After `flush`.
        ModelError
            As `push`.
        """
        if self._closed:
            raise SettingsError("pause after flush", "begin a new Session")
        self._created()
        alone(self._end_of_stretch(time.perf_counter()))
        return self._log.take()

    def mark(self, text: str) -> list[events.Event]:
        """The user marks this moment; not after `flush`."""
        if self._closed:
            raise SettingsError("mark after flush", "begin a new Session")
        self._created()
        self._log.add(events.Marker, self._clock(), self._clock(), text=text)
        return self._log.take()

    def warn(self, notice: Notice) -> list[events.Event]:
        """The source has something to tell; not after `flush`."""
        if self._closed:
            raise SettingsError("warn after flush", "begin a new Session")
        self._created()
        self._log.warn(notice, self._clock())
        return self._log.take()

    def flush(self, reason: str = "end of input", problem: str | None = None) -> list[events.Event]:
        """End of input: the last events and the totals. Nothing can be pushed after it; flushing again gives [].

        `problem` is what the source knows and the samples cannot tell: why there is no more of them. Raises ModelError
        as `push` does, and tells the rest when called again; for the reason "error", which is known by then, at once.
        """
        if self._closed:
            return []
        self._created()
        try:
            alone(self._end_of_stretch(time.perf_counter()))
        except ModelError:
            if reason != "error":
                raise
        end = self._clock()
        if problem:
            remedy = "what came before it is analysed"
            self._log.add(events.Warning, end, end, code="source_problem", message=problem, remedy=remedy)
        self._log.add(
            events.SessionClosed,
            0,
            end,
            audio_s=end / RATE_HZ,
            reason=reason,
            **self._tally.totals(),
        )
        self._closed = True
        return self._log.take()

    # What follows turns stage outputs into events. All positions are samples of the 16 kHz clock.

    def _clock(self) -> int:
        rate_hz = self._resampler.rate_hz if self._resampler else RATE_HZ
        return self._base + self._native_samples * RATE_HZ // rate_hz

    def _created(self) -> None:
        if not self._log.empty:
            return
        contract = self._model.contract
        self._log.add(
            events.SessionCreated,
            0,
            0,
            model_id=contract.model_id,
            model_sha256=self._model.sha256,
            model_licence=contract.licence,
            labels=contract.labels,
            settings=asdict(self._settings),
            versions=software_versions(),
            source=self._source,
            affect=AFFECT_SOURCE,
            profile=self._profile.name if self._profile else None,
            baseline=self._measurer.by_label(self._profile.baseline()) if self._profile else {},
            wall_time=utc_now(),
        )

    def _end_of_stretch(self, begun: float) -> Steps[None]:
        """Hear all that is still inside, close speech, and move the clock's base up to here."""
        try:
            if self._resampler is not None:
                yield from self._hear(self._resampler.flush(), begun)
                for bad in self._resampler.bad:
                    self._log.warn(bad_samples(bad.count), self._at)
            for closed in self._gate.flush():
                yield from self._close_speech(closed, begun)
            if self._at > self._hop_start:
                self._silence(self._at, begun)
        finally:  # the model may have failed
            self._begin_stretch()

    def _begin_anew(self, begun: float) -> Steps[None]:
        """At a rest, and as if here were the start: what comes depends on nothing before."""
        assert self._resampler is not None
        same = Resampler(self._resampler.rate_hz, self._resampler.channels)
        yield from self._end_of_stretch(begun)
        self._monitor.reset()
        self._measurer.reset_trace()
        self._levels.clear()
        self._resampler = same

    def _begin_stretch(self) -> None:
        """All that hears begins anew where the samples end; an utterance that is open is given up."""
        self._base = end = max(self._clock(), self._at)
        self._native_samples, self._resampler = 0, None
        self._segment = None
        for stage in (self._cleaner, self._scorer):
            stage.reset()
        self._gate.reset(end)
        self._at = self._hop_start = end

    def _hear(self, samples: NDArray[np.float32], begun: float) -> Steps[None]:
        outputs = yield from self._gate.steps(self._cleaner.push(samples))
        for speaks, some in groupby(outputs, lambda output: isinstance(output, _SPEECH)):
            if speaks:
                yield from self._speech(list(some), begun)  # type: ignore[arg-type]  # these alone
                continue
            for output in some:
                if isinstance(output, Silence):
                    self._no_speech(output.frames, begun)
                elif isinstance(output, SpeechClosed):
                    yield from self._close_speech(output, begun)

    def _no_speech(self, frames: FrameLevels, begun: float) -> None:
        while len(frames):
            missing = -(-(self._hop_start + self._hop_samples - self._at) // FRAME_SAMPLES)
            self._pass(frames[:missing])
            frames = frames[missing:]
            if self._at - self._hop_start >= self._hop_samples:
                self._silence(self._hop_start + self._hop_samples, begun)

    def _speech(self, outputs: Sequence[SpeechOpened | SpeechContinued], begun: float) -> Steps[None]:
        if isinstance(opened := outputs[0], SpeechOpened):
            self._utterance += 1
            self._segment = opened
            self._spoken_levels.clear()
            self._measurer.begin_utterance()
            self._log.add(events.SpeechStarted, opened.start, opened.at, utterance=self._utterance)
        for piece in (yield from self._scorer.steps(outputs)):
            self._pass(piece.frames)
            for scored in piece.windows:
                self._hop(scored, begun)

    def _pass(self, frames: FrameLevels) -> None:
        """The clock runs over some frames, and what they show of the input is told."""
        start = self._at
        end = start + len(frames) * FRAME_SAMPLES
        assert self._resampler is not None  # the frames are what it gave
        bad, clipped, native_frame = self._resampler.bad, self._resampler.clipped, self._resampler.rate_hz // 50
        notices: list[tuple[int, Notice]] = []
        while bad and self._base + bad[0].at <= end:
            found = bad.pop(0)
            notices.append((max(0, self._base + found.at - start - 1) // FRAME_SAMPLES, bad_samples(found.count)))
        counts = [0] * len(frames)
        while clipped and self._base + clipped[0].at <= end:
            piece = clipped.pop(0)
            counts[(self._base + piece.at - start - 1) // FRAME_SAMPLES] += piece.count
        levels_dbfs = frames.level_dbfs.tolist()
        for levels in (self._levels, self._spoken_levels) if self._segment else (self._levels,):
            levels.add(levels_dbfs, float(frames.floor_dbfs[-1]), counts)
        notices += self._monitor.push(levels_dbfs, [count / native_frame for count in counts])
        for i, notice in sorted(notices, key=itemgetter(0)):
            self._at = start + (i + 1) * FRAME_SAMPLES
            self._log.warn(notice, self._at)
        self._at = end

    def _silence(self, end: int, begun: float) -> None:
        levels = self._levels.take() | {"snr_db": None}
        self._measurer.silence(self._hop_start, end, begun, **levels)
        self._hop_start = end

    def _close_speech(self, closed: SpeechClosed, begun: float) -> Steps[None]:
        opened = self._segment
        assert opened is not None  # the gate closes only what it opened
        hops, whole = yield from self._scorer.flush_steps()
        for scored in hops:
            self._hop(scored, begun)
        spoken = self._spoken_levels.take(behind=(closed.at - closed.speech_end) // FRAME_SAMPLES)
        measurement = self._score(whole[0], "utterance", begun, spoken) if whole else None
        duration = closed.speech_end - opened.onset
        self._log.add(
            events.SpeechEnded,
            opened.start,
            closed.at,
            utterance=self._utterance,
            duration_s=duration / RATE_HZ,
            measurement=measurement,
        )
        self._segment = None
        self._hop_start = closed.at
        self._levels.clear()
        if notice := self._tally.doubt():
            self._log.warn(notice, self._at)

    def _hop(self, scored: Scored, begun: float) -> None:
        levels = self._levels.take()
        for notice in self._monitor.speech(levels["level_dbfs"], levels["snr_db"]):
            self._log.warn(notice, self._at)
        self._score(scored, "hop", begun, levels)

    def _score(
        self, scored: Scored, trigger: events.Trigger, begun: float, levels: dict[str, Any]
    ) -> events.Measurement:
        opened = self._segment
        assert opened is not None  # windows exist only inside a segment
        start, end = opened.start + scored.start, opened.start + scored.end
        return self._measurer.speech(scored.posteriors, start, end, trigger, begun, utterance=self._utterance, **levels)
