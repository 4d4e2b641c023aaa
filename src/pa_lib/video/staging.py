"""A place to write that vanishes unless it is committed, also when the process is killed.

On Linux a file is written without a name (O_TMPFILE) and linked into its folder at the end: whatever kills the
process, the kernel frees it. Where the file system cannot do that, and for folders, a hidden name is used, and a small
process in a session of its own waits for our death to remove it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import sys
import uuid
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Self

from pa_lib.errors import PaLibError

# Waits until the other end of its standard input is closed, which the kernel does at the latest when we die, and
# removes what is still there then. It takes no signal meant for us: it has its own session.
_JANITOR = """
import os, shutil, sys
sys.stdin.buffer.read()
for path in sys.argv[1:]:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    elif os.path.lexists(path):
        os.unlink(path)
"""


class AbstractStaged(ABC):
    """Something that is being written. Leaving it as a context manager without `commit` removes it.

    Attributes:
        final: The name that it gets.
        path: Where to write meanwhile: a file that is open already, or an empty folder.
    """

    final: Path
    path: Path

    @abstractmethod
    def commit(self) -> None:
        """Flush to the disk and give it its final name, in one step.

        Raises:
            PaLibError: If that fails; nothing is left then.
        """

    @abstractmethod
    def discard(self) -> None:
        """Remove it. Nothing happens after `commit` or a second time."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()


class StagedFile(AbstractStaged):
    """One file that appears at once and whole, or not at all.

    Args:
        final: Its name at the end; an old file of that name is replaced.

    Raises:
        PaLibError: If its folder cannot be written to.
    """

    def __init__(self, final: Path) -> None:
        self.final = final
        self._hidden = _hidden_name(final)
        self._janitor: _Janitor | None = None
        self._fd = -1
        try:
            self._fd = self._open_nameless()
        except OSError as error:
            raise _unwritable(final, error) from error
        self.path = Path(f"/proc/self/fd/{self._fd}") if self._janitor is None else self._hidden

    def _open_nameless(self) -> int:
        flag = getattr(os, "O_TMPFILE", None)
        if flag is not None and os.path.isdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                return os.open(self.final.parent, flag | os.O_RDWR, 0o666)
        self._janitor = _Janitor(self._hidden)
        try:
            return os.open(self._hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except OSError:
            self._janitor.dismiss()
            raise

    def commit(self) -> None:
        """Flush to the disk and give it its final name, in one step.

        Raises:
            PaLibError: If that fails; nothing is left then.
        """
        try:
            os.fsync(self._fd)
            if self._janitor is None:
                self._link()
            else:
                os.replace(self._hidden, self.final)
            _sync_folder(self.final.parent)
        except OSError as error:
            self.discard()
            raise _failed(self.final, error) from error
        self.discard()

    def _link(self) -> None:
        """Name the nameless file. A link cannot replace an old file, so then it goes by way of a hidden name."""
        folder = os.open(self.final.parent, os.O_RDONLY)
        try:
            try:
                os.link(self.path, self.final.name, dst_dir_fd=folder)
            except FileExistsError:
                self._janitor = _Janitor(self._hidden)
                os.link(self.path, self._hidden.name, dst_dir_fd=folder)
                os.replace(self._hidden, self.final)
        finally:
            os.close(folder)

    def discard(self) -> None:
        """Remove it. Nothing happens after `commit` or a second time."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._janitor is not None:
            with contextlib.suppress(OSError):
                self._hidden.unlink(missing_ok=True)
            self._janitor.dismiss()


class StagedFolder(AbstractStaged):
    """A folder of files that appears at once and whole, or not at all.

    Args:
        final: Its name at the end; must not exist, or be empty.

    Raises:
        PaLibError: If the folder above cannot be written to, or `final` is there and not empty.
    """

    def __init__(self, final: Path) -> None:
        self.final = final
        self.path = _hidden_name(final)
        self._janitor = _Janitor(self.path)
        try:
            if final.is_dir() and any(final.iterdir()):
                raise PaLibError(f"output folder {final} is not empty; empty it or choose another name")
            self.path.mkdir()
        except OSError as error:
            self._janitor.dismiss()
            raise _unwritable(final, error) from error
        except PaLibError:
            self._janitor.dismiss()
            raise

    def commit(self) -> None:
        """Flush to the disk and give it its final name, in one step.

        Raises:
            PaLibError: If that fails; nothing is left then.
        """
        try:
            for file in self.path.iterdir():
                with file.open("rb") as opened:
                    os.fsync(opened.fileno())
            _sync_folder(self.path)
            os.rename(self.path, self.final)
            _sync_folder(self.final.parent)
        except OSError as error:
            self.discard()
            raise _failed(self.final, error) from error
        self._janitor.dismiss()

    def discard(self) -> None:
        """Remove it. Nothing happens after `commit` or a second time."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._janitor.dismiss()


def write_whole(path: Path, content: bytes) -> None:
    """Write a small file, e.g. a report, that is there whole or not at all.

    Raises:
        PaLibError: If it cannot be written.
    """
    with StagedFile(path) as staged:
        try:
            staged.path.write_bytes(content)
        except OSError as error:
            raise _failed(path, error) from error
        staged.commit()


def check_writable(final: Path) -> None:
    """Find out now, not after an hour of work, whether `final` can be written.

    Raises:
        PaLibError: If its folder is missing or refuses a new file, or it is a folder that holds something.
    """
    if final.is_dir():
        if any(final.iterdir()):
            raise PaLibError(f"output {final} is a folder that is not empty; empty it or choose another name")
        return
    with StagedFile(final):
        pass


class _Janitor:
    """The process that removes a path when we die."""

    def __init__(self, path: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _JANITOR, str(path.absolute())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def dismiss(self) -> None:
        """Let it end; it removes the path if that is still there."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
            self._process.wait()


def _hidden_name(final: Path) -> Path:
    return final.with_name(f".{final.name[:100]}.{uuid.uuid4().hex[:12]}.part")


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _unwritable(final: Path, error: OSError) -> PaLibError:
    if error.errno == errno.ENOSPC:
        return _failed(final, error)
    if not final.parent.exists():
        return PaLibError(f"output folder {final.parent} does not exist; create it or choose another")
    return PaLibError(f"output {final} cannot be written ({error.strerror or error}); choose a folder you may write to")


def _failed(final: Path, error: OSError) -> PaLibError:
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    hint = "free some space" if error.errno in full else "check the disk"
    return PaLibError(f"writing output {final} failed ({error.strerror or error}); nothing was left there; {hint}")
