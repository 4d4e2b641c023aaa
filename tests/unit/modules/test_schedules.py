"""The cosine schedule against its formula and torch's schedules, also across a resume."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR

from _passersby import TINY
from pa_lib.cli.command import OK
from pa_lib.cli.train import main
from pa_lib.errors import SettingError
from pa_lib.modules import CosineSchedule


def an_optimizer(*rates: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates])


def followed(schedule: torch.optim.lr_scheduler.LRScheduler, n: int) -> list[float]:
    """The rate of each of the next n optimizer steps."""
    rates = []
    for _ in range(n):
        rates.append(schedule.optimizer.param_groups[0]["lr"])
        schedule.optimizer.step()
        schedule.step()
    return rates


def expected(steps: np.ndarray, total: int, warmup: int, final: float) -> np.ndarray:
    """Half a cosine after a linear rise, in the form with a squared cosine."""
    falling = final + (1 - final) * np.cos(np.pi / 2 * np.clip((steps - warmup) / (total - warmup), 0, 1)) ** 2
    return np.where(steps < warmup, (steps + 1) / (warmup + 1), falling)


@pytest.mark.parametrize(("total", "warmup", "final"), [(20, 0, 0.0), (20, 5, 0.0), (17, 4, 0.1), (1, 0, 0.0)])
def test_rates_follow_the_formula_and_stay_at_the_end(total: int, warmup: int, final: float) -> None:
    rates = followed(CosineSchedule(an_optimizer(0.3), total, warmup, final), total + 5)
    np.testing.assert_allclose(
        rates, 0.3 * expected(np.arange(total + 5), total, warmup, final), rtol=1e-12, atol=1e-15
    )


def test_without_warm_up_it_is_the_schedule_of_torch() -> None:
    theirs = followed(CosineAnnealingLR(an_optimizer(0.3), 50), 51)
    np.testing.assert_allclose(followed(CosineSchedule(an_optimizer(0.3), 50), 51), theirs, rtol=1e-9, atol=1e-15)


def test_groups_keep_their_ratio() -> None:
    schedule = CosineSchedule(an_optimizer(0.3, 0.03), 10, 2)
    for step in range(12):
        first, second = (group["lr"] for group in schedule.optimizer.param_groups)
        assert second == pytest.approx(first / 10)
        assert [first, second] == schedule.get_last_lr() == schedule.rates_at(step)
        schedule.optimizer.step()
        schedule.step()


@pytest.mark.parametrize("longer", [8, 20])
def test_a_resumed_run_follows_the_formula_to_its_own_end(longer: int) -> None:
    first = CosineSchedule(an_optimizer(0.3), 8, 2)
    followed(first, 5)
    optimizer = an_optimizer(0.3)
    second = CosineSchedule(optimizer, longer, 2)
    optimizer.load_state_dict(first.optimizer.state_dict())  # in Lightning's order: with the old rate in it
    second.load_state_dict(first.state_dict())
    rates = followed(second, longer)
    np.testing.assert_allclose(rates, 0.3 * expected(np.arange(5, 5 + longer), longer, 2, 0), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("make", [lambda one: LinearLR(one, 0.1, total_iters=3), lambda one: CosineAnnealingLR(one, 8)])
def test_the_state_of_older_schedules_gives_the_step(make: object) -> None:
    assert callable(make)
    older = make(an_optimizer(0.3))
    followed(older, 5)
    schedule = CosineSchedule(an_optimizer(0.3), 10)
    schedule.load_state_dict(older.state_dict())
    assert followed(schedule, 2) == pytest.approx([0.15, 0.3 * math.cos(math.pi * 0.3) ** 2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"total_steps": -1}, "total_steps of the cosine schedule is -1, expected at least 1; set trainer.max_steps"),
        ({"total_steps": 4, "warmup_steps": 4}, "warmup_steps of the cosine schedule is 4, expected 0 to 3"),
        ({"total_steps": 4, "warmup_steps": -1}, "warmup_steps"),
        ({"total_steps": 4, "final_share": 1.5}, "final_share of the cosine schedule is 1.5, expected 0 to 1"),
    ],
)
def test_wrong_numbers_are_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        CosineSchedule(an_optimizer(0.1), **arguments)  # type: ignore[arg-type]


def logged_rates(folder: Path) -> list[float]:
    """What Lightning's own monitor has logged, run by run."""
    rates = []
    for version in sorted((folder / "csv").iterdir()):
        with (version / "metrics.csv").open(encoding="utf-8") as file:
            rates += [float(row["lr-AdamW"]) for row in csv.DictReader(file) if row.get("lr-AdamW")]
    return rates


def test_training_that_goes_on_longer_does_not_climb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    watched = [*TINY, "logger=csv", "+callbacks.watch._target_=lightning.pytorch.callbacks.LearningRateMonitor"]
    watched += ["trainer.log_every_n_steps=1", "module/lr_schedule=cosine", "module.lr_schedule.warmup_steps=2"]
    watched += ["module.optimizer.lr=0.001", "output=out"]
    assert main([*watched, "trainer.max_steps=5"]) == OK
    assert main([*watched, "trainer.max_steps=9", "ckpt=last"]) == OK
    steps = np.arange(9)
    rates = np.where(steps < 5, expected(steps, 5, 2, 0), expected(steps, 9, 2, 0))
    np.testing.assert_allclose(logged_rates(Path("out")), 0.001 * rates, rtol=1e-9, atol=1e-15)
    assert capsys.readouterr().err == ""
