from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pa_lib.functional import kernel_video_distance
from pa_lib.functional.kvd import paired_terms


def drawn(n: int, d: int, seed: int, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, d))) * scale + shift


def by_loops(x: Tensor, y: Tensor, degree: int, scale: float, *, is_paired: bool) -> float:
    """The sums of the definition, one term after the other."""

    def k(a: Tensor, b: Tensor) -> float:
        return float((scale * float(a @ b) + 1) ** degree)

    n, m = len(x), len(y)
    value = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    value += sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    pairs = [(i, j) for i in range(n) for j in range(m) if not (is_paired and i == j)]
    return value - 2 * sum(k(x[i], y[j]) for i, j in pairs) / len(pairs)


class TestKernelVideoDistance:
    @given(st.integers(2, 6), st.integers(2, 6), st.integers(1, 5), st.integers(1, 4), st.booleans())
    @settings(max_examples=30, deadline=None)
    def test_is_the_definition(self, n: int, m: int, d: int, degree: int, is_paired: bool) -> None:
        x, y = drawn(n, d, 1), drawn(n if is_paired else m, d, 2, 1.5, 0.2)
        for scale in (None, 0.7):
            expected = by_loops(x, y, degree, 1 / d if scale is None else scale, is_paired=is_paired)
            told = float(kernel_video_distance(x, y, degree, scale, is_paired=is_paired))
            assert told == pytest.approx(expected, rel=1e-9, abs=1e-9)

    def test_agrees_with_torchmetrics(self) -> None:
        from torchmetrics.image.kid import poly_mmd

        x, y = drawn(30, 7, 1), drawn(30, 7, 2, 1.3)
        assert float(kernel_video_distance(x, y)) == pytest.approx(float(poly_mmd(x, y)), rel=1e-9)

    def test_has_no_bias_at_few_clips(self) -> None:
        # Degree 1 knows the closed form: scale times the square of the means' distance, here 3 * 0.5^2 / 3.
        values = [float(kernel_video_distance(drawn(3, 3, s), drawn(3, 3, s + 10**6, 1, 0.5), 1)) for s in range(4000)]
        assert np.mean(values) == pytest.approx(0.25, abs=4 * np.std(values) / len(values) ** 0.5)

    def test_pairs_have_no_bias_where_independent_sets_would(self) -> None:
        # y = x + 0.5: every pair says 0.25 / 3 times 3, and the other statistic is off by the pairs' likeness.
        paired, apart = [], []
        for seed in range(2000):
            x = drawn(4, 3, seed)
            paired.append(float(kernel_video_distance(x, x + 0.5, 1, is_paired=True)))
            apart.append(float(kernel_video_distance(x, x + 0.5, 1)))
        assert np.allclose(paired, 0.25, atol=1e-12)
        assert np.mean(apart) == pytest.approx(0.25 - 2 / 4, abs=0.05)  # 2 / n times the features' variance, 1

    def test_of_equal_pairs_is_zero(self) -> None:
        x = drawn(20, 5, 1)
        assert float(kernel_video_distance(x, x.clone(), is_paired=True)) == 0.0

    @given(st.integers(0, 1000))
    @settings(max_examples=20, deadline=None)
    def test_is_symmetric_and_blind_to_order(self, seed: int) -> None:
        x, y = drawn(6, 3, seed), drawn(6, 3, seed + 1, 2.0)
        order = torch.from_numpy(np.random.default_rng(seed).permutation(6))
        for is_paired in (False, True):
            value = float(kernel_video_distance(x, y, is_paired=is_paired))
            assert float(kernel_video_distance(y, x, is_paired=is_paired)) == pytest.approx(value, rel=1e-9)
            shuffled = float(kernel_video_distance(x[order], y[order], is_paired=is_paired))
            assert shuffled == pytest.approx(value, rel=1e-9)

    @pytest.mark.parametrize(
        ("x", "y", "is_paired", "message"),
        [
            (torch.zeros(1, 3), torch.zeros(4, 3), False, "source: 1 clips, expected at least 2"),
            pytest.param(
                torch.zeros(3, 3),
                torch.zeros(4, 3),
                True,
                "3 source and 4 anonymized clips are no pairs",
                marks=pytest.mark.wrong_types,
            ),
            pytest.param(
                torch.zeros(3, 3),
                torch.zeros(4, 2),
                False,
                "3 dimensions and anonymized 2",
                marks=pytest.mark.wrong_types,
            ),
            pytest.param(torch.zeros(3), torch.zeros(3), False, "floats of shape n d", marks=pytest.mark.wrong_types),
            (torch.zeros(3, 3), torch.full((3, 3), torch.inf), False, "anonymized holds NaN"),
        ],
    )
    def test_refuses(self, x: Tensor, y: Tensor, is_paired: bool, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            kernel_video_distance(x, y, is_paired=is_paired)


def test_paired_terms_are_symmetric_and_give_the_distance() -> None:
    x, y = drawn(7, 3, 1), drawn(7, 3, 2)
    terms = paired_terms(x, y)
    assert torch.allclose(terms, terms.T, atol=1e-12)
    off = terms.sum() - terms.diagonal().sum()
    assert float(off / 42) == pytest.approx(float(kernel_video_distance(x, y, is_paired=True)), rel=1e-12)
