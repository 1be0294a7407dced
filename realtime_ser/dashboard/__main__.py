"""`python -m realtime_ser.dashboard`: the dashboard on invented state, for whoever changes it."""

from __future__ import annotations

import math
import time
from typing import Any

from realtime_ser.dashboard import Dashboard
from realtime_ser.events import Event, Measurement, SessionCreated, SpeechEnded, SpeechStarted

LABELS = ("neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised")


def invent(step: int) -> list[Event]:
    """Events of a made-up quarter of a second."""
    at_s = step / 4
    common: dict[str, Any] = {"session_id": "invented", "seq": step, "start_s": at_s, "end_s": at_s + 0.25}
    phase = step % 60
    if phase < 12:
        ended: list[Event] = [SpeechEnded(**common, utterance=1, duration_s=12)] if phase == 0 and step else []
        return [
            *ended,
            Measurement(**common, trigger="hop", state="no_speech", scores={}, scores_smooth={}, level_dbfs=-58),
        ]
    weights = [math.exp(2.5 * math.sin(at_s / (3 + k) + 2 * k)) for k in range(len(LABELS))]
    scores = {label: w / sum(weights) for label, w in zip(LABELS, weights, strict=True)}
    label = max(scores, key=lambda key: scores[key])
    spoken = Measurement(
        **common,
        trigger="hop",
        state="speech" if scores[label] > 0.4 else "abstain",
        label=label if scores[label] > 0.4 else None,
        confidence=scores[label],
        scores=scores,
        scores_smooth=scores,
        arousal=math.sin(at_s / 5),
        valence=math.cos(at_s / 7),
        level_dbfs=-25 + 8 * math.sin(at_s * 3),
        snr_db=30,
    )
    return [SpeechStarted(**common, utterance=1 + step // 60), spoken] if phase == 12 else [spoken]


def main() -> None:
    created = SessionCreated(
        session_id="invented", seq=0, start_s=0, end_s=0, model_id="invented", model_sha256="", model_licence="none",
        labels=LABELS, settings={}, versions={}, source="invented state", affect="", wall_time="",
    )  # fmt: skip
    with Dashboard() as dashboard:
        dashboard.write(created)
        step = 0
        while "q" not in dashboard.pressed():
            for event in invent(step):
                dashboard.write(event)
            step += 1
            dashboard.progress(step / 4, 0.01, 0.006, 0)
            time.sleep(0.25 if step > 200 else 0)


if __name__ == "__main__":
    main()
