"""Which files an ``input=`` names, and where the result of each goes."""

from __future__ import annotations

import glob
from pathlib import Path

from pa_lib.errors import InputError, PaLibError, SettingError
from pa_lib.video import find_inputs


def pair_files(source: str, output: str | None) -> list[tuple[Path, Path | None]]:
    """Every input file with its output: a file, a folder for a result of the usual name, or None for beside the input.

    Which files an input names is described in `pa_lib.video.find_inputs`; a folder of videos is mirrored into the
    output folder.

    Raises:
        InputError: Nothing is found.
        SettingError: The output is a file, but several results go there.
    """
    path = Path(source).expanduser()
    target = None if output is None else Path(output).expanduser()
    files = find_inputs(source, besides=target)
    if files == [path]:
        if output is not None and output.endswith("/"):
            make_folder(Path(output))
        return [(path, target)]
    if path.is_dir():
        if not files:
            raise InputError(f"{source}: the folder holds no video or image; give a file, a folder of them, or a glob")
        return _mirror(files, path, target or path.with_name(f"{path.name}.anonymized"))
    if not files:
        raise InputError(f"{source}: the pattern matches no video or image")
    return _mirror(files, _fixed_part(path), target) if target else [(file, None) for file in files]


def _mirror(files: list[Path], base: Path, target: Path) -> list[tuple[Path, Path | None]]:
    pairs: list[tuple[Path, Path | None]] = []
    for file in files:
        folder = target / file.parent.relative_to(base)
        make_folder(folder)
        pairs.append((file, folder))
    return pairs


def make_folder(folder: Path) -> None:
    """Make the folder of several results, with those above it.

    Raises:
        SettingError: It is a file.
        PaLibError: It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise SettingError(f"output={folder}: got a file, expected a folder, since several results go there") from error
    except OSError as error:
        raise PaLibError(f"output={folder}: the folder cannot be made: {error.strerror}") from error


def _fixed_part(pattern: Path) -> Path:
    """The leading folders of a glob that hold no wildcard."""
    parts: list[str] = []
    for part in pattern.parts[:-1]:
        if glob.has_magic(part):
            break
        parts.append(part)
    return Path(*parts)
