"""Several files of one run: independent of each other, or with one double for a person in all of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Images

from _clips import make_clip
from _identity import SIDE, Color, ColorNetwork, SquareFinder
from pa_lib.cli import anonymize, sheet
from pa_lib.cli.command import FAILED, OK, USAGE
from pa_lib.contracts import Clip, ClipMasks, Detection, FaceNetwork, Image, PersonInfo
from pa_lib.doubles import cast
from pa_lib.errors import SettingError
from pa_lib.modules import AbstractAnonymizer, ConventionalAnonymizer
from pa_lib.people import AbstractFinder, BoxMasker, FaceRecognizer, HideAll, KalmanTracker
from pa_lib.pipeline import AnonymizationPipeline, RunSettings, SearchedVideo
from pa_lib.video import WriteSettings, probe, read_frames

RED, GREEN, BLUE, YELLOW = (230, 40, 40), (40, 230, 40), (40, 40, 230), (220, 220, 40)
GRAYS = {"Ann": 20, "Bo": 60, "Cy": 100, "Di": 140, "Ed": 180, "Fay": 220}


class Finder(AbstractFinder):
    """Sees squares."""

    def __init__(self) -> None:
        self.n_calls = 0

    def find(self, images: Sequence[Image]) -> list[list[Detection]]:
        self.n_calls += 1
        return SquareFinder().detect(images)

    def release(self) -> None:
        pass


class Grays(AbstractAnonymizer):
    """Covers each person with a gray that stands for the name."""

    is_non_interfering = True
    window_frames = 4

    def replacements(self, people: Mapping[int, PersonInfo], *, seed: int = 0) -> Mapping[int, str]:
        wishes = {at: one.replacement.double for at, one in people.items() if one.replacement is not None}
        return cast(list(people), seed, list(GRAYS), {at: wish for at, wish in wishes.items() if wish is not None})

    def anonymize(self, clip: Clip, masks: ClipMasks, *, seed: int = 0) -> Clip:
        frames = clip.frames.clone()
        for mask in masks.people:
            wish = masks.info[mask.person_id].replacement
            assert wish is not None
            rows, columns = mask.alpha.shape
            frames[mask.frame, :, mask.top : mask.top + rows, mask.left : mask.left + columns] = GRAYS[
                wish.double or ""
            ]
        return Clip(frames, clip.first_frame, clip.fps)


def film(path: Path, *people: Color) -> Path:
    """People from left to right, who move down a little."""

    def draw(index: int, width: int, height: int) -> np.ndarray:
        picture = np.zeros((height, width, 3), np.uint8)
        for place, color in enumerate(people):
            picture[20 + index : 20 + index + SIDE, 20 + 80 * place : 20 + 80 * place + SIDE] = color
        return picture

    return make_clip(path, n_frames=5, width=320, height=80, codec="ffv1", pixel_format="bgr0", draw=draw)


def refused() -> FaceNetwork:
    raise AssertionError("faces were compared")


def pipeline(recognizer: FaceRecognizer | None = None, **parts: Any) -> AnonymizationPipeline:
    given: dict[str, Any] = {"identity": ColorNetwork, **parts}
    masker = BoxMasker(dilation_px=0, feather_px=0)
    chosen = [given.pop("finder", None) or Finder(), KalmanTracker(growth_per_s=0), HideAll(), masker]
    module = given.pop("module", None) or Grays()
    write = WriteSettings(codec="ffv1")
    return AnonymizationPipeline(*chosen, module=module, recognizer=recognizer, write=write, **given)


def run(
    folder: Path, files: Sequence[Path], made: AnonymizationPipeline, settings: RunSettings | None = None
) -> list[dict[str, Any]]:
    """The results of files, in one run; their JSON and frames by kind."""
    folder.mkdir()
    found = [made.find(file, folder, settings, is_alone=len(files) == 1) for file in files]
    return [read(made.finish(video).files) for video in made.recognized(found)]


def read(files: Mapping[str, Path]) -> dict[str, Any]:
    pictures = [frame.picture.rgb() for frame in read_frames(probe(files["video"])) if frame.picture is not None]
    kinds = ("tracks", "report")
    return {kind: json.loads(files[kind].read_text()) for kind in kinds} | {"video": np.stack(pictures), "files": files}


def doubles(result: Mapping[str, Any]) -> list[str]:
    """Names of the people from the left to the right, as the report has them, checked against the pixels."""
    tracks = {one["track_id"]: one for one in result["tracks"]["tracks"]}
    people = sorted(result["tracks"]["people"], key=lambda one: tracks[one["tracks"][0]]["boxes"][0][1])
    names = {one["person_id"]: one["replacement"] for one in result["report"]["people"]}
    for one in people:
        _, left, top, _, _, _ = tracks[one["tracks"][0]]["boxes"][0]
        assert abs(int(result["video"][0, int(top) + 20, int(left) + 20, 0]) - GRAYS[names[one["person_id"]]]) <= 2
    return [names[one["person_id"]] for one in people]


@pytest.fixture
def films(tmp_path: Path) -> list[Path]:
    """Green is in the first two, blue in the last two; red and yellow are in one."""
    return [
        film(tmp_path / "a.mkv", RED, GREEN),
        film(tmp_path / "b.mkv", BLUE, YELLOW, GREEN),
        film(tmp_path / "c.mkv", BLUE),
    ]


def test_a_person_has_the_same_double_in_all_files(tmp_path: Path, films: list[Path]) -> None:
    a, b, c = map(doubles, run(tmp_path / "out", films, pipeline(FaceRecognizer())))
    assert a[1] == b[2]
    assert b[0] == c[0]
    assert len({*a, *b, *c}) == 4


def test_without_a_recognizer_files_are_as_if_alone(tmp_path: Path, films: list[Path]) -> None:
    results = run(tmp_path / "out", films, pipeline(identity=refused))
    for number, (file, result) in enumerate(zip(films, results, strict=True)):
        alone = read(pipeline(identity=refused).run(file, tmp_path / f"{number}.mkv").files)
        assert np.array_equal(alone["video"], result["video"])
        assert alone["tracks"] == result["tracks"]
        # One file has no other to compare with.
        recognized = read(pipeline(FaceRecognizer(), identity=refused).run(file, tmp_path / f"{number}r.mkv").files)
        assert np.array_equal(alone["video"], recognized["video"])
        assert alone["tracks"] == recognized["tracks"]
    # The first people of all files rank doubles alike: what is the same without a recognizer says nothing.
    assert doubles(results[0])[0] == doubles(results[1])[0] == doubles(results[2])[0]


def test_the_order_of_the_files_changes_nothing(tmp_path: Path, films: list[Path]) -> None:
    forwards = run(tmp_path / "forwards", films, pipeline(FaceRecognizer()))
    backwards = run(tmp_path / "backwards", films[::-1], pipeline(FaceRecognizer()))[::-1]
    for one, two in zip(forwards, backwards, strict=True):
        assert one["tracks"] == two["tracks"]
        assert np.array_equal(one["video"], two["video"])


def test_files_hold_the_name_of_the_double_and_nothing_else_of_it(tmp_path: Path, films: list[Path]) -> None:
    plain = run(tmp_path / "plain", films, pipeline())
    found = run(tmp_path / "out", films, pipeline(FaceRecognizer()))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        path.name for path in (tmp_path / "plain").iterdir()
    }
    for one, two in zip(plain, found, strict=True):
        for person in two["tracks"]["people"]:
            assert set(person.pop("replacement")) == {"double", "attributes"}
        assert one["tracks"] == two["tracks"]
        (note,) = set(two["report"]["warnings"]) - set(one["report"]["warnings"])
        assert "hidden faces in 3 videos of this run were compared" in note
        for key in set(one["report"]) - {"warnings", "started", "finished", "elapsed_s", "frames_per_second", "people"}:
            assert one["report"][key] == two["report"][key]
        page = found[0]["files"]["page"].read_text()
        assert "hidden faces in 3 videos of this run were compared" in page


def test_given_the_tracks_the_result_depends_on_no_face(tmp_path: Path, films: list[Path]) -> None:
    """Its own tracks file gives the same video again, alone, and without a network that could compare."""
    for number, result in enumerate(run(tmp_path / "out", films, pipeline(FaceRecognizer()))):
        settings = RunSettings(tracks=result["files"]["tracks"])
        again = read(pipeline(identity=refused).run(films[number], tmp_path / f"{number}.mkv", settings).files)
        assert np.array_equal(again["video"], result["video"])


def test_a_wish_in_a_tracks_file_holds_for_the_other_files(tmp_path: Path, films: list[Path]) -> None:
    (first,) = run(tmp_path / "first", films[:1], pipeline())
    tracks = first["files"]["tracks"]
    wished = first["tracks"]
    left = {one["track_id"]: one["boxes"][0][1] for one in wished["tracks"]}
    green = max(wished["people"], key=lambda one: left[one["tracks"][0]])
    green["replacement"] = {"double": "Fay"}
    tracks.write_text(json.dumps(wished))
    made = pipeline(FaceRecognizer())
    settings: list[RunSettings] = [RunSettings(tracks=tracks), RunSettings()]
    videos = [made.find(file, tmp_path, each, is_alone=False) for file, each in zip(films[:2], settings, strict=True)]
    a, b = (doubles(read(made.finish(video).files)) for video in made.recognized(videos))
    assert a[1] == b[2] == "Fay"
    assert "Fay" not in (a[0], b[0], b[1])


def test_photos_choose_doubles(tmp_path: Path, films: list[Path]) -> None:
    photo = np.zeros((80, 80, 3), np.uint8)
    photo[20 : 20 + SIDE, 20 : 20 + SIDE] = YELLOW
    Images.fromarray(photo).save(tmp_path / "yellow.png")
    recognizer = FaceRecognizer(photos={"Ed": tmp_path / "yellow.png"})
    (alone,) = run(tmp_path / "alone", films[1:2], pipeline(recognizer))
    assert doubles(alone)[1] == "Ed"
    assert any("this video and photos were compared" in note for note in alone["report"]["warnings"])
    a, b, c = map(doubles, run(tmp_path / "out", films, pipeline(recognizer)))
    assert b[1] == "Ed"
    assert "Ed" not in (*a, b[0], b[2], *c)


def test_what_cannot_be_recognized_is_refused_before_any_search(tmp_path: Path, films: list[Path]) -> None:
    finder = Finder()
    nameless = pipeline(FaceRecognizer(), module=ConventionalAnonymizer("fill"), finder=finder)
    with pytest.raises(SettingError, match="ConventionalAnonymizer has no names"):
        nameless.find(films[0], tmp_path, is_alone=False)
    with pytest.raises(SettingError, match="FaceRecognizer compares faces: give it a face network"):
        run(tmp_path / "out", films, pipeline(FaceRecognizer(), identity=None))
    assert finder.n_calls == 0


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Commands get the parts of these tests; what they search and write is listed in order."""
    events: list[tuple[str, str]] = []
    find, finish = AnonymizationPipeline.find, AnonymizationPipeline.finish

    def made(config: Mapping[str, Any], module: object) -> AnonymizationPipeline:
        return pipeline(FaceRecognizer() if "recognizer" in config["people"] else None)

    def found(self: AnonymizationPipeline, source: Path, *arguments: Any, **options: Any) -> SearchedVideo:
        events.append(("find", source.name))
        return find(self, source, *arguments, **options)

    def finished(self: AnonymizationPipeline, video: SearchedVideo, *arguments: Any) -> Any:
        events.append(("finish", video.info.path.name))
        return finish(self, video, *arguments)

    for command in (anonymize, sheet):
        monkeypatch.setattr(command, "build_pipeline", made)
        monkeypatch.setattr(command, "build_module", lambda config, changed: None)
    monkeypatch.setattr(AnonymizationPipeline, "find", found)
    monkeypatch.setattr(AnonymizationPipeline, "finish", finished)
    return events


def names_in(folder: Path) -> dict[str, list[str]]:
    return {
        path.name[0]: sorted(one["replacement"] for one in json.loads(path.read_text())["people"])
        for path in folder.glob("*.report.json")
    }


def test_pa_anonymize_with_a_folder(
    tmp_path: Path, films: list[Path], built: list[tuple[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.mkv").write_bytes(b"no video")
    settings = [f"input={tmp_path}", f"output={tmp_path / 'out'}"]
    assert anonymize.main([*settings, "people/recognizer=faces"]) == FAILED
    out, err = capsys.readouterr()
    assert [what for what, _ in built] == ["find"] * 4 + ["finish"] * 3
    assert "3 of 4 files done, 1 failed" in out
    assert f"pa-anonymize: error: {tmp_path / 'broken.mkv'}" in err
    names = names_in(tmp_path / "out")
    assert len({name for given in names.values() for name in given}) == 4
    (blue,) = names["c"]
    assert blue in names["b"]
    assert f"is {blue}, as in b.mkv (person " in out
    built.clear()
    assert anonymize.main(settings) == FAILED
    assert built[:4] == [("find", "a.mkv"), ("finish", "a.mkv"), ("find", "b.mkv"), ("finish", "b.mkv")]


def test_pa_sheet_with_several_clips(tmp_path: Path, films: list[Path], built: list[tuple[str, str]]) -> None:
    arguments = [*map(str, films), f"output={tmp_path / 'out'}", "sheet.n_frames=2"]
    assert sheet.main([*arguments, "people/recognizer=faces"]) == OK
    assert [what for what, _ in built] == ["find"] * 3 + ["finish"] * 3
    names = names_in(tmp_path / "out")
    assert names["c"][0] in names["b"]
    assert len({name for given in names.values() for name in given}) == 4
    # Tracks files of that run keep their doubles when another clip comes, and it takes over those of its people.
    more = [*arguments[:3], str(film(tmp_path / "d.mkv", YELLOW, (40, 220, 220))), f"output={tmp_path / 'more'}"]
    assert sheet.main([*more, "sheet.n_frames=2", f"tracks={tmp_path / 'out'}", "people/recognizer=faces"]) == OK
    found = names_in(tmp_path / "more")
    assert {clip: found[clip] for clip in "abc"} == names
    (yellow,) = set(names["b"]) - set(names["a"]) - set(names["c"])
    assert yellow in found["d"]
    assert len({name for given in found.values() for name in given}) == 5


def test_a_system_without_names_is_refused_once(
    tmp_path: Path, films: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [f"input={tmp_path}", f"output={tmp_path / 'out'}", "module=conventional", "people/recognizer=faces"]
    assert anonymize.main(settings) == USAGE
    assert capsys.readouterr().err.count("has no names") == 1
