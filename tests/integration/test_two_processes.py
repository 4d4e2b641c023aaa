"""What is learned and what is logged do not depend on the number of processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch


def run(n_processes: int, folder: Path) -> dict[str, Any]:
    script = Path(__file__).parents[1] / "_toys.py"
    folder.mkdir()
    command = [sys.executable, str(script), str(n_processes), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads((folder / "found.json").read_text())
    found["weights"] = torch.load(folder / "last.ckpt", weights_only=True)["state_dict"]
    found["private"] = torch.load(folder / "last.private.ckpt", weights_only=True)["state_dict"]
    return found


@pytest.mark.slow
def test_two_processes_learn_and_log_what_one_does(tmp_path: Path) -> None:
    one, two = run(1, tmp_path / "one"), run(2, tmp_path / "two")
    assert one["steps"] == two["steps"] == 4
    assert one["sizes"] == [4]
    assert two["sizes"] == [2]
    assert len(one["train/loss"]) == 4
    assert two["train/loss"] == pytest.approx(one["train/loss"], rel=1e-5)
    assert two["val/loss"] == pytest.approx(one["val/loss"], rel=1e-5)
    for kind in ("weights", "private"):
        for name, weight in one[kind].items():
            torch.testing.assert_close(two[kind][name], weight, rtol=1e-5, atol=1e-6, msg=name)
