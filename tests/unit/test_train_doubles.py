"""The tool that trains with doubles on a GPU: every stage begins with the one before, and its commands hold."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import train_doubles

from pa_lib.cli.compose import compose


@pytest.mark.parametrize("steps", [None, 2])
def test_stages_follow_each_other(steps: int | None) -> None:
    made = train_doubles.commands(Path("faces.zip"), Path("runs"), "gpu", 8.0, steps, 4)
    composed = [compose("train", own) for own in made]
    assert [one["output"] for one in composed] == [f"runs/{stage}" for stage in train_doubles.STAGES]
    assert [one["init_from"] for one in composed] == [
        None,
        "runs/compact_1_backbone/checkpoints/last.ckpt",
        "runs/compact_2_spatial/checkpoints/last.ckpt",
    ]
    assert {one["data"]["side"] for one in composed} == {one["module"]["crops"]["side"] for one in composed} == {128}
    seconds = sum(one["trainer"]["max_time"]["seconds"] for one in composed)
    assert seconds == pytest.approx(8 * 60, abs=2)


def test_a_stage_that_fails_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []

    def run(command: list[str], check: bool) -> Any:
        ran.append(command)
        return type("Done", (), {"returncode": len(ran) - 1})

    monkeypatch.setattr(train_doubles.subprocess, "run", run)
    assert train_doubles.main(["faces.zip", "runs", "--steps", "2", "--device", "cpu"]) == 1
    assert [command[3] for command in ran] == ["experiment=compact_1_backbone", "experiment=compact_2_spatial"]
    assert all(command[0] == sys.executable for command in ran)
