"""Passes over a video: what is reported, and which frames are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from _clips import make_clip, scene
from pa_lib.contracts import Detection, Image
from pa_lib.people import AbstractFinder, KalmanTracker
from pa_lib.pipeline.passes import SearchSettings, compare_faces, read_reported, search_people
from pa_lib.video import VideoInfo, probe

N_FRAMES = 9


@pytest.fixture
def info(tmp_path: Path) -> VideoInfo:
    return probe(make_clip(tmp_path / "clip.mp4", n_frames=N_FRAMES))


class FaceFinder(AbstractFinder):
    """Sees one face, with landmarks, always in the same place."""

    def __init__(self) -> None:
        self.n_images = 0

    def find(self, images: list[Image]) -> list[list[Detection]]:  # type: ignore[override]
        self.n_images += len(images)
        points = np.array([[18, 18], [30, 18], [24, 24], [19, 30], [29, 30]], dtype=np.float32)
        return [[Detection("face", (12.0, 10.0, 36.0, 36.0), 0.9, points)] for _ in images]

    def release(self) -> None:
        pass


class MeanColour:
    """A face network whose embedding is the mean colour of the frame."""

    n_dimensions = 3
    same_person_distance = 1.0

    def embed(self, image: Image, landmarks: np.ndarray) -> np.ndarray:
        return np.tile(image.mean(axis=(0, 1)), (len(landmarks), 1)).astype(np.float32)


class Progress:
    def __init__(self) -> None:
        self.calls: list[tuple[str, int, int | None]] = []

    def __call__(self, task: str, done: int, total: int | None = None) -> None:
        self.calls.append((task, done, total))


@pytest.mark.parametrize("n_frames", [None, N_FRAMES])
def test_every_frame_is_reported_and_the_end_is_certain(info: VideoInfo, n_frames: int | None) -> None:
    progress = Progress()
    frames = list(read_reported(info, "counting", progress, n_frames))
    assert [frame.index for frame in frames] == list(range(N_FRAMES))
    assert [done for _, done, _ in progress.calls] == [*range(1, N_FRAMES + 1), N_FRAMES]
    assert progress.calls[-1] == ("counting", N_FRAMES, N_FRAMES)
    assert {task for task, _, _ in progress.calls} == {"counting"}


def test_a_wrong_estimate_grows_with_the_frames(info: VideoInfo) -> None:
    progress = Progress()
    list(read_reported(info, "counting", progress, 4))
    assert [total for _, _, total in progress.calls] == [4, 4, 4, 4, 5, 6, 7, 8, 9, 9]


def test_a_search_gives_tracks_people_and_the_timeline(info: VideoInfo) -> None:
    finder, progress = FaceFinder(), Progress()
    found = search_people(info, finder, KalmanTracker(), SearchSettings(stride=4), progress)
    assert finder.n_images == 3  # 0, 4 and 8
    assert [track.kind for track in found.tracks] == ["face"]
    assert [list(person.tracks) for person in found.people] == [list(found.tracks)]
    assert (found.timeline.width, found.timeline.height, found.timeline.n_frames) == (64, 48, N_FRAMES)
    assert np.array_equal(found.timeline.times_s, found.findings.times_s)
    assert progress.calls[-1] == ("finding people", N_FRAMES, N_FRAMES)


def test_every_picture_of_a_folder_is_searched(tmp_path: Path) -> None:
    for number in range(7):
        Pillow.fromarray(scene(number, 64, 48)).save(tmp_path / f"{number}.png")
    finder = FaceFinder()
    found = search_people(probe(tmp_path), finder, KalmanTracker(), SearchSettings(stride=4))
    assert list(found.findings.detections) == list(range(7))
    assert finder.n_images == 7


def test_faces_are_compared_in_a_pass_of_their_own(info: VideoInfo) -> None:
    found = search_people(info, FaceFinder(), KalmanTracker(), SearchSettings())
    progress = Progress()
    embeddings = compare_faces(info, found.people, MeanColour(), progress)
    assert list(embeddings) == [1]
    assert embeddings[1].shape[1] == 3
    assert {task for task, _, _ in progress.calls} == {"comparing faces"}
