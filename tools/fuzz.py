"""Look for bytes that break a reader: `python -m tools.fuzz TARGET --minutes 30`; needs the extra `fuzz`.

Coverage-guided (atheris), from real small files. What breaks is kept in tests/fuzz/found/TARGET, one file for each
place in the code, and the search goes on; mend it, and the file stays as a test.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import resource
import sys
import tempfile
import time
import traceback
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["realtime_ser", "tests.fuzz", "praatio", "pympi", "audformat"]):
    from tests.fuzz.targets import TARGETS, seeds

FOUND = Path(__file__).resolve().parent.parent / "tests" / "fuzz" / "found"
MEMORY_BYTES = 4 << 30
"""Of address space: what asks for more is a find."""
ODD_VALUES = (None, True, 0, -1, 1e9, 1e-300, 1e999, 2**70, "", "0", "nan", [], [[]], {}, {"a": []}, "\ud800")


def mutate(data: bytes, most: int, seed: int) -> bytes:
    """Half the time the JSON in it gets an odd value, where libFuzzer would make a syntax error; else as libFuzzer."""
    rng = random.Random(seed)
    lines = data.splitlines()
    line = rng.randrange(len(lines)) if lines else 0
    try:
        fields = json.loads(lines[line])
        place = fields
        while isinstance(inside := place[name := rng.choice(list(place))], dict) and inside and rng.random() < 0.7:
            place = inside
    except (ValueError, IndexError, TypeError, KeyError):
        return atheris.Mutate(data, most)
    if rng.random() < 0.5:
        return atheris.Mutate(data, most)
    if rng.random() < 0.1:
        del place[name]
    else:
        place[name] = rng.choice(ODD_VALUES)
    lines[line] = json.dumps(fields).encode()
    return b"\n".join(lines)[:most]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--minutes", type=float, default=30.0, help="of CPU time")
    options = parser.parse_args()
    target, found = TARGETS[options.target], FOUND / options.target
    found.mkdir(parents=True, exist_ok=True)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    known: set[str] = set()
    runs = 0

    def once(data: bytes) -> None:
        nonlocal runs
        runs += 1
        try:
            target(data, work)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what we look for
            place = "\n".join(f"{f.filename}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)[-2:])
            if place not in known:
                known.add(place)
                (found / hashlib.sha256(data).hexdigest()[:12]).write_bytes(data)
                traceback.print_exc()
        if time.process_time() > 60 * options.minutes:
            print(f"{options.target}: {time.process_time() / 60:.1f} CPU-minutes, {runs} inputs, {len(known)} finds")
            sys.stdout.flush()
            os._exit(0)  # libFuzzer has no other way out

    with tempfile.TemporaryDirectory() as folder:
        work, corpus = Path(folder) / "work", Path(folder) / "corpus"
        work.mkdir()
        corpus.mkdir()
        begin = seeds(options.target, work)
        for i, seed in enumerate(begin):
            (corpus / str(i)).write_bytes(seed)
        # A crash of native code or a hang ends the process: libFuzzer itself then writes what it was.
        # By the clock, not by CPU time: on a busy machine 20 s were taken for a hang.
        arguments = [f"-artifact_prefix={found}/", "-timeout=300", "-rss_limit_mb=0"]
        arguments.append(f"-max_len={max(map(len, begin))}")  # else it loves whatever takes long to decode
        # What native code does is not seen: all seeds stay, however alike they look.
        arguments += ["-keep_seed=1", "-reduce_inputs=0"]
        atheris.Setup([sys.argv[0], *arguments, str(corpus)], once, custom_mutator=mutate)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
