"""The warping error against closed forms, against a loop in numpy, and against clips whose flow is exact."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from pa_lib.data import SyntheticDataModule
from pa_lib.functional.flow import stays_inside, warp
from pa_lib.functional.warping_error import temporal_warping_error


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def _uniform_flow(x: float, y: float, pairs: int, side: int) -> Tensor:
    return torch.tensor([x, y]).view(1, 1, 2, 1, 1).expand(1, pairs, 2, side, side)


def test_a_video_that_stands_still_has_no_error() -> None:
    frames = _random(2, 1, 3, 6, 6).expand(2, 4, 3, 6, 6)
    torch.testing.assert_close(
        temporal_warping_error(frames, torch.zeros(2, 3, 2, 6, 6)), torch.zeros(2, 3)
    )  # up to rounding


def test_flicker_of_amplitude_c_costs_c_squared() -> None:
    picture = 0.8 * _random(1, 1, 3, 5, 7)
    frames = torch.cat([picture, picture + 0.1], dim=1)
    torch.testing.assert_close(temporal_warping_error(frames, torch.zeros(1, 1, 2, 5, 7)), torch.tensor([[0.01]]))


@pytest.mark.parametrize(("x", "y"), [(2, 0), (0, -1), (-3, 2)])
def test_a_shift_by_whole_pixels_with_its_exact_flow_costs_nothing_off_the_border(x: int, y: int) -> None:
    picture = _random(3, 8, 8)
    frames = torch.stack([picture, picture.roll((y, x), (-2, -1))])[None]  # what leaves comes in again elsewhere
    torch.testing.assert_close(temporal_warping_error(frames, _uniform_flow(x, y, 1, 8)), torch.zeros(1, 1))
    assert float(temporal_warping_error(frames, torch.zeros(1, 1, 2, 8, 8))) > 0.01  # a frozen flow sees the motion


def test_warp_is_bilinear_and_clamps_to_the_border_as_a_loop_in_numpy_does() -> None:
    frame, flow = _random(3, 5, 6), 8 * _random(2, 5, 6, seed=1) - 4
    expected = np.zeros((3, 5, 6))
    for row in range(5):
        for column in range(6):
            x = min(max(column + float(flow[0, row, column]), 0), 5)
            y = min(max(row + float(flow[1, row, column]), 0), 4)
            left, top = int(x), int(y)
            right, bottom = min(left + 1, 5), min(top + 1, 4)
            a, b = x - left, y - top
            pixels = frame.numpy()
            above = (1 - a) * pixels[:, top, left] + a * pixels[:, top, right]
            below = (1 - a) * pixels[:, bottom, left] + a * pixels[:, bottom, right]
            expected[:, row, column] = (1 - b) * above + b * below
    np.testing.assert_allclose(warp(frame[None], flow[None])[0].numpy(), expected, atol=1e-5)


def test_what_leaves_the_picture_does_not_count() -> None:
    flow = _uniform_flow(2, 0, 1, 4)
    assert stays_inside(flow[0])[0, 0, 0].tolist() == [1, 1, 0, 0]
    assert torch.isnan(temporal_warping_error(_random(1, 2, 3, 4, 4), _uniform_flow(9, 0, 1, 4))).all()


def test_only_what_is_in_the_mask_at_both_ends_counts() -> None:
    frames = torch.zeros(1, 2, 3, 1, 4)
    frames[0, 1, :, 0] = torch.tensor([0.1, 0.2, 0.4, 0.8])
    mask = torch.tensor([[1.0, 1, 1, 0], [0, 1, 1, 1]]).view(1, 2, 1, 1, 4)
    still = torch.zeros(1, 1, 2, 1, 4)
    torch.testing.assert_close(temporal_warping_error(frames, still, mask), torch.tensor([[(0.2**2 + 0.4**2) / 2]]))
    moved = still.clone()
    moved[:, :, 0] = 1.0  # now pixels 0 to 2 look at 1 to 3, all of them in the mask
    expected = (0.2**2 + 0.4**2 + 0.8**2) / 3
    torch.testing.assert_close(temporal_warping_error(frames, moved, mask), torch.tensor([[expected]]))
    seen = torch.tensor([1.0, 0, 0, 1]).view(1, 1, 1, 1, 4)
    torch.testing.assert_close(temporal_warping_error(frames, moved, mask, seen), torch.tensor([[0.2**2]]))


def test_what_is_said_to_be_seen_counts_at_the_border_too_as_in_the_code_of_lai() -> None:
    frames = torch.zeros(1, 2, 3, 1, 4)
    frames[0, 1, :, 0] = torch.tensor([0.1, 0.2, 0.4, 0.8])
    moved = _uniform_flow(1, 0, 1, 4)[..., :1, :]
    for dtype in (torch.float32, torch.bool):
        seen = torch.tensor([1, 0, 0, 1]).to(dtype).view(1, 1, 1, 1, 4)
        errors = temporal_warping_error(frames, moved, None, seen)
        torch.testing.assert_close(errors, torch.tensor([[(0.2**2 + 0.8**2) / 2]]))


def test_per_pixel_is_three_times_lai() -> None:
    picture = 0.8 * _random(1, 1, 3, 5, 7)
    frames = torch.cat([picture, picture + 0.1], dim=1)
    errors = temporal_warping_error(frames, torch.zeros(1, 1, 2, 5, 7), convention="per_pixel")
    torch.testing.assert_close(errors, torch.tensor([[0.03]]))


def test_eight_bit_pixels_are_taken_for_their_share_of_255() -> None:
    frames = torch.full((1, 2, 3, 4, 4), 51, dtype=torch.uint8)
    frames[:, 1] = 102
    errors = temporal_warping_error(frames, torch.zeros(1, 1, 2, 4, 4))
    torch.testing.assert_close(errors, torch.tensor([[0.04]]))


def test_a_pair_without_anything_to_compare_is_no_perfect_score() -> None:
    mask = torch.ones(1, 3, 1, 4, 4)
    mask[:, 2] = 0
    errors = temporal_warping_error(_random(1, 3, 3, 4, 4), torch.zeros(1, 2, 2, 4, 4), mask)
    assert torch.isnan(errors).tolist() == [[False, True]]


def test_made_clips_hardly_differ_along_their_exact_flow() -> None:
    data = SyntheticDataModule(n_clips=4, n_frames=3, side=64, batch_size=4, val_share=0)
    batch = next(iter(data.train_dataloader()))
    inside = (batch.masks >= 0.99).float()
    along = temporal_warping_error(batch.frames, batch.flow, inside).mean()
    frozen = temporal_warping_error(batch.frames, torch.zeros_like(batch.flow), inside).mean()
    assert float(along) < 0.2 * float(frozen)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((1, 1, 3, 4, 4), (1, 0, 2, 4, 4), (1, 1, 1, 4, 4), (1, 0, 1, 4, 4)), "at least 2 frames"),
        pytest.param(
            ((1, 2, 3, 4, 4), (1, 2, 2, 4, 4), (1, 2, 1, 4, 4), (1, 1, 1, 4, 4)),
            "flow has shape",
            marks=pytest.mark.wrong_types,
        ),
        pytest.param(
            ((1, 2, 3, 4, 4), (1, 1, 2, 4, 4), (1, 1, 1, 4, 4), (1, 1, 1, 4, 4)),
            "mask has shape",
            marks=pytest.mark.wrong_types,
        ),
        pytest.param(
            ((1, 2, 3, 4, 4), (1, 1, 2, 4, 4), (1, 2, 1, 4, 4), (1, 2, 1, 4, 4)),
            "visible has shape",
            marks=pytest.mark.wrong_types,
        ),
    ],
)
def test_shapes_that_do_not_fit_are_refused(shapes: tuple[tuple[int, ...], ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        temporal_warping_error(*(torch.zeros(shape) for shape in shapes))


@pytest.mark.wrong_types
def test_an_unknown_convention_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one of lai, per_pixel"):
        temporal_warping_error(torch.zeros(1, 2, 3, 4, 4), torch.zeros(1, 1, 2, 4, 4), convention="rgb")  # type: ignore
