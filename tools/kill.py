"""SIGKILL at random moments: `python -m tools.kill {replay,analyze,live} --kills 200 --seed 1`; Linux.

The real program is killed again and again and started again with `--append` or `--resume`, in rounds that end with a
run that is left alone. After each kill every complete row must parse, and every row that was there before must still be
there; after each round the rows must be those of a run that nobody killed. `live` hears a private PulseAudio. Ends with
an error if any of it does not hold.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import soundfile

from realtime_ser.sources.demo import demo_path
from tests.live.server import Server

KILLS_PER_ROUND = 10
NOT_REPEATED = {"wall_time", "latency_ms"}
Row = tuple[str, ...]


class WrongError(Exception):
    """A promise that did not hold."""


class Timelines:
    """What lies in some files after each kill, and what was seen so far."""

    def __init__(self) -> None:
        self.kills = 0
        self.before_the_file = 0
        """Kills at which no file held a row."""
        self.unfinished = 0
        """Kills that left a line unfinished."""

    def rows(self, path: Path) -> list[Row]:
        """Its complete rows without what no two runs share; raises WrongError if one does not parse."""
        *lines, rest = path.read_bytes().split(b"\n") if path.exists() else [b""]
        self.unfinished += bool(rest)
        if not lines:
            return []
        names, *rows = csv.reader(line.decode() for line in lines)
        for row in rows:
            if len(row) != len(names):
                raise WrongError(f"{path.name}: a row of {len(row)} cells: {row}")
            cells = dict(zip(names, row, strict=True))
            if not 0 <= float(cells["start"]) <= float(cells["end"]):
                raise WrongError(f"{path.name}: a row of no time: {row}")
            for name, cell in cells.items():
                if cell and name.startswith(("p_", "s_", "confidence", "arousal", "valence", "level", "snr")):
                    float(cell)
        return [tuple(c for n, c in zip(names, row, strict=True) if n not in NOT_REPEATED) for row in rows]

    def killed(self, rows: Sequence[Row]) -> None:
        """Count a kill that left these."""
        self.kills += 1
        self.before_the_file += not rows


def kill(command: Sequence[object], grows: Path, seconds: float, most_bytes: int, rng: random.Random) -> bool:
    """Start it and kill it and all its children, at a random time or size of a file; False if it ended before."""
    process = subprocess.Popen([*map(str, command)], start_new_session=True, **quiet)
    end, size = time.monotonic() + rng.uniform(0, seconds), rng.uniform(0, most_bytes)
    by_time = rng.random() < 0.5
    while process.poll() is None:
        with suppress(FileNotFoundError):
            if not by_time and grows.stat().st_size > size:
                break
        if by_time and time.monotonic() > end:
            break
        time.sleep(0.0005)
    alive = process.poll() is None
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return alive


quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def whole_run(command: Sequence[object]) -> float:
    """Seconds of a run that is left alone."""
    begun = time.monotonic()
    done = subprocess.run([*map(str, command)], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise WrongError(f"left alone, it ends with {done.returncode}: {done.stderr}")
    return time.monotonic() - begun


def program(*arguments: object) -> list[object]:
    return [sys.executable, "-m", "realtime_ser", *arguments]


def kill_replay(folder: Path, kills: int, rng: random.Random) -> Timelines:
    """A recording at full speed, `--append`: each run adds a beginning of the same rows, the last all of them."""
    samples, rate_hz = soundfile.read(demo_path(), dtype="int16")
    recording, whole, result = folder / "long.wav", folder / "whole.csv", folder / "result" / "replay.csv"
    soundfile.write(recording, np.tile(samples, 10), rate_hz)
    seconds = whole_run(program("replay", recording, "--speed", "max", "--csv", whole))
    seen = Timelines()
    expected = seen.rows(whole)
    while seen.kills < kills:
        shutil.rmtree(result.parent, ignore_errors=True)
        result.parent.mkdir()
        command = program("replay", recording, "--speed", "max", "--csv", result, "--append")
        before: list[Row] = []
        for _ in range(KILLS_PER_ROUND):
            size = result.stat().st_size if result.exists() else 0
            alive = kill(command, result, 1.1 * seconds, size + whole.stat().st_size, rng)
            rows = seen.rows(result)
            new = rows[len(before) :]
            if rows[: len(before)] != before or new != expected[: len(new)]:
                raise WrongError(f"kill {seen.kills + 1}: what is added is no beginning of the whole timeline")
            if alive:
                seen.killed(rows)
            before = rows
        whole_run(command)
        rows = seen.rows(result)
        if rows != before + expected or set(rows) != set(expected):
            raise WrongError(f"after kill {seen.kills}: the union is not the whole timeline")
        check_folder(result.parent, {"replay.csv", "replay.csv.json"})
    return seen


def check_folder(folder: Path, names: set[str]) -> None:
    """Nothing but these lies in it, and sidecars parse."""
    found = {path.name for path in folder.iterdir()}
    if found != names:
        raise WrongError(f"{sorted(found ^ names)} left over or missing")
    for path in folder.glob("*.json"):
        json.loads(path.read_text(encoding="utf-8"))


def kill_analyze(folder: Path, kills: int, rng: random.Random) -> Timelines:
    """A folder, alternately into one joined timeline and into one each, `--resume`: the same rows in the same order."""
    samples, rate_hz = soundfile.read(demo_path(), dtype="int16")
    recordings = folder / "in"
    recordings.mkdir()
    for i in range(6):
        repeats = 10 if i == 2 else 2  # one is heard in pieces
        soundfile.write(recordings / f"{i}.flac", np.tile(np.roll(samples, -i * rate_hz), repeats), rate_hz)
    seen = Timelines()
    joined = True
    while seen.kills < kills:
        kind = "--csv" if joined else "--out"
        whole, result = folder / f"whole{kind}", folder / f"result{kind}"
        if not whole.exists():
            seconds = whole_run(program("analyze", recordings, kind, whole))
        for path in folder.glob("result*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        command = program("analyze", recordings, kind, result, "--resume", "--jobs", 2)
        grows = result if joined else result / "3.flac.csv.part"
        for _ in range(KILLS_PER_ROUND):
            alive = kill(command, grows, seconds, whole.stat().st_size if joined else 50_000, rng)
            files = [result] if joined else [*result.glob("*.csv"), *result.glob("*.part")]
            if alive:
                seen.killed([row for path in files for row in seen.rows(path)])
        whole_run(command)
        pairs = [(result, whole)] if joined else [(result / path.name, path) for path in whole.glob("*.csv")]
        for mine, its in pairs:
            if seen.rows(mine) != seen.rows(its):
                raise WrongError(f"after kill {seen.kills}: {mine.name} is not the whole timeline")
        if not joined:
            check_folder(result, {path.name for path in whole.iterdir()})
        joined = not joined
    return seen


def kill_live(folder: Path, kills: int, rng: random.Random) -> Timelines:
    """A microphone that always hears the demo, `--append`: rows that were there stay, and time goes forward."""
    server = Server(folder)
    os.environ.update(server.environment)
    speech, result = folder / "speech.wav", folder / "live.csv"
    samples, rate_hz = soundfile.read(demo_path(), dtype="int16")
    soundfile.write(speech, np.tile(samples, 200), rate_hz)
    player = subprocess.Popen(["paplay", "--device=out", speech], **quiet)
    seen = Timelines()
    before: list[Row] = []
    try:
        while seen.kills < kills:
            size = result.stat().st_size if result.exists() else 0
            alive = kill(program("live", "--plain", "--csv", result, "--append"), result, 4, size + 3000, rng)
            if not alive:
                raise WrongError("live ended by itself")
            rows = seen.rows(result)
            if rows[: len(before)] != before:
                raise WrongError(f"kill {seen.kills + 1}: rows of an earlier run are gone")
            new_ends = [float(row[2]) for row in rows[len(before) :]]
            if new_ends != sorted(new_ends):
                raise WrongError(f"kill {seen.kills + 1}: the clock goes back")
            seen.killed(rows)
            before = rows
    finally:
        player.kill()
        player.wait()
        server.kill()
    return seen


WAYS = {"replay": kill_replay, "analyze": kill_analyze, "live": kill_live}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        try:
            seen = WAYS[options.way](Path(name), options.kills, random.Random(options.seed))
        except WrongError as wrong:
            sys.exit(f"{options.way}: {wrong}")
    print(f"{options.way}: {seen.kills} kills, {seen.before_the_file} before the first row, ", end="")
    print(f"{seen.unfinished} in the middle of a line; every row whole, nothing lost")


if __name__ == "__main__":
    main()
