"""What fuzzing ever found, and the small real inputs that it begins with."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from realtime_ser.errors import TimelineError
from realtime_ser.timeline.annotations import read_annotations
from tests.fuzz.targets import TARGETS, seeds

FOUND = sorted((Path(__file__).parent / "found").glob("*/*"))


@pytest.mark.parametrize("case", FOUND, ids=lambda case: f"{case.parent.name}-{case.name}")
def test_what_broke_a_reader_once_is_read_or_refused(case: Path, tmp_path: Path) -> None:
    TARGETS[case.parent.name](case.read_bytes(), tmp_path)


@pytest.mark.parametrize("name", TARGETS)
def test_real_inputs_are_read_whole_and_cut_anywhere(name: str, tmp_path: Path) -> None:
    for seed in seeds(name, tmp_path):
        assert TARGETS[name](seed, tmp_path)
        for end in range(0, len(seed), max(1, len(seed) // 10)):
            TARGETS[name](seed[:end], tmp_path)


@pytest.mark.parametrize("name", ["contract", "timeline"])
def test_nesting_deeper_than_the_parser_goes_is_refused(name: str, tmp_path: Path) -> None:
    assert not TARGETS[name](b'{"a":' * 100_000, tmp_path)


def test_a_window_models_features_cannot_ask_for_all_memory(tmp_path: Path) -> None:
    window = json.loads(seeds("contract", tmp_path)[-1])
    for size in ("frame_samples", "hop_samples", "n_mels"):
        for value in (10**12, 0, -1, 1.5, "1", None):
            features = window["features"] | {size: value}
            assert not TARGETS["contract"](json.dumps(window | {"features": features}).encode(), tmp_path)


def test_labels_in_audformat_run_nothing(tmp_path: Path) -> None:
    (seed,) = seeds("audformat", tmp_path)
    ran = tmp_path / "ran"

    class Program:
        def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
            return os.system, (f"touch {ran}",)

    folder = tmp_path / "database"
    shutil.rmtree(folder)
    assert TARGETS["audformat"](seed, tmp_path)
    pickled = folder / "db.emotion.pkl"
    pickled.write_bytes(pickle.dumps(Program()))
    with pytest.raises(TimelineError, match="is pickled"):
        read_annotations(folder)
    pickled.unlink()
    header = folder / "db.yaml"
    header.write_text(f"{header.read_text()}\nx: !!python/object/apply:os.system ['touch {ran}']\n")
    with pytest.raises(TimelineError, match="cannot be read as labels"):
        read_annotations(folder)
    assert not ran.exists()
