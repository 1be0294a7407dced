"""Without a device or PortAudio one line says so. What a healthy device gives is tested in tests/live."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from realtime_ser.errors import DeviceError
from realtime_ser.sources import Block, Lost
from realtime_ser.sources.clock import DeviceClock, SleepWatch
from realtime_ser.sources.microphone import Microphone
from realtime_ser.sources.portaudio import InputDevice, find_input
from realtime_ser.sources.ring import RingBuffer
from realtime_ser.stages.monitor import Notice


def python(code: str) -> str:
    """Run in a fresh interpreter, as PortAudio looks for devices but once; returns what it printed."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


OPEN = """
from realtime_ser.errors import DeviceError
from realtime_ser.sources.microphone import Microphone
from realtime_ser.sources.portaudio import list_inputs
try:
    if list_inputs():
        print("there is one")
    else:
        Microphone(WANTED)
except DeviceError as error:
    print(error)
"""


@pytest.mark.parametrize("wanted", [None, 3, "headset"])
def test_without_any_input_device_it_says_so_and_what_to_do(wanted: int | str | None) -> None:
    told = python(OPEN.replace("WANTED", repr(wanted)))
    if told == "there is one":
        pytest.skip("this machine has an input device")
    if "PortAudio is not installed" in told:
        pytest.skip("PortAudio is not installed here")
    assert told == "no microphone found: plug one in, or allow access to it in the system's settings"


def test_without_portaudio_it_says_so_and_what_to_do() -> None:
    if sys.platform != "linux":
        pytest.skip("sounddevice brings its own PortAudio here")
    hidden = "import ctypes.util\nctypes.util.find_library = lambda name: None\n"
    told = python(hidden + OPEN.replace("WANTED", "None"))
    assert told == "PortAudio is not installed: install it (Debian and Ubuntu: apt install libportaudio2)"


def test_importing_the_source_does_not_load_portaudio() -> None:
    code = "import sys, realtime_ser.sources.microphone; print('sounddevice' in sys.modules)"
    assert python(code) == "False"


@pytest.fixture
def microphone() -> Microphone:
    """One that was never opened: only what the callback and the reader share."""
    source = object.__new__(Microphone)
    source.name, source.rate_hz, source.channels = "none", 1_000, 1
    source._ring = RingBuffer(5_000, 1)
    source._clock = DeviceClock(1_000)
    source._sleep = SleepWatch()
    source.speaking = lambda: True
    source._arrived = threading.Event()
    source._stopped = False
    source._ready = None
    source._begun_s = None
    source._heard_s = 0.0
    return source


def call(microphone: Microphone, at_s: float, samples: int = 100, overflow: bool = False) -> None:
    """What PortAudio's call does with a block that was recorded at `at_s` of its clock."""
    microphone._keep(np.full((samples, 1), at_s, np.float32), at_s, at_s + 0.05, overflow)


def heard(microphone: Microphone, items: int) -> list[Block]:
    blocks = microphone._blocks()
    return [next(blocks) for _ in range(items)]


def test_an_overflow_is_as_long_as_the_devices_clock_says_and_where_it_was(microphone: Microphone) -> None:
    call(microphone, 50.0)
    call(microphone, 50.5, overflow=True)
    first, lost, second = heard(microphone, 3)
    assert not isinstance(first, Lost)
    assert not isinstance(second, Lost)
    assert isinstance(lost, Lost)
    assert lost.samples == 400
    assert (first[0, 0], second[0, 0]) == (50.0, 50.5)


def test_an_overflow_flagged_on_the_first_block_loses_nothing(microphone: Microphone) -> None:
    # Some devices do that on every start; their clock began when the machine did.
    call(microphone, 12_345.0, overflow=True)
    (block,) = heard(microphone, 1)
    assert not isinstance(block, Lost)
    assert len(block) == 100


def test_blocks_that_never_came_are_a_loss_once_the_clock_is_sure(microphone: Microphone) -> None:
    for n in range(8):
        call(microphone, n / 10)
    for n in range(15):
        call(microphone, 1.5 + n / 10)  # 0.7 s are missing, and no flag says so
    items = heard(microphone, 6)
    ((at, lost),) = ((k, i) for k, i in enumerate(items) if isinstance(i, Lost))
    assert lost.samples == pytest.approx(700, abs=5)
    before = sum(len(block) for block in items[:at] if not isinstance(block, Lost))
    assert 800 <= before <= 2_000


def test_a_reader_that_fell_behind_loses_the_oldest(microphone: Microphone) -> None:
    for n in range(31):
        call(microphone, n / 10)
    lost, block = heard(microphone, 2)
    assert isinstance(lost, Lost)
    assert (lost.samples, lost.cause) == (2_600, "analysis fell behind")
    assert not isinstance(block, Lost)
    assert block[::100, 0].tolist() == pytest.approx([2.6, 2.7, 2.8, 2.9, 3.0])


def test_a_reader_that_is_far_too_late_is_told_what_did_not_fit_either(microphone: Microphone) -> None:
    for n in range(60):
        call(microphone, n / 10)
    items = heard(microphone, 3)
    assert [i.samples for i in items if isinstance(i, Lost)] == [4_500, 1_000]
    assert sum(len(i) for i in items if not isinstance(i, Lost)) == 500


def test_while_nobody_speaks_blocks_come_half_as_often_and_none_is_kept_back_for_long(microphone: Microphone) -> None:
    microphone.speaking = lambda: False
    for n in range(7):
        call(microphone, n / 10)
    begun = time.monotonic()
    lengths = [len(block) for block in heard(microphone, 2) if not isinstance(block, Lost)]
    assert lengths == [500, 200]
    call(microphone, 0.7)
    assert len(heard(microphone, 1)[0]) == 100
    assert time.monotonic() - begun > 0.5


def test_stop_ends_the_iteration(microphone: Microphone) -> None:
    call(microphone, 0.0)
    blocks = microphone._blocks()
    next(blocks)
    microphone.stop()
    assert next(blocks, None) is None


def test_a_lost_devices_stream_is_closed_once_though_it_is_quit_while_away(
    microphone: Microphone, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[bool] = []
    stream = SimpleNamespace(start=lambda: None, close=lambda ignore_errors: closed.append(ignore_errors))
    monkeypatch.setattr(microphone, "_open", lambda: stream)
    monkeypatch.setattr(microphone, "_open_again", lambda: None)
    monkeypatch.setattr("realtime_ser.sources.microphone._SILENT_S", 0.0)
    blocks = iter(microphone)
    lost, away = next(blocks), next(blocks)
    assert isinstance(lost, Notice)
    assert isinstance(away, Lost)
    blocks.close()
    assert len(closed) == 1


def test_a_stream_that_opened_again_and_delivers_nothing_yet_is_closed_too(
    microphone: Microphone, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[int] = []
    streams = iter(
        [SimpleNamespace(start=lambda: None, close=lambda ignore_errors, n=n: closed.append(n)) for n in range(9)]
    )
    monkeypatch.setattr(microphone, "_open", lambda: next(streams))
    monkeypatch.setattr(microphone, "_open_again", lambda: next(streams))
    monkeypatch.setattr("realtime_ser.sources.microphone._SILENT_S", 0.5)
    blocks = iter(microphone)
    told = [next(blocks) for _ in range(4)]
    assert [type(item) for item in told] == [Notice, Lost, Lost, Lost]  # and no word of it being back
    blocks.close()
    assert closed == list(range(len(closed)))
    assert len(closed) + len(list(streams)) == 9


DEVICES = [
    InputDevice(0, "Built-in Microphone", "MME", 2, 44_100.0, 0.01, True, True),
    InputDevice(1, "USB Headset", "MME", 1, 48_000.0, 0.01, False, False),
    InputDevice(2, "Built-in Microphone", "Windows WASAPI", 2, 48_000.0, 0.01, False, True),
    InputDevice(3, "USB Headset", "Windows WASAPI", 1, 48_000.0, 0.01, False, False),
]


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (None, 0),
        (3, 3),
        ("headset, wasapi", 3),
        ("Windows WASAPI", 2),
        ("mme, usb", 1),
        ("built-in microphone, mme", 0),
    ],
)
def test_a_device_is_found_by_number_name_or_host(
    wanted: int | str | None, index: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("realtime_ser.sources.portaudio.list_inputs", lambda: DEVICES)
    assert find_input(wanted).index == index


@pytest.mark.parametrize(
    ("wanted", "told"), [("headset", "could be any of 1 .* 3 "), ("asio", "there are: 0 "), (9, "no input")]
)
def test_what_fits_none_or_several_is_told_with_the_choice(
    wanted: int | str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("realtime_ser.sources.portaudio.list_inputs", lambda: DEVICES)
    with pytest.raises(DeviceError, match=told):
        find_input(wanted)
