"""What `live` costs and how prompt it is, on a real audio server.

`python benchmarks/live.py [--minutes 1] [--hours 8]`. Starts a private PulseAudio whose null sink is the microphone
(Linux; packages pulseaudio, pulseaudio-utils, libasound2-plugins), plays the demo into it, and prints figures of the
real program. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import soundfile

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
    given.append((len(block), now, [e.type == "measurement" and e.trigger == "hop" and e.state for e in events]))
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
    environment = os.environ | paths | {"PULSE_LATENCY_MSEC": "30"}
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


def live(environment: dict[str, str], folder: Path, sound: Path | None, seconds: float, one: bool) -> dict[str, Any]:
    """Run it for so long; CPU and memory are those of the time after the first five seconds."""
    out = folder / f"{time.monotonic_ns()}.jsonl"
    program = subprocess.Popen(
        [sys.executable, "-c", _SPY, "live", "--plain", "--jsonl", str(out)],
        env=environment,
        stdout=subprocess.DEVNULL,
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
    return {"cpu": cpu, "memory_mb": memory_mb, "lost_s": closed["lost_s"], "delays_ms": delays_ms(arrived, given)}


def delays_ms(arrived: Sequence[tuple[int, float]], given: Sequence[tuple[int, float, list[Any]]]) -> list[float]:
    """For each hop with scores, from the callback that brought the first sample of the block which completed it to the
    events handed over: the hop's last sample came no earlier, so its own delay is no longer than this."""
    ends = np.cumsum([frames for frames, _ in arrived])
    times = [at for _, at in arrived]
    delays, position = [], 0
    for samples, at, states in given:
        if any(state in ("speech", "abstain") for state in states):
            delays.append(1000 * (at - times[int(np.searchsorted(ends, position + 1))]))
        position += samples
    return delays


def told(delays: Sequence[float]) -> str:
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
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, {os.cpu_count()} cores")
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
            print(f"from the callback to the event, one core: {told(talk['delays_ms'])}")
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
