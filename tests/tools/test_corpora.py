"""Loaders read the corpora's own names, and know their faults."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tools.corpora import LOADERS, Clip, crema_d_validation, load, read_speakers


def tree(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.mark.parametrize(
    ("corpus", "name", "speaker", "emotion"),
    [
        ("CREMA-D", "AudioWAV/1001_DFA_ANG_XX.wav", "crema-d/1001", "angry"),
        ("RAVDESS", "Actor_12/03-01-08-02-01-02-12.wav", "ravdess/12", "surprised"),
        ("RAVDESS", "Actor_01/03-01-02-01-01-01-01.wav", "ravdess/01", "neutral"),
        ("TESS", "OAF_Pleasant_surprise/OAF_back_ps.wav", "tess/OAF", "surprised"),
        ("TESS", "OAF_neutral/OA_bite_neutral.wav", "tess/OAF", "neutral"),
        ("nEMO", "samples/SM0_happiness_9.wav", "nemo/SM0", "happy"),
        ("URDU", "Sad/SF2_F3_S03.wav", "urdu/SF2", "sad"),
        ("TurEV-DB", "Sound Source/Calm/1358_sk_beste.wav", "turev/1358", "neutral"),
        ("wake-word-benchmark", "audio/view glass/0a1b.flac", "command/0a1b", "neutral"),
    ],
)
def test_names_are_read(tmp_path: Path, corpus: str, name: str, speaker: str, emotion: str) -> None:
    (clip,) = LOADERS[corpus](tree(tmp_path, name, "README.md"))
    assert (clip.corpus, clip.speaker, clip.emotion) == (corpus, speaker, emotion)
    assert clip.licence


def test_known_faults_are_left_out(tmp_path: Path) -> None:
    tree(
        tmp_path / "CREMA-D", *(f"AudioWAV/{n}.wav" for n in ("1076_MTI_SAD_XX", "1006_TIE_HAP_XX", "1076_MTI_SAD_LO"))
    )
    assert [c.path.stem for c in LOADERS["CREMA-D"](tmp_path / "CREMA-D")] == ["1076_MTI_SAD_LO"]
    twins = ("03-01-03-01-02-01-07", "03-01-03-01-02-02-07")
    tree(tmp_path / "RAVDESS", *(f"Actor_07/{n}.wav" for n in twins))
    assert [c.path.stem for c in LOADERS["RAVDESS"](tmp_path / "RAVDESS")] == [twins[0]]


def test_a_missing_corpus_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="TESS"):
        load(tmp_path, tmp_path, ["TESS"])


def test_real_corpora_have_their_numbers(corpora: Path, splits: Path) -> None:
    clips = load(corpora, splits, list(LOADERS))
    assert Counter(c.corpus for c in clips) == {
        "CREMA-D": 5879,
        "RAVDESS": 1439,
        "TESS": 2800,
        "nEMO": 4481,
        "URDU": 400,
        "TurEV-DB": 1735,
        "wake-word-benchmark": 2293,
    }
    crema: list[Clip] = [c for c in clips if c.corpus == "CREMA-D"]
    assert all(c.votes is not None and len(c.votes) == 7 for c in crema)
    speakers = read_speakers(splits / "crema_d_validation_speakers.txt")
    assert len({c.speaker for c in crema if crema_d_validation(c, speakers)}) == len(speakers) == 9
    assert len({c.speaker for c in crema}) == 72
