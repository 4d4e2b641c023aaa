"""Videos to tracklets: what is cut, what is left out, and what an interruption leaves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from _clips import make_clip
from pa_lib.cli.tracklets import main
from pa_lib.contracts import Detection
from pa_lib.data import TrackletDataModule
from pa_lib.errors import PaLibError
from pa_lib.people import AbstractFinder, BoxMasker, FrameMasks, KalmanTracker, MaskRequest
from pa_lib.pipeline.cut_tracklets import CutSettings, TrackletCutter
from pa_lib.video import fingerprint

N_FRAMES = 12


class RedFinder(AbstractFinder):
    """Sees the red square that walks to the right as a person."""

    def find(self, images: Sequence[NDArray[np.uint8]]) -> list[list[Detection]]:
        found = []
        for image in images:
            pixels = image.astype(int)
            rows, columns = np.nonzero((pixels[..., 0] > 180) & (pixels[..., 1] < 80) & (pixels[..., 2] < 80))
            box = tuple(float(v) for v in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
            found.append([Detection("body", box, 0.9)])  # type: ignore[arg-type]
        return found

    def release(self) -> None:
        pass


class FailingMasker(BoxMasker):
    """A masker that fails in one frame."""

    error: BaseException = ValueError("no mask")

    def mask(self, request: MaskRequest) -> FrameMasks:
        if request.frame == 5:
            raise self.error
        return super().mask(request)


def cutter(masker: BoxMasker | None = None, **settings: Any) -> TrackletCutter:
    masker = masker or BoxMasker(body_scale=1.0, dilation_px=0, feather_px=0)
    chosen = {"side": 32, "min_px": 4, "min_frames": 4, "expansion": 2.0, "smoothing_s": 0.0, **settings}
    return TrackletCutter(
        RedFinder(), KalmanTracker(growth_per_s=0, border_px=0), masker, settings=CutSettings(**chosen)
    )


@pytest.fixture
def video(tmp_path: Path) -> Path:
    (tmp_path / "videos").mkdir()
    return make_clip(tmp_path / "videos" / "walk.mp4", width=96, height=64, n_frames=N_FRAMES)


def index_of(folder: Path) -> dict[str, Any]:
    index: dict[str, Any] = json.loads((folder / "tracklets.json").read_text())
    return index


def test_crops_follow_the_person_with_its_mask(video: Path, tmp_path: Path) -> None:
    reported: list[tuple[str, int, int | None]] = []
    outcome = cutter().run(video, tmp_path / "out", lambda *progress: reported.append(progress))
    assert (outcome.n_tracklets, outcome.n_frames, outcome.is_old) == (1, N_FRAMES, False)
    assert {stage for stage, _, _ in reported} == {"finding people", "cutting"}
    assert reported[-1] == ("cutting", N_FRAMES, N_FRAMES)
    index = index_of(outcome.folder)
    (entry,) = index["tracklets"]
    assert index["video"] == fingerprint(video)
    assert (entry["kind"], entry["person"], entry["first_frame"], entry["fps"]) == ("body", 1, 0, 25.0)
    # The square of `_clips.scene` is 16 px wide and begins at 3 i, 32; the crop is 2 x 1.1 times as wide, 35.2.
    for i, (box, square) in enumerate(zip(entry["boxes"], entry["squares"], strict=True)):
        assert np.abs(np.array(box) - [3 * i, 32, 3 * i + 16, 48]).max() <= 1
        assert square[2] - square[0] == pytest.approx(square[3] - square[1])
        assert square[2] - square[0] == pytest.approx(35.2, abs=2.2)
        crop = np.asarray(Image.open(outcome.folder / f"0001-{i:06d}.jpg")).astype(int)
        mask = np.asarray(Image.open(outcome.folder / f"0001-{i:06d}.png"))
        assert crop.shape == (32, 32, 3)
        assert mask.shape == (32, 32)
        red = (crop[..., 0] > 150) & (crop[..., 1] < 110) & (crop[..., 2] < 110)
        centres = [[np.average(axis, weights=weight) for axis in np.indices((32, 32))] for weight in (red, mask)]
        assert np.abs(np.subtract(*centres)).max() < 0.8
        assert red[mask > 200].mean() > 0.7
    data = TrackletDataModule(tmp_path / "out", n_frames=4, side=32, batch_size=3, val_share=0)
    assert next(iter(data.train_dataloader())).frames.shape == (3, 4, 3, 32, 32)


def test_finished_video_is_passed_over_wherever_it_lies(video: Path, tmp_path: Path) -> None:
    first = cutter().run(video, tmp_path / "out")
    before = {file: file.stat().st_mtime_ns for file in first.folder.iterdir()}
    moved = video.rename(tmp_path / "other name.mp4")
    second = cutter().run(moved, tmp_path / "out")
    assert (second.is_old, second.folder, second.n_tracklets, second.n_frames) == (True, first.folder, 1, N_FRAMES)
    assert {file: file.stat().st_mtime_ns for file in first.folder.iterdir()} == before
    with pytest.raises(PaLibError, match="was cut with side=32"):
        cutter(side=64).run(moved, tmp_path / "out")
    (first.folder / "tracklets.json").unlink()
    with pytest.raises(PaLibError, match="holds no tracklets; remove it"):
        cutter().run(moved, tmp_path / "out")


def test_interrupted_run_leaves_nothing_and_is_done_again(video: Path, tmp_path: Path) -> None:
    masker = FailingMasker(body_scale=1.0, dilation_px=0, feather_px=0)
    object.__setattr__(masker, "error", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        cutter(masker).run(video, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not cutter().run(video, tmp_path / "out").is_old


def test_tracklet_with_a_frame_that_cannot_be_masked_is_given_up(video: Path, tmp_path: Path) -> None:
    masker = FailingMasker(body_scale=1.0, dilation_px=0, feather_px=0)
    outcome = cutter(masker).run(video, tmp_path / "out")
    assert (outcome.n_tracklets, outcome.n_dropped) == (0, 1)
    assert [file.name for file in outcome.folder.iterdir()] == ["tracklets.json"]
    divided = cutter(masker, max_frames=4, min_frames=4).run(video, tmp_path / "divided")
    assert (divided.n_tracklets, divided.n_frames, divided.n_dropped) == (2, 8, 1)
    assert [entry["first_frame"] for entry in index_of(divided.folder)["tracklets"]] == [0, 8]


@pytest.mark.parametrize(
    ("settings", "n_tracklets"),
    [({"min_px": 30}, 0), ({"min_frames": 13}, 0), ({"kind": "face"}, 0), ({"kind": "all"}, 1), ({"max_frames": 6}, 2)],
)
def test_what_is_small_short_or_another_kind_is_left_out(
    settings: dict[str, Any], n_tracklets: int, video: Path, tmp_path: Path
) -> None:
    outcome = cutter(**settings).run(video, tmp_path / "out")
    assert outcome.n_tracklets == n_tracklets
    assert outcome.n_frames == (N_FRAMES if n_tracklets else 0)
    assert outcome.n_other_kind == (settings.get("kind") == "face")


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"kind": "dog"}, marks=pytest.mark.wrong_types),
        {"side": 2},
        {"min_frames": 9, "max_frames": 8},
        {"jpeg_quality": 0},
        {"expansion": 0.5},
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(PaLibError, match=next(iter(settings))):
        CutSettings(**settings)


def test_videos_that_were_cut_as_persons_are_finished(video: Path, tmp_path: Path) -> None:
    cutter().run(video, tmp_path / "out")
    (index,) = (tmp_path / "out").glob("*/tracklets.json")
    index.write_text(index.read_text().replace('"kind": "body"', '"kind": "person"'))
    assert cutter().run(video, tmp_path / "out").is_old
    assert cutter(kind="person").run(video, tmp_path / "out").is_old


def test_videos_that_were_cut_with_an_old_name_of_a_setting_are_finished(video: Path, tmp_path: Path) -> None:
    first = cutter(smoothing_s=0.5).run(video, tmp_path / "out")
    index = first.folder / "tracklets.json"
    index.write_text(index.read_text().replace('"smoothing_s"', '"steadiness_s"'))
    assert cutter(smoothing_s=0.5).run(video, tmp_path / "out").is_old
    with pytest.raises(PaLibError, match=r"was cut with smoothing_s=0\.5"):
        cutter(smoothing_s=0.25).run(video, tmp_path / "out")


def test_a_folder_without_videos_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photo.jpg").touch()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "clip.anonymized.mp4").touch()
    assert main([f"input={tmp_path / 'notes'}", f"output={tmp_path / 'out'}"]) == 1
    assert "no video there" in capsys.readouterr().err


def test_command_cuts_a_folder_and_goes_on_after_a_bad_file(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pa_lib.people.PeopleFinder.find", RedFinder.find)
    (video.parent / "bad.mp4").write_bytes(b"no video")
    arguments = [f"input={video.parent}", f"output={tmp_path / 'out'}", "side=32", "min_px=4", "people/finder=people"]
    arguments += ["people/masker=box"]
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert "walk.mp4: 1 tracklets (12 frames) cut" in out
    assert "1 tracklets (12 frames) of 1 videos, 1 failed" in out
    errors = [line for line in err.splitlines() if line.startswith("pa-tracklets: error:")]
    assert len(errors) == 1
    assert "bad.mp4" in errors[0]
    (video.parent / "bad.mp4").unlink()
    assert main(arguments) == 0
    assert "there already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["input=gone.mp4", "output=out"], 1, "gone.mp4"),
        (["input=gone.mp4"], 2, "missing setting: output"),
        (["input=", "output="], 2, "missing setting: input, output"),
        (["input=a", "output=b", "sidee=3"], 2, "no setting 'sidee'"),
        (["input=a", "output=b", "side=none"], 2, "side"),
    ],
)
def test_command_answers_wrong_calls_in_one_line(
    arguments: list[str],
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*arguments, "people/finder=people", "people/masker=box"]) == code
    err = capsys.readouterr().err.strip()
    assert err.startswith("pa-tracklets: error: ")
    assert message in err
    assert "\n" not in err
