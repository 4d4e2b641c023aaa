"""From noise to clean latents: DDIM, DPM-Solver++ and LCM, with the arithmetic of diffusers' schedulers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, get_args

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from jaxtyping import Float
from torch import Tensor

from pa_lib.errors import PaLibError
from pa_lib.functional.draws import generator
from pa_lib.modules.diffusion.process import LCM_GRID, DiffusionProcess, Method, Scheduler

Denoise = Callable[[Tensor, int], Tensor]
_DRAWING_IN_STEPS = 0x57E95  # a last key of its own: callers draw the start from the same keys


class Sampler:
    """Runs a diffusion process backwards.

    Time steps are spread evenly and begin at the noisiest level ("trailing", Lin et al. 2023), for we begin with pure
    noise; the last step ends at clean latents exactly. LCM takes those on which such networks are distilled.

    Args:
        method: ``ddim`` (Song et al. 2021), ``dpm++`` (second-order multistep DPM-Solver++, Lu et al. 2022) or ``lcm``
            (Luo et al. 2023; only for networks distilled for it).
        steps: Evaluations of the network, 1 to the process's n_steps; LCM at most 50, usually 4 to 8.
        guidance: How far to go beyond the prediction without a prompt; 1 = no guidance. Whoever builds `denoise`
            applies it; it is kept here because it belongs to the settings of sampling.
        mean_guidance: How far to go beyond the prediction from pure noise, which is the mean of all pictures that fit;
            1 = no guidance. Small networks stay near that mean; the embedded default has 1.25, and more makes
            caricatures. The last step stays as predicted.
        eta: For DDIM, the share of DDPM's fresh noise in every step, in [0, 1]. 0 = none.
        init_strength: 1 begins with pure noise, which is the default because the person's own latents then never reach
            the sampler. Below 1 begins with the clean latents noised up to this share of the steps (SDEdit, Meng et al.
            2022): closer to the source, and **less private**, since what is sampled is then computed from it.

    Raises:
        PaLibError: A setting is unknown or out of range, or `mean_guidance` without a beginning in pure noise.

    Source: of the methods, at their names. Mean guidance is ours: autoguidance (Karras et al. 2024,
    https://arxiv.org/abs/2406.02507) with the network's own first prediction in the place of a worse network's.

    >>> from pa_lib.functional.draws import normal
    >>> process, clean = DiffusionProcess(prediction="sample"), torch.full((1, 2, 4, 8, 8), 0.5)
    >>> sampled = Sampler(steps=3).sample(lambda noisy, t: clean, normal(clean.shape, 0, 1), process, [(0, 1)])
    >>> bool(torch.allclose(sampled, clean))
    True
    """

    def __init__(
        self,
        method: Method = "ddim",
        steps: int = 20,
        guidance: float = 1.0,
        eta: float = 0.0,
        init_strength: float = 1.0,
        mean_guidance: float = 1.0,
    ) -> None:
        if method not in get_args(Method):
            raise PaLibError(f"unknown sampler {method!r}; choose {', '.join(get_args(Method))}")
        if steps < 1:
            raise PaLibError(f"steps of the sampler is {steps}, expected at least 1")
        if not 0 <= eta <= 1:
            raise PaLibError(f"eta of the sampler is {eta}, expected a number from 0 to 1")
        if eta > 0 and method != "ddim":
            raise PaLibError(f"eta of the sampler is {eta}, but only method=ddim has it; set eta=0")
        if not 0 < init_strength <= 1:
            raise PaLibError(
                f"init_strength of the sampler is {init_strength}, "
                "expected more than 0 and at most 1 (1 = pure noise, the private choice)"
            )
        if not guidance >= 0:
            raise PaLibError(f"guidance of the sampler is {guidance}, expected at least 0 (1 = none)")
        if not mean_guidance >= 0:
            raise PaLibError(f"mean_guidance of the sampler is {mean_guidance}, expected at least 0 (1 = none)")
        if mean_guidance != 1 and init_strength < 1:
            raise PaLibError(
                f"mean_guidance {mean_guidance} of the sampler begins at the prediction from pure noise, and "
                f"init_strength {init_strength} does not begin there; set one of them to 1"
            )
        self.method: Method = method
        self.steps = steps
        self.guidance = guidance
        self.eta = eta
        self.init_strength = init_strength
        self.mean_guidance = mean_guidance

    def timesteps(self, process: DiffusionProcess) -> list[int]:
        """The time steps at which the network is asked, noisiest first.

        Raises:
            PaLibError: The process or the method has fewer than `steps`.
        """
        most = min(LCM_GRID, process.n_steps) if self.method == "lcm" else process.n_steps
        if self.steps > most:
            raise PaLibError(
                f"steps of the sampler is {self.steps}; {self.method} with this process has at most {most}"
            )
        if self.method == "lcm":
            scheduler = process.scheduler("lcm")
            scheduler.set_timesteps(self.steps)
            spread = [int(step) for step in scheduler.timesteps]
        else:
            spread = [round(process.n_steps * (1 - done / self.steps)) - 1 for done in range(self.steps)]
        return spread[self.steps - max(1, round(self.steps * self.init_strength)) :]

    @torch.no_grad()
    def sample(
        self,
        denoise: Denoise,
        start: Float[Tensor, "b t c h w"],
        process: DiffusionProcess,
        keys: Sequence[Sequence[int]],
        clean: Float[Tensor, "b t c h w"] | None = None,
        outside: tuple[Float[Tensor, "b t 1 h w"], Float[Tensor, "b t c h w"]] | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Float[Tensor, "b t c h w"]:
        """Clean latents from noise. A clip's result does not depend on which others share its batch.

        Args:
            denoise: From noisy latents b t c h w and a time step to what the process's network predicts.
            start: Standard normal noise.
            process: Whose steps are reversed.
            keys: One sequence of keys per clip; what a step draws (LCM, or eta > 0) comes from them alone.
            clean: The source's latents; needed if, and only looked at if, `init_strength` is below 1.
            outside: A mask and latents. Where the mask is 0 the latents are replaced, before the first step and after
                every one, by these ones at the noise level of the next step (with `start` as their noise); after the
                last step by themselves (Lugmayr et al. 2022, without resampling).
            on_step: Called after every step with how many are done and how many there are.

        Raises:
            PaLibError: `clean` is missing, or the process has too few steps.
            ValueError: There are not as many keys as clips.
        """
        if len(keys) != len(start):
            raise ValueError(f"{len(keys)} keys were given for {len(start)} clips; expected one sequence per clip")
        timesteps = self.timesteps(process)
        latents = start
        if self.init_strength < 1:
            if clean is None:
                raise PaLibError(
                    f"init_strength {self.init_strength} of the sampler begins with the source's latents, "
                    "but none were given: pass clean, or set init_strength=1"
                )
            latents = _at_level(process, clean, start, timesteps[0])
        latents = _with_outside(latents, process, start, outside, timesteps[0])
        scheduler, places = self._prepared(process, timesteps)
        # diffusers draws for every item of a list of generators by itself; its annotations know one generator only
        own: Any = [generator(*clip, _DRAWING_IN_STEPS) for clip in keys]
        mean: Tensor | None = None
        for done, (timestep, place) in enumerate(zip(timesteps, places, strict=True), start=1):
            prediction = denoise(latents, timestep).to(latents.dtype)
            if self.mean_guidance != 1 and done < len(timesteps):
                level = torch.full((len(latents),), timestep, device=latents.device)
                guided = process.clean_from(prediction, latents, level)
                mean = guided if mean is None else mean
                guided = torch.lerp(mean, guided, self.mean_guidance)
                prediction = process.prediction_of(guided, latents, level)
            if isinstance(scheduler, DDIMScheduler):
                stepped = scheduler.step(prediction, place, latents, self.eta, generator=own, return_dict=False)
            else:
                stepped = scheduler.step(prediction, place, latents, generator=own, return_dict=False)
            following = timesteps[done] if done < len(timesteps) else None
            latents = _with_outside(stepped[0].to(start.dtype), process, start, outside, following)
            if on_step is not None:
                on_step(done, len(timesteps))
        return latents

    def _prepared(self, process: DiffusionProcess, timesteps: list[int]) -> tuple[Scheduler, list[int]]:
        """A scheduler that goes through these steps, and what it calls each of them."""
        scheduler = process.scheduler(self.method)
        if isinstance(scheduler, DDIMScheduler):
            # diffusers takes "one step earlier" for t - n_steps // steps, which misses the next time step, and the
            # clean end, where steps do not divide n_steps (20 levels at 30 steps). A process of only these steps has
            # no such gaps (respacing, Nichol and Dhariwal 2021); where they do divide, the result is diffusers' own.
            scheduler.alphas_cumprod = process.alphas_cumprod[timesteps[::-1]]
            scheduler.register_to_config(num_train_timesteps=len(timesteps))
            scheduler.set_timesteps(len(timesteps))
            return scheduler, list(range(len(timesteps)))[::-1]
        if isinstance(scheduler, DPMSolverMultistepScheduler):
            scheduler.set_timesteps(timesteps=timesteps)
        else:
            scheduler.set_timesteps(self.steps)
            scheduler.timesteps = torch.tensor(timesteps)
            vars(scheduler)["num_inference_steps"] = len(timesteps)  # annotated as None by its first value
        return scheduler, timesteps


def _at_level(process: DiffusionProcess, clean: Tensor, noise: Tensor, timestep: int) -> Tensor:
    timesteps = torch.full((len(clean),), timestep, device=clean.device)
    return process.add_noise(clean, noise, timesteps).to(noise.dtype)


def _with_outside(
    latents: Tensor, process: DiffusionProcess, start: Tensor, outside: tuple[Tensor, Tensor] | None, level: int | None
) -> Tensor:
    """Put what is known outside the mask in its place, at a noise level; None = clean."""
    if outside is None:
        return latents
    mask, known = outside
    known = known.to(latents.dtype) if level is None else _at_level(process, known, start, level)
    return torch.where(mask == 0, known, latents)
