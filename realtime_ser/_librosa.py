"""librosa, whose compiled functions two processes must not make at once."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from functools import cache
from types import ModuleType

import numpy as np
from filelock import FileLock
from platformdirs import user_cache_path

_LONGEST_S = 180
"""That compiling takes on a slow machine."""


@cache
def load_librosa() -> ModuleType:
    """Import it, with all compiled that `pyin` needs; the first time ever that takes half a minute.

    Numba keeps on the disk what it compiled. Of two processes that compile at once each may keep half of what belongs
    together, and from then on every call in any process is a segmentation fault (Numba's issue 10128; two of four
    tries). So one waits for the other.
    """
    with ExitStack() as stack:
        with suppress(OSError, NotImplementedError):  # no place or no locks for it; Timeout is an OSError
            folder = user_cache_path("realtime-ser", appauthor=False, ensure_exists=True)
            stack.enter_context(FileLock(folder / "librosa.lock", timeout=_LONGEST_S))
        import librosa

        librosa.pyin(np.zeros(2048, np.float32), fmin=65, fmax=500, sr=16_000, frame_length=1024)
    module: ModuleType = librosa
    return module
