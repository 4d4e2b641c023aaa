"""A few small pictures of a long video, chosen while it streams by."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MAX_JPEG_BYTES = 32_768
"""Bound on one picture: 24 of them in base64 make 1.05 MB, half of what a report page may weigh."""
_QUALITIES = (82, 70, 55, 40, 25, 10)


@dataclass(frozen=True, eq=False)
class Thumbnail:
    """One small picture of the output.

    Args:
        index: Index of the frame in the video.
        width, height: Size of the picture in pixels.
        jpeg: The encoded picture.
        before: The same frame of the source, encoded; None unless it was offered.
        is_important: Whether it shows a frame that should be looked at.
    """

    index: int
    width: int
    height: int
    jpeg: bytes
    before: bytes | None = None
    is_important: bool = False

    @property
    def data_uri(self) -> str:
        """The picture as a ``data:`` address."""
        return data_uri(self.jpeg)

    @property
    def before_data_uri(self) -> str | None:
        """The source frame as a ``data:`` address."""
        return None if self.before is None else data_uri(self.before)


class ThumbnailCollector:
    """Keeps at most `max_count` frames of all that are offered: the important ones first, the others spread evenly.

    Any number of frames can be important, and how many is known only at the end. So those are kept that lie a certain
    distance apart, and the distance doubles whenever more than twice `max_count` are held: what remains is spread over
    all of them, and at most a few hundred frames of the longest video are ever scaled and encoded. Frames are offered
    in the order of the video.

    Args:
        n_frames: Number of frames of the video. More may be offered; the spread is planned for this number.
        max_count: Largest number of pictures in the end.
        max_side_px: Longest side of a picture in pixels; smaller frames are not enlarged.
    """

    def __init__(self, n_frames: int, max_count: int = 24, max_side_px: int = 384) -> None:
        if max_count < 1 or max_side_px < 1:
            raise ValueError(f"got max_count={max_count}, max_side_px={max_side_px}: both must be at least 1")
        self.max_count = max_count
        self.max_side_px = max_side_px
        # The middles of equal parts: the very first and last frame of a video are often black.
        middles = (np.arange(max_count) + 0.5) / max_count * max(n_frames, 1)
        self._planned = frozenset(int(middle) for middle in middles)
        self._spread: dict[int, Thumbnail] = {}
        self._important: dict[int, Thumbnail] = {}
        self._last_important: int | None = None
        self._distance = 1

    def wants(self, index: int, *, important: bool = False) -> bool:
        """Whether `offer` would keep this frame; others need not be offered, nor their pixels be made."""
        if not important:
            return index in self._planned
        return self._last_important is None or index - self._last_important >= self._distance

    def offer(
        self, index: int, rgb: NDArray[np.uint8], before: NDArray[np.uint8] | None = None, important: bool = False
    ) -> None:
        """Shows one frame of the output to the collector.

        Args:
            index: Index of the frame in the video.
            rgb: The frame as it is written, shape h w 3, RGB in 0..255.
            before: The same frame of the source, in the same shape, with the people who are hidden in the output: only
                if the user asked for it.
            important: Whether the frame was redacted, had a fault, or took a fallback.
        """
        if not self.wants(index, important=important):
            return
        jpeg, width, height = _encode(rgb, self.max_side_px)
        original = None if before is None else _encode(before, self.max_side_px)[0]
        thumbnail = Thumbnail(index, width, height, jpeg, original, important)
        if not important:
            self._spread[index] = thumbnail
            return
        self._important[index] = thumbnail
        self._last_important = index
        if len(self._important) > 2 * self.max_count:
            self._thin_out()

    def _thin_out(self) -> None:
        """Doubles the distance, which leaves at least every other important frame."""
        self._distance *= 2
        kept: dict[int, Thumbnail] = {}
        for index, thumbnail in self._important.items():
            if not kept or index - next(reversed(kept)) >= self._distance:
                kept[index] = thumbnail
        self._important = kept
        self._last_important = next(reversed(kept))

    def thumbnails(self) -> tuple[Thumbnail, ...]:
        """At most `max_count` pictures, the important ones first, each group in order of time."""
        important = _spread(sorted(self._important.values(), key=lambda thumbnail: thumbnail.index), self.max_count)
        others = sorted(self._spread.values(), key=lambda thumbnail: thumbnail.index)
        return (*important, *_spread(others, self.max_count - len(important)))


def _spread(items: list[Thumbnail], count: int) -> list[Thumbnail]:
    """At most `count` of the items, evenly spread."""
    if len(items) <= count:
        return items
    return [items[int((at + 0.5) / count * len(items))] for at in range(count)]


def _encode(rgb: NDArray[np.uint8], max_side_px: int) -> tuple[bytes, int, int]:
    """JPEG bytes of at most `MAX_JPEG_BYTES` where any quality reaches that, with width and height."""
    image = Image.fromarray(rgb)
    # reducing_gap shrinks by whole steps first: 3x faster on 1080p at no visible cost
    image.thumbnail((max_side_px, max_side_px), Image.Resampling.LANCZOS, reducing_gap=2.0)
    jpeg = b""
    for quality in _QUALITIES:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality, optimize=True)
        jpeg = file.getvalue()
        if len(jpeg) <= MAX_JPEG_BYTES:
            break
    return jpeg, image.width, image.height


def data_uri(jpeg: bytes) -> str:
    """A JPEG picture as a ``data:`` address."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")
