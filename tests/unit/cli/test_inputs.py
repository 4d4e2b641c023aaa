from __future__ import annotations

from pathlib import Path

import pytest

from pa_lib.cli.inputs import Pair, note_passed_over, paired_files
from pa_lib.errors import PaLibError, SettingError


def pair_files(source: str, output: str | None) -> list[Pair]:
    with paired_files(source, output) as pairs:
        assert all(folder is None or folder.is_dir() for _, folder in pairs) or len(pairs) == 1
        return pairs


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def test_a_file_is_itself(tmp_path: Path) -> None:
    touch(tmp_path / "clip.mp4")
    assert pair_files(str(tmp_path / "clip.mp4"), None) == [(tmp_path / "clip.mp4", None)]
    assert pair_files(str(tmp_path / "clip.mp4"), "out.mkv") == [(tmp_path / "clip.mp4", Path("out.mkv"))]


def test_a_file_into_a_folder(tmp_path: Path) -> None:
    touch(tmp_path / "clip.mp4")
    wanted = [(tmp_path / "clip.mp4", tmp_path / "results")]
    with paired_files(str(tmp_path / "clip.mp4"), f"{tmp_path}/results/") as pairs:
        assert pairs == wanted
        assert (tmp_path / "results").is_dir()
    assert not (tmp_path / "results").exists()  # nothing came there


def test_a_folder_is_mirrored_and_results_are_passed_over(tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    touch(folder / "a.mp4", folder / "deep" / "b.mov", folder / "a.anonymized.mp4", folder / "notes.txt")
    out = tmp_path / "videos.anonymized"
    assert pair_files(str(folder), None) == [
        (folder / "a.mp4", out),
        (folder / "deep" / "b.mov", out / "deep"),
    ]
    assert not out.exists()


def test_folders_stay_where_they_were_there_or_are_used(tmp_path: Path) -> None:
    touch(tmp_path / "videos" / "a.mp4", tmp_path / "videos" / "deep" / "b.mov", tmp_path / "videos" / "old" / "c.mp4")
    (tmp_path / "out" / "old").mkdir(parents=True)

    def failing_run() -> None:
        with paired_files(f"{tmp_path}/videos", f"{tmp_path}/out"):
            touch(tmp_path / "out" / "deep" / "b.anonymized.mov")
            raise PaLibError("the rest cannot be done")

    with pytest.raises(PaLibError, match="the rest"):
        failing_run()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["deep", "old"]


def test_an_output_folder_inside_the_input_is_not_read(tmp_path: Path) -> None:
    touch(tmp_path / "a.mp4", tmp_path / "done" / "a.mp4")
    assert pair_files(str(tmp_path), str(tmp_path / "done")) == [(tmp_path / "a.mp4", tmp_path / "done")]


def test_a_folder_of_images_is_one_video(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    touch(folder / "1.png", folder / "2.png")
    assert pair_files(str(folder), str(tmp_path / "out")) == [(folder, tmp_path / "out")]


def test_a_glob_names_each_file(tmp_path: Path) -> None:
    touch(tmp_path / "a" / "x.mp4", tmp_path / "b" / "y.mp4", tmp_path / "b" / "y.txt")
    out = tmp_path / "out"
    assert pair_files(f"{tmp_path}/*/*.mp4", str(out)) == [
        (tmp_path / "a" / "x.mp4", out / "a"),
        (tmp_path / "b" / "y.mp4", out / "b"),
    ]


def test_a_file_whose_name_looks_like_a_glob_is_a_file(tmp_path: Path) -> None:
    touch(tmp_path / "clip[1].mp4")
    assert pair_files(str(tmp_path / "clip[1].mp4"), None)[0][0] == tmp_path / "clip[1].mp4"


@pytest.mark.parametrize("name", ["empty", "*.mp4"])
def test_nothing_found_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(PaLibError, match="no video or image"):
        pair_files(str(tmp_path / name), None)


def test_a_file_as_output_of_a_folder_is_refused(tmp_path: Path) -> None:
    touch(tmp_path / "videos" / "a.mp4", tmp_path / "out.mp4")
    with pytest.raises(PaLibError, match="expected a folder"):
        pair_files(str(tmp_path / "videos"), str(tmp_path / "out.mp4"))


@pytest.mark.parametrize("is_glob", [False, True])
def test_two_results_of_one_name_are_refused_before_any_work(tmp_path: Path, is_glob: bool) -> None:
    """Two folders that are one at the target, as A and a are where case is unknown; a link makes them so anywhere."""
    folder = tmp_path / "videos"
    touch(folder / "A" / "clip.mp4", folder / "a" / "Clip.mp4", folder / "B" / "clip.mp4")
    (tmp_path / "out" / "A").mkdir(parents=True)
    (tmp_path / "out" / "a").symlink_to("A")
    source = f"{folder}/*/*.mp4" if is_glob else str(folder)
    with pytest.raises(SettingError, match=r"A/clip\.mp4 and .*a/Clip\.mp4 would have results of one name"):
        pair_files(source, str(tmp_path / "out"))
    assert not (tmp_path / "out" / "B").exists()
    assert len(pair_files(source, str(tmp_path / "other"))) == 3  # this file system knows case


def test_a_glob_in_a_folder_that_looks_like_one(tmp_path: Path) -> None:
    touch(tmp_path / "trip [2020]" / "a.mp4", tmp_path / "trip 2" / "b.mp4")
    out = tmp_path / "out"
    wanted = [(tmp_path / "trip [2020]" / "a.mp4", out)]
    assert pair_files(f"{tmp_path}/trip [2020]/*.mp4", str(out)) == wanted


def test_files_of_a_folder_that_are_passed_over_are_noted_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    touch(*(tmp_path / name for name in ("IMG_1.HEIC", "IMG_1.MOV", "IMG_2.heic", "list", "IMG_1.anonymized.mov")))
    note_passed_over("pa-anonymize", tmp_path)
    note_passed_over("pa-anonymize", tmp_path / "list")
    assert capsys.readouterr().err == (
        f"pa-anonymize: note: {tmp_path}: passed over, by their names no videos or images that can be read: "
        "no suffix (1), .heic (2)\n"
    )
    (tmp_path / "list").unlink()
    note_passed_over("pa-anonymize", f"{tmp_path}/*.heic")
    assert capsys.readouterr().err == ""
