"""PortAudio: which inputs it sees, and calls into it that may hang. It is loaded only when it is asked for."""

from __future__ import annotations

import atexit
import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar

from realtime_ser.errors import DeviceError

T = TypeVar("T")

_ANSWER_S = 10.0
"""It may hang on a sound server that does not answer; a call gets so long."""
_own_stderr: int | None = None
"""sounddevice leads stderr to nowhere while PortAudio looks for devices; if it hangs in that, this leads it back."""


@dataclass(frozen=True)
class InputDevice:
    """An input that PortAudio sees."""

    index: int
    name: str
    host_api: str
    channels: int
    rate_hz: float
    latency_s: float
    """The least that it promises."""
    default: bool
    host_default: bool
    """The default input of its host API."""


def _import_portaudio() -> ModuleType:
    try:
        import sounddevice
    except OSError:
        raise DeviceError(
            "PortAudio is not installed", "install it (Debian and Ubuntu: apt install libportaudio2)"
        ) from None
    module: ModuleType = sounddevice
    return module


def portaudio() -> ModuleType:
    """The module sounddevice; raises DeviceError without PortAudio, or if it does not answer."""
    global _own_stderr
    if _own_stderr is None:
        with suppress(OSError):
            _own_stderr = os.dup(2)
    return answered(_import_portaudio)


def portaudio_version() -> str:
    """What PortAudio calls itself; raises DeviceError without PortAudio."""
    text: str = portaudio().get_portaudio_version()[1]
    return text


def list_inputs() -> list[InputDevice]:
    """The inputs that PortAudio sees; raises DeviceError without PortAudio."""
    sounddevice = portaudio()
    hosts = sounddevice.query_hostapis()
    default = sounddevice.default.device[0]
    return [
        InputDevice(
            index,
            found["name"],
            hosts[found["hostapi"]]["name"],
            found["max_input_channels"],
            found["default_samplerate"],
            found["default_low_input_latency"],
            index == default,
            index == hosts[found["hostapi"]]["default_input_device"],
        )
        for index, found in enumerate(sounddevice.query_devices())
        if found["max_input_channels"] > 0
    ]


def no_microphone() -> DeviceError:
    """What to tell when `list_inputs` gives none."""
    return DeviceError("no microphone found", "plug one in, or allow access to it in the system's settings")


def find_input(wanted: int | str | None) -> InputDevice:
    """The input of this number, with this in its name, a host API's default one by its name, or the default one.

    A name may have several parts with commas between them, each in the device's or the host API's name: "usb, asio".

    Raises
    ------
    DeviceError
        If there is none, or the name fits several.
    """
    inputs = list_inputs()
    if not inputs:
        raise no_microphone()
    if wanted is None:
        return next((d for d in inputs if d.default), inputs[0])
    found = _matching(inputs, wanted)
    if not found:
        raise DeviceError(f"no input device {wanted!r}", f"there are: {_listed(inputs)}")
    if len(found) > 1:
        raise DeviceError(f"device {wanted!r} could be any of {_listed(found)}", "give the number")
    return found[0]


def _matching(inputs: list[InputDevice], wanted: int | str) -> list[InputDevice]:
    if isinstance(wanted, int):
        return [d for d in inputs if d.index == wanted]
    name = wanted.lower()
    if exact := [d for d in inputs if d.name.lower() == name]:
        return exact
    if of_host := [d for d in inputs if d.host_api.lower() == name and d.host_default]:
        return of_host
    parts = [part.strip() for part in name.split(",")]
    return [d for d in inputs if all(part in f"{d.name} {d.host_api}".lower() for part in parts)]


def _listed(inputs: list[InputDevice]) -> str:
    return "; ".join(f"{d.index} {d.name} ({d.host_api})" for d in inputs)


class Attempt(threading.Thread):
    """A call into PortAudio in a thread of its own, as it may hang."""

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._call = call
        self.result: Any = None
        self.error: Exception | None = None
        self._ended_s = 0.0
        self.start()

    def run(self) -> None:
        try:
            self.result = self._call()
        except Exception as error:  # noqa: BLE001 - the thread's boundary: whoever waits for it decides
            self.error = error
        self._ended_s = time.monotonic()

    def lasts(self, wait_s: float, silent_s: float) -> bool:
        """Whether to wait for more of it: for samples, if it has opened a stream, or `wait_s` before the next."""
        return self.is_alive() or time.monotonic() - self._ended_s < (wait_s if self.result is None else silent_s)

    def close(self, ignore_errors: bool) -> None:
        """Close the stream that it opens, once it has."""
        self.join()
        if self.result is not None:
            self.result.close(ignore_errors=ignore_errors)


def answered(call: Callable[[], T], limit_s: float = _ANSWER_S) -> T:
    """What a call into PortAudio gives; raises DeviceError if it does not come back in time."""
    attempt = Attempt(call)
    deadline = time.monotonic() + limit_s
    while attempt.is_alive():
        attempt.join(0.1)  # in pieces, so that Ctrl-C is heard on every platform
        if time.monotonic() > deadline:
            leave_without_portaudio()
            raise DeviceError("the sound system does not answer", "restart it, or the machine")
    if attempt.error is not None:
        raise attempt.error
    result: T = attempt.result
    return result


def leave_without_portaudio() -> None:
    """A PortAudio that hangs must not keep the program from ending, nor from saying why.

    Its thread may go in circles for good when a device vanishes (https://github.com/PortAudio/portaudio/issues/1037).
    """
    if (sounddevice := sys.modules.get("sounddevice")) is not None:
        atexit.unregister(sounddevice._exit_handler)
        ctypes.CDLL(sounddevice._libname)  # for good: Python unloads it at its end, from under the thread that hangs
    if _own_stderr is not None:
        os.dup2(_own_stderr, 2)
