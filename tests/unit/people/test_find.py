from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pa_lib.contracts import Detection
from pa_lib.errors import PaLibError
from pa_lib.people import AbstractFinder, find_people
from pa_lib.video.frame import Frame, Picture, PixelFormat

WIDTH, HEIGHT = 64, 48
FPS = 100


def picture(grey: int = 100, name: str = "rgb24") -> Picture:
    format = PixelFormat(name, WIDTH, HEIGHT, is_full_range=True)
    dtype, step = (np.uint16, 4) if name.endswith("10le") else (np.uint8, 1)
    return Picture(tuple(np.full(shape, grey * step, dtype) for shape in format.plane_shapes()), format)


def video(greys: Sequence[int | None], name: str = "rgb24") -> Iterator[Frame]:
    """One frame for each grey; None cannot be decoded."""
    for index, grey in enumerate(greys):
        shown = None if grey is None else picture(grey, name)
        yield Frame(index, 2 * index, 2, index / FPS, shown, "broken packet" if grey is None else None)


@dataclass
class Recorder(AbstractFinder):
    """Sees one face a frame whose left edge tells the frame's grey; fails where it is told to."""

    failures: list[Exception | None] = field(default_factory=list)  # one a call, in order
    sizes: list[int] = field(default_factory=list)

    def find(self, images: Sequence[NDArray[np.uint8]]) -> list[list[Detection]]:
        self.sizes.append(len(images))
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure
        return [[Detection("face", (float(image[0, 0, 0]), 0, 300, 9), 0.5)] for image in images]

    def release(self) -> None:
        pass


@pytest.mark.parametrize(
    ("n_frames", "stride", "searched"),
    [
        (0, 3, []),
        (1, 3, [0]),
        (2, 3, [0, 1]),
        (7, 3, [0, 3, 6]),
        (8, 3, [0, 3, 6, 7]),
        (4, 1, [0, 1, 2, 3]),
        (5, 9, [0, 4]),
    ],
)
def test_every_stride_and_the_first_and_last(n_frames: int, stride: int, searched: list[int]) -> None:
    findings = find_people(video([100] * n_frames), Recorder(), stride=stride)
    assert list(findings.detections) == searched
    assert findings.n_frames == n_frames
    assert findings.times_s.tolist() == pytest.approx([index / FPS for index in range(n_frames)])
    assert findings.faults == {}
    assert findings.cuts == ()


@pytest.mark.parametrize("name", ["rgb24", "yuv420p", "yuv420p10le"])
def test_both_sides_of_a_cut_are_searched(name: str) -> None:
    findings = find_people(video([60] * 8 + [200] * 6, name), Recorder(), stride=5)
    assert findings.cuts == (8,)
    assert list(findings.detections) == [0, 5, 7, 8, 13]


def test_detections_are_those_of_their_own_frame() -> None:
    greys = list(range(100, 120))
    for batch in (1, 4, 50):
        findings = find_people(video(greys), Recorder(), stride=2, batch=batch)
        assert {index: seen[0].box[0] for index, seen in findings.detections.items()} == {
            index: float(greys[index]) for index in (*range(0, 20, 2), 19)
        }


def test_slow_change_is_no_cut_and_the_threshold_decides() -> None:
    assert find_people(video(range(0, 250, 10)), Recorder()).cuts == ()
    assert find_people(video([0, 40, 0]), Recorder(), cut_threshold=0.15).cuts == (1, 2)  # 40 / 255 = 0.157
    assert find_people(video([0, 40, 0]), Recorder(), cut_threshold=0.16).cuts == ()


def test_frame_that_cannot_be_decoded_is_a_fault_and_the_next_is_searched() -> None:
    findings = find_people(video([100, 100, None, None, 100, 100, 100, 100, None]), Recorder(), stride=4)
    assert findings.faults == {2: "broken packet", 3: "broken packet", 8: "broken packet"}
    assert list(findings.detections) == [0, 4, 7]
    assert findings.n_frames == 9


def test_nothing_can_be_decoded() -> None:
    findings = find_people(video([None, None]), Recorder())
    assert findings.detections == {}
    assert list(findings.faults) == [0, 1]


def test_failed_search_is_a_fault_and_the_very_next_frame_is_searched() -> None:
    finder = Recorder([None, RuntimeError("out of luck\nsecond line"), ZeroDivisionError(), None])
    findings = find_people(video([100] * 12), finder, stride=4)
    assert findings.faults == {
        4: "search failed: RuntimeError: out of luck",
        5: "search failed: ZeroDivisionError: ZeroDivisionError",
    }
    assert list(findings.detections) == [0, 6, 10, 11]


def test_failing_batch_is_searched_again_one_by_one() -> None:
    # The batch of frames 0, 2 and 4 fails; then 0 works, 2 fails, 4 works; frame 5 follows the failure.
    finder = Recorder([RuntimeError("a"), None, RuntimeError("b"), None])
    findings = find_people(video([100] * 9), finder, stride=2, batch=3)
    assert finder.sizes == [3, 1, 1, 1, 3]
    assert findings.faults == {2: "search failed: RuntimeError: b"}
    assert list(findings.detections) == [0, 4, 5, 7, 8]


@pytest.mark.parametrize(
    "detection",
    [
        Detection("face", (float("nan"), 0, 9, 9), 0.5),
        Detection("face", (5, 0, 5, 9), 0.5),
        Detection("face", (0, 0, float("inf"), 9), 0.5),
        Detection("face", (0, 0, 9, 9), float("nan")),
        Detection("face", (0, 0, 9, 9), 1.5),
    ],
)
def test_nonsense_from_a_finder_is_a_fault(detection: Detection, monkeypatch: pytest.MonkeyPatch) -> None:
    finder = Recorder()
    monkeypatch.setattr(finder, "find", lambda images: [[detection] for _ in images])
    findings = find_people(video([100]), finder)
    assert findings.detections == {}
    assert findings.faults[0].startswith("search failed: RuntimeError: the finder gave a box")


def test_wrong_number_of_answers_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    finder = Recorder()
    monkeypatch.setattr(finder, "find", lambda images: [])
    assert "gave 0 lists for 1 frames" in find_people(video([100]), finder).faults[0]


def test_missing_weights_end_the_run() -> None:
    with pytest.raises(PaLibError, match="damaged"):
        find_people(video([100] * 3), Recorder([PaLibError("weights are damaged")]))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"stride": 0}, "expected at least 1"),
        ({"batch": 0}, "expected at least 1"),
        ({"interval_s": -1.0}, "expected a number of seconds from 0 on"),
        ({"interval_s": float("nan")}, "expected a number of seconds from 0 on"),
    ],
)
def test_bad_settings(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_people(video([100]), Recorder(), **setting)


def test_pictures_are_not_kept() -> None:
    class Watched(Picture):
        __slots__ = ("__weakref__",)

    alive: list[weakref.ref[Picture]] = []
    most = 0

    def frames() -> Iterator[Frame]:
        nonlocal most
        for index in range(40):
            plain = picture()
            shown = Watched(plain.planes, plain.format)
            alive.append(weakref.ref(shown))
            yield Frame(index, index, 1, index / FPS, shown)
            del shown
            most = max(most, sum(one() is not None for one in alive))

    find_people(frames(), Recorder(), stride=3, batch=2)
    assert most <= 3 * 2 + 1  # those between the searched frames of a batch, these, and the frame that is read


@given(
    st.lists(st.sampled_from([60, 62, 200, None]), max_size=40),
    st.integers(1, 6),
    st.integers(1, 4),
    st.lists(st.booleans(), max_size=40),
)
def test_no_frame_is_forgotten(greys: list[int | None], stride: int, batch: int, fails: list[bool]) -> None:
    finder = Recorder([RuntimeError("bad luck") if one else None for one in fails])
    findings = find_people(video(greys), finder, stride=stride, batch=batch)
    looked_at = set(findings.detections) | set(findings.faults)
    assert not set(findings.detections) & set(findings.faults)
    good = [index for index, grey in enumerate(greys) if grey is not None]
    assert {index for index, grey in enumerate(greys) if grey is None} <= set(findings.faults)
    if good:
        assert {good[0], good[-1]} <= looked_at
    for cut in findings.cuts:
        before = [index for index in good if index < cut]
        assert {cut, before[-1]} <= looked_at
    for first, second in itertools.pairwise(good):
        if second - first == 1 and first in findings.faults and batch == 1:
            assert second in looked_at
    run = 0
    for index in good:
        run = 0 if index in looked_at else run + 1
        assert run < stride
