"""openSMILE's functionals of each window: `functionals.py eGeMAPSv02 RECORDING`."""

from __future__ import annotations

import sys

import numpy as np
import opensmile
from common import RATE_HZ, compete, windows

smile = opensmile.Smile(opensmile.FeatureSet[sys.argv[1]], opensmile.FeatureLevel.Functionals)


def work(samples: np.ndarray) -> None:
    for window in windows(samples):
        smile.process_signal(window, RATE_HZ)


compete(work)
