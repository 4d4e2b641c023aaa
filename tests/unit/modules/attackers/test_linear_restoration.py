from __future__ import annotations

import pytest
import torch

from pa_lib.modules.attackers.linear_restoration import LinearRestoration


def _pairs(n: int, noise: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    seen = torch.randn(n, 4)
    return seen, seen @ torch.randn(4, 6) + 0.3 + noise * torch.randn(n, 6)


class TestLinearRestoration:
    def test_finds_a_linear_map(self) -> None:
        seen, truth = _pairs(60)
        linear = LinearRestoration(seen[:40], truth[:40])
        assert float((linear.restored(seen[40:]) - truth[40:]).abs().max()) < 1e-2

    def test_is_ridge_regression(self) -> None:
        seen, truth = _pairs(20, 0.5)
        linear = LinearRestoration(seen, truth)
        x, y = (seen - seen.mean(0)).double(), (truth - truth.mean(0)).double()
        level = float((x @ x.T).diagonal().mean())
        x = torch.cat([x, torch.full((20, 1), level**0.5)], 1)  # the intercept
        slope = torch.linalg.solve(x.T @ x + linear.penalty * level * torch.eye(5), x.T @ y)
        assert torch.allclose(linear.restored(seen), (x @ slope).float() + truth.mean(0), atol=1e-4)

    def test_left_out_is_as_if_it_had_not_been_there(self) -> None:
        seen, truth = _pairs(12, 0.5)
        linear = LinearRestoration(seen, truth)
        x, y = linear.seen.double(), (truth - linear.truth_mean).double()
        level = float((x @ x.T).diagonal().mean())
        x = torch.cat([x, torch.full((12, 1), level**0.5)], 1)
        rest = torch.arange(12) != 5
        slope = torch.linalg.solve(x[rest].T @ x[rest] + linear.penalty * level * torch.eye(5), x[rest].T @ y[rest])
        asked = torch.stack([seen[5], seen[5] + 0.1])  # the pair itself, and another view of it
        told = linear.restored(asked, torch.tensor([5, 5]))
        at = torch.cat([(asked - linear.seen_mean).double(), torch.full((2, 1), level**0.5)], 1)
        expected = (at @ slope).float() + linear.truth_mean
        assert torch.allclose(told, expected, atol=1e-4)
        assert not torch.allclose(linear.restored(asked), expected, atol=1e-2)

    def test_who_is_left_out_cannot_be_told_from_the_others(self) -> None:
        torch.manual_seed(0)
        seen, truth = torch.randn(12, 200), torch.randn(12, 7)  # far more pixels than pairs, and nothing to find
        told = LinearRestoration(seen, truth).restored(seen, torch.arange(12))
        assert float((told - truth).square().mean()) > 0.9 * float(truth.var(0).mean())

    def test_of_nothing_restores_the_mean(self) -> None:
        truth = torch.rand(5, 3)
        told = LinearRestoration(torch.zeros(5, 4), truth).restored(torch.zeros(2, 4))
        assert told == pytest.approx(truth.mean(0).expand(2, 3), abs=1e-6)
