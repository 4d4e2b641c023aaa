"""Small files that appear complete or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from pa_lib.contracts import PaLibError


def write_whole(path: Path, parts: Iterable[bytes]) -> None:
    """Writes the parts, under the final name only when all of them are on the disk.

    Args:
        path: Where to; a file of that name is replaced.
        parts: Written one after the other.

    Raises:
        PaLibError: The file cannot be written.
    """
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp makes private files; a report has the rights of any new file
        os.replace(temporary, path)
    except OSError as error:
        raise PaLibError(f"{path} cannot be written: {error.strerror or error}; is the folder writable?") from error
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
