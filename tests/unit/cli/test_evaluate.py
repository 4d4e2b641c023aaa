"""pa-evaluate: what it composes, what it refuses, which parts it shares."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pa_lib.cli.build import build_metrics
from pa_lib.cli.command import FAILED, USAGE
from pa_lib.cli.compose import ConfigError, compose, spread
from pa_lib.cli.evaluate import main

TOY = {"_target_": "_metrics.Brightness"}


class Part:
    """Something costly that metrics hold."""


class Holder:
    """Not a metric."""

    def __init__(self, part: Any, more: Any = None) -> None:
        self.part, self.more = part, more


HEAVY = ("torch", "av", "lightning", "cv2", "rich", "matplotlib", "torchmetrics")


@pytest.mark.parametrize(
    ("command", "arguments", "code", "told"),
    [
        ("evaluate", ["--help"], 0, "pa-evaluate original=clip.mp4"),
        ("evaluate", ["original=x", "nosuch=1"], USAGE, "no setting 'nosuch'"),
        ("evaluate", ["original=x", "metrics=wrong"], USAGE, "no option 'wrong' for metrics"),
        ("evaluate", ["original=x", "data=synthetic"], USAGE, "give one of them"),
        ("compare", ["--help"], 0, "pa-compare blur.evaluation mosaic.evaluation"),
        ("compare", ["one", "two", "nosuch=1"], USAGE, "no setting 'nosuch'"),
        ("compare", ["one"], FAILED, "one: no such file or folder"),
        ("sheet", ["--help"], 0, "pa-sheet clip.mp4"),
        ("sheet", ["clip.mp4", "modul=compact"], USAGE, "did you mean module?"),
        ("sheet", ["input=clip.mp4"], USAGE, "got no clips"),
    ],
)
def test_help_and_wrong_settings_are_answered_at_once(command: str, arguments: list[str], code: int, told: str) -> None:
    probe = (
        f"import sys\nfrom pa_lib.cli.{command} import main\n"
        f"try:\n    code = main({arguments!r})\nexcept SystemExit as end:\n    code = end.code\n"
        f"print('loaded', code, [name for name in {HEAVY} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", probe], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == f"loaded {code} []"
    assert told in done.stdout + done.stderr


def test_help_names_the_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "metrics=" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give original=VIDEO"),
        (["original=a.mp4", "metrics=none"], "metrics=none measures nothing"),
        (["original=a.mp4", "metrics=wrong"], "no option 'wrong' for metrics; there are: "),
        (["original=a.mp4", "data=synthetic"], "give one of them"),
        (["data=synthetic"], "data= needs a system"),
        (["original=a.mp4", "anonymized=b.mp4", "module=conventional"], "anonymized= is measured as it is"),
        (["original=a.mp4", "processes=0"], "expected at least 1"),
        (["original=a.mp4", "orignal=b.mp4"], "did you mean original?"),
        (["original"], "expected setting=value"),
        (["attack=parrot"], "attack= needs photos"),
    ],
)
def test_wrong_command_lines_get_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == USAGE
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1


def test_a_missing_file_is_a_failure_in_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main([f"original={tmp_path}/missing.mp4", "metrics=fast"]) == FAILED
    assert capsys.readouterr().err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("")
    assert main(["original=missing.mp4", f"output={tmp_path}/taken/below", "metrics=fast"]) == USAGE
    assert f"output={tmp_path}/taken: got a file, expected a folder" in capsys.readouterr().err


def test_single_metrics_and_lists_lie_at_their_names() -> None:
    assert spread(["metrics=[unmasked_psnr, unmasked_ssim]"]) == [
        "metrics=none",
        "+metrics@metrics.unmasked_psnr=unmasked_psnr",
        "+metrics@metrics.unmasked_ssim=unmasked_ssim",
    ]
    assert spread(["metrics=unmasked_psnr"]) == ["metrics=none", "+metrics@metrics.unmasked_psnr=unmasked_psnr"]
    assert spread(["metrics=default", "seed=1"]) == ["metrics=default", "seed=1"]
    told = compose("evaluate", ["metrics=[unmasked_psnr]", "metrics.unmasked_psnr.halo_px=3"])
    assert told["metrics"] == {"unmasked_psnr": {**told["metrics"]["unmasked_psnr"], "halo_px": 3}}


def test_own_metrics_are_found_in_the_own_folder(tmp_path: Path) -> None:
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "mine.yaml").write_text("_target_: pa_lib.metrics.UnmaskedPSNR\nhalo_px: 5\n")
    told = compose("evaluate", ["metrics=mine"], tmp_path)
    assert told["metrics"]["mine"]["halo_px"] == 5


def test_groups_hold_every_metric_once() -> None:
    for group in ("default", "fast", "faces", "all"):
        metrics = build_metrics(compose("evaluate", [f"metrics={group}"])["metrics"]) if group != "all" else []
        assert len({metric.name for metric in metrics}) == len(metrics)
    everything = compose("evaluate", ["metrics=all"])["metrics"]
    assert set(compose("evaluate", [])["metrics"]) < set(everything)
    assert {"fvd", "kvd", "unmasked_lpips"} <= set(everything)


class TestBuildMetrics:
    def test_metrics_at_any_depth_in_order(self) -> None:
        node = {"a": {"one": {**TOY, "scale": 2.0}}, "b": {**TOY, "scale": 3.0}, "off": None}
        assert [metric.protocol()["scale"] for metric in build_metrics(node)] == [2.0, 3.0]
        assert [metric.protocol()["scale"] for metric in build_metrics({**TOY, "scale": 4.0})] == [4.0]

    def test_parts_with_the_same_settings_are_one_object(self) -> None:
        part = {"_target_": "pa_lib.people.BoxMasker", "face_scale": 1.5}
        other = {**part, "face_scale": 2.0}
        from pa_lib.cli.build import made

        shared: dict[str, Any] = {}
        one = made({"x": part, "y": [part, other]}, shared)
        assert one["x"] is one["y"][0]
        assert one["x"] is not one["y"][1]
        assert made(part, shared) is one["x"]
        assert len(shared) == 2

    def test_what_is_no_metric_is_refused(self) -> None:
        with pytest.raises(
            ConfigError,
            match=r"metrics\.a: refused _target_ pa_lib\.people\.BoxMasker: expected a kind of AbstractMetric",
        ):
            build_metrics({"a": {"_target_": "pa_lib.people.BoxMasker"}})
        with pytest.raises(ConfigError, match=r"metrics\.a: got 3"):
            build_metrics({"a": 3})
        with pytest.raises(ConfigError, match="brightness is asked for twice"):
            build_metrics({"a": TOY, "b": TOY})
        with pytest.raises(ConfigError, match="wrong"):
            build_metrics({"a": {**TOY, "wrong": 1}})


def test_targets_outside_the_library_are_refused() -> None:
    assert main(["original=a.mp4", "+metrics.evil={_target_:os.system}"]) == USAGE
