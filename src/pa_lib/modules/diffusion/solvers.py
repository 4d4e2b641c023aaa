"""One step of a sampler, by diffusers' schedulers: each solver has its own levels, and steps through them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from diffusers.schedulers.scheduling_lcm import LCMScheduler
from torch import Tensor

from pa_lib.modules.diffusion.base import AbstractNoiseProcess
from pa_lib.modules.diffusion.flow_matching import FlowMatching
from pa_lib.modules.diffusion.variance_preserving import VariancePreserving

Step = Callable[[Tensor, int, Tensor, list[torch.Generator]], Tensor]
"""From a prediction, the number of the step, the noisy latents and one generator per clip to the next latents."""

_LCM_GRID = 50  # steps of the grid on which latent consistency models are distilled (Luo et al. 2023)


class AbstractSolver(ABC):
    """Steps a noise process backwards.

    Attributes:
        name: What `Sampler` calls it by.
        steps_through: The kind of process that it steps through.
        is_random: Whether its steps draw noise from the generators.
    """

    name: ClassVar[str]
    steps_through: ClassVar[type[AbstractNoiseProcess]] = VariancePreserving
    is_random: bool = False

    @abstractmethod
    def begin(self, process: Any, timesteps: Sequence[int], steps: int) -> Step:
        """A fresh run through these levels.

        Args:
            process: Noise process, of the kind `steps_through`.
            timesteps: Levels at which the network is evaluated, noisiest first.
            steps: Number of steps of a whole run; `timesteps` may be its end.
        """

    def most_steps(self, process: AbstractNoiseProcess) -> int:
        """The largest number of steps with this process."""
        return process.n_steps

    def timesteps(self, process: AbstractNoiseProcess, steps: int) -> list[int]:
        """The levels of a whole run, noisiest first, spread evenly ("trailing", Lin et al. 2023)."""
        return [round(process.n_steps * (1 - done / steps)) - 1 for done in range(steps)]

    def problem_with(self, process: AbstractNoiseProcess) -> str | None:
        """The error where a process is of another kind; names samplers that fit."""
        if isinstance(process, self.steps_through):
            return None
        fitting = [name for name, kind in SOLVERS.items() if isinstance(process, kind.steps_through)]
        return (
            f"the sampler {self.name} steps through {self.steps_through.__name__}, the noise process is "
            f"{type(process).__name__}; choose {' or '.join(fitting)} (module/sampler), or another module/diffusion"
        )


class DdimSolver(AbstractSolver):
    """DDIM (Song et al. 2021).

    Args:
        eta: Share of DDPM's fresh noise in every step, in [0, 1]; 0 = none.
    """

    name = "ddim"

    def __init__(self, eta: float = 0.0) -> None:
        self.eta = eta
        self.is_random = eta > 0

    def begin(self, process: VariancePreserving, timesteps: Sequence[int], steps: int) -> Step:
        """A run through a process of these levels only.

        diffusers takes "one step earlier" for t - n_steps // steps, which misses the next level, and the clean end,
        where steps do not divide n_steps (20 levels at 30 steps). A process of only these steps has no such gaps
        (respacing, Nichol and Dhariwal 2021); where they do divide, the result is diffusers' own.
        """
        scheduler = DDIMScheduler(**_trailing(process), clip_sample=False, set_alpha_to_one=True)
        scheduler.alphas_cumprod = process.alphas_cumprod[list(timesteps)[::-1]]
        scheduler.register_to_config(num_train_timesteps=len(timesteps))
        scheduler.set_timesteps(len(timesteps))

        def step(prediction: Tensor, done: int, latents: Tensor, draws: Any) -> Tensor:
            place = len(timesteps) - 1 - done
            stepped = scheduler.step(prediction, place, latents, self.eta, generator=draws, return_dict=False)
            result: Tensor = stepped[0]
            return result

        return step


class DpmSolver(AbstractSolver):
    """DPM-Solver++, second-order multistep (Lu et al. 2022)."""

    name = "dpm++"

    def begin(self, process: VariancePreserving, timesteps: Sequence[int], steps: int) -> Step:
        """A run through these levels."""
        scheduler = DPMSolverMultistepScheduler(**_trailing(process), algorithm_type="dpmsolver++", solver_order=2)
        scheduler.set_timesteps(timesteps=list(timesteps))
        return _stepping(scheduler, timesteps)


class LcmSolver(AbstractSolver):
    """Latent consistency (Luo et al. 2023): only for networks distilled for it, on the levels of their distillation."""

    name = "lcm"
    is_random = True

    def most_steps(self, process: AbstractNoiseProcess) -> int:
        """Those of the grid of the distillation."""
        return min(_LCM_GRID, process.n_steps)

    def timesteps(self, process: AbstractNoiseProcess, steps: int) -> list[int]:
        """Those on which such networks are distilled."""
        scheduler = self._scheduler(process)
        scheduler.set_timesteps(steps)
        return [int(step) for step in scheduler.timesteps]

    def begin(self, process: VariancePreserving, timesteps: Sequence[int], steps: int) -> Step:
        """A run through these levels."""
        scheduler = self._scheduler(process)
        scheduler.set_timesteps(steps)
        scheduler.timesteps = torch.tensor(list(timesteps))
        vars(scheduler)["num_inference_steps"] = len(timesteps)  # annotated as None by its first value
        return _stepping(scheduler, timesteps)

    def _scheduler(self, process: AbstractNoiseProcess) -> LCMScheduler:
        scheduler: LCMScheduler = LCMScheduler(**_trailing(process), original_inference_steps=self.most_steps(process))
        return scheduler


class FlowEulerSolver(AbstractSolver):
    """Euler's method along the velocity of flow matching."""

    name = "flow_euler"
    steps_through = FlowMatching

    def begin(self, process: FlowMatching, timesteps: Sequence[int], steps: int) -> Step:
        """A run through these levels; the scheduler shifts them as the process does."""
        scheduler = FlowMatchEulerDiscreteScheduler(**process.scheduler_settings())
        even = [(level + 1) / process.n_steps for level in timesteps]
        scheduler.set_timesteps(sigmas=even)

        def step(prediction: Tensor, done: int, latents: Tensor, draws: Any) -> Tensor:
            result: Tensor = scheduler.step(prediction, scheduler.timesteps[done], latents, return_dict=False)[0]
            return result

        return step


SOLVERS: Mapping[str, type[AbstractSolver]] = {
    solver.name: solver for solver in (DdimSolver, DpmSolver, LcmSolver, FlowEulerSolver)
}
"""Name -> solver."""


def _trailing(process: AbstractNoiseProcess) -> dict[str, Any]:
    """Trailing spacing begins at the noisiest level, where pure noise belongs; the usual leading one begins below."""
    return {**process.scheduler_settings(), "timestep_spacing": "trailing"}


def _stepping(scheduler: Any, timesteps: Sequence[int]) -> Step:
    def step(prediction: Tensor, done: int, latents: Tensor, draws: Any) -> Tensor:
        result: Tensor = scheduler.step(prediction, timesteps[done], latents, generator=draws, return_dict=False)[0]
        return result

    return step
