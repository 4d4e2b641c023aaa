"""Which files are videos and images, and which of them an input names."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from unicodedata import normalize

from pa_lib.paths import path_of

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")
VIDEO_SUFFIXES = (
    *(".264", ".265", ".3g2", ".3gp", ".apng", ".asf", ".avc", ".avi", ".dif", ".dv", ".f4v", ".flv", ".gif"),
    *(".h264", ".h265", ".h26l", ".hevc", ".ismv", ".ivf", ".m1v", ".m2t", ".m2ts", ".m2v", ".m4v", ".mj2"),
    *(".mjpeg", ".mjpg", ".mk3d", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".obu"),
    *(".ogm", ".ogv", ".psp", ".qt", ".ts", ".vc1", ".vob", ".webm", ".wmv", ".wtv", ".y4m"),
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
    is_file = path.suffix.lower() in (*VIDEO_SUFFIXES, *IMAGE_SUFFIXES) and not os.path.isdir(path)
    return path.stem if is_file else path.name


def name_key(name: str) -> str:
    """Equal for names that are one name to some file system, which knows no case or composes letters.

    That is the canonical caseless matching of Unicode, a little wider than what APFS, NTFS and exFAT do.

    >>> name_key("IMG.mp4") == name_key("img.MP4"), name_key("Zo\u00eb") == name_key("zoe\u0308")
    (True, True)
    """
    return normalize("NFD", normalize("NFD", name).casefold())


def distinct_names(files: Iterable[str]) -> dict[str, str]:
    """A name for what is made of each file of a folder, different ones on every file system.

    It is the stem, or the whole name where another file has the same stem: ``clip`` for ``clip.mp4``, ``clip.mp4``
    beside ``clip.mov``. Beside ``CLIP.mp4``, ``clip.MP4`` becomes ``clip.MP4.2``.

    Args:
        files: Names of the files, each a name of its own.
    """
    options = {name: [Path(name).stem, name] for name in sorted(files)}
    while True:
        by_key: dict[str, list[str]] = defaultdict(list)
        for name, left in options.items():
            by_key[name_key(left[0])].append(name)
        clashing = [names for names in by_key.values() if len(names) > 1]
        if not clashing:
            return {name: left[0] for name, left in options.items()}
        for names in clashing:
            stems = [name for name in names if len(options[name]) > 1]
            for number, name in enumerate(stems or names[1:], 2):
                options[name] = options[name][1:] or [f"{options[name][0]}.{number}"]


def result_stem(source: Path) -> str:
    """What the names of the results of an input begin with: ``clip`` for ``clip.mp4``.

    Beside ``clip.mov`` or ``clip.jpg``, or a folder of images ``clip``, it is ``clip.mp4``: phones give a video and
    its picture one name, and the results of one must not replace those of the other; see `distinct_names`.
    """
    path = source.absolute()
    if path.is_dir() or not path.parent.is_dir():
        return path.name if path.is_dir() else path.stem
    folder = path.parent
    beside = {name for name in os.listdir(folder) if is_supported(Path(name)) and not _is_hidden_or_result(name)}
    own = distinct_names(beside | {path.name})[path.name]
    is_taken = any(
        name_key(name) == name_key(own) and (folder / name).is_dir() and image_files(folder / name)
        for name in os.listdir(folder)
    )
    return path.name if is_taken else own


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
    if os.path.isdir(path):  # False, unlike `Path.is_dir`, for names that no file system takes
        found = list(path.rglob("*"))
    elif not os.path.exists(path) and glob.has_magic(str(source)):
        base = fixed_part(path)
        pattern = os.path.join(glob.escape(str(base)), *path.parts[len(base.parts) :])
        found = [Path(file) for file in glob.glob(pattern, recursive=True)]
    else:
        return [path]
    own = _own(found, path if path.is_dir() else None, besides)
    inputs = [file for file in sorted(own) if is_supported(file)]
    if path.is_dir() and inputs and all(is_still_image(file) and file.parent == path for file in inputs):
        return [path]
    return inputs if has_images else [file for file in inputs if not is_still_image(file)]


def passed_over(folder: Path, besides: Path | None = None) -> Counter[str]:
    """How many files in a folder and below it `find_inputs` leaves, since their names are not those of inputs.

    Results and hidden files are not counted.

    Args:
        folder: The folder.
        besides: Folder that is not searched, e.g. that of the results.

    Returns:
        Suffix in lower case (empty where there is none) -> number of files.
    """
    return Counter(file.suffix.lower() for file in _own(folder.rglob("*"), folder, besides) if not is_supported(file))


def fixed_part(pattern: Path) -> Path:
    """The leading folders of a glob: those without a wildcard, and those that are there, such as ``videos [2020]``."""
    base = Path(pattern.anchor)
    for part in pattern.parts[len(base.parts) : -1]:
        if glob.has_magic(part) and not (base / part).is_dir():
            break
        base /= part
    return base


def _own(found: Iterable[Path], folder: Path | None, besides: Path | None) -> list[Path]:
    """The files among what was found, in `folder` or by a glob, that are neither hidden nor results."""
    return [
        file
        for file in found
        if not any(_is_hidden_or_result(part) for part in (file.relative_to(folder).parts if folder else (file.name,)))
        and (besides is None or besides not in file.parents)
        and file.is_file()
    ]


def _is_hidden_or_result(name: str) -> bool:
    return name.startswith(".") or ".anonymized" in Path(name).suffixes


def _natural(path: Path) -> tuple[list[tuple[int, str]], str]:
    parts = re.split(r"(\d+)", path.name.casefold())
    return [(int(p), "") if p.isdecimal() else (-1, p) for p in parts], path.name
