"""Which files an ``input=`` names, and where the result of each goes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pa_lib.errors import InputError, SettingError
from pa_lib.paths import path_of
from pa_lib.video import MadeFolders, find_inputs, passed_over, result_stem
from pa_lib.video.files import fixed_part, name_key

Pair = tuple[Path, Path | None]
"""An input file with its output: a file, a folder for a result of the usual name, or None for beside the input."""


@contextmanager
def paired_files(source: str, output: str | None) -> Iterator[list[Pair]]:
    """Every input file with its output; folders for results are made, and removed at the end where they stay empty.

    Which files an input names is described in `pa_lib.video.find_inputs`; a folder of videos is mirrored into the
    output folder.

    Args:
        source: The input as the command line names it.
        output: The output as the command line names it, if it does.

    Raises:
        InputError: Nothing is found.
        SettingError: The output is a file, but several results go there; or two results would have one name.
    """
    pairs = _paired(source, output)
    is_single = len(pairs) == 1 and pairs[0][0] == path_of(source)
    is_file = is_single and not (output or "").endswith("/")
    with MadeFolders(*({} if is_file else {folder: None for _, folder in pairs if folder is not None})):
        if not is_file:
            _check_names(pairs)
        yield pairs


def note_passed_over(command: str, source: str | Path, besides: str | Path | None = None) -> None:
    """Note, in one line on stderr, the files of a folder whose names are not those of videos or images.

    Args:
        command: Name of the command.
        source: The input as the command line names it; only of folders anything is noted.
        besides: Folder of the results, which is not searched.
    """
    folder = path_of(source)
    if not folder.is_dir():
        return
    numbers = passed_over(folder, None if besides is None else path_of(besides))
    if numbers:
        kinds = ", ".join(f"{suffix or 'no suffix'} ({number})" for suffix, number in sorted(numbers.items()))
        print(
            f"{command}: note: {folder}: passed over, by their names no videos or images that can be read: {kinds}",
            file=sys.stderr,
        )


def _paired(source: str, output: str | None) -> list[Pair]:
    path = path_of(source)
    target = None if output is None else path_of(output)
    files = find_inputs(source, besides=target)
    if files == [path]:
        return [(path, target)]
    if os.path.isdir(path):
        if not files:
            raise InputError(f"{source}: the folder holds no video or image; give a file, a folder of them, or a glob")
        return _mirror(files, path, target or path.with_name(f"{path.name}.anonymized"))
    if not files:
        raise InputError(f"{source}: the pattern matches no video or image")
    return _mirror(files, fixed_part(path), target) if target else [(file, None) for file in files]


def _mirror(files: list[Path], base: Path, target: Path) -> list[Pair]:
    return [(file, target / file.parent.relative_to(base)) for file in files]


def _check_names(pairs: list[Pair]) -> None:
    """Refuse, before any work, inputs from folders that are one at the target: ``A`` and ``a`` where it knows no case.

    Those of one folder have different names, see `result_stem`.

    Raises:
        SettingError: Names both.
    """
    first: dict[tuple[int, int, str], Path] = {}
    for file, folder in pairs:
        place = (folder or file.absolute().parent).stat()
        other = first.setdefault((place.st_dev, place.st_ino, name_key(result_stem(file))), file)
        if other != file:
            raise SettingError(f"{other} and {file} would have results of one name; rename one of them")
