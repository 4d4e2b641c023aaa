"""Contact sheets of a bank of doubles, for the documentation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pa_lib.doubles import DoubleBank, View

WALL = np.array([116, 141, 153], np.float32)
MOST_BYTES = 480_000
SHOWN_MORPHS = 8  # with all their views, on the sheet of views


def write_sheets(archive: Path, folder: Path) -> None:
    """All doubles from the front, and all views of some, as JPEG files below half a megabyte."""
    folder.mkdir(parents=True, exist_ok=True)
    bank = DoubleBank(archive)
    tiles = [_tile(bank[name].view(), 150, 180, name) for name in bank.names]
    _write(folder / "doubles.jpg", _rows(tiles, 10))
    photographs = [name for name in bank.names if bank[name].entry.kind == "photograph"]
    morphs = [name for name in bank.names if bank[name].entry.kind == "morph"]
    step = max(1, len(morphs) // SHOWN_MORPHS)
    for file, names in (("doubles_photographs", photographs), ("doubles_morphs", morphs[::step][:SHOWN_MORPHS])):
        _write(folder / f"{file}.jpg", np.vstack([_views(bank, name) for name in names]))


def _views(bank: DoubleBank, name: str) -> NDArray[np.uint8]:
    """One double's pictures in a row."""
    order = ("profile_left", "three_quarter_left", "front", "three_quarter_right", "profile_right", "back")
    entries = bank[name].entry.views
    shown: list[NDArray[np.uint8]] = []
    for view in order:
        for expression in ("neutral", "smiling", "mouth_open", "eyes_closed"):
            found = [e for e in entries if (e.view, e.expression) == (view, expression)]
            if found:
                shown.append(
                    _tile(bank.read(found[0]), 150, 170, name if view == "front" and expression == "neutral" else "")
                )
            elif expression == "neutral":
                shown.append(np.full((170, 150, 3), WALL, np.float32).astype(np.uint8))
    return np.hstack(shown)


def _tile(view: View, width: int, height: int, label: str) -> NDArray[np.uint8]:
    """A picture on a plain wall, with heads of one scale on all tiles."""
    scale = height * 0.245 / view.entry.face_px
    shift = np.array([width / 2, height * 0.47]) - scale * np.array(view.entry.eye_line)
    if view.entry.view.startswith("profile"):
        shift[0] = width / 2 - scale * view.image.shape[1] / 2
    fine = 2
    to_tile = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]]) * fine
    alpha = view.alpha[..., None]
    placed = cv2.warpAffine(
        np.dstack([view.image * alpha, alpha]).astype(np.float32), to_tile, (width * fine, height * fine)
    )
    placed = cv2.resize(placed, (width, height), interpolation=cv2.INTER_AREA)
    tile = np.clip(placed[..., :3] + WALL * (1 - placed[..., 3:]), 0, 255).astype(np.uint8)
    cv2.putText(tile, label, (4, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (0, 0, 0), 1, cv2.LINE_AA)
    return tile


def _rows(tiles: Sequence[NDArray[np.uint8]], columns: int) -> NDArray[np.uint8]:
    empty = np.full_like(tiles[0], WALL.astype(np.uint8))
    padded = [*tiles, *[empty] * (-len(tiles) % columns)]
    return np.vstack([np.hstack(padded[start : start + columns]) for start in range(0, len(padded), columns)])


def _write(path: Path, sheet: NDArray[np.uint8]) -> None:
    for quality in (88, 82, 75, 68, 60):
        _, encoded = cv2.imencode(".jpg", sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        if len(encoded) <= MOST_BYTES:
            break
    path.write_bytes(encoded.tobytes())
