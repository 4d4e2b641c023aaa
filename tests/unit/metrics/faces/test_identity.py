from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import matplotlib
import pytest
import torch

from _identity import clip, comparer, sighted
from _metrics import assert_plain_protocol, assert_split_changes_nothing, measured
from pa_lib.metrics import IdentityDistance

matplotlib.use("Agg")

RED, GREEN, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 0)
NEAR, FAR = (204, 0, 0), (51, 0, 0)  # 0.2 and 0.8 from red


def make() -> IdentityDistance:
    return IdentityDistance(comparer())


def two_people() -> dict[str, Any]:
    """Person 1: distances 0.2, 0.8, 1.0, the last destroyed; person 2: 0.6 twice."""
    return {
        "source": clip({0: RED, 1: GREEN}, {0: RED, 1: GREEN}, {0: RED}),
        "anonymized": clip({0: NEAR, 1: (0, 102, 0)}, {0: FAR, 1: (0, 102, 0)}, {0: BLACK}),
        "people": sighted([0, 1], [0, 1], [0]),
        "clip_ids": torch.tensor([4]),
    }


def frames(update: dict[str, Any], start: int, stop: int) -> dict[str, Any]:
    people = tuple(replace(one, frame=one.frame - start) for one in update["people"] if start <= one.frame < stop)
    return update | {
        "source": update["source"][:, start:stop],
        "anonymized": update["anonymized"][:, start:stop],
        "people": people,
    }


def values(metric_updates: list[dict[str, Any]]) -> dict[str, float]:
    return {figure.name: figure.value for figure in measured(make, metric_updates).values}


def test_figures_by_hand() -> None:
    told = measured(make, [two_people()])
    figures = {figure.name: figure for figure in told.values}
    one, two = (0.2 + 0.8 + 1.0) / 3, 0.6
    assert figures["identity_distance"].value == pytest.approx((one + two) / 2)
    assert figures["identity_nearest_in_track"].value == pytest.approx((0.2 + 0.6) / 2)
    assert figures["identity_faces_recognized"].value == pytest.approx((1 / 3 + 0) / 2)
    assert figures["identity_tracks_recognized"].value == pytest.approx(0.5)
    # Person 1 shows 0.8, 0.2 and 0: pairs 0.6, 0.8 and 0.2.
    assert figures["intra_track_consistency"].value == pytest.approx(math.sqrt((0.36 + 0.64 + 0.04) / 3) / 2)
    assert figures["intra_track_consistency_source"].value == pytest.approx(0)
    assert figures["identity_between_people"].value == pytest.approx(math.sqrt(2))
    assert (figures["identity_between_people"].n, figures["identity_distance"].n) == (1, 2)
    # Two values: the mean -+ 12.706 standard errors, and a distance is not below 0.
    assert figures["identity_distance"].interval == pytest.approx(
        (max(0, (one + two) / 2 - 12.7062 * abs(one - two) / 2), (one + two) / 2 + 12.7062 * abs(one - two) / 2),
        abs=1e-4,
    )


def test_tracks_come_worst_first() -> None:
    tracks = measured(make, [two_people()]).tracks
    assert [(row.clip, row.person_id) for row in tracks] == [(4, 1), (4, 2)]
    assert tracks[0].values["identity_nearest_in_track"] == pytest.approx(0.2)
    assert tracks[1].values == pytest.approx(
        {
            "identity_distance": 0.6,
            "identity_nearest_in_track": 0.6,
            "identity_faces_recognized": 0,
            "intra_track_consistency": 0,
        }
    )


def test_a_destroyed_face_is_counted_and_not_dropped() -> None:
    told = measured(make, [frames(two_people(), 2, 3)])
    assert told.values[0].value == pytest.approx(1)  # from red to black
    assert told.values[0].counted["faces not found after"] == 1
    assert told.values[0].counted["faces"] == 1


def test_identical_pictures_have_no_distance() -> None:
    update = two_people()
    told = values([update | {"anonymized": update["source"]}])
    assert told["identity_distance"] == 0 == told["identity_nearest_in_track"]
    assert told["identity_tracks_recognized"] == 1 == told["identity_faces_recognized"]


def test_same_identity_is_no_pair_of_people() -> None:
    other = two_people() | {"clip_ids": torch.tensor([5]), "identities": torch.tensor([3])}
    one = frames(other, 2, 3)
    told = measured(make, [one, one | {"clip_ids": torch.tensor([6])}]).values[-1]
    assert (told.name, told.n) == ("identity_between_people", 0)
    assert math.isnan(told.value)


def test_clips_without_faces_are_counted() -> None:
    nobody = {"source": clip({}), "anonymized": clip({})}
    told = measured(make, [nobody | {"masks": torch.ones(1, 1, 1, 80, 240)}]).values[0]
    assert math.isnan(told.value)
    assert told.counted["bodies or masks without a face"] == 1
    unseen = measured(make, [nobody | {"people": sighted([0])}]).values[0]
    assert unseen.counted["faces without an embedding"] == 1 == unseen.counted["tracks without a face to compare"]


def test_rows_without_numbers_are_clips_of_their_own() -> None:
    update = {name: value for name, value in two_people().items() if name != "clip_ids"}
    assert measured(make, [update, update]).values[0].n == 4


def test_cosine_with_its_threshold() -> None:
    def cosine() -> IdentityDistance:
        return IdentityDistance(comparer(), "cosine", 0.5)

    told = measured(cosine, [frames(two_people(), 0, 2)])
    assert told.values[0].value == pytest.approx(0, abs=1e-12)  # darker, but the same direction
    assert told.values[-1].value == pytest.approx(1)
    black = measured(cosine, [frames(two_people(), 2, 3)]).values[0]  # has no direction
    assert math.isnan(black.value)
    assert black.counted["faces without an embedding"] == 1


def test_settings_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="give same_person_distance"):
        IdentityDistance(comparer(), "cosine")
    metric = make()
    with pytest.raises(ValueError, match=r"identities have shape \(2,\), expected \(1,\)"):
        metric.update(**two_people(), identities=torch.tensor([1, 2]))


@pytest.mark.wrong_types
def test_refuses_an_unknown_distance() -> None:
    with pytest.raises(ValueError, match="expected 'euclidean' or 'cosine'"):
        IdentityDistance(comparer(), "l1")  # type: ignore[arg-type]


def test_keeps_the_checklist() -> None:
    assert_plain_protocol(make())
    assert IdentityDistance(comparer(), same_person_distance=0.3).protocol_hash() != make().protocol_hash()
    update = two_people()
    parts = [frames(update, 0, 1), frames(update, 1, 2), frames(update, 2, 3)]
    assert_split_changes_nothing(make, [update], parts)
    assert_split_changes_nothing(make, [update], [frames(update, 0, 2), frames(update, 1, 3) | {"context": 1}])


@pytest.mark.filterwarnings("ignore:.*before the ``update``")
def test_nothing_is_nan() -> None:
    told = measured(make, [])
    assert all(math.isnan(figure.value) for figure in told.values)
    assert told.tracks == ()


def test_plots() -> None:
    metric = make()
    metric.update(**two_people())
    figure, _ = metric.plot()
    assert figure is not None
    matplotlib.pyplot.close(figure)
