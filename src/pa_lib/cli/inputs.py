"""Which files an ``input=`` names, and where the result of each goes."""

from __future__ import annotations

from pathlib import Path

from pa_lib.errors import InputError, PaLibError, SettingError
from pa_lib.paths import path_of
from pa_lib.video import find_inputs, result_stem
from pa_lib.video.files import fixed_part


def pair_files(source: str, output: str | None) -> list[tuple[Path, Path | None]]:
    """Every input file with its output: a file, a folder for a result of the usual name, or None for beside the input.

    Which files an input names is described in `pa_lib.video.find_inputs`; a folder of videos is mirrored into the
    output folder.

    Raises:
        InputError: Nothing is found.
        SettingError: The output is a file, but several results go there; or two results would have one name.
    """
    path = path_of(source)
    target = None if output is None else path_of(output)
    files = find_inputs(source, besides=target)
    if files == [path]:
        if output is not None and output.endswith("/"):
            make_folder(path_of(output))
        return [(path, target)]
    if path.is_dir():
        if not files:
            raise InputError(f"{source}: the folder holds no video or image; give a file, a folder of them, or a glob")
        return _mirror(files, path, target or path.with_name(f"{path.name}.anonymized"))
    if not files:
        raise InputError(f"{source}: the pattern matches no video or image")
    if target:
        return _mirror(files, fixed_part(path), target)
    pairs: list[tuple[Path, Path | None]] = [(file, None) for file in files]
    _check_names(pairs)
    return pairs


def _mirror(files: list[Path], base: Path, target: Path) -> list[tuple[Path, Path | None]]:
    pairs: list[tuple[Path, Path | None]] = [(file, target / file.parent.relative_to(base)) for file in files]
    _check_names(pairs)
    for folder in dict.fromkeys(folder for _, folder in pairs if folder is not None):
        make_folder(folder)
    return pairs


def _check_names(pairs: list[tuple[Path, Path | None]]) -> None:
    """Refuse, before any work, two inputs whose results would have one name: ``a.mp4.avi`` beside ``a.mp4`` and more.

    Raises:
        SettingError: Names both.
    """
    first: dict[tuple[Path, str], Path] = {}
    for file, folder in pairs:
        other = first.setdefault((folder or file.absolute().parent, result_stem(file)), file)
        if other != file:
            raise SettingError(f"{other} and {file} would have results of one name; rename one of them")


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
