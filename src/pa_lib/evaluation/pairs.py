"""Which anonymized video belongs to which original, and the files that its run wrote beside it."""

from __future__ import annotations

import glob
import shlex
from dataclasses import dataclass
from pathlib import Path

from pa_lib.errors import InputError, SettingError
from pa_lib.video import find_inputs, is_supported, result_stem, stem_of


@dataclass(frozen=True)
class ClipPair:
    """Two videos to be compared, and what the run that made the second wrote beside it.

    Args:
        original: The source video.
        anonymized: The anonymized video.
        tracks: The tracks file; None without one: where people are and who was hidden is unknown then.
        report: The report of the run as JSON; None where there is none.
    """

    original: Path
    anonymized: Path
    tracks: Path | None = None
    report: Path | None = None


def pair_clips(original: Path, anonymized: Path | None, tracks: Path | None = None) -> tuple[list[ClipPair], list[str]]:
    """Originals with their anonymized videos, by the names that `pa-anonymize` gives.

    Args:
        original: A video, a folder of images that is one video, or a folder of videos.
        anonymized: A video, or a folder with a ``clip.anonymized.mp4`` (or a file of the very same name) for each
            ``clip.mp4``, also in folders below; None looks where `pa-anonymize` writes.
        tracks: The tracks file of a single video; None takes the one beside the anonymized video, if there is one.

    Returns:
        The pairs, and one line for each video that has no partner.

    Raises:
        InputError, SettingError: There is no pair, or a tracks file is given for several.
    """
    if not original.exists():
        raise InputError(f"original={original}: no such file or folder")
    if anonymized is not None and not anonymized.exists():
        raise InputError(f"anonymized={anonymized}: no such file or folder")
    sources = find_inputs(original)
    if sources == [original]:
        partner = anonymized
        if partner is None or (partner.is_dir() and not original.is_dir()):
            folder = partner or original.parent
            partner = _partner(original, folder, Path(original.name), is_same_name_taken=anonymized is not None)
            if partner is None:
                raise InputError(
                    f"{folder} holds no {result_stem(original)}.anonymized.*; say anonymized=FILE, or anonymize it "
                    f"first: pa-anonymize {shlex.quote(f'input={original}')}"
                )
        return [_with_records(original, partner, tracks)], []
    folder = anonymized or original.with_name(f"{original.name}.anonymized")
    if not folder.is_dir():
        raise SettingError(f"original={original} is a folder of videos, so anonymized={folder} must be a folder too")
    sources = find_inputs(original, besides=None if folder == original else folder)
    is_other = folder.resolve() != original.resolve()
    partners = {
        file: _partner(file, folder, file.relative_to(original), is_same_name_taken=is_other) for file in sources
    }
    lonely = [f"{file.relative_to(original)}: no anonymized video" for file, partner in partners.items() if not partner]
    pairs = [_with_records(file, partner, None) for file, partner in partners.items() if partner is not None]
    if not pairs:
        raise InputError(
            f"no video of {original} has a partner in {folder}; expected clip.anonymized.mp4 for clip.mp4, as "
            "pa-anonymize names them"
        )
    if tracks is not None:
        raise SettingError(
            f"tracks={tracks} belongs to one video, but {len(pairs)} are compared; put them beside these"
        )
    return pairs, lonely


def _with_records(original: Path, anonymized: Path, tracks: Path | None) -> ClipPair:
    beside = [anonymized.with_name(f"{stem_of(anonymized)}.{name}") for name in ("tracks.json", "report.json")]
    found = [path if path.is_file() else None for path in beside]
    return ClipPair(original, anonymized, tracks or found[0], found[1])


def _partner(original: Path, folder: Path, relative: Path, *, is_same_name_taken: bool) -> Path | None:
    """``sub/clip.anonymized.*`` for ``sub/clip.mp4``, or ``sub/clip.mp4`` itself in another folder.

    Beside ``sub/clip.mov`` it is ``sub/clip.mp4.anonymized.*``, and ``sub/clip.anonymized.mp4`` with the same suffix.
    """
    place = folder / relative.parent
    stem, own = stem_of(original), result_stem(original)
    options = {own: False, original.name: False, stem: own != stem}
    if original.is_dir() and (place / f"{stem}.anonymized").is_dir():
        return place / f"{stem}.anonymized"
    for name, is_shared in options.items():
        for file in sorted(place.glob(f"{glob.escape(name)}.anonymized.*")) if place.is_dir() else []:
            is_other = is_shared and file.suffix.lower() != original.suffix.lower()
            if is_supported(file) and not is_other and file.stem == f"{name}.anonymized":
                return file
    same = place / relative.name
    return same if is_same_name_taken and same.is_file() and same.resolve() != original.resolve() else None
