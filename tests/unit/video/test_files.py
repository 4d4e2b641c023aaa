from itertools import combinations
from pathlib import Path
from unicodedata import normalize

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pa_lib.errors import InputError, SettingError
from pa_lib.video import find_inputs, is_taken, passed_over, probe, result_stem, stem_of
from pa_lib.video.container import _DEMUXERS
from pa_lib.video.files import distinct_names


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Videos, an image, results, hidden files, and what is no video."""
    names = "b.mp4 a.MOV deep/c.webm photo.jpg notes.txt a.anonymized.mov .a.mov .cache/x.mp4 done/d.mp4"
    for name in (*names.split(), "photos.anonymized/1.png", "clip.mp4/inside.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return tmp_path


def names(found: list[Path], folder: Path) -> list[str]:
    return [file.relative_to(folder).as_posix() for file in found]


def test_a_folder_stands_for_its_videos_and_images(folder: Path) -> None:
    assert names(find_inputs(folder), folder) == ["a.MOV", "b.mp4", "deep/c.webm", "done/d.mp4", "photo.jpg"]


def test_images_and_the_folder_of_the_results_can_be_passed_over(folder: Path) -> None:
    found = find_inputs(folder, has_images=False, besides=folder / "done")
    assert names(found, folder) == ["a.MOV", "b.mp4", "deep/c.webm"]


def test_a_glob_stands_for_what_it_matches(folder: Path) -> None:
    assert names(find_inputs(f"{folder}/*.m*"), folder) == ["b.mp4"]
    assert names(find_inputs(f"{folder}/**/*.mp4"), folder) == ["b.mp4", "done/d.mp4"]
    assert find_inputs(f"{folder}/*.avi") == []


@pytest.mark.parametrize("name", ["b.mp4", "absent.mp4", "a.anonymized.mov", "notes.txt", ".a.mov"])
def test_a_name_stands_for_itself(folder: Path, name: str) -> None:
    assert find_inputs(folder / name) == [folder / name]


def test_a_name_that_no_file_system_takes_is_refused_as_any_other(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 300 + ".mp4")
    assert find_inputs(path) == [path]
    with pytest.raises(InputError, match="cannot be read: File name too long"):
        probe(path)
    assert stem_of(path) == "n" * 300


def test_whether_a_result_can_have_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    assert is_taken(tmp_path / "a.mp4")
    assert not is_taken(tmp_path / "b.mp4")
    assert not is_taken(tmp_path / "a.mp4" / "b.mp4")
    for name in ("n" * 300, "\N{GRINNING FACE}" * 64):
        with pytest.raises(SettingError, match="File name too long"):
            is_taken(tmp_path / name)


def test_a_file_whose_name_looks_like_a_glob_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "clip[1].mp4").touch()
    assert find_inputs(str(tmp_path / "clip[1].mp4")) == [tmp_path / "clip[1].mp4"]


@pytest.mark.parametrize("other", [".hidden.png", "notes.txt", "1.anonymized.png"])
def test_a_folder_of_images_is_one_video(tmp_path: Path, other: str) -> None:
    for name in ("1.png", "2.jpg", other):
        (tmp_path / name).touch()
    assert find_inputs(tmp_path, has_images=False) == find_inputs(tmp_path) == [tmp_path]
    (tmp_path / "clip.mp4").touch()
    assert find_inputs(tmp_path, has_images=False) == [tmp_path / "clip.mp4"]


def test_results_named_on_purpose_are_inputs(folder: Path) -> None:
    assert find_inputs(folder / "photos.anonymized") == [folder / "photos.anonymized"]


_NO_FILMS = {
    *(".aac", ".flac", ".isma", ".m2a", ".m4a", ".m4b", ".mka", ".mp2", ".mp3", ".mpa", ".ogg"),  # sound
    *(".avif", ".heic", ".heif", ".ism", ".mks", ".mpo"),  # pictures, lists, subtitles
}


def test_no_file_that_can_be_read_is_passed_over_in_a_folder(tmp_path: Path) -> None:
    """FFmpeg knows which suffixes go with a format."""
    known = {".apng", ".jpe", ".jfif"}  # of formats for which it knows none
    for name in _DEMUXERS.split(","):
        known |= {f".{suffix}" for suffix in av.format.ContainerFormat(name, "r").extensions}
    assert {".mp4", ".h264", ".dv"} <= known
    for suffix in known:
        (tmp_path / f"a{suffix}").touch()
    assert {path.suffix for path in find_inputs(tmp_path)} == known - _NO_FILMS


def test_what_is_left_of_a_folder_is_counted(folder: Path) -> None:
    for name in ("IMG_1.HEIC", "deep/IMG_2.heic", "done/IMG_3.heic", "README"):
        (folder / name).touch()
    assert passed_over(folder, besides=folder / "done") == {".heic": 2, ".txt": 2, "": 1}
    assert passed_over(folder)[".heic"] == 3


def test_an_empty_folder_holds_nothing(tmp_path: Path) -> None:
    assert find_inputs(tmp_path) == []


def is_one_name(one: str, other: str) -> bool:
    """Whether a file system that knows no case and composes letters takes two names for one."""
    keys = [normalize("NFC", normalize("NFC", name).upper().lower()) for name in (one, other)]
    return keys[0] == keys[1]


@given(st.sets(st.from_regex(r"\A[aA\u00e9\u00c9]\u0301?(\.2)?(\.(mp4|MP4|jpg)){1,3}\Z"), min_size=1, max_size=8))
def test_results_have_names_of_their_own_on_every_file_system(files: set[str]) -> None:
    made = distinct_names(files)
    assert set(made) == files
    for one, other in combinations(made.values(), 2):
        assert not is_one_name(one, other)
    for file, name in made.items():
        assert name.startswith(Path(file).stem)
        if not any(Path(other).stem.casefold() == Path(file).stem.casefold() for other in files - {file}):
            others = {made[other] for other in files - {file}}
            assert name == Path(file).stem or any(is_one_name(Path(file).stem, other) for other in (*others, *files))


def test_files_that_some_file_systems_take_for_one(tmp_path: Path) -> None:
    composed, letters = normalize("NFC", "Zoë.mp4"), normalize("NFD", "zoë.MP4")
    for name in ("IMG.mp4", "img.MP4", composed, letters, "other.mp4", "a.mp4", "a.mov", "a.mp4.avi"):
        (tmp_path / name).touch()
    wanted = {"IMG.mp4": "IMG.mp4", "img.MP4": "img.MP4.2", composed: composed, letters: f"{letters}.2"}
    wanted |= {"other.mp4": "other", "a.mp4": "a.mp4", "a.mov": "a.mov", "a.mp4.avi": "a.mp4.avi"}
    assert {path.name: result_stem(path) for path in tmp_path.iterdir()} == wanted
