"""Which files an ``input=`` names, and where the result of each goes."""

from __future__ import annotations

import glob
from pathlib import Path

from pa_lib.errors import PaLibError
from pa_lib.video import is_supported
from pa_lib.video.images import IMAGE_SUFFIXES


def pair_files(source: str, output: str | None) -> list[tuple[Path, Path | None]]:
    """Every input file with its output: a file, a folder for a result of the usual name, or None for beside the input.

    A file is itself. A folder that holds only images is one video, its frames in natural order; any other folder stands
    for each video and image in it and below it, mirrored into the output folder. A glob stands for each file it
    matches. Files named ``*.anonymized.*`` are results, and are passed over in folders and globs.

    Raises:
        PaLibError: Where nothing is found, or several files would go to one.
    """
    path = Path(source).expanduser()
    target = None if output is None else Path(output).expanduser()
    if path.is_dir():
        files = [file for file in sorted(path.rglob("*")) if _is_input(file)]
        if not files:
            raise PaLibError(f"{source}: the folder holds no video or image; give a file, a folder of them, or a glob")
        if all(file.suffix.lower() in IMAGE_SUFFIXES and file.parent == path for file in files):
            return [(path, target)]
        return _mirror(files, path, target or path.with_name(f"{path.name}.anonymized"))
    if not path.exists() and glob.has_magic(source):
        files = sorted(file for file in map(Path, glob.glob(str(path), recursive=True)) if _is_input(file))
        if not files:
            raise PaLibError(f"{source}: the pattern matches no video or image")
        return _mirror(files, _fixed_part(path), target) if target else [(file, None) for file in files]
    if output is not None and output.endswith("/"):
        _make_folder(Path(output))
    return [(path, target)]


def _is_input(file: Path) -> bool:
    return file.is_file() and is_supported(file) and ".anonymized" not in file.suffixes


def _mirror(files: list[Path], base: Path, target: Path) -> list[tuple[Path, Path | None]]:
    pairs: list[tuple[Path, Path | None]] = []
    for file in files:
        if target not in file.parents:
            folder = target / file.parent.relative_to(base)
            _make_folder(folder)
            pairs.append((file, folder))
    return pairs


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise PaLibError(f"output={folder}: got a file, expected a folder, since several results go there") from error
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
