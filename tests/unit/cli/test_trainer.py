"""The trainer of a config."""

from __future__ import annotations

import pytest

from pa_lib.cli.trainer import build_trainer


@pytest.mark.parametrize(("max_steps", "logged_every"), [(2, 2), (10, 10), (25, 10), (-1, 10)])
def test_a_run_that_is_shorter_than_the_step_of_the_log_logs_its_last_step(max_steps: int, logged_every: int) -> None:
    node = {"_target_": "lightning.pytorch.Trainer", "accelerator": "cpu", "max_epochs": 1, "log_every_n_steps": 10}
    trainer = build_trainer({**node, "max_steps": max_steps}, [], [])
    assert trainer.log_every_n_steps == logged_every  # type: ignore[attr-defined]
