"""pa-compare: tables, pages, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from _evaluation import evaluation
from pa_lib.cli.command import FAILED, OK, USAGE
from pa_lib.cli.compare import NOT_RANKED, main
from pa_lib.cli.compose import split_files


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, str]:
    made = {
        "blur": evaluation({"toy": 1.0}),
        "fill": evaluation({"toy": 4.0}),
        "other": evaluation({"toy": 9.0}, protocol={"scale": 2}, hash_="f" * 12),
    }
    for name, one in made.items():
        (tmp_path / f"{name}.evaluation").mkdir()
        one.write_json(tmp_path / f"{name}.evaluation" / "metrics.json")
    return {name: str(tmp_path / f"{name}.evaluation") for name in made}


def test_ranks_what_was_measured_alike(
    runs: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([runs["blur"], f"{runs['fill']}/metrics.json", f"output={tmp_path}/out"]) == OK
    assert "★ 4" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"compare.{kind}" for kind in ("html", "json", "csv", "tex", "md")
    }
    assert json.loads((tmp_path / "out" / "compare.json").read_text())["rows"][0]["best"] == [1]
    assert main([runs["blur"], runs["fill"], f"output={tmp_path}/out", "is_overwrite=false"]) == USAGE
    assert "holds a comparison" in capsys.readouterr().err


def test_refuses_to_rank_other_protocols_and_says_what_differs(
    runs: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([runs["blur"], runs["other"]]) == NOT_RANKED
    told = capsys.readouterr().out
    assert "★" not in told
    assert "blur | other: scale: 1 | 2" in told


def test_wrong_command_lines_get_one_line(runs: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([runs["blur"]]) == USAGE
    assert main([runs["blur"], runs["fill"], "outptu=x"]) == USAGE
    assert main(["/nowhere"]) == FAILED
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 3
    assert "got one evaluation, expected two or more" in told[0]
    assert "did you mean output?" in told[1]
    assert "/nowhere: no such file or folder; give outputs of pa-evaluate" in told[2]


def test_folders_with_an_equals_sign_are_evaluations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lr=1").mkdir()
    assert split_files(["lr=1", "b", "output=x", "--config-dir", "mine", "--version"]) == (
        ["lr=1", "b"],
        ["output=x", "--config-dir", "mine", "--version"],
    )


def test_a_file_has_room_for_names_of_figures(runs: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    long = "toy_with_a_name_of_more_than_thirty_letters"
    for name in ("blur", "fill"):
        evaluation({long: 2.0}).write_json(Path(runs[name]) / "metrics.json")
    assert main([runs["blur"], runs["fill"]]) == OK
    assert long in capsys.readouterr().out
