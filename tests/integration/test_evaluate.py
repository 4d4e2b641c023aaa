"""pa-evaluate on files, folders, videos that it anonymizes, and modules; the same in one process and in two."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from _clips import make_clip
from _evaluation import anonymized_pair
from _passersby import COMPACT, TINY
from pa_lib.cli.command import FAILED, OK, PARTIAL, USAGE
from pa_lib.cli.evaluate import main
from pa_lib.errors import PaLibError
from pa_lib.evaluation.videos import OpenedPair
from pa_lib.reports.evaluation_record import Evaluation, MeasuredClip

FAST = "metrics=unmasked_psnr"


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def figures(folder: Path | str, stage: str = "encoded") -> dict[str, float]:
    told = Evaluation.read_json(Path(folder))
    return {
        figure.name: figure.value for record in told.metrics if record.measured_on == stage for figure in record.values
    }


def test_a_video_and_its_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = anonymized_pair(tmp_path, n_frames=20)
    assert main([f"original={pair.original}", FAST]) == OK
    folder = tmp_path / "clip.anonymized.evaluation"
    assert {path.name for path in folder.iterdir()} == {"metrics.json", "metrics.html"}
    told = json.loads((folder / "metrics.json").read_text())
    assert told["metrics"][0]["values"][0]["value"] == "inf"  # a lossless codec: kept pixels are identical
    assert figures(folder)["unmasked_identical_share"] == 1.0
    (clip,) = told["clips"]
    assert (clip["n_frames"], clip["masker_from"]) == (20, "report")
    assert "original" not in told["config"]
    assert str(tmp_path) not in (folder / "metrics.json").read_text()
    out = capsys.readouterr().out
    assert "unmasked_psnr_db" in out
    assert "∞" in out
    assert main([f"original={pair.original}", FAST, "is_overwrite=false"]) == 2


def test_the_default_metrics_work_where_nobody_has_a_face(tmp_path: Path) -> None:
    pair = anonymized_pair(tmp_path, n_frames=4)
    assert main([f"original={pair.original}", "metrics=default", "output=out"]) in (OK, PARTIAL)
    told = Evaluation.read_json(tmp_path / "out")
    faces = [record for record in told.metrics if record.name in ("identity_distance", "detection_rate")]
    assert faces
    for record in faces:
        assert math.isnan(record.values[0].value), "no faces, and yet a number"
        assert record.values[0].n == 0


def test_without_tracks_metrics_that_need_masks_are_left_out_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = make_clip(tmp_path / "a.mp4", n_frames=6)
    two = make_clip(tmp_path / "b.mp4", n_frames=6, options={"crf": "40"})
    assert main([f"original={one}", f"anonymized={two}", FAST]) == FAILED
    assert "unmasked_psnr needs masks" in capsys.readouterr().err
    assert not (tmp_path / "b.evaluation").exists()
    arguments = [f"original={one}", f"anonymized={two}", "metrics=[unmasked_psnr,warping_error]"]
    assert main(arguments) == PARTIAL
    assert "left out: unmasked_psnr: needs masks" in capsys.readouterr().out
    told = Evaluation.read_json(tmp_path / "b.evaluation")
    assert set(told.left_out) == {"unmasked_psnr"}
    assert [record.name for record in told.metrics] == ["warping_error"]


def test_files_that_do_not_fit_leave_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = anonymized_pair(tmp_path, n_frames=6)
    short = make_clip(tmp_path / "short.mp4", n_frames=5)
    assert main([f"original={pair.original}", f"anonymized={short}", f"tracks={pair.tracks}", FAST]) == FAILED
    assert "not equally long" in capsys.readouterr().err
    assert not (tmp_path / "short.evaluation").exists()


def test_a_tracks_file_cannot_name_what_to_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = anonymized_pair(tmp_path, n_frames=2)
    for path in (pair.tracks, pair.report):
        assert path is not None
        path.write_text(path.read_text().replace("pa_lib.people.BoxMasker", "pa_lib.video.staging.subprocess.run"))
    assert main([f"original={pair.original}", FAST]) == FAILED
    assert "refused _target_ pa_lib.video.staging.subprocess.run" in capsys.readouterr().err


def test_a_folder_in_two_processes_says_what_one_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "videos"
    for at, n_frames in enumerate((5, 18, 9)):
        anonymized_pair(folder, f"clip{at}", n_frames, is_lossless=False)
    make_clip(folder / "lonely.mp4", n_frames=2)
    common = [f"original={folder}", f"anonymized={folder}", "metrics=fast"]
    assert main([*common, "output=one"]) == PARTIAL
    assert "lonely.mp4: no anonymized video" in capsys.readouterr().out
    command = [sys.executable, "-m", "pa_lib.cli.evaluate", *common, "output=two", "processes=2"]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == PARTIAL, done.stderr
    one, two = Evaluation.read_json(tmp_path / "one"), Evaluation.read_json(tmp_path / "two")
    assert [clip.name for clip in one.clips] == ["clip0.mp4", "clip1.mp4", "clip2.mp4"]
    assert one.clips == two.clips
    assert [record.protocol_hash for record in one.metrics] == [record.protocol_hash for record in two.metrics]
    assert figures(tmp_path / "one") == pytest.approx(figures(tmp_path / "two"), abs=1e-9, rel=1e-9, nan_ok=True)
    failing = [*command[:-2], "output=three", "processes=2"]
    make_clip(folder / "clip1.anonymized.mp4", n_frames=3)
    done = subprocess.run(
        failing, check=False, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == FAILED
    (line,) = [line for line in done.stderr.splitlines() if "error" in line]
    assert "clip1.mp4" in line
    assert "not equally long" in line
    assert not (tmp_path / "three").exists()


def test_tracks_for_some_only_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        pair = anonymized_pair(tmp_path / "videos", name, 2)
    assert pair.tracks is not None
    pair.tracks.unlink()
    assert main([f"original={tmp_path}/videos", f"anonymized={tmp_path}/videos", FAST]) == FAILED
    assert "1 of 2 videos have no tracks file beside them (b.mkv)" in capsys.readouterr().err


def test_before_and_after_encoding(tmp_path: Path) -> None:
    pair = anonymized_pair(tmp_path, n_frames=18, is_lossless=False)
    arguments = [f"original={pair.original}", f"tracks={pair.tracks}", "module=conventional", FAST, "output=out"]
    assert main(arguments) == OK
    before, after = figures(tmp_path / "out", "composited"), figures(tmp_path / "out", "encoded")
    assert before["unmasked_identical_share"] == 1.0
    assert math.isinf(before["unmasked_psnr_db"])
    assert 20 < after["unmasked_psnr_db"] < 70
    assert (tmp_path / "out" / "clip.anonymized.mp4").is_file()


@pytest.mark.parametrize("is_there", [False, True])
def test_a_failing_evaluation_leaves_what_was_there(
    tmp_path: Path, is_there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second of two videos cannot be measured when the first is done: nothing of it is left, nothing replaced."""
    (tmp_path / "in").mkdir()
    for name in ("a.mp4", "b.mp4"):
        make_clip(tmp_path / "in" / name, n_frames=4)
    chosen = ["people/finder=centerface", "people/masker=box", "people/chooser=all", "output=deep/out"]
    arguments = ["original=in", "module=conventional", FAST, *chosen]
    if is_there:
        assert main(arguments) == OK
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    measured = OpenedPair.measured

    def fails(pair: OpenedPair) -> MeasuredClip:
        if pair.clip == 1:
            raise PaLibError("cannot be measured")
        return measured(pair)

    with monkeypatch.context() as patch:
        patch.setattr(OpenedPair, "measured", fails)
        assert main([*arguments, "module.method=mosaic"]) == FAILED
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert (tmp_path / "deep").exists() is is_there
    assert main([*arguments, "module.method=mosaic"]) == OK
    changed = {path.name for path, content in before.items() if path.read_bytes() != content}
    assert not is_there or {"metrics.json", "a.anonymized.tracks.json"} & changed
    assert main([*arguments, "is_overwrite=false"]) == USAGE
    (tmp_path / "deep" / "out" / "metrics.json").unlink()
    assert main([*arguments, "is_overwrite=false"]) == USAGE


def test_a_video_is_searched_where_nobody_says_who_is_in_it(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "clip.mp4", n_frames=4)
    chosen = ["people/finder=centerface", "people/masker=box", "people/chooser=all"]
    assert main([f"original={source}", "module=conventional", FAST, "output=out", *chosen]) == OK
    assert figures(tmp_path / "out", "composited")["unmasked_identical_share"] == 1.0
    assert (tmp_path / "out" / "clip.anonymized.tracks.json").is_file()


def data(n_clips: int = 24) -> list[str]:
    small = {"n_clips": n_clips, "side": 16, "n_frames": 2, "n_identities": 8, "batch_size": 2, "val_share": 0.5}
    return ["data=synthetic", *(f"data.{name}={value}" for name, value in small.items())]


def test_a_module_on_held_out_clips(tmp_path: Path) -> None:
    assert main(["module=conventional", "module.method=fill", *data(), FAST, "output=fill"]) == OK
    told = Evaluation.read_json(tmp_path / "fill")
    assert told.data["n_clips"] > 2
    assert figures("fill", "crops")["unmasked_identical_share"] == 1.0
    assert main(["module=conventional", "module.method=blur", *data(), FAST, "output=blur"]) == OK
    assert Evaluation.read_json(tmp_path / "blur").material == told.material
    assert main(["module=conventional", *data(20), FAST, "output=other"]) == OK
    assert Evaluation.read_json(tmp_path / "other").material != told.material
    assert main(["module=conventional", *data(), "data.val_share=0", FAST]) == FAILED


def test_a_trained_passersby_anonymizer(tmp_path: Path) -> None:
    from pa_lib.cli.train import main as train

    small = [setting for setting in TINY if not setting.startswith(("module/backbone", "module.backbone"))]
    assert train([*small, *COMPACT, "trainer.max_steps=1", "output=run"]) == 0
    weights = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert (
        main(["module=passersby", f"weights={weights}", "module.sampler.steps=1", *data(8), FAST, "output=out"]) == OK
    )
    assert figures("out", "crops")["unmasked_identical_share"] == 1.0


def test_a_launcher_of_several_processes(tmp_path: Path) -> None:
    for at in range(2):
        anonymized_pair(tmp_path / "videos", f"clip{at}", 4)
    launch = ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "pa_lib.cli.evaluate"]
    more: list[Any] = [f"original={tmp_path}/videos", f"anonymized={tmp_path}/videos", FAST, "output=out"]
    done = subprocess.run(
        [sys.executable, "-m", *launch, *more],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == OK, done.stderr
    assert done.stdout.count("metrics.json") == 1
    assert len(Evaluation.read_json(tmp_path / "out").clips) == 2
