"""Which files are videos and images, and which of them an input names."""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path

from pa_lib.paths import path_of

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")
VIDEO_SUFFIXES = (
    *(".3gp", ".asf", ".avi", ".flv", ".gif", ".ivf", ".m2ts", ".m4v", ".mjpeg", ".mkv", ".mov", ".mp4", ".mpeg"),
    *(".mpg", ".mts", ".mxf", ".nut", ".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m"),
)


def is_supported(path: Path) -> bool:
    """Whether the name's suffix is one that `probe` opens; for picking the files of a folder."""
    return path.suffix.lower() in VIDEO_SUFFIXES or is_still_image(path)


def is_still_image(path: Path) -> bool:
    """Whether the name says that it is an image."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def image_files(folder: Path) -> tuple[Path, ...]:
    """The images of a folder in natural order: 2 before 10. Hidden files and subfolders are left out."""
    files = [file for file in folder.iterdir() if is_still_image(file) and file.name[0] != "." and file.is_file()]
    return tuple(sorted(files, key=_natural))


def stem_of(path: Path) -> str:
    """Name of a file without the suffix of a video or an image; the whole name of a folder, whatever dots are in it."""
    is_file = path.suffix.lower() in (*VIDEO_SUFFIXES, *IMAGE_SUFFIXES) and not path.is_dir()
    return path.stem if is_file else path.name


def result_stem(source: Path) -> str:
    """What the names of the results of an input begin with: ``clip`` for ``clip.mp4``.

    Beside ``clip.mov`` or ``clip.jpg``, or a folder of images ``clip``, it is ``clip.mp4``: phones give a video and
    its picture one name, and the results of one must not replace those of the other.
    """
    path = source.absolute()
    if path.is_dir() or not path.parent.is_dir():
        return path.name if path.is_dir() else path.stem
    stem = path.stem
    beside = [Path(name) for name in os.listdir(path.parent) if name != path.name]
    is_shared = any(
        other.stem.casefold() == stem.casefold() and is_supported(other) and not _is_hidden_or_result(other.name)
        for other in beside
    )
    folder = path.with_name(stem)
    return path.name if is_shared or (folder.is_dir() and image_files(folder)) else stem


def find_inputs(source: Path | str, *, has_images: bool = True, besides: Path | None = None) -> list[Path]:
    """The videos that a path or a glob names, in order.

    A file is itself. A folder whose videos and images are images right in it is one video; any other folder stands for
    each video and image in it and below it, a glob for each that it matches. Results, which are named
    ``*.anonymized.*``, and hidden files are passed over in folders and globs.

    Args:
        source: A file, a folder, or a glob.
        has_images: Whether single images count as inputs.
        besides: Folder that is not searched, e.g. that of the results.

    Returns:
        Paths that may be absent where `source` names one file; empty where a folder or a glob holds no input.
    """
    path = path_of(source)
    if path.is_dir():
        found = list(path.rglob("*"))
    elif not path.exists() and glob.has_magic(str(source)):
        base = fixed_part(path)
        pattern = os.path.join(glob.escape(str(base)), *path.parts[len(base.parts) :])
        found = [Path(file) for file in glob.glob(pattern, recursive=True)]
    else:
        return [path]
    folder = path if path.is_dir() else None
    inputs = [
        file
        for file in sorted(found)
        if is_supported(file)
        and not any(_is_hidden_or_result(part) for part in (file.relative_to(folder).parts if folder else (file.name,)))
        and (besides is None or besides not in file.parents)
        and file.is_file()
    ]
    if path.is_dir() and inputs and all(is_still_image(file) and file.parent == path for file in inputs):
        return [path]
    return inputs if has_images else [file for file in inputs if not is_still_image(file)]


def fixed_part(pattern: Path) -> Path:
    """The leading folders of a glob: those without a wildcard, and those that are there, such as ``videos [2020]``."""
    base = Path(pattern.anchor)
    for part in pattern.parts[len(base.parts) : -1]:
        if glob.has_magic(part) and not (base / part).is_dir():
            break
        base /= part
    return base


def _is_hidden_or_result(name: str) -> bool:
    return name.startswith(".") or ".anonymized" in Path(name).suffixes


def _natural(path: Path) -> tuple[list[tuple[int, str]], str]:
    parts = re.split(r"(\d+)", path.name.casefold())
    return [(int(p), "") if p.isdecimal() else (-1, p) for p in parts], path.name
