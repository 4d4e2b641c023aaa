from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pa_lib.functional.boxes import box_overlaps
from pa_lib.pretrained import NanoDet


def fake_outputs(rows: int, columns: int) -> dict[str, NDArray[np.float32]]:
    outputs = {}
    for stride in (8, 16, 32):
        cells = (rows // stride) * (columns // stride)
        outputs[f"scores_{stride}"] = np.zeros((1, cells, 1), np.float32)
        outputs[f"distances_{stride}"] = np.zeros((1, cells, 44), np.float32)
    return outputs


def test_real_person(portrait: Any) -> None:
    found = NanoDet(min_score=0.5).detect([portrait.image])[0]
    assert [one.kind for one in found] == ["body"]
    # Read off the picture: hair at 14, left sleeve at 15, the right arm ends at 375; the suit leaves the picture below.
    assert box_overlaps(np.array([found[0].box]), np.array([[15, 14, 375, 512]]))[0, 0] > 0.85
    assert found[0].landmarks is None


@pytest.mark.parametrize("side_px", [256, 416, 700])
def test_box_is_in_pixels_of_the_frame_at_any_size(portrait: Any, side_px: int) -> None:
    frame = np.zeros((512, 900, 3), np.uint8)
    frame[:, 300:812] = portrait.image
    found = NanoDet(min_score=0.4).detect([frame], side_px=side_px)[0]
    assert box_overlaps(np.array([found[0].box]), np.array([[315, 14, 675, 512]]))[0, 0] > 0.75


def test_decoding_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = fake_outputs(64, 96)
    cell = 1 * 6 + 2  # stride 16: row 1, column 2: centre x 40, y 24
    outputs["scores_16"][0, cell] = 0.7
    logits = np.full((4, 11), -50, np.float32)
    for side, (low, high) in enumerate([(1, 1), (0, 1), (2, 2), (0, 0)]):  # left, top, right, bottom, in strides
        logits[side, [low, high]] = 3
    outputs["distances_16"][0, cell] = logits.reshape(-1)
    detector = NanoDet(side_px=96)
    monkeypatch.setattr(detector._network, "run", lambda blob: outputs)
    (person,) = detector.detect([np.zeros((128, 192, 3), np.uint8)])[0]  # seen at half its size
    assert person.box == pytest.approx((2 * (40 - 16), 2 * (24 - 8), 2 * (40 + 32), 2 * 24), abs=1e-3)
    assert person.score == pytest.approx(0.7)


def test_network_is_given_bgr_normalised_and_padded_with_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def run(blob: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        seen.append(blob)
        return fake_outputs(*blob.shape[2:])

    detector = NanoDet(side_px=64)
    monkeypatch.setattr(detector._network, "run", run)
    assert detector.detect([np.full((40, 64, 3), (255, 0, 100), np.uint8)]) == [[]]
    assert seen[0].shape == (1, 3, 64, 64)
    expected = [(100 - 103.53) / 57.375, -116.28 / 57.12, (255 - 123.675) / 58.395]
    assert seen[0][0, :, 39, 63] == pytest.approx(expected, abs=1e-5)
    assert not seen[0][0, :, 40:].any()


def test_wrong_outputs_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    detector = NanoDet(side_px=96)
    monkeypatch.setattr(detector._network, "run", lambda blob: fake_outputs(32, 32))
    with pytest.raises(RuntimeError, match="gave 16 cells at stride 8, expected 96"):
        detector.detect([np.zeros((64, 96, 3), np.uint8)])


def test_bad_settings() -> None:
    with pytest.raises(ValueError, match=r"min_score is 1\.5"):
        NanoDet(min_score=1.5)
    with pytest.raises(ValueError, match="side_px is 8"):
        NanoDet(side_px=8)
