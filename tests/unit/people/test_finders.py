from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pa_lib.contracts import Box, Detection
from pa_lib.functional.boxes import box_overlaps
from pa_lib.people.finders import (
    AbstractFinder,
    CenterFaceFinder,
    FacesAndPeopleFinder,
    MtcnnFinder,
    PeopleFinder,
    without_parts,
)

FACE = np.array([182.0, 60.0, 268.0, 178.0])  # of the astronaut, read off the picture, px


@pytest.fixture(scope="module")
def astronaut() -> NDArray[np.uint8]:
    return np.asarray(pytest.importorskip("skimage.data").astronaut())


def spy(finder: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Sizes (height, width) that the detector is given from now on."""
    sizes: list[tuple[int, int]] = []

    def detect(images: Sequence[NDArray[np.uint8]], **_: object) -> list[list[Detection]]:
        sizes.extend(image.shape[:2] for image in images)
        return [[] for _ in images]

    monkeypatch.setattr(finder._detector, "detect", detect)
    return sizes


@pytest.mark.parametrize(
    ("frame", "seen"),
    [
        ((480, 640), [(720, 960)]),  # enlarged 1.5 times; not above 1.5 overviews
        ((480, 854), [(719, 1280), (360, 640)]),
        ((720, 1280), [(720, 1280), (360, 640)]),
        ((1080, 1920), [(1080, 1920), (360, 640)]),
        ((1920, 1080), [(1920, 1080), (640, 360)]),
        ((1920, 2560), [(1056, 1376)] * 4 + [(480, 640)]),
    ],
)
def test_what_centerface_is_shown(
    frame: tuple[int, int], seen: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    finder = CenterFaceFinder()
    sizes = spy(finder, monkeypatch)
    finder.find([np.zeros((*frame, 3), np.uint8)])
    assert sizes == seen


def test_no_tile_is_larger_than_1080p(monkeypatch: pytest.MonkeyPatch) -> None:
    for zoom in (1.0, 2.0):
        finder = CenterFaceFinder(zoom=zoom)
        sizes = spy(finder, monkeypatch)
        finder.find([np.zeros((2160, 3840, 3), np.uint8)])
        assert max(height * width for height, width in sizes) <= 1920 * 1088


def test_a_face_on_the_seam_of_tiles_is_found_once(astronaut: NDArray[np.uint8]) -> None:
    finder = CenterFaceFinder(min_score=0.4, zoom=1, tile_px=640, overlap_px=192)
    frame = np.full((600, 1000, 3), 127, np.uint8)
    frame[40:552, 275:787] = astronaut  # tiles share columns 404 to 596: the face spans 457 to 543, its middle at 500
    (face,) = finder.find([frame])[0]
    assert box_overlaps(np.array([face.box]), FACE[None] + [275, 40, 275, 40])[0, 0] > 0.75


def test_a_face_that_fills_the_frame_gets_its_whole_box(astronaut: NDArray[np.uint8]) -> None:
    close = cv2.resize(astronaut[20:220, 100:350], (1250, 1000), interpolation=cv2.INTER_CUBIC)
    expected = (FACE - [100, 20, 100, 20]) * 5  # 590 px tall
    best = CenterFaceFinder(min_score=0.4).find([close])[0][0]
    assert box_overlaps(np.array([best.box]), expected[None])[0, 0] > 0.7


def test_small_faces_by_zoom(astronaut: NDArray[np.uint8]) -> None:
    frame = np.full((200, 320, 3), 127, np.uint8)
    frame[60:124, 100:164] = cv2.resize(astronaut, (64, 64), interpolation=cv2.INTER_AREA)  # a face of 11 x 15 px
    small = FACE / 8 + [100, 60, 100, 60]
    (face,) = CenterFaceFinder(min_score=0.4, zoom=3).find([frame])[0]
    assert box_overlaps(np.array([face.box]), small[None])[0, 0] > 0.5


def test_mtcnn_shrinks_large_frames(astronaut: NDArray[np.uint8]) -> None:
    finder = MtcnnFinder(min_face_px=30, max_side_px=256)
    found = finder.find([astronaut])[0]
    assert box_overlaps(np.array([found[0].box]), FACE[None])[0, 0] > 0.7


@pytest.mark.parametrize(("longer", "sides"), [(300, [416]), (480, [416, 640]), (1920, [416, 960]), (5000, [416, 960])])
def test_passes_of_the_people_finder(longer: int, sides: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    finder = PeopleFinder()
    asked = []
    monkeypatch.setattr(finder._detector, "detect", lambda images, side_px: asked.append(side_px) or [[]])
    finder.find([np.zeros((200, longer, 3), np.uint8)])
    assert asked == sides


def person(x0: float, y0: float, x1: float, y1: float, score: float = 0.6) -> Detection:
    return Detection("body", (x0, y0, x1, y1), score)


def test_pieces_of_a_large_person_are_dropped_and_neighbours_kept() -> None:
    whole = person(100, 0, 300, 500)
    head_and_trunk, legs = person(110, 0, 290, 250), person(120, 250, 280, 500)
    same, behind, beside, child = (
        person(95, 5, 300, 500), person(200, 100, 240, 200), person(250, 100, 420, 500), person(120, 300, 180, 490)
    )  # fmt: skip
    details = [head_and_trunk, legs, same, behind, beside, child]
    assert without_parts(details, [whole], min_height=400) == [same, behind, beside, child]
    assert without_parts(details, [whole], min_height=600) == details
    assert without_parts(details, [person(100, 0, 300, 500, score=0.3)], min_height=400) == details
    assert without_parts([], [whole], min_height=400) == []


class One(AbstractFinder):
    def __init__(self, *seen: Detection) -> None:
        self.seen, self.is_released = seen, False

    def find(self, images: Sequence[NDArray[np.uint8]]) -> list[list[Detection]]:
        return [list(self.seen) for _ in images]

    def release(self) -> None:
        self.is_released = True


def test_faces_and_people_side_by_side() -> None:
    face, body = Detection("face", (0, 0, 5, 5), 0.9), person(0, 0, 20, 50)
    parts = One(face), One(body)
    finder = FacesAndPeopleFinder(*parts)
    image = np.zeros((60, 60, 3), np.uint8)
    assert finder.find([image, image]) == [[face, body], [face, body]]
    finder.release()
    assert all(part.is_released for part in parts)


def test_default_finds_the_face_and_its_body(astronaut: NDArray[np.uint8]) -> None:
    finder = FacesAndPeopleFinder()
    found = finder.find([astronaut])[0]
    face, body = (next(one for one in found if one.kind == kind) for kind in ("face", "body"))
    assert box_overlaps(np.array([face.box]), FACE[None])[0, 0] > 0.7
    assert box_overlaps(np.array([face.box]), np.array([body.box]), of_smaller=True)[0, 0] == pytest.approx(1)
    finder.release()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CenterFaceFinder(zoom=0), "zoom is 0"),
        (lambda: CenterFaceFinder(tile_px=100), "tile_px is 100"),
        (lambda: CenterFaceFinder(overlap_px=1000), "overlap_px is 1000"),
        (lambda: PeopleFinder(detail_px=100), "detail_px is 100"),
        (lambda: MtcnnFinder(max_side_px=10), "max_side_px is 10"),
    ],
)
def test_bad_settings(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_pedestrians_of_the_shared_clip(shared_data: Path) -> None:
    """A 45 px pedestrian and up is found at 480 x 360; their boxes come with the clip."""
    import json

    folder = shared_data / "clips_with_masks" / "pets_vtest"
    boxes = {entry["frame"]: entry["persons"] for entry in json.loads((folder / "boxes.json").read_text())}
    paths = sorted((folder / "frames").iterdir())
    finder, found, total = PeopleFinder(), 0, 0
    for frame in (0, 60, 120, 180):
        image = cv2.imread(str(paths[frame]))[..., ::-1]
        seen = np.array([one.box for one in finder.find([np.ascontiguousarray(image)])[0]], np.float32)
        for x, y, width, height, _ in boxes[frame]:
            if height >= 45:
                total += 1
                found += bool((box_overlaps(np.array([[x, y, x + width, y + height]]), seen) > 0.4).any())
    assert total >= 8
    assert found == total


class HeadAndShoulders:
    """A network that marks, in every box, a disc on shoulders."""

    def silhouette(
        self, image: NDArray[np.uint8], boxes: Sequence[Box]
    ) -> Sequence[tuple[int, int, NDArray[np.float32]]]:
        down, across = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
        found = []
        for x0, y0, x1, y1 in boxes:
            middle, radius = (x0 + x1) / 2, 0.065 * (y1 - y0)
            head = (across - middle) ** 2 / 0.6 + (down - y0 - radius) ** 2 <= radius**2
            trunk = (across > x0) & (across < x1) & (down > y0 + 2.6 * radius) & (down < y1)
            neck = (abs(across - middle) < 0.4 * radius) & (down > y0 + radius) & (down < y0 + 3 * radius)
            found.append((0, 0, (head | trunk | neck).astype(np.float32)))
        return found


def test_people_come_with_the_heads_of_their_outlines(monkeypatch: pytest.MonkeyPatch) -> None:
    finder, plain = PeopleFinder(outlines=HeadAndShoulders()), PeopleFinder()
    seen = [Detection("body", (100.0, 50.0, 160.0, 250.0), 0.9), Detection("body", (250.0, 20.0, 340.0, 320.0), 0.8)]
    for one in (finder, plain):
        monkeypatch.setattr(one._detector, "detect", lambda images, **_: [list(seen) for _ in images])
    image = np.zeros((360, 400, 3), np.uint8)
    for found, person in zip(finder.find([image])[0], seen, strict=True):
        assert found.head is not None
        x0, y0, x1, y1 = found.head
        tall = person.box[3] - person.box[1]
        assert (x0 + x1) / 2 == pytest.approx((person.box[0] + person.box[2]) / 2, abs=0.01 * tall)
        assert y0 == pytest.approx(person.box[1], abs=0.015 * tall)
        assert y1 - y0 == pytest.approx(0.13 * tall, rel=0.2)
    assert [found.head for found in plain.find([image])[0]] == [None, None]
