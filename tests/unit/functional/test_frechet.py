from __future__ import annotations

import mpmath
import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pa_lib.functional import frechet_distance, gaussian_frechet_distance
from pa_lib.functional.frechet import mean_and_covariance


def drawn(n: int, d: int, seed: int = 0, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, d))) * scale + shift


def rotation(d: int, seed: int = 9) -> Tensor:
    return torch.linalg.qr(drawn(d, d, seed)).Q


def from_sums(x: Tensor, y: Tensor, ddof: int = 0, *, is_ranked: bool = True) -> float:
    first = mean_and_covariance(x.sum(0), x.T @ x, len(x), ddof)
    other = mean_and_covariance(y.sum(0), y.T @ y, len(y), ddof)
    return float(
        gaussian_frechet_distance(*first, *other, ranks=(len(x) - 1, len(y) - 1) if is_ranked else (None, None))
    )


def exactly(x: Tensor, y: Tensor, ddof: int = 0) -> float:
    """The definition with 60 digits: roots by eigenvectors, of covariances that are summed with 60 digits too."""
    with mpmath.workdps(60):
        parts = []
        for features in (x, y):
            rows = mpmath.matrix(features.tolist())
            n, d = rows.rows, rows.cols
            mean = [mpmath.fsum(rows[:, at]) / n for at in range(d)]
            less = mpmath.matrix(n, d)
            for i in range(n):
                for j in range(d):
                    less[i, j] = rows[i, j] - mean[j]
            parts.append((mean, (less.T * less) / (n - ddof)))
        (mean, one), (other_mean, other) = parts
        values, vectors = mpmath.eigsy(one)
        root = vectors * mpmath.diag([mpmath.sqrt(max(value, 0)) for value in values]) * vectors.T
        inner = mpmath.eigsy(root * other * root, eigvals_only=True)
        root_trace = mpmath.fsum(mpmath.sqrt(max(value, 0)) for value in inner)
        apart = mpmath.fsum((a - b) ** 2 for a, b in zip(mean, other_mean, strict=True))
        traces = mpmath.fsum(one[i, i] + other[i, i] for i in range(one.rows))
        return float(apart + traces - 2 * root_trace)


def hadamard(n: int) -> Tensor:
    """Columns of 1 and -1, orthogonal, all but the first with mean 0."""
    return torch.from_numpy(scipy.linalg.hadamard(n).astype(float))


class TestFrechetVideoDistance:
    @pytest.mark.parametrize("n", [2, 3, 5, 16, 64])
    @pytest.mark.parametrize("ddof", [0, 1])
    def test_is_the_definition_with_60_digits(self, n: int, ddof: int) -> None:
        x, y = drawn(n, 8, 1), drawn(n + 1, 8, 2, scale=1.5, shift=0.3)
        assert abs(float(frechet_distance(x, y, ddof)) - exactly(x, y, ddof)) <= 1e-9

    @pytest.mark.parametrize("n", [2, 4, 16, 128, 512, 2048])
    def test_is_exact_for_known_roots(self, n: int) -> None:
        # Columns of a Hadamard matrix times whole numbers: covariances are diagonal, a^2 and b^2, so the distance is
        # |m|^2 + sum (a - b)^2; the rotation changes nothing.
        d = 64
        a, b = torch.arange(1.0, d + 1).double(), torch.arange(d, 0.0, -1).double() / 4
        x, y = torch.zeros(n, d).double(), torch.zeros(n, d).double()
        used = min(n - 1, d)
        x[:, :used] = hadamard(n)[:, 1 : used + 1] * a[:used]
        y[:, :used] = hadamard(n)[:, 1 : used + 1] * b[:used] + 2
        expected = float((a[:used] - b[:used]).square().sum()) + 4 * used
        turn = rotation(d)
        assert abs(float(frechet_distance(x @ turn, y @ turn)) - expected) <= 1e-9

    @pytest.mark.parametrize("n", [2, 8, 64, 512, 2048])
    def test_of_equal_sets_is_zero(self, n: int) -> None:
        x = drawn(n, 100, shift=3.0)
        assert abs(float(frechet_distance(x, x.clone()))) <= 1e-9
        assert abs(float(frechet_distance(x, x[torch.arange(n - 1, -1, -1)]))) <= 1e-9
        single = x.float()  # the square root of a product of matrices gives -13 here at n = 2
        assert abs(float(frechet_distance(single, single))) <= 1e-9

    def test_comes_to_the_closed_form_of_two_gaussians(self) -> None:
        d, s, m = 4, 2.0, 0.5
        x, y = drawn(200_000, d, 1), drawn(200_000, d, 2, scale=s, shift=m)
        assert float(frechet_distance(x, y)) == pytest.approx(d * m**2 + d * (s - 1) ** 2, rel=0.01)

    def test_of_constant_sets_is_the_distance_of_the_means(self) -> None:
        x, y = torch.full((5, 3), 1.0), torch.full((2, 3), 4.0)
        assert float(frechet_distance(x, y)) == pytest.approx(27.0, abs=1e-12)

    def test_agrees_with_scipy_where_the_root_is_regular(self) -> None:
        x, y = drawn(400, 20, 1), drawn(300, 20, 2, 1.4, 0.2)
        one, other = np.cov(x.numpy(), rowvar=False), np.cov(y.numpy(), rowvar=False)
        root = np.real(scipy.linalg.sqrtm(one @ other))
        expected = float((x.mean(0) - y.mean(0)).square().sum()) + np.trace(one + other - 2 * root)
        assert float(frechet_distance(x, y, ddof=1)) == pytest.approx(expected, rel=1e-9)

    def test_agrees_with_torchmetrics(self) -> None:
        from torchmetrics.image.fid import _compute_fid

        x, y = drawn(400, 20, 1), drawn(300, 20, 2, 1.4, 0.2)
        expected = float(_compute_fid(x.mean(0), x.T.cov(), y.mean(0), y.T.cov()))
        assert float(frechet_distance(x, y, ddof=1)) == pytest.approx(expected, rel=1e-9)

    @given(st.integers(2, 12), st.integers(2, 12), st.integers(1, 8), st.integers(0, 10**6), st.floats(0.1, 30))
    @settings(max_examples=40, deadline=None)
    def test_properties(self, n: int, m: int, d: int, seed: int, c: float) -> None:
        x, y = drawn(n, d, seed), drawn(m, d, seed + 1, 2.0, 0.5)
        value = float(frechet_distance(x, y))
        assert value > -1e-9
        assert float(frechet_distance(y, x)) == pytest.approx(value, abs=1e-9)
        turn, shift = rotation(d, seed), drawn(1, d, 5)
        assert float(frechet_distance(x @ turn + shift, y @ turn + shift)) == pytest.approx(value, abs=1e-9)
        assert float(frechet_distance(c * x, c * y)) == pytest.approx(c**2 * value, rel=1e-9, abs=1e-9)

    def test_ddof_scales_the_covariances_only(self) -> None:
        n = 10
        x, y = drawn(n, 4, 1), drawn(n, 4, 2, 2.0, 1.0)
        apart = float((x.mean(0) - y.mean(0)).square().sum())
        over_n, over_less = (float(frechet_distance(x, y, ddof)) - apart for ddof in (0, 1))
        assert over_n == pytest.approx(over_less * (n - 1) / n, rel=1e-12)

    @pytest.mark.parametrize(
        ("x", "y", "ddof", "message"),
        [
            (torch.zeros(1, 3), torch.zeros(4, 3), 0, "source: 1 clips, expected at least 2"),
            (torch.zeros(4, 3), torch.zeros(0, 3), 0, "anonymized: 0 clips"),
            pytest.param(
                torch.zeros(4, 3), torch.zeros(4, 2), 0, "3 dimensions and anonymized 2", marks=pytest.mark.wrong_types
            ),
            pytest.param(
                torch.zeros(4), torch.zeros(4), 0, "expected floats of shape n d", marks=pytest.mark.wrong_types
            ),
            pytest.param(
                torch.zeros(4, 3, dtype=torch.int64), torch.zeros(4, 3), 0, "int64", marks=pytest.mark.wrong_types
            ),
            (torch.zeros(4, 3), torch.full((4, 3), torch.nan), 0, "anonymized holds NaN"),
            (torch.zeros(4, 3), torch.zeros(4, 3), 2, "ddof is 2"),
        ],
    )
    def test_refuses(self, x: Tensor, y: Tensor, ddof: int, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            frechet_distance(x, y, ddof)


class TestFrechetDistance:
    @pytest.mark.parametrize(("n", "d"), [(2000, 30), (40, 30), (12, 30), (2, 30)])
    def test_of_sums_is_that_of_features(self, n: int, d: int) -> None:
        x, y = drawn(n, d, 1), drawn(n, d, 2, 1.5, 0.4)
        for ddof in (0, 1):
            assert from_sums(x, y, ddof) == pytest.approx(float(frechet_distance(x, y, ddof)), abs=1e-9)

    def test_knowing_the_rank_saves_digits(self) -> None:
        # Far from 0, where sums of outer products lose digits.
        x, y = drawn(64, 200, 1, shift=30.0), drawn(64, 200, 2, 1.5, 30.3)
        right = float(frechet_distance(x, y))
        assert abs(from_sums(x, y) - right) < 1e-10 < abs(from_sums(x, y, is_ranked=False) - right) < 1e-7

    def test_is_the_closed_form(self) -> None:
        d, one = 7, torch.eye(7)
        mean = torch.zeros(d)
        assert float(gaussian_frechet_distance(mean, one, mean + 3, 4 * one)) == pytest.approx(d * 9 + d, abs=1e-9)
        assert abs(float(gaussian_frechet_distance(mean, one, mean, one))) <= 1e-12

    def test_of_two_lines_that_cross(self) -> None:
        # Variance along x only, and along y only: the root of the product is 0.
        one, other = torch.diag(torch.tensor([4.0, 0.0])), torch.diag(torch.tensor([0.0, 9.0]))
        zero = torch.zeros(2)
        assert float(gaussian_frechet_distance(zero, one, zero, other)) == pytest.approx(13.0, abs=1e-12)

    @pytest.mark.parametrize(
        ("mean", "covariance", "message"),
        [
            (torch.zeros(2), torch.diag(torch.tensor([1.0, -0.1])), "negative eigenvalue"),
            (torch.zeros(2), torch.tensor([[1.0, 0.5], [0.0, 1.0]]), "not symmetric"),
            pytest.param(
                torch.zeros(2), torch.eye(3), r"shape \(3, 3\), expected \(2, 2\)", marks=pytest.mark.wrong_types
            ),
            pytest.param(torch.zeros(3), torch.eye(3), "3 and 2 dimensions", marks=pytest.mark.wrong_types),
            (torch.tensor([0.0, torch.inf]), torch.eye(2), "NaN or infinity"),
        ],
    )
    def test_refuses(self, mean: Tensor, covariance: Tensor, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            gaussian_frechet_distance(mean, covariance, torch.zeros(2), torch.eye(2))


class TestMeanAndCovariance:
    @pytest.mark.parametrize("ddof", [0, 1])
    def test_is_numpys(self, ddof: int) -> None:
        x = drawn(50, 6, shift=5.0)
        mean, covariance = mean_and_covariance(x.sum(0), x.T @ x, 50, ddof)
        assert np.allclose(mean.numpy(), x.numpy().mean(0), atol=1e-12)
        assert np.allclose(covariance.numpy(), np.cov(x.numpy(), rowvar=False, ddof=ddof), atol=1e-12)

    def test_refuses_one_clip(self) -> None:
        with pytest.raises(ValueError, match="1 clips, expected at least 2"):
            mean_and_covariance(torch.zeros(2), torch.zeros(2, 2), 1)
