"""Tables and pictures of a data set: a folder or a zip, read by name; errors are one clear line."""

from __future__ import annotations

import csv
import io
import math
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from pa_lib.errors import DamagedInputError, InputError
from pa_lib.paths import path_of


class FileTree:
    """The files of a folder or of a zip, by their path within it.

    It can be sent to other processes: each opens the zip for itself.

    Args:
        path: A folder, or a .zip.

    Raises:
        InputError: There is no such folder or zip, or the zip is damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path_of(path)
        self._zip: zipfile.ZipFile | None = None
        self._names: frozenset[str] | None = None
        if self.path.is_file():
            self._names = frozenset(self._opened().namelist())
        elif not self.path.is_dir():
            raise InputError(f"data {self.path}: expected a folder or a .zip that is there")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_zip": None}

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return name in self._names if self._names is not None else self._inside(name).is_file()

    def in_folders(self, file: str) -> list[str]:
        """``folder/file`` for every folder of the top level that holds such a file, sorted; hidden ones left out."""
        if self._names is not None:
            found = [name for name in self._names if name.count("/") == 1 and name.endswith(f"/{file}")]
        else:
            found = [path.relative_to(self.path).as_posix() for path in self.path.glob(f"*/{file}")]
        return sorted(name for name in found if not name.startswith("."))

    def read(self, name: str) -> bytes:
        """The whole file.

        Raises:
            DamagedInputError: It is missing or cannot be read.
            InputError: The name leaves the folder, as names in a table of other people might.
        """
        try:
            return self._opened().read(name) if self._names is not None else self._inside(name).read_bytes()
        except (OSError, KeyError, zipfile.BadZipFile, EOFError) as error:
            raise DamagedInputError(f"data {self.path}: {name} cannot be read ({error})") from error

    def picture(self, name: str) -> UInt8[Tensor, "3 h w"]:
        """An image as RGB in 0..255.

        Raises:
            DamagedInputError: It is missing, or no image.
        """
        return torch.from_numpy(self._decoded(name, cv2.IMREAD_COLOR)[..., ::-1].transpose(2, 0, 1).copy())

    def mask(self, name: str) -> Float[Tensor, "h w"]:
        """A grey image as values in [0, 1].

        Raises:
            DamagedInputError: It is missing, or no image.
        """
        return torch.from_numpy(self._decoded(name, cv2.IMREAD_GRAYSCALE)).float() / 255

    def _decoded(self, name: str, flags: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        data = np.frombuffer(self.read(name), np.uint8)
        image = cv2.imdecode(data, flags) if len(data) else None
        if image is None:
            raise DamagedInputError(f"data {self.path}: {name} is no image that can be read")
        return np.asarray(image, np.uint8)

    def _inside(self, name: str) -> Path:
        """The file's path: below the folder, whatever a table says. Links in the folder are followed."""
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise InputError(f"data {self.path}: {name} is outside of the folder; expected a path within it")
        return self.path / name

    def _opened(self) -> zipfile.ZipFile:
        if self._zip is None:
            try:
                self._zip = zipfile.ZipFile(self.path)
            except (OSError, zipfile.BadZipFile) as error:
                raise InputError(f"data {self.path}: expected a folder or a .zip ({error})") from error
        return self._zip


class Row(Mapping[str, str]):
    """One row of a table, which knows its line."""

    def __init__(self, table: str, line: int, values: Mapping[str, str]) -> None:
        self.table = table
        self.line = line
        self._values = values

    def __getitem__(self, column: str) -> str:
        return self._values[column]

    def __iter__(self) -> Any:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def number(self, column: str) -> float:
        """A finite number.

        Raises:
            InputError: It is none.
        """
        try:
            value = float(self[column])
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self.wrong(f"{column} is '{self[column]}', expected a number")
        return value

    def wrong(self, message: str) -> InputError:
        """An error that names the table and this line."""
        return InputError(f"{self.table}, line {self.line}: {message}")


def read_table(tree: FileTree, name: str, columns: Iterable[str]) -> list[Row]:
    """The rows of a table of tab-separated columns with a header.

    Raises:
        InputError: There is no table, it lacks one of `columns`, a row has too few or too many values, or there is no
            row.
    """
    where = f"{tree.path}/{name}"
    if not tree.has(name):
        raise InputError(f"{where}: there is no index; expected a table of tab-separated columns")
    try:
        text = tree.read(name).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: expected UTF-8 text ({error})") from error
    lines = csv.reader(io.StringIO(text, newline=""), delimiter="\t", quoting=csv.QUOTE_NONE)
    header = next(lines, [])
    if missing := [column for column in columns if column not in header]:
        raise InputError(f"{where}: no column {', '.join(missing)}; there are: {', '.join(header) or 'none'}")
    rows = []
    for line, values in enumerate(lines, 2):
        if not values:
            continue
        if len(values) != len(header):
            raise InputError(f"{where}, line {line}: {len(values)} values, expected {len(header)}")
        rows.append(Row(where, line, dict(zip(header, values, strict=True))))
    if not rows:
        raise InputError(f"{where}: the index has no rows")
    return rows
