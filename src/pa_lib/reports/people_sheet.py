"""The numbered sheet of all people in a video, to choose from before anything is hidden."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pa_lib.contracts import Box, Decision, Person
from pa_lib.errors import SettingError
from pa_lib.reports.lettering import EMPTY, HIDDEN, INK, KEPT, MUTED, PAPER, Color, Font, fitted, lettering, wrapped
from pa_lib.reports.sheet_frames import Candidate, body_or_face, candidates, overview_frames
from pa_lib.video.staging import StagedFile

SHEET_WIDTH_PX = 1600
MARGIN_PX = 40
GAP_PX = 20


@dataclass(frozen=True, eq=False)
class _Crop:
    picture: Image.Image
    quality: float


class PeopleSheet:
    """All people in a video with their numbers: one picture each, and a few whole frames that show who is where.

    Known beforehand is which frames it needs, so that one streaming pass is enough and only the pictures are held:

    >>> from pa_lib.contracts import Track
    >>> track = Track(1, "face", np.arange(9), np.tile(np.float32([4, 4, 12, 12]), (9, 1)), np.ones(9, np.float32))
    >>> sheet = PeopleSheet([Person(1, (track,))], [Decision(1, False, "subject")], 32, 24, np.arange(9) / 25)
    >>> for index in sorted(sheet.needed_frames):
    ...     sheet.offer(index, np.zeros((24, 32, 3), np.uint8))
    >>> sheet.image().width
    1600

    Args:
        people: People to show.
        decisions: Decision of the chooser for each person.
        width, height: Size of the upright frame in pixels.
        times_s: Presentation time of every frame in seconds.
        title: Title of the sheet, usually the name of the video.
        replacements: Person id -> name of what will take the person's place; None where the system has no names.

    Raises:
        SettingError: A person has no decision.
    """

    def __init__(
        self,
        people: Sequence[Person],
        decisions: Iterable[Decision],
        width: int,
        height: int,
        times_s: NDArray[np.float64],
        title: str = "",
        replacements: Mapping[int, str] | None = None,
    ) -> None:
        self.people = tuple(people)
        self.decisions = {decision.person_id: decision for decision in decisions}
        undecided = [person.person_id for person in self.people if person.person_id not in self.decisions]
        if undecided:
            raise SettingError(f"person {undecided[0]} has no decision: every person found must be hidden or kept")
        self.width, self.height = width, height
        self.times_s = times_s
        self.title = title
        self.replacements = dict(replacements or {})
        self._columns, self._cell = _grid(len(self.people))
        self._candidates: dict[int, list[Candidate]] = {}
        for person in self.people:
            for candidate in candidates(person, width, height):
                self._candidates.setdefault(candidate.frame, []).append(candidate)
        self._overview_frames = overview_frames(self.people, len(times_s), width, height)
        self._crops: dict[int, _Crop] = {}
        self._overviews: dict[int, Image.Image] = {}

    @property
    def needed_frames(self) -> set[int]:
        """Indices of the frames to offer: at most 3 for each person and 4 more."""
        return set(self._candidates) | set(self._overview_frames)

    def offer(self, index: int, rgb: NDArray[np.uint8]) -> None:
        """Shows one frame to the sheet; frames that are not needed are ignored.

        Args:
            index: Index of the frame in the video.
            rgb: The frame, shape h w 3, RGB in 0..255.
        """
        for candidate in self._candidates.get(index, ()):
            quality = candidate.quality * _sharpness(rgb, candidate.box)
            best = self._crops.get(candidate.person_id)
            if best is None or quality > best.quality:
                colour = self._colour(candidate.person_id)
                self._crops[candidate.person_id] = _Crop(_crop(rgb, candidate, self._cell, colour), quality)
        if index in self._overview_frames:
            self._overviews[index] = self._draw_overview(index, rgb)

    def save(self, path: Path) -> None:
        """Writes the sheet as PNG. It shows the faces that are to be hidden: delete it after choosing.

        Raises:
            PaLibError: The file cannot be written.
        """
        with self.stage(path) as staged:
            staged.commit()

    def stage(self, path: Path) -> StagedFile:
        """The picture of `save`, written and waiting for its name."""
        file = io.BytesIO()
        self.image().save(file, "PNG", optimize=True)
        return StagedFile.holding(path, [file.getvalue()])

    def image(self) -> Image.Image:
        """The sheet, 1600 px wide and as high as it must be."""
        overviews = [self._overviews[index] for index in sorted(self._overviews)]
        per_row = 1 if len(overviews) == 1 else 2
        cell_width, cell_height = self._cell
        rows = math.ceil(len(self.people) / self._columns)
        top = 150
        overviews_height = sum(
            max(picture.height for picture in overviews[at : at + per_row]) + GAP_PX
            for at in range(0, len(overviews), per_row)
        )
        caption_height = 84
        height = top + overviews_height + rows * (cell_height + caption_height + GAP_PX) + MARGIN_PX
        sheet = Image.new("RGB", (SHEET_WIDTH_PX, height), PAPER)
        draw = ImageDraw.Draw(sheet)
        self._draw_head(draw)
        for at in range(0, len(overviews), per_row):
            row = overviews[at : at + per_row]
            left = MARGIN_PX
            for picture in row:
                sheet.paste(picture, (left, top))
                left += picture.width + GAP_PX
            top += max(picture.height for picture in row) + GAP_PX
        for place, person in enumerate(self.people):
            left = MARGIN_PX + place % self._columns * (cell_width + GAP_PX)
            cell_top = top + place // self._columns * (cell_height + caption_height + GAP_PX)
            self._draw_person(sheet, draw, person, left, cell_top)
        return sheet

    def _colour(self, person_id: int) -> Color:
        return HIDDEN if self.decisions[person_id].is_hidden else KEPT

    def _draw_head(self, draw: ImageDraw.ImageDraw) -> None:
        n_hidden = sum(self.decisions[person.person_id].is_hidden for person in self.people)
        found = (
            "No person was found"
            if not self.people
            else f"{len(self.people)} people"
            if len(self.people) > 1
            else "1 person"
        )
        title = f"{found} in {self.title}" if self.title else found
        right = SHEET_WIDTH_PX - MARGIN_PX
        draw.text((MARGIN_PX, 34), fitted(title, lettering(38), right - MARGIN_PX - 330), INK, lettering(38))
        left = right
        for label, colour in ((f"{len(self.people) - n_hidden} to keep", KEPT), (f"{n_hidden} to hide", HIDDEN)):
            left -= int(lettering(22).getlength(label)) + 34
            draw.rounded_rectangle((left, 40, left + int(lettering(22).getlength(label)) + 24, 74), 17, colour)
            draw.text((left + 12, 57), label, "white", lettering(22), anchor="lm")
        note = (
            "The numbers are those of the tracks file. "
            "This sheet shows people as they are: delete it when you have chosen."
        )
        draw.text((MARGIN_PX, 96), note, MUTED, lettering(22))

    def _draw_person(self, sheet: Image.Image, draw: ImageDraw.ImageDraw, person: Person, left: int, top: int) -> None:
        width, height = self._cell
        decision = self.decisions[person.person_id]
        colour = self._colour(person.person_id)
        crop = self._crops.get(person.person_id)
        if crop is None:
            draw.rectangle((left, top, left + width - 1, top + height - 1), EMPTY)
            draw.text((left + width / 2, top + height / 2), "no picture", MUTED, lettering(16), anchor="mm")
        else:
            sheet.paste(crop.picture, (left, top))
        draw.rectangle((left, top, left + width - 1, top + height - 1), outline=colour, width=5)
        badge = lettering(30 if width >= 180 else 22)
        _draw_badge(draw, (left, top), str(person.person_id), badge, colour)
        kinds = {track.kind for track in person.tracks}
        kind = "face + body" if len(kinds) == 2 else "face" if "face" in kinds else "body"
        text = top + height + 8
        verb = "hide" if decision.is_hidden else "keep"
        if name := self.replacements.get(person.person_id):
            verb = f"hide by {name}"
        draw.text((left, text), verb, colour, lettering(20), stroke_width=0.5)
        shift = max(int(lettering(20).getlength(verb)), int(lettering(20).getlength("keep"))) + 10
        seconds = f"{_seconds(person, self.times_s):.1f} s, {kind}"
        draw.text((left + shift, text + 3), fitted(seconds, lettering(16), width - shift), MUTED, lettering(16))
        for line, at in zip(wrapped(decision.reason, lettering(15), width, 2), (0, 19), strict=False):
            draw.text((left, text + 28 + at), line, INK, lettering(15))

    def _draw_overview(self, index: int, rgb: NDArray[np.uint8]) -> Image.Image:
        count = min(len(self._overview_frames), 2)
        room = (SHEET_WIDTH_PX - 2 * MARGIN_PX - GAP_PX * (count - 1)) // count
        # Up to twice its size: beyond that a small video looks only blurred.
        scale = min(room / rgb.shape[1], 860 / rgb.shape[0], 2.0)
        size = (max(round(rgb.shape[1] * scale), 1), max(round(rgb.shape[0] * scale), 1))
        picture = Image.fromarray(rgb).resize(size, Image.Resampling.LANCZOS)
        draw = ImageDraw.Draw(picture)
        boxes = {person.person_id: box for person in self.people if (box := body_or_face(person, index)) is not None}
        taken: list[Box] = []
        for person_id, (x0, y0, x1, y1) in boxes.items():
            placed = (x0 * scale, y0 * scale, x1 * scale, y1 * scale)
            draw.rectangle(placed, outline=self._colour(person_id), width=3)
        for person_id, (x0, y0, x1, y1) in boxes.items():
            _place_badge(
                draw,
                size,
                (x0 * scale, y0 * scale, x1 * scale, y1 * scale),
                str(person_id),
                taken,
                self._colour(person_id),
            )
        stamp = f"{self.times_s[index]:.1f} s"
        stamp_width = lettering(18).getlength(stamp) + 18
        draw.rectangle((0, size[1] - 30, stamp_width, size[1]), INK)
        draw.text((9, size[1] - 15), stamp, "white", lettering(18), anchor="lm")
        return picture


def _grid(n_people: int) -> tuple[int, tuple[int, int]]:
    """Columns, and width and height of a picture, for a sheet that stays readable and not absurdly high."""
    columns = next((count for limit, count in ((5, 5), (18, 6), (40, 8), (90, 10)) if n_people <= limit), 12)
    width = (SHEET_WIDTH_PX - 2 * MARGIN_PX - (columns - 1) * GAP_PX) // columns
    return columns, (width, width * 5 // 4)


def _seconds(person: Person, times_s: NDArray[np.float64]) -> float:
    """Time on screen."""
    frames = np.unique(np.concatenate([track.frames for track in person.tracks]))
    if len(times_s) < 2:
        return 0.0
    durations = np.diff(times_s, append=2 * times_s[-1] - times_s[-2])
    return float(durations[frames[frames < len(times_s)]].sum())


def _sharpness(rgb: NDArray[np.uint8], box: Box) -> float:
    """Mean step between neighbouring pixels inside the box, scaled to 96 px so that size does not count twice."""
    inside = _inside(rgb, box)
    if inside is None:
        return 0.0
    grey = np.asarray(inside.convert("L").resize((96, 96), Image.Resampling.BILINEAR), dtype=np.float32)
    return float(np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean()) + 1e-3


def _inside(rgb: NDArray[np.uint8], box: Box) -> Image.Image | None:
    x0, y0 = max(math.floor(box[0]), 0), max(math.floor(box[1]), 0)
    x1, y1 = min(math.ceil(box[2]), rgb.shape[1]), min(math.ceil(box[3]), rgb.shape[0])
    return Image.fromarray(rgb[y0:y1, x0:x1]) if x1 > x0 and y1 > y0 else None


def _crop(rgb: NDArray[np.uint8], candidate: Candidate, size: tuple[int, int], colour: Color) -> Image.Image:
    """The box with some of its surroundings, in the shape of a cell, outlined."""
    x0, y0, x1, y1 = candidate.box
    around_face = 2.2 if candidate.kind == "face" else 1.0  # a face is hard to recognize without hair and shoulders
    wished = max(1.15 * around_face * max(y1 - y0, 8), 1.3 * around_face * max(x1 - x0, 8) * size[1] / size[0])
    # Never larger than the picture: a person lying down is better cut at the sides than lost between grey bars.
    height = min(wished, rgb.shape[0], rgb.shape[1] * size[1] / size[0])
    width = height * size[0] / size[1]
    middle = (y0 + y1) / 2 if height == wished else y0 + 0.45 * height  # where cut, the head stays
    left = _shifted((x0 + x1 - width) / 2, width, rgb.shape[1])
    top = _shifted(middle - height / 2, height, rgb.shape[0])
    scale = size[0] / width
    around = (math.floor(left), math.floor(top), math.ceil(left + width), math.ceil(top + height))
    picture = Image.new("RGB", (around[2] - around[0], around[3] - around[1]), EMPTY)
    inside = _inside(rgb, around)
    if inside is not None:
        picture.paste(inside, (max(-around[0], 0), max(-around[1], 0)))
    picture = picture.resize(size, Image.Resampling.LANCZOS)
    corners = ((x0 - left) * scale, (y0 - top) * scale, (x1 - left) * scale, (y1 - top) * scale)
    ImageDraw.Draw(picture).rectangle(corners, outline=colour, width=2)
    return picture


def _shifted(start: float, length: float, available: int) -> float:
    """Moved into the frame where it fits, centred on it where it does not."""
    if length >= available:
        return (available - length) / 2
    return min(max(start, 0), available - length)


def _place_badge(
    draw: ImageDraw.ImageDraw, size: tuple[int, int], box: Box, text: str, taken: list[Box], colour: Color
) -> None:
    """A badge at the first corner of the box where it covers no other badge."""
    font = lettering(22)
    width, height = _badge_size(text, font)
    x0, y0, x1, y1 = box
    corners = [
        (x0, y0 - height),
        (x1 - width, y0 - height),
        (x0, y1),
        (x0, y0),
        (x1 - width, y1),
        (x1, y0),
        (x0 - width, y0),
    ]
    spots = [(_shifted(left, width, size[0]), _shifted(top, height, size[1])) for left, top in corners]
    for left, top in spots:
        if not any(
            left < other[2] and other[0] < left + width and top < other[3] and other[1] < top + height
            for other in taken
        ):
            break
    else:
        left, top = spots[0]
    taken.append((left, top, left + width, top + height))
    _draw_badge(draw, (round(left), round(top)), text, font, colour)


def _badge_size(text: str, font: Font) -> tuple[int, int]:
    line = int(font.getbbox("0")[3])
    return max(round(font.getlength(text)) + line // 2, line), line + 4


def _draw_badge(draw: ImageDraw.ImageDraw, corner: tuple[int, int], text: str, font: Font, colour: Color) -> None:
    (left, top), (width, height) = corner, _badge_size(text, font)
    draw.rectangle((left, top, left + width, top + height), colour)
    draw.text((left + width / 2, top + height / 2), text, "white", font, anchor="mm", stroke_width=0.4)
