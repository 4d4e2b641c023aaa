"""Frames cut into overlapping tiles, for networks whose memory or range of sizes is limited."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from pa_lib.contracts import Detection
from pa_lib.errors import SettingError
from pa_lib.functional.boxes import non_maximum_suppression

Image = NDArray[np.uint8]
JITTER_PX = 8  # two tiles may place one face this far apart, so cores reach into each other by it


def tile_spans(length: int, longest: int, overlap: int) -> list[tuple[int, int]]:
    """The fewest equal tiles that cover a side, evenly spread, neighbours sharing at least `overlap`.

    Args:
        length: Length of the side in pixels.
        longest: Largest length of a tile in pixels.
        overlap: Overlap of neighbouring tiles in pixels, below `longest`.

    Returns:
        Beginning and end of each tile.

    >>> tile_spans(1000, 440, 100)
    [(0, 400), (300, 700), (600, 1000)]
    >>> tile_spans(300, 440, 100)
    [(0, 300)]
    """
    if not 0 <= overlap < longest:
        raise SettingError(f"overlap is {overlap}, expected at least 0 and less than a tile, {longest}")
    if length <= longest:
        return [(0, length)]
    count = -(-(length - overlap) // (longest - overlap))
    # As short as the count allows: two tiles of 1376 px cover 2560 px, where two of 1920 px would take 40 % more time.
    tile = -(-(length + (count - 1) * overlap) // count)
    starts = [round(at * (length - tile) / (count - 1)) for at in range(count)]
    return [(start, start + tile) for start in starts]


def scaled(detection: Detection, scale_x: float, scale_y: float, left: float = 0, top: float = 0) -> Detection:
    """A detection made in a resized part of a frame, in pixels of the frame: times the scale, then shifted."""
    factor, shift = np.array([scale_x, scale_y], np.float32), np.array([left, top], np.float32)
    x0, y0, x1, y1 = detection.box
    points = None if detection.landmarks is None else (detection.landmarks * factor + shift).astype(np.float32)
    box = (x0 * scale_x + left, y0 * scale_y + top, x1 * scale_x + left, y1 * scale_y + top)
    return replace(detection, box=box, landmarks=points)


def merged(detections: Sequence[Detection], max_overlap: float) -> list[Detection]:
    """The detections that no better one overlaps by more than `max_overlap` (of the union), best first."""
    boxes = np.array([detection.box for detection in detections], np.float32).reshape(-1, 4)
    scores = np.array([detection.score for detection in detections], np.float32)
    return [detections[at] for at in non_maximum_suppression(boxes, scores, max_overlap)]


def find_in_tiles(
    image: Image,
    detect: Callable[[Sequence[Image]], list[list[Detection]]],
    *,
    zoom: float,
    tile: tuple[int, int],
    overlap: int,
) -> list[Detection]:
    """Detections in an image that is enlarged and, where it then is larger than a tile, cut into tiles.

    A tile keeps what has its centre in the tile's core, the part that is nearer to this tile's middle than to its
    neighbour's: a person no larger than `overlap` is whole there, and a face cut by a tile's border is never kept in
    place of the whole one. Overlapping detections of two tiles are not merged here.

    Args:
        image: RGB image, shape h w 3.
        detect: Function from images to the detections in each, in its pixels.
        zoom: Enlargement before tiling, > 0.
        tile: Largest width and height that `detect` is given, px of the enlarged image.
        overlap: Overlap of neighbouring tiles in pixels of the enlarged image.

    Returns:
        In pixels of `image`.
    """
    height, width = image.shape[:2]
    size = max(1, round(width * zoom)), max(1, round(height * zoom))
    large = image
    if size != (width, height):
        large = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR if zoom > 1 else cv2.INTER_AREA)
    columns, rows = (tile_spans(length, side, overlap) for length, side in zip(size, tile, strict=True))
    found: list[Detection] = []
    for row, (top, bottom) in enumerate(rows):
        y0, y1 = _core(rows, row)
        for column, (left, right) in enumerate(columns):
            x0, x1 = _core(columns, column)
            part = np.ascontiguousarray(large[top:bottom, left:right])
            for detection in detect([part])[0]:
                whole = scaled(detection, 1, 1, left, top)
                x, y = (whole.box[0] + whole.box[2]) / 2, (whole.box[1] + whole.box[3]) / 2
                if x0 <= x < x1 and y0 <= y < y1:
                    found.append(scaled(whole, width / size[0], height / size[1]))
    return found


def _core(spans: list[tuple[int, int]], at: int) -> tuple[float, float]:
    """From where to where a tile keeps what it finds; open at the frame's own borders."""
    low = (spans[at - 1][1] + spans[at][0]) / 2 - JITTER_PX if at > 0 else -np.inf
    high = (spans[at][1] + spans[at + 1][0]) / 2 + JITTER_PX if at + 1 < len(spans) else np.inf
    return low, high
