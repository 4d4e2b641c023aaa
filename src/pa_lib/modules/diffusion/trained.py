"""What weights were trained to predict, as the scheduler of their folder says, against a noise process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pa_lib.modules.diffusion.base import AbstractNoiseProcess
from pa_lib.modules.diffusion.flow_matching import FlowMatching
from pa_lib.modules.diffusion.variance_preserving import VariancePreserving

_CHOICES = {"epsilon": "sd", "v_prediction": "v", "sample": "x0"}  # prediction -> the option of module/diffusion


def noise_problem(process: AbstractNoiseProcess, scheduler: Mapping[str, Any], weights: str) -> str | None:
    """The error where a process contradicts the scheduler that weights were trained with; None where it does not.

    Args:
        process: The noise process of the system.
        scheduler: Content of ``scheduler_config.json`` of the weights.
        weights: Folder or id of the weights.

    >>> print(noise_problem(VariancePreserving(prediction="sample"), {"_class_name": "DDIMScheduler",
    ...     "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}, "sd15"))
    sd15 was trained with prediction=epsilon, got prediction=sample; choose module/diffusion=sd
    """
    differences = process.contradictions(scheduler)
    if not differences:
        return None
    theirs = ", ".join(f"{name}={value}" for name, (value, _) in differences.items())
    ours = ", ".join(f"{name}={value}" for name, (_, value) in differences.items())
    return f"{weights} was trained with {theirs}, got {ours}; choose {fitting_choice(scheduler)}"


def fitting_choice(scheduler: Mapping[str, Any]) -> str:
    """The settings of the command line that fit a scheduler."""
    if FlowMatching().contradictions(scheduler).get("process") is None:
        return "module/diffusion=flow module/sampler=flow_euler"
    prediction = scheduler.get("prediction_type", "epsilon")
    option = _CHOICES.get(prediction, "sd")
    shipped = VariancePreserving(prediction=prediction, is_zero_terminal_snr=prediction != "epsilon")
    changed = [
        f"module.diffusion.{name}={_text(value)}" for name, (value, _) in shipped.contradictions(scheduler).items()
    ]
    return " ".join([f"module/diffusion={option}", *changed])


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
