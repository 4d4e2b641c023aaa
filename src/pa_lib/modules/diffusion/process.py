"""The forward process: how clean latents become noise, and what a network is asked to predict from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_lcm import LCMScheduler
from jaxtyping import Float, Int
from torch import Tensor

from pa_lib.errors import PaLibError
from pa_lib.functional.draws import normal, uniform

Prediction = Literal["epsilon", "v_prediction", "sample"]
BetaSchedule = Literal["linear", "scaled_linear", "squaredcos_cap_v2"]
TimestepDraw = Literal["uniform", "logit_normal"]
Method = Literal["ddim", "dpm++", "lcm"]
Scheduler = DDIMScheduler | DPMSolverMultistepScheduler | LCMScheduler

LCM_GRID = 50  # steps of the grid on which latent consistency models are distilled (Luo et al. 2023)
_DRAWING_A_TIMESTEP = 0x7157E9  # a last key of their own: callers draw the noise of the same clip from the same keys


class DiffusionProcess:
    """Variance-preserving diffusion in discrete steps: ``x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) eps``.

    ``a_t`` is the product of ``1 - beta`` up to t; betas are those of diffusers' `DDPMScheduler`. No module: it has no
    weights and no state, and its tables follow the tensors that it is given from device to device.

    Args:
        n_steps: Number of noise levels, >= 1.
        beta_schedule: ``scaled_linear`` (Stable Diffusion), ``linear`` (AnimateDiff's training) or
            ``squaredcos_cap_v2``.
        beta_start: Variance of the first step, in (0, 1).
        beta_end: Variance of the last step, in (0, 1).
        prediction: What the network predicts: the noise (``epsilon``), ``v = sqrt(a) eps - sqrt(1 - a) x_0``
            (``v_prediction``) or the clean latents (``sample``).
        is_zero_terminal_snr: Rescale the betas so that the last level is pure noise (Lin et al. 2023). Not with
            ``epsilon``: there the noise alone would not tell what it hides.
        timesteps: How training draws them: ``uniform``, or ``logit_normal`` (sigmoid of a standard normal number, Esser
            et al. 2024), which visits the middle more often.

    Raises:
        PaLibError: A setting is unknown, out of range, or contradicts another.

    Source: Ho et al. 2020, eq. 4; v: Salimans and Ho 2022.

    >>> process = DiffusionProcess()
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
        _check_choice("prediction", prediction, get_args(Prediction))
        _check_choice("beta_schedule", beta_schedule, get_args(BetaSchedule))
        _check_choice("timesteps", timesteps, get_args(TimestepDraw))
        if n_steps < 1:
            raise PaLibError(f"n_steps of the diffusion process is {n_steps}, expected at least 1")
        if not 0 < beta_start <= beta_end < 1:
            raise PaLibError(
                f"betas of the diffusion process go from {beta_start} to {beta_end}, "
                "expected 0 < beta_start <= beta_end < 1"
            )
        if is_zero_terminal_snr and prediction == "epsilon":
            raise PaLibError(
                "is_zero_terminal_snr=true does not go with prediction=epsilon: "
                "choose prediction=v_prediction or sample"
            )
        self.n_steps = n_steps
        self.prediction: Prediction = prediction
        self.is_zero_terminal_snr = is_zero_terminal_snr
        self.timesteps: TimestepDraw = timesteps
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

    def add_noise(
        self, clean: Float[Tensor, "b t c h w"], noise: Float[Tensor, "b t c h w"], timesteps: Int[Tensor, " b"]
    ) -> Float[Tensor, "b t c h w"]:
        """``x_t = sqrt(a_t) clean + sqrt(1 - a_t) noise``; the frames of a clip share its time step."""
        signal, sigma = self._coefficients(timesteps, clean)
        return signal * clean + sigma * noise

    def target(
        self, clean: Float[Tensor, "b t c h w"], noise: Float[Tensor, "b t c h w"], timesteps: Int[Tensor, " b"]
    ) -> Float[Tensor, "b t c h w"]:
        """What the network is to predict; see `prediction`."""
        if self.prediction == "epsilon":
            return noise
        if self.prediction == "sample":
            return clean
        signal, sigma = self._coefficients(timesteps, clean)
        return signal * noise - sigma * clean

    def clean_from(
        self, prediction: Float[Tensor, "b t c h w"], noisy: Float[Tensor, "b t c h w"], timesteps: Int[Tensor, " b"]
    ) -> Float[Tensor, "b t c h w"]:
        """The clean latents that a prediction amounts to."""
        if self.prediction == "sample":
            return prediction
        signal, sigma = self._coefficients(timesteps, noisy)
        if self.prediction == "epsilon":
            return (noisy - sigma * prediction) / signal
        return signal * noisy - sigma * prediction

    def prediction_of(
        self, clean: Float[Tensor, "b t c h w"], noisy: Float[Tensor, "b t c h w"], timesteps: Int[Tensor, " b"]
    ) -> Float[Tensor, "b t c h w"]:
        """The prediction that amounts to these clean latents: the inverse of `clean_from`."""
        signal, sigma = self._coefficients(timesteps, noisy)
        return self.target(clean, (noisy - signal * clean) / sigma, timesteps)

    def snr(self, timesteps: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Signal to noise ``a_t / (1 - a_t)``, float32, >= 0."""
        alphas = self._table(timesteps.device)[timesteps]
        return alphas / (1 - alphas)

    def draw_timesteps(self, keys: Sequence[Sequence[int]]) -> Int[Tensor, " b"]:
        """One time step per clip, from that clip's keys alone; int64 on the CPU.

        Independent of what `functional.draws` gives for the same keys, so noise may be drawn from them as well.
        """
        return torch.stack([self._drawn(tuple(own)) for own in keys])

    def scheduler(self, method: Method) -> Scheduler:
        """A fresh scheduler of diffusers for this process, without time steps yet: set them before its first `step`.

        Raises:
            PaLibError: There is no such method.
        """
        _check_choice("method", method, get_args(Method))
        # Trailing spacing begins at the noisiest level, where pure noise belongs; the usual leading one begins below.
        settings = {**self._settings, "timestep_spacing": "trailing"}
        scheduler: Scheduler
        if method == "ddim":
            scheduler = DDIMScheduler(**settings, clip_sample=False, set_alpha_to_one=True)
        elif method == "dpm++":
            scheduler = DPMSolverMultistepScheduler(**settings, algorithm_type="dpmsolver++", solver_order=2)
        else:
            scheduler = LCMScheduler(**settings, original_inference_steps=min(LCM_GRID, self.n_steps))
        return scheduler

    def _drawn(self, keys: tuple[int, ...]) -> Tensor:
        if self.timesteps == "uniform":
            place = uniform((), *keys, _DRAWING_A_TIMESTEP)
        else:
            place = normal((), *keys, _DRAWING_A_TIMESTEP).sigmoid()
        return (place * self.n_steps).long().clamp(max=self.n_steps - 1)  # float32 may round up to the end

    def _coefficients(self, timesteps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """``sqrt(a_t)`` and ``sqrt(1 - a_t)``, shape b 1 1 1 1; rounded to a half type only after the root."""
        alphas = self._table(like.device)[timesteps.to(like.device)].reshape(-1, *[1] * (like.ndim - 1))
        return alphas.sqrt().to(like.dtype), (1 - alphas).sqrt().to(like.dtype)

    def _table(self, device: torch.device) -> Tensor:
        if device not in self._tables:
            self._tables[device] = self.alphas_cumprod.to(device)
        return self._tables[device]


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise PaLibError(f"unknown {name} {value!r} of the diffusion process; choose {', '.join(choices)}")
