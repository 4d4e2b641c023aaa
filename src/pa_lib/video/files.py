"""Which files are videos and images, and which of them an input names."""

from __future__ import annotations

import glob
import re
from pathlib import Path

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
    path = Path(source).expanduser()
    if path.is_dir():
        found = list(path.rglob("*"))
    elif not path.exists() and glob.has_magic(str(source)):
        found = [Path(file) for file in glob.glob(str(path), recursive=True)]
    else:
        return [path]
    base = path if path.is_dir() else None
    inputs = [
        file
        for file in sorted(found)
        if is_supported(file)
        and not any(_is_hidden_or_result(part) for part in (file.relative_to(base).parts if base else (file.name,)))
        and (besides is None or besides not in file.parents)
        and file.is_file()
    ]
    if path.is_dir() and inputs and all(is_still_image(file) and file.parent == path for file in inputs):
        return [path]
    return inputs if has_images else [file for file in inputs if not is_still_image(file)]


def _is_hidden_or_result(name: str) -> bool:
    return name.startswith(".") or ".anonymized" in Path(name).suffixes


def _natural(path: Path) -> tuple[list[tuple[int, str]], str]:
    parts = re.split(r"(\d+)", path.name.casefold())
    return [(int(p), "") if p.isdecimal() else (-1, p) for p in parts], path.name
