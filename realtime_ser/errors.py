"""Every error a person can meet.

Each is raised where the fact is known and carries what went wrong, where, and the remedy; `cli` prints it as one line.
"""

from __future__ import annotations


class RealtimeSerError(Exception):
    """Base of all errors here: `what` (with the place in it) and `remedy`, together one line."""

    exit_code = 1

    def __init__(self, what: str, remedy: str = "") -> None:
        self.what = what
        self.remedy = remedy
        super().__init__(f"{what}: {remedy}" if remedy else what)


class SettingsError(RealtimeSerError):
    """A setting has a value that cannot work."""

    exit_code = 2


class SourceError(RealtimeSerError):
    """A file or stream of audio that cannot be read."""


class DeviceError(RealtimeSerError):
    """No usable microphone, or PortAudio is missing."""


class ModelError(RealtimeSerError):
    """A model that is missing, damaged, or does not fit the contract."""


class ProfileError(RealtimeSerError):
    """A speaker's profile that is missing, damaged, or of another model."""


class SinkError(RealtimeSerError):
    """A result file that cannot be opened or written."""


class WriteError(SinkError):
    """Something could not be written to a file that was opened; what comes after it may be, once there is room."""


class TimelineError(RealtimeSerError):
    """A file that is no timeline, or a damaged one."""


class UsageError(RealtimeSerError):
    """The command line asks for something that makes no sense."""

    exit_code = 2
