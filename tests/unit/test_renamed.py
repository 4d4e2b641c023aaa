"""Old names of settings go on working, with one line of warning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pa_lib.cli import compose as cli_compose
from pa_lib.cli.compose import build, compose, parse
from pa_lib.errors import SettingError
from pa_lib.renamed import RENAMED, Renamed, migrated, renamed_overrides, renamed_setting

ROWS = (
    Renamed("module.crops.steadiness", "module.crops.temporal_smoothing"),
    Renamed("module.sampler.guidance", "module.guidance.scale", lambda value: value - 1),
    Renamed("module.colour", "module.color", on="A"),
    Renamed("data.veil_p", "data.haze_p"),
)


def test_a_stored_config_gets_todays_names() -> None:
    stored = {"crops": {"steadiness": 2.0, "side": 64}, "sampler": {"guidance": 7.5, "steps": 3}}
    assert migrated(stored, rows=ROWS) == {
        "crops": {"temporal_smoothing": 2.0, "side": 64},
        "sampler": {"steps": 3},
        "guidance": {"scale": 6.5},
    }
    assert stored["crops"] == {"steadiness": 2.0, "side": 64}  # not changed


def test_what_has_todays_name_already_stays() -> None:
    assert migrated({"crops": None, "haze_p": 1}, rows=ROWS) == {"crops": None, "haze_p": 1}


def test_both_names_at_once_are_refused() -> None:
    message = r"got both module\.crops\.steadiness and module\.crops\.temporal_smoothing.*give module\.crops\.temporal"
    with pytest.raises(SettingError, match=message):
        migrated({"crops": {"steadiness": 2.0, "temporal_smoothing": 5.0}}, rows=ROWS)
    for mark in ("", "+", "++", "~"):
        given = ["module.crops.steadiness=2", f"{mark}module.crops.temporal_smoothing=5"]
        for overrides in (given, given[::-1]):
            with pytest.raises(SettingError, match=message):
                renamed_overrides(overrides, ROWS)


@pytest.mark.parametrize(
    ("node", "more", "read", "value"),
    [
        ({"module": {"crops": {"steadiness": 0.3}}}, [], ("crops", "temporal_smoothing"), 0.3),
        (
            {"module": {"crops": {"steadiness": 0.3}}},
            ["module.crops.temporal_smoothing=4"],
            ("crops", "temporal_smoothing"),
            4,
        ),
        ({"module": {"sampler": {"guidance": 3.5}}}, [], ("guidance", "text", "scale"), 3.5),
    ],
)
def test_old_names_in_a_users_config_files(
    node: dict[str, Any],
    more: list[str],
    read: tuple[str, ...],
    value: float,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cli_compose, "_NOTED", set())
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/mine.yaml").write_text(f"# @package _global_\n{yaml.safe_dump(node)}")
    for _ in range(2):
        config = compose("train", ["module=passersby", "experiment=mine", *more], tmp_path)["module"]
        assert {"steadiness", "guidance"}.isdisjoint({*config["crops"], *config["sampler"]})
        for name in read:
            config = config[name]
        assert config == value
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("pa-train: note: module.")
    assert f"is called module.{'.'.join(read)} now" in line


def test_a_name_may_have_changed_in_one_class_only() -> None:
    assert migrated({"_target_": "A", "colour": 1}, rows=ROWS) == {"_target_": "A", "color": 1}
    assert migrated({"_target_": "B", "colour": 1}, rows=ROWS) == {"_target_": "B", "colour": 1}


def test_a_whole_config_is_migrated_without_a_prefix() -> None:
    config = {"module": {"crops": {"steadiness": 1}}, "data": {"veil_p": 0.5}}
    expected = {"module": {"crops": {"temporal_smoothing": 1}}, "data": {"haze_p": 0.5}}
    assert migrated(config, prefix="", rows=ROWS) == expected


def test_classes_that_have_moved() -> None:
    config = {"_target_": "new", "a": [{"_target_": "old"}]}
    assert migrated(config, targets={"old": "newer"}) == {"_target_": "new", "a": [{"_target_": "newer"}]}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("module.crops.steadiness=2", "module.crops.temporal_smoothing=2"),
        ("+module.crops.steadiness=2", "+module.crops.temporal_smoothing=2"),
        ("++module.crops.steadiness=1,2", "++module.crops.temporal_smoothing=1,2"),
        ("~module.crops.steadiness", "~module.crops.temporal_smoothing"),
        ("module.sampler.guidance=3.5", "module.guidance.scale=2.5"),
    ],
)
def test_an_old_name_on_a_command_line_gets_one_line(given: str, expected: str) -> None:
    overrides, warnings = renamed_overrides(["seed=1", given, "module=passersby"], ROWS)
    assert overrides == ["seed=1", expected, "module=passersby"]
    (line,) = warnings
    assert "is called module." in line
    assert "\n" not in line


def test_several_values_of_other_meaning_are_refused() -> None:
    with pytest.raises(SettingError, match=r"module\.sampler\.guidance is called module\.guidance\.scale now"):
        renamed_overrides(["module.sampler.guidance=1,2"], ROWS)


def test_a_changed_setting_may_have_its_old_name() -> None:
    assert renamed_setting("crops.steadiness", rows=ROWS) == "crops.temporal_smoothing"
    assert renamed_setting("crops.side", rows=ROWS) == "crops.side"


def test_no_name_is_old_and_new_at_once() -> None:
    assert not {row.old for row in RENAMED} & {row.new for row in RENAMED}


@pytest.mark.parametrize(
    ("module", "old", "new", "read"),
    [
        (
            "passersby",
            "module.crops.steadiness=3.5",
            "module.crops.temporal_smoothing",
            ("crops", "temporal_smoothing"),
        ),
        (
            "passersby",
            "module.mask_aware.augmentation.tremble=0.25",
            "module.mask_aware.augmentation.jitter",
            ("mask_aware", "augmentation", "jitter"),
        ),
        ("conventional", "module.colour=[1,2,3]", "module.color", ("color",)),
    ],
)
def test_an_old_command_line_composes_todays_config(
    module: str, old: str, new: str, read: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    overrides, _ = parse("pa-anonymize", "", [f"module={module}", old])
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{old.partition('=')[0]} is called {new} now" in line
    node = compose("anonymize", [*overrides, "input=a.mp4"])["module"]
    for name in read:
        node = node[name]
    assert str(node).replace(" ", "") == old.partition("=")[2]


def test_an_old_command_line_of_pa_tracklets(capsys: pytest.CaptureFixture[str]) -> None:
    overrides, _ = parse("pa-tracklets", "", ["steadiness_s=0.5"])
    assert "steadiness_s is called smoothing_s now" in capsys.readouterr().err
    assert compose("tracklets", [*overrides, "input=a.mp4", "output=b"])["smoothing_s"] == 0.5


def test_old_command_lines_of_pa_evaluate() -> None:
    overrides, _ = parse("pa-evaluate", "", ["attack=parrot", "attack.sees=surroundings", "faces.least_face_px=30"])
    config = compose("evaluate", [*overrides, "original=a.mp4"])
    assert config["attack"]["region"] == "surroundings"
    assert config["faces"]["min_face_px"] == 30


def test_stored_configs_have_todays_names() -> None:
    augmentation = {"_target_": "pa_lib.modules.MaskAugmentation", "tremble": 0.25}
    stored = migrated({"crops": {"steadiness": 2.0}, "mask_aware": {"augmentation": augmentation}})
    assert stored["crops"] == {"temporal_smoothing": 2.0}
    assert build(stored["mask_aware"]["augmentation"]).jitter == 0.25
    stored = migrated({"_target_": "pa_lib.modules.ConventionalAnonymizer", "method": "fill", "colour": [1, 2, 3]})
    assert build(stored).color == (1, 2, 3)
