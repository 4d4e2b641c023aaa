"""Results of inputs whose names differ in the suffix alone, and of folders with dots: none replaces another."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image

from _clips import make_clip, make_image_folder
from pa_lib.cli.inputs import paired_files
from pa_lib.contracts import Detection
from pa_lib.evaluation.pairs import pair_clips
from pa_lib.modules import ConventionalAnonymizer
from pa_lib.people import AbstractFinder, BoxMasker, HideAll, KalmanTracker
from pa_lib.pipeline import AnonymizationPipeline, RunSettings
from pa_lib.video import result_stem, stem_of


class StillFinder(AbstractFinder):
    """Always sees one person in the same place."""

    def find(self, images: Any) -> list[list[Detection]]:
        return [[Detection("body", (12.0, 10.0, 24.0, 20.0), 0.9)] for _ in images]

    def release(self) -> None:
        pass


@pytest.fixture
def pipeline() -> AnonymizationPipeline:
    return AnonymizationPipeline(
        StillFinder(), KalmanTracker(), HideAll(), BoxMasker(), ConventionalAnonymizer("fill", color=(0, 0, 0))
    )


PHONE = {"IMG_0001.MOV": 4, "IMG_0001.mp4": 5, "img_0001.avi": 6, "IMG_0002.mp4": 7}  # number of frames


@pytest.fixture
def phone(tmp_path: Path) -> Path:
    """A folder as phones make them: a picture and films of one name."""
    folder = tmp_path / "DCIM"
    folder.mkdir()
    for name, n_frames in PHONE.items():
        make_clip(folder / name, codec="mpeg4", n_frames=n_frames)
    Image.new("RGB", (64, 48), (90, 120, 150)).save(folder / "IMG_0001.jpg")
    return folder


def n_frames(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


@pytest.mark.parametrize("is_folder_given", [True, False])
def test_no_result_replaces_another(pipeline: AnonymizationPipeline, phone: Path, is_folder_given: bool) -> None:
    """Whether the folder is the input, or each file on its own."""
    out = phone.parent / "out"
    with paired_files(str(phone), str(out)) as pairs:
        for source, output in pairs:
            pipeline.run(source, output if is_folder_given else out)
    results = {f"{name}.anonymized": n for name, n in PHONE.items() if "1" in name}
    results |= {"IMG_0001.jpg.anonymized": 1, "IMG_0002.anonymized": 7}
    suffixes = {".MOV": ".mov", ".jpg": ".png"}
    for stem, n in results.items():
        suffix = suffixes.get(Path(stem.removesuffix(".anonymized")).suffix, ".mp4")
        assert n_frames(out / f"{stem}{suffix}") == n
        for kind in ("report", "tracks"):
            assert json.loads((out / f"{stem}.{kind}.json").read_text(encoding="utf-8"))["source"]["n_frames"] == n
        assert (out / f"{stem}.report.html").is_file()
    assert len(list(out.iterdir())) == 4 * len(results)
    clips, lonely = pair_clips(phone, out)
    assert not lonely
    assert {clip.original.name: clip.anonymized.name for clip in clips} == {
        "IMG_0001.MOV": "IMG_0001.MOV.anonymized.mov",
        "IMG_0001.jpg": "IMG_0001.jpg.anonymized.png",
        "IMG_0001.mp4": "IMG_0001.mp4.anonymized.mp4",
        "IMG_0002.mp4": "IMG_0002.anonymized.mp4",
        "img_0001.avi": "img_0001.avi.anonymized.mp4",
    }
    assert all(clip.tracks is not None and clip.report is not None for clip in clips)


def test_what_another_input_is(tmp_path: Path) -> None:
    """No result, no hidden file, and no file that is neither video nor picture."""
    clip = tmp_path / "clip.mp4"
    for name in ("clip.mp4", "clip.anonymized.mov", ".clip.mov", "clip.srt", "clip.tracks.json", "clip2.mov"):
        (tmp_path / name).touch()
    (tmp_path / "clip").mkdir()
    assert result_stem(clip) == "clip"
    (tmp_path / "clip" / "1.png").touch()  # now it is a video of its own
    assert (result_stem(clip), result_stem(tmp_path / "clip")) == ("clip.mp4", "clip")


def test_a_result_from_before_is_found_where_it_is_the_only_one(tmp_path: Path) -> None:
    for name in ("clip.mp4", "clip.anonymized.mp4", "clip.mov"):
        (tmp_path / name).touch()
    assert pair_clips(tmp_path / "clip.mp4", None)[0][0].anonymized.name == "clip.anonymized.mp4"
    pairs, lonely = pair_clips(tmp_path, tmp_path)
    assert [pair.original.name for pair in pairs] == ["clip.mp4"]
    assert lonely == ["clip.mov: no anonymized video"]


@pytest.mark.parametrize("name", ["photos.v2", "2024.05.01", "photos.mp4.d"])
def test_an_output_folder_with_a_dot_keeps_its_name(pipeline: AnonymizationPipeline, tmp_path: Path, name: str) -> None:
    source = make_image_folder(tmp_path / "in", n_frames=2)
    files = pipeline.run(source, tmp_path / name).files
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["in", name, f"{name}.tracks.json", f"{name}.report.json", f"{name}.report.html"]
    )
    assert len(list(files["video"].iterdir())) == 2
    (pair,), _ = pair_clips(source, tmp_path / name)
    assert pair.tracks == tmp_path / f"{name}.tracks.json"


def test_a_folder_of_images_and_a_film_of_its_name_have_files_of_their_own(
    pipeline: AnonymizationPipeline, tmp_path: Path
) -> None:
    folder = make_image_folder(tmp_path / "clip", n_frames=2)
    film = make_clip(tmp_path / "clip.mp4", codec="mpeg4", n_frames=3)
    outcomes = [pipeline.run(source).files for source in (folder, film)]
    assert not {*outcomes[0].values()} & {*outcomes[1].values()}
    assert outcomes[0]["tracks"].name == "clip.anonymized.tracks.json"
    assert outcomes[1]["tracks"].name == "clip.mp4.anonymized.tracks.json"


def test_a_name_that_is_no_utf8(pipeline: AnonymizationPipeline, tmp_path: Path) -> None:
    """As disks of other systems have them; the report has an escape that means it, the tracks file a question mark."""
    clip = make_clip(tmp_path / "clip.mp4", codec="mpeg4", n_frames=2)
    odd = clip.rename(tmp_path / os.fsdecode(b"cl\xffip.mp4"))
    files = pipeline.run(odd).files
    for kind, name in (("tracks", "cl?ip.mp4"), ("report", odd.name)):
        assert json.loads(files[kind].read_bytes().decode())["source"]["name"] == name
    again = pipeline.run(odd, tmp_path / "again.mp4", RunSettings(tracks=files["tracks"])).files
    assert n_frames(again["video"]) == 2
    folder = make_image_folder(tmp_path / "in", n_frames=2)
    next(folder.iterdir()).rename(folder / os.fsdecode(b"p\xff.png"))
    assert len(list(pipeline.run(folder, tmp_path / "out").files["video"].iterdir())) == 2


@pytest.mark.parametrize(
    ("path", "stem"),
    [("a/clip.mp4", "clip"), ("clip.tar.MKV", "clip.tar"), ("a.b/photos", "photos"), ("photos.v2", "photos.v2")],
)
def test_stems(path: str, stem: str) -> None:
    assert stem_of(Path(path)) == stem
