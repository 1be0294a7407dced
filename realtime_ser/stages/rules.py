"""Rules over the smoothed trace: `arousal > 0.4 for 8s`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from realtime_ser.errors import SettingsError
from realtime_ser.events import Measurement
from realtime_ser.stages.trace import affect_bounds

HYSTERESIS = 0.05
"""A rule that fired is armed again once its value has been this far on the other side."""
COOLDOWN_S = 30.0
_ROUNDING_S = 1e-6
"""Less than any sample: a sum of hops must not miss its time by its last bit, and wait for another hop."""
_AFFECT = ("arousal", "valence", "confidence")
_FORM = "give it as 'arousal > 0.4 for 8s', with 'cooldown 60s' behind it if you like"
_TOKEN = re.compile(r"\s*(?:(?P<number>[-+]?\d{1,9}(?:\.\d{1,20})?)|(?P<name>[A-Za-z_]\w*)|(?P<sign>[<>]))")


@dataclass(frozen=True)
class Rule:
    """`name` above or below a threshold for so long of speech; at most once in `cooldown_s`."""

    text: str
    name: str
    """`arousal`, `valence`, `confidence`, or a label: its smoothed probability."""
    above: bool
    threshold: float
    for_s: float
    cooldown_s: float = COOLDOWN_S


def parse_rule(text: str, labels: Sequence[str]) -> Rule:
    """Read a rule; `labels` are the model's.

    Raises
    ------
    SettingsError
        With the column of what cannot be understood, or for a threshold that this model's values never pass.
    """
    at = 0

    def take(kind: str, wanted: str, *values: str) -> str:
        nonlocal at
        found = _TOKEN.match(text, at)
        token = found.group(kind) if found else None
        if found is None or token is None or (values and token not in values):
            column = at + len(text[at:]) - len(text[at:].lstrip()) + 1
            raise SettingsError(f"rule {text!r}: column {column}: expected {wanted}", _FORM)
        at = found.end()
        return token

    def seconds(wanted: str) -> float:
        value = float(take("number", f"a number of seconds {wanted}"))
        take("name", "s", "s")
        return value

    bounds = affect_bounds(labels) | dict.fromkeys(("confidence", *labels), (0.0, 1.0))
    name = take("name", f"one of {', '.join(bounds)}", *bounds)
    above = take("sign", "> or <") == ">"
    threshold = float(take("number", "a number"))
    for_s, cooldown_s = 0.0, COOLDOWN_S
    if text[at:].strip():
        if text[at:].lstrip().startswith("for"):
            take("name", "for", "for")
            for_s = seconds("to hold for")
        if text[at:].strip():
            take("name", "for or cooldown", "cooldown")
            cooldown_s = seconds("of cooldown")
        if text[at:].strip():
            take("name", "nothing more", "")
    lowest, highest = bounds[name]
    if not (threshold < highest if above else threshold > lowest):
        raise SettingsError(
            f"rule {text!r}: never comes true", f"with this model {name} is {lowest:.2f} to {highest:.2f}"
        )
    return Rule(text, name, above, threshold, for_s, cooldown_s)


class RuleWatch:
    """Tells when a rule comes true, from each hop of the trace."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self._fired_s = float("-inf")
        self._armed = True
        self.reset()

    def push(self, value: float, start_s: float, end_s: float) -> bool:
        """Give the value, and when its new part began and ended; true if the rule fires there."""
        r = self.rule
        beyond = value - r.threshold if r.above else r.threshold - value
        if beyond < -HYSTERESIS:
            self._armed = True
        if beyond <= 0:
            self._held_s = 0.0
            return False
        self._held_s += end_s - start_s
        if not self._armed or self._held_s < r.for_s - _ROUNDING_S:
            return False
        if end_s - self._fired_s < r.cooldown_s - _ROUNDING_S:
            return False
        self._armed, self._fired_s = False, end_s
        return True

    def reset(self) -> None:
        """Forget what held, across a gap; not that and when it fired."""
        self._held_s = 0.0


def value_of(name: str, measurement: Measurement) -> float | None:
    """What a rule's name stands for; None where there is no such thing."""
    if name in _AFFECT:
        value: float | None = getattr(measurement, name)
        return value
    return measurement.scores_smooth.get(name)
