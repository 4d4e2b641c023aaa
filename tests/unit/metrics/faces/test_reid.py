from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import matplotlib
import pytest
import torch
from scipy.stats import binomtest

from _identity import Color, clip, comparer, sighted
from _metrics import assert_plain_protocol, assert_split_changes_nothing, measured
from pa_lib.metrics import MetricValue, ReidentificationRate

matplotlib.use("Agg")


def make() -> ReidentificationRate:
    return ReidentificationRate(comparer())


def photo(number: int, identity: int, before: Color, after: Color) -> dict[str, Any]:
    return {
        "source": clip({0: before}),
        "anonymized": clip({0: after}),
        "people": sighted([0]),
        "clip_ids": torch.tensor([number]),
        "identities": torch.tensor([identity]),
    }


def photos() -> list[dict[str, Any]]:
    """Two pictures each of a red and a green person, one of a blue: red stays red, green becomes blue, blue red."""
    return [
        photo(0, 0, (250, 0, 0), (240, 0, 0)),
        photo(1, 0, (200, 0, 0), (210, 0, 0)),
        photo(2, 1, (0, 245, 0), (0, 0, 250)),
        photo(3, 1, (0, 180, 0), (0, 0, 240)),
        photo(4, 2, (0, 0, 250), (250, 0, 0)),
    ]


def figures(updates: list[dict[str, Any]]) -> dict[str, MetricValue]:
    return {figure.name: figure for figure in measured(make, updates).values}


def test_figures_by_hand() -> None:
    told = figures(photos())
    # Each query sees the four other pictures. Red finds red first. The first green is (0, 0, 250) by now: blue is at 0,
    # its other picture at 308, the reds at 320 and 354. The second is (0, 0, 240): 10 to blue, then 312 to a red, and
    # 343 to its other picture.
    assert told["reidentification_rank1"].value == 0.5
    assert told["reidentification_rank1"].n == 4
    assert told["reidentification_rank1"].counted["queries without a match"] == 1
    expected = binomtest(2, 4).proportion_ci(method="wilson")
    assert told["reidentification_rank1"].interval == pytest.approx((expected.low, expected.high))
    assert told["reidentification_rank5"].value == 1
    assert told["reidentification_map"].value == pytest.approx((1 + 1 + 1 / 2 + 1 / 3) / 4)
    assert told["reidentification_chance_rank1"].value == pytest.approx(1 / 4)
    assert told["reidentification_chance_map"].value == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4)
    assert told["reidentification_original_rank1"].value == 1


def test_without_identities_the_own_track_is_sought() -> None:
    updates = [{name: value for name, value in update.items() if name != "identities"} for update in photos()]
    told = figures(updates)
    assert told["reidentification_rank1"].counted["queries for their own pictures"] == 5
    # 240 lies nearer to 250, 210 nearer to 200; green and blue are taken for others.
    assert told["reidentification_rank1"].value == pytest.approx(2 / 5)
    assert told["reidentification_chance_rank1"].value == pytest.approx(1 / 5)
    assert math.isnan(told["reidentification_original_rank1"].value)


def test_a_track_is_one_query_by_its_mean() -> None:
    # One frame each would be mistaken for the other; their mean is not.
    one = {
        "source": clip({0: (200, 0, 0), 1: (0, 200, 0)}, {0: (200, 0, 0), 1: (0, 200, 0)}),
        "anonymized": clip({0: (0, 100, 0), 1: (0, 200, 0)}, {0: (250, 0, 0), 1: (0, 200, 0)}),
        "people": sighted([0, 1], [0, 1]),
    }
    told = figures([one])
    assert (told["reidentification_rank1"].value, told["reidentification_rank1"].n) == (1, 2)


def test_a_destroyed_face_is_a_query_too() -> None:
    told = figures([photo(0, 0, (250, 0, 0), (0, 0, 0)), *photos()[1:]])
    assert told["reidentification_rank1"].n == 4
    assert told["reidentification_rank1"].counted["faces not found after"] == 1


def test_tracks_tell_who_was_found() -> None:
    tracks = measured(make, photos()).tracks
    assert [row.values["reidentification_rank1"] for row in tracks] == [1, 1, 0, 0]


def test_keeps_the_checklist() -> None:
    assert_plain_protocol(make())
    update = {
        name: torch.cat([one[name] for one in photos()]) for name in ("source", "anonymized", "clip_ids", "identities")
    }
    update["people"] = tuple(replace(sighted([0])[0], clip=row) for row in range(5))
    assert_split_changes_nothing(make, [update], photos())


@pytest.mark.filterwarnings("ignore:.*before the ``update``")
def test_nothing_is_nan() -> None:
    assert all(math.isnan(figure.value) for figure in measured(make, []).values)


@pytest.mark.wrong_types
def test_refuses_an_unknown_distance() -> None:
    with pytest.raises(ValueError, match="expected 'euclidean' or 'cosine'"):
        ReidentificationRate(comparer(), "l1")  # type: ignore[arg-type]


def test_plots() -> None:
    metric = make()
    metric.update(**photos()[0])
    figure, _ = metric.plot()
    assert figure is not None
    matplotlib.pyplot.close(figure)
