"""Read corpora in their own layouts and names: one loader each, giving `Clip`s.

A corpus folder is looked for under a root by the corpus' own name, and its files by their stem, whatever the audio
container. Speakers are unique across corpora.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

LABELS = ("neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised")
"""Our words, in the order every model of ours numbers them."""

CREMA_D_VOTE_LETTERS = "NHSAFD"
"""CREMA-D's vote columns in the order of `LABELS` (it has no surprise)."""

HELD_OUT_KEYWORD = "view glass"
"""Commands with this keyword are never trained on: they tell how often neutral speech raises a false alarm."""

NOISE_CORPUS = "ESC-10"

AUDIO_SUFFIXES = {".wav", ".flac", ".ogg"}


@dataclass(frozen=True)
class Clip:
    """One recording of one emotion by one speaker."""

    path: Path
    corpus: str
    speaker: str
    emotion: str
    """One of `LABELS`; for corpora without acted emotion, neutral."""
    emotion_own: str
    """The corpus' own word or code."""
    language: str
    licence: str
    sex: str | None = None
    group: str | None = None
    """What belongs together besides the speaker: the keyword of a command."""
    votes: tuple[int, ...] | None = None
    """How many raters who only heard the clip chose each of `LABELS`, where the corpus has them."""


_CREMA_D = {"NEU": "neutral", "HAP": "happy", "SAD": "sad", "ANG": "angry", "FEA": "fearful", "DIS": "disgusted"}
_CREMA_D_FAULTY = {
    "1076_MTI_SAD_XX",  # all zeros
    *("1006_TIE_HAP_XX", "1006_TIE_NEU_XX"),  # pairs of identical audio with different labels
    *("1013_WSI_DIS_XX", "1013_WSI_SAD_XX"),
    *("1017_IWW_ANG_XX", "1017_IWW_FEA_XX"),
}
_RAVDESS = ("neutral", "neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised")
_RAVDESS_OWN = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
_TESS = {
    "neutral": "neutral",
    "happy": "happy",
    "sad": "sad",
    "angry": "angry",
    "fear": "fearful",
    "disgust": "disgusted",
    "ps": "surprised",
}
_NEMO = {
    "neutral": "neutral",
    "happiness": "happy",
    "sadness": "sad",
    "anger": "angry",
    "fear": "fearful",
    "surprised": "surprised",
}
_NEMO_WOMEN = {"KS0", "SM0", "EB0", "WR0"}
_URDU = {"Angry": "angry", "Happy": "happy", "Neutral": "neutral", "Sad": "sad"}
_TUREV = {"Angry": "angry", "Calm": "neutral", "Happy": "happy", "Sad": "sad"}


def _audio(folder: Path) -> Iterator[Path]:
    return (p for p in sorted(folder.rglob("*")) if p.suffix.lower() in AUDIO_SUFFIXES)


def crema_d(folder: Path, votes: dict[str, tuple[int, ...]] | None = None) -> Iterator[Clip]:
    """CREMA-D (Cao et al., 2014): `AudioWAV/1001_DFA_ANG_XX`. `votes` as `read_crema_d_votes` gives them."""
    for path in _audio(folder):
        speaker, _sentence, own, _intensity = path.stem.split("_")
        if path.stem in _CREMA_D_FAULTY:
            continue
        clip_votes = (votes or {}).get(path.stem)
        yield Clip(path, "CREMA-D", f"crema-d/{speaker}", _CREMA_D[own], own, "en", "ODbL-1.0", votes=clip_votes)


def ravdess(folder: Path) -> Iterator[Clip]:
    """RAVDESS speech (Livingstone and Russo, 2018): `Actor_01/03-01-05-01-02-01-01`."""
    for path in _audio(folder):
        code = [int(part) for part in path.stem.split("-")]
        if path.stem == "03-01-03-01-02-02-07":  # the same audio as ...-02-01-07
            continue
        sex = "male" if code[6] % 2 else "female"
        own = _RAVDESS_OWN[code[2] - 1]
        speaker = f"ravdess/{code[6]:02d}"
        yield Clip(path, "RAVDESS", speaker, _RAVDESS[code[2] - 1], own, "en", "CC-BY-NC-SA-4.0", sex)


def tess(folder: Path) -> Iterator[Clip]:
    """TESS (Pichora-Fuller and Dupuis, 2020): `OAF_back_angry`; one name begins `OA_`."""
    for path in _audio(folder):
        who, _word, own = path.stem.split("_", 2)
        speaker = "tess/YAF" if who == "YAF" else "tess/OAF"
        yield Clip(path, "TESS", speaker, _TESS[own.lower()], own, "en", "CC-BY-NC-ND-4.0", "female")


def nemo(folder: Path) -> Iterator[Clip]:
    """nEMO (Christop, 2024): `samples/AS0_anger_12`."""
    for path in _audio(folder):
        speaker, own, _sentence = path.stem.split("_")
        sex = "female" if speaker in _NEMO_WOMEN else "male"
        yield Clip(path, "nEMO", f"nemo/{speaker}", _NEMO[own], own, "pl", "CC-BY-NC-SA-4.0", sex)


def urdu(folder: Path) -> Iterator[Clip]:
    """URDU (Latif et al., 2018): `Angry/SM1_F19_A019`, talk shows, unscripted."""
    for path in _audio(folder):
        speaker = path.stem.split("_")[0]
        sex = "female" if speaker.startswith("SF") else "male"
        own = path.parent.name
        yield Clip(path, "URDU", f"urdu/{speaker}", _URDU[own], own, "ur", "research-only", sex)


def turev(folder: Path) -> Iterator[Clip]:
    """TurEV-DB (Canpolat et al., 2020): `Sound Source/Angry/1358_sk_beste`, single words."""
    for path in _audio(folder):
        speaker, own = path.stem.split("_")[0], path.parent.name
        yield Clip(path, "TurEV-DB", f"turev/{speaker}", _TUREV[own], own, "tr", "CC-BY-NC-ND-4.0")


def commands(folder: Path) -> Iterator[Clip]:
    """Picovoice's wake-word benchmark: keywords spoken by many unnamed people into their own microphones."""
    for path in _audio(folder):
        keyword = path.parent.name
        yield Clip(
            path, "wake-word-benchmark", f"command/{path.stem}", "neutral", "", "en", "Apache-2.0", group=keyword
        )


LOADERS: dict[str, Callable[[Path], Iterator[Clip]]] = {
    "CREMA-D": crema_d,
    "RAVDESS": ravdess,
    "TESS": tess,
    "nEMO": nemo,
    "URDU": urdu,
    "TurEV-DB": turev,
    "wake-word-benchmark": commands,
}


def read_crema_d_votes(path: Path) -> dict[str, tuple[int, ...]]:
    """CREMA-D's tabulated voice votes: clip → counts in the order of `LABELS`."""
    with path.open(newline="") as file:
        return {
            row["file"]: (*(int(row[letter]) for letter in CREMA_D_VOTE_LETTERS), 0) for row in csv.DictReader(file)
        }


def read_speakers(path: Path) -> set[str]:
    """A split file: one speaker a line."""
    return set(path.read_text().split())


def load(root: Path, splits: Path, names: list[str]) -> list[Clip]:
    """The clips of the named corpora under `root`, CREMA-D's with the votes found under `splits`.

    Raises
    ------
    FileNotFoundError
        If a corpus has no folder or no clip there.
    """
    clips: list[Clip] = []
    for name in names:
        if name == "CREMA-D":
            found = list(crema_d(root / name, read_crema_d_votes(splits / "crema_d_voice_votes.csv")))
        else:
            found = list(LOADERS[name](root / name))
        if not found:
            raise FileNotFoundError(f"no clips of {name} in {root / name}")
        clips += found
    return clips


def crema_d_validation(clip: Clip, speakers: set[str]) -> bool:
    """Is this a clip of one of CREMA-D's validation speakers?"""
    return clip.corpus == "CREMA-D" and re.sub(r"^crema-d/", "", clip.speaker) in speakers
