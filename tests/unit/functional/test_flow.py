"""The masks of what flow does not explain, against loops in numpy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from pa_lib.functional import flow_inconsistency, motion_boundaries, occlusion


def _smooth_flow(seed: int, height: int, width: int, scale: float) -> Tensor:
    random = torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(seed)) * scale
    return torch.nn.functional.interpolate(random, (height, width), mode="bicubic")


def _sampled(field: NDArray[np.float64], x: float, y: float) -> NDArray[np.float64]:
    height, width = field.shape[1:]
    x, y = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
    left, top = int(x), int(y)
    right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
    a, b = x - left, y - top
    above = (1 - a) * field[:, top, left] + a * field[:, top, right]
    below = (1 - a) * field[:, bottom, left] + a * field[:, bottom, right]
    mixed: NDArray[np.float64] = (1 - b) * above + b * below
    return mixed


def _reference(forward: Tensor, backward: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How far beyond each threshold every pixel is, by loops: inconsistency, then motion boundary."""
    w, v = forward[0].double().numpy(), backward[0].double().numpy()
    height, width = w.shape[1:]
    beyond = np.zeros((2, height, width))
    for i in range(height):
        for j in range(width):
            back = _sampled(v, j + w[0, i, j], i + w[1, i, j])
            there = w[:, i, j]
            squares = sum(back**2) + sum(there**2)
            beyond[0, i, j] = sum((back + there) ** 2) - (0.01 * squares + 0.5)
            gradient = sum((w[:, i, j + 1] - there) ** 2) if j + 1 < width else 0.0
            gradient += sum((w[:, i + 1, j] - there) ** 2) if i + 1 < height else 0.0
            beyond[1, i, j] = gradient - (0.01 * sum(there**2) + 0.002)
    return beyond[0], beyond[1]


@given(st.integers(0, 10_000), st.floats(0.01, 3), st.integers(2, 9), st.integers(2, 9))
def test_masks_are_those_of_loops_in_numpy(seed: int, scale: float, height: int, width: int) -> None:
    forward, backward = (_smooth_flow(2 * seed + end, height, width, scale) for end in (0, 1))
    inconsistent, boundary = _reference(forward, backward)
    clear = (np.abs(inconsistent) > 1e-4) & (np.abs(boundary) > 1e-5)  # rounding decides the others
    told = occlusion(forward, backward)[0, 0].numpy()
    np.testing.assert_array_equal(told[clear], ((inconsistent > 0) | (boundary > 0))[clear])


def test_way_there_and_back_may_differ_by_a_constant_and_a_hundredth_of_the_squares() -> None:
    def is_inconsistent(there: float, back: float) -> bool:
        flow = torch.tensor([there, 0.0]).view(1, 2, 1, 1)
        return bool(flow_inconsistency(flow, torch.tensor([back, 0.0]).view(1, 2, 1, 1)))

    # 0.7^2 = 0.49 and 0.71^2 = 0.5041 about 0.5 + 0.01 * 0.49 = 0.5049 and 0.505041; 0.72^2 = 0.5184 about 0.505184
    assert [is_inconsistent(there, 0.0) for there in (0.7, 0.71, 0.72)] == [False, False, True]
    # Way 10, back -9: 1 about 0.01 * 181 + 0.5 = 2.31; back -8.3: 2.89 about 0.01 * 168.89 + 0.5 = 2.19
    assert [is_inconsistent(10.0, back) for back in (-9.0, -8.3)] == [False, True]


def test_flow_may_change_by_the_root_of_a_constant_where_nothing_moves() -> None:
    def edges(step: float) -> list[bool]:
        flow = torch.zeros(1, 2, 1, 3)
        flow[0, 0, 0, 1:] = step
        return motion_boundaries(flow)[0, 0, 0].tolist()

    assert edges(0.044) == [False, False, False]  # 0.044^2 = 0.001936 < 0.002
    assert edges(0.046) == [True, False, False]  # 0.046^2 = 0.002116


def test_a_shift_there_and_back_hides_nothing_but_what_goes_astray() -> None:
    shift = torch.tensor([3.0, -2.0]).view(1, 2, 1, 1).expand(1, 2, 8, 8)
    assert not occlusion(shift, -shift).any()
    assert occlusion(shift, torch.zeros_like(shift)).all()


@pytest.mark.wrong_types
@pytest.mark.parametrize("shape", [(2, 4, 4), (1, 3, 4, 4)])
def test_flow_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    for function in (motion_boundaries, lambda flow: occlusion(flow, flow)):
        with pytest.raises(ValueError, match="expected n 2 h w"):
            function(torch.zeros(shape))


@pytest.mark.wrong_types
def test_flows_that_differ_in_size_are_refused() -> None:
    with pytest.raises(ValueError, match="expected the same twice"):
        occlusion(torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 5))
