"""Face or back: what a good part of the moments says, and nothing that a single one does."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pa_lib.people.facing import is_facing

N = 60
TIMES = np.arange(N) / 10
NONE = np.full(N, np.nan)


def seen(score: float, *rows: int) -> np.ndarray:
    scores = NONE.copy()
    scores[list(rows)] = score
    return scores


@given(st.integers(0, N - 1), st.floats(0.51, 0.65))
def test_a_single_face_on_the_back_of_a_head_is_not_believed(at: int, score: float) -> None:
    bodies, faces = np.ones(N), seen(score, at)
    assert not is_facing(faces, bodies, np.full(N, 40.0), TIMES).any()


@given(st.sets(st.integers(1, N - 2), max_size=15))
def test_a_face_that_is_lost_now_and_then_is_still_there(lost: set[int]) -> None:
    rows = [at for at in range(N) if at not in lost]
    assert is_facing(seen(0.8, *rows), np.ones(N), np.full(N, 40.0), TIMES).mean() > 0.9


def test_somebody_turns_around_where_the_face_comes_into_view() -> None:
    got = is_facing(seen(0.7, *range(30, 60)), np.ones(N), np.full(N, 40.0), TIMES)
    assert not got[:25].any()
    assert got[32:].all()
    assert np.abs(np.diff(got.astype(int))).sum() == 1


def test_a_face_that_was_too_small_to_be_found_was_there_all_along() -> None:
    got = is_facing(seen(0.7, *range(40, 60)), np.ones(N), np.linspace(6, 24, N), TIMES)
    assert got.all()
    # Large enough to be found, and not found: seen from behind until then.
    assert not is_facing(seen(0.7, *range(40, 60)), np.ones(N), np.full(N, 32.0), TIMES)[:30].any()


def test_a_face_without_a_body_is_believed_and_nobody_has_none() -> None:
    assert is_facing(seen(0.6, 5), NONE, NONE, TIMES).all()
    assert not is_facing(NONE, np.ones(N), np.full(N, 40.0), TIMES).any()
    assert not is_facing(NONE, NONE, NONE, TIMES).any()


@given(st.integers(0, 1000))
def test_time_may_run_backwards(seed: int) -> None:
    """Both directions count alike."""
    generator = np.random.default_rng(seed)
    faces = np.where(generator.random(N) < 0.4, generator.random(N), np.nan)
    times = np.cumsum(generator.random(N) + 0.01)
    one = is_facing(faces, np.ones(N), np.full(N, 40.0), times)
    two = is_facing(faces[::-1], np.ones(N), np.full(N, 40.0), (times[-1] - times)[::-1])
    np.testing.assert_array_equal(one, two[::-1])
