"""Contact sheets: which frames they show, original above result, and the heads that were replaced."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from _clips import make, make_clip, scene
from _evaluation import BOX, anonymized_pair
from pa_lib.contracts import Decision
from pa_lib.errors import InputError, SettingError
from pa_lib.evaluation.pairs import ClipPair
from pa_lib.people import read_tracks
from pa_lib.reports import ContactSheets, SheetClip, SheetSettings, contact_sheet
from pa_lib.reports.contact_sheet import (
    CAPTION_PX,
    GAP_PX,
    HEAD_COLUMNS,
    MARGIN_PX,
    PAGE_HEIGHT_PX,
    TITLE_PX,
    WIDTH_PX,
    Strip,
    _heads,
)
from pa_lib.reports.lettering import EMPTY
from pa_lib.video import Frame, probe, read_frames

WIDTH, HEIGHT = 64, 48
FRAME_PX = (WIDTH_PX - 2 * MARGIN_PX - 3 * GAP_PX) // 4
HEAD_PX = (WIDTH_PX - 2 * MARGIN_PX - 7 * GAP_PX) // 8
FRAME_BAND_PX = CAPTION_PX + 2 * (round(FRAME_PX * HEIGHT / WIDTH) + GAP_PX)
MIDDLE_OF_BOX = ((BOX[0] + BOX[2]) / 2, (BOX[1] + BOX[3]) / 2)
OUTSIDE = (40.0, 6.0)  # neither under the mask nor where the square of the scene walks


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> ClipPair:
    """Twenty frames of 64 x 48, in which one box is filled black."""
    return anonymized_pair(tmp_path_factory.mktemp("pair"))


def clip_of(pair: ClipPair, *, has_records: bool = True) -> SheetClip:
    records = (pair.tracks, pair.report) if has_records else ()
    return SheetClip("clip", pair.original, pair.anonymized, *records)


def pixel(page: Image.Image, column: int, row: int, at: tuple[float, float], top: int = TITLE_PX) -> np.ndarray:
    """What a page shows of a point of the frame; row 0 = original, 1 = result."""
    scale = FRAME_PX / WIDTH
    left = MARGIN_PX + column * (FRAME_PX + GAP_PX)
    above = top + CAPTION_PX + row * (round(FRAME_PX * HEIGHT / WIDTH) + GAP_PX)
    return np.asarray(page)[round(above + (at[1] + 0.5) * scale), round(left + (at[0] + 0.5) * scale)].astype(int)


def drawn(index: int, at: tuple[float, float]) -> np.ndarray:
    """The same point as the scene was drawn: its blue counts the frames."""
    return scene(index, WIDTH, HEIGHT)[int(at[1]), int(at[0])].astype(int)


def test_frames_are_spread_and_results_lie_below_their_originals(pair: ClipPair) -> None:
    (page,) = contact_sheet(clip_of(pair, has_records=False), SheetSettings(n_frames=4))
    assert page.size == (WIDTH_PX, TITLE_PX + FRAME_BAND_PX + MARGIN_PX)
    for column, index in enumerate((2, 7, 12, 17)):  # the middles of four equal parts of twenty
        for row in (0, 1):
            assert np.abs(pixel(page, column, row, OUTSIDE) - drawn(index, OUTSIDE)).max() <= 5
        assert np.abs(pixel(page, column, 0, MIDDLE_OF_BOX) - drawn(index, MIDDLE_OF_BOX)).max() <= 5
        assert pixel(page, column, 1, MIDDLE_OF_BOX).max() <= 2


def test_zooms_show_the_head_that_was_replaced(pair: ClipPair) -> None:
    (page,) = contact_sheet(clip_of(pair), SheetSettings(n_frames=4))
    top = 2 * TITLE_PX + FRAME_BAND_PX + CAPTION_PX
    picture = np.asarray(page)
    for column in range(4):
        left = MARGIN_PX + column * (HEAD_PX + GAP_PX)
        before, after = (
            picture[y : y + HEAD_PX, left : left + HEAD_PX].astype(int) for y in (top, top + HEAD_PX + GAP_PX)
        )
        middle = slice(HEAD_PX // 2 + 10, HEAD_PX // 2 + 20)  # the top of the box, where the head of a body is
        assert after[middle, middle].max() <= 2
        assert before[middle, middle].min() > 40
        far = slice(HEAD_PX - 20, HEAD_PX - 5)  # beyond the box nothing differs
        assert np.abs(before[far, far] - after[far, far]).max() <= 2
    assert page.height == top + 2 * (HEAD_PX + GAP_PX) + MARGIN_PX


def test_every_frame_comes_in_pages_of_eight(pair: ClipPair) -> None:
    pages = list(contact_sheet(clip_of(pair), SheetSettings(n_frames=None)))
    # Two bands of four frames; their zooms no longer fit below them. The last four frames leave room.
    assert len(pages) == 5
    assert all(page.height <= PAGE_HEIGHT_PX for page in pages)
    firsts = [pages[0], pages[2], pages[4]]
    for page, index in zip(firsts, (0, 8, 16), strict=True):
        for column in range(4):
            assert np.abs(pixel(page, column, 0, OUTSIDE) - drawn(index + column, OUTSIDE)).max() <= 5
    second_band = TITLE_PX + FRAME_BAND_PX
    assert np.abs(pixel(pages[2], 3, 1, OUTSIDE, second_band) - drawn(15, OUTSIDE)).max() <= 5


def test_people_with_the_largest_heads_come_first_and_are_named(pair: ClipPair) -> None:
    assert pair.tracks is not None
    record = read_tracks(pair.tracks)
    strips, crops = _heads(record, {1: "M007"}, SheetSettings(n_frames=5))
    assert strips[1].title.startswith("Person 1 as M007: frames 0 to 19")
    assert sorted(crops) == [2, 6, 10, 14, 18]
    assert _heads(record, {}, SheetSettings(n_people=0))[0] == {}
    kept = replace(record, decisions=(Decision(1, False, "kept"),))
    assert _heads(kept, {}, SheetSettings())[0] == {}


@pytest.mark.parametrize("kind", ["gif", "image_folder"])
def test_other_kinds_of_clips(kind: str, tmp_path: Path) -> None:
    source = make(kind, tmp_path)
    (page,) = contact_sheet(SheetClip("a", source, source))
    assert page.width == WIDTH_PX


def test_a_frame_that_cannot_be_decoded_is_grey(pair: ClipPair) -> None:
    frame = next(iter(read_frames(probe(pair.original))))
    strip = Strip.of("", HEAD_COLUMNS, 1.0)
    strip.add(Frame(0, 0, 1, 0.0, None, "lost"), frame)
    (band,) = strip.bands()
    assert band.getpixel((HEAD_PX // 2, CAPTION_PX + HEAD_PX // 2)) == EMPTY
    assert band.getpixel((HEAD_PX // 2, CAPTION_PX + HEAD_PX + GAP_PX + HEAD_PX // 2)) != EMPTY


def test_what_does_not_belong_together_is_refused(pair: ClipPair, tmp_path: Path) -> None:
    shorter = make_clip(tmp_path / "shorter.mkv", codec="ffv1", n_frames=19)
    with pytest.raises(InputError, match="not equally long: the second one ends earlier"):
        list(contact_sheet(SheetClip("a", pair.original, shorter)))
    with pytest.raises(InputError, match="another"):
        list(contact_sheet(SheetClip("a", shorter, pair.anonymized, pair.tracks)))
    with pytest.raises(SettingError, match="n_frames: got 0"):
        SheetSettings(n_frames=0)
    with pytest.raises(SettingError, match="n_people: got -1"):
        SheetSettings(n_people=-1)


def test_files_and_page(pair: ClipPair, tmp_path: Path) -> None:
    sheets = ContactSheets(tmp_path)
    files = sheets.add("one", contact_sheet(clip_of(pair), SheetSettings(n_frames=4)))
    files += sheets.add("two & more", contact_sheet(clip_of(pair), SheetSettings(n_frames=None)))
    assert [file.name for file in files[:3]] == [
        "one.sheet_01.png",
        "two & more.sheet_01.png",
        "two & more.sheet_02.png",
    ]
    for file in files:
        with Image.open(file) as shown:
            assert shown.width == WIDTH_PX
    page = sheets.write().read_text(encoding="utf-8")
    assert page.count("<img") == len(files)
    assert "two &amp; more" in page
    assert set(re.findall(r'src="([a-z]+:[^;]*)', page)) == {"data:image/jpeg"}
    assert "http" not in page.replace("http-equiv", "")
