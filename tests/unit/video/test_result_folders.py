"""Folders of results: what is in them appears together, and a run takes away what it made and did not use."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pa_lib.errors import PaLibError, SettingError
from pa_lib.video import MadeFolders, StagedResults


def tree(folder: Path) -> dict[str, str]:
    """Everything below a folder: content of files, nothing for folders."""
    found = sorted(folder.rglob("*"))
    return {path.relative_to(folder).as_posix(): path.read_text() if path.is_file() else "" for path in found}


def test_only_what_was_made_and_is_empty_goes(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with MadeFolders(tmp_path / "there" / "a" / "b", tmp_path / "there" / "c", tmp_path / "there"):
        (tmp_path / "there" / "a" / "result").write_text("kept")
        assert (tmp_path / "there" / "a" / "b").is_dir()
    assert tree(tmp_path) == {"there": "", "there/a": "", "there/a/result": "kept"}


@pytest.mark.parametrize("make", [MadeFolders, StagedResults])
def test_a_file_in_the_way_leaves_nothing(tmp_path: Path, make: Callable[[Path], object]) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SettingError, match="file: got a file, expected a folder"):
        make(tmp_path / "file")
    with pytest.raises(SettingError, match="file: got a file, expected a folder"):
        make(tmp_path / "file" / "below")
    assert tree(tmp_path) == {"file": "mine"}


def test_a_name_that_is_too_long_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(PaLibError, match="cannot be made or written to: File name too long"):
        MadeFolders(tmp_path / "a" / "b", tmp_path / "a" / ("n" * 300))
    assert tree(tmp_path) == {}


def results(folder: Path, staged: StagedResults, **content: str) -> None:
    """Write files, one of them in a folder below, and give them their names."""
    (staged.path / "deep").mkdir()
    for name, text in content.items():
        (staged.path / ("deep" if name == "video" else "") / name).write_text(text)
    assert "new" not in {text for name, text in tree(folder).items() if not name.startswith(".")}
    staged.commit(last="record")


def test_files_appear_together_beside_what_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "here"
    with StagedResults(folder) as staged:
        results(folder, staged, record="old", page="old")
    (folder / "mine").write_text("mine")
    with StagedResults(folder) as staged:
        results(folder, staged, record="new", video="new")
    assert tree(folder) == {"deep": "", "deep/video": "new", "mine": "mine", "page": "old", "record": "new"}


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_file_without_its_name_leaves_all_as_it_was(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of the three renamings fails."""
    with StagedResults(tmp_path / "out") as staged:
        results(tmp_path / "out", staged, record="old", page="old")
    before = tree(tmp_path)
    count, replace = 0, os.replace

    def counted(source: Path, target: Path) -> None:
        nonlocal count
        count += ".results." in str(source)
        if count == number and ".results." in str(source):
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", counted)
    with pytest.raises(PaLibError, match="No space left"), StagedResults(tmp_path / "out") as staged:
        results(tmp_path / "out", staged, record="new", page="new", video="new")
    assert tree(tmp_path) == before


def test_an_error_leaves_neither_files_nor_folders(tmp_path: Path) -> None:
    def failing_run() -> None:
        with StagedResults(tmp_path / "a" / "b") as staged:
            (staged.path / "page").write_text("half")
            raise PaLibError("the rest cannot be done")

    with pytest.raises(PaLibError, match="the rest"):
        failing_run()
    assert tree(tmp_path) == {}


_VICTIM = """
import os, sys, time
from pathlib import Path
from pa_lib.video import MadeFolders, StagedResults
made, staged = MadeFolders(Path("made/deep"), Path("used")), StagedResults(Path("staged"))
(staged.path / "half").write_text("half")
Path("used/result").write_text("kept")
if os.fork() == 0:  # as workers of a data loader do, it holds the pipes open
    time.sleep(5 if sys.argv[1] == "leave" else 0)
    os._exit(0)
if sys.argv[1] == "leave":
    made.__exit__(None, None, None)
    staged.__exit__(None, None, None)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("end", ["leave", "kill"])
def test_whatever_ends_the_process_nothing_unused_is_left(tmp_path: Path, end: str) -> None:
    command = [sys.executable, "-c", _VICTIM, end]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as victim:
        assert victim.stdout is not None
        assert victim.stdout.readline() == "ready\n"
        if end == "kill":
            assert {path.name for path in tmp_path.iterdir()} == {"made", "used", "staged"}
        os.kill(victim.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while {path.name for path in tmp_path.iterdir()} != {"used"} and time.monotonic() < deadline:
        time.sleep(0.02)  # by names alone: what is listed may be gone a moment later
    assert tree(tmp_path) == {"used": "", "used/result": "kept"}
