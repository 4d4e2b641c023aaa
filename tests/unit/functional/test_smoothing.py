"""Lines around every moment: they leave lines alone, average jitter, follow motion, and find single wild values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pa_lib.functional.smoothing import local_lines, outliers, smoothed, steadied


def test_the_lines_are_those_of_weighted_least_squares() -> None:
    times = torch.tensor([0.0, 1.0, 2.5, 3.0, 6.0], dtype=torch.float64)
    values = torch.tensor([[1.0], [4.0], [2.0], [0.0], [5.0]], dtype=torch.float64)
    trust = torch.tensor([1.0, 0.5, 1.0, 0.0, 2.0], dtype=torch.float64)
    got = local_lines(times, 1.3, trust) @ values
    for at, time in enumerate(times.tolist()):
        ahead = times.numpy() - time
        weight = np.where(np.abs(ahead) <= 3.9, np.exp(-((ahead / 1.3) ** 2) / 2), 0) * trust.numpy()
        expected = np.polyfit(ahead, values.numpy()[:, 0], 1, w=np.sqrt(weight))[1]
        assert float(got[at, 0]) == pytest.approx(expected)


@given(st.floats(-5, 5), st.floats(-100, 100), st.integers(1, 60), st.randoms())
def test_a_straight_line_stays_itself(slope: float, start: float, n: int, random) -> None:  # type: ignore[no-untyped-def]
    times = torch.tensor([random.uniform(0.5, 1.5) for _ in range(n)], dtype=torch.float64).cumsum(0)
    values = torch.stack([start + slope * times, start - slope * times], 1)
    torch.testing.assert_close(smoothed(times, values), values, atol=1e-8, rtol=1e-8)
    assert not outliers(times, values, torch.tensor([1e-6, 1e-6], dtype=torch.float64)).any()


@given(st.integers(0, 10_000))
def test_jitter_around_a_line_shrinks(seed: int) -> None:
    times = torch.arange(80, dtype=torch.float64)
    line = (0.7 * times)[:, None]
    noise = torch.randn(80, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    assert float((smoothed(times, line + noise) - line).pow(2).mean()) < 0.6 * float(noise.pow(2).mean())


def test_nodding_is_followed() -> None:
    """Two nods a second at 25 frames a second, without jitter: nine tenths of it stay."""
    times = torch.arange(100, dtype=torch.float64) / 25
    nods = torch.sin(2 * torch.pi * 2 * times)[:, None]
    assert float((smoothed(times, nods) - nods).abs().max()) < 0.1


def test_long_series_are_smoothed_as_short_ones() -> None:
    """Blocks leave no seams: the middle of a long series is what it is by itself."""
    times = torch.arange(1400, dtype=torch.float64)
    values = torch.randn(1400, 1, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    whole = local_lines(times, 5.0) @ values
    torch.testing.assert_close(smoothed(times, values), whole)


@pytest.mark.parametrize("at", range(12))
def test_a_single_wild_value_is_found_wherever_it_is(at: int) -> None:
    times = torch.arange(12, dtype=torch.float64)
    values = torch.stack([times * 2, 0.3 * times**2], 1)
    values[at, 1] += 40
    expected = [index == at for index in range(12)]
    assert outliers(times, values, torch.tensor([1.0, 1.0], dtype=torch.float64)).tolist() == expected


def test_fast_motion_is_not_wild() -> None:
    times = torch.arange(30, dtype=torch.float64)
    swing = (20 * torch.sin(times / 2))[:, None]
    assert not outliers(times, swing, torch.tensor([1.0], dtype=torch.float64)).any()
    start = torch.where(times < 15, 0.0, (times - 15) * 1.5)[:, None]  # begins to move at once
    assert not outliers(times, start, torch.tensor([1.0], dtype=torch.float64)).any()


@given(st.floats(-5, 5), st.floats(-100, 100), st.integers(1, 60), st.floats(0.5, 20))
def test_a_line_stays_steady_whatever_the_reach(slope: float, start: float, n: int, sigma: float) -> None:
    times = torch.arange(n, dtype=torch.float64)
    torch.testing.assert_close(steadied(times, start + slope * times, sigma), start + slope * times)


@given(st.integers(0, 1000), st.integers(2, 37))
def test_what_lies_far_off_for_a_moment_counts_little(seed: int, at: int) -> None:
    times = torch.arange(40, dtype=torch.float64)
    noise = 0.1 * torch.randn(40, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    wild = noise.clone()
    wild[at] += 8
    plain = (local_lines(times, 4.0) @ wild - local_lines(times, 4.0) @ noise).abs().max()
    assert float((steadied(times, wild, 4.0) - steadied(times, noise, 4.0)).abs().max()) < 0.2 * float(plain)
