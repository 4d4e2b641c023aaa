"""Where evaluations lie: each folder that holds one, also further down."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pa_lib.errors import InputError, SettingError

FILE_NAME = "metrics.json"


def evaluations_in(paths: Iterable[str | Path]) -> list[Path]:
    """The files of all evaluations that paths name, in order; those of a parent folder sorted by name.

    Args:
        paths: Output folders of `pa-evaluate`, their ``metrics.json``, or folders with evaluations further down.

    Raises:
        InputError: A path does not exist, or a folder holds no evaluation.
        SettingError: An evaluation is named twice.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise InputError(f"{path}: no such file or folder; give outputs of pa-evaluate")
        own = path / FILE_NAME
        if not path.is_dir() or own.is_file():
            found.append(own if path.is_dir() else path)
            continue
        below = sorted(path.rglob(FILE_NAME))
        if not below:
            raise InputError(f"{path}: no {FILE_NAME} there or in a folder below; give outputs of pa-evaluate")
        found += below
    seen: set[Path] = set()
    for file in found:
        if file.resolve() in seen:
            raise SettingError(f"the same evaluation is given twice: {file}; name different ones")
        seen.add(file.resolve())
    return found
