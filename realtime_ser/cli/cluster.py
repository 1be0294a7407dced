"""`analyze` on a Dask cluster: its scheduler hands out recordings, and again those whose worker was lost."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from realtime_ser.cli.work import Outcome, Work, analyze_recording
from realtime_ser.errors import SourceError, UsageError
from realtime_ser.signals import StopRequested, StopSignals

LOCAL = "local"
"""Instead of an address: a cluster on this machine."""
_CONNECT_S = 10
_ENVIRONMENT = "distributed.nanny.pre-spawn-environ"
"""Dask's configuration of its workers' environment."""


@contextmanager
def on_cluster(
    work: list[Work], address: str, jobs: int, signals: StopSignals
) -> Iterator[Iterator[Callable[[], Outcome | None]]]:
    """What gives each recording's outcome, in order; `jobs` is for a local cluster.

    Raises
    ------
    UsageError
        Without Dask, or if nobody answers at the address.
    SourceError
        If the scheduler is lost.
    """
    try:
        import dask
        from distributed import Client, KilledWorker, LocalCluster
        from distributed.client import FutureCancelledError
    except ImportError:
        raise UsageError("--scheduler needs Dask", "pip install 'realtime-ser[cluster]'") from None
    for name in ("distributed", "distributed.client"):  # they tell of every lost connection, with tracebacks
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with ExitStack() as stack:
        if address == LOCAL:
            environment = dask.config.get(_ENVIRONMENT)
            # Dask has workers give freed memory back at once: a quarter of the time went into getting it anew.
            kept = {name: value for name, value in environment.items() if name != "MALLOC_TRIM_THRESHOLD_"}
            with dask.config.set({_ENVIRONMENT: kept}):
                cluster = LocalCluster(
                    n_workers=jobs, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL
                )
            stack.enter_context(cluster)
            client = stack.enter_context(Client(cluster))
        else:
            try:
                client = stack.enter_context(Client(address, timeout=_CONNECT_S))
            except (OSError, ValueError, TypeError) as error:
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                raise UsageError(
                    f"--scheduler {address}: no Dask scheduler answers ({reason})", "give one as tcp://HOST:8786"
                ) from None
        futures = client.map(analyze_recording, work, pure=False)

        def result(item: Work, future: Any) -> Outcome | None:
            try:
                with signals.waiting():
                    return outcome_of(item, future)
            except StopRequested:
                # What a worker has begun it ends; nothing more is begun.
                client.cancel(futures, force=True)
                return None

        def outcome_of(item: Work, future: Any) -> Outcome:
            try:
                try:
                    outcome: Outcome = future.result()
                except KilledWorker:
                    # Dask blames all that a lost worker had been given. Whoever is innocent gets through now.
                    outcome = client.submit(analyze_recording, item, pure=False).result()
            except KilledWorker:
                return Outcome(error=f"{item.recording.place}: every worker that tried it died")
            except FutureCancelledError:
                raise SourceError("the cluster's scheduler is gone", "--resume goes on") from None
            except Exception as error:  # noqa: BLE001 - another machine's: not installed there, or another version
                reason = f"{type(error).__name__}: {error}".splitlines()[0]
                return Outcome(error=f"{item.recording.place}: failed on its worker ({reason})")
            return outcome

        yield (partial(result, item, future) for item, future in zip(work, futures, strict=True))
