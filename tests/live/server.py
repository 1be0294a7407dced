"""A sound server of our own, for tests that need a microphone."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path


class Server:
    """A private PulseAudio; `environment` leads to it."""

    def __init__(self, home: Path) -> None:
        (home / ".asoundrc").write_text("pcm.!default { type pulse }\nctl.!default { type pulse }\n")
        (home / "pulse").mkdir(mode=0o700)
        self.environment = os.environ | {
            "HOME": str(home),
            "XDG_RUNTIME_DIR": str(home),
            "PULSE_RUNTIME_PATH": str(home / "pulse"),
        }
        self.start()

    def start(self) -> None:
        """Start it, with a null sink whose monitor is the microphone."""
        modules = ("module-native-protocol-unix", "module-null-sink sink_name=out rate=48000")
        self._process = subprocess.Popen(
            ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", *(f"--load={m}" for m in modules)],
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        command = ["pactl", "set-default-source", "out.monitor"]
        for _ in range(100):
            ready = subprocess.run(command, env=self.environment, capture_output=True)
            if ready.returncode == 0:
                return
            time.sleep(0.1)
        raise AssertionError(ready.stderr)

    def kill(self) -> None:
        """As a crash would."""
        self._process.kill()
        self._process.wait(10)

    def signal(self, number: int) -> None:
        """Stop it, let it go on."""
        self._process.send_signal(number)

    def control(self, *command: str) -> str:
        """Ask it something with pactl."""
        done = subprocess.run(["pactl", *command], env=self.environment, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def unplug(self) -> None:
        """Take its microphone away."""
        modules = self.control("list", "short", "modules").splitlines()
        self.control("unload-module", next(line.split()[0] for line in modules if "null" in line))

    def plug_in(self) -> None:
        """Give it back."""
        self.control("load-module", "module-null-sink", "sink_name=out", "rate=48000")
        self.control("set-default-source", "out.monitor")

    def play(self, path: Path) -> None:
        """Say it into the microphone."""
        subprocess.run(["paplay", "--device=out", str(path)], env=self.environment, check=True, timeout=60)
