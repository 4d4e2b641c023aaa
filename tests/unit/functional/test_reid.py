from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional.retrieval import retrieval_average_precision, retrieval_hit_rate

from pa_lib.functional import (
    chance_of_precision,
    chance_of_rank,
    rank_gallery,
    reidentification,
)


@pytest.mark.parametrize(
    ("hits", "rank", "precision", "penalty"),
    [
        ([0, 1, 0, 1], 2, 0.5, 0.5),
        ([1, 0, 1, 0, 0, 1], 1, 0.722222, 0.5),
        ([1, 1, 0], 1, 1.0, 1.0),
        ([0, 0, 1], 3, 1 / 3, 1 / 3),
    ],
)
def test_values_by_hand(hits: list[int], rank: int, precision: float, penalty: float) -> None:
    told = rank_gallery(torch.arange(len(hits)).double()[None], torch.tensor([hits]).bool())
    assert told.ranks.item() == rank
    assert told.average_precision.item() == pytest.approx(precision, abs=1e-6)
    assert told.inverse_penalty.item() == pytest.approx(penalty)


@given(st.lists(st.booleans(), min_size=1, max_size=12).filter(any), st.integers(0, 999))
def test_agrees_with_torchmetrics_in_any_order(hits: list[bool], seed: int) -> None:
    order = torch.randperm(len(hits), generator=torch.Generator().manual_seed(seed))
    distances = order.double()
    is_right = torch.tensor(hits)
    told = rank_gallery(distances[None], is_right[None])
    likeness = 20 - distances  # torchmetrics wants it positive
    assert told.average_precision.item() == pytest.approx(
        retrieval_average_precision(likeness, is_right).item(), abs=1e-6
    )
    for k in (1, 5):
        assert float(0 < told.ranks.item() <= k) == retrieval_hit_rate(likeness, is_right, top_k=k).item()


def test_what_is_left_out_is_not_there() -> None:
    distances = torch.tensor([[0.1, 0.2, 0.3, 0.4]])
    is_right = torch.tensor([[True, False, True, False]])
    told = rank_gallery(distances, is_right, torch.tensor([[True, True, False, False]]))
    assert (told.ranks.item(), told.average_precision.item()) == (1, 1.0)
    assert (told.n_right.item(), told.n_gallery.item()) == (1, 2)


def test_no_right_picture_is_told() -> None:
    told = rank_gallery(torch.tensor([[0.1, 0.2]]), torch.tensor([[False, True]]), torch.tensor([[False, True]]))
    assert told.ranks.item() == 0 == told.n_right.item()
    assert math.isnan(told.average_precision.item())
    assert math.isnan(told.inverse_penalty.item())
    empty = rank_gallery(torch.zeros(2, 0), torch.zeros(2, 0).bool())
    assert empty.ranks.tolist() == [0, 0]


def test_equal_distances_keep_the_order_of_the_gallery() -> None:
    told = rank_gallery(torch.zeros(1, 4), torch.tensor([[False, False, True, False]]))
    assert told.ranks.item() == 3


def test_searches_in_chunks_as_at_once() -> None:
    generator = torch.Generator().manual_seed(1)
    queries, gallery = torch.randn(600, 4, generator=generator), torch.randn(50, 4, generator=generator)
    ids, gallery_ids = torch.arange(600) % 25, torch.arange(50) % 25
    left_out = torch.rand(600, 50, generator=generator) < 0.2
    told = reidentification(queries, gallery, ids, gallery_ids, left_out)
    last = reidentification(queries[-1:], gallery, ids[-1:], gallery_ids, left_out[-1:])
    assert told.ranks.shape == (600,)
    assert told.average_precision[-1].nan_to_num(9).item() == last.average_precision[0].nan_to_num(9).item()
    distances = (queries[:, None] - gallery).norm(dim=2)
    plain = rank_gallery(distances, ids[:, None] == gallery_ids, left_out)
    assert torch.equal(told.ranks, plain.ranks)


def test_cosine_sorts_by_direction() -> None:
    queries, gallery = torch.tensor([[1.0, 0.0]]), torch.tensor([[9.0, 1.0], [0.5, 0.5]])
    ids, gallery_ids = torch.tensor([7]), torch.tensor([7, 8])
    assert reidentification(queries, gallery, ids, gallery_ids, distance="cosine").ranks.item() == 1
    assert reidentification(queries, gallery, ids, gallery_ids).ranks.item() == 2


@pytest.mark.parametrize(("n_right", "n_gallery"), [(1, 1), (1, 5), (2, 5), (3, 6), (4, 4)])
def test_chance_is_the_mean_over_all_orders(n_right: int, n_gallery: int) -> None:
    hits = torch.tensor([[place in right for place in range(n_gallery)]
                         for right in itertools.combinations(range(n_gallery), n_right)])  # fmt: skip
    told = rank_gallery(torch.arange(n_gallery).expand(hits.shape), hits)
    counts = torch.tensor([n_right]), torch.tensor([n_gallery])
    for k in (1, 2, 5):
        assert chance_of_rank(*counts, k).item() == pytest.approx((told.ranks <= k).double().mean().item())
    assert chance_of_precision(*counts).item() == pytest.approx(told.average_precision.mean().item())


def test_chance_without_a_right_picture_is_nan() -> None:
    counts = torch.tensor([0]), torch.tensor([4])
    assert math.isnan(chance_of_rank(*counts).item())
    assert math.isnan(chance_of_precision(*counts).item())


@pytest.mark.wrong_types
def test_refuses_shapes_that_do_not_fit() -> None:
    faces, ids = torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ValueError, match="not q g"):
        rank_gallery(torch.zeros(1, 2), torch.zeros(2, 1).bool())
    with pytest.raises(ValueError, match="is_left_out has shape"):
        rank_gallery(torch.zeros(1, 2), torch.zeros(1, 2).bool(), torch.zeros(2, 1).bool())
    with pytest.raises(ValueError, match=r"gallery have shape \(2, 3\) and ids \(1,\)"):
        reidentification(faces, faces, ids, ids[:1])
    with pytest.raises(ValueError, match="3 dimensions, the gallery 2"):
        reidentification(faces, faces[:, :2], ids, ids)


def test_refuses_faces_without_a_distance() -> None:
    faces, ids = torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ValueError, match="not finite"):
        reidentification(faces * torch.nan, faces, ids, ids)
    with pytest.raises(ValueError, match="not finite"):
        reidentification(faces, faces, ids, ids, distance="cosine")
