"""The vector of the well-known tutorials, of each window: MFCC, chroma, mel, contrast and tonnetz, averaged."""

from __future__ import annotations

import librosa
import numpy as np
from common import RATE_HZ, compete, windows


def work(samples: np.ndarray) -> None:
    for window in windows(samples):
        spectrum = np.abs(librosa.stft(window))
        parts = (
            librosa.feature.mfcc(y=window, sr=RATE_HZ, n_mfcc=40),
            librosa.feature.chroma_stft(S=spectrum, sr=RATE_HZ),
            librosa.feature.melspectrogram(y=window, sr=RATE_HZ),
            librosa.feature.spectral_contrast(S=spectrum, sr=RATE_HZ),
            librosa.feature.tonnetz(y=librosa.effects.harmonic(window), sr=RATE_HZ),
        )
        np.hstack([part.mean(axis=1) for part in parts])


compete(work)
