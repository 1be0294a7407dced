"""Silero's detector of speech alone, its ONNX file with onnxruntime: 32 ms at a time, as it is meant to be used."""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import onnxruntime
from common import RATE_HZ, compete

CHUNK, CONTEXT = 512, 64
settings = onnxruntime.SessionOptions()
settings.intra_op_num_threads = settings.inter_op_num_threads = 1
# Not by import: its package wants PyTorch.
file = Path(str(distribution("silero-vad").locate_file("silero_vad/data/silero_vad.onnx")))
session = onnxruntime.InferenceSession(file.read_bytes(), settings, providers=["CPUExecutionProvider"])


def work(samples: np.ndarray) -> None:
    state, context = np.zeros((2, 1, 128), np.float32), np.zeros(CONTEXT, np.float32)
    rate_hz = np.array(RATE_HZ, np.int64)
    for start in range(0, len(samples) - CHUNK + 1, CHUNK):
        chunk = samples[start : start + CHUNK]
        _, state = session.run(None, {"input": np.concatenate((context, chunk))[None], "state": state, "sr": rate_hz})
        context = chunk[-CONTEXT:]


compete(work)
