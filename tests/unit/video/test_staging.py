from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pa_lib.errors import PaLibError
from pa_lib.video import StagedFile, StagedFolder, check_writable, commit_together, write_whole


@pytest.fixture(params=["nameless", "hidden"])
def way(request, monkeypatch):
    """Both ways to stage a file: without a name, and by a hidden name where the file system has no O_TMPFILE."""
    if request.param == "hidden":
        monkeypatch.delattr(os, "O_TMPFILE")
    return request.param


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def wait_until_empty(folder: Path, seconds: float = 5) -> list[str]:
    end = time.monotonic() + seconds
    while names(folder) and time.monotonic() < end:
        time.sleep(0.01)
    return names(folder)


def interrupted(staged: StagedFile | StagedFolder) -> None:
    with staged:
        raise KeyboardInterrupt


@pytest.mark.parametrize("letter", ["a", "\N{GRINNING FACE}"])
def test_a_name_may_be_as_long_as_file_systems_allow(tmp_path, way, letter):
    final = tmp_path / (letter * (255 // len(os.fsencode(letter))))
    for content in (b"old", b"new"):
        with StagedFile(final) as staged:
            staged.path.write_bytes(content)
            staged.commit()
    assert names(tmp_path) == [final.name]
    assert final.read_bytes() == b"new"


def test_a_file_appears_only_at_commit(tmp_path, way):
    with StagedFile(tmp_path / "out.bin") as staged:
        staged.path.write_bytes(b"content")
        assert [name for name in names(tmp_path) if not name.startswith(".")] == []
        staged.commit()
        assert names(tmp_path) == ["out.bin"]
    assert (tmp_path / "out.bin").read_bytes() == b"content"
    assert names(tmp_path) == ["out.bin"]


def test_the_mode_is_that_of_an_ordinary_file(tmp_path, way):
    write_whole(tmp_path / "a", b"1")
    (tmp_path / "b").write_bytes(b"2")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_an_old_file_is_replaced_whole(tmp_path, way):
    (tmp_path / "out.bin").write_bytes(b"a long old content")
    with StagedFile(tmp_path / "out.bin") as staged:
        staged.path.write_bytes(b"new")
        assert (tmp_path / "out.bin").read_bytes() == b"a long old content"
        staged.commit()
    assert (tmp_path / "out.bin").read_bytes() == b"new"
    assert names(tmp_path) == ["out.bin"]


def test_without_commit_nothing_is_left(tmp_path, way):
    with StagedFile(tmp_path / "out.bin") as staged:
        staged.path.write_bytes(b"content")
    with pytest.raises(KeyboardInterrupt):
        interrupted(StagedFile(tmp_path / "out.bin"))
    assert names(tmp_path) == []


def test_a_folder_appears_only_at_commit(tmp_path):
    with StagedFolder(tmp_path / "out") as staged:
        (staged.path / "1.png").write_bytes(b"1")
        assert not (tmp_path / "out").exists()
        staged.commit()
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["1.png"]


def test_a_folder_without_commit_is_removed(tmp_path):
    with StagedFolder(tmp_path / "out") as staged:
        (staged.path / "1.png").write_bytes(b"1")
    with pytest.raises(KeyboardInterrupt):
        interrupted(StagedFolder(tmp_path / "out"))
    assert names(tmp_path) == []


def test_a_folder_that_holds_something_is_refused(tmp_path):
    (tmp_path / "out").mkdir()
    StagedFolder(tmp_path / "out").discard()
    (tmp_path / "out" / "mine.txt").write_text("x")
    for refuse in (StagedFolder, check_writable):
        with pytest.raises(PaLibError, match="not empty"):
            refuse(tmp_path / "out")
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("make", [StagedFile, StagedFolder, check_writable])
def test_folders_that_cannot_be_written_to(tmp_path, make, way):
    with pytest.raises(PaLibError, match="does not exist; create it"):
        make(tmp_path / "nowhere" / "out.mp4")
    (tmp_path / "file").write_text("x")
    with pytest.raises(PaLibError, match="cannot be written"):
        make(tmp_path / "file" / "out.mp4")
    with pytest.raises(PaLibError, match="cannot be written"):
        make(Path("/proc/out.mp4"))
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("what", ["fsync", "link", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_an_error_at_commit_leaves_nothing(tmp_path, way, monkeypatch, what, number):
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(number, os.strerror(number))

    if (what, way) in (("link", "hidden"), ("replace", "nameless")):
        pytest.skip("not on this way")
    staged = StagedFile(tmp_path / "out.bin")
    staged.path.write_bytes(b"content")
    monkeypatch.setattr(os, what, fail)
    with pytest.raises(PaLibError, match="failed") as caught:
        staged.commit()
    assert ("free some space" in str(caught.value)) == (number == errno.ENOSPC)
    assert names(tmp_path) == []


def test_an_error_while_replacing_keeps_the_old_file(tmp_path, way, monkeypatch):
    def fail(*args: object) -> None:
        raise OSError(errno.EIO, "broken")

    (tmp_path / "out.bin").write_bytes(b"old")
    staged = StagedFile(tmp_path / "out.bin")
    staged.path.write_bytes(b"new")
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(PaLibError, match="broken"):
        staged.commit()
    assert names(tmp_path) == ["out.bin"]
    assert (tmp_path / "out.bin").read_bytes() == b"old"


_VICTIM = """
import os, sys, time
from pathlib import Path
if sys.argv[2] == "hidden":
    del os.O_TMPFILE
from pa_lib.video.staging import StagedFile, StagedFolder
final = Path(sys.argv[1]) / "out.bin"
if sys.argv[2] == "folder":
    staged = StagedFolder(final)
    files = (staged.path / f"{n}.png" for n in range(10**9))
else:
    staged = StagedFile(final)
    files = (staged.path for _ in range(10**9))
print("ready", flush=True)
for file in files:
    with file.open("ab") as opened:
        opened.write(bytes(4096))
"""


@pytest.mark.parametrize("kind", ["nameless", "hidden", "folder"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("delay_s", [0.0, 0.037])
def test_a_killed_process_leaves_nothing(tmp_path, kind, number, delay_s):
    victim = subprocess.Popen(
        [sys.executable, "-c", _VICTIM, str(tmp_path), kind], stdout=subprocess.PIPE, start_new_session=True
    )
    assert victim.stdout is not None
    assert victim.stdout.readline() == b"ready\n"
    time.sleep(delay_s)
    os.killpg(victim.pid, number)  # the whole group, as a terminal or a job runner would
    victim.wait()
    victim.stdout.close()
    assert wait_until_empty(tmp_path) == []


OLD = {"a.json": b"old a", "main.mp4": b"old main"}  # b.json and c.json did not exist
NEW = {"a.json": b"new a", "b.json": b"new b", "c.json": b"new c", "main.mp4": b"new main"}
GIVES_NAMES = ("link", "replace", "rename", "unlink")


def contents(folder: Path) -> dict[str, bytes]:
    found = {}
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # it is being removed
            found[path.name] = path.read_bytes()
    return found


def give_names(folder: Path) -> None:
    """Four files together, of which two replace old ones."""
    for name, content in OLD.items():
        (folder / name).write_bytes(content)
    staged = [StagedFile.holding(folder / name, [content]) for name, content in NEW.items()]
    try:
        commit_together(staged[:-1], staged[-1])
    finally:
        for each in staged:
            each.discard()


def after_calls(n_calls: int, happens: Callable[[], Any], names: tuple[str, ...] = GIVES_NAMES) -> Callable[..., None]:
    """Lets something happen in place of one of the calls that give names, counted over all of them."""
    count = 0

    def wrapped(call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            return happens() if count == n_calls else call(*args, **kwargs)

        return counted

    def install(patch: Callable[[Any, str, Any], None]) -> None:
        for name in names:
            patch(os, name, wrapped(getattr(os, name)))

    return install


def test_files_get_their_names_together(tmp_path, way):
    give_names(tmp_path)
    assert contents(tmp_path) == NEW


@pytest.mark.parametrize("n_calls", range(1, 11))
@pytest.mark.parametrize("error", [OSError(errno.EIO, "broken"), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_if_one_name_fails_all_is_as_it_was(tmp_path, way, n_calls, error):
    def fail() -> None:
        raise error

    is_done = False
    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(PaLibError, KeyboardInterrupt):
        after_calls(n_calls, fail, ("link", "replace"))(patch.setattr)
        give_names(tmp_path)
        is_done = True
    # Nameless: a backup, three calls to replace an old file, one for each new file. The first backup may be a copy.
    is_backup = n_calls == 1 and isinstance(error, OSError)
    assert is_done == (is_backup or n_calls > {"nameless": 9, "hidden": 5}[way])
    assert contents(tmp_path) == (NEW if is_done else OLD)


def test_without_links_the_old_files_are_copied(tmp_path, monkeypatch):
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.delattr(os, "O_TMPFILE")
    monkeypatch.setattr(os, "link", refuse)
    give_names(tmp_path)
    assert contents(tmp_path) == NEW


def test_an_old_file_that_cannot_be_put_back_is_kept_and_named(tmp_path, monkeypatch):
    replace = os.replace

    class Absent:
        """In place of the watching process, which would put the file back."""

        def __init__(self, plan: object) -> None: ...
        def dismiss(self) -> None: ...

    def fail(source: Any, target: Any) -> None:
        if str(source).endswith(".old") or str(target).endswith("main.mp4"):
            raise OSError(errno.EROFS, "read-only")
        replace(source, target)

    monkeypatch.setattr("pa_lib.video.staging.Janitor", Absent)
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(PaLibError, match=r"the old .*a.json is kept as .*\.old"):
        give_names(tmp_path)
    (backup,) = tmp_path.glob(".a.json.*.old")
    assert backup.read_bytes() == b"old a"


_NAMING_VICTIM = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_staging import after_calls, give_names
if sys.argv[3] == "hidden":
    del os.O_TMPFILE
after_calls(int(sys.argv[4]), lambda: os.kill(os.getpid(), signal.SIGKILL))(setattr)
give_names(Path(sys.argv[2]))
"""


@pytest.mark.parametrize("n_calls", [1, 2, 3, 4, 5, 6, 7, 8])
def test_a_process_killed_between_two_names_leaves_all_as_it_was(tmp_path, way, n_calls):
    here = str(Path(__file__).parent)
    done = subprocess.run([sys.executable, "-c", _NAMING_VICTIM, here, str(tmp_path), way, str(n_calls)], check=False)
    assert done.returncode in (0, -signal.SIGKILL)
    end = time.monotonic() + 5
    while contents(tmp_path) not in (OLD, NEW) and time.monotonic() < end:
        time.sleep(0.01)
    now = contents(tmp_path)
    assert now == OLD or (now == NEW and n_calls > 4), "the main file has its new name, the others have not"
