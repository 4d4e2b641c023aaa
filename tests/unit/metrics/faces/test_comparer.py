from __future__ import annotations

import csv
import io
import pickle
import zipfile
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from _identity import SIDE, SquareFinder, box, clip, comparer, masks, sighted
from pa_lib.contracts import Sighting
from pa_lib.metrics import DetectionRate, FaceComparer, IdentityDistance, ReidentificationRate
from pa_lib.pretrained import CenterFace, FaceIdentity

RED, BLUE = (255, 0, 0), (0, 0, 255)


def test_embeds_both_and_tells_what_was_found() -> None:
    pairs = comparer()(clip({0: RED, 1: RED}), clip({0: BLUE}), sighted([0, 1]))
    assert pairs.person_ids.tolist() == [1, 2]
    assert pairs.source.tolist() == [[1, 0, 0], [1, 0, 0]]
    assert pairs.anonymized.tolist() == [[0, 0, 1], [0, 0, 0]]
    assert pairs.is_found_in_source.tolist() == [True, True]
    assert pairs.is_found.tolist() == [True, False]
    assert pairs.scores.tolist() == pytest.approx([0.9, 0])


def test_floats_and_bytes_are_the_same_pixels() -> None:
    source, anonymized = clip({0: (255, 7, 200)}), clip({0: (3, 77, 211)})
    one = comparer()(source, anonymized, sighted([0]))
    other = comparer()(source / 255, anonymized / 255, sighted([0]))
    assert torch.equal(one.source, other.source)
    assert torch.equal(one.anonymized, other.anonymized)


def test_given_landmarks_serve_where_the_finder_sees_nothing() -> None:
    x0, y0 = box(0)[:2]
    points = tuple(
        (x0 + SIDE * x, y0 + SIDE * y) for x, y in ((0.3, 0.4), (0.7, 0.4), (0.5, 0.5), (0.3, 0.8), (0.7, 0.8))
    )
    dark = (15, 0, 0)
    (face,) = sighted([0])
    unseen = comparer()(clip({0: dark}), clip({0: BLUE}), (face,))
    assert unseen.source.isnan().all()
    assert unseen.anonymized.isnan().all()
    pairs = comparer()(clip({0: dark}), clip({0: BLUE}), (replace(face, landmarks=points),))
    assert pairs.source.tolist()[0] == pytest.approx([15 / 255, 0, 0])
    assert pairs.anonymized.tolist() == [[0, 0, 1]]
    assert not pairs.is_found_in_source.item()


def test_small_faces_are_not_compared_but_looked_for() -> None:
    pairs = FaceComparer(SquareFinder(), comparer().network, min_face_px=SIDE + 4)(
        clip({0: RED}), clip({0: BLUE}), sighted([0])
    )
    assert pairs.is_small.item()
    assert pairs.is_found.item()
    assert not pairs.is_compared.item()


def test_a_face_elsewhere_is_not_this_face() -> None:
    moved = clip({0: RED}).roll(35, dims=4)  # 5 of 40 px still overlap
    assert not comparer()(clip({0: RED}), moved, sighted([0])).is_found.item()


def test_bodies_are_searched_for_faces() -> None:
    body = Sighting(0, 0, 5, (0, 0, 80, 80), kind="body")
    pairs = comparer()(clip({0: RED, 1: RED}), clip({0: BLUE}), (body,))
    assert (pairs.person_ids.tolist(), pairs.anonymized.tolist()) == ([5], [[0, 0, 1]])
    empty = comparer()(clip({1: RED}), clip({}), (body,))
    assert (len(empty.rows), empty.n_faceless.tolist()) == (0, [1])
    with_face = comparer()(clip({0: RED}), clip({0: BLUE}), (body, replace(sighted([0])[0], person_id=5)))
    assert len(with_face.rows) == 1


def test_masks_say_where_to_look() -> None:
    source = clip({0: RED, 1: RED}, {0: RED}, {})
    pairs = comparer()(source, clip({1: BLUE}, {}, {}), masks=masks(clip({1: RED}, {1: RED}, {})))
    assert (pairs.frames.tolist(), pairs.person_ids.tolist()) == ([0], [0])
    assert pairs.anonymized.tolist() == [[0, 0, 1]]
    assert pairs.n_faceless.tolist() == [1]


def test_context_and_kept_people_are_left_out() -> None:
    source = clip({0: RED}, {0: RED})
    people = (*sighted([0], [0]), Sighting(0, 1, 9, box(1), is_hidden=False))
    assert comparer()(source, source, people, context=1).frames.tolist() == [1]


def test_the_last_answer_is_kept() -> None:
    compare = comparer()
    source, anonymized, people = clip({0: RED}), clip({0: BLUE}), sighted([0])
    first = compare(source, anonymized, people)
    n_calls = compare.finder.n_calls  # type: ignore[attr-defined]
    assert compare(source, anonymized, people) is first
    several = list(people)
    assert compare(source, anonymized, several) is first  # the same sightings
    several.clear()
    assert len(compare(source, anonymized, several).rows) == 0
    first = compare(source, anonymized, people)
    n_calls = compare.finder.n_calls  # type: ignore[attr-defined]
    assert compare(source, anonymized, people) is first
    assert compare.finder.n_calls == n_calls  # type: ignore[attr-defined]
    assert compare(source.clone(), anonymized, people) is not first
    compare(source, anonymized, people)
    anonymized.fill_(0)
    assert not compare(source, anonymized, people).is_found.item()
    assert pickle.loads(pickle.dumps(compare))._last is None
    compare.release()
    assert compare._last is None


def test_nothing_at_all() -> None:
    pairs = comparer()(clip({}), clip({}), ())
    assert pairs.source.shape == (0, 3)
    assert pairs.is_compared.shape == (0,)
    beyond = Sighting(0, 0, 1, (500.0, 500.0, 540.0, 540.0))
    flat = Sighting(0, 0, 2, (10.0, 10.0, 10.0, 10.0))
    assert not comparer()(clip({}), clip({}), (beyond, flat)).is_compared.any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"anonymized": clip({}, {})}, "expected both b t 3 h w"),
        ({"source": clip({}).float() + 9}, r"expected \[0, 1\]"),
        ({"people": None}, "neither people nor masks"),
        ({"people": None, "masks": torch.zeros(1, 2, 1, 80, 240)}, "masks have shape"),
        ({"people": (Sighting(1, 0, 1, box(0)),)}, "clip 1, frame 0, but there are 1 clips"),
        (
            {"people": (Sighting(0, 0, 1, (0, 0, float("nan"), 1)),)},
            "person 1 has a box or landmarks that are not finite",
        ),
    ],
)
def test_refuses_what_does_not_fit(change: dict[str, Any], message: str) -> None:
    given = {"source": clip({}), "anonymized": clip({}), "people": ()} | change
    with pytest.raises(ValueError, match=message):
        comparer()(**given)


@pytest.mark.parametrize("setting", [{"min_score": 0.0}, {"min_overlap": 1.0}, {"min_face_px": -1.0}])
def test_settings_that_cannot_be(setting: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(setting))} is "):
        FaceComparer(SquareFinder(), comparer().network, **setting)


def test_protocol_holds_the_weights() -> None:
    told = FaceComparer().protocol()
    assert told["finder"]["name"] == CenterFace.__name__
    assert told["network"]["name"] == FaceIdentity.__name__
    assert len(told["finder"]["sha256"]) == 64 == len(told["network"]["sha256"])


@dataclass(frozen=True)
class Photos:
    """Two photos each of 12 people, real ones, as clips of one frame."""

    source: torch.Tensor
    masks: torch.Tensor
    identities: torch.Tensor

    def measured(self, anonymized: torch.Tensor, compare: FaceComparer) -> dict[str, float]:
        told: dict[str, float] = {}
        for metric in (IdentityDistance(compare), ReidentificationRate(compare), DetectionRate(compare)):
            metric.update(
                **metric._filter_kwargs(
                    source=self.source, anonymized=anonymized, masks=self.masks, identities=self.identities
                )
            )
            told |= {figure.name: figure.value for figure in metric.measure().values}
        return told


@pytest.fixture(scope="module")
def photos(shared_data: Path) -> Photos:
    groups = defaultdict(list)
    with zipfile.ZipFile(shared_data / "faces" / "faces_permissive_128.zip") as archive:
        for row in csv.DictReader(io.StringIO(archive.read("index.tsv").decode()), delimiter="\t"):
            groups[row["group"]].append(row)
        rows = [row for group in groups.values() if len(group) >= 2 for row in group[:2]][:24]
        images = [np.asarray(Image.open(io.BytesIO(archive.read(row["file"]))).convert("RGB")) for row in rows]
    source = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)[:, None]
    hidden = torch.zeros(len(rows), 1, 1, 128, 128)
    for mask, row in zip(hidden, rows, strict=True):
        x, y, width, height = (round(float(row[f"box_{side}"])) for side in "xywh")
        mask[0, 0, max(0, y) : y + height, max(0, x) : x + width] = 1
    return Photos(source, hidden, torch.arange(len(rows)) // 2)


def test_real_faces(photos: Photos) -> None:
    compare = FaceComparer()
    same = photos.measured(photos.source.clone(), compare)
    assert same["identity_distance"] == 0
    assert same["detection_rate"] == 1 == same["identity_tracks_recognized"]
    assert same["reidentification_rank1"] >= 0.9
    assert same["identity_between_people"] > FaceIdentity.same_person_distance
    blurred = [
        torch.from_numpy(cv2.GaussianBlur(one[0].permute(1, 2, 0).numpy(), (0, 0), 12)).permute(2, 0, 1)[None]
        for one in photos.source
    ]
    hidden = torch.where(photos.masks > 0, torch.stack(blurred), photos.source)
    strong = photos.measured(hidden, compare)
    assert strong["identity_distance"] > FaceIdentity.same_person_distance
    assert strong["reidentification_rank1"] <= 0.3
    assert strong["detection_rate"] < 0.5
    assert strong["reidentification_original_rank1"] == same["reidentification_rank1"]
