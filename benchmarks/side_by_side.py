"""What a second of audio costs here and elsewhere: `python benchmarks/side_by_side.py [-o docs]`.

The same recording (the demo at 16 kHz) through each contender of `benchmarks/contenders`, one after the other, again
and again, on one core, each in an environment of its own that is made here. Writes a table and a bar chart; nothing is
asserted. diart is not among them: the models that its blocks run come from a hub, for who has an account there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path

import soundfile
import soxr

from realtime_ser.resources import processor
from realtime_ser.sources.demo import demo_path

HERE = Path(__file__).resolve().parent
OURS = "realtime_ser, all of it"


@dataclass(frozen=True)
class Contender:
    """What is run where."""

    name: str
    does: str
    program: tuple[str, ...]
    environment: str
    packages: tuple[str, ...]
    without_dependencies: tuple[str, ...] = ()


LIBROSA = ("librosa", "soundfile")
CONTENDERS = (
    Contender(OURS, "gate, features, model, trace, CSV", ("ours.py",), "ours", (str(HERE.parent),)),
    Contender(
        "Silero VAD",
        "only whether somebody speaks",
        ("silero.py",),
        "silero",
        ("onnxruntime", "soundfile", "numpy"),
        ("silero-vad",),
    ),
    Contender("librosa log-mel", "our frames, of each window anew; no model", ("log_mel.py",), "librosa", LIBROSA),
    Contender(
        "eGeMAPSv02",
        "openSMILE's 88 functionals of each window; no model",
        ("functionals.py", "eGeMAPSv02"),
        "opensmile",
        ("opensmile", "soundfile"),
    ),
    Contender(
        "MFCC, chroma, mel, contrast, tonnetz",
        "the tutorials' vector of each window, with librosa; no model",
        ("classical.py",),
        "librosa",
        LIBROSA,
    ),
    Contender(
        "ComParE 2016",
        "openSMILE's 6373 functionals of each window; no model",
        ("functionals.py", "ComParE_2016"),
        "opensmile",
        ("opensmile", "soundfile"),
    ),
)
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")}


def python_of(contender: Contender, environments: Path) -> Path:
    """The interpreter of its environment, which is made if it is not there."""
    folder = environments / contender.environment
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not (folder / "ready").exists():
        print(f"installing {contender.environment} …", file=sys.stderr)
        venv.create(folder, with_pip=True)
        install = [str(python), "-m", "pip", "install", "--quiet"]
        subprocess.run([*install, *contender.packages], check=True)
        if contender.without_dependencies:
            subprocess.run([*install, "--no-deps", *contender.without_dependencies], check=True)
        (folder / "ready").touch()
    return python


def cost(contender: Contender, environments: Path, recording: Path) -> float:
    """Seconds of work for a second of audio, once."""
    program, *options = contender.program
    command = [python_of(contender, environments), HERE / "contenders" / program, *options, recording]
    done = subprocess.run([*map(str, command)], env=os.environ | ONE_THREAD, capture_output=True, text=True, cwd=HERE)
    if done.returncode:
        sys.exit(f"{contender.name}: {done.stderr}")
    return float(json.loads(done.stdout.splitlines()[-1])["seconds_per_second"])


def table(costs: dict[str, list[float]]) -> str:
    """Markdown; ratios are those of each round, for the machine's speed may change between rounds."""
    lines = ["| what | does | ms for a second of audio | times ours |", "|---|---|---|---|"]
    for contender in CONTENDERS:
        mine = costs[contender.name]
        ratios = [a / b for a, b in zip(mine, costs[OURS], strict=True)]
        spread = f"{statistics.median(ratios):.3g} ({min(ratios):.3g} to {max(ratios):.3g})"
        lines.append(
            f"| {contender.name} | {contender.does} | {1000 * statistics.median(mine):.3g} | "
            f"{'1' if contender.name == OURS else spread} |"
        )
    return "\n".join(lines)


def draw(costs: dict[str, list[float]], path: Path) -> None:
    from matplotlib import pyplot

    medians = {name: 1000 * statistics.median(found) for name, found in costs.items()}
    figure, panel = pyplot.subplots(figsize=(7.5, 2.8), layout="constrained")
    colours = ["tab:green" if name == OURS else "tab:gray" for name in medians]
    bars = panel.barh(list(medians), list(medians.values()), color=colours)
    panel.bar_label(bars, fmt="%.3g ms", padding=3)
    panel.set_xscale("log")
    panel.set_xlim(1, max(medians.values()) * 4)
    panel.set_xlabel("work for one second of audio on one core, ms (logarithmic)")
    panel.invert_yaxis()
    panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=30.0, help="of the demo")
    parser.add_argument("--environments", type=Path, default=Path(".cache/side-by-side"))
    parser.add_argument("-o", "--output", type=Path, default=Path("docs"), help="folder for side-by-side.md and .png")
    options = parser.parse_args()
    environments = options.environments.resolve()
    for contender in CONTENDERS:
        python_of(contender, environments)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    costs: dict[str, list[float]] = {contender.name: [] for contender in CONTENDERS}
    with tempfile.TemporaryDirectory() as folder:
        recording = Path(folder, "demo.wav")
        samples, rate_hz = soundfile.read(demo_path(), dtype="float32")
        soundfile.write(recording, soxr.resample(samples, rate_hz, 16_000)[: round(options.seconds * 16_000)], 16_000)
        for i in range(options.rounds):
            print(f"round {i + 1} of {options.rounds} …", file=sys.stderr)
            for contender in CONTENDERS:
                costs[contender.name].append(cost(contender, environments, recording))
    found = table(costs)
    print(found)
    about = (
        f"`python benchmarks/side_by_side.py --rounds {options.rounds} --seconds {options.seconds:g}`: "
        f"{processor()}, Python {platform.python_version()}, one core. Medians; in brackets the least and the "
        "largest ratio of the rounds. Windows are the last 3 s, every 0.25 s; ours rests where nobody speaks, in a "
        "third of the demo. Loading and compiling are not counted."
    )
    (options.output / "side-by-side.md").write_text(
        f"# What a second of audio costs\n\n![](side-by-side.png)\n\n{found}\n\n{about}\n", encoding="utf-8"
    )
    draw(costs, options.output / "side-by-side.png")


if __name__ == "__main__":
    main()
