"""What `live` costs and how prompt it is, on a real audio server.

`python benchmarks/live.py [--minutes 1] [--hours 8]`. Starts a private PulseAudio whose null sink is the microphone
(Linux; packages pulseaudio, pulseaudio-utils, libasound2-plugins), plays the demo into it, and prints figures of the
real program. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import platform
import pty
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import soundfile

from realtime_ser.resources import processor
from realtime_ser.session import Session
from realtime_ser.sources.demo import demo_path

_SPY = """
import json, sys, time
from realtime_ser.sources.microphone import Microphone
from realtime_ser.session import Session
arrived, given = [], []
callback, push = Microphone._callback, Session.push

def spied_callback(self, block, frames, when, status):
    callback(self, block, frames, when, status)
    arrived.append((frames, time.perf_counter()))

def spied_push(self, block, sample_rate):
    events = push(self, block, sample_rate)
    now = time.perf_counter()
    hops = [e for e in events if e.type == "measurement" and e.trigger == "hop" and e.state != "no_speech"]
    given.append((len(block), now, [round(e.end_s * sample_rate) for e in hops]))
    return events

Microphone._callback, Session.push = spied_callback, spied_push
from realtime_ser.cli import main
try:
    main()
finally:
    json.dump([arrived, given], open(sys.argv[sys.argv.index("--jsonl") + 1] + ".times", "w"))
"""
"""The program itself, with the times of blocks and events written down beside it."""


def start_server(home: Path) -> tuple[subprocess.Popen[bytes], dict[str, str]]:
    (home / ".asoundrc").write_text("pcm.!default { type pulse }\nctl.!default { type pulse }\n")
    (home / "pulse").mkdir(mode=0o700)
    paths = {"HOME": str(home), "XDG_RUNTIME_DIR": str(home), "PULSE_RUNTIME_PATH": str(home / "pulse")}
    environment = os.environ | paths
    modules = ("module-native-protocol-unix", "module-null-sink sink_name=out rate=48000")
    command = ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", *(f"--load={m}" for m in modules)]
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(100):
        default = ["pactl", "set-default-source", "out.monitor"]
        if subprocess.run(default, env=environment, capture_output=True).returncode == 0:
            return server, environment
        time.sleep(0.1)
    sys.exit("PulseAudio does not start")


def one_core() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def terminal() -> int:
    """One end of a terminal of 120 by 40 characters; what is drawn on it is read and dropped."""
    reader, writer = pty.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))

    def read() -> None:
        with suppress(OSError):
            while os.read(reader, 65536):
                pass

    threading.Thread(target=read, daemon=True).start()
    return writer


def live(
    environment: dict[str, str], folder: Path, sound: Path | None, seconds: float, one: bool, drawn: bool = False
) -> dict[str, Any]:
    """Run it for so long; CPU and memory are those of the time after the first five seconds."""
    out = folder / f"{time.monotonic_ns()}.jsonl"
    screen = terminal() if drawn else subprocess.DEVNULL
    program = subprocess.Popen(
        [sys.executable, "-c", _SPY, "live", "--jsonl", str(out), *([] if drawn else ["--plain"])],
        env=environment | {"TERM": "xterm-256color"},
        stdin=screen,
        stdout=screen,
        stderr=subprocess.PIPE,
        preexec_fn=one_core if one else None,
    )
    player = None if sound is None else subprocess.Popen(["paplay", "--device=out", str(sound)], env=environment)
    time.sleep(5)
    seen = psutil.Process(program.pid)
    before = sum(seen.cpu_times()[:2])
    time.sleep(seconds)
    cpu = (sum(seen.cpu_times()[:2]) - before) / seconds
    memory_mb = seen.memory_info().rss / 2**20
    program.send_signal(signal.SIGINT)
    _, errors = program.communicate()
    if player is not None:
        player.kill()
    if program.returncode != 130:
        sys.exit(errors.decode())
    closed = json.loads(out.read_text().splitlines()[-1])
    arrived, given = json.loads(Path(f"{out}.times").read_text())
    # A gap moves the clock on over samples that never arrived.
    delays = [] if closed["lost_s"] else delays_ms(arrived, given)
    return {"cpu": cpu, "memory_mb": memory_mb, "lost_s": closed["lost_s"], "delays_ms": delays}


def delays_ms(arrived: Sequence[tuple[int, float]], given: Sequence[tuple[int, float, list[int]]]) -> list[float]:
    """For each hop with scores, from the callback that brought its last sample to the events handed over.

    That sample is one of the block that completed it, and none before the hop's end; counted is from the first of both,
    so that no delay is longer than told.
    """
    ends = np.cumsum([frames for frames, _ in arrived])
    times = [at for _, at in arrived]
    delays, position = [], 0
    for samples, at, hops in given:
        for end in hops:
            delays.append(1000 * (at - times[int(np.searchsorted(ends, max(position + 1, end)))]))
        position += samples
    return delays


def told(delays: Sequence[float]) -> str:
    if not delays:
        return "so its delays are not told"
    middle, high, longest = np.percentile(delays, [50, 99, 100])
    return f"median {middle:.1f} ms, 99th percentile {high:.1f} ms, longest {longest:.1f} ms of {len(delays)} hops"


def simulated_hours(hours: float) -> list[float]:
    """Resident MB after each simulated hour of the demo, again and again, in one session."""
    samples, rate_hz = soundfile.read(demo_path(), dtype="float32")
    session = Session()
    seen, found = psutil.Process(), []
    for hour in range(1, int(hours) + 1):
        while session.clock_s < 3600 * hour:
            for start in range(0, len(samples), rate_hz // 10):
                session.push(samples[start : start + rate_hz // 10], rate_hz)
        found.append(seen.memory_info().rss / 2**20)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="of each run")
    parser.add_argument("--hours", type=float, default=8.0, help="of simulated time, for the memory")
    options = parser.parse_args()
    seconds = 60 * options.minutes
    print(f"{processor()}, Python {platform.python_version()}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        speech, silence = folder / "speech.wav", folder / "room.wav"
        samples, rate_hz = soundfile.read(demo_path(), dtype="float32")
        spoken = np.concatenate([samples[rate_hz : 14 * rate_hz]] * int(1 + (seconds + 10) / 13))
        soundfile.write(speech, spoken, rate_hz)
        room = np.random.default_rng(0).normal(0, 0.001, int((seconds + 10) * rate_hz))
        soundfile.write(silence, room, rate_hz)
        server, environment = start_server(folder)
        try:
            quiet = live(environment, folder, silence, seconds, one=True)
            print(f"silence: {quiet['cpu']:.1%} of a core, {quiet['memory_mb']:.0f} MB")
            talk = live(environment, folder, speech, seconds, one=True)
            print(f"constant speech: {talk['cpu']:.1%} of a core, {talk['memory_mb']:.0f} MB")
            for name, sound in (("silence", silence), ("constant speech", speech)):
                shown = live(environment, folder, sound, seconds, one=True, drawn=True)
                print(f"{name} with the dashboard: {shown['cpu']:.1%} of a core")
            print(f"from the callback to the event, one core: {talk['lost_s']:.2f} s lost; {told(talk['delays_ms'])}")
            hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
            loaded = live(environment, folder, speech, seconds, one=False)
            for hog in hogs:
                hog.kill()
            print(f"every core kept busy: {loaded['lost_s']:.2f} s lost; {told(loaded['delays_ms'])}")
        finally:
            server.kill()
            server.wait()
    by_hour = simulated_hours(options.hours)
    print(f"memory after each simulated hour: {', '.join(f'{mb:.0f}' for mb in by_hour)} MB")


if __name__ == "__main__":
    main()
