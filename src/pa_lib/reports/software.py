"""Versions of the software that a record names."""

from __future__ import annotations

import platform
from importlib import metadata

from pa_lib import __version__

_PACKAGES = ("torch", "av", "onnxruntime", "opencv-python-headless", "numpy", "facenet-pytorch")


def software_versions(*more: str) -> dict[str, str]:
    """Versions that decide what a run computes; a package that is absent is left out.

    Args:
        more: Further packages, by the names under which they are installed.
    """
    versions = {"pa_lib": __version__, "python": platform.python_version()}
    for name in (*_PACKAGES, *more):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
