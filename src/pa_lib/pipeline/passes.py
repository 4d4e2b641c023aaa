"""Passes over a video: each reads it from the start, reports every frame, and keeps no more than a few of them.

`search_people` and `compare_faces` look at a video; the pass that hides people is in `pa_lib.pipeline.protect`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pa_lib.contracts import FaceNetwork, Person, ProgressCallback, Track
from pa_lib.people import (
    AbstractFinder,
    AbstractTracker,
    Findings,
    VideoTimeline,
    embed_people,
    find_people,
    link_people,
)
from pa_lib.video import Frame, VideoInfo, read_frames


@dataclass(frozen=True)
class SearchSettings:
    """How densely a video is searched for people.

    Every picture of a folder is searched: its pictures have no times.

    Args:
        stride: Largest distance between searched frames, in frames, >= 1; tracks fill the frames between.
        interval_s: Longest time between searched frames, in seconds, >= 0: a video of a lower rate is searched in every
            frame. Frames between are searched, too, where they show what the searched ones do not.
        batch: Number of frames that the finder gets at a time, >= 1.
        cut_threshold: Mean change of a grey thumbnail, in [0, 1], from which a frame begins a new shot.
    """

    stride: int = 2
    interval_s: float = 0.25
    batch: int = 1
    cut_threshold: float = 0.14


@dataclass(frozen=True, eq=False)
class FoundPeople:
    """The people of a video, before anything is decided about them.

    Args:
        findings: Detections of the searched frames, shot boundaries, and the time of every frame.
        tracks: Track of every face and every body.
        people: The same tracks, those of one person together.
        timeline: Size, times and shots of the video.
    """

    findings: Findings
    tracks: tuple[Track, ...]
    people: tuple[Person, ...]
    timeline: VideoTimeline


def no_progress(task: str, done: int, total: int | None = None) -> None:
    """A `ProgressCallback` that does nothing."""


def read_reported(
    info: VideoInfo, task: str, on_progress: ProgressCallback, n_frames: int | None = None
) -> Iterator[Frame]:
    """The frames of a video from the first to the last, reported after each.

    Args:
        info: The video.
        task: Name of the task, e.g. ``finding people``.
        on_progress: Callback with the number of frames that are done.
        n_frames: Number of frames in all; None takes the estimate of the file's header.
    """
    total = n_frames or info.n_frames_estimate
    done = 0
    for frame in read_frames(info):
        yield frame
        done = frame.index + 1
        on_progress(task, done, total if total is None else max(total, done))
    on_progress(task, done, done)


def search_people(
    info: VideoInfo,
    finder: AbstractFinder,
    tracker: AbstractTracker,
    search: SearchSettings,
    on_progress: ProgressCallback = no_progress,
) -> FoundPeople:
    """Find, track and link the people of a video: one pass over it.

    Args:
        info: The video.
        finder: Finder of people in single frames.
        tracker: Tracker that joins detections into tracks.
        search: Density of the search.
        on_progress: Callback after every frame.

    Raises:
        PaLibError: The video cannot be read, or the finder cannot work at all.
    """
    findings = find_people(
        read_reported(info, "finding people", on_progress),
        finder,
        stride=1 if info.container == "image_folder" else search.stride,
        interval_s=search.interval_s,
        batch=search.batch,
        cut_threshold=search.cut_threshold,
    )
    tracks = tracker.track(findings, info.width, info.height)
    people = link_people(tracks, findings.times_s, findings.cuts)
    timeline = VideoTimeline(info.width, info.height, findings.n_frames, findings.times_s, tuple(findings.cuts))
    return FoundPeople(findings, tuple(tracks), tuple(people), timeline)


def compare_faces(
    info: VideoInfo,
    people: Sequence[Person],
    network: FaceNetwork,
    on_progress: ProgressCallback = no_progress,
) -> dict[int, NDArray[np.float32]]:
    """Embed the best faces of all people: one pass over the video, as far as the last frame that is needed.

    Args:
        info: The video.
        people: All people in the video.
        network: Network that embeds faces.
        on_progress: Callback after every frame.

    Returns:
        Person id -> embeddings, shape n d. People without a face that can be compared are absent.
    """
    return embed_people(read_reported(info, "comparing faces", on_progress), people, network)
