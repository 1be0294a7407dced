"""What a process may take of the machine, and has taken: the one place that knows who can tell and limit it.

`resource` is POSIX's (https://docs.python.org/3/library/resource.html); Windows has none. macOS takes a limit of the
address space and keeps no process to it.
"""

from __future__ import annotations

import sys
from contextlib import suppress


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
