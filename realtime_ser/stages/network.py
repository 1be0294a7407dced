"""ONNX networks: ours in this process, a stranger's in one of its own whose memory and time are limited.

No look at a file bounds what ordinary operators make of their input: forty that each double a tensor fit into 2 kB. So
whatever a stranger's network does in its process, a crash of onnxruntime included, is one line here. That process gets
the file's bytes; then arrays of float32 go back and forth.
"""

from __future__ import annotations

import faulthandler
import json
import math
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any, NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from realtime_ser.errors import ModelError
from realtime_ser.resources import limit_memory
from realtime_ser.signals import leave_to_parent
from realtime_ser.stages import graph

MOST_MB = 2048
"""Of its address space: Python, NumPy and onnxruntime take 300 of it, 95 MB of weights another 200."""
MOST_S = 20
"""For loading, and for each run."""
LONGEST_METADATA = 4_000_000
"""Characters; those of `ser-research` are 3563."""
_MOST_VALUES = 10_000_000
"""Of one run's outputs."""
_WITHIN = "REALTIME_SER_NETWORK"
"""Set in the environment of such a process: it may begin none itself."""
_CHILD = "import sys; sys.path[:] = sys.argv[3:]; from realtime_ser.stages.network import main; main()"


def in_process(content: bytes) -> onnxruntime.InferenceSession:
    """An ONNX session with one thread that does not spin. From bytes: nothing is pulled in from beside the file."""
    onnxruntime.disable_telemetry_events()  # on Windows, where ORT_DISABLE_TELEMETRY (see __init__) says nothing
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def reason(error: Exception) -> str:
    """What onnxruntime says, in a line."""
    return (str(error).splitlines() or [type(error).__name__])[0].split(" : ")[-1][:200]


class Input(NamedTuple):
    """As onnxruntime describes it."""

    name: str
    type: str
    shape: Sequence[int | str | None]


class Apart:
    """What the stages use of `onnxruntime.InferenceSession`, under the same names.

    Raises
    ------
    ModelError
        When made or run: the network is refused, fails, or needs more memory or time than it may have; there is no
        Python to begin a process with; its process has ended, or was begun before this one was forked.
    """

    def __init__(self, content: bytes, name: str) -> None:
        # Of an application of one file, or one that embeds Python, it is the application that would begin once more.
        python = sys.executable or ""
        if getattr(sys, "frozen", False) or "py" not in Path(python).name.lower() or _WITHIN in os.environ:
            what = "is to run in a Python process of its own, and this program can begin none"
            raise ModelError(f"{name}: {what}", "use a bundled model")
        self._name = name
        self._pid = os.getpid()
        self._ended = ""
        """Why its process has, as far as this one knows."""
        self._lock = threading.Lock()
        # Isolated from the working folder and the environment, and then with what this process may import.
        command = [python, "-I", "-c", _CHILD, str(MOST_MB), str(MOST_S), *sys.path]
        # Each thread would take memory for its buffers.
        environment = os.environ | {_WITHIN: "1", "OPENBLAS_NUM_THREADS": "1"}
        try:
            self._process = subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        except OSError as error:
            raise ModelError(f"{name}: no process can be begun for it ({error.strerror})", "free memory") from None
        weakref.finalize(self, _end, self._process)
        about, _ = self._ask({"bytes": len(content)}, content, "is not a usable ONNX model")
        self._inputs = [Input(*described) for described in about["inputs"]]
        self._meta = SimpleNamespace(custom_metadata_map=about["metadata"])

    @property
    def usable(self) -> bool:
        """Whether it can be run: its process lives, and is this one's."""
        return os.getpid() == self._pid and not self._ended and self._process.poll() is None

    def get_inputs(self) -> list[Input]:
        """What it takes."""
        return self._inputs

    def get_modelmeta(self) -> SimpleNamespace:
        """Its `custom_metadata_map` alone."""
        return self._meta

    def run(self, names: Sequence[str] | None, feed: Mapping[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """The outputs of these names, or all, for float32 inputs."""
        about = {"outputs": names, "shapes": {name: x.shape for name, x in feed.items()}}
        content = b"".join(x.astype(np.float32, copy=False).tobytes() for x in feed.values())
        return self._ask(about, content, "fails")[1]

    def _ask(
        self, about: dict[str, Any], content: bytes, what: str
    ) -> tuple[dict[str, Any], list[NDArray[np.float32]]]:
        if os.getpid() != self._pid:  # two would read each other's answers
            raise ModelError(f"{self._name}: was loaded before this process was forked", "load it in each process")
        pipe, answer = self._process.stdin, self._process.stdout
        assert pipe is not None
        assert answer is not None
        with self._lock:
            if self._ended:
                raise ModelError(f"{self._name}: its process has ended ({self._ended})", "load it anew")
            begun = time.monotonic()
            try:
                _write(pipe, about, content)
                told = _read(answer)
                arrays = [_array(answer, shape) for shape in told.get("shapes", ())]
            except (OSError, EOFError, ValueError):
                self._ended = self._why_it_ended(time.monotonic() - begun)
                told, arrays = {"error": self._ended}, []
            except BaseException:  # Ctrl-C: the next question must not get this one's answer
                self._ended = "a run was broken off"
                _end(self._process)
                raise
        if "error" in told:
            raise ModelError(f"{self._name}: {what} ({told['error']})", "fetch or export it anew, or use another")
        return told, arrays

    def _why_it_ended(self, after_s: float) -> str:
        _end(self._process)
        if after_s >= MOST_S:
            return f"it takes more than {MOST_S} s"
        return f"onnxruntime crashes on it, or needs more than {MOST_MB} MB, or something else ended its process"


def _end(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        with suppress(OSError):  # what was not written any more
            pipe.close()  # type: ignore[union-attr]
    with suppress(subprocess.TimeoutExpired):
        process.wait(1)
    process.kill()
    process.wait()


def _write(pipe: IO[bytes], about: dict[str, Any], content: bytes = b"") -> None:
    pipe.write(json.dumps(about).encode() + b"\n")
    pipe.write(content)
    pipe.flush()


def _read(pipe: IO[bytes]) -> dict[str, Any]:
    line = pipe.readline(8 * LONGEST_METADATA)  # escaped, a character may take six
    if not line:
        raise EOFError
    found = json.loads(line)
    if not isinstance(found, dict):
        raise ValueError("no message")
    return found


def _array(pipe: IO[bytes], shape: Sequence[int]) -> NDArray[np.float32]:
    if (size := math.prod(shape)) > _MOST_VALUES:
        raise ValueError("no message")
    content = pipe.read(4 * size)
    return np.frombuffer(content, np.float32).reshape(shape)


# From here on: inside that process.


def main() -> None:
    """A network in, what it takes out; then inputs in and outputs out, until nobody asks any more."""
    leave_to_parent(sigterm=True)
    most_mb, most_s = map(int, sys.argv[1:3])
    limit_memory(most_mb)  # on Linux; elsewhere time alone bounds it
    pipe, answer = sys.stdin.buffer, sys.stdout.buffer
    session = None
    with suppress(EOFError, BrokenPipeError):
        while True:
            about = _read(pipe)
            with _in_time(most_s):
                try:
                    if session is None:
                        session, told = _open(pipe.read(about["bytes"]))
                        _write(answer, told)
                    else:
                        feed = {name: _array(pipe, shape) for name, shape in about["shapes"].items()}
                        outputs = _run(session, about["outputs"], feed)
                        _write(answer, {"shapes": [x.shape for x in outputs]}, b"".join(x.tobytes() for x in outputs))
                except BrokenPipeError:
                    raise
                except Exception as error:  # noqa: BLE001 - onnxruntime raises classes that share no other base
                    no_memory = isinstance(error, MemoryError) or "alloc" in str(error).lower()
                    _write(answer, {"error": f"it needs more than {most_mb} MB" if no_memory else reason(error)})


def _open(content: bytes) -> tuple[onnxruntime.InferenceSession, dict[str, Any]]:
    if refused := graph.objection(content):
        raise ValueError(refused)
    session = in_process(content)
    metadata = session.get_modelmeta().custom_metadata_map
    if (length := sum(len(key) + len(value) for key, value in metadata.items())) > LONGEST_METADATA:
        raise ValueError(f"its metadata has {length} characters")
    return session, {"inputs": [(i.name, i.type, i.shape) for i in session.get_inputs()], "metadata": metadata}


def _run(
    session: onnxruntime.InferenceSession, names: Sequence[str] | None, feed: dict[str, NDArray[np.float32]]
) -> list[NDArray[np.float32]]:
    outputs = session.run(names, feed)
    if not all(isinstance(x, np.ndarray) and x.dtype.kind in "fiu" for x in outputs):
        raise ValueError("it gives something that is no numbers")
    if sum(x.size for x in outputs) > _MOST_VALUES:
        raise ValueError(f"it gives {sum(x.size for x in outputs)} numbers at once")
    return [x.astype(np.float32) for x in outputs]


@contextmanager
def _in_time(most_s: int) -> Iterator[None]:
    """A thread that waits for no other ends the process, whatever onnxruntime is doing."""
    faulthandler.dump_traceback_later(most_s, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
