"""Values of a wrong type are found by annotations; what only looks unusual passes."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from pa_lib.errors import SettingError
from pa_lib.modules import CosineSchedule
from pa_lib.setting_types import check_partial


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (torch.optim.AdamW, {"lr": 1, "betas": [0.9, 0.999], "weight_decay": 0, "fused": None, "amsgrad": True}),
        (torch.optim.AdamW, {"lr": torch.tensor(0.1)}),
        (torch.optim.SGD, {"lr": float("inf"), "nesterov": False}),
        (lr_scheduler.LinearLR, {"start_factor": 1, "total_iters": 100.0}),
        (lr_scheduler.MultiStepLR, {"milestones": [1, 2]}),
        (lr_scheduler.ReduceLROnPlateau, {"mode": "min", "min_lr": [0.1, 0.2]}),
        (CosineSchedule, {"total_steps": 5, "unknown": "x"}),
        (CosineSchedule, {"total_steps": {"_target_": "torch.nn.SiLU"}}),
        (lambda x: x, {"x": "anything"}),
    ],
)
def test_what_fits_passes(make: Any, settings: dict[str, Any]) -> None:
    check_partial(partial(make, **settings), "here")


@pytest.mark.parametrize(
    ("make", "settings", "named"),
    [
        (torch.optim.AdamW, {"lr": "1e-4"}, "lr"),  # as YAML 1.1 reads it
        (torch.optim.AdamW, {"lr": 0.1, "weight_decay": None}, "weight_decay"),
        (torch.optim.AdamW, {"betas": [0.9]}, "betas"),
        (lr_scheduler.ReduceLROnPlateau, {"mode": "up"}, "mode"),
        (CosineSchedule, {"total_steps": "100"}, "total_steps"),
    ],
)
def test_what_does_not_fit_is_named(make: Any, settings: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingError, match=rf"^here\.{named}: got .+, expected "):
        check_partial(partial(make, **settings), "here")
