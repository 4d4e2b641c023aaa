"""Contact sheets: frames of a video above what was made of them, and zooms of the heads that were replaced."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pa_lib.contracts import HeadPose
from pa_lib.errors import InputError, SettingError
from pa_lib.people import TracksRecord, check_source, read_tracks
from pa_lib.reports import templates
from pa_lib.reports.evaluation_page import write_page
from pa_lib.reports.lettering import EMPTY, INK, MUTED, PAPER, fitted, lettering
from pa_lib.reports.run_record import RunReport
from pa_lib.reports.thumbnails import data_uri
from pa_lib.video import Frame, Limits, StagedResults, fingerprint, probe, read_frames, write_whole

WIDTH_PX = 1600
PAGE_HEIGHT_PX = 1600
"""Height at which a page is full. A single band of an upright video may be higher."""
MARGIN_PX, GAP_PX, CAPTION_PX, TITLE_PX = 16, 4, 22, 36
FRAME_COLUMNS, HEAD_COLUMNS = 4, 8
_ZOOM = 7.0  # side of a zoom over the head's scale: a head with its hair is about 4 high
_LEAST_ZOOM_PX = 24  # of the frame: a smaller zoom shows squares

Crop = tuple[float, float, float]
"""Middle and side of a square in pixels of the frame."""


@dataclass(frozen=True)
class SheetSettings:
    """What a contact sheet shows.

    Args:
        n_frames: Number of frames spread over the clip, and of zooms spread over the time of each person; None shows
            every frame, eight and their zooms at a time.
        n_people: Largest number of people with zooms, those with the largest heads first.

    Raises:
        SettingError: A number is too small.
    """

    n_frames: int | None = 8
    n_people: int = 8

    def __post_init__(self) -> None:
        if self.n_frames is not None and self.n_frames < 1:
            raise SettingError(f"n_frames: got {self.n_frames}, expected at least 1, or null for every frame")
        if self.n_people < 0:
            raise SettingError(f"n_people: got {self.n_people}, expected 0 or more")


@dataclass(frozen=True)
class SheetClip:
    """A clip, what was made of it, and the records of the run.

    Args:
        name: Title of the sheet.
        original: The source: a video, a GIF, an image or a folder of images.
        anonymized: The result.
        tracks: Tracks file of the run; None: no head is zoomed.
        report: Report of the run as JSON, which names what took each person's place; None: no names.
    """

    name: str
    original: Path
    anonymized: Path
    tracks: Path | None = None
    report: Path | None = None


@dataclass(eq=False)
class Strip:
    """Pairs of pictures, in bands of equally many columns: originals above, results below.

    Args:
        title: Line above the first band; empty: no line.
        columns: Number of pairs in a band.
        shape: Width and height of a picture in pixels.
        pairs: Caption, original and result of each pair; None where a frame could not be decoded.
    """

    title: str
    columns: int
    shape: tuple[int, int]
    pairs: list[tuple[str, Image.Image | None, Image.Image | None]] = field(default_factory=list)

    @classmethod
    def of(cls, title: str, columns: int, aspect: float, room: int = WIDTH_PX - 2 * MARGIN_PX) -> Strip:
        """An empty strip for pictures of one shape, whose bands fill the room.

        Args:
            title: Line above the first band.
            columns: Number of pairs in a band.
            aspect: Height of the pictures over their width.
            room: Width of a band in pixels.
        """
        across = (room - (columns - 1) * GAP_PX) // columns
        return cls(title, columns, (across, max(round(across * aspect), 1)))

    def add(self, before: Frame, after: Frame, crop: Crop | None = None) -> None:
        """Add two frames, or the same square of both.

        Args:
            before: Frame of the original.
            after: Frame of the result.
            crop: Square that is shown; None: the whole frame.
        """
        one, two = (
            None if frame.picture is None else _scaled(frame.picture.rgb(), crop, self.shape)
            for frame in (before, after)
        )
        self.pairs.append((f"{before.index}   {before.time_s:.2f} s", one, two))

    def bands(self) -> Iterator[Image.Image]:
        """One picture for each band: captions, originals, results."""
        width, height = self.shape
        size = (self.columns * (width + GAP_PX) - GAP_PX, CAPTION_PX + 2 * (height + GAP_PX))
        for start in range(0, len(self.pairs), self.columns):
            band = Image.new("RGB", size, PAPER)
            draw = ImageDraw.Draw(band)
            for column, (caption, *pictures) in enumerate(self.pairs[start : start + self.columns]):
                left = column * (width + GAP_PX)
                draw.text((left, 3), fitted(caption, lettering(14), width), MUTED, lettering(14))
                for row, picture in enumerate(pictures):
                    band.paste(picture or EMPTY, _box(left, CAPTION_PX + row * (height + GAP_PX), self.shape))
            yield band


def contact_sheet(
    clip: SheetClip, settings: SheetSettings | None = None, limits: Limits | None = None
) -> Iterator[Image.Image]:
    """The contact sheet of a clip: frames as they were above those of the result, then the head of each hidden person.

    Both videos are read once, and no more than a page is held. The sheet shows people as they are: delete it
    afterwards.

    Args:
        clip: The files.
        settings: Numbers of frames and people that are shown.
        limits: Limits on what is decoded.

    Yields:
        Pages, 1600 px wide, at least one.

    Raises:
        InputError: The two videos differ in length, cannot be read, or the records belong to another video.
    """
    settings = settings or SheetSettings()
    record = None if clip.tracks is None else read_tracks(clip.tracks)
    if record is not None:
        check_source(record, fingerprint(clip.original))
    before, after = probe(clip.original, limits or Limits()), probe(clip.anonymized, limits or Limits())
    n_frames = record.n_frames if record is not None else sum(1 for _ in read_frames(before))
    shown = set(_spread(range(n_frames), settings.n_frames))
    whole = Strip.of("", FRAME_COLUMNS, before.height / before.width)
    heads, crops = _heads(record, _names(clip.report), settings)
    book = _Book(f"{clip.name}: {n_frames} frames, {before.width} x {before.height}", [whole, *heads.values()])
    for one, two in zip_longest(read_frames(before), read_frames(after)):
        if one is None or two is None:
            raise InputError(
                f"{clip.original} and {clip.anonymized} are not equally long: the "
                f"{'first' if one is None else 'second'} one ends earlier; was it made of another file?"
            )
        if one.index in shown:
            whole.add(one, two)
        for person_id, crop in crops.get(one.index, ()):
            heads[person_id].add(one, two, crop)
        if settings.n_frames is None and len(whole.pairs) == HEAD_COLUMNS:
            yield from book.pages()
    if whole.pairs:
        yield from book.pages()


class ContactSheets:
    """Writes the contact sheets of several clips: PNG files, and one page that needs no other file.

    Args:
        folder: Folder to write to; it is made for the first clip.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._clips: list[tuple[str, list[str]]] = []

    def add(self, name: str, pages: Iterable[Image.Image]) -> list[Path]:
        """Write the pages of one clip as ``NAME.sheet_01.png`` and so on; they appear together or not at all.

        Args:
            name: Name of the clip, which is unique in the folder.
            pages: The pages, from `contact_sheet`.

        Raises:
            PaLibError: A file cannot be written, or a page cannot be made.
        """
        files: list[str] = []
        shown: list[str] = []
        with StagedResults(self.folder) as staged:
            for number, page in enumerate(pages, 1):
                files.append(f"{name}.sheet_{number:02d}.png")
                write_whole(staged.path / files[-1], _encoded(page, "PNG"))
                shown.append(data_uri(_encoded(page, "JPEG")))
            staged.commit(last=files[-1])
        self._clips.append((name, shown))
        return [self.folder / file for file in files]

    def write(self) -> Path:
        """Write the page of all clips, ``contact_sheet.html``.

        Raises:
            PaLibError: It cannot be written.
        """
        path = self.folder / "contact_sheet.html"
        write_page(path, templates.render("contact_sheet.html.j2", clips=self._clips))
        return path


class _Book:
    """Strips as pages.

    Args:
        title: First line of every page.
        strips: Strips that are filled, emptied and filled again.
    """

    def __init__(self, title: str, strips: Sequence[Strip]) -> None:
        self._title, self._strips = title, strips
        self._n_pages = 0

    def pages(self) -> Iterator[Image.Image]:
        """Bands from top to bottom, after which the strips are empty; a page ends before the band that is too much."""
        page: list[tuple[str, Image.Image]] = []
        used = TITLE_PX + MARGIN_PX
        for strip in self._strips:
            for number, band in enumerate(strip.bands()):
                title = "" if number else strip.title
                height = band.height + (TITLE_PX if title else 0)
                if page and used + height > PAGE_HEIGHT_PX:
                    yield self._page(page)
                    page, used = [], TITLE_PX + MARGIN_PX
                page.append((title, band))
                used += height
            strip.pairs.clear()
        yield self._page(page)

    def _page(self, parts: Sequence[tuple[str, Image.Image]]) -> Image.Image:
        self._n_pages += 1
        height = TITLE_PX + MARGIN_PX + sum(band.height + (TITLE_PX if title else 0) for title, band in parts)
        page = Image.new("RGB", (WIDTH_PX, height), PAPER)
        draw = ImageDraw.Draw(page)
        room = WIDTH_PX - 2 * MARGIN_PX
        text = f"{self._title}; page {self._n_pages}; originals above, results below"
        draw.text((MARGIN_PX, 10), fitted(text, lettering(20), room), INK, lettering(20))
        top = TITLE_PX
        for title, band in parts:
            if title:
                draw.text((MARGIN_PX, top + 10), fitted(title, lettering(18), room), INK, lettering(18))
                top += TITLE_PX
            page.paste(band, (MARGIN_PX, top))
            top += band.height
        return page


def _spread(items: Sequence[int], count: int | None) -> list[int]:
    """At most `count` of the items: the middles of equal parts, since the ends of a video are often black."""
    if count is None or len(items) <= count:
        return list(items)
    return [items[int((at + 0.5) / count * len(items))] for at in range(count)]


def _names(report: Path | None) -> dict[int, str]:
    """Person id -> name of what took the person's place."""
    people = () if report is None else RunReport.read_json(report).people
    return {person.person_id: person.replacement for person in people if person.replacement}


def _heads(
    record: TracksRecord | None, names: Mapping[int, str], settings: SheetSettings
) -> tuple[dict[int, Strip], dict[int, list[tuple[int, Crop]]]]:
    """An empty strip for each person who is zoomed, and what is cut out of which frame for them."""
    strips: dict[int, Strip] = {}
    crops: dict[int, list[tuple[int, Crop]]] = defaultdict(list)
    hidden = [] if record is None else [person.person_id for person in record.hidden]
    poses = {} if record is None else {one: record.poses[one] for one in hidden if len(record.poses[one].frames)}
    sizes = {person_id: float(np.median(track.numbers[:, 2])) for person_id, track in poses.items()}
    for person_id in sorted(sorted(sizes, key=lambda one: -sizes[one])[: settings.n_people]):
        frames = poses[person_id].frames.tolist()
        by = f" as {names[person_id]}" if person_id in names else ""
        about = f"frames {frames[0]} to {frames[-1]}, {sizes[person_id]:.0f} px from eyes to mouth"
        left_out = len(poses) - settings.n_people
        rest = f"; of {len(poses)} people those with the largest heads" if left_out > 0 and not strips else ""
        strips[person_id] = Strip.of(f"Person {person_id}{by}: {about}{rest}", HEAD_COLUMNS, 1.0)
        for frame in _spread(frames, settings.n_frames):
            pose = poses[person_id].at(frame)
            if pose is not None:
                crops[frame].append((person_id, _around(pose)))
    return strips, crops


def _around(pose: HeadPose) -> Crop:
    """The square around a head, a little below the eyes."""
    return pose.x, pose.y + pose.scale / 3, max(_ZOOM * pose.scale, _LEAST_ZOOM_PX)


def _scaled(rgb: NDArray[np.uint8], crop: Crop | None, shape: tuple[int, int]) -> Image.Image:
    """A frame, or a square of it, in the size of a tile; what lies outside the frame is grey."""
    picture = Image.fromarray(rgb)
    if crop is not None:
        x, y, side = crop
        whole, picture = picture, Image.new("RGB", (round(side), round(side)), EMPTY)
        picture.paste(whole, (-round(x - side / 2), -round(y - side / 2)))
    return picture.resize(shape, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _box(left: int, top: int, shape: tuple[int, int]) -> tuple[int, int, int, int]:
    return left, top, left + shape[0], top + shape[1]


def _encoded(page: Image.Image, format: str) -> bytes:
    file = io.BytesIO()
    page.save(file, format, quality=88)
    return file.getvalue()
