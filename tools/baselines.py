"""The systems this project grew from, rebuilt and scored under their own random split and under ours by speaker.

`python -m tools.baselines --corpora DIR -o docs/evaluation`

librosa makes the features, scikit-learn, hmmlearn and PyTorch the models. Everything is fitted on clips of the training
side alone, scaling included. By speaker: CREMA-D's validation speakers, the first fold of RAVDESS' actors and the older
of TESS' two voices are kept for testing.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import matplotlib
import numpy as np
import torch
import typer
from hmmlearn.hmm import GaussianHMM
from numpy.typing import NDArray
from rich.progress import track
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_selection import RFE
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from torch import nn

from realtime_ser._librosa import load_librosa
from realtime_ser.settings import RATE_HZ
from tools import metrics
from tools.answers import ask
from tools.corpora import Clip, load
from tools.listen import as_is
from tools.prepare import read_mono
from tools.splits import SPLITS, crema_d_validation, ravdess_fold

matplotlib.use("Agg")
from matplotlib import pyplot

librosa = load_librosa()

N_MFCC = 40
N_FRAMES = 94
"""Of the sequence models: 3 s at a hop of 512 samples."""
SIX = ("neutral", "happy", "sad", "angry", "fearful", "disgusted")
JOY_TO_SURPRISE = ("happy", "sad", "angry", "surprised")
MODELS = ("ser-base", "ser-research")
RAVDESS_MLP = ("neutral", "happy", "fearful", "disgusted")
FORMANT_ORDER = 18
"""Of linear prediction at 16 kHz: 2 + rate in kHz."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Described:
    """What librosa says of a clip."""

    vector: Floats
    """Means over time: 40 MFCC, 12 chroma, 128 mel (180); then their further company, see `NAMES`."""
    sequence: Floats
    """Shape (N_FRAMES, 13): MFCCs, cut or followed by zeros."""
    many_mfcc: Floats
    """Means of 128 MFCC; with chroma and mel the vector of 268."""


NAMES = (
    *(f"mfcc {k}" for k in range(N_MFCC)),
    *(f"chroma {k}" for k in range(12)),
    *(f"mel {k}" for k in range(128)),
    *(f"contrast {k}" for k in range(7)),
    *(f"tonnetz {k}" for k in range(6)),
    "f0 mean", "f0 deviation", "energy mean", "energy deviation", "formant 1", "formant 2", "formant 3",
)  # fmt: skip


def formants_hz(samples: Floats) -> list[float]:
    """The three lowest resonances of the loudest 50 ms, from the roots of linear prediction (Markel and Gray, 1976)."""
    n = RATE_HZ // 20
    power = np.convolve(np.square(samples), np.ones(n), "valid")
    start = int(power.argmax())
    part = librosa.effects.preemphasis(samples[start : start + n]) * np.hamming(n)
    if not part.any():
        return [0.0, 0.0, 0.0]
    roots = np.roots(librosa.lpc(part.astype(np.float64), order=FORMANT_ORDER))
    hz = np.sort(np.angle(roots[np.imag(roots) > 0]) * RATE_HZ / (2 * np.pi))
    hz = hz[hz > 90]
    return [*map(float, hz[:3]), 0.0, 0.0, 0.0][:3]


def describe(path: Path) -> Described:
    """All features of a clip."""
    samples = read_mono(path)
    samples = np.pad(samples, (0, max(0, RATE_HZ // 4 - len(samples))))
    spectrum = np.abs(librosa.stft(samples))
    mel = librosa.feature.melspectrogram(S=spectrum**2, sr=RATE_HZ)
    every = librosa.feature.mfcc(S=librosa.power_to_db(mel), n_mfcc=128)
    mfcc = every[:N_MFCC]
    chroma = librosa.feature.chroma_stft(S=spectrum, sr=RATE_HZ, tuning=0.0)  # voices are not tuned
    contrast = librosa.feature.spectral_contrast(S=spectrum, sr=RATE_HZ)
    tonnetz = librosa.feature.tonnetz(chroma=chroma, sr=RATE_HZ)
    f0 = librosa.yin(samples, fmin=65, fmax=500, sr=RATE_HZ, frame_length=1024)
    energy = librosa.feature.rms(S=spectrum)
    means = [x.mean(axis=1) for x in (mfcc, chroma, mel, contrast, tonnetz)]
    rest = [f0.mean(), f0.std(), energy.mean(), energy.std(), *formants_hz(samples)]
    sequence = np.zeros((N_FRAMES, 13), np.float32)
    frames = mfcc[:13].T[:N_FRAMES]
    sequence[: len(frames)] = frames
    return Described(np.concatenate([*means, rest]).astype(np.float32), sequence, every.mean(axis=1).astype(np.float32))


def describe_all(clips: Sequence[Clip], cache: Path) -> tuple[Floats, Floats, Floats]:
    """Vectors, sequences and many MFCCs of all clips, kept under `cache`."""
    key = hashlib.sha256("\n".join(str(c.path.absolute()) for c in clips).encode()).hexdigest()[:16]
    file = cache / f"baselines-{key}.npz"
    if not file.exists():
        with ProcessPoolExecutor() as pool:
            found = list(track(pool.map(describe, [c.path for c in clips], chunksize=16), "features", len(clips)))
        cache.mkdir(parents=True, exist_ok=True)
        np.savez(file, *(np.stack([getattr(d, k) for d in found]) for k in ("vector", "sequence", "many_mfcc")))
    with np.load(file) as saved:
        return saved["arr_0"], saved["arr_1"], saved["arr_2"]


class Mixtures:
    """A mixture of four Gaussians for each class, on standardised numbers; the likeliest wins."""

    def fit(self, x: Floats, y: metrics.Ints) -> Mixtures:
        self._scaler = StandardScaler().fit(x)
        x = self._scaler.transform(x)
        self._classes = np.unique(y)
        mixture = partial(GaussianMixture, 4, covariance_type="diag", reg_covar=1e-3, random_state=0)
        self._models = [mixture().fit(x[y == k]) for k in self._classes]
        return self

    def predict(self, x: Floats) -> metrics.Ints:
        x = self._scaler.transform(x)
        return self._classes[np.argmax([m.score_samples(x) for m in self._models], axis=0)]


class HiddenMarkov:
    """A hidden Markov model of five states for each class, on sequences of MFCCs."""

    def fit(self, x: Floats, y: metrics.Ints) -> HiddenMarkov:
        self._mean, self._scale = x.mean(axis=(0, 1)), x.std(axis=(0, 1))
        x = (x - self._mean) / self._scale
        self._classes = np.unique(y)
        self._models = []
        for k in self._classes:
            own = x[y == k]
            model = GaussianHMM(5, covariance_type="diag", n_iter=10, random_state=0)
            self._models.append(model.fit(own.reshape(-1, own.shape[2]), [own.shape[1]] * len(own)))
        return self

    def predict(self, x: Floats) -> metrics.Ints:
        x = (x - self._mean) / self._scale
        return self._classes[np.argmax([[m.score(clip) for clip in x] for m in self._models], axis=0)]


class Network:
    """A small network of PyTorch, trained for `epochs` with Adam."""

    def __init__(self, make: Callable[[int, int], nn.Module], epochs: int) -> None:
        self._make, self._epochs = make, epochs

    def fit(self, x: Floats, y: metrics.Ints) -> Network:
        torch.manual_seed(0)
        over = tuple(range(x.ndim - 1))
        self._mean, self._scale = x.mean(axis=over), x.std(axis=over) + 1e-6
        self._classes, numbers = np.unique(y, return_inverse=True)
        self._net = self._make(x.shape[-1], len(self._classes))
        inputs, targets = torch.from_numpy((x - self._mean) / self._scale), torch.from_numpy(numbers)
        optimiser = torch.optim.Adam(self._net.parameters(), 1e-3)
        for _ in range(self._epochs):
            self._net.train()
            for rows in torch.randperm(len(inputs)).split(64):
                optimiser.zero_grad()
                nn.functional.cross_entropy(self._net(inputs[rows]), targets[rows]).backward()
                optimiser.step()
        return self

    @torch.no_grad()
    def predict(self, x: Floats) -> metrics.Ints:
        self._net.eval()
        return self._classes[self._net(torch.from_numpy((x - self._mean) / self._scale)).argmax(1).numpy()]


def dense(n: int, classes: int) -> nn.Module:
    """128-128-64-64-64-classes."""
    sizes = [n, 128, 128, 64, 64, 64]
    hidden = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU(), nn.Dropout(0.1))]
    return nn.Sequential(*hidden, nn.Linear(64, classes))


def convolutional(n: int, classes: int) -> nn.Module:
    """2-D, on frames × MFCCs."""
    return nn.Sequential(
        nn.Unflatten(1, (1, N_FRAMES)), nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.3), nn.Flatten(),
        nn.Linear(32 * (N_FRAMES // 4) * (n // 4), 64), nn.ReLU(), nn.Linear(64, classes),
    )  # fmt: skip


class Lstm(nn.Module):
    """One layer of 64, its last state classified."""

    def __init__(self, n: int, classes: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(n, 64, batch_first=True)
        self.classify = nn.Linear(64, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classify(self.lstm(x)[0].mean(dim=1))


@dataclass(frozen=True)
class System:
    """A baseline: its data, its features, its split and its model."""

    name: str
    corpora: tuple[str, ...]
    labels: tuple[str, ...]
    features: str
    test_share: float
    make: Callable[[], object]


THREE = ("CREMA-D", "RAVDESS", "TESS")
SYSTEMS = (
    System("MLP on averaged MFCC, chroma, mel", ("RAVDESS",), RAVDESS_MLP, "180", 0.25,
           lambda: make_pipeline(StandardScaler(), MLPClassifier((300,), alpha=0.01, max_iter=500, random_state=0))),
    System("dense 128-128-64-64-64-6 on 268 numbers", THREE, SIX, "268", 0.2, lambda: Network(dense, 60)),
    System("2-D CNN on 13 MFCCs", THREE, JOY_TO_SURPRISE, "frames", 0.2, lambda: Network(convolutional, 20)),
    System("support vector machine", THREE, SIX, "all", 0.2, lambda: make_pipeline(StandardScaler(), SVC(C=10))),
    System("Gaussian mixtures", THREE, SIX, "all", 0.2, Mixtures),
    System("hidden Markov models", THREE, SIX, "frames", 0.2, HiddenMarkov),
    System("random forest", THREE, SIX, "all", 0.2, lambda: RandomForestClassifier(400, n_jobs=-1, random_state=0)),
    System("LSTM", THREE, SIX, "frames", 0.2, lambda: Network(Lstm, 20)),
)  # fmt: skip


def tested_speakers(clips: Sequence[Clip], splits: Path) -> NDArray[np.bool_]:
    """Who is kept for testing when the split is by speaker."""
    speakers = crema_d_validation(splits) | ravdess_fold(splits, 0)
    return np.array([c.speaker in speakers or (c.corpus == "TESS" and c.age == 64) for c in clips])


def eliminate(x: Floats, y: metrics.Ints, test: NDArray[np.bool_]) -> list[tuple[int, float]]:
    """Recursive feature elimination with a linear machine: (count, accuracy by speaker)."""
    scaler = StandardScaler().fit(x[~test])
    x = scaler.transform(x)
    points = []
    rank = RFE(LinearSVC(C=0.01, dual=False), n_features_to_select=1, step=0.15).fit(x[~test], y[~test]).ranking_
    for level in np.unique(rank):
        kept = rank <= level
        machine = LinearSVC(C=0.01, dual=False).fit(x[~test][:, kept], y[~test])
        points.append((int(kept.sum()), float(machine.score(x[test][:, kept], y[test]))))
    return points


def main(
    corpora: Annotated[Path, typer.Option(help="Folder that holds the corpora by name.")],
    output: Annotated[Path, typer.Option("-o", help="Folder for the table and the curve.")],
    splits: Annotated[Path, typer.Option(help="Folder with the split files.")] = SPLITS,
    cache: Annotated[Path, typer.Option(help="Where features are kept.")] = Path(".cache/features"),
) -> None:
    """Train and score them all."""
    warnings.simplefilter("ignore")
    clips = load(corpora, splits, list(THREE))
    vectors, sequences, many_mfcc = describe_all(clips, cache)
    features = {
        "180": vectors[:, :180],
        "268": np.concatenate((many_mfcc, vectors[:, N_MFCC:180]), axis=1),
        "all": vectors,
        "frames": sequences,
    }
    by_speaker = tested_speakers(clips, splits)
    rows: list[list[str]] = []
    for system in track(SYSTEMS, "baselines"):
        kept = np.array([i for i, c in enumerate(clips) if c.corpus in system.corpora and c.emotion in system.labels])
        y = np.array([system.labels.index(str(clips[i].emotion)) for i in kept])
        x = features[system.features][kept]
        cells: list[str] = []
        drawn = np.zeros(len(kept), bool)
        drawn[train_test_split(np.arange(len(kept)), test_size=system.test_share, random_state=0, stratify=y)[1]] = True
        for test in (drawn, by_speaker[kept]):
            model = system.make()
            model.fit(x[~test], y[~test])  # type: ignore[attr-defined]
            guess = model.predict(x[test])  # type: ignore[attr-defined]
            truth, speakers = y[test], [clips[i].speaker for i in kept[test]]
            score = metrics.bootstrap(lambda r, t=truth, g=guess: metrics.uar(t[r], g[r]), speakers)  # type: ignore[misc]
            cells += [f"{np.mean(truth == guess):.3f}", str(score)]
        # What the models of this project are measured on too.
        known = np.array([clips[i].corpus == "CREMA-D" for i in kept[test]])
        if known.any():
            cells.append(f"{metrics.uar(truth[known], guess[known]):.3f}")
        rows.append([system.name, ", ".join(system.corpora), str(len(system.labels)), *cells])
    validation = [c for c in clips if c.speaker in crema_d_validation(splits)]
    for model in MODELS:
        answers = ask(validation, model, as_is, model)
        rows.append([model, "", str(len(SIX)), "", "", "", "", f"{answers.uar(SIX).value:.3f}"])

    six = np.array([i for i, c in enumerate(clips) if c.emotion in SIX])
    points = eliminate(vectors[six], np.array([SIX.index(str(clips[i].emotion)) for i in six]), by_speaker[six])
    figure, panel = pyplot.subplots(figsize=(5, 3.5), layout="constrained")
    panel.semilogx(*zip(*points, strict=True), marker="o")
    panel.set(xlabel="features kept", ylabel="accuracy on unseen speakers", title="recursive feature elimination")
    panel.grid(alpha=0.3)
    output.mkdir(parents=True, exist_ok=True)
    figure.savefig(output / "baselines-elimination.png", dpi=110)
    header = ("system", "corpora", "classes", "accuracy, random split", "UAR, random split", "accuracy, by speaker",
              "UAR, by speaker", "of it CREMA-D's")  # fmt: skip
    best = max(points, key=lambda point: point[1])
    lines = [
        "# The systems this grew from",
        "",
        "`python -m tools.baselines`. Rebuilt, and scored twice: under a random split, as their authors did (the same "
        "voices, even the same sentences, on both sides), and by speaker. UAR with 95% intervals, bootstrap over "
        "speakers. The last column is of CREMA-D's validation speakers alone, whom our models are measured on, through "
        "the streaming session; chance is one over the number of classes (of the four, CREMA-D has three). The authors "
        "of the network on 268 numbers report an accuracy of 60%.",
        "",
        f"| {' | '.join(header)} |",
        "|---" * len(header) + "|",
        *(f"| {' | '.join([*row, *[''] * (len(header) - len(row))])} |" for row in rows),
        "",
        f"Recursive feature elimination (linear machine, six classes, by speaker): best accuracy {best[1]:.3f} with "
        f"{best[0]} of {len(NAMES)} features; with the last one {points[0][1]:.3f}.",
        "",
        "![](baselines-elimination.png)",
    ]
    text = "\n".join(lines) + "\n"
    (output / "baselines.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    typer.run(main)
