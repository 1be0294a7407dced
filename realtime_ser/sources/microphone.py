"""A PortAudio input as a source. PortAudio is loaded only when it is asked for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from realtime_ser.errors import DeviceError
from realtime_ser.sources import Block, Lost
from realtime_ser.sources.clock import DeviceClock, SleepWatch, since_boot_s
from realtime_ser.sources.portaudio import (
    Attempt,
    InputDevice,
    answered,
    find_input,
    leave_without_portaudio,
    list_inputs,
    portaudio,
)
from realtime_ser.sources.ring import RingBuffer
from realtime_ser.stages.monitor import Notice

T = TypeVar("T")

RING_S = 5.0
_BLOCK_S = 0.25
"""Of a callback: a hop. Waking up is what costs: with blocks of 0.01 s, `live` takes four times the CPU."""
_LATENCY_S = 2 * _BLOCK_S
"""What PortAudio may keep back."""
_REST_S = 2 * _BLOCK_S
"""So much is read at once while nobody speaks."""
_WAIT_S = _REST_S + 0.1
_SILENT_S = 3.0
"""A callback that has not come for so long is taken for dead."""
_RETRY_S = (0.5, 5.0)
"""Waits between attempts to open a lost device: the first, doubled up to the longest."""
_BEHIND_S = (3.0, 0.5)
"""More than the first waiting to be analysed is cut down to the second: better a gap than an ever later screen."""
_CLOSE_S = 2.0
"""PortAudio may hang on a device that is gone; closing gets so long."""


class Microphone:
    """An input opened at its own rate; the callback copies into a ring, wakes whoever reads it, and returns.

    Iterate for blocks, float32 of shape (n, channels), `Lost` where samples did not arrive, and a `Notice` when the
    device is gone. It is then opened again by its name, and is back with its first samples; until then a `Lost` every
    quarter of a second tells what is missing by now, so that whoever iterates stays awake. `stop` ends it.

    Parameters
    ----------
    device
        See `find_input`.
    channels
        How many to open; by default two, or one if there are no more.

    Raises
    ------
    DeviceError
        No PortAudio, no such device or channel, or one that refuses at the start.
    """

    def __init__(self, device: int | str | None = None, channels: int | None = None) -> None:
        self._sounddevice = portaudio()
        found = find_input(device)
        self.channels = channels or min(found.channels, 2)
        self._use(found)
        self.speaking: Callable[[], bool] = lambda: True
        """Whether somebody is; if not, there is no hurry, and blocks come half as often."""
        self._stopped = False
        self._ready: Any = None
        """A stream that is open, and not yet begun."""
        self._arrived = threading.Event()
        self._heard_s = self._told_s = since_boot_s()
        """Up to when all is heard or lost, counted from `_begun_s`; and while away, up to when the loss is told."""

    def _use(self, found: InputDevice) -> None:
        if found.channels < self.channels:
            raise DeviceError(f"{found.name}: has {found.channels} channels", "give another --channel or --device")
        self._found = found
        self.name = found.name
        self.rate_hz = round(found.rate_hz)
        self._ring = RingBuffer(round(RING_S * self.rate_hz), self.channels)
        self._clock = DeviceClock(self.rate_hz)
        self._sleep = SleepWatch()
        self._begun_s: float | None = None
        """When the first block began; None before it came."""

    @property
    def backlog_s(self) -> float:
        """Seconds of audio that have arrived and were not yet taken."""
        return self._ring.available / self.rate_hz

    def stop(self) -> None:
        """End the iteration."""
        self._stopped = True

    def open(self) -> None:
        """Open the device, so that one that refuses does so now; it is silent until it is iterated over.

        Raises DeviceError.
        """
        self._ready = self._granted(self._open)

    def close(self) -> None:
        """Close a device that was opened and never iterated over."""
        ready, self._ready = self._ready, None
        if ready is not None:
            self._in_time(ready.close)

    def __iter__(self) -> Generator[Block, None, None]:
        if self._ready is None:
            self.open()
        stream, self._ready = self._ready, None
        try:
            self._heard_s = since_boot_s()
            self._granted(stream.start)
            while True:
                yield from self._blocks()
                if self._stopped:
                    return
                yield Notice(
                    "device_lost",
                    f"{self.name} delivers no more audio",
                    "plug it in again; it is opened when it is back",
                )
                lost, stream = stream, None  # it is closed there, and not again by whoever leaves meanwhile
                stream = yield from self._return_of(lost)
                if stream is None:
                    return
                assert self._begun_s is not None  # it is back with its first samples
                yield self._missing(self._begun_s)
                yield Notice("device_back", f"{self.name} is back", "a gap stands for the time away")
        finally:
            if stream is not None:
                self._in_time(stream.close)

    def _granted(self, call: Callable[[], T]) -> T:
        try:
            return answered(call)
        except self._sounddevice.PortAudioError as error:
            reason = str(error).splitlines()[0]
            raise DeviceError(
                f"{self.name}: cannot be opened ({reason})", "close programs that use it, or choose another --device"
            ) from None

    def _open(self) -> Any:
        return self._sounddevice.InputStream(
            samplerate=self.rate_hz,
            device=self._found.index,
            channels=self.channels,
            dtype="float32",
            blocksize=round(_BLOCK_S * self.rate_hz),
            latency=_LATENCY_S,
            callback=self._callback,
        )

    def _blocks(self) -> Iterator[Block]:
        """What arrives, until nothing has for a while."""
        silent_waits = 0
        awake = False
        while not self._stopped:
            if lost := self._ring.take_loss():
                yield lost
            elif self.backlog_s > _BEHIND_S[0]:
                kept = round(_BEHIND_S[1] * self.rate_hz)
                yield Lost(self._ring.drop(self._ring.available - kept), "analysis fell behind")
            # Not `available`: a loss may have been recorded just now, and what is behind it is not to be read yet.
            elif (awake or self._enough()) and len(block := self._ring.read(round(_REST_S * self.rate_hz))):
                silent_waits = 0
                awake = True
                yield block
            else:
                # Counted, not timed: to a process that was stopped for a while the device is not dead at once.
                awake = not self._arrived.wait(_WAIT_S)
                silent_waits += awake
                if silent_waits * _WAIT_S > _SILENT_S:
                    return
                self._arrived.clear()

    def _enough(self) -> bool:
        """Whether what has arrived is worth waking up for."""
        return self.backlog_s >= _REST_S or self.speaking()

    def _return_of(self, lost: Any) -> Generator[Block, None, Any]:
        """Wait until the device delivers, telling what is missing; returns its new stream, or None if stopped."""
        self._told_s = self._heard_s - self.backlog_s  # what came since is read no more
        wait_s, longest_s = _RETRY_S
        opened: Any = lost
        try:
            while not self._stopped:
                silent, opened = opened, None  # it is closed here, and not again by whoever leaves meanwhile
                self._in_time(silent.close)
                opened = attempt = Attempt(self._open_again)
                while attempt.lasts(wait_s, _SILENT_S):
                    if self._stopped:
                        return None
                    if attempt.result is not None and self._begun_s is not None:
                        opened = None
                        return attempt.result
                    yield self._missing(since_boot_s() - _BLOCK_S)  # the block to come begins after that
                    time.sleep(_BLOCK_S)
                wait_s = min(2 * wait_s, longest_s)
        finally:
            if opened is not None:
                self._in_time(opened.close)
        return None

    def _missing(self, until_s: float) -> Lost:
        """What is to be told of the time away, up to then."""
        samples = max(0, round((until_s - self._told_s) * self.rate_hz))
        self._told_s += samples / self.rate_hz
        return Lost(samples, "the device was away")

    def _open_again(self) -> Any:
        # PortAudio looks for devices only when it starts, and sounddevice offers no public way to start it again.
        self._sounddevice._terminate()
        self._sounddevice._initialize()
        was = self._found
        self._use(next(d for d in list_inputs() if (d.name, d.host_api) == (was.name, was.host_api)))
        stream = self._open()
        stream.start()
        return stream

    def _in_time(self, close: Any) -> None:
        """Close what may hang. If it does, the program's end must not wait for PortAudio either."""
        thread = threading.Thread(target=close, kwargs={"ignore_errors": True}, daemon=True)
        thread.start()
        thread.join(_CLOSE_S)
        if thread.is_alive():
            leave_without_portaudio()

    def _callback(self, block: NDArray[np.float32], frames: int, when: Any, status: Any) -> None:
        # Not `when.currentTime`, which on Linux is the clock on the wall, and that can be set.
        self._keep(block, when.inputBufferAdcTime, time.monotonic(), bool(status.input_overflow))

    def _keep(self, block: NDArray[np.float32], begin_s: float, arrived_s: float, overflow: bool) -> None:
        """For the reader: a block that was recorded and came then, and what is missing before it."""
        slept_s = self._sleep.push()
        if self._begun_s is None:
            self._begun_s = self._heard_s = since_boot_s() - len(block) / self.rate_hz
        elif slept_s:
            self._lose(Lost(round(slept_s * self.rate_hz), "the machine slept"))
            self._clock = DeviceClock(self.rate_hz)  # the device's may have slept, too, or not
        if lost := self._clock.push(begin_s, arrived_s, len(block), overflow):
            self._lose(lost)
        self._heard_s += len(block) / self.rate_hz
        self._ring.write(block)
        if self._enough():
            self._arrived.set()

    def _lose(self, lost: Lost) -> None:
        self._ring.lose(lost)
        self._heard_s += lost.samples / self.rate_hz
