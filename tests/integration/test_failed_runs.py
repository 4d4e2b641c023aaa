"""A run that fails leaves every file that was there as it was, also the user's own tracks file under the run's name."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from _clips import make_clip
from pa_lib.contracts import Detection
from pa_lib.errors import PaLibError
from pa_lib.modules import ConventionalAnonymizer
from pa_lib.people import AbstractFinder, BoxMasker, HideAll, KalmanTracker
from pa_lib.pipeline import AnonymizationPipeline, RunSettings
from pa_lib.video import StagedFile

RESULTS = ("out.mp4", "out.tracks.json", "out.report.json", "out.report.html")


class StillFinder(AbstractFinder):
    """Always sees one person in the same place."""

    def find(self, images: Any) -> list[list[Detection]]:
        return [[Detection("body", (12.0, 10.0, 24.0, 20.0), 0.9)] for _ in images]

    def release(self) -> None:
        pass


def pipeline() -> AnonymizationPipeline:
    return AnonymizationPipeline(
        StillFinder(), KalmanTracker(), HideAll(), BoxMasker(), ConventionalAnonymizer("fill", color=(0, 0, 0))
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a clip and all that an earlier run has made of it."""
    folder = tmp_path_factory.mktemp("finished")
    pipeline().run(make_clip(folder / "clip.mp4"), folder / "out.mp4")
    tracks = folder / "out.tracks.json"
    tracks.write_text(tracks.read_text(encoding="utf-8").replace('"reason": "', '"reason": "my own note: '))
    return folder


@pytest.fixture(params=["all files existed", "only the tracks file existed"])
def folder(request: pytest.FixtureRequest, finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    if request.param == "only the tracks file existed":
        for name in set(RESULTS) - {"out.tracks.json"}:
            (tmp_path / name).unlink()
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    found = {}
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # it is being removed
            found[path.name] = path.read_bytes()
    return found


def again(folder: Path, **settings: Any) -> None:
    """The documented second step: the tracks file that the first run has written is given as ``tracks=``."""
    tracks = folder / "out.tracks.json"
    pipeline().run(folder / "clip.mp4", folder / "out.mp4", RunSettings(tracks=tracks, **settings))


def fail(*args: object, **kwargs: object) -> NoReturn:
    raise OSError(28, "No space left on device")


def failing_commit(number: int) -> Callable[[StagedFile], None]:
    """`StagedFile.commit`, of which one call fails."""
    count, commit = 0, StagedFile.commit

    def counted(staged: StagedFile) -> None:
        nonlocal count
        count += 1
        if count == number:
            raise PaLibError("no name for you")
        commit(staged)

    return counted


def faults() -> Iterator[Any]:
    yield pytest.param("pa_lib.people.tracks.record._lines", fail, id="tracks writer")
    yield pytest.param("pa_lib.reports.run_record.RunReport._json_parts", fail, id="report writer")
    yield pytest.param("pa_lib.reports.run_page.render", fail, id="page writer")
    yield pytest.param("pa_lib.video.sinks.VideoSink.finish", fail, id="video writer")
    yield pytest.param("pa_lib.video.sinks.VideoSink.count_frames", lambda sink: 3, id="lost frames")
    for number, name in enumerate(("tracks", "report", "page", "video"), 1):
        yield pytest.param("pa_lib.video.StagedFile.commit", number, id=f"name of the {name}")


@pytest.mark.parametrize(("where", "fault"), faults())
def test_whatever_fails_the_files_are_as_before(
    folder: Path, where: str, fault: Callable[..., Any] | int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(folder)
    with monkeypatch.context() as patch:
        patch.setattr(where, failing_commit(fault) if isinstance(fault, int) else fault)
        with pytest.raises((PaLibError, OSError)):
            again(folder)
    assert contents(folder) == before
    again(folder)
    assert {path.name for path in folder.iterdir()} == {"clip.mp4", *RESULTS}
    assert b"my own note" in (folder / "out.tracks.json").read_bytes()


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_while_writing_changes_nothing(
    folder: Path, interrupt: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(folder)

    def stop(*arguments: object) -> NoReturn:
        raise interrupt

    monkeypatch.setattr("pa_lib.reports.run_page.render", stop)
    with pytest.raises(interrupt):
        again(folder)
    assert contents(folder) == before


@pytest.mark.parametrize("number", [1, 2])
def test_a_failed_search_stage_changes_nothing(
    finished: Path, tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    before = contents(tmp_path)
    monkeypatch.setattr(StagedFile, "commit", failing_commit(number))
    with pytest.raises(PaLibError, match="no name for you"):
        pipeline().run(tmp_path / "clip.mp4", tmp_path / "out.mp4", RunSettings(stage="find"))
    assert contents(tmp_path) == before


def test_a_tracks_file_can_be_protected(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    (tmp_path / "out.mp4").unlink()
    before = contents(tmp_path)
    with pytest.raises(PaLibError, match=r"out.tracks.json exists"):
        pipeline().run(tmp_path / "clip.mp4", tmp_path / "out.mp4", RunSettings(stage="find", is_overwrite=False))
    assert contents(tmp_path) == before


def test_edited_decisions_are_not_lost_without_a_word(finished: Path, tmp_path: Path) -> None:
    """The user forgot ``tracks=``: the tracks file of the earlier search would be replaced."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    for name in set(RESULTS) - {"out.tracks.json"}:
        (tmp_path / name).unlink()
    before = contents(tmp_path)
    with pytest.raises(PaLibError, match=r"out.tracks.json exists"):
        pipeline().run(tmp_path / "clip.mp4", tmp_path / "out.mp4", RunSettings(is_overwrite=False))
    assert contents(tmp_path) == before
    again(tmp_path, is_overwrite=False)
    assert b"my own note" in (tmp_path / "out.tracks.json").read_bytes()


@pytest.mark.parametrize("stage", ["all", "find"])
def test_an_input_that_is_replaced_between_two_passes_is_refused(tmp_path: Path, stage: Any) -> None:
    """The same number of frames and the same times, but the person may stand elsewhere by now."""
    source = make_clip(tmp_path / "clip.mp4")
    other = make_clip(tmp_path / "other.mp4", codec="mpeg4")

    class Replaces(HideAll):
        def choose(self, people: Any, timeline: Any, embeddings: Any = None) -> Any:
            os.replace(other, source)
            return super().choose(people, timeline, embeddings)

    swapped = pipeline()
    swapped.chooser = Replaces()
    with pytest.raises(PaLibError, match=r"was changed|cannot be read any more"):
        swapped.run(source, tmp_path / "out.mp4", RunSettings(stage=stage))
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


_VICTIM = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from pa_lib.video import StagedFile
from test_failed_runs import again, failing_commit
commit, count = StagedFile.commit, 0
def killed(staged):
    global count
    count += 1
    if count == int(os.environ["AT"]):
        os.kill(os.getpid(), signal.SIGKILL)
    commit(staged)
StagedFile.commit = killed
again(Path(sys.argv[1]))
"""


@pytest.mark.parametrize("number", [2, 4])
def test_a_run_killed_while_naming_changes_nothing(folder: Path, number: int) -> None:
    before = contents(folder)
    paths = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
    done = subprocess.run(
        [sys.executable, "-c", _VICTIM, str(folder), *paths], env=os.environ | {"AT": str(number)}, check=False
    )
    assert done.returncode == -signal.SIGKILL
    end = time.monotonic() + 5
    while contents(folder) != before and time.monotonic() < end:
        time.sleep(0.02)
    assert contents(folder) == before
