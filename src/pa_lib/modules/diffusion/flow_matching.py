"""Flow matching: straight lines from clean latents to noise, as Stable Diffusion 3, Flux and Wan are trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pa_lib.errors import SettingError
from pa_lib.modules.diffusion.base import AbstractNoiseProcess, TimestepDraw


class FlowMatching(AbstractNoiseProcess):
    """Rectified flow: ``x_s = (1 - s) x_0 + s eps``; the network predicts the velocity ``v = eps - x_0``.

    Level t of n stands for ``u = (t + 1) / n`` and, shifted towards the noise, ``s = shift u / (1 + (shift - 1) u)``:
    the last level is pure noise (s = 1). The network's time is ``n s``, as diffusers has it.

    Args:
        n_steps: Number of noise levels, >= 1.
        shift: Shift of the levels towards the noise, > 0; 1 = evenly spaced. 3 for Stable Diffusion 3, more for larger
            latents.
        timesteps: Distribution of the levels in training, see `AbstractNoiseProcess`; Stable Diffusion 3 has
            ``logit_normal``.

    Raises:
        SettingError: A setting is unknown or out of range.

    Source: Liu et al. 2022, https://arxiv.org/abs/2209.03003; shift: Esser et al. 2024,
    https://arxiv.org/abs/2403.03206, eq. 23.

    >>> process = FlowMatching()
    >>> clean, noise, t = torch.ones(1, 1, 4, 8, 8), torch.zeros(1, 1, 4, 8, 8), torch.tensor([249])
    >>> float(process.add_noise(clean, noise, t).mean()), float(process.target(clean, noise, t).mean())
    (0.75, -1.0)
    """

    def __init__(self, n_steps: int = 1000, shift: float = 1.0, timesteps: TimestepDraw = "logit_normal") -> None:
        super().__init__(n_steps, "flow", timesteps)
        if not 0 < shift < float("inf"):
            raise SettingError(f"shift of flow matching is {shift}, expected more than 0 (1 = none, 3 is usual)")
        self.shift = shift
        even = torch.arange(1, n_steps + 1, dtype=torch.float64) / n_steps
        self.sigmas: Float[Tensor, " n_steps"] = (shift * even / (1 + (shift - 1) * even)).float()

    def network_time(self, timesteps: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        """``n s``, float32."""
        return self.n_steps * self.sigmas.to(timesteps.device)[timesteps]

    def coefficients(self, timesteps: Int[Tensor, " b"], like: Tensor) -> tuple[Tensor, Tensor]:
        """``1 - s`` and ``s``, shape b 1 1 1 1."""
        sigmas = self.sigmas.to(like.device)[timesteps.to(like.device)].reshape(-1, *[1] * (like.ndim - 1))
        return (1 - sigmas).to(like.dtype), sigmas.to(like.dtype)

    def target(
        self, clean: Float[Tensor, "b t c h w"], noise: Float[Tensor, "b t c h w"], timesteps: Int[Tensor, " b"]
    ) -> Float[Tensor, "b t c h w"]:
        """``eps - x_0``, the same at every level."""
        return noise - clean

    def clean_from(
        self, prediction: Float[Tensor, "b t c h w"], noisy: Float[Tensor, "b t c h w"], timesteps: Int[Tensor, " b"]
    ) -> Float[Tensor, "b t c h w"]:
        """``x_s - s v``."""
        _, sigma = self.coefficients(timesteps, noisy)
        return noisy - sigma * prediction

    def snr(self, timesteps: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Signal to noise ratio ``(1 - s)^2 / s^2``, float32, >= 0."""
        sigmas = self.sigmas.to(timesteps.device)[timesteps]
        return ((1 - sigmas) / sigmas).square()

    def scheduler_settings(self) -> dict[str, Any]:
        """Number of steps and shift, under diffusers' names."""
        return {"num_train_timesteps": self.n_steps, "shift": self.shift}

    def contradictions(self, scheduler: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        """Settings that differ from those of a scheduler; see `AbstractNoiseProcess.contradictions`.

        The shift is not among them: it may be chosen for every size of latents.
        """
        name = str(scheduler.get("_class_name", ""))
        if "beta_schedule" in scheduler and not scheduler.get("use_flow_sigmas") and "FlowMatch" not in name:
            return {"process": ("VariancePreserving", type(self).__name__)}
        steps = scheduler.get("num_train_timesteps", self.n_steps)
        return {} if steps == self.n_steps else {"n_steps": (steps, self.n_steps)}
