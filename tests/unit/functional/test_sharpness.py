"""Gradient lengths by closed forms and against scikit-image and numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from skimage.color import rgb2gray
from torch import Tensor

from pa_lib.functional import gradient_length


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_ramp_is_as_steep_as_its_steps() -> None:
    x = torch.arange(6).view(1, 1, 1, 1, 6) * 0.03
    y = torch.arange(5).view(1, 1, 1, 5, 1) * 0.04
    frames = (x + y).expand(1, 2, 3, 5, 6)
    torch.testing.assert_close(gradient_length(frames), torch.full((1, 2), 0.05, dtype=torch.float64))


@given(st.integers(0, 10_000), st.integers(2, 8), st.integers(2, 8))
def test_equals_a_loop_in_numpy(seed: int, height: int, width: int) -> None:
    frames, mask = _random(1, 1, 3, height, width, seed=seed), _random(1, 1, 1, height, width, seed=seed + 1)
    grey = np.tensordot([0.299, 0.587, 0.114], frames[0, 0].double().numpy(), 1)
    m = mask[0, 0, 0].double().numpy()
    total = weight = 0.0
    for i in range(height - 1):
        for j in range(width - 1):
            here = m[i, j] * m[i + 1, j] * m[i, j + 1]
            total += here * np.hypot(grey[i, j + 1] - grey[i, j], grey[i + 1, j] - grey[i, j])
            weight += here
    assert float(gradient_length(frames, mask)) == pytest.approx(total / weight, rel=1e-4, abs=1e-7)


def test_grey_of_another_standard_is_near() -> None:
    frame = _random(16, 16, 3)
    grey = torch.from_numpy(rgb2gray(frame.numpy())).float()  # Rec. 709: other weights, much the same picture
    theirs = gradient_length(grey.expand(1, 1, 3, 16, 16))
    ours = gradient_length(frame.permute(2, 0, 1)[None, None])
    assert float(ours) == pytest.approx(float(theirs), rel=0.15)


def test_blur_shortens_it_and_the_edge_of_the_mask_does_not_count() -> None:
    frames = _random(1, 1, 3, 12, 12)
    blurred = torch.nn.functional.avg_pool2d(frames[0], 3, 1, 1, count_include_pad=False)[None]
    assert float(gradient_length(blurred)) < 0.5 * float(gradient_length(frames))
    mask = torch.zeros(1, 1, 1, 12, 12)
    mask[..., 3:9, 3:9] = 1
    torch.testing.assert_close(gradient_length(frames * mask, mask), gradient_length(frames[..., 3:9, 3:9]))


def test_eight_bit_pixels_are_taken_for_their_share_of_255() -> None:
    frames = (torch.arange(4) * 51).to(torch.uint8).expand(1, 1, 3, 4, 4)
    assert float(gradient_length(frames)) == pytest.approx(0.2)


def test_nothing_judged_is_no_value() -> None:
    assert gradient_length(_random(1, 2, 3, 4, 4), torch.zeros(1, 2, 1, 4, 4)).isnan().all()


def test_too_small_a_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 x 2"):
        gradient_length(torch.zeros(1, 1, 3, 1, 4))


@pytest.mark.wrong_types
def test_a_mask_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="mask has shape"):
        gradient_length(torch.zeros(1, 1, 3, 4, 4), torch.zeros(1, 1, 4, 4))
