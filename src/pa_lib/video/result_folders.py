"""Folders that are made for results: what is in them appears together, and what stays empty is removed again."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from pa_lib.errors import PaLibError, SettingError
from pa_lib.video import rollback
from pa_lib.video.rollback import Plan
from pa_lib.video.staging import AbstractStaged, Janitor, commit_together, failed, hidden_name


class MadeFolders:
    """Folders that are there from now on; those that it made and that are empty are removed at the end.

    The end is that of the context, or of the process, whatever ends it.

    Args:
        folders: The folders; those above them are made, too.

    Raises:
        SettingError: One of them is a file.
        PaLibError: One of them cannot be made; none is left then.
    """

    def __init__(self, *folders: Path) -> None:
        self._plan = Plan(folders=make_folders(folders))
        self._janitor = _watched(self._plan, folders[0]) if self._plan.folders else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._janitor is not None:
            rollback.settle(self._plan)
            self._janitor.dismiss()


class StagedResults:
    """A hidden folder whose files appear in another one together, or not at all.

    Leaving it as a context manager without `commit` removes it, and so does the end of the process.

    Args:
        final: Folder of the results; it is made, and may hold other files.

    Attributes:
        path: Where to write meanwhile, also in folders below.

    Raises:
        SettingError: `final` is a file.
        PaLibError: It cannot be written to.
    """

    def __init__(self, final: Path) -> None:
        self._final = final
        self.path = hidden_name(final / "results")
        self._plan = Plan(remove=[str(self.path.absolute())], folders=make_folders([final]))
        self._janitor = _watched(self._plan, final)
        try:
            self.path.mkdir()
        except OSError as error:
            self._janitor.dismiss()
            raise _unmade(final, error) from error

    def commit(self, last: str) -> None:
        """Give all files their names; old files of these names are replaced.

        Args:
            last: Name of the file that all others belong to, which comes last.

        Raises:
            PaLibError: If one of them cannot get its name; all is as it was before then.
        """
        files = [file for file in sorted(self.path.rglob("*")) if file.is_file()]
        staged = [_Moving(self._final / file.relative_to(self.path), file) for file in files]
        staged.sort(key=lambda one: one.path == self.path / last)
        if staged:
            with MadeFolders(*{one.final.parent for one in staged}):
                commit_together(staged[:-1], staged[-1])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        rollback.settle(self._plan)
        self._janitor.dismiss()


class _Moving(AbstractStaged):
    """A whole file on its way to another folder of the same file system."""

    def __init__(self, final: Path, path: Path) -> None:
        self.final, self.path = final, path
        self.hidden = path

    def commit(self) -> None:
        """Flush to the disk and give it its final name, in one step."""
        try:
            with self.path.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(self.path, self.final)
        except OSError as error:
            raise failed(self.final, error) from error

    def discard(self) -> None:
        """Remove it."""
        with contextlib.suppress(OSError):
            self.path.unlink()


def make_folders(folders: Iterable[Path]) -> list[str]:
    """Make folders with those above them; what was made, the deepest first.

    Raises:
        SettingError: One of them is a file.
        PaLibError: One of them cannot be made; none is left then.
    """
    made: list[str] = []
    try:
        for folder in folders:
            for one in reversed((folder, *folder.parents)):
                if one.is_dir():
                    continue
                try:
                    one.mkdir()
                except FileExistsError:
                    if not one.is_dir():  # else another process has made it meanwhile
                        raise
                else:
                    made.insert(0, str(one.absolute()))
    except OSError as error:
        rollback.settle(Plan(folders=made))
        raise _unmade(one, error) from error
    return made


def _watched(plan: Plan, folder: Path) -> Janitor:
    try:
        return Janitor(plan)
    except OSError as error:
        rollback.settle(plan)
        raise failed(folder, error) from error


def _unmade(folder: Path, error: OSError) -> PaLibError:
    if isinstance(error, FileExistsError):
        return SettingError(f"output={folder}: got a file, expected a folder, since several results go there")
    return PaLibError(f"output={folder} cannot be made or written to: {error.strerror}; name another folder")
