"""The weights that ship with pa_lib: where they lie, whether they are what the manifest says, and their licences."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pa_lib.errors import WeightsError

FOLDER = Path(__file__).parents[1] / "assets"


@dataclass(frozen=True)
class Asset:
    """One file of weights that ships.

    Args:
        what: Description in one line.
        licence: SPDX name of the licence.
        origin: Package, version and file it was made from, and the upstream project.
        source_sha256: Hash of the origin files, hex.
        sha256: Hash of the shipped file, hex.
        n_bytes: Size of the shipped file in bytes.
    """

    what: str
    licence: str
    origin: str
    source_sha256: tuple[str, ...]
    sha256: str
    n_bytes: int


@lru_cache(maxsize=4)
def _read_manifest(folder: Path) -> dict[str, Asset]:
    path = folder / "manifest.json"
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return {
            name: Asset(**entry | {"source_sha256": tuple(entry["source_sha256"])}) for name, entry in entries.items()
        }
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise WeightsError(f"{path}: the list of shipped weights cannot be read ({error}); reinstall pa_lib") from error


def asset_manifest() -> dict[str, Asset]:
    """Every file of weights that ships, by name.

    Raises:
        WeightsError: The manifest is missing or damaged.

    >>> asset_manifest()["centerface.onnx"].licence
    'MIT'
    """
    return dict(_read_manifest(FOLDER))


@lru_cache(maxsize=32)
def _verified(folder: Path, name: str) -> Path:
    manifest = _read_manifest(folder)
    if name not in manifest:
        raise WeightsError(f"no weights named {name!r} ship with pa_lib; there are: {', '.join(sorted(manifest))}")
    asset, path = manifest[name], folder / name
    advice = f"it is {asset.what} ({asset.licence}, from {asset.origin}); reinstall pa_lib"
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise WeightsError(f"{path}: shipped weights cannot be read ({error.strerror}); {advice}") from error
    if digest != asset.sha256:
        raise WeightsError(
            f"{path}: shipped weights are damaged: sha256 {digest[:12]}…, expected {asset.sha256[:12]}…; {advice}"
        )
    return path


def asset_path(name: str) -> Path:
    """Where a file of shipped weights lies. Its sha256 is compared once in a process.

    Args:
        name: File name, e.g. ``centerface.onnx``.

    Raises:
        WeightsError: No such weights, the file is missing, or its content is not what the manifest says.

    >>> asset_path("centerface.onnx").name
    'centerface.onnx'
    """
    return _verified(FOLDER, name)
