from __future__ import annotations

import math
from typing import Any

import matplotlib
import pytest
import torch

from _metrics import assert_plain_protocol, assert_split_changes_nothing, measured
from pa_lib.metrics import BodyReidentificationRate

matplotlib.use("Agg")


def make() -> BodyReidentificationRate:
    return BodyReidentificationRate(2)


def people(start: int = 0, stop: int = 9) -> dict[str, Any]:
    """Three queries: hits [0, 1, 0, 1] after junk, hit at once, and nobody by another camera."""
    degrees = torch.tensor([0.0, 1, 2, 3, 4, 5, 180, 181, 90])
    told = {
        "features": torch.stack([degrees.deg2rad().cos(), degrees.deg2rad().sin()], 1),
        "ids": torch.tensor([7, 7, 8, 7, -1, 7, 9, 9, 5]),
        "cameras": torch.tensor([0, 0, 0, 1, 1, 2, 0, 1, 0]),
        "is_query": torch.tensor([1, 0, 0, 0, 0, 0, 1, 0, 1]).bool(),
    }
    return {name: value[start:stop] for name, value in told.items()}


def test_figures_by_hand() -> None:
    told = {figure.name: figure for figure in measured(make, [people()]).values}
    # Query 1: its own camera's picture and junk are left out: stranger, hit, hit, stranger 9.
    assert told["body_reidentification_rank1"].value == 0.5
    assert told["body_reidentification_rank5"].value == 1 == told["body_reidentification_rank10"].value
    assert told["body_reidentification_map"].value == pytest.approx(((1 / 2 + 2 / 3) / 2 + 1) / 2)
    assert told["body_reidentification_minp"].value == pytest.approx((2 / 3 + 1) / 2)
    assert told["body_reidentification_rank1"].counted == {
        "queries without a match": 1,
        "gallery": 6,
        "junk in the gallery": 1,
    }
    assert told["body_reidentification_chance_rank1"].value == pytest.approx((2 / 4 + 1 / 5) / 2)


def test_a_network_makes_the_embeddings() -> None:
    network = torch.nn.Linear(3, 2, bias=False)
    pictures = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    plain = measured(make, [people() | {"features": network(pictures).detach()}])
    told = measured(lambda: BodyReidentificationRate(2, network), [people() | {"features": pictures}])
    assert [figure.value for figure in told.values] == [figure.value for figure in plain.values]
    protocol = BodyReidentificationRate(2, network).protocol()
    assert protocol["network"]["name"] == "Linear"
    assert len(protocol["network"]["sha256"]) == 64


def test_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"embeddings have shape \(9, 3\), expected \(9, 2\)"):
        make().update(**people() | {"features": torch.zeros(9, 3)})
    with pytest.raises(ValueError, match="not finite, or have no direction"):
        make().update(**people() | {"features": torch.zeros(9, 2)})
    with pytest.raises(ValueError, match="ids hold negative"):
        make().update(**people() | {"ids": torch.full((9,), -1)})
    with pytest.raises(ValueError, match="n_dimensions is 0"):
        BodyReidentificationRate(0)


@pytest.mark.wrong_types
def test_refuses_an_unknown_distance_and_too_few_cameras() -> None:
    with pytest.raises(ValueError, match="expected the shape of the ids"):
        make().update(**people() | {"cameras": torch.zeros(3)})
    with pytest.raises(ValueError, match="expected 'euclidean' or 'cosine'"):
        BodyReidentificationRate(2, distance="l1")  # type: ignore[arg-type]


def test_keeps_the_checklist() -> None:
    assert_plain_protocol(make())
    parts = [people(0, 3), people(3, 4), people(4, 9)]
    assert_split_changes_nothing(make, [people()], parts)


@pytest.mark.filterwarnings("ignore:.*before the ``update``")
def test_nothing_is_nan() -> None:
    assert all(math.isnan(figure.value) for figure in measured(make, []).values)


def test_plots() -> None:
    metric = make()
    metric.update(**people())
    figure, _ = metric.plot()
    assert figure is not None
    matplotlib.pyplot.close(figure)
