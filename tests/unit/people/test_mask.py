"""Maskers hide whom they must: all that a shape touches, up to the border, by the cell, and the box when in doubt."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pa_lib.contracts import ClipMasks, Kind, Presence, Track
from pa_lib.errors import PaLibError, ProtectionError
from pa_lib.functional import run_lengths
from pa_lib.people.mask import (
    AbstractMasker,
    BoxMasker,
    EllipseMasker,
    FrameMasks,
    MaskRequest,
    SilhouetteMasker,
)

Box = tuple[float, float, float, float]
HEIGHT, WIDTH = 91, 121  # odd, so that the last chroma cell is cut
IMAGE = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)


def presence(
    box: Box, kind: Kind = "body", person_id: int = 1, masks: dict[int, list[int]] | None = None, frame: int = 7
) -> Presence:
    track = Track(
        person_id + 10,
        kind,
        np.array([frame - 1, frame]),
        np.array([(0, 0, 1, 1), box], dtype=np.float32),
        np.ones(2, dtype=np.float32),
        masks=masks or {},
    )
    return Presence(person_id, track, 1)


def hidden(result: FrameMasks) -> NDArray[np.float32]:
    """The whole frame's alpha; fails where a mask leaves the frame."""
    for mask in result.masks:
        rows, columns = mask.alpha.shape
        assert mask.top >= 0 <= mask.left
        assert mask.top + rows <= HEIGHT
        assert mask.left + columns <= WIDTH
        assert mask.alpha.dtype == torch.float32
    return ClipMasks(result.masks, 1, HEIGHT, WIDTH).union(0).numpy()


class Painted:
    """A network that finds a silhouette drawn by hand, the same for every box."""

    def __init__(self, likely: NDArray[np.float32]) -> None:
        self.likely = likely

    def silhouette(self, image: NDArray[np.uint8], boxes: Sequence[Box]) -> list[tuple[int, int, NDArray[np.float32]]]:
        return [(0, 0, self.likely) for _ in boxes]


def drawn(*polygons: Sequence[tuple[int, int]], value: float = 1.0) -> NDArray[np.float32]:
    canvas = np.zeros((HEIGHT, WIDTH), dtype=np.float32)
    for polygon in polygons:
        cv2.fillPoly(canvas, [np.array(polygon, dtype=np.int32)], value)
    return canvas


BODY = (40.0, 20.0, 70.0, 80.0)
# Somebody in BODY: a head, and a trunk as wide as the box that narrows to the feet.
SOMEBODY = drawn([(48, 20), (62, 20), (62, 35), (48, 35)], [(40, 36), (69, 36), (62, 79), (48, 79)])
ALL_MASKERS: list[AbstractMasker] = [BoxMasker(), EllipseMasker(), SilhouetteMasker(Painted(SOMEBODY))]
masker_and_kind = pytest.mark.parametrize("kind", ["face", "body"])


@settings(deadline=None, max_examples=50)
@given(
    st.integers(0, 2),
    st.sampled_from(["face", "body"]),
    st.tuples(st.floats(-20, 110), st.floats(-20, 80)),
    st.tuples(st.floats(1, 60), st.floats(1, 60)),
    st.sampled_from([(1, 1), (2, 2), (1, 2)]),
)
def test_any_box_gives_masks_inside_the_frame_on_whole_chroma_cells(
    which: int, kind: Kind, corner: tuple[float, float], size: tuple[float, float], grid: tuple[int, int]
) -> None:
    (x, y), (w, h) = corner, size
    alpha = hidden(ALL_MASKERS[which].mask(MaskRequest(IMAGE, [presence((x, y, x + w, y + h), kind)], grid=grid)))

    assert alpha.min() >= 0
    assert alpha.max() <= 1
    for row in range(0, HEIGHT, grid[0]):
        cells = alpha[row : row + grid[0]]
        assert (cells == cells[:1]).all()
    for column in range(0, WIDTH, grid[1]):
        cells = alpha[:, column : column + grid[1]]
        assert (cells == cells[:, :1]).all()
    rows = slice(max(0, int(np.floor(y))), max(0, int(np.ceil(y + h))))
    columns = slice(max(0, int(np.floor(x))), max(0, int(np.ceil(x + w))))
    inside = alpha[rows, columns]
    if which < 2 and inside.size:  # the detector's own box is wholly replaced: both scales hold its corners
        assert inside.min() == 1


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        ((1.5, 30.0, 30.0, 60.0), slice(35, 55), 0),
        ((90.0, 30.0, 119.5, 60.0), slice(35, 55), WIDTH - 1),
        ((40.0, 1.9, 70.0, 40.0), 0, slice(48, 62)),
        ((40.0, 50.0, 70.0, 89.5), HEIGHT - 1, slice(48, 62)),
    ],
)
def test_boxes_that_end_at_the_border_cover_its_last_pixels(
    which: int, box: Box, rows: slice | int, columns: slice | int
) -> None:
    for kind in ("face", "body"):
        alpha = hidden(ALL_MASKERS[which].mask(MaskRequest(IMAGE, [presence(box, kind)], grid=(2, 2))))  # type: ignore[arg-type]
        assert (alpha[rows, columns] == 1).all()


def test_nobody_outside_the_frame_is_drawn_and_nobody_hidden_gives_nothing() -> None:
    for masker in ALL_MASKERS:
        far = masker.mask(
            MaskRequest(IMAGE, [presence((-90.0, 0.0, -60.0, 30.0)), presence((0.0, 200.0, 9.0, 220.0), "face")])
        )
        assert far == FrameMasks((), ())
        assert masker.mask(MaskRequest(IMAGE, [], [presence(BODY)])) == FrameMasks((), ())


@pytest.mark.parametrize("box", [(float("nan"), 0.0, 9.0, 9.0), (0.0, 0.0, float("inf"), 9.0), (50.0, 9.0, 20.0, 19.0)])
def test_senseless_boxes_are_an_error_and_not_an_unmasked_person(box: Box) -> None:
    for masker in ALL_MASKERS:
        for kind in ("face", "body"):
            with pytest.raises(ValueError, match="box"):
                masker.mask(MaskRequest(IMAGE, [presence(box, kind)]))  # type: ignore[arg-type]


def test_masks_say_whom_they_hide_and_where() -> None:
    people = [presence(BODY, "body", 4), presence((50.0, 22.0, 60.0, 34.0), "face", 4), presence(BODY, "face", 9)]
    for masker in ALL_MASKERS:
        masks = masker.mask(MaskRequest(IMAGE, people, frame=3)).masks
        assert [(mask.person_id, mask.kind, mask.frame) for mask in masks] == [
            (4, "body", 3),
            (4, "face", 3),
            (9, "face", 3),
        ]


def test_a_hard_ellipse_without_growth_has_the_area_of_one() -> None:
    masker = EllipseMasker(body_scale=1.0, dilation_px=0, feather_px=0)
    area = hidden(masker.mask(MaskRequest(IMAGE, [presence((20.0, 20.0, 80.0, 60.0))]))).sum()
    assert np.pi * 30 * 20 <= area <= np.pi * 30 * 20 + np.pi * 52  # plus at most the pixels its edge crosses


def test_a_face_in_profile_is_as_wide_as_a_head_is_deep() -> None:
    masker = EllipseMasker(dilation_px=0, feather_px=0)
    alpha = hidden(masker.mask(MaskRequest(IMAGE, [presence((60.0, 30.0, 70.0, 60.0), "face")])))
    assert alpha.any(0).sum() >= 36  # 0.8 x 1.5 x 30
    assert alpha.any(1).sum() >= 45


def test_the_soft_edge_goes_inward_from_the_grown_shape() -> None:
    hard = hidden(BoxMasker(body_scale=1, dilation_px=6, feather_px=0).mask(MaskRequest(IMAGE, [presence(BODY)])))
    soft = hidden(BoxMasker(body_scale=1, dilation_px=6, feather_px=6).mask(MaskRequest(IMAGE, [presence(BODY)])))
    assert ((soft > 0) == (hard > 0)).all()
    assert (soft[20:80, 40:70] == 1).all()
    assert soft[50, 34:41].tolist() == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1, 1])


@pytest.mark.parametrize("masker", [BoxMasker, EllipseMasker, lambda **kw: SilhouetteMasker(Painted(SOMEBODY), **kw)])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"feather_px": 7.0}, r"feather_px 7 is wider than dilation_px [46]"),
        ({"dilation_px": -1.0, "feather_px": -2.0}, "dilation_px .* -1"),
        ({"feather_px": float("nan")}, "feather_px .* nan"),
        ({"face_scale": 0.9}, "face_scale .* 0.9"),
        ({"body_scale": float("inf")}, "body_scale .* inf"),
    ],
)
def test_settings_that_would_show_somebody_are_refused(
    masker: type[BoxMasker], arguments: dict[str, float], message: str
) -> None:
    with pytest.raises(PaLibError, match=message):
        masker(**arguments)


@pytest.mark.parametrize("threshold", [0, 1, -0.1])
def test_a_threshold_that_marks_all_or_nothing_is_refused(threshold: float) -> None:
    with pytest.raises(PaLibError, match="threshold"):
        SilhouetteMasker(Painted(SOMEBODY), threshold=threshold)


def test_a_plausible_silhouette_is_followed() -> None:
    result = SilhouetteMasker(Painted(SOMEBODY), dilation_px=2, dilation=0, feather_px=2).mask(
        MaskRequest(IMAGE, [presence(BODY)])
    )
    alpha = hidden(result)
    assert result.fallbacks == ()
    assert (alpha[SOMEBODY > 0] == 1).all()
    assert alpha[25, 42] == 0  # beside the head
    assert alpha[75, 42] == 0  # beside the feet


NOBODY = np.zeros_like(SOMEBODY)
HEADLESS, LEGLESS, HALF = (SOMEBODY.copy() for _ in range(3))
HEADLESS[:34] = 0
LEGLESS[66:] = 0
HALF[:, 55:] = 0
NO_TOP = SOMEBODY.copy()
NO_TOP[:34, :] = 0
NO_TOP[20:34, 40:41] = 1  # a raised arm reaches the top, the head is missing


@pytest.mark.parametrize("likely", [NOBODY, HEADLESS, LEGLESS, HALF, NO_TOP, SOMEBODY * 0.09])
def test_a_silhouette_that_cannot_be_right_becomes_the_box_and_is_reported(likely: NDArray[np.float32]) -> None:
    result = SilhouetteMasker(Painted(likely)).mask(MaskRequest(IMAGE, [presence(BODY, person_id=3)]))
    assert (hidden(result)[20:80, 40:70] == 1).all()
    assert len(result.fallbacks) == 1
    assert result.fallbacks[0].startswith("person 3, track 13: the silhouette ")
    assert result.fallbacks[0].endswith("so the box is hidden")


def test_a_silhouette_does_not_hide_people_far_from_its_box() -> None:
    alpha = hidden(SilhouetteMasker(Painted(np.ones_like(SOMEBODY))).mask(MaskRequest(IMAGE, [presence(BODY)])))
    assert (alpha[20:80, 40:70] == 1).all()
    assert not alpha[:, :30].any()
    assert not alpha[:, 80:].any()


def test_a_network_that_gives_nan_is_an_error() -> None:
    with pytest.raises(ProtectionError, match="NaN"):
        SilhouetteMasker(Painted(SOMEBODY * np.float32("nan"))).mask(MaskRequest(IMAGE, [presence(BODY)]))


def test_a_tracked_face_is_covered_whatever_the_silhouette_says() -> None:
    face = (90.0, 20.0, 100.0, 32.0)
    result = SilhouetteMasker(Painted(SOMEBODY)).mask(MaskRequest(IMAGE, [presence(BODY), presence(face, "face")]))
    assert (hidden(result)[20:32, 90:100] == 1).all()


EDITED = np.zeros((HEIGHT, WIDTH), dtype=bool)
EDITED[10:20, 90:110] = True


@pytest.mark.parametrize("which", [0, 1, 2])
@masker_and_kind
def test_the_mask_of_a_tracks_file_comes_first(which: int, kind: Kind) -> None:
    masks = {7: run_lengths(torch.from_numpy(EDITED))}
    result = ALL_MASKERS[which].mask(MaskRequest(IMAGE, [presence(BODY, kind, masks=masks)]))
    alpha = hidden(result)
    assert (alpha[EDITED] == 1).all()
    assert not alpha[40:, :80].any()
    assert result.fallbacks == ()


@pytest.mark.parametrize("which", [0, 1, 2])
def test_an_edited_mask_of_another_frame_is_not_used_and_an_empty_one_hides_nobody_so_the_shape_does(
    which: int,
) -> None:
    other = ALL_MASKERS[which].mask(
        MaskRequest(IMAGE, [presence(BODY, masks={6: run_lengths(torch.from_numpy(EDITED))})])
    )
    assert (hidden(other)[SOMEBODY > 0] == 1).all()
    empty = ALL_MASKERS[which].mask(MaskRequest(IMAGE, [presence(BODY, masks={7: [HEIGHT * WIDTH]})]))
    assert (hidden(empty)[SOMEBODY > 0] == 1).all()
    assert "empty" in empty.fallbacks[0]
    with pytest.raises(PaLibError, match="add up to"):
        ALL_MASKERS[which].mask(MaskRequest(IMAGE, [presence(BODY, masks={7: [3]})]))


class ByBox(Painted):
    """Marks the whole of every box, as the network does when somebody fills it."""

    def __init__(self) -> None:
        super().__init__(NOBODY)

    def silhouette(self, image: NDArray[np.uint8], boxes: Sequence[Box]) -> list[tuple[int, int, NDArray[np.float32]]]:
        found = []
        for box in boxes:
            x0, y0, x1, y1 = (round(side) for side in box)
            found.append((max(0, y0), max(0, x0), np.ones((y1 - max(0, y0), x1 - max(0, x0)), dtype=np.float32)))
        return found


IN_FRONT = (55.0, 15.0, 90.0, 88.0)


def test_somebody_kept_in_front_is_hidden_too_unless_told_otherwise() -> None:
    people = [presence(BODY)], [presence(IN_FRONT, person_id=2)]
    careful = hidden(SilhouetteMasker(ByBox()).mask(MaskRequest(IMAGE, *people)))
    assert (careful[20:80, 40:70] == 1).all()
    sparing = hidden(SilhouetteMasker(ByBox(), spare_kept=True).mask(MaskRequest(IMAGE, *people, grid=(2, 2))))
    assert not sparing[42:80, 58:70].any()
    assert (sparing[20:80, 40:54] == 1).all()
    assert (sparing[20:38, 40:70] == 1).all()  # where the hidden one's head may be


def test_sparing_never_uncovers_a_hidden_face_nor_gives_way_to_somebody_behind() -> None:
    masker = SilhouetteMasker(ByBox(), spare_kept=True)
    face = (56.0, 50.0, 66.0, 62.0)  # low in the box: somebody who bends down
    alpha = hidden(
        masker.mask(MaskRequest(IMAGE, [presence(BODY), presence(face, "face")], [presence(IN_FRONT, person_id=2)]))
    )
    assert (alpha[50:62, 56:66] == 1).all()
    behind = presence((55.0, 5.0, 90.0, 70.0), person_id=2)
    assert (hidden(masker.mask(MaskRequest(IMAGE, [presence(BODY)], [behind])))[20:80, 40:70] == 1).all()


def test_a_kept_face_that_was_seen_is_spared_even_at_a_hidden_head() -> None:
    masker = SilhouetteMasker(ByBox(), spare_kept=True)
    kept_face = presence((50.0, 24.0, 60.0, 36.0), "face", person_id=2)
    alpha = hidden(masker.mask(MaskRequest(IMAGE, [presence(BODY)], [kept_face])))
    assert not alpha[26:34, 52:58].any()
    assert (alpha[20:80, 40:47] == 1).all()
    hidden_face = presence((50.0, 24.0, 60.0, 36.0), "face", person_id=3)
    both = hidden(masker.mask(MaskRequest(IMAGE, [presence(BODY), hidden_face], [kept_face])))
    assert (both[24:36, 50:60] == 1).all()  # whoever is in doubt is hidden
    assert (hidden(masker.mask(MaskRequest(IMAGE, [presence(BODY)], [unsighted(kept_face)])))[20:80, 40:70] == 1).all()


def test_of_a_kept_face_that_was_fast_no_more_is_spared_than_its_size() -> None:
    """Between two detections its track holds both; beside the face the hidden person may be."""
    masker = SilhouetteMasker(ByBox(), spare_kept=True)
    boxes = np.array([(42, 24, 52, 36), (42, 24, 62, 36), (52, 24, 62, 36)], np.float32)
    for scores, is_spared in (((0.9, np.nan, 0.9), [False, True, False]), ((0.9, 0.9, 0.9), [True, True, True])):
        track = Track(2, "face", np.arange(3), boxes, np.array(scores, np.float32))
        alpha = hidden(masker.mask(MaskRequest(IMAGE, [presence(BODY)], [Presence(2, track, 1)])))
        assert [bool((alpha[28:32, x] == 0).all()) for x in (44, 52, 60)] == is_spared


def unsighted(who: Presence) -> Presence:
    """The same person in a frame where no detector spoke."""
    person_id, track, row = who
    return Presence(person_id, dataclasses.replace(track, scores=np.full_like(track.scores, np.nan)), row)


def test_what_no_detector_sees_gives_way_to_somebody_kept_in_front() -> None:
    masker = SilhouetteMasker(ByBox(), spare_kept=True)
    kept = [presence(IN_FRONT, person_id=2)]
    face = presence((60.0, 30.0, 72.0, 44.0), "face")
    assert (hidden(masker.mask(MaskRequest(IMAGE, [face], kept)))[30:44, 60:72] == 1).all()
    assert not hidden(masker.mask(MaskRequest(IMAGE, [unsighted(face)], kept)))[15:88, 55:90].any()
    gone = hidden(masker.mask(MaskRequest(IMAGE, [unsighted(presence(BODY))], kept)))
    assert not gone[20:80, 58:70].any()  # its head too
    assert (gone[20:80, 40:54] == 1).all()


def test_the_top_of_a_hidden_body_gives_way_only_where_its_face_is_seen_elsewhere() -> None:
    masker = SilhouetteMasker(ByBox(), spare_kept=True)
    kept = [presence(IN_FRONT, person_id=2)]
    face = presence((42.0, 22.0, 48.0, 30.0), "face")
    faced = hidden(masker.mask(MaskRequest(IMAGE, [presence(BODY), face], kept)))
    assert not faced[20:80, 60:70].any()
    assert (faced[22:30, 42:48] == 1).all()
    assert (hidden(masker.mask(MaskRequest(IMAGE, [presence(BODY), unsighted(face)], kept)))[20:38, 40:70] == 1).all()


def test_who_leaves_the_ground_or_holds_the_other_within_still_stands_in_front() -> None:
    masker = SilhouetteMasker(ByBox(), spare_kept=True)
    in_the_air = (55.0, 5.0, 90.0, 70.0)
    person_id, track, row = presence(in_the_air, person_id=2)
    landed = dataclasses.replace(track, boxes=np.array([IN_FRONT, in_the_air], dtype=np.float32))
    assert not hidden(masker.mask(MaskRequest(IMAGE, [presence(BODY)], [Presence(person_id, landed, row)])))[
        42:70, 58:70
    ].any()
    around = presence((30.0, 10.0, 80.0, 78.0), person_id=2)
    assert not hidden(masker.mask(MaskRequest(IMAGE, [presence(BODY)], [around])))[42:76, 42:68].any()


def test_what_is_spared_is_told_also_at_a_hidden_face_that_is_seen() -> None:
    """What a system may not cover beyond the masks: kept people in front, their faces anywhere, none behind."""
    masker = SilhouetteMasker(ByBox(), spare_kept=True)
    face = presence((60.0, 30.0, 72.0, 44.0), "face")
    kept = presence(IN_FRONT, person_id=2)
    spared = masker.mask(MaskRequest(IMAGE, [presence(BODY), face], [kept])).spared
    assert set(spared) == {1}
    where = np.zeros((HEIGHT, WIDTH), dtype=bool)
    part = spared[1]
    where[part.top : part.top + part.mask.shape[0], part.left : part.left + part.mask.shape[1]] = part.mask
    assert where[16:87, 56:89].all()
    assert not where[:, :50].any()
    behind = presence((55.0, 5.0, 90.0, 70.0), person_id=2)
    assert masker.mask(MaskRequest(IMAGE, [presence(BODY), face], [behind])).spared == {}
    seen = presence((50.0, 24.0, 60.0, 36.0), "face", person_id=2)
    assert set(masker.mask(MaskRequest(IMAGE, [presence(BODY)], [seen])).spared) == {1}
    for other in (SilhouetteMasker(ByBox()), BoxMasker()):
        assert other.mask(MaskRequest(IMAGE, [presence(BODY)], [kept])).spared == {}


def test_silhouettes_of_real_people(shared_data: Path) -> None:
    """On a picture with an annotated subject the mask covers the subject and leaves most of the frame."""
    from pa_lib.pretrained import SelfieSegmentation

    folder = shared_data / "clips_with_masks" / "davis_dance-twirl"
    picture, truth = (sorted((folder / part).iterdir())[25] for part in ("frames", "masks"))
    image = np.ascontiguousarray(cv2.imread(str(picture))[..., ::-1])
    subject = cv2.imread(str(truth), cv2.IMREAD_GRAYSCALE) > 127
    rows, columns = np.flatnonzero(subject.any(1)), np.flatnonzero(subject.any(0))
    box = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))

    result = SilhouetteMasker(SelfieSegmentation()).mask(MaskRequest(image, [presence(box)], grid=(2, 2)))

    alpha = ClipMasks(result.masks, 1, *subject.shape).union(0).numpy()
    assert float((alpha[subject] == 1).mean()) > 0.97
    assert float((alpha > 0).mean()) < 4 * float(subject.mean())


class Certain(Painted):
    """A network that tells one person from others: what is theirs is drawn by hand."""

    def outlines(
        self, image: NDArray[np.uint8], prompts: Sequence[object], believed: Sequence[object] | None = None
    ) -> list[tuple[int, int, NDArray[np.float32]]]:
        return [(0, 0, np.stack([self.likely, 1 - self.likely])) for _ in prompts]


def test_pixels_that_are_nobody_else_s_are_spared_wherever_people_stand() -> None:
    """By the outline, not by the feet; where a face may be that no detector sees, only what is certain."""
    likely = drawn([(55, 42), (70, 42), (70, 60), (55, 60)], value=0.6)
    likely[22:38, 55:70] = 0.6
    likely[22:38, 62:70] = 0.95
    masker = SilhouetteMasker(Certain(likely), threshold=0.05, spare_kept=True)
    assert masker.looks_around
    assert not SilhouetteMasker(Certain(likely)).looks_around
    behind = presence((55.0, 5.0, 90.0, 70.0), person_id=2)
    alpha = hidden(masker.mask(MaskRequest(IMAGE, [presence(BODY)], [behind])))
    assert not alpha[44:58, 57:68].any()
    assert not alpha[24:36, 64:68].any()
    assert (alpha[22:38, 55:60] == 1).all()  # uncertain, at the top of a hidden body
    face = presence((56.0, 46.0, 66.0, 58.0), "face")
    seen = hidden(masker.mask(MaskRequest(IMAGE, [presence(BODY), face], [behind])))
    assert (seen[46:58, 56:66] == 1).all()  # never out of a face that a detector sees
