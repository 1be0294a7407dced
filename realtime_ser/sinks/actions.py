"""What is done when a rule comes true: a command, a webhook."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import tempfile
from collections.abc import Callable
from urllib.parse import urlparse

from realtime_ser.errors import UsageError
from realtime_ser.events import Alert, Event
from realtime_ser.stages.monitor import Notice

_PATIENCE_S = 8.0
"""A command or server that takes longer is given up."""
_LAST_WORDS = 4096
"""Bytes of what a command said that are looked at."""
_LONGEST_ANSWER = 100
"""Characters of an answer that is no HTTP that are told."""


class AlertActions:
    """Runs a command and calls a URL for each alert; a failure is told and stops nothing.

    The command gets the alert as JSON on its standard input, and REALTIME_SER_RULE and REALTIME_SER_VALUE in its
    environment; no shell is between. The URL gets the same JSON by POST.

    Raises
    ------
    UsageError
        For a command that is none, or a URL that is no http or https address.
    """

    def __init__(
        self, command: str | None = None, url: str | None = None, tell: Callable[[Notice], None] = lambda notice: None
    ) -> None:
        try:
            self._command = shlex.split(command) if command else []
        except ValueError as error:
            raise UsageError(f"--run {command}: {error}", "quote it as in a shell") from None
        if url and not _is_web_address(url):
            raise UsageError(f"--webhook {url}", "give an http or https address")
        self._url = url
        self._tell = tell

    def write(self, event: Event) -> None:
        """Act if it is an alert."""
        if not isinstance(event, Alert):
            return
        content = json.dumps(event.to_dict()).encode()
        if self._command:
            self._run(event, content)
        if self._url:
            self._call(self._url, content)

    def close(self) -> None:
        """Nothing is open."""

    def _run(self, alert: Alert, content: bytes) -> None:
        told = {"REALTIME_SER_RULE": alert.rule, "REALTIME_SER_VALUE": f"{alert.value:.4f}"}
        try:
            # Not a pipe: what the command left running in the background would hold it open.
            with tempfile.TemporaryFile() as said:
                done = subprocess.run(
                    self._command,
                    input=content,
                    env=os.environ | told,
                    stdout=subprocess.DEVNULL,
                    stderr=said,
                    timeout=_PATIENCE_S,
                    check=False,
                )
                said.seek(max(0, said.seek(0, os.SEEK_END) - _LAST_WORDS))
                last = said.read(_LAST_WORDS).decode(errors="replace").strip().splitlines()[-1:]
        except subprocess.TimeoutExpired:
            self._problem("the command", f"took more than {_PATIENCE_S:.0f} s and was stopped")
        except OSError as error:
            self._problem("the command", (error.strerror or str(error)).lower())
        else:
            if done.returncode:
                self._problem("the command", f"failed with {done.returncode}{': ' if last else ''}{''.join(last)}")

    def _call(self, url: str, content: bytes) -> None:
        import urllib.request  # a slow start for who has no webhook
        from http.client import HTTPException

        request = urllib.request.Request(url, content, {"Content-Type": "application/json"}, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=_PATIENCE_S):
                pass
        except (OSError, ValueError) as error:
            self._problem("the webhook", str(error))
        except HTTPException as error:  # neither of the two; whoever answered may have said much
            self._problem("the webhook", f"no answer in HTTP: {str(error).strip()[:_LONGEST_ANSWER]}")

    def _problem(self, what: str, why: str) -> None:
        self._tell(Notice("alert_failed", f"{what} of a rule: {why}", "the session goes on; check it"))


def _is_web_address(url: str) -> bool:
    try:
        parts = urlparse(url)
        _ = parts.port  # raises for what is no number
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and url.isprintable() and " " not in url
