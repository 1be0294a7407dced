"""A PortAudio input as a source. PortAudio is loaded only when it is asked for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from realtime_ser.errors import DeviceError
from realtime_ser.sources import Block, Lost
from realtime_ser.sources.ring import RingBuffer

RING_S = 5.0
_POLL_S = 0.01
_SILENT_S = 3.0
"""A callback that has not come for so long is taken for dead."""


@dataclass(frozen=True)
class InputDevice:
    """An input that PortAudio sees."""

    index: int
    name: str
    host_api: str
    channels: int
    rate_hz: float
    default: bool


def _portaudio() -> ModuleType:
    try:
        import sounddevice
    except OSError:
        raise DeviceError(
            "PortAudio is not installed", "install it (Debian and Ubuntu: apt install libportaudio2)"
        ) from None
    module: ModuleType = sounddevice
    return module


def list_inputs() -> list[InputDevice]:
    """The inputs that PortAudio sees; raises DeviceError without PortAudio."""
    sounddevice = _portaudio()
    hosts = [host["name"] for host in sounddevice.query_hostapis()]
    default = sounddevice.default.device[0]
    return [
        InputDevice(
            index,
            found["name"],
            hosts[found["hostapi"]],
            found["max_input_channels"],
            found["default_samplerate"],
            index == default,
        )
        for index, found in enumerate(sounddevice.query_devices())
        if found["max_input_channels"] > 0
    ]


def find_input(wanted: int | str | None) -> InputDevice:
    """The input of this number, with this in its name, or the default one.

    Raises
    ------
    DeviceError
        If there is none, or the name fits several.
    """
    inputs = list_inputs()
    if not inputs:
        raise DeviceError("no microphone found", "plug one in, or allow access to it in the system's settings")
    listed = "; ".join(f"{d.index} {d.name}" for d in inputs)
    if wanted is None:
        return next((d for d in inputs if d.default), inputs[0])
    if isinstance(wanted, int):
        found = [d for d in inputs if d.index == wanted]
    else:
        found = [d for d in inputs if wanted.lower() in d.name.lower()]
        found = [d for d in found if d.name.lower() == wanted.lower()] or found
    if not found:
        raise DeviceError(f"no input device {wanted!r}", f"there are: {listed}")
    if len(found) > 1:
        matches = "; ".join(f"{d.index} {d.name}" for d in found)
        raise DeviceError(f"device {wanted!r} could be any of {matches}", "give the number")
    return found[0]


class Microphone:
    """An input opened at its own rate; the callback copies into a ring and returns.

    Iterate for blocks, float32 of shape (n, channels), and `Lost` where samples did not arrive; `stop` ends it.

    Raises
    ------
    DeviceError
        No PortAudio, no such device, one that refuses, or one that stops delivering.
    """

    def __init__(self, device: int | str | None = None) -> None:
        self._sounddevice = _portaudio()
        found = find_input(device)
        self.name = found.name
        self.rate_hz = round(found.rate_hz)
        self.channels = min(found.channels, 2)
        self._device = found.index
        self._ring = RingBuffer(round(RING_S * self.rate_hz), self.channels)
        self._expected_s: float | None = None
        """When the next sample should have been recorded, by the device's clock; None before the first."""
        self._stopped = False

    @property
    def backlog_s(self) -> float:
        """Seconds of audio that have arrived and were not yet taken."""
        return self._ring.available / self.rate_hz

    def stop(self) -> None:
        """End the iteration."""
        self._stopped = True

    def __iter__(self) -> Iterator[Block]:
        # Errors of opening come out of the constructor and of start(), never of the callback.
        try:
            with self._sounddevice.InputStream(
                samplerate=self.rate_hz,
                device=self._device,
                channels=self.channels,
                dtype="float32",
                callback=self._callback,
            ):
                yield from self._blocks()
        except self._sounddevice.PortAudioError as error:
            reason = str(error).splitlines()[0]
            raise DeviceError(
                f"{self.name}: cannot be opened ({reason})", "close programs that use it, or choose another --device"
            ) from None

    def _blocks(self) -> Iterator[Block]:
        heard = time.monotonic()
        while not self._stopped:
            if lost := self._ring.take_loss():
                yield Lost(lost, "overflow: the machine was too busy")
            # Not `available`: a loss may have been recorded just now, and what is behind it is not to be read yet.
            elif len(block := self._ring.read(self.rate_hz // 10)):
                heard = time.monotonic()
                yield block
            else:
                if time.monotonic() - heard > _SILENT_S:
                    raise DeviceError(f"{self.name}: delivers no more audio", "was it unplugged? start again")
                time.sleep(_POLL_S)

    def _callback(self, block: NDArray[np.float32], frames: int, when: Any, status: Any) -> None:
        begin_s = when.inputBufferAdcTime
        # On the first block the flag tells of the time before we listened: nothing of ours is lost.
        if status.input_overflow and self._expected_s is not None:
            # PortAudio says that samples are missing, not how many: the device's clock does.
            self._ring.lose(max(1, round((begin_s - self._expected_s) * self.rate_hz)))
        self._expected_s = begin_s + frames / self.rate_hz
        self._ring.write(block)
