from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pa_lib.errors import PaLibError
from pa_lib.video import StagedFile, StagedFolder, check_writable, write_whole


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
