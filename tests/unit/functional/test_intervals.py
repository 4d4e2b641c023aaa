from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from pa_lib.functional import jackknife_interval, resampled_interval, t_interval, wilson_interval
from pa_lib.functional.intervals import wilson_of_mean, within


class TestTInterval:
    def test_is_scipys(self) -> None:
        values = np.random.default_rng(0).normal(3, 2, 7)
        expected = scipy.stats.t.interval(0.95, 6, values.mean(), scipy.stats.sem(values))
        assert t_interval(torch.from_numpy(values)) == pytest.approx(expected)

    @pytest.mark.parametrize("values", [[], [1.0], [1.0, float("inf")], [1.0, float("nan")]])
    def test_says_nothing_where_there_is_nothing_to_say(self, values: list[float]) -> None:
        assert t_interval(torch.tensor(values)) is None


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_scipys(case: tuple[int, int]) -> None:
    hits, n = case
    expected = binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson_interval(hits, n) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_wilson_at_the_ends() -> None:
    assert all(math.isnan(end) for end in wilson_interval(0, 0))
    with pytest.raises(ValueError, match="3 hits of 2"):
        wilson_interval(3, 2)


@given(st.lists(st.floats(0, 1), max_size=9))
def test_wilson_of_a_mean_takes_its_rates_for_trials(rates: list[float]) -> None:
    told = wilson_of_mean(torch.tensor(rates, dtype=torch.float64))
    assert (told is None) == (not rates)
    if told is not None:
        assert told == pytest.approx(wilson_interval(math.fsum(rates), len(rates)), abs=1e-9)


def test_within_cuts_both_ends() -> None:
    assert within((-1.0, 2.0), 0.0, 1.0) == (0.0, 1.0)
    assert within((0.2, 0.3), 0.0, 1.0) == (0.2, 0.3)
    assert within(None, 0.0, 1.0) is None


class TestJackknife:
    def test_of_a_mean_is_students(self) -> None:
        values = torch.from_numpy(np.random.default_rng(1).normal(3, 2, 9))
        without = (values.sum() - values) / 8
        assert jackknife_interval(without, float(values.mean())) == pytest.approx(t_interval(values))

    def test_of_one_group_there_is_none(self) -> None:
        assert jackknife_interval(torch.ones(1), 1.0) is None


class TestResampled:
    def test_of_a_mean_is_nearly_students(self) -> None:
        values = torch.from_numpy(np.random.default_rng(2).normal(0, 1, 200))
        mean = float(values.mean())
        told = resampled_interval(lambda rows: float(values[rows].mean()), torch.arange(200), mean, 2000)
        assert told == pytest.approx(t_interval(values), abs=0.02)

    def test_groups_are_drawn_whole(self) -> None:
        groups = torch.tensor([0, 0, 1, 1, 1])
        seen = []

        def count(rows: torch.Tensor) -> float:
            seen.append(tuple(torch.bincount(rows, minlength=5).tolist()))
            return 0.0

        resampled_interval(count, groups, 0.0, 20)
        assert set(seen) <= {(n, n, 2 - n, 2 - n, 2 - n) for n in range(3)}
        assert len(set(seen)) > 1

    @pytest.mark.parametrize(("groups", "resamples"), [([0, 0, 0], 9), ([0, 1], 0), ([], 9)])
    def test_says_nothing_of_one_group_or_no_draws(self, groups: list[int], resamples: int) -> None:
        assert resampled_interval(lambda rows: 0.0, torch.tensor(groups), 0.0, resamples) is None
