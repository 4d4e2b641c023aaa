from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import matplotlib
import pytest
import torch
from scipy.stats import binomtest

from _identity import clip, comparer, sighted
from _metrics import assert_plain_protocol, assert_split_changes_nothing, measured
from pa_lib.metrics import DetectionRate

matplotlib.use("Agg")

RED, BLUE = (255, 0, 0), (0, 0, 255)


def make() -> DetectionRate:
    return DetectionRate(comparer())


def update(number: int = 0) -> dict[str, Any]:
    """Person 1: found in 3 of 4 frames of the source, and in 1 of these after; person 2: 2 of 2 and 2."""
    return {
        "source": clip({0: RED, 1: RED}, {0: RED, 1: RED}, {0: RED}, {}),
        "anonymized": clip({0: BLUE, 1: BLUE}, {1: BLUE}, {}, {0: BLUE}),
        "people": sighted([0, 1], [0, 1], [0], [0]),
        "clip_ids": torch.tensor([number]),
    }


def test_rates_by_hand() -> None:
    told = measured(make, [update()])
    rate, source = told.values
    assert rate.value == pytest.approx((1 / 3 + 1) / 2)
    assert source.value == pytest.approx((3 / 4 + 1) / 2)
    assert rate.counted == {
        "faces": 6,
        "faces found in the source": 5,
        "faces found in both": 3,
        "faces found only after": 1,
        "bodies or masks without a face": 0,
        "tracks not found in the source": 0,
    }
    assert [row.values["detection_rate"] for row in told.tracks] == pytest.approx([1 / 3, 1])


def test_interval_takes_tracks_for_trials() -> None:
    whole = [update(number) | {"people": sighted([1], [1], [], [])} for number in range(4)]
    expected = binomtest(4, 4).proportion_ci(method="wilson")
    assert measured(make, whole).values[0].interval == pytest.approx((expected.low, expected.high))


def test_a_track_that_is_never_seen_is_counted() -> None:
    told = measured(make, [update() | {"people": sighted([], [], [2], [])}]).values
    assert math.isnan(told[0].value)
    assert told[0].counted["tracks not found in the source"] == 1
    assert told[1].value == 0


def test_who_is_kept_is_not_looked_at() -> None:
    people = tuple(replace(one, is_hidden=one.person_id == 2) for one in update()["people"])
    assert measured(make, [update() | {"people": people}]).values[0].counted["faces"] == 2


def test_keeps_the_checklist() -> None:
    assert_plain_protocol(make())
    whole = update()
    parts = []
    for frame in range(4):
        people = tuple(replace(one, frame=0) for one in whole["people"] if one.frame == frame)
        pictures = {name: whole[name][:, frame : frame + 1] for name in ("source", "anonymized")}
        parts.append(whole | pictures | {"people": people})
    assert_split_changes_nothing(make, [whole], parts)


@pytest.mark.filterwarnings("ignore:.*before the ``update``")
def test_nothing_is_nan() -> None:
    assert all(math.isnan(figure.value) for figure in measured(make, []).values)


def test_plots() -> None:
    metric = make()
    metric.update(**update())
    figure, _ = metric.plot()
    assert figure is not None
    matplotlib.pyplot.close(figure)
