"""Our log-mel frames, with librosa, of the whole window each time."""

from __future__ import annotations

import librosa
import numpy as np
from common import RATE_HZ, compete, windows


def work(samples: np.ndarray) -> None:
    for window in windows(samples):
        librosa.power_to_db(
            librosa.feature.melspectrogram(
                y=window, sr=RATE_HZ, n_fft=512, hop_length=250, n_mels=64, fmin=50, fmax=7600, center=False
            )
        )


compete(work)
