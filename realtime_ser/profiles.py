"""Where speakers' profiles are kept."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

import platformdirs

from realtime_ser.errors import ProfileError
from realtime_ser.sinks._file import write_atomically
from realtime_ser.stages.profile import Profile

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def path_of(name: str) -> Path:
    """Where the profile of this name lies, in the user's own configuration folder."""
    if not _NAME.fullmatch(name):
        raise ProfileError(f"profile name {name!r}", "use letters, digits, dots, dashes and underscores")
    return platformdirs.user_config_path("realtime-ser", appauthor=False) / "profiles" / f"{name}.json"


def save_profile(profile: Profile) -> Path:
    """Write it, replacing one of the same name; returns where. Raises SinkError."""
    path = path_of(profile.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(asdict(profile), indent=2) + "\n")
    return path


def load_profile(name: str) -> Profile:
    """Read it back; raises ProfileError."""
    path = path_of(name)
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        profile = Profile(**fields | {"labels": tuple(fields["labels"]), "neutral": tuple(fields["neutral"])})
        fits = len(profile.neutral) == len(profile.labels) > 1 and all(0 <= float(p) <= 1 for p in profile.neutral)
    except FileNotFoundError:
        known = sorted(found.stem for found in path.parent.glob("*.json"))
        have = f"there are: {', '.join(known)}" if known else "make one with `realtime-ser calibrate`"
        raise ProfileError(f"no profile {name!r}", have) from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ProfileError(f"{path}: is no profile ({error})", "run `realtime-ser calibrate` anew") from None
    if not fits:
        raise ProfileError(f"{path}: is no profile", "run `realtime-ser calibrate` anew")
    return profile
