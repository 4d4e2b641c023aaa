"""`evaluate` from Python: sources, processes, what is refused; and the notes of a record."""

from __future__ import annotations

from dataclasses import replace

from _evaluation import evaluation
from pa_lib.evaluation.run import notes_of

(CLIP,) = evaluation({"toy": 1.0}).clips
QUIET = replace(CLIP, n_hidden=1, masker_from="report")


def test_a_clip_with_people_says_nothing() -> None:
    assert notes_of([QUIET, replace(QUIET, n_hidden=None)]) == ()


def test_clips_in_which_nobody_is_hidden_are_named() -> None:
    empty = [replace(QUIET, name=f"{at}.mp4", n_hidden=0) for at in range(5)]
    (note,) = notes_of(empty[:1])
    assert note.startswith("no person is hidden in 0.mp4: ")
    (note,) = notes_of([QUIET, empty[2]])
    assert note.startswith("no person is hidden in 1 of 2 videos (2.mp4): ")
    (note,) = notes_of([*empty, QUIET])
    assert note.startswith("no person is hidden in 5 of 6 videos (0.mp4, 1.mp4, 2.mp4 and 2 more): ")


def test_frames_that_are_missing_or_blank_are_counted_over_clips() -> None:
    clips = [replace(QUIET, n_undecodable=2, n_redacted=1), replace(QUIET, n_undecodable=1)]
    missing, blank = notes_of(clips)
    assert missing.startswith("3 frames could not be decoded")
    assert blank.startswith("1 frame blanked whole")


def test_guessed_masks_are_told() -> None:
    (note,) = notes_of([QUIET, replace(QUIET, masker_from="settings")])
    assert "masks are those of people/masker" in note
