"""The bank of doubles: reads its pictures from one archive, when they are asked for."""

from __future__ import annotations

import zipfile
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from pa_lib.doubles.index import EXPRESSIONS, DoubleEntry, Index, ViewEntry
from pa_lib.errors import DamagedInputError, InputError, SettingError, first_line, listed
from pa_lib.pretrained import asset_path

ASSET = "doubles.zip"
INDEX = "index.json"


@dataclass(frozen=True, eq=False)
class View:
    """One picture of a double's head. The arrays are shared and read-only.

    Args:
        image: RGB 0..255, shape h w 3. Where alpha is 0 the colours mean nothing: multiply by alpha before resizing.
        alpha: Opacity of the head, in [0, 1], shape h w.
        entry: Direction, expression, landmarks, chin, collar, box; see `ViewEntry`.
    """

    image: NDArray[np.uint8]
    alpha: NDArray[np.float32]
    entry: ViewEntry

    @property
    def yaw(self) -> float:
        """Degrees, positive where the nose points to the right edge of the picture; 180 from behind."""
        return self.entry.yaw_degrees

    @property
    def landmarks(self) -> NDArray[np.float32] | None:
        """Eyes, tip of the nose, corners of the mouth: shape 5 2 (x, y) px; None from behind."""
        return None if self.entry.landmarks is None else np.array(self.entry.landmarks, np.float32)


class Double:
    """One person who does not exist, with all pictures of their head.

    Made by `DoubleBank`.

    Args:
        bank: The bank that reads the pictures.
        entry: The double's entry in the index.
    """

    def __init__(self, bank: DoubleBank, entry: DoubleEntry) -> None:
        self.entry = entry
        self._bank = bank

    @property
    def name(self) -> str:
        """The name by which a tracks file asks for this double."""
        return self.entry.name

    def nearest(self, yaw: float = 0.0, expression: str = "neutral") -> ViewEntry:
        """Which picture `view` would read, without reading it.

        The direction comes first: among the pictures of the nearest yaw (around the circle) the one with the expression
        is taken, and the neutral one where there is none.

        Args:
            yaw: Degrees, 0 from the front, positive where the nose points to the right edge of the picture.
            expression: ``neutral``, ``smiling``, ``mouth_open`` or ``eyes_closed``.

        Raises:
            SettingError: Another expression, or a yaw that is not finite.
        """
        if expression not in EXPRESSIONS:
            raise SettingError(f"expression is {expression!r}, expected one of: {listed(EXPRESSIONS, 4)}")
        if not np.isfinite(yaw):
            raise SettingError(f"yaw is {yaw}, expected degrees")

        def away(entry: ViewEntry) -> float:
            return abs((entry.yaw_degrees - yaw + 180) % 360 - 180)

        # Frames of one direction differ by a degree or two of yaw: the expression must not depend on that.
        direction = min(self.entry.views, key=away).view
        turned = [entry for entry in self.entry.views if entry.view == direction]
        return min(turned, key=lambda entry: (entry.expression != expression, entry.expression != "neutral"))

    def view(self, yaw: float = 0.0, expression: str = "neutral") -> View:
        """The picture for a direction and an expression. See `nearest`.

        Raises:
            SettingError: Another expression, or a yaw that is not finite.
            InputError: The archive is gone.
            DamagedInputError: The picture cannot be read; see `DoubleBank.read`.
        """
        return self._bank.read(self.nearest(yaw, expression))


class DoubleBank:
    """Doubles by name. Opening reads the index only; pictures are decoded when asked for, and few are kept.

    Args:
        path: An archive of `tools/pack_doubles.py`; None for the one that ships with pa_lib.
        n_kept: Number of decoded pictures that are kept, at least 1: about 1 MB each.

    Raises:
        WeightsError: The shipped archive is missing or damaged.
        InputError: There is no file at `path`.
        DamagedInputError: The file is no such archive, or its index does not fit.
        SettingError: `n_kept` is below 1.

    >>> bank = DoubleBank()
    >>> view = bank[bank.names[0]].view(yaw=10)
    >>> view.image.shape[2], view.alpha.shape == view.image.shape[:2], view.entry.view
    (3, True, 'front')
    """

    def __init__(self, path: str | Path | None = None, n_kept: int = 32) -> None:
        if n_kept < 1:
            raise SettingError(f"n_kept is {n_kept}, expected at least 1")
        self.path = asset_path(ASSET) if path is None else Path(path)
        self.index = _read_index(self.path)
        self._doubles = {entry.name: Double(self, entry) for entry in self.index.doubles}
        self._kept: OrderedDict[str, View] = OrderedDict()
        self._n_kept = n_kept

    @property
    def names(self) -> tuple[str, ...]:
        """Every double, sorted."""
        return tuple(self._doubles)

    def __len__(self) -> int:
        return len(self._doubles)

    def __getitem__(self, name: str) -> Double:
        """The double of this name.

        Raises:
            SettingError: There is none.
        """
        try:
            return self._doubles[name]
        except KeyError:
            raise SettingError(f"no double is named {name!r}; there are: {listed(self.names, 8)}") from None

    def read(self, entry: ViewEntry) -> View:
        """One picture of the index, from memory where it was used lately.

        Raises:
            InputError: The archive is gone.
            DamagedInputError: The picture is missing, cannot be decoded, or has another size than the index says.
        """
        if entry.file in self._kept:
            self._kept.move_to_end(entry.file)
            return self._kept[entry.file]
        view = _decoded(self.path, entry)
        self._kept[entry.file] = view
        while len(self._kept) > self._n_kept:
            self._kept.popitem(last=False)
        return view


def _content(path: Path, file: str) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(file)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file, expected an archive of doubles") from error
    except (OSError, EOFError, KeyError, zlib.error, zipfile.BadZipFile) as error:
        raise DamagedInputError(
            f"{path}: {file} cannot be read, expected an archive of doubles ({first_line(error)}); pack it again"
        ) from error


def _read_index(path: Path) -> Index:
    try:
        return Index.model_validate_json(_content(path, INDEX))
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        what = first_line(Exception(fault["msg"]))
        raise DamagedInputError(
            f"{path}: {INDEX} does not fit at {where or 'its top'}: {what}; pack it again"
        ) from error


def _decoded(path: Path, entry: ViewEntry) -> View:
    content = _content(path, entry.file)
    decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED) if content else None
    expected = entry.height, entry.width, 4
    if decoded is None or decoded.shape != expected:
        got = "no picture" if decoded is None else f"shape {decoded.shape}"
        raise DamagedInputError(f"{path}: {entry.file} holds {got}, expected shape {expected}; pack it again")
    image = np.ascontiguousarray(decoded[..., 2::-1])
    alpha = decoded[..., 3].astype(np.float32) / 255
    image.setflags(write=False)
    alpha.setflags(write=False)
    return View(image, alpha, entry)
