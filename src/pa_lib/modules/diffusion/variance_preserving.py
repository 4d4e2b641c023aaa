"""The forward process of DDPM and Stable Diffusion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from jaxtyping import Float, Int
from torch import Tensor

from pa_lib.errors import SettingError
from pa_lib.modules.diffusion.base import AbstractNoiseProcess, Prediction, TimestepDraw, check_choice

BetaSchedule = Literal["linear", "scaled_linear", "squaredcos_cap_v2"]

_PREDICTIONS = ("epsilon", "v_prediction", "sample")
_NAMES = {  # diffusers' names and defaults -> ours
    "num_train_timesteps": ("n_steps", 1000),
    "beta_schedule": ("beta_schedule", "linear"),
    "beta_start": ("beta_start", 0.0001),
    "beta_end": ("beta_end", 0.02),
    "prediction_type": ("prediction", "epsilon"),
    "rescale_betas_zero_snr": ("is_zero_terminal_snr", False),
}
_WITHOUT_BETAS = {"beta_start", "beta_end"}  # of these squaredcos_cap_v2 makes no use


class VariancePreserving(AbstractNoiseProcess):
    """Variance-preserving diffusion in discrete steps: ``x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) eps``.

    ``a_t`` is the product of ``1 - beta`` up to t; betas are those of diffusers' `DDPMScheduler`. Its tables follow the
    tensors that it is given from device to device.

    Args:
        n_steps: Number of noise levels, >= 1.
        beta_schedule: ``scaled_linear`` (Stable Diffusion), ``linear`` (AnimateDiff's training) or
            ``squaredcos_cap_v2``.
        beta_start: Variance of the first step, in (0, 1).
        beta_end: Variance of the last step, in (0, 1).
        prediction: Target of the network: the noise (``epsilon``), ``v = sqrt(a) eps - sqrt(1 - a) x_0``
            (``v_prediction``) or the clean latents (``sample``).
        is_zero_terminal_snr: Whether the betas are rescaled so that the last level is pure noise (Lin et al. 2023). Not
            with ``epsilon``: there the prediction at the last level says nothing about the clean latents.
        timesteps: Distribution of the levels in training, see `AbstractNoiseProcess`.

    Raises:
        SettingError: A setting is unknown, out of range, or contradicts another.

    Source: Ho et al. 2020, eq. 4; v: Salimans and Ho 2022.

    >>> process = VariancePreserving()
    >>> clean, noise, t = torch.ones(1, 2, 4, 8, 8), torch.zeros(1, 2, 4, 8, 8), torch.tensor([0])
    >>> round(float(process.add_noise(clean, noise, t).mean() ** 2), 5)
    0.99915
    """

    def __init__(
        self,
        n_steps: int = 1000,
        beta_schedule: BetaSchedule = "scaled_linear",
        beta_start: float = 0.00085,
        beta_end: float = 0.012,
        prediction: Prediction = "epsilon",
        is_zero_terminal_snr: bool = False,
        timesteps: TimestepDraw = "uniform",
    ) -> None:
        check_choice("prediction", prediction, _PREDICTIONS)
        check_choice("beta_schedule", beta_schedule, get_args(BetaSchedule))
        super().__init__(n_steps, prediction, timesteps)
        if not 0 < beta_start <= beta_end < 1:
            raise SettingError(
                f"betas of the diffusion process go from {beta_start} to {beta_end}, "
                "expected 0 < beta_start <= beta_end < 1"
            )
        if is_zero_terminal_snr and prediction == "epsilon":
            raise SettingError(
                "is_zero_terminal_snr=true does not go with prediction=epsilon: "
                "choose prediction=v_prediction or sample"
            )
        self.is_zero_terminal_snr = is_zero_terminal_snr
        self._settings = {
            "num_train_timesteps": n_steps,
            "beta_schedule": beta_schedule,
            "beta_start": beta_start,
            "beta_end": beta_end,
            "prediction_type": prediction,
            "rescale_betas_zero_snr": is_zero_terminal_snr,
        }
        self.alphas_cumprod: Float[Tensor, " n_steps"] = DDPMScheduler(**self._settings).alphas_cumprod
        self._tables: dict[torch.device, Float[Tensor, " n_steps"]] = {}

    def coefficients(self, timesteps: Int[Tensor, " b"], like: Tensor) -> tuple[Tensor, Tensor]:
        """``sqrt(a_t)`` and ``sqrt(1 - a_t)``, shape b 1 1 1 1; rounded to a half type only after the root."""
        alphas = self._table(like.device)[timesteps.to(like.device)].reshape(-1, *[1] * (like.ndim - 1))
        return alphas.sqrt().to(like.dtype), (1 - alphas).sqrt().to(like.dtype)

    def target(
        self, clean: Float[Tensor, "b t c h w"], noise: Float[Tensor, "b t c h w"], timesteps: Int[Tensor, " b"]
    ) -> Float[Tensor, "b t c h w"]:
        """What the network is to predict; see `AbstractNoiseProcess.target`."""
        if self.prediction == "epsilon":
            return noise
        if self.prediction == "sample":
            return clean
        signal, sigma = self.coefficients(timesteps, clean)
        return signal * noise - sigma * clean

    def clean_from(
        self, prediction: Float[Tensor, "b t c h w"], noisy: Float[Tensor, "b t c h w"], timesteps: Int[Tensor, " b"]
    ) -> Float[Tensor, "b t c h w"]:
        """The clean latents that a prediction amounts to."""
        if self.prediction == "sample":
            return prediction
        signal, sigma = self.coefficients(timesteps, noisy)
        if self.prediction == "epsilon":
            return (noisy - sigma * prediction) / signal
        return signal * noisy - sigma * prediction

    def snr(self, timesteps: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Signal to noise ratio ``a_t / (1 - a_t)``, float32, >= 0."""
        alphas = self._table(timesteps.device)[timesteps]
        return alphas / (1 - alphas)

    def scheduler_settings(self) -> dict[str, Any]:
        """Betas, number of steps, prediction and rescaling, under diffusers' names."""
        return dict(self._settings)

    def contradictions(self, scheduler: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        """Settings that differ from those of a scheduler; see `AbstractNoiseProcess.contradictions`."""
        if "FlowMatch" in str(scheduler.get("_class_name", "")):
            return {"process": ("FlowMatching", type(self).__name__)}
        if "beta_schedule" not in scheduler and "prediction_type" not in scheduler:
            return {}  # none of this family: it says nothing about betas
        theirs = {key: scheduler.get(key, default) for key, (_, default) in _NAMES.items()}
        ignored = set(_WITHOUT_BETAS) if theirs["beta_schedule"] == "squaredcos_cap_v2" else set()
        if scheduler.get("trained_betas") is not None:
            ignored |= {"beta_schedule", *_WITHOUT_BETAS}
        return {
            _NAMES[key][0]: (value, self._settings[key])
            for key, value in theirs.items()
            if key not in ignored and value != self._settings[key]
        }

    def _table(self, device: torch.device) -> Tensor:
        if device not in self._tables:
            self._tables[device] = self.alphas_cumprod.to(device)
        return self._tables[device]


DiffusionProcess = VariancePreserving
"""The name that this process had while it was the only one; stored configs have it."""
