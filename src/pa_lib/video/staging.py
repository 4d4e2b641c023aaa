"""A place to write that vanishes unless it is committed, also when the process is killed.

On Linux a file is written without a name (O_TMPFILE) and linked into its folder at the end: whatever kills the
process, the kernel frees it. Where the file system cannot do that, for folders, and while several files get their
names, a small process in a session of its own waits for the end of this one to clean up.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import subprocess
import sys
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from pa_lib.errors import PaLibError, SettingError
from pa_lib.video import rollback
from pa_lib.video.rollback import Name, Plan


class AbstractStaged(ABC):
    """Something that is being written. Leaving it as a context manager without `commit` removes it.

    Attributes:
        final: The name that it gets.
        path: Where to write meanwhile: a file that is open already, or an empty folder.
        hidden: A name beside `final` that may be in use until the commit.
    """

    final: Path
    path: Path
    hidden: Path

    @abstractmethod
    def commit(self) -> None:
        """Flush to the disk and give it its final name, in one step.

        Raises:
            PaLibError: If that fails; nothing is left then.
        """

    @abstractmethod
    def discard(self) -> None:
        """Remove it. Nothing happens after `commit` or a second time."""

    def name(self, backup: Path | None = None) -> Name:
        """Its final name, with which a `Plan` recognizes it.

        Args:
            backup: Path of the old file of this name meanwhile; None where there was none.
        """
        found = self.path.stat()
        return Name(
            str(self.final.absolute()), found.st_dev, found.st_ino, None if backup is None else str(backup.absolute())
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()


class StagedFile(AbstractStaged):
    """One file that appears at once and whole, or not at all.

    Args:
        final: Final name; an old file of that name is replaced.

    Raises:
        PaLibError: If its folder cannot be written to.
    """

    def __init__(self, final: Path) -> None:
        self.final = final
        self.hidden = hidden_name(final)
        self._janitor: Janitor | None = None
        self._fd = -1
        try:
            self._fd = self._open_nameless()
        except OSError as error:
            raise _unwritable(final, error) from error
        self.path = Path(f"/proc/self/fd/{self._fd}") if self._janitor is None else self.hidden

    def _open_nameless(self) -> int:
        flag = getattr(os, "O_TMPFILE", None)
        if flag is not None and os.path.isdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                return os.open(self.final.parent, flag | os.O_RDWR, 0o666)
        self._janitor = Janitor(Plan(remove=[str(self.hidden.absolute())]))
        try:
            return os.open(self.hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except OSError:
            self._janitor.dismiss()
            raise

    @classmethod
    def holding(cls, final: Path, parts: Iterable[bytes]) -> Self:
        """A staged file that is written already and waits for its commit.

        Args:
            final: Final name.
            parts: Content of the file, piece by piece.

        Raises:
            PaLibError: If it cannot be written; nothing is left then.
        """
        staged = cls(final)
        try:
            with staged.path.open("wb") as file:
                file.writelines(parts)
        except BaseException as error:
            staged.discard()
            if isinstance(error, OSError):
                raise failed(final, error) from error
            raise
        return staged

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
                os.replace(self.hidden, self.final)
        except OSError as error:
            self.discard()
            raise failed(self.final, error) from error
        _sync_folder(self.final.parent)
        self.discard()

    def _link(self) -> None:
        """Name the nameless file. A link cannot replace an old file, so then it goes by way of a hidden name."""
        folder = os.open(self.final.parent, os.O_RDONLY)
        try:
            try:
                os.link(self.path, self.final.name, dst_dir_fd=folder)
            except FileExistsError:
                os.link(self.path, self.hidden.name, dst_dir_fd=folder)
                os.replace(self.hidden, self.final)
        finally:
            os.close(folder)

    def discard(self) -> None:
        """Remove it. Nothing happens after `commit` or a second time."""
        if self._fd < 0:
            return
        os.close(self._fd)
        self._fd = -1
        with contextlib.suppress(OSError):
            self.hidden.unlink(missing_ok=True)
        if self._janitor is not None:
            self._janitor.dismiss()


class StagedFolder(AbstractStaged):
    """A folder of files that appears at once and whole, or not at all.

    Args:
        final: Final name; must not exist, or be empty.

    Raises:
        PaLibError: If the folder above cannot be written to, or `final` is there and not empty.
    """

    def __init__(self, final: Path) -> None:
        self.final = final
        self.path = self.hidden = hidden_name(final)
        self._janitor = Janitor(Plan(remove=[str(self.path.absolute())]))
        try:
            if final.is_dir() and any(final.iterdir()):
                raise SettingError(f"output folder {final} is not empty; empty it or choose another name")
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
        except OSError as error:
            self.discard()
            raise failed(self.final, error) from error
        _sync_folder(self.final.parent)
        self._janitor.dismiss()

    def discard(self) -> None:
        """Remove it. Nothing happens after `commit` or a second time."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._janitor.dismiss()


def commit_together(beside: Sequence[AbstractStaged], last: AbstractStaged) -> None:
    """Give several staged files their names: those beside it first, the one that matters at the end.

    Old files are replaced, but kept until the last name is given: where that fails, or where the process is killed
    before, they come back as they were, and names that did not exist before vanish again.

    Args:
        beside: Files that must not be there without the last one.
        last: The file or folder that the others belong to.

    Raises:
        PaLibError: If any of them cannot get its name; all is as it was before then.
    """
    try:
        backups = [hidden_name(file.final, ".old") if os.path.lexists(file.final) else None for file in beside]
        hidden = [*(file.hidden for file in (*beside, last)), *(_unfinished(path) for path in backups if path)]
        plan = Plan(
            [file.name(backup) for file, backup in zip(beside, backups, strict=True)],
            last.name(),
            [str(path.absolute()) for path in hidden],
        )
        janitor = Janitor(plan)
    except OSError as error:
        raise failed(last.final, error) from error
    problems: list[str] = []
    try:
        for file, backup in zip(beside, backups, strict=True):
            if backup is not None:
                _keep(file.final, backup)
            file.commit()
        last.commit()
    except BaseException as error:
        problems = rollback.settle(plan)
        if problems and isinstance(error, PaLibError):
            raise type(error)(f"{error}; {'; '.join(problems)}") from error
        raise
    finally:
        rollback.settle(plan)
        janitor.dismiss()


def _keep(final: Path, backup: Path) -> None:
    """Give an old file a second name; a copy where the file system has no links."""
    try:
        try:
            os.link(final, backup, follow_symlinks=False)
        except OSError:
            # A copy that is cut short must not be taken for the old file.
            shutil.copy2(final, _unfinished(backup), follow_symlinks=False)
            os.rename(_unfinished(backup), backup)
    except OSError as error:
        raise failed(final, error) from error


def write_whole(path: Path, content: bytes) -> None:
    """Write a small file, e.g. a report, that is there whole or not at all.

    Raises:
        PaLibError: If it cannot be written.
    """
    with StagedFile.holding(path, [content]) as staged:
        staged.commit()


def is_taken(final: Path) -> bool:
    """Whether there is a file or folder of a name that a result is to get.

    Raises:
        SettingError: If no file can have that name, e.g. because it is too long.
    """
    try:
        final.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise SettingError(
            f"output {final} cannot be written ({error.strerror or error}); name a result that can be, by output=..."
        ) from error
    return True


def check_writable(final: Path) -> None:
    """Find out now, not after an hour of work, whether `final` can be written.

    Raises:
        PaLibError: If its folder is missing or refuses a new file, or it is a folder that holds something.
    """
    if final.is_dir():
        if any(final.iterdir()):
            raise SettingError(f"output {final} is a folder that is not empty; empty it or choose another name")
        return
    with StagedFile(final):
        pass


class Janitor:
    """A process that settles a plan when this one ends. Signals for this one do not reach its session.

    Args:
        plan: The plan.

    Raises:
        OSError: If the process cannot be started.
    """

    def __init__(self, plan: Plan) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", rollback.__file__, json.dumps(plan)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def dismiss(self) -> None:
        """Let it settle the plan and end."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            with contextlib.suppress(OSError):  # a byte: processes that were forked meanwhile keep the pipe open
                self._process.stdin.write(b"\n")
                self._process.stdin.close()
            self._process.wait()


def hidden_name(final: Path, suffix: str = ".part") -> Path:
    """A name beside `final` that is in no use and that folders do not show."""
    begin = os.fsencode(final.name)[:200].decode("utf-8", "ignore")  # a name is at most 255 bytes long
    return final.with_name(f".{begin}.{uuid.uuid4().hex[:12]}{suffix}")


def _unfinished(backup: Path) -> Path:
    return backup.with_name(f"{backup.name}.part")


def _sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk. Not every file system can; the files themselves are there already."""
    with contextlib.suppress(OSError):
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _unwritable(final: Path, error: OSError) -> PaLibError:
    if error.errno == errno.ENOSPC:
        return failed(final, error)
    if not final.parent.exists():
        return PaLibError(f"output folder {final.parent} does not exist; create it or choose another")
    return PaLibError(f"output {final} cannot be written ({error.strerror or error}); choose a folder you may write to")


def failed(final: Path, error: OSError) -> PaLibError:
    """The error for a result that cannot be written."""
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    hint = "free some space" if error.errno in full else "check the disk"
    return PaLibError(f"writing output {final} failed ({error.strerror or error}); no file was changed; {hint}")
