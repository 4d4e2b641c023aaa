from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cosine, euclidean, pdist

from pa_lib.functional import identity_distance, mean_pair_distance


@given(st.integers(1, 5), st.integers(2, 8), st.integers(0, 999))
def test_distances_are_those_of_scipy(n: int, d: int, seed: int) -> None:
    x, y = torch.randn(2, n, d, generator=torch.Generator().manual_seed(seed))
    assert identity_distance(x, y).tolist() == pytest.approx(
        [euclidean(a, b) for a, b in zip(x.double(), y.double(), strict=True)]
    )
    assert identity_distance(x, y, "cosine").tolist() == pytest.approx(
        [cosine(a, b) for a, b in zip(x.double(), y.double(), strict=True)]
    )


def test_ends() -> None:
    x = torch.tensor([[1.0, 2.0]])
    assert identity_distance(x, x).item() == 0 == pytest.approx(identity_distance(x, 3 * x, "cosine").item())
    assert identity_distance(x, -x, "cosine").item() == pytest.approx(2)
    assert math.isnan(identity_distance(x, 0 * x, "cosine").item())
    assert math.isnan(identity_distance(x, x * torch.nan).item())


@given(st.integers(2, 9), st.integers(1, 6), st.integers(0, 999))
def test_mean_over_pairs_without_looking_at_pairs(n: int, d: int, seed: int) -> None:
    faces = torch.randn(n, d, generator=torch.Generator().manual_seed(seed)).double()
    count = torch.tensor(float(n), dtype=torch.float64)
    told = mean_pair_distance(count, faces.sum(0), faces.square().sum())
    assert told.item() == pytest.approx(math.sqrt((pdist(faces) ** 2).mean()))
    faces = faces / faces.norm(dim=1, keepdim=True)
    told = mean_pair_distance(count, faces.sum(0), faces.square().sum(), "cosine")
    assert told.item() == pytest.approx(pdist(faces, "cosine").mean(), abs=1e-12)


def test_one_face_has_no_pair() -> None:
    one = torch.ones((), dtype=torch.float64)
    assert math.isnan(mean_pair_distance(one, torch.ones(2).double(), 2 * one).item())


@pytest.mark.wrong_types
def test_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"shapes \(2, 3\) and \(1, 3\), expected n d twice"):
        identity_distance(torch.zeros(2, 3), torch.zeros(1, 3))
    with pytest.raises(ValueError, match="expected 'euclidean' or 'cosine'"):
        identity_distance(torch.zeros(2, 3), torch.zeros(2, 3), "manhattan")  # type: ignore[arg-type]
