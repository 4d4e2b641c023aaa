"""What a run is asked for, what is known of a video between its search and its result, and the outcome."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pa_lib.errors import SettingError
from pa_lib.people import Embeddings, TracksRecord
from pa_lib.pipeline.protect import OnFailure
from pa_lib.setting_types import checked_seed
from pa_lib.video import VideoInfo

Stage = Literal["all", "find"]


@dataclass(frozen=True)
class RunSettings:
    """What differs from run to run.

    Args:
        tracks: Tracks file of the same video. The video is not searched again, and the decisions in the file hold.
        is_chosen_again: Whether the chooser decides again among the people in `tracks`.
        stage: Last stage of the run: ``find`` stops after the tracks file and a numbered sheet of the people in the
            video.
        on_failure: Treatment of a frame that cannot be protected: ``redact`` blanks it, ``abort`` ends the run.
        seed: Seed of everything random; the same seed gives the same result.
        is_overwrite: Whether existing results may be replaced.
        is_damaged_accepted: Whether a file that is visibly cut short or damaged is worked on at all.
        is_deinterlaced: Whether pictures of two fields become pictures of one moment, which changes them outside masks,
            too.
        other_sizes: Treatment of frames whose size or pixel format is not that of the first: ``redact`` blanks them,
            ``scale`` brings them to it, in their own proportions, on black.
        is_before_shown: Whether original pixels of hidden people are put into the report.
        config: The configuration, as it is recorded in the report.

    Raises:
        SettingError: A value is none of the choices, or the seed is none.
    """

    tracks: Path | None = None
    is_chosen_again: bool = False
    stage: Stage = "all"
    on_failure: OnFailure = "redact"
    seed: int = 0
    is_overwrite: bool = True
    is_damaged_accepted: bool = False
    is_deinterlaced: bool = False
    other_sizes: Literal["redact", "scale"] = "redact"
    is_before_shown: bool = False
    config: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        checked_seed(self.seed)
        for name, value, choices in (
            ("stage", self.stage, ("all", "find")),
            ("on_failure", self.on_failure, ("redact", "abort")),
            ("other_sizes", self.other_sizes, ("redact", "scale")),
        ):
            if value not in choices:
                raise SettingError(f"{name}: got '{value}', expected {' or '.join(choices)}")


@dataclass(frozen=True)
class RunOutcome:
    """The results of one run.

    Args:
        summary: Summary in a few lines: frames by status, and who was hidden and kept.
        files: Files that were written, by kind: ``video``, ``tracks``, ``report``, ``page``, ``people``.
        n_redacted: Number of frames that could not be protected and were redacted whole.
    """

    summary: str
    files: dict[str, Path]
    n_redacted: int = 0


@dataclass(frozen=True, eq=False)
class SearchedVideo:
    """A video whose people are known; nothing is written yet.

    Args:
        info: The video.
        record: Tracks of its people, and who is hidden.
        files: Names of the results, by kind.
        settings: Settings of the run.
        started: Beginning of the search.
        searched: End of the search.
        faces: Embeddings of the people who are compared with those of other videos; None where none are. They are
            kept in memory alone.
        notes: Notes for the report and the terminal, one line each.
        remarks: Remarks for the terminal alone, one line each: who is in other videos, too.
    """

    info: VideoInfo
    record: TracksRecord
    files: dict[str, Path]
    settings: RunSettings
    started: datetime
    searched: datetime
    faces: Embeddings | None = None
    notes: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
