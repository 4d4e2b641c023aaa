"""Undoing names where several files were to get theirs together and not all of them did.

Called in the process that failed, and run by a process of its own that waits for the end of one that was killed.
That process starts without pa_lib and without site packages, so this file imports the standard library only.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple


class Name(NamedTuple):
    """A name that a new file is to get.

    Args:
        path: The name.
        device: Device of the new file: with `inode` it identifies the new file.
        inode: Inode of the new file on that device.
        backup: Path of the old file of this name meanwhile; None where there was none.
    """

    path: str
    device: int
    inode: int
    backup: str | None = None


class Plan(NamedTuple):
    """Files that get their names together.

    Args:
        names: Names that are given first.
        last: The name that is given at the end: once it is there, the others stay. None where nothing may stay.
        remove: Hidden files and folders that are removed in any case.
        folders: Folders that are removed at the end where they are empty, in this order.
    """

    names: Sequence[Name] = ()
    last: Name | None = None
    remove: Sequence[str] = ()
    folders: Sequence[str] = ()


def settle(plan: Plan) -> list[str]:
    """Remove the backups if the last name was given, undo the other names if it was not. May be called twice.

    Returns:
        The old files that could not be put back, one line each.
    """
    problems = []
    is_done = plan.last is not None and _is_there(plan.last)
    for name in plan.names:
        try:
            if name.backup is None:
                if not is_done and _is_there(name):
                    os.unlink(name.path)
            elif os.path.lexists(name.backup):
                if not is_done:
                    os.replace(name.backup, name.path)
                with suppress(FileNotFoundError):  # renaming one of two links to the same file leaves both
                    os.unlink(name.backup)
        except OSError as error:
            old = (
                f"the old {name.path} is kept as {name.backup}" if name.backup else f"{name.path} could not be removed"
            )
            problems.append(f"{old} ({error.strerror or error})")
    for path in plan.remove:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                os.unlink(path)
    for path in plan.folders:
        with suppress(OSError):
            os.rmdir(path)
    return problems


def _is_there(name: Name) -> bool:
    """Whether the file of this name is the new one."""
    try:
        found = os.lstat(name.path)
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == (name.device, name.inode)


def main() -> None:
    """Wait for a byte, or for the end of standard input, which the kernel closes when the other process dies."""
    names, last, *others = json.loads(sys.argv[1])
    sys.stdin.buffer.read(1)
    settle(Plan([Name(*name) for name in names], last and Name(*last), *others))


if __name__ == "__main__":
    main()
