"""What is told of strangers, on answers made by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyroomacoustics", reason="rooms belong to the [train] extra")

from tools.answers import Answers
from tools.corpora import Clip
from tools.strangers import alarm_share, alarms, by_sex, left_out_seeds, mean_of_four, outside, trust

LABELS = ("neutral", "happy", "sad", "angry", "fearful")


def answers(said: list[tuple[str, str | None, str | None]]) -> Answers:
    """Of clips spoken so, heard so (None: nothing scored) and shown so (None: abstaining)."""
    clips = [
        Clip(Path(f"{i}.wav"), "A", str(i % 3), spoken, spoken, "en", "free") for i, (spoken, _, _) in enumerate(said)
    ]
    posteriors = np.array(
        [[0.6 * (label == heard) + 0.1 for label in LABELS] if heard else [0.0] * 5 for _, heard, _ in said]
    )
    return Answers(clips, LABELS, posteriors.astype(np.float32), [shown for _, _, shown in said])


def test_abstaining_is_no_alarm() -> None:
    neutral = answers(
        [
            ("neutral", "neutral", "neutral"),
            ("neutral", "happy", None),
            ("neutral", None, None),
            ("neutral", "sad", "sad"),
        ]
    )
    assert alarm_share(neutral).value == 0.25
    assert "most often sad, 25.0%), 25.0% neutral" in alarms(neutral)


def test_what_the_corpus_cannot_be_is_no_answer_and_silence_is_wrong() -> None:
    said = answers(
        [
            ("neutral", "fearful", None),
            ("happy", "happy", "happy"),
            ("sad", None, None),
            ("angry", "angry", "angry"),
        ]
    )
    row = outside(said)
    # Forced among the four of the corpus the first, even among them, counts as neutral.
    assert row[2] == 4
    assert mean_of_four([said]).value == pytest.approx(0.75)
    assert row[5] == "1.00, 1.00, 0.00, 1.00"


def test_seeds_of_siblings_are_told_one_by_one_and_in_the_mean() -> None:
    right = answers([("happy", "happy", None), ("sad", "sad", None), ("angry", "angry", None)])
    happy = answers([("happy", "happy", None), ("sad", "happy", None), ("angry", "happy", None)])
    mean = mean_of_four([right, right], [right, happy])
    assert mean.value == pytest.approx((1 + (1 + 1 / 3) / 2) / 2)
    told = left_out_seeds([[right, right], [right, happy, happy]])  # a third seed of one corpus alone is not counted
    assert told[-4].startswith("| A | 1.000 ")
    assert told[-4].endswith("| 0.667 [0.500, 1.000] |")
    assert told[-3].endswith(f"| **{mean}** |")
    assert left_out_seeds([[right], [happy]]) == [
        "",
        f"Mean of the four-class UARs: **{mean_of_four([right, happy])}** (chance 0.25).",
    ]


def test_women_and_men_are_told_apart_where_a_corpus_has_both() -> None:
    given = answers([("happy", "happy", None), ("sad", "sad", None), ("happy", "happy", None), ("sad", "happy", None)])
    assert by_sex([given]) == []
    clips = [replace(c, sex=sex) for c, sex in zip(given.clips, ("female", "female", "male", "male"), strict=True)]
    assert by_sex([replace(given, clips=clips)])[-1] == "| A | 2: 1.000 | 2: 0.500 |"


def test_how_far_it_may_be_trusted_counts_what_a_user_reads() -> None:
    said = answers(
        [
            ("neutral", "fearful", "fearful"),
            ("happy", "happy", "happy"),
            ("sad", None, None),
            ("angry", "angry", None),
        ]
    )
    # Silence has no confidence, what is shown as unsure is not named, and a confidence of 0.7 is under 0.8.
    assert trust(said, [])[-1] == "| A | 0.70 | 0.67 | 50%, 50% | 50%, 50% | 0%, – |"
