"""Read corpora in their own layouts and names: one loader each, giving `Clip`s.

A corpus folder is looked for under a root by the corpus' own name, and its files by their stem, whatever the audio
container. Speakers are unique across corpora. Known faults are named here and left out.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import typer

from tools.splits import crema_d_train, crema_d_validation

LABELS = ("neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised")
"""Our words, in the order every model of ours numbers them."""
FOUR = LABELS[:4]
"""What nearly every corpus has: the yardstick across corpora."""

NOISE_CORPUS = "ESC-10"
COMMANDS = "wake-word-benchmark"
"""The corpus of neutral commands."""
PROMPTS = "voice-prompts"
"""What telephones and games say to people (`voice_prompts`)."""
UNACTED = (COMMANDS, PROMPTS)
"""Speech that nobody acts an emotion in: neutral, as far as anyone knows."""

AUDIO_SUFFIXES = {".wav", ".flac", ".ogg"}


@dataclass(frozen=True)
class Clip:
    """One recording of one emotion by one speaker."""

    path: Path
    corpus: str
    speaker: str
    emotion: str | None
    """One of `LABELS`; None for what is none of them. Neutral for corpora without acted emotion."""
    emotion_own: str
    """The corpus' own word or code."""
    language: str
    """ISO 639-1."""
    licence: str
    sex: str | None = None
    """`female` or `male`, where known."""
    age: int | None = None
    """In years, where known."""
    intensity: str | None = None
    """The corpus' own word or code, where it has one."""
    text: str | None = None
    """Code of the sentence, word or keyword that was spoken, where the names tell it."""
    votes: tuple[int, ...] | None = None
    """How many raters who only heard the clip chose each of `LABELS`, where the corpus has them."""


_CREMA_D = {"NEU": "neutral", "HAP": "happy", "SAD": "sad", "ANG": "angry", "FEA": "fearful", "DIS": "disgusted"}
_CREMA_D_VOTE_LETTERS = "NHSAFD"
"""CREMA-D's vote columns in the order of `LABELS` (it has no surprise)."""
CREMA_D_SENTENCES = ("IEO", "TIE", "IOM", "IWW", "TAI", "MTI", "IWL", "ITH", "DFA", "ITS", "TSI", "WSI")
_CREMA_D_FAULTY = {
    "1076_MTI_SAD_XX",  # all zeros
    *("1006_TIE_HAP_XX", "1006_TIE_NEU_XX"),  # pairs of identical audio with different labels
    *("1013_WSI_DIS_XX", "1013_WSI_SAD_XX"),
    *("1017_IWW_ANG_XX", "1017_IWW_FEA_XX"),
}
_RAVDESS = ("neutral", "neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised")
_RAVDESS_OWN = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
_RAVDESS_TWIN = "03-01-03-01-02-02-07"  # the same audio as ...-02-01-07
_TESS = {
    "neutral": "neutral",
    "happy": "happy",
    "sad": "sad",
    "angry": "angry",
    "fear": "fearful",
    "disgust": "disgusted",
    "ps": "surprised",
}
_TESS_AGES = {"OAF": 64, "YAF": 26}
_SAVEE = {
    "n": "neutral",
    "h": "happy",
    "sa": "sad",
    "a": "angry",
    "f": "fearful",
    "d": "disgusted",
    "su": "surprised",
}
_EMODB = {"N": "neutral", "F": "happy", "T": "sad", "W": "angry", "A": "fearful", "E": "disgusted"}  # L is boredom
_EMODB_AGES = {
    "03": 31, "08": 34, "09": 21, "10": 32, "11": 26, "12": 30, "13": 32, "14": 35, "15": 25, "16": 31,
}  # fmt: skip
_EMODB_MEN = {"03", "10", "11", "12", "15"}
_NEMO = {
    "neutral": "neutral",
    "happiness": "happy",
    "sadness": "sad",
    "anger": "angry",
    "fear": "fearful",
    "surprised": "surprised",
}
_NEMO_WOMEN = {"EB0", "IC0", "KD0", "MK0"}  # as its data.tsv has it
_EMOVO = {
    "neu": "neutral",
    "gio": "happy",
    "tri": "sad",
    "rab": "angry",
    "pau": "fearful",
    "dis": "disgusted",
    "sor": "surprised",
}
_URDU = {"Angry": "angry", "Happy": "happy", "Neutral": "neutral", "Sad": "sad"}
_ASVP_ESD_OWN = (
    "boredom", "neutral", "happy", "sad", "angry", "fearful", "disgust", "surprised", "excited", "pleasure", "pain",
    "disappointment", "breath",
)  # fmt: skip
_ASVP_ESD = {own: own for own in ("neutral", "happy", "sad", "angry", "fearful", "surprised")} | {
    "disgust": "disgusted"
}
_ASVP_ESD_LANGUAGES = {"01": "zh", "02": "en", "04": "fr"}
_TUREV = {"Angry": "angry", "Calm": "neutral", "Happy": "happy", "Sad": "sad"}
_JL = {"neutral": "neutral", "happy": "happy", "sad": "sad", "angry": "angry"}  # and six that are none of ours
_PROMPT_VOICES = {
    "en_US_f_Allison": ("prompts/Allison", "female", "en", "CC-BY-SA-3.0"),
    "es_MX_f_Allison": ("prompts/Allison", "female", "es", "CC-BY-SA-3.0"),
    "fr_CA_f_June": ("prompts/June", "female", "fr", "CC-BY-SA-3.0"),
    "it_IT_m_Carlo": ("prompts/Carlo", "male", "it", "CC-BY-SA-3.0"),
    "it_IT_f_Menardi": ("prompts/Menardi", "female", "it", "CC-BY-SA-3.0"),
    "ru_RU_f_IvrvoiceRU": ("prompts/IvrvoiceRU", "female", "ru", "CC-BY-3.0"),
}
_NO_SENTENCES = {"digits", "letters", "phonetic", "silence"}
_NO_SPEECH = {
    *("ascending-2tone", "beep", "beeperr", "confbridge-join", "confbridge-leave", "descending-2tone", "tt-monkeys"),
    "is",  # empty in Russian
}
_CASIA = {
    "neutral": "neutral",
    "happy": "happy",
    "sad": "sad",
    "angry": "angry",
    "fear": "fearful",
    "surprise": "surprised",
}


def _audio(folder: Path) -> Iterator[Path]:
    return (p for p in sorted(folder.rglob("*")) if p.suffix.lower() in AUDIO_SUFFIXES)


def _each_once(folder: Path) -> Iterable[Path]:
    """By name: Kaggle's copies of RAVDESS and TESS hold every clip a second time, in another folder."""
    return {path.stem: path for path in _audio(folder)}.values()


def crema_d(folder: Path, tables: Path | None = None) -> Iterator[Clip]:
    """CREMA-D (Cao et al., 2014): `AudioWAV/1001_DFA_ANG_XX`.

    Votes and demographics are read if `tables` is given: from there, or where it lacks them from CREMA-D's own files,
    `processedResults/tabulatedVotes.csv` and `VideoDemographics.csv`.
    """
    votes = _crema_d_votes(folder, tables) if tables else {}
    people = _crema_d_people(folder, tables) if tables else {}
    for path in _audio(folder):
        name = path.stem.upper()
        if name in _CREMA_D_FAULTY:
            continue
        speaker, sentence, own, intensity = name.split("_")
        sex, age = people.get(speaker, (None, None))
        yield Clip(
            path, "CREMA-D", f"crema-d/{speaker}", _CREMA_D[own], own, "en", "ODbL-1.0", sex, age, intensity, sentence,
            votes.get(name),
        )  # fmt: skip


def ravdess(folder: Path) -> Iterator[Clip]:
    """RAVDESS speech (Livingstone and Russo, 2018): `Actor_01/03-01-05-01-02-01-01`; song (`03-02-`) is passed over."""
    for path in _each_once(folder):
        modality, channel, emotion, intensity, statement, _repetition, actor = path.stem.split("-")
        if (modality, channel) != ("03", "01") or path.stem == _RAVDESS_TWIN:
            continue
        k = int(emotion) - 1
        yield Clip(
            path, "RAVDESS", f"ravdess/{actor}", _RAVDESS[k], _RAVDESS_OWN[k], "en", "CC-BY-NC-SA-4.0",
            "male" if int(actor) % 2 else "female", None, ("normal", "strong")[int(intensity) - 1], statement,
        )  # fmt: skip


def tess(folder: Path) -> Iterator[Clip]:
    """TESS (Pichora-Fuller and Dupuis, 2020): `OAF_back_angry`; one name begins `OA_`."""
    for path in _each_once(folder):
        who, word, own = path.stem.split("_", 2)
        voice = "YAF" if who.upper() == "YAF" else "OAF"
        yield Clip(
            path, "TESS", f"tess/{voice}", _TESS[own.lower()], own, "en", "CC-BY-NC-ND-4.0", "female",
            _TESS_AGES[voice], None, word.lower(),
        )  # fmt: skip


def savee(folder: Path) -> Iterator[Clip]:
    """SAVEE (Jackson and Haq, 2014): `AudioData/DC/sa01`, or `DC_sa01` in one folder; four men."""
    for path in _audio(folder):
        speaker, _, name = path.stem.rpartition("_")
        speaker = speaker or path.parent.name
        own = name.rstrip("0123456789")
        yield Clip(
            path, "SAVEE", f"savee/{speaker}", _SAVEE[own], own, "en", "research-only", "male", text=name,
        )  # fmt: skip


def emodb(folder: Path) -> Iterator[Clip]:
    """EmoDB (Burkhardt et al., 2005): `wav/03a01Fa`: speaker, text, emotion, version."""
    for path in _audio(folder):
        speaker, text, own = path.stem[:2], path.stem[2:5], path.stem[5]
        sex = "male" if speaker in _EMODB_MEN else "female"
        age = _EMODB_AGES.get(speaker)
        yield Clip(path, "EmoDB", f"emodb/{speaker}", _EMODB.get(own), own, "de", "CC0-1.0", sex, age, None, text)


def nemo(folder: Path) -> Iterator[Clip]:
    """nEMO (Christop, 2024): `samples/AS0_anger_12`."""
    for path in _audio(folder):
        speaker, own, sentence = path.stem.split("_")
        sex = "female" if speaker in _NEMO_WOMEN else "male"
        yield Clip(
            path, "nEMO", f"nemo/{speaker}", _NEMO[own], own, "pl", "CC-BY-NC-SA-4.0", sex, text=sentence
        )  # fmt: skip


def emovo(folder: Path) -> Iterator[Clip]:
    """EMOVO (Costantini et al., 2014): `f1/dis-f1-b1`: emotion, speaker, sentence."""
    for path in _audio(folder):
        own, speaker, sentence = path.stem.split("-")
        sex = "female" if speaker.startswith("f") else "male"
        yield Clip(path, "EMOVO", f"emovo/{speaker}", _EMOVO[own], own, "it", "research-only", sex, text=sentence)


def urdu(folder: Path) -> Iterator[Clip]:
    """URDU (Latif et al., 2018): `Angry/SM1_F19_A019`, talk shows, unscripted."""
    for path in _audio(folder):
        speaker, own = path.stem.split("_")[0], path.parent.name
        sex = "female" if speaker.startswith("SF") else "male"
        yield Clip(path, "URDU", f"urdu/{speaker}", _URDU[own], own, "ur", "research-only", sex)


def asvp_esd(folder: Path) -> Iterator[Clip]:
    """ASVP-ESD (Landry et al., 2020), its speech: `actor_12/03-01-06-01-02-12-02-01-01-16`.

    Modality, channel (02 is no speech), emotion, intensity, statement, actor (even: male), age band, source, language.
    Recordings of several voices (ending in 66) are left out.
    """
    for path in _audio(folder):
        parts = path.stem.split("-")
        if parts[1] != "01" or parts[-1] == "66":
            continue
        own = _ASVP_ESD_OWN[int(parts[2]) - 1]
        sex = "female" if int(parts[5]) % 2 else "male"
        language = _ASVP_ESD_LANGUAGES.get(parts[8] if len(parts) > 8 else "", "und")
        intensity = {"01": "normal", "02": "high"}.get(parts[3])
        yield Clip(
            path, "ASVP-ESD", f"asvp-esd/{parts[5]}", _ASVP_ESD.get(own), own, language, "CC-BY-4.0", sex, None,
            intensity,
        )  # fmt: skip


def turev(folder: Path) -> Iterator[Clip]:
    """TurEV-DB (Canpolat et al., 2020): `Sound Source/Angry/1358_kz_beste`, single words.

    The number is the speaker; the two letters are the emotion once more, in Turkish.
    """
    for path in _audio(folder):
        speaker, _letters, word = path.stem.split("_", 2)
        own = path.parent.name
        yield Clip(path, "TurEV-DB", f"turev/{speaker}", _TUREV[own], own, "tr", "CC-BY-NC-ND-4.0", text=word)


def jl_corpus(folder: Path) -> Iterator[Clip]:
    """JL-Corpus (James et al., 2018): `Raw JL corpus (unchecked and unannotated)/JL(wav+txt)/female1_angry_10a_1`."""
    for path in _audio(folder):
        speaker, own, sentence, _session = path.stem.split("_")
        sex = speaker.rstrip("0123456789")
        yield Clip(path, "JL-Corpus", f"jl/{speaker}", _JL.get(own), own, "en", "CC0-1.0", sex, text=sentence)


def casia(folder: Path) -> Iterator[Clip]:
    """CASIA (Tao et al., 2008): `liuchanhg/angry/201`: speaker, emotion, sentence. Two women, two men, untold which."""
    for path in _audio(folder):
        speaker, own = path.parent.parent.name.lower(), path.parent.name.lower()
        yield Clip(
            path, "CASIA", f"casia/{speaker}", _CASIA[own], own, "zh", "research-only", text=path.stem
        )  # fmt: skip


def commands(folder: Path) -> Iterator[Clip]:
    """Picovoice's wake-word benchmark: keywords spoken by many unnamed people into their own microphones."""
    for path in _audio(folder):
        keyword = path.parent.name
        yield Clip(
            path, COMMANDS, f"command/{path.stem}", "neutral", "", "en", "Apache-2.0", text=keyword
        )  # fmt: skip


def voice_prompts(folder: Path) -> Iterator[Clip]:
    """What Asterisk says to callers, and KLettres and KTuberling to children: Debian's packages, `dpkg -x`.

    asterisk-core-sounds-{en,es,fr,it,ru}-wav and asterisk-prompt-it-menardi-wav, of which the sentences:
    `usr/share/asterisk/sounds/fr_CA_f_June/goodbye`; klettres-data and ktuberling-data, where a language's folder
    counts as a voice: `usr/share/klettres/de/syllab/ba`, `usr/share/ktuberling/sounds/sv/hat`.
    """
    for path in _audio(folder):
        within = path.relative_to(folder).parts
        if path.is_symlink() or "@" in str(path):  # Serbian in other letters is the same voice
            continue
        if "asterisk" in within:
            voice, *inner = within[within.index("sounds") + 1 : -1]
            if not set(inner) & _NO_SENTENCES and path.stem not in _NO_SPEECH:
                speaker, sex, language, licence = _PROMPT_VOICES[voice]
                yield Clip(path, PROMPTS, speaker, "neutral", "", language, licence, sex, text=path.stem)
        else:
            game, place = ("klettres", within[3]) if "klettres" in within else ("ktuberling", within[4])
            language = place.partition("_")[0]
            yield Clip(path, PROMPTS, f"{game}/{place}", "neutral", "", language, "GPL-2.0-or-later", text=path.stem)


LOADERS: dict[str, Callable[[Path], Iterator[Clip]]] = {
    "CREMA-D": crema_d,
    "RAVDESS": ravdess,
    "TESS": tess,
    "SAVEE": savee,
    "EmoDB": emodb,
    "nEMO": nemo,
    "EMOVO": emovo,
    "URDU": urdu,
    "ASVP-ESD": asvp_esd,
    "TurEV-DB": turev,
    "JL-Corpus": jl_corpus,
    "CASIA": casia,
    COMMANDS: commands,
    PROMPTS: voice_prompts,
}


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise typer.BadParameter(f"there is no {path}; docs/model.md says where it comes from")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _crema_d_votes(folder: Path, tables: Path) -> dict[str, tuple[int, ...]]:
    """Clip → how many of those who only heard it chose each of `LABELS`."""
    ours = tables / "crema_d_voice_votes.csv"
    if ours.exists():
        by_clip = {row["file"]: row for row in _rows(ours)}
    else:
        rows = _rows(folder / "processedResults" / "tabulatedVotes.csv")
        # Rows are numbered 1xxxxx where a clip was heard, 2xxxxx where it was seen, 3xxxxx both.
        by_clip = {row["fileName"]: row for row in rows if row[""].startswith("1")}
    return {clip: (*(int(row[letter]) for letter in _CREMA_D_VOTE_LETTERS), 0) for clip, row in by_clip.items()}


def _crema_d_people(folder: Path, tables: Path) -> dict[str, tuple[str, int]]:
    """Speaker → sex and age."""
    ours = tables / "crema_d_demographics.csv"
    rows = _rows(ours if ours.exists() else folder / "VideoDemographics.csv")
    return {row["ActorID"]: (row["Sex"].lower(), int(row["Age"])) for row in rows}


def load(root: Path, splits: Path, names: list[str]) -> list[Clip]:
    """The clips of the named corpora under `root`.

    Of CREMA-D those of the training and validation speakers, with its tables (`crema_d`); its test speakers are kept
    for a last figure (`tools.evaluate --test`), and nothing else looks at them.

    Raises
    ------
    typer.BadParameter
        If a corpus has no folder or no clip there, or a table is missing.
    """
    clips: list[Clip] = []
    for name in names:
        if name == "CREMA-D":
            speakers = crema_d_train(splits) | crema_d_validation(splits)
            found = [c for c in crema_d(root / name, splits) if c.speaker in speakers]
        else:
            found = list(LOADERS[name](root / name))
        if not found:
            raise typer.BadParameter(f"no clips of {name} in {root / name}")
        clips += found
    return clips
