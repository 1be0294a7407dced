"""What a process may take of the machine, and has taken: the one place that knows who can tell and limit it.

`resource` is POSIX's (https://docs.python.org/3/library/resource.html); Windows has none. macOS takes a limit of the
address space and keeps no process to it.
"""

from __future__ import annotations

import platform
import sys
from contextlib import suppress
from pathlib import Path


def processor() -> str:
    """Its maker's name for it, and whether it multiplies bytes at once (VNNI): that decides how fast our models are."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text("utf-8", "replace").splitlines() if about.exists() else []
    named = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name = named.get("model name") or platform.processor() or platform.machine()
    if "flags" not in named:
        return name
    return f"{name}, {'with' if 'vnni' in named['flags'] else 'without'} VNNI"


def peak_memory_mb() -> float | None:
    """Of this process so far; None where the system does not tell (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, kilobytes elsewhere


def limit_memory(most_mb: int) -> None:
    """No more address space than this for this process, and no core dump, where the system can: Linux."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (most_mb << 20, most_mb << 20))
