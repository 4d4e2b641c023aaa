"""Windows that overlap: every frame once, passing from one window's result to the next one's, within its shot."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from _clips import make_clip
from pa_lib.contracts import Attribute, Clip, ClipMasks, Decision, Person, PersonInfo, Replacement, Track
from pa_lib.modules import AbstractAnonymizer
from pa_lib.people import BoxMasker, TracksRecord
from pa_lib.pipeline.protect import ProtectedFrame, protect_frames
from pa_lib.video import probe, read_frames

N_FRAMES = 12
NOTHING = PersonInfo()


class CountsWindows(AbstractAnonymizer):
    """Paints 60 times the number of the window, and fails in one of them."""

    is_non_interfering = True
    window_frames, overlap_frames = 1, 0

    def __init__(self, window_frames: int, overlap_frames: int, fails_in: int = -1) -> None:
        self.window_frames, self.overlap_frames, self.fails_in = window_frames, overlap_frames, fails_in
        self.seen: list[list[int]] = []
        self.infos: list[Mapping[int, PersonInfo]] = []

    def anonymize(self, clip: Clip, masks: ClipMasks, *, seed: int = 0) -> Clip:
        self.infos.append(masks.info)
        self.seen.append([clip.first_frame + at for at in range(len(clip.frames))])
        if len(self.seen) - 1 == self.fails_in:
            raise RuntimeError("no")
        return dataclasses.replace(clip, frames=torch.full_like(clip.frames, 60 * (len(self.seen) - 1)))


def protected(
    system: AbstractAnonymizer, folder: Path, cuts: tuple[int, ...] = (), info_of_1: PersonInfo = NOTHING
) -> list[ProtectedFrame]:
    """A clip with one person who is hidden in every frame."""
    info = probe(make_clip(folder / "clip.mp4", n_frames=N_FRAMES))
    boxes = np.tile(np.array([[8, 8, 40, 40]], dtype=np.float32), (N_FRAMES, 1))
    track = Track(1, "face", np.arange(N_FRAMES), boxes, np.ones(N_FRAMES, dtype=np.float32))
    record = TracksRecord(
        "clip.mp4",
        "",
        info.width,
        info.height,
        N_FRAMES,
        25.0,
        np.arange(N_FRAMES) / 25,
        (Person(1, (track,), info_of_1),),
        (Decision(1, True, "test"),),
        cuts=cuts,
    )
    return list(protect_frames(read_frames(info), info, record, BoxMasker(), system, 0))


def painted(frames: list[ProtectedFrame]) -> list[float]:
    """What stands in the middle of the hidden box, frame by frame."""
    pictures = [done.frame.picture for done in frames]
    return [float(picture.rgb()[20:28, 20:28].mean()) for picture in pictures if picture is not None]


def test_windows_overlap_and_fade_into_each_other(tmp_path: Path) -> None:
    system = CountsWindows(6, 2)
    frames = protected(system, tmp_path)
    assert system.seen == [list(range(6)), list(range(4, 10)), list(range(8, 12))]
    assert [done.frame.index for done in frames] == list(range(N_FRAMES))
    # 4 and 5 were seen twice: a third and two thirds of the way from 0 to 60; limited-range planes round a little
    expected = [0, 0, 0, 0, 20, 40, 60, 60, 80, 100, 120, 120]
    np.testing.assert_allclose(painted(frames), expected, atol=3)


def test_no_window_reaches_over_a_cut(tmp_path: Path) -> None:
    system = CountsWindows(6, 2)
    frames = protected(system, tmp_path, cuts=(7,))
    assert system.seen == [list(range(6)), [4, 5, 6], list(range(7, 12))]
    np.testing.assert_allclose(painted(frames)[6:8], [60, 120], atol=3)


@pytest.mark.parametrize(("fails_in", "redacted"), [(0, [0, 1, 2, 3]), (1, [6, 7]), (2, [10, 11])])
def test_a_window_that_fails_takes_only_the_frames_that_no_other_painted(
    tmp_path: Path, fails_in: int, redacted: list[int]
) -> None:
    frames = protected(CountsWindows(6, 2, fails_in), tmp_path)
    assert [done.frame.index for done in frames if done.record.status == "redacted"] == redacted
    assert all("RuntimeError: no" in (frames[index].record.fault or "") for index in redacted)


def test_attributes_and_wishes_reach_the_system(tmp_path: Path) -> None:
    system = CountsWindows(6, 2)
    info = PersonInfo({"age": Attribute("adult", 0.8, "hand")}, Replacement("P004"))
    protected(system, tmp_path, info_of_1=info)
    assert system.infos == [{1: info}] * 3
    ignorant = CountsWindows(6, 2)
    protected(ignorant, tmp_path)
    assert ignorant.infos == [{}] * 3
