"""From noise to clean latents, step by step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pa_lib.errors import SettingError
from pa_lib.functional.draws import generator
from pa_lib.modules.diffusion.base import AbstractNoiseProcess
from pa_lib.modules.diffusion.solvers import SOLVERS, AbstractSolver, DdimSolver
from pa_lib.modules.fit import Fitting, Requirement

Denoise = Callable[[Tensor, int], Tensor]
_DRAWING_IN_STEPS = 0x57E95  # a last key of its own: callers draw the start from the same keys


class Sampler(Fitting):
    """Runs a noise process backwards.

    Levels are spread evenly and begin at the noisiest one ("trailing", Lin et al. 2023), because sampling begins with
    pure noise; the last step ends at clean latents exactly. LCM takes those on which such networks are distilled.

    Args:
        method: Solver: ``ddim`` (Song et al. 2021), ``dpm++`` (second-order multistep DPM-Solver++, Lu et al. 2022),
            ``lcm`` (Luo et al. 2023; only for networks distilled for it), ``flow_euler`` (for `FlowMatching`), or a
            solver of your own.
        steps: Number of evaluations of the network, 1 to the process's n_steps; LCM at most 50, usually 4 to 8.
        eta: Share of DDPM's fresh noise in every step of DDIM, in [0, 1]; 0 = none.
        init_strength: Share of the steps that are taken, in (0, 1]. 1 begins with pure noise, which is the default
            because the person's own latents then never reach the sampler. Below 1 begins with the clean latents noised
            up to this share of the steps (SDEdit, Meng et al. 2022): closer to the source, and **less private**, since
            what is sampled is then computed from it.

    Raises:
        SettingError: A setting is unknown or out of range.

    >>> from pa_lib.functional.draws import normal
    >>> from pa_lib.modules import VariancePreserving
    >>> process, clean = VariancePreserving(prediction="sample"), torch.full((1, 2, 4, 8, 8), 0.5)
    >>> sampled = Sampler(steps=3).sample(lambda noisy, t: clean, normal(clean.shape, 0, 1), process, [(0, 1)])
    >>> bool(torch.allclose(sampled, clean))
    True
    """

    def __init__(
        self,
        method: str | AbstractSolver = "ddim",
        steps: int = 20,
        eta: float = 0.0,
        init_strength: float = 1.0,
    ) -> None:
        if isinstance(method, str) and method not in SOLVERS:
            raise SettingError(f"unknown sampler {method!r}; choose {', '.join(SOLVERS)}")
        if steps < 1:
            raise SettingError(f"steps of the sampler is {steps}, expected at least 1")
        if not 0 <= eta <= 1:
            raise SettingError(f"eta of the sampler is {eta}, expected a number from 0 to 1")
        if eta > 0 and method != "ddim":
            raise SettingError(f"eta of the sampler is {eta}, but only method=ddim has it; set eta=0")
        if not 0 < init_strength <= 1:
            raise SettingError(
                f"init_strength of the sampler is {init_strength}, "
                "expected more than 0 and at most 1 (1 = pure noise, the private choice)"
            )
        if isinstance(method, str):
            self.solver = DdimSolver(eta) if method == "ddim" else SOLVERS[method]()
        else:
            self.solver = method
        self.method = self.solver.name
        self.steps = steps
        self.eta = eta
        self.init_strength = init_strength

    def provides(self) -> Mapping[str, Any]:
        """Where it begins, as ``init_strength``."""
        return {"init_strength": self.init_strength}

    def requirements(self) -> Sequence[Requirement]:
        """A noise process that its solver steps through."""
        return [Requirement("noise_process", self.solver.problem_with)]

    def timesteps(self, process: AbstractNoiseProcess) -> list[int]:
        """The levels at which the network is evaluated, noisiest first.

        Raises:
            SettingError: The process is of another kind, or it or the method has fewer than `steps`.
        """
        if problem := self.solver.problem_with(process):
            raise SettingError(problem)
        most = self.solver.most_steps(process)
        if self.steps > most:
            raise SettingError(
                f"steps of the sampler is {self.steps}; {self.method} with this process has at most {most}"
            )
        spread = self.solver.timesteps(process, self.steps)
        return spread[self.steps - max(1, round(self.steps * self.init_strength)) :]

    @torch.no_grad()
    def sample(
        self,
        denoise: Denoise,
        start: Float[Tensor, "b t c h w"],
        process: AbstractNoiseProcess,
        keys: Sequence[Sequence[int]],
        clean: Float[Tensor, "b t c h w"] | None = None,
        outside: tuple[Float[Tensor, "b t 1 h w"], Float[Tensor, "b t c h w"]] | None = None,
    ) -> Float[Tensor, "b t c h w"]:
        """Clean latents from noise. A clip's result does not depend on which others share its batch.

        Args:
            denoise: Function from noisy latents b t c h w and a level to the network's prediction.
            start: Standard normal noise to begin with.
            process: Noise process that is reversed.
            keys: One key of randomness per clip, a sequence of integers; what a step draws (LCM, or eta > 0) depends on
                it alone.
            clean: Latents of the source; needed, and read, only if `init_strength` is below 1.
            outside: Mask and latents. Where the mask is 0 the latents are replaced, before the first step and after
                every one, by these ones at the noise level of the next step (with `start` as their noise); after the
                last step by themselves (Lugmayr et al. 2022, without resampling).

        Raises:
            SettingError: `clean` is missing, or the process does not fit.
            ValueError: There are not as many keys as clips.
        """
        if len(keys) != len(start):
            raise ValueError(f"{len(keys)} keys were given for {len(start)} clips; expected one sequence per clip")
        timesteps = self.timesteps(process)
        latents = start
        if self.init_strength < 1:
            if clean is None:
                raise SettingError(
                    f"init_strength {self.init_strength} of the sampler begins with the source's latents, "
                    "but none were given: pass clean, or set init_strength=1"
                )
            latents = _at_level(process, clean, start, timesteps[0])
        latents = _with_outside(latents, process, start, outside, timesteps[0])
        step = self.solver.begin(process, timesteps, self.steps)
        # diffusers draws for every item of a list of generators by itself
        own = [generator(*clip, _DRAWING_IN_STEPS) for clip in keys]
        for done, timestep in enumerate(timesteps):
            prediction = denoise(latents, timestep).to(latents.dtype)
            stepped = step(prediction, done, latents, own)
            following = timesteps[done + 1] if done + 1 < len(timesteps) else None
            latents = _with_outside(stepped.to(start.dtype), process, start, outside, following)
        return latents


def _at_level(process: AbstractNoiseProcess, clean: Tensor, noise: Tensor, timestep: int) -> Tensor:
    timesteps = torch.full((len(clean),), timestep, device=clean.device)
    return process.add_noise(clean, noise, timesteps).to(noise.dtype)


def _with_outside(
    latents: Tensor,
    process: AbstractNoiseProcess,
    start: Tensor,
    outside: tuple[Tensor, Tensor] | None,
    level: int | None,
) -> Tensor:
    """Put what is known outside the mask in its place, at a noise level; None = clean."""
    if outside is None:
        return latents
    mask, known = outside
    known = known.to(latents.dtype) if level is None else _at_level(process, known, start, level)
    return torch.where(mask == 0, known, latents)
