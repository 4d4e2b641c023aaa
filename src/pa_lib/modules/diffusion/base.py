"""The one interface of noise processes: how clean latents become noise, and what a network predicts from them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor

from pa_lib.errors import SettingError
from pa_lib.functional.draws import normal, uniform
from pa_lib.modules.fit import Fitting, Requirement

Prediction = Literal["epsilon", "v_prediction", "sample", "flow"]
TimestepDraw = Literal["uniform", "logit_normal"]

_DRAWING_A_TIMESTEP = 0x7157E9  # a last key of their own: callers draw the noise of the same clip from the same keys


class AbstractNoiseProcess(Fitting, ABC):
    """Noise in levels: ``x_t = signal_t x_0 + sigma_t eps``, from nearly clean (level 0) to nearly pure noise.

    A process has no weights and no state. Levels are whole numbers from 0 to ``n_steps - 1``; what a network is given
    as its time is `network_time` of them.

    Args:
        n_steps: Number of noise levels, >= 1.
        prediction: Target of the network; see `target`.
        timesteps: Distribution of the levels in training: ``uniform``, or ``logit_normal`` (sigmoid of a standard
            normal number, Esser et al. 2024), which draws the middle more often.

    Raises:
        SettingError: A setting is unknown or out of range.
    """

    def __init__(self, n_steps: int, prediction: Prediction, timesteps: TimestepDraw) -> None:
        check_choice("timesteps", timesteps, get_args(TimestepDraw))
        if n_steps < 1:
            raise SettingError(f"n_steps of the noise process is {n_steps}, expected at least 1")
        self.n_steps = n_steps
        self.prediction: Prediction = prediction
        self.timesteps: TimestepDraw = timesteps

    @abstractmethod
    def coefficients(self, timesteps: Int[Tensor, " b"], like: Tensor) -> tuple[Tensor, Tensor]:
        """``signal_t`` and ``sigma_t`` of each clip, shaped b 1 1 1 1, in the type and on the device of `like`."""

    @abstractmethod
    def snr(self, timesteps: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Signal to noise ratio ``signal_t^2 / sigma_t^2``, float32, >= 0."""

    @abstractmethod
    def target(
        self, clean: Float[Tensor, "b t c h w"], noise: Float[Tensor, "b t c h w"], timesteps: Int[Tensor, " b"]
    ) -> Float[Tensor, "b t c h w"]:
        """What the network is to predict for latents and the noise that is added to them; see `prediction`."""

    @abstractmethod
    def clean_from(
        self, prediction: Float[Tensor, "b t c h w"], noisy: Float[Tensor, "b t c h w"], timesteps: Int[Tensor, " b"]
    ) -> Float[Tensor, "b t c h w"]:
        """The clean latents that a prediction implies."""

    @abstractmethod
    def scheduler_settings(self) -> dict[str, Any]:
        """The process as arguments of the schedulers of diffusers that belong to it."""

    @abstractmethod
    def contradictions(self, scheduler: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        """Where this process differs from the one that weights were trained with.

        Args:
            scheduler: Content of the ``scheduler_config.json`` of their folder, as diffusers writes it.

        Returns:
            Setting -> (its value for those weights, its value here); only ``process`` where they need another kind.
            Empty where this process fits, or where the file does not say.
        """

    def provides(self) -> Mapping[str, Any]:
        """Itself, as ``noise_process``."""
        return {"noise_process": self}

    def requirements(self) -> Sequence[Requirement]:
        """That the backbone's weights were trained with it, where their folder says with what they were."""
        from pa_lib.modules.diffusion.trained import noise_problem  # it knows all processes, which know this one

        return [
            Requirement("trained_with", lambda given: given and noise_problem(self, given.scheduler, given.weights))
        ]

    def network_time(self, timesteps: Int[Tensor, " b"]) -> Num[Tensor, " b"]:
        """What the network is given as its time at these levels: the levels, unless a process says otherwise."""
        return timesteps

    def add_noise(
        self, clean: Float[Tensor, "b t c h w"], noise: Float[Tensor, "b t c h w"], timesteps: Int[Tensor, " b"]
    ) -> Float[Tensor, "b t c h w"]:
        """``x_t = signal_t clean + sigma_t noise``; the frames of a clip share its level."""
        signal, sigma = self.coefficients(timesteps, clean)
        return signal * clean + sigma * noise

    def prediction_of(
        self, clean: Float[Tensor, "b t c h w"], noisy: Float[Tensor, "b t c h w"], timesteps: Int[Tensor, " b"]
    ) -> Float[Tensor, "b t c h w"]:
        """The prediction that implies these clean latents: the inverse of `clean_from`."""
        signal, sigma = self.coefficients(timesteps, noisy)
        return self.target(clean, (noisy - signal * clean) / sigma, timesteps)

    def draw_timesteps(self, keys: Sequence[Sequence[int]]) -> Int[Tensor, " b"]:
        """One level per clip, from that clip's keys alone; int64 on the CPU.

        Independent of what `functional.draws` gives for the same keys, so noise may be drawn from them as well.
        """
        return torch.stack([self._drawn(tuple(own)) for own in keys])

    def _drawn(self, keys: tuple[int, ...]) -> Tensor:
        if self.timesteps == "uniform":
            place = uniform((), *keys, _DRAWING_A_TIMESTEP)
        else:
            place = normal((), *keys, _DRAWING_A_TIMESTEP).sigmoid()
        return (place * self.n_steps).long().clamp(max=self.n_steps - 1)  # float32 may round up to the end


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse a setting that is none of the choices.

    Raises:
        SettingError: It is not.
    """
    if value not in choices:
        raise SettingError(f"unknown {name} {value!r} of the noise process; choose {', '.join(choices)}")
