"""Where recordings come from and results go: paths, and the URLs that fsspec knows (s3://, gs://, file://, …)."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from realtime_ser.errors import RealtimeSerError, SinkError, SourceError, UsageError

AUDIO_SUFFIXES = frozenset(".aif .aifc .aiff .au .caf .flac .mp3 .oga .ogg .opus .rf64 .snd .w64 .wav .wave".split())
"""What counts as audio inside a folder; a file that is named is always tried."""


@dataclass(frozen=True)
class Recording:
    """A file that may be audio."""

    place: str
    """Its path or URL."""
    name: str
    """Within the folder that was given: what its result is called after."""
    size_bytes: int


def is_url(place: str) -> bool:
    """Whether fsspec has to be asked for it."""
    return "://" in place


def joined(folder: str, name: str) -> str:
    """The place of this name in a folder; raises SinkError if it leads out, as a name in an object store may."""
    if not leads_inside(PurePosixPath(folder) if is_url(folder) else Path(folder), name):
        raise SinkError(f"{name}: leads out of {folder}", "rename the recording")
    return f"{folder.rstrip('/')}/{PurePosixPath(Path(name))}" if is_url(folder) else str(Path(folder) / name)


def leads_inside(folder: PurePath, name: str) -> bool:
    """Whether a path of this name begins in the folder and stays there, by the rules of the folder's system."""
    return ".." not in name.replace("\\", "/").split("/") and (folder / name).is_relative_to(folder)


def find_recordings(places: list[str], unlisted: Callable[[SourceError], None]) -> Iterator[Recording]:
    """Each recording once: files as named, folders searched in order of name. Raises SourceError for URLs alone.

    `unlisted` is told of each folder that cannot be searched. A file that cannot be looked at is found all the same,
    and fails when it is heard.
    """
    seen: set[str] = set()
    for given in places:
        for found in _inside_url(given) if is_url(given) else _inside_path(Path(given), unlisted):
            identity = found.place if is_url(given) else os.path.realpath(found.place)
            if identity not in seen:
                seen.add(identity)
                yield found


def existing(folder: str, results: list[str]) -> list[bool]:
    """Which of these files in a folder are there; raises SinkError if that cannot be told."""
    if not is_url(folder):
        return [os.path.exists(place) for place in results]
    with _told_as(SinkError, folder, "cannot be listed"):
        system, root = _file_system(folder)
        # All at once: not a question over the network for each.
        there = set(system.find(root)) if system.exists(root) else set()
        return [system._strip_protocol(place) in there for place in results]


@contextmanager
def fetched(place: str) -> Iterator[Path]:
    """The file on this machine: itself, or for a URL a copy as long as the block lasts; raises SourceError."""
    if not is_url(place):
        yield Path(place)
        return
    with tempfile.TemporaryDirectory(prefix="realtime-ser-") as folder:
        # A copy of the whole: libsndfile would take a connection that breaks for the end of the recording.
        path = Path(folder) / PurePosixPath(place).name
        with _told_as(SourceError, place, "cannot be fetched"):
            system, remote = _file_system(place)
            system.get_file(remote, str(path))
        yield path


def store(path: Path, place: str) -> None:
    """Move a finished file to its place, all at once: what is there is whole. Raises SinkError."""
    with _told_as(SinkError, place, "cannot be written"):
        if not is_url(place):
            path.replace(place)
            return
        system, remote = _file_system(place)
        system.makedirs(system._parent(remote), exist_ok=True)
        system.put_file(str(path), remote)
        path.unlink()


def _inside_path(given: Path, unlisted: Callable[[SourceError], None]) -> Iterator[Recording]:
    def tell(error: OSError) -> None:
        reason = (error.strerror or str(error)).lower()
        unlisted(SourceError(f"{error.filename}: cannot be listed ({reason})", "check the right to it"))

    if not os.path.isdir(given):
        yield Recording(str(given), given.name, _size_of(given) or 0)
        return
    paths: list[Path] = []
    searched: set[str] = set()
    for folder, folders, names in os.walk(given, onerror=tell, followlinks=True):
        if (real := os.path.realpath(folder)) in searched:
            folders.clear()  # a link back to where we were
            continue
        searched.add(real)
        # A folder's own name goes before that of a link to it, whatever the order on the disk.
        folders.sort(key=lambda name: (os.path.islink(os.path.join(folder, name)), name))
        paths += (Path(folder, name) for name in names)
    for path in sorted(paths):
        if path.suffix.lower() in AUDIO_SUFFIXES and (size := _size_of(path)) is not None:
            yield Recording(str(path), str(path.relative_to(given)), size)


def _size_of(path: Path) -> int | None:
    """Of a file; None for what is none, and 0 where that cannot be told."""
    try:
        found = path.stat()
    except FileNotFoundError:  # a link to nothing
        return None
    except OSError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _inside_url(given: str) -> Iterator[Recording]:
    with _told_as(SourceError, given, "cannot be listed"):
        system, root = _file_system(given)
        found = system.find(root, detail=True)
    if not found:
        raise SourceError(f"{given}: nothing is there", "check the address")
    for path, info in sorted(found.items()):
        url, size = system.unstrip_protocol(path), info.get("size") or 0
        if path == root:
            yield Recording(url, PurePosixPath(path).name, size)
        elif PurePosixPath(path).suffix.lower() in AUDIO_SUFFIXES:
            yield Recording(url, path.removeprefix(root).lstrip("/"), size)


def _file_system(url: str) -> tuple[Any, str]:
    try:
        import fsspec
    except ImportError:
        raise UsageError(f"{url}: URLs need fsspec", "pip install 'realtime-ser[cluster]'") from None
    system, path = fsspec.core.url_to_fs(url)
    return system, path


@contextmanager
def _told_as(kind: type[RealtimeSerError], place: str, what: str) -> Iterator[None]:
    """Whatever a file system's library raises, in one line."""
    try:
        yield
    except RealtimeSerError:
        raise
    except Exception as error:  # noqa: BLE001 - fsspec's file systems have no common error
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise kind(f"{place}: {what} ({reason})", "check the address and the right to it") from None
