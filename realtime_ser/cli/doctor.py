"""`realtime-ser doctor`: is everything fit for a day of listening, and if not, what to do?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

import typer

from realtime_ser.cli import options
from realtime_ser.errors import DeviceError, RealtimeSerError
from realtime_ser.printable import plain_console, quieten_libraries, say, say_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from realtime_ser.sources.microphone import Microphone

Verdict = Literal["good", "doubtful", "faulty"]

QUIET_S = 3.0
SPEECH_S = 7.0
_READ_ALOUD = "Most kitchens have a table, a sink and a window. There are four chairs around the table. And so on."
_HOPELESS_RTF, _BUSY_RTF = 0.7, 0.3
"""Of analysis on this machine: from the first on it cannot keep up, from the second it may not under load."""
_NOISY_FLOOR_DBFS = -45.0
_QUIET_SPEECH_DBFS = -45.0
_SNR_DB = (6.0, 15.0)
"""Below the first the scores are worth little, below the second less than they could be (docs/evaluation)."""
_CLIPPED_SHARE = 1e-3


@dataclass(frozen=True)
class Check:
    """One thing looked at."""

    name: str
    verdict: Verdict
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class Heard:
    """What a stretch of listening gave, at 16 kHz."""

    levels_dbfs: NDArray[np.float64]
    """Of each 20 ms frame."""
    speech: NDArray[np.bool_]
    """Which of them the gate took for speech."""
    zeros: bool
    clipped_share: float
    lost_s: float


def doctor(
    device: options.Device = None,
    model: options.Model = None,
    as_json: options.Json = False,
) -> None:
    """Check PortAudio, microphone, level, noise, model and CPU; ten seconds, of which you speak seven."""
    quieten_libraries()
    checks = []
    for check in examine(device, model):
        checks.append(check)
        if not as_json:
            _tell(check)
    verdicts = [check.verdict for check in checks]
    verdict: Verdict = "faulty" if "faulty" in verdicts else "doubtful" if "doubtful" in verdicts else "good"
    if as_json:
        say_json({"verdict": verdict, "checks": [asdict(check) for check in checks]})
    else:
        words = {
            "good": "All is well.",
            "doubtful": "It works, but could be better: see above.",
            "faulty": "It cannot work like this: see above.",
        }
        say(words[verdict])
    raise typer.Exit(1 if verdict == "faulty" else 0)


def examine(device: str | None, model: str | None) -> Iterator[Check]:
    """The checks in the order in which they depend on each other; a fault ends what cannot go on."""
    yield _model(model)
    yield _cpu(model)
    try:
        from realtime_ser.sources.microphone import Microphone
        from realtime_ser.sources.portaudio import list_inputs, portaudio_version

        yield Check("PortAudio", "good", portaudio_version())
        inputs = list_inputs()
        if inputs:
            yield Check("inputs", "good", f"{len(inputs)} found")
        microphone = Microphone(options.device_of(device))
    except DeviceError as error:
        yield Check("microphone", "faulty", error.what, error.remedy)
        return
    try:
        quiet, speech = _listen(microphone)
    except DeviceError as error:
        yield Check("microphone", "faulty", error.what, error.remedy)
        return
    form = f"{microphone.name}, {microphone.rate_hz} Hz, {microphone.channels} channels"
    yield Check("microphone", "good", f"opens as {form}")
    yield from judge(quiet, speech)


def judge(quiet: Heard, speech: Heard) -> Iterator[Check]:
    """What is said of the sound itself."""
    import numpy as np

    from realtime_ser.stages.monitor import NO_SOUND

    if not len(quiet.levels_dbfs) or not len(speech.levels_dbfs):
        yield Check("sound", "faulty", "nothing arrives", "plug it in again; close programs that hold it")
        return
    if quiet.zeros and speech.zeros:
        yield Check("sound", "faulty", "exact zeros: no microphone is behind it", NO_SOUND)
        return
    if lost_s := quiet.lost_s + speech.lost_s:
        yield Check("gaps", "doubtful", f"{lost_s:.2f} s lost", "close what keeps the machine busy")
    else:
        yield Check("gaps", "good", "none")
    floor_dbfs = float(np.percentile(quiet.levels_dbfs, 20))
    noisy = floor_dbfs > _NOISY_FLOOR_DBFS
    remedy = "turn off fans, close the window, or lower the recording level"
    yield Check("noise floor", "doubtful" if noisy else "good", f"{floor_dbfs:.0f} dBFS", remedy if noisy else "")
    if speech.clipped_share > _CLIPPED_SHARE:
        found = f"{speech.clipped_share:.1%} of the samples are clipped"
        yield Check("clipping", "doubtful", found, "lower the recording level")
    else:
        yield Check("clipping", "good", "none to speak of")
    if not speech.speech.any():
        remedy = "speak when asked to, come closer, or choose another --device"
        yield Check("speech", "faulty", "no speech was found", remedy)
        return
    level_dbfs = float(10 * np.log10(np.mean(10 ** (speech.levels_dbfs[speech.speech] / 10))))
    low = level_dbfs < _QUIET_SPEECH_DBFS
    remedy = "raise the recording level, or come closer"
    yield Check("speech", "doubtful" if low else "good", f"{level_dbfs:.0f} dBFS", remedy if low else "")
    snr_db = level_dbfs - floor_dbfs
    verdict: Verdict = "faulty" if snr_db < _SNR_DB[0] else "doubtful" if snr_db < _SNR_DB[1] else "good"
    remedy = "" if verdict == "good" else "come closer to the microphone, or go where it is quieter"
    yield Check("signal to noise", verdict, f"{snr_db:.0f} dB", remedy)


def _model(name: str | None) -> Check:
    from realtime_ser.stages.model import load_model

    try:
        contract = load_model(name).contract
    except RealtimeSerError as error:
        return Check("model", "faulty", error.what, error.remedy)
    return Check("model", "good", f"{contract.model_id} ({contract.licence})")


def _cpu(name: str | None) -> Check:
    """How much of a core the analysis of constant speech takes."""
    from realtime_ser.session import Session
    from realtime_ser.sources.demo import demo_path
    from realtime_ser.sources.file import FileSource

    try:
        session = Session(name)
    except RealtimeSerError:
        return Check("CPU", "doubtful", "not measured, for want of a model")
    begun = time.perf_counter()
    source = FileSource(demo_path(), block_s=0.1)
    for block in source:
        session.push(block, source.rate_hz)
    share = (time.perf_counter() - begun) / session.clock_s
    verdict: Verdict = "faulty" if share > _HOPELESS_RTF else "doubtful" if share > _BUSY_RTF else "good"
    remedy = "" if verdict == "good" else "close what keeps the machine busy"
    return Check("CPU", verdict, f"analysis takes {share:.1%} of a core", remedy)


def _listen(microphone: Microphone) -> tuple[Heard, Heard]:
    """Silence, then speech, with a bar on stderr."""
    from rich.progress import BarColumn, Progress, TextColumn

    from realtime_ser.sources import Lost
    from realtime_ser.stages.monitor import Notice

    console = plain_console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn()
    with closing(iter(microphone)) as blocks, Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("Be silent …", total=QUIET_S)
        ear = _Ear(microphone)
        found: list[Heard] = []
        for what, seconds in (("Be silent …", QUIET_S), ("Now speak …", SPEECH_S)):
            progress.reset(bar, total=seconds, description=what)
            if found:
                console.print(f'Read aloud: "{_READ_ALOUD}"')
            ear.begin()
            begun = time.monotonic()
            while (passed_s := time.monotonic() - begun) < seconds and (item := next(blocks, None)) is not None:
                progress.update(bar, completed=passed_s)
                if isinstance(item, Notice):
                    raise DeviceError(item.message, "plug it in again; close programs that hold it")
                if isinstance(item, Lost):
                    ear.lose(item.samples / microphone.rate_hz)
                else:
                    ear.push(item)
            found.append(ear.heard())
    quiet, speech = found
    return quiet, speech


class _Ear:
    """Samples at the device's rate → levels and speech, with one noise floor for all stretches."""

    def __init__(self, microphone: Microphone) -> None:
        from realtime_ser.stages.clean import Cleaner
        from realtime_ser.stages.gate import SpeechGate
        from realtime_ser.stages.resample import Resampler

        self._resampler = Resampler(microphone.rate_hz, microphone.channels)
        self._cleaner = Cleaner()
        self._gate = SpeechGate()
        self.begin()

    def begin(self) -> None:
        """A new stretch."""
        self._levels: list[float] = []
        self._speech: list[bool] = []
        self._zeros = True
        self._lost_s = 0.0
        self._resampler.clipped.clear()

    def push(self, block: NDArray[np.float32]) -> None:
        from realtime_ser.stages.gate import Silence, SpeechClosed

        self._zeros = self._zeros and not block.any()
        for output in self._gate.push(self._cleaner.push(self._resampler.push(block))):
            if not isinstance(output, SpeechClosed):
                self._levels += output.frames.level_dbfs.tolist()
                self._speech += [not isinstance(output, Silence)] * len(output.frames)

    def lose(self, seconds: float) -> None:
        self._lost_s += seconds

    def heard(self) -> Heard:
        import numpy as np

        clipped = sum(noted.count for noted in self._resampler.clipped)
        return Heard(
            np.array(self._levels),
            np.array(self._speech, bool),
            self._zeros,
            clipped / max(1, self._resampler.rate_hz // 50 * len(self._levels)),
            self._lost_s,
        )


def _tell(check: Check) -> None:
    mark = {"good": "✓", "doubtful": "!", "faulty": "✗"}[check.verdict]
    say(f"{mark} {check.name:<16} {check.found}")
    if check.remedy:
        say(f"  {'':<16} → {check.remedy}")
