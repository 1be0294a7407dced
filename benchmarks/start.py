"""How long a start takes: `python benchmarks/start.py [--runs 9]`.

In turn, each on a terminal of its own: the program up to its first character and up to its first emotion, and for
comparison Python alone and with NumPy. Then the slowest imports of the command line. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import os
import platform
import pty
import statistics
import subprocess
import sys
import time

from realtime_ser.resources import processor

PROGRAM = [sys.executable, "-m", "realtime_ser"]
COMMANDS: dict[str, tuple[list[str], bytes]] = {
    "python -c pass, first character": ([sys.executable, "-c", "print(1)"], b""),
    "import numpy, first character": ([sys.executable, "-c", "import numpy; print(1)"], b""),
    "--help, first character": ([*PROGRAM, "--help"], b""),
    "replay demo, first character": ([*PROGRAM, "replay", "demo"], b""),
    "replay demo --plain, first character": ([*PROGRAM, "replay", "demo", "--plain"], b""),
    "replay demo --plain, first emotion": ([*PROGRAM, "replay", "demo", "--plain"], b"neutral"),
}
"""What is measured, the command, and what to wait for."""


def wait_s(command: list[str], awaited: bytes) -> float:
    """Seconds from the command until a terminal shows this, or anything."""
    master, terminal = pty.openpty()
    begun = time.perf_counter()
    with subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal) as process:
        os.close(terminal)
        seen = b""
        while not seen or awaited not in seen:
            seen += os.read(master, 4096)
        took_s = time.perf_counter() - begun
        process.kill()
    os.close(master)
    return took_s


def slowest_imports(n: int) -> list[tuple[float, str]]:
    """Milliseconds and name of the modules of the command line that take longest, all they import included."""
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", "import realtime_ser.cli"], capture_output=True)
    rows = [line.split("|") for line in done.stderr.decode().splitlines()[1:]]
    return sorted(((int(row[1]) / 1000, row[2].strip()) for row in rows), reverse=True)[:n]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=9)
    runs = parser.parse_args().runs
    times_s: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(runs):
        for name, (command, awaited) in COMMANDS.items():
            times_s[name].append(wait_s(command, awaited))
    print(f"{processor()}, Python {platform.python_version()}; median of {runs}, range")
    for name, found in times_s.items():
        print(f"{name:<38} {statistics.median(found):.2f} s  {min(found):.2f} to {max(found):.2f}")
    print("\nslowest imports of the command line, with all they import themselves")
    for milliseconds, name in slowest_imports(12):
        print(f"{milliseconds:7.0f} ms  {name}")


if __name__ == "__main__":
    main()
