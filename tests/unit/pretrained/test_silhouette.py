from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pa_lib.pretrained import SelfieSegmentation


def test_real_person(portrait: Any) -> None:
    ((top, left, alpha),) = SelfieSegmentation().silhouette(portrait.image, [(15, 14, 375, 512)])
    assert alpha.dtype == np.float32
    assert 0 <= alpha.min() <= alpha.max() <= 1
    whole = np.zeros((512, 512), np.float32)
    whole[top : top + alpha.shape[0], left : left + alpha.shape[1]] = alpha
    # Read off the picture: face, hair, chest and arm; and flag, wall and shuttle.
    for x, y in [(225, 120), (175, 60), (180, 400), (60, 330)]:
        assert whole[y, x] > 0.9
    for x, y in [(20, 60), (110, 60), (330, 60), (440, 100)]:
        assert whole[y, x] < 0.1


@pytest.mark.parametrize(
    "box", [(-50, -80, 120, 200), (400, 300, 700, 900), (100.3, 40.7, 101.2, 41.1), (-300, -300, 900, 900)]
)
def test_result_lies_inside_the_image(portrait: Any, box: tuple[float, float, float, float]) -> None:
    ((top, left, alpha),) = SelfieSegmentation().silhouette(portrait.image, [box])
    assert top >= 0
    assert left >= 0
    assert top + alpha.shape[0] <= 512
    assert left + alpha.shape[1] <= 512
    assert alpha.size > 0
    x0, y0, x1, y1 = (np.clip(value, 0, 512) for value in box)
    assert left <= x0
    assert top <= y0
    assert left + alpha.shape[1] >= np.floor(x1)
    assert top + alpha.shape[0] >= np.floor(y1)


def test_box_outside_the_image_has_no_pixels(portrait: Any) -> None:
    ((_, _, alpha),) = SelfieSegmentation().silhouette(portrait.image, [(900, 900, 950, 990)])
    assert alpha.size == 0


def test_same_place_at_twice_the_size(portrait: Any) -> None:
    network = SelfieSegmentation(margin=0)
    large = portrait.image.repeat(2, 0).repeat(2, 1)
    ((top, left, small),) = network.silhouette(portrait.image, [(100, 0, 356, 256)])
    ((top2, left2, twice),) = network.silhouette(large, [(200, 0, 712, 512)])
    assert (top2, left2) == (2 * top, 2 * left)
    assert twice.shape == (512, 512)
    assert np.abs(twice.reshape(256, 2, 256, 2).mean((1, 3)) - small).mean() < 0.01


@pytest.mark.parametrize("box", [(5, 5, 5, 9), (9, 5, 5, 9), (0, 0, float("nan"), 9)])
def test_box_without_area(portrait: Any, box: tuple[float, float, float, float]) -> None:
    with pytest.raises(ValueError, match="has no area"):
        SelfieSegmentation().silhouette(portrait.image, [box])


def test_wrong_output_is_an_error(portrait: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    network = SelfieSegmentation()
    monkeypatch.setattr(network._network, "run", lambda blob: {"silhouette": np.zeros((1, 8, 8, 1), np.float32)})
    with pytest.raises(RuntimeError, match="gave shape"):
        network.silhouette(portrait.image, [(0, 0, 50, 50)])
    with pytest.raises(ValueError, match="margin is 3"):
        SelfieSegmentation(margin=3)
