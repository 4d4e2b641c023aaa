"""pa-sheet: which clips it takes, under which names, and what it leaves."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from _clips import make_clip, scene
from _evaluation import anonymized_pair
from pa_lib.cli.command import FAILED, OK, USAGE
from pa_lib.cli.sheet import _clips, main

FAST = ["module=conventional", "people/finder=centerface", "people/masker=ellipse"]


def folder_of_images(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for index in range(3):
        Image.fromarray(scene(index, 64, 48)).save(folder / f"{index}.png")
    return folder


def test_clips_are_anonymized_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clips = [make_clip(tmp_path / "clip.mp4", n_frames=4), folder_of_images(tmp_path / "dance" / "frames")]
    out = tmp_path / "out"
    assert main([*map(str, clips), *FAST, f"output={out}"]) == OK
    made = {path.name for path in out.iterdir()}
    assert {"clip.anonymized.mp4", "clip.anonymized.tracks.json", "frames.anonymized"} <= made
    assert {"clip.sheet_01.png", "frames.sheet_01.png", "contact_sheet.html"} <= made
    assert "2 of 2 clips shown" in capsys.readouterr().out


def test_a_search_is_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = [make_clip(tmp_path / "clip.mp4", n_frames=4), folder_of_images(tmp_path / "frames")]
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    assert main([*map(str, clips), *FAST, f"output={first}"]) == OK

    def refuse(*arguments: object) -> None:
        raise AssertionError("searched again")

    monkeypatch.setattr("pa_lib.pipeline.anonymize_video.search_people", refuse)
    assert main([*map(str, clips), *FAST, f"output={second}", f"tracks={first}"]) == OK
    assert main([str(clips[0]), *FAST, f"output={second}", f"tracks={first}/clip.anonymized.tracks.json"]) == OK
    assert main([*map(str, clips), f"output={third}", f"anonymized={first}"]) == OK
    assert {path.suffix for path in third.iterdir()} == {".png", ".html"}
    assert (third / "clip.sheet_01.png").read_bytes() == (first / "clip.sheet_01.png").read_bytes()


def test_results_beside_a_clip(tmp_path: Path) -> None:
    pair = anonymized_pair(tmp_path, n_frames=4)
    out = tmp_path / "out"
    assert main([str(pair.original), f"anonymized={pair.anonymized}", f"output={out}", "sheet.n_frames=null"]) == OK
    assert (out / "clip.sheet_01.png").exists()


def test_one_that_fails_leaves_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    make_clip(tmp_path / "clip.mp4", n_frames=4)
    out = tmp_path / "out"
    assert main([str(tmp_path), *FAST, f"output={out}"]) == FAILED
    captured = capsys.readouterr()
    assert "1 of 2 clips shown" in captured.out
    assert f"pa-sheet: error: {tmp_path / 'broken.mp4'}: " in captured.err
    assert (out / "clip.sheet_01.png").exists()
    assert main([str(tmp_path / "clip.mp4"), f"anonymized={tmp_path / 'nowhere'}", f"output={out}"]) == FAILED
    assert "nowhere: no such file or folder" in capsys.readouterr().err


def test_where_all_fail_nothing_is_made_or_replaced(tmp_path: Path) -> None:
    broken = tmp_path / "clip.mp4"
    broken.write_bytes(b"no video")
    assert main([str(broken), *FAST, f"output={tmp_path}/new/out"]) == FAILED
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]
    (tmp_path / "out").mkdir()
    for name in ("contact_sheet.html", "clip.sheet_01.png"):
        (tmp_path / "out" / name).write_text("earlier")
    assert main([str(broken), *FAST, f"output={tmp_path}/out"]) == FAILED
    assert {path.read_text() for path in (tmp_path / "out").iterdir()} == {"earlier"}


def test_names_are_unique(tmp_path: Path) -> None:
    folders = [folder_of_images(tmp_path / name / "frames") for name in ("dance", "ride")]
    clip, gif = make_clip(tmp_path / "clip.mp4", n_frames=2), tmp_path / "other" / "clip.gif"
    gif.parent.mkdir()
    gif.write_bytes(b"")
    assert _clips([*map(str, folders), str(clip), str(gif), str(clip)], tmp_path / "out") == {
        "dance_frames": folders[0],
        "ride_frames": folders[1],
        f"{tmp_path.name}_clip": clip,
        "other_clip": gif,
    }
    twin = clip.with_suffix(".mov")
    twin.write_bytes(b"")
    assert _clips([str(clip), str(twin)], tmp_path / "out") == {"clip.mp4": clip, "clip.mov": twin}


def test_no_clip_takes_the_name_of_another(tmp_path: Path) -> None:
    """Folders and names that become one when they are joined, or where case is unknown."""
    places = [tmp_path / name / "x.mp4" for name in ("a_b", "a/b", "A/b")]
    places += [tmp_path / "c" / "b_x.mp4"]
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    clips = _clips([*map(str, places)], tmp_path / "out")
    assert sorted(clips.values()) == sorted(places)
    assert len({name.casefold() for name in clips}) == len(places)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "got no clips"),
        (["clip.mp4", "input=other.mp4"], "clips are named without a setting"),
        (["clip.mp4", "stage=find"], "pa-anonymize stage=find"),
        (["clip.mp4", "sheet.n_frames=0"], "n_frames: got 0"),
        (["clip.mp4", "other.mp4", "tracks=a.json"], "tracks=a.json belongs to one clip, but 2 are given"),
    ],
)
def test_wrong_command_lines_get_one_line(
    arguments: list[str],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == USAGE
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line
