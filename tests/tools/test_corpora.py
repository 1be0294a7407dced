"""Loaders read the corpora's own names, and know their faults."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import typer

from tools.corpora import LABELS, LOADERS, Clip, load
from tools.splits import HELD_OUT_KEYWORD, RAVDESS_FOLDS, SPLITS, crema_d_validation, held_out, ravdess_fold


def tree(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


RAW_JL = "Raw JL corpus (unchecked and unannotated)/JL(wav+txt)"


@pytest.mark.parametrize(
    ("corpus", "name", "speaker", "sex", "emotion", "own", "intensity", "text"),
    [
        ("CREMA-D", "AudioWAV/1001_DFA_ANG_XX.wav", "crema-d/1001", None, "angry", "ANG", "XX", "DFA"),
        ("RAVDESS", "Actor_12/03-01-08-02-01-02-12.wav", "ravdess/12", "female", "surprised", "surprised",
         "strong", "01"),
        ("RAVDESS", "Actor_01/03-01-02-01-02-01-01.wav", "ravdess/01", "male", "neutral", "calm", "normal", "02"),
        ("TESS", "OAF_Pleasant_surprise/OAF_back_ps.wav", "tess/OAF", "female", "surprised", "ps", None, "back"),
        ("TESS", "OAF_neutral/OA_bite_neutral.wav", "tess/OAF", "female", "neutral", "neutral", None, "bite"),
        ("TESS", "YAF_fear/YAF_dog_Fear.wav", "tess/YAF", "female", "fearful", "Fear", None, "dog"),
        ("SAVEE", "AudioData/JK/su07.wav", "savee/JK", "male", "surprised", "su", None, "su07"),
        ("SAVEE", "ALL/DC_sa01.wav", "savee/DC", "male", "sad", "sa", None, "sa01"),
        ("EmoDB", "wav/03a01Fa.wav", "emodb/03", "male", "happy", "F", None, "a01"),
        ("EmoDB", "wav/16b10Lb.wav", "emodb/16", "female", None, "L", None, "b10"),
        ("nEMO", "samples/KD0_happiness_9.wav", "nemo/KD0", "female", "happy", "happiness", None, "9"),
        ("nEMO", "samples/WR0_anger_12.wav", "nemo/WR0", "male", "angry", "anger", None, "12"),
        ("EMOVO", "f1/gio-f1-b1.wav", "emovo/f1", "female", "happy", "gio", None, "b1"),
        ("EMOVO", "m3/rab-m3-n5.wav", "emovo/m3", "male", "angry", "rab", None, "n5"),
        ("URDU", "Sad/SF2_F3_S03.wav", "urdu/SF2", "female", "sad", "Sad", None, None),
        ("ASVP-ESD", "actor_12/03-01-06-01-02-12-02-01-01-16.wav", "asvp-esd/12", "male", "fearful", "fearful",
         "normal", None),
        ("ASVP-ESD", "actor_07/03-01-01-02-10-07-02-03-02.wav", "asvp-esd/07", "female", None, "boredom", "high", None),
        ("TurEV-DB", "Sound Source/Calm/1358_sk_beste.wav", "turev/1358", None, "neutral", "Calm", None, "beste"),
        ("JL-Corpus", f"{RAW_JL}/female1_angry_10a_1.wav", "jl/female1", "female", "angry", "angry", None, "10a"),
        ("JL-Corpus", f"{RAW_JL}/male2_apologetic_3b_2.wav", "jl/male2", "male", None, "apologetic", None, "3b"),
        ("CASIA", "ZhaoZuoxiang/Fear/201.wav", "casia/zhaozuoxiang", None, "fearful", "fear", None, "201"),
        ("voice-prompts", "usr/share/asterisk/sounds/it_IT_m_Carlo/followme/pls-hold.wav", "prompts/Carlo", "male",
         "neutral", "", None, "pls-hold"),
        ("voice-prompts", "usr/share/klettres/pt_BR/syllab/ba.ogg", "klettres/pt_BR", None, "neutral", "", None, "ba"),
        ("voice-prompts", "usr/share/ktuberling/sounds/sv/ko.wav", "ktuberling/sv", None, "neutral", "", None, "ko"),
        ("wake-word-benchmark", "audio/view glass/0a1b.flac", "command/0a1b", None, "neutral", "", None, "view glass"),
    ],
)  # fmt: skip
def test_names_are_read(
    tmp_path: Path,
    corpus: str,
    name: str,
    speaker: str,
    sex: str | None,
    emotion: str | None,
    own: str,
    intensity: str | None,
    text: str | None,
) -> None:
    (clip,) = LOADERS[corpus](tree(tmp_path, name, "README.md", "notes.txt"))
    assert (clip.corpus, clip.speaker, clip.sex, clip.emotion) == (corpus, speaker, sex, emotion)
    assert (clip.emotion_own, clip.intensity, clip.text) == (own, intensity, text)
    assert clip.licence
    assert len(clip.language) in (2, 3)


@pytest.mark.parametrize("suffix", [".wav", ".WAV", ".flac", ".ogg"])
def test_any_container_will_do(tmp_path: Path, suffix: str) -> None:
    (clip,) = LOADERS["EmoDB"](tree(tmp_path, f"wav/08a05Ta{suffix}"))
    assert (clip.emotion, clip.age) == ("sad", 34)


@pytest.mark.parametrize(
    ("corpus", "names", "kept"),
    [
        (
            "CREMA-D",
            ["1076_MTI_SAD_XX", "1006_TIE_HAP_XX", "1013_WSI_DIS_XX", "1017_IWW_FEA_XX", "1076_MTI_SAD_LO"],
            ["1076_MTI_SAD_LO"],
        ),
        ("RAVDESS", ["03-01-03-01-02-01-07", "03-01-03-01-02-02-07"], ["03-01-03-01-02-01-07"]),
        ("RAVDESS", ["03-01-03-01-02-01-07", "03-02-03-01-02-01-07"], ["03-01-03-01-02-01-07"]),  # song
        (
            "ASVP-ESD",
            ["03-01-03-01-02-07-02-01-01", "03-02-03-01-02-07-02-01-01-13", "03-01-03-01-02-07-02-01-01-66"],
            ["03-01-03-01-02-07-02-01-01"],
        ),
    ],
)
def test_known_faults_are_left_out(tmp_path: Path, corpus: str, names: list[str], kept: list[str]) -> None:
    tree(tmp_path, *(f"folder/{n}.wav" for n in names))
    assert [c.path.stem for c in LOADERS[corpus](tmp_path)] == kept


def test_of_prompts_the_sentences_are_kept_and_each_once(tmp_path: Path) -> None:
    asterisk, games = "usr/share/asterisk/sounds/ru_RU_f_IvrvoiceRU", "usr/share/ktuberling/sounds"
    tree(tmp_path, *(f"{asterisk}/{name}.wav" for name in ("hello", "is", "beep", "digits/1", "phonetic/a_p")))
    tree(tmp_path, f"{games}/sr/nos.wav", f"{games}/sr@latin/nos.wav")
    (tmp_path / asterisk / "hallo.wav").symlink_to("hello.wav")
    assert [(c.speaker, c.text) for c in LOADERS["voice-prompts"](tmp_path)] == [
        ("prompts/IvrvoiceRU", "hello"), ("ktuberling/sr", "nos")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("corpus", "clip", "again"),
    [
        ("RAVDESS", "Actor_01/03-01-05-01-02-01-01", "audio_speech_actors_01-24/Actor_01/03-01-05-01-02-01-01"),
        ("TESS", "OAF_angry/OAF_back_angry", "TESS Toronto emotional speech set data/OAF_angry/OAF_back_angry"),
    ],
)
def test_of_a_download_that_holds_a_corpus_twice_each_clip_is_taken_once(
    tmp_path: Path, corpus: str, clip: str, again: str
) -> None:
    assert len(list(LOADERS[corpus](tree(tmp_path, f"{clip}.wav", f"{again}.wav")))) == 1


def test_a_missing_corpus_is_told(tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match="TESS"):
        load(tmp_path, tmp_path, ["TESS"])


def crema_d_tree(root: Path) -> Path:
    """CREMA-D as published: a training, a validation and a test speaker, its votes and its demographics."""
    corpus = tree(root, *(f"CREMA-D/AudioWAV/{speaker}_IEO_NEU_XX.wav" for speaker in ("1001", "1015", "1010")))
    corpus = corpus / "CREMA-D"
    (corpus / "VideoDemographics.csv").write_text(
        '"ActorID","Age","Sex","Race","Ethnicity"\n'
        '1001,51,"Male","Caucasian","Not Hispanic"\n1015,32,"Male","African American","Not Hispanic"\n'
    )
    (corpus / "processedResults").mkdir()
    (corpus / "processedResults" / "tabulatedVotes.csv").write_text(
        '"","A","D","F","H","N","S","fileName","numResponses"\n'
        '"100001",0,0,0,1,10,0,"1001_IEO_NEU_XX",11\n"200001",0,0,0,0,9,1,"1001_IEO_NEU_XX",10\n'
        '"300001",1,0,0,0,9,0,"1001_IEO_NEU_XX",10\n'
    )
    return root


def test_the_published_crema_d_is_read_without_its_test_speakers(tmp_path: Path) -> None:
    clips = load(crema_d_tree(tmp_path), SPLITS, ["CREMA-D"])
    assert [(c.speaker, c.age, c.sex, c.votes) for c in clips] == [
        ("crema-d/1001", 51, "male", (10, 1, 0, 0, 0, 0, 0)),  # as heard, not as seen
        ("crema-d/1015", 32, "male", None),
    ]


@pytest.mark.parametrize("missing", ["VideoDemographics.csv", "processedResults/tabulatedVotes.csv"])
def test_a_missing_table_is_told(tmp_path: Path, missing: str) -> None:
    (crema_d_tree(tmp_path) / "CREMA-D" / missing).unlink()
    with pytest.raises(typer.BadParameter, match=missing):
        load(tmp_path, SPLITS, ["CREMA-D"])


def test_a_missing_split_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match=r"crema_d_train_speakers\.txt"):
        load(crema_d_tree(tmp_path), tmp_path, ["CREMA-D"])


SHARED = ["CREMA-D", "RAVDESS", "TESS", "nEMO", "URDU", "TurEV-DB", "wake-word-benchmark"]


def test_real_corpora_have_their_numbers(corpora: Path, splits: Path) -> None:
    clips = load(corpora, splits, SHARED)
    assert Counter(c.corpus for c in clips) == {
        "CREMA-D": 5879,
        "RAVDESS": 1439,
        "TESS": 2800,
        "nEMO": 4481,
        "URDU": 400,
        "TurEV-DB": 1735,
        "wake-word-benchmark": 2293,
    }
    speakers = {name: len({c.speaker for c in clips if c.corpus == name}) for name in SHARED[:-1]}
    assert speakers == {"CREMA-D": 72, "RAVDESS": 24, "TESS": 2, "nEMO": 9, "URDU": 29, "TurEV-DB": 6}
    assert {c.emotion for c in clips} == set(LABELS)
    crema: list[Clip] = [c for c in clips if c.corpus == "CREMA-D"]
    assert all(c.votes is not None and len(c.votes) == len(LABELS) for c in crema)
    assert {c.sex for c in crema} == {"male", "female"}
    assert all(c.age is not None and 20 <= c.age <= 74 for c in crema)


def test_splits_share_no_speaker(corpora: Path, splits: Path) -> None:
    clips = load(corpora, splits, SHARED)
    held = held_out(clips, splits)
    trained = {c.speaker for c, h in zip(clips, held, strict=True) if not h}
    measured = {c.speaker for c, h in zip(clips, held, strict=True) if h}
    assert not trained & measured
    assert {s for s in measured if s.startswith("crema-d/")} == crema_d_validation(splits)
    assert len(crema_d_validation(splits)) == 9
    assert not any(c.text == HELD_OUT_KEYWORD for c, h in zip(clips, held, strict=True) if not h)


def test_ravdess_folds_cover_each_actor_once(splits: Path) -> None:
    folds = [ravdess_fold(splits, k) for k in range(RAVDESS_FOLDS)]
    assert sorted(s for fold in folds for s in fold) == [f"ravdess/{k:02d}" for k in range(1, 25)]
