"""docs/events.md describes the events as they are."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

import realtime_ser
from realtime_ser.events import Event

PAGE = Path(__file__).resolve().parents[1] / "docs" / "events.md"
SECTIONS = PAGE.read_text(encoding="utf-8").split("\n## ")
SOURCE = "".join(path.read_text(encoding="utf-8") for path in Path(realtime_ser.__file__).parent.rglob("*.py"))


def described(section: str, header: str) -> set[str]:
    """What stands in the first column of a section's table."""
    _, table = section.split(f"| {header} |", 1)
    rows = table.split("\n\n")[0].splitlines()[2:]
    return {name for row in rows for name in re.findall("`(.+?)`", row.split("|")[1])}


def test_every_event_has_the_common_fields() -> None:
    assert described(SECTIONS[0], "field") == {"type"} | {field.name for field in fields(Event)}


@pytest.mark.parametrize("kind", Event.__subclasses__(), ids=lambda kind: kind.__name__)
def test_every_field_of_every_event_is_described_and_no_other(kind: type[Event]) -> None:
    (section,) = (s for s in SECTIONS if s.startswith(f"`{kind.type}`: `{kind.__name__}`\n"))
    assert described(section, "field") == {f.name for f in fields(kind)} - {f.name for f in fields(Event)}


def test_every_code_of_a_warning_and_every_cause_of_a_gap_is_described() -> None:
    (warning,) = (s for s in SECTIONS if s.startswith("`warning`"))
    assert described(warning, "code") == {*re.findall(r'Notice\(\s*"(\w+)"', SOURCE), "source_problem"}
    (gap,) = (s for s in SECTIONS if s.startswith("`gap`"))
    causes = described(gap, "cause")
    assert causes >= set(re.findall(r'Lost\(.+, "(.+?)"\)', SOURCE))
    assert all(f'"{cause}"' in SOURCE for cause in causes)
