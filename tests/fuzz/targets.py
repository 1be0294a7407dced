"""What reads bytes that others wrote: each target takes any bytes, and they are read or refused in one line.

`tools/fuzz.py` looks for bytes that break that; test_found.py runs all that it ever found.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import soundfile
from audformat import Database

from realtime_ser import Session
from realtime_ser.errors import RealtimeSerError
from realtime_ser.sinks.csv import CsvSink
from realtime_ser.sinks.jsonl import JsonLinesSink
from realtime_ser.sources.demo import demo_path
from realtime_ser.sources.file import FileSource
from realtime_ser.sources.pipe import PipeSource
from realtime_ser.stages.contract import CONTRACT_KEY, parse_contract
from realtime_ser.stages.model import find_model, load_model, open_session
from realtime_ser.stages.resample import Resampler
from realtime_ser.stages.rules import RuleWatch, parse_rule
from realtime_ser.timeline.annotations import read_annotations
from realtime_ser.timeline.export import export
from realtime_ser.timeline.read import read_timeline

Target = Callable[[bytes, Path], bool]
"""Gives whether the bytes were read; False is a refusal with a reason."""
LABELS = ("neutral", "happy", "angry")
SUFFIXES = (".csv", ".TextGrid", ".eaf", ".txt")


def audio(data: bytes, folder: Path) -> bool:
    """A recording of any format, as far as its first 100 s, through what hears it first."""
    path = folder / "recording"
    path.write_bytes(data)
    try:
        source = FileSource(path)
        resampler = Resampler(source.rate_hz, source.channels)
        for block in islice(source, 200):
            assert block.shape[1] == source.channels
            assert np.isfinite(resampler.push(block)).all()
    except RealtimeSerError:
        return False
    return True


class Pieces(io.RawIOBase):
    """A pipe that gives its bytes in pieces, of as many bytes as each byte before them says."""

    def __init__(self, data: bytes) -> None:
        self.arrived = b""
        self._left = data

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        size = 1 + self._left[0] if self._left else 0
        piece, self._left = self._left[1 : 1 + size], self._left[1 + size :]
        self.arrived += piece
        buffer[: len(piece)] = piece
        return len(piece)


def pipe(data: bytes, folder: Path) -> bool:
    """Raw samples, cut anywhere: all whole frames come out, and what is left of one is told."""
    channels = 1 + data[0] % 8 if data else 1
    pieces = Pieces(data[1:])
    source = PipeSource(io.BufferedReader(pieces), 16_000, channels)
    heard = np.concatenate([np.empty((0, channels), np.float32), *source])
    left = len(pieces.arrived) % (2 * channels)
    expected = np.frombuffer(pieces.arrived[: len(pieces.arrived) - left], "<i2").reshape(-1, channels)
    assert np.array_equal(heard * 32768, expected)
    assert bool(source.problem) == bool(left or not pieces.arrived)
    return not source.problem


def contract(data: bytes, folder: Path) -> bool:
    """A model's metadata, of any kind."""
    fits = 0
    for kind in ("encoder", "head", "window"):
        try:
            found = parse_contract(data.decode("utf-8", "replace"), kind, "a model")
        except RealtimeSerError:
            continue
        assert found.filterbank.shape == (found.features.n_mels, 1 + found.features.frame_samples // 2)
        assert found.embedding_samples > 0
        fits += 1
    return fits == 1


def timeline(data: bytes, folder: Path) -> bool:
    """A timeline, read and written anew."""
    path = folder / "timeline"
    path.write_bytes(data)
    try:
        found = read_timeline(path)
        assert {len(column) for column in found.columns().values()} == {len(found)}
        assert np.isfinite(found.start_s).all()
        assert np.isfinite(found.end_s).all()
        export(found, "audacity", folder / "labels.txt", overwrite=True)
    except RealtimeSerError:
        return False
    return True


def rule(data: bytes, folder: Path) -> bool:
    """A rule, and what it says of a trace."""
    try:
        found = parse_rule(data.decode("utf-8", "replace"), LABELS)
    except RealtimeSerError:
        return False
    assert np.isfinite([found.threshold, found.for_s, found.cooldown_s]).all()
    watch = RuleWatch(found)
    for i in range(8):
        watch.push(i % 2, i, i + 1)
    return True


def annotations(data: bytes, folder: Path) -> bool:
    """Labels in a form that the first byte chooses."""
    path = folder / f"labels{SUFFIXES[data[0] % len(SUFFIXES)] if data else '.txt'}"
    path.write_bytes(data[1:])
    return _annotations(path)


def audformat(data: bytes, folder: Path) -> bool:
    """A database's header and, behind a NUL, its only table."""
    header, _, table = data.partition(b"\0")
    database = folder / "database"
    database.mkdir(exist_ok=True)
    (database / "db.yaml").write_bytes(header)
    (database / "db.emotion.csv").write_bytes(table)
    return _annotations(database)


def _annotations(path: Path) -> bool:
    try:
        found = read_annotations(path)
    except RealtimeSerError:
        return False
    assert found
    for one in found:
        assert one.says_something
        assert -np.inf < one.start_s <= one.end_s < np.inf
    return True


TARGETS: dict[str, Target] = {
    target.__name__: target for target in (audio, pipe, contract, timeline, rule, annotations, audformat)
}


def seeds(name: str, folder: Path) -> list[bytes]:
    """Small real inputs of a target, to begin with."""
    match name:
        case "audio":
            return _recordings()
        case "pipe":
            return [b"\0\x03\1\2\3\4\x09" + bytes(range(10)), b"\1\xff" + bytes(256)]
        case "contract":
            return _contracts()
        case "rule":
            return [b"arousal > 0.4 for 8s", b"angry<0.25 cooldown 60 s", b"happy > 0.5 for 2s cooldown 0s"]
        case _:
            return _timelines(name, folder)


def _recordings() -> list[bytes]:
    samples = np.random.default_rng(0).uniform(-1, 1, (400, 2)).astype(np.float32)
    found = []
    for format_ in soundfile.available_formats():  # RAW has no header, SD2 has it in another file
        for subtype in soundfile.available_subtypes(format_):
            if format_ not in ("RAW", "SD2") and soundfile.check_format(format_, subtype):
                file = io.BytesIO()
                try:
                    soundfile.write(file, samples[:, : 1 if "G72" in subtype else 2], 8_000, subtype, format=format_)
                except (soundfile.LibsndfileError, ValueError):
                    continue  # a format for one channel, or for other rates
                found.append(file.getvalue())
    return found


def _contracts() -> list[bytes]:
    model = load_model()
    session, _ = open_session(find_model() / "encoder.onnx")
    text = session.get_modelmeta().custom_metadata_map[CONTRACT_KEY]
    window = {
        "contract": 1, "kind": "window", "id": "old", "licence": "none", "labels": model.contract.labels,
        "rate_hz": 16_000, "input": "log_mel", "layout": "frames_first", "output": "logits", "window_s": [0.5, 10],
        "features": {"frame_samples": 512, "hop_samples": 250, "n_mels": 64, "fmin_hz": 50.0, "fmax_hz": 7600.0},
    }  # fmt: skip
    return [text.encode(), text.replace('"encoder"', '"head"').encode(), json.dumps(window).encode()]


def _timelines(name: str, folder: Path) -> list[bytes]:
    samples, rate_hz = soundfile.read(demo_path(), start=54 * 16_000, frames=6 * 16_000)
    session = Session(source="a, b.wav", rules=["confidence > 0"])
    events = session.push(samples, rate_hz)[:20] + session.mark('he said "no"') + session.gap(99, "test")
    events += session.push(np.full(4000, np.nan)) + session.flush()
    sinks = CsvSink(folder / "t.csv", session.labels, file="a, b.wav"), JsonLinesSink(folder / "t.jsonl")
    for sink in sinks:
        for event in events:
            sink.write(event)
        sink.close()
    if name == "timeline":
        return [(folder / "t.csv").read_bytes(), (folder / "t.jsonl").read_bytes()]
    written = read_timeline(folder / "t.csv")
    if name == "audformat":
        export(written, "audformat", folder / "database")
        database = Database.load(str(folder / "database"))
        table = next(iter(database.tables))
        database.save(str(folder / "csv"), storage_format="csv")
        header, rows = ((folder / "csv" / f).read_bytes() for f in ("db.yaml", f"db.{table}.csv"))
        return [header.replace(table.encode(), b"emotion") + b"\0" + rows]
    found = [b"\0start,end,label,arousal,valence\n0,1,angry,0.5,\n1,2,happy,,-1\n"]
    for i, (format_, suffix) in enumerate({"textgrid": ".TextGrid", "elan": ".eaf", "audacity": ".txt"}.items(), 1):
        export(written, format_, folder / f"l{suffix}")
        found.append(bytes([i]) + (folder / f"l{suffix}").read_bytes())
    return found
