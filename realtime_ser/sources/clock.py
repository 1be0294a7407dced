"""What a device's own clock says about the samples it delivers, and the machine's about its sleep."""

from __future__ import annotations

import math
import time

from realtime_ser.sources import Lost

_JUMP_S = 0.1
"""Less than this is the jitter of a driver's time stamps."""
_SURE_S = 0.5
"""A jump must stand for so long: a late time stamp is followed by right ones, missing samples never come."""
_STANDING_S = 2.0
"""What has changed for so long without a loss is how it is now: drift, another latency, or a better guess of it."""
_SHORTEST_SLEEP_S = 1.0
_OVERFLOW = "overflow: the machine was too busy"
_MISSING = "missing by the device's clock"


def since_boot_s() -> float:
    """Seconds since some moment, those included in which the machine slept; nobody can set this clock.

    `time.monotonic` stands still in sleep on Linux and macOS. On Windows it does not.
    """
    clock = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC_RAW", None))
    return time.monotonic() if clock is None else time.clock_gettime(clock)


class SleepWatch:
    """Tells that the machine slept, once it is awake."""

    def __init__(self) -> None:
        self._asleep_s = self._all_asleep_s()

    def push(self) -> float:
        """For how many seconds since last asked; 0 for less than one."""
        asleep_s = self._all_asleep_s()
        slept_s = asleep_s - self._asleep_s
        if slept_s < _SHORTEST_SLEEP_S:
            return 0.0
        self._asleep_s = asleep_s
        return slept_s

    @staticmethod
    def _all_asleep_s() -> float:
        # In this order: a thread that has to wait in between seems to have slept for less, not for more.
        boot_s = since_boot_s()
        return boot_s - time.monotonic()


class DeviceClock:
    """Compares the time stamps of blocks with the samples counted, to find samples that never came.

    Both must be late, the time stamps and the times of arrival. A sound server that changes its latency changes the
    one, one that corrects its guess of it the other; and what it kept for us while we were away comes late with the
    right time stamps. A block that comes on time proves that nothing is missing, whatever its time stamp says, and what
    that stamp says is right from then on. Of two blocks at once the second may have the time stamp of the first.

    Parameters
    ----------
    rate_hz
        Of the samples.
    """

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._counted = 0
        self._arrived_s = -math.inf
        """When the last block came."""
        self._clocks: tuple[_Expected, _Expected] | None = None
        """Of the time stamps and of the arrivals; None before the first block."""
        self._late: tuple[float, float] | None = None
        """Since when both have been late, and by how much at least."""

    def push(self, begin_s: float, arrived_s: float, samples: int, overflow: bool) -> Lost | None:
        """Give when a block was recorded and when it came, its length, and whether its driver tells of a loss before.

        The two times may be of different clocks. Returns what is missing: before this block if `overflow`, else as soon
        as it is sure, 0.5 s after a jump. A host that has no time stamps gives 0 for all.
        """
        counted_s = self._counted / self._rate_hz
        stamp_s, arrival_s = (begin_s - counted_s, arrived_s - counted_s) if begin_s else (0.0, 0.0)
        self._counted += samples
        at_once = not overflow and arrived_s - self._arrived_s < 0.5 * samples / self._rate_hz
        self._arrived_s = arrived_s
        if self._clocks is None:
            # Here the flag tells of the time before we listened: nothing of ours is lost.
            self._clocks = _Expected(stamp_s, arrived_s), _Expected(arrival_s, arrived_s)
            return None
        stamps, arrivals = self._clocks
        late_s = arrivals.push(arrival_s, arrived_s)
        if late_s <= _JUMP_S:
            stamps.allow(stamp_s)
        if not at_once:
            late_s = min(late_s, stamps.push(stamp_s, arrived_s))
        if late_s <= _JUMP_S:
            self._late = None
        elif self._late or not at_once:
            for clock in self._clocks:
                clock.begin(arrived_s)  # a loss is not how it is now
            since_s, least_s = self._late or (arrived_s, late_s)
            self._late = since_s, min(late_s, least_s)
        if overflow:
            # The driver does not say of how much.
            lost = Lost(max(1, round(late_s * self._rate_hz)), _OVERFLOW)
        elif self._late and arrived_s - self._late[0] >= _SURE_S:
            lost = Lost(round(self._late[1] * self._rate_hz), _MISSING)
        else:
            return None
        self._counted += lost.samples
        self._late = None
        return lost


class _Expected:
    """The offset of a clock from the samples counted, while all is well."""

    def __init__(self, offset_s: float, now_s: float) -> None:
        self._offset_s = offset_s
        self.begin(now_s)

    def begin(self, now_s: float) -> None:
        """Watch anew for what stands."""
        self._begun_s = now_s
        self._low_s, self._high_s = math.inf, -math.inf

    def allow(self, offset_s: float) -> None:
        """So late is not late: nothing is missing."""
        self._offset_s = max(self._offset_s, offset_s)

    def push(self, offset_s: float, now_s: float) -> float:
        """How late it is."""
        if now_s - self._begun_s >= _STANDING_S:
            if self._low_s <= self._high_s:
                self._offset_s = min(max(self._offset_s, self._low_s), self._high_s)
            self.begin(now_s)
        self._low_s, self._high_s = min(self._low_s, offset_s), max(self._high_s, offset_s)
        return offset_s - self._offset_s
