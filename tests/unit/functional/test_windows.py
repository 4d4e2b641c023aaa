"""Windows cover every frame, and their average is one."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pa_lib.functional.windows import blend, blend_weights, window_starts

WINDOWS = st.integers(1, 12).flatmap(lambda window: st.tuples(st.just(window), st.integers(0, window - 1)))


@given(st.integers(1, 60), WINDOWS)
def test_windows_cover_all_frames_with_the_overlap_and_end_at_the_end(n: int, sizes: tuple[int, int]) -> None:
    window, overlap = sizes
    starts = window_starts(n, window, overlap)
    if n <= window:
        assert starts == [0]
        return
    assert starts[0] == 0
    assert starts[-1] == n - window
    steps = [following - start for start, following in itertools.pairwise(starts)]
    assert all(1 <= step <= window - overlap for step in steps)


@settings(deadline=None)
@given(st.integers(1, 40), WINDOWS, st.integers(0, 2))
def test_the_average_is_a_partition_of_unity(n: int, sizes: tuple[int, int], dim: int) -> None:
    shape = [2, 3, 2]

    def ones(frames: slice) -> torch.Tensor:
        shape[dim] = frames.stop - frames.start
        return torch.ones(shape)

    blended = blend(ones, n, *sizes, dim=dim)
    assert blended.shape[dim] == n
    assert torch.equal(blended, torch.ones_like(blended))


@settings(deadline=None)
@given(st.integers(1, 40), WINDOWS)
def test_what_is_predicted_frame_by_frame_comes_back(n: int, sizes: tuple[int, int]) -> None:
    truth = torch.randn(2, n, 3, 1, 1, generator=torch.Generator().manual_seed(n))
    torch.testing.assert_close(blend(lambda frames: truth[:, frames], n, *sizes), truth, rtol=1e-6, atol=1e-6)


def test_where_windows_disagree_the_pyramid_decides() -> None:
    # Two windows of 4 over 6 frames share frames 2 and 3; the first says 0, the second 1.
    blended = blend(lambda frames: torch.full((4,), float(frames.start > 0)), 6, 4, 2, dim=0)
    # frame 2: weights 2 (third of the first window) and 1 (first of the second); frame 3: 1 and 2
    torch.testing.assert_close(blended, torch.tensor([0, 0, 1 / 3, 2 / 3, 1, 1]))
    assert blend_weights(1).tolist() == [1]


def test_a_short_clip_is_predicted_once_and_given_back_as_it_is() -> None:
    seen: list[slice] = []
    truth = torch.randn(1, 3, 2).bfloat16()

    def predict(frames: slice) -> torch.Tensor:
        seen.append(frames)
        return truth

    assert blend(predict, 3, 8, 4) is truth
    assert seen == [slice(0, 3)]


def test_the_type_of_the_predictions_is_kept() -> None:
    assert blend(lambda frames: torch.ones(1, 4).bfloat16(), 9, 4, 2).dtype == torch.bfloat16


@pytest.mark.parametrize(("n", "window", "overlap"), [(0, 4, 1), (5, 0, 0), (5, 4, 4), (5, 4, -1)])
def test_senseless_windows_are_refused(n: int, window: int, overlap: int) -> None:
    with pytest.raises(ValueError, match="expected n >= 1"):
        window_starts(n, window, overlap)


def test_a_prediction_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="window of 4 frames was predicted as 3"):
        blend(lambda frames: torch.ones(1, 3), 9, 4, 2)
