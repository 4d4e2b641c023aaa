"""Which files an ``input=`` names, and where the result of each goes."""

from __future__ import annotations

import glob
from pathlib import Path

from pa_lib.contracts import PaLibError
from pa_lib.video import default_output, is_image, is_video


def pair_files(source: str, output: str | None) -> list[tuple[Path, Path]]:
    """Every input file with its output.

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
        if all(is_image(file) and file.parent == path for file in files):
            return [(path, target or default_output(path))]
        return _mirror(files, path, target or path.with_name(f"{path.name}.anonymized"))
    if not path.exists() and glob.has_magic(source):
        files = sorted(file for file in map(Path, glob.glob(str(path), recursive=True)) if _is_input(file))
        if not files:
            raise PaLibError(f"{source}: the pattern matches no video or image")
        base = Path(*_fixed_part(path))
        return _mirror(files, base, target) if target else [(file, default_output(file)) for file in files]
    if output is not None and target is not None and (target.is_dir() or output.endswith("/")):
        target = target / default_output(path).name
    return [(path, target or default_output(path))]


def _is_input(file: Path) -> bool:
    return file.is_file() and (is_video(file) or is_image(file)) and ".anonymized" not in file.suffixes


def _mirror(files: list[Path], base: Path, target: Path) -> list[tuple[Path, Path]]:
    if target.exists() and not target.is_dir():
        raise PaLibError(f"output={target}: got a file, expected a folder, since the input names {len(files)} files")
    return [(file, target / file.relative_to(base)) for file in files if target not in file.parents]


def _fixed_part(pattern: Path) -> list[str]:
    """The leading folders of a glob that hold no wildcard."""
    parts: list[str] = []
    for part in pattern.parts[:-1]:
        if glob.has_magic(part):
            break
        parts.append(part)
    return parts
