from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from _identity import clip, comparer, masks, sighted
from _metrics import assert_plain_protocol, assert_split_changes_nothing, measured
from pa_lib.metrics import FrechetIdentityDistance, MetricValue


def make() -> FrechetIdentityDistance:
    return FrechetIdentityDistance(comparer(), resamples=20)


def colours(n: int, seed: int) -> list[tuple[int, int, int]]:
    drawn = torch.randint(60, 256, (n, 3), generator=torch.Generator().manual_seed(seed))
    return [(int(r), int(g), int(b)) for r, g, b in drawn]


def update(number: int, before: tuple[int, int, int], *after: tuple[int, int, int]) -> dict[str, Any]:
    """A clip of one person, with a frame for each colour that they turn into."""
    return {
        "source": clip(*[{0: before}] * len(after)),
        "anonymized": clip(*[{0: colour} for colour in after]),
        "people": sighted(*[[0]] * len(after)),
        "clip_ids": torch.tensor([number]),
    }


def photos(before: list[tuple[int, int, int]], after: list[tuple[int, int, int]]) -> list[dict[str, Any]]:
    return [update(number, one, other) for number, (one, other) in enumerate(zip(before, after, strict=True))]


def figure(updates: list[dict[str, Any]]) -> MetricValue:
    return measured(make, updates).values[0]


def test_is_the_textbook_formula() -> None:
    before, after = colours(12, 1), colours(12, 2)
    x, y = (np.array(some) / 255 for some in (before, after))
    a, b = np.cov(x.T, ddof=0), np.cov(y.T, ddof=0)
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a + b - 2 * sqrtm(a @ b).real)
    told = figure(photos(before, after))
    assert told.value == pytest.approx(expected, abs=1e-6)
    assert (told.n, told.is_higher_better, dict(told.counted)) == (12, False, {})
    assert told.interval is not None
    assert told.interval[0] < told.value < told.interval[1]


def test_who_became_whom_does_not_matter() -> None:
    before, after = colours(6, 1), colours(6, 2)
    assert figure(photos(before, after)).value == pytest.approx(figure(photos(before, after[::-1])).value, abs=1e-9)
    assert figure(photos(before, before[::-1])).value == pytest.approx(0, abs=1e-9)


def test_one_face_for_all_is_far_from_people() -> None:
    before = colours(8, 1)
    alike = figure(photos(before, [before[0]] * 8)).value
    assert alike > figure(photos(before, colours(8, 2))).value


def test_a_person_counts_once_however_long_they_are_seen() -> None:
    before, after = colours(4, 1), colours(4, 2)
    long = [update(0, before[0], *[after[0]] * 5), *photos(before, after)[1:]]
    assert figure(long).value == pytest.approx(figure(photos(before, after)).value, abs=1e-9)


def test_a_destroyed_face_is_part_of_the_set() -> None:
    before = colours(4, 1)
    told = figure(photos(before, [(0, 0, 0)] * 4))
    mean = np.array(before) / 255
    assert told.value == pytest.approx((mean.mean(0) ** 2).sum() + np.trace(np.cov(mean.T, ddof=0)), abs=1e-6)


def test_too_few_people_are_told() -> None:
    alone = figure(photos(colours(1, 1), colours(1, 2)))
    assert math.isnan(alone.value)
    assert alone.interval is None
    assert alone.counted["people missing to the 2 it takes"] == 1
    two = figure(photos(colours(2, 1), colours(2, 2)))
    assert dict(two.counted) == {"people missing to the network's 3 dimensions": 1}


def test_settings_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="resamples is 1, expected 0 or more, and not 1"):
        FrechetIdentityDistance(comparer(), resamples=1)
    without = measured(lambda: FrechetIdentityDistance(comparer(), 0), photos(colours(3, 1), colours(3, 2)))
    assert without.values[0].interval is None


def test_keeps_the_checklist() -> None:
    assert_plain_protocol(make())
    before, after = colours(4, 1), colours(4, 2)
    apart = photos(before, after)
    together = {
        "source": torch.cat([one["source"] for one in apart]),
        "anonymized": torch.cat([one["anonymized"] for one in apart]),
        "masks": torch.cat([masks(one["source"]) for one in apart]),
        "clip_ids": torch.arange(4),
    }
    masked = [{**one, "people": None, "masks": masks(one["source"])} for one in apart]
    assert_split_changes_nothing(make, [together], masked)
