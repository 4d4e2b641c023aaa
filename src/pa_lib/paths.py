"""Paths as they are written."""

from __future__ import annotations

import os
from pathlib import Path

AS_ESCAPES = "backslashreplace"
"""How texts are encoded that may hold names of files: a name need not be UTF-8. In JSON the escapes mean the name."""


def path_of(text: str | Path) -> Path:
    """The path that a text names: as it is, but ``~/`` at its beginning is the home folder.

    Shells expand that only where a word begins with it, so not always in ``input=~/clip.mp4``. ``~clip.mp4`` and
    ``~`` are names like any other, and a folder named ``~`` is meant where there is one.

    >>> path_of("~clip (1).mp4").name, path_of("~/clip.mp4") == Path.home() / "clip.mp4"
    ('~clip (1).mp4', True)
    """
    path = os.fspath(text)
    return Path(os.path.expanduser(path) if path.startswith("~/") and not os.path.lexists("~") else path)
