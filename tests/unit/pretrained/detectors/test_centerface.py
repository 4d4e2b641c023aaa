from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pa_lib.functional.boxes import box_overlaps
from pa_lib.pretrained import CenterFace


def fake_maps(rows: int, columns: int) -> dict[str, NDArray[np.float32]]:
    channels = {"heatmap": 1, "scale": 2, "offset": 2, "landmarks": 10}
    return {name: np.zeros((1, count, rows, columns), np.float32) for name, count in channels.items()}


def test_real_face(portrait: Any) -> None:
    found = CenterFace(min_score=0.4).detect([portrait.image])[0]
    assert len(found) == 1
    assert found[0].kind == "face"
    assert found[0].score > 0.8
    assert box_overlaps(np.array([found[0].box]), portrait.face[None])[0, 0] > 0.75
    assert found[0].landmarks is not None
    assert np.abs(found[0].landmarks - portrait.landmarks).max() < 8


def test_face_moves_with_the_picture_and_turns_with_its_mirror(portrait: Any) -> None:
    detector = CenterFace(min_score=0.4)
    moved = np.zeros((600, 700, 3), np.uint8)
    moved[64:576, 96:608] = portrait.image
    shifted, mirrored = detector.detect([moved, np.ascontiguousarray(portrait.image[:, ::-1])])
    assert np.abs(shifted[0].landmarks - [96, 64] - portrait.landmarks).max() < 8
    # In a mirror the image-left eye is the other one, and is listed first again.
    expected = portrait.landmarks[[1, 0, 2, 4, 3]] * [-1, 1] + [511, 0]
    assert np.abs(mirrored[0].landmarks - expected).max() < 8


@pytest.mark.parametrize("size", [(512, 512), (333, 401), (97, 64)])
def test_sizes_that_are_no_multiple_of_32(portrait: Any, size: tuple[int, int]) -> None:
    image = cv2.resize(portrait.image, size, interpolation=cv2.INTER_AREA)
    scale = np.array(size, np.float32) / 512
    found = CenterFace(min_score=0.3).detect([image])[0]
    assert box_overlaps(np.array([found[0].box]), portrait.face[None] * np.tile(scale, 2))[0, 0] > 0.6


def test_shrunk_search_answers_in_pixels_of_the_frame(portrait: Any) -> None:
    found = CenterFace(min_score=0.4, max_side_px=200).detect([portrait.image])[0]
    assert box_overlaps(np.array([found[0].box]), portrait.face[None])[0, 0] > 0.7
    assert np.abs(found[0].landmarks - portrait.landmarks).max() < 10


def test_decoding_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = fake_maps(8, 16)
    maps["heatmap"][0, 0, 2, 5] = 0.9
    maps["scale"][0, :, 2, 5] = np.log([6, 3])  # 24 px tall, 12 px wide
    maps["offset"][0, :, 2, 5] = [0.25, -0.5]  # centre y (2 + .25 + .5) * 4 = 11, x (5 - .5 + .5) * 4 = 20
    maps["landmarks"][0, :, 2, 5] = [0.25, 0.5, 0.25, 1, 0.5, 0, 1, 0.5, 1, 1]  # y, x as shares of the box
    maps["heatmap"][0, 0, 2, 6] = 0.8  # the same box, one cell on: suppressed
    maps["scale"][0, :, 2, 6] = np.log([6, 3])
    maps["offset"][0, :, 2, 6] = [0.25, -1.5]
    maps["heatmap"][0, 0, 7, 15] = 0.19  # too weak
    detector = CenterFace(min_score=0.2)
    monkeypatch.setattr(detector._network, "run", lambda blob: maps)
    (face,) = detector.detect([np.zeros((30, 61, 3), np.uint8)])[0]
    assert face.box == pytest.approx((14, -1, 26, 23))
    assert face.score == pytest.approx(0.9)
    np.testing.assert_allclose(face.landmarks, [[20, 5], [26, 5], [14, 11], [20, 23], [26, 23]], atol=1e-4)


def test_wrong_outputs_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    detector = CenterFace()
    monkeypatch.setattr(detector._network, "run", lambda blob: fake_maps(4, 4))
    with pytest.raises(RuntimeError, match=r"maps of \(4, 4\) cells, expected \(8, 16\)"):
        detector.detect([np.zeros((32, 64, 3), np.uint8)])


def test_bad_settings() -> None:
    with pytest.raises(ValueError, match="min_score is 0"):
        CenterFace(min_score=0)
    with pytest.raises(ValueError, match="max_side_px is 8"):
        CenterFace(max_side_px=8)


def test_three_people_of_the_shared_clip(shared_data: Path) -> None:
    import av

    with av.open(str(shared_data / "clips" / "intel_face-demographics-walking-and-pause.gif")) as clip:
        frame = next(frame for at, frame in enumerate(clip.decode(video=0)) if at == 20)
    found = CenterFace(min_score=0.4).detect([frame.to_ndarray(format="rgb24")])[0]
    centres = sorted((one.box[0] + one.box[2]) / 2 for one in found)
    assert centres == pytest.approx([82, 229, 371], abs=6)  # read off the frame
