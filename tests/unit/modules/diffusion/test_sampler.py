"""Samplers find the latents that a perfect network knows, do what diffusers does, and treat every clip by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, LCMScheduler
from torch import Tensor

from pa_lib.errors import PaLibError
from pa_lib.functional.draws import generator, normal
from pa_lib.modules.diffusion.sampler import Sampler
from pa_lib.modules.diffusion.variance_preserving import DiffusionProcess

SHAPE = (2, 3, 4, 6, 6)
CLEAN, START = normal(SHAPE, 5), normal(SHAPE, 6)
KEYS = [(0, 1), (0, 2)]
METHODS = ("ddim", "dpm++", "lcm")
ALL_PROCESSES = [("epsilon", False), ("v_prediction", False), ("v_prediction", True), ("sample", True)]
SD: dict[str, Any] = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def knowing(process: DiffusionProcess, clean: Tensor) -> Callable[[Tensor, int], Tensor]:
    """A network that knows the clean latents."""

    def denoise(noisy: Tensor, timestep: int) -> Tensor:
        alpha = process.alphas_cumprod[timestep]
        noise = (noisy - alpha.sqrt() * clean) / (1 - alpha).sqrt()
        return process.target(clean, noise, torch.full((len(noisy),), timestep))

    return denoise


def wavy(noisy: Tensor, timestep: int) -> Tensor:
    """Some network: not linear, different at every step, every frame by itself."""
    return torch.sin(noisy * 1.3 + timestep / 300) * 0.9


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("prediction", "is_zero"), ALL_PROCESSES)
@pytest.mark.parametrize("steps", [1, 7, 30])
def test_what_the_network_knows_is_found(method: Any, prediction: Any, is_zero: bool, steps: int) -> None:
    process = DiffusionProcess(prediction=prediction, is_zero_terminal_snr=is_zero)
    found = Sampler(method, steps).sample(knowing(process, CLEAN), START, process, KEYS)
    # diffusers' DPM-Solver takes 2^-24 for a zero signal; its root, 2.4e-4, of the start then stays in the latents
    torch.testing.assert_close(found, CLEAN, atol=1e-3, rtol=0)


@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_ddim_is_diffusers_own_loop_where_steps_divide(eta: float) -> None:
    reference = DDIMScheduler(**SD, clip_sample=False, set_alpha_to_one=True, timestep_spacing="trailing")
    reference.set_timesteps(20)
    latents, draws = START[:1], generator(*KEYS[0], 0x57E95)
    for step in reference.timesteps:
        stepped = reference.step(wavy(latents, int(step)), int(step), latents, eta=eta, generator=draws)
        latents = stepped.prev_sample
    found = Sampler(steps=20, eta=eta).sample(wavy, START[:1], DiffusionProcess(), KEYS[:1])
    torch.testing.assert_close(found, latents, atol=1e-5, rtol=1e-5)


def test_dpm_is_diffusers_own_loop() -> None:
    reference = DPMSolverMultistepScheduler(**SD, timestep_spacing="trailing")
    reference.set_timesteps(10)
    latents = START
    for step in reference.timesteps:
        latents = reference.step(wavy(latents, int(step)), int(step), latents).prev_sample
    found = Sampler("dpm++", steps=10).sample(wavy, START, DiffusionProcess(), KEYS)
    torch.testing.assert_close(found, latents, atol=1e-5, rtol=1e-5)


def test_lcm_is_diffusers_own_loop() -> None:
    reference = LCMScheduler(**SD)
    reference.set_timesteps(4)
    latents, draws = START[:1], generator(*KEYS[0], 0x57E95)
    for step in reference.timesteps:
        latents = reference.step(wavy(latents, int(step)), int(step), latents, generator=draws).prev_sample
    found = Sampler("lcm", steps=4).sample(wavy, START[:1], DiffusionProcess(), KEYS[:1])
    torch.testing.assert_close(found, latents, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("method", "eta"), [("ddim", 0.0), ("ddim", 1.0), ("dpm++", 0.0), ("lcm", 0.0)])
def test_two_clips_together_are_each_alone(method: Any, eta: float) -> None:
    process, sampler = DiffusionProcess(), Sampler(method, steps=5, eta=eta)
    together = sampler.sample(wavy, START, process, KEYS)
    for index, own in enumerate(KEYS):
        part = slice(index, index + 1)
        assert torch.equal(together[part], sampler.sample(wavy, START[part], process, [own]))
    if eta or method == "lcm":  # what a step draws comes from the keys
        assert not torch.equal(together[:1], sampler.sample(wavy, START[:1], process, [(9, 9)]))


@pytest.mark.parametrize("steps", [1, 3, 7, 20, 33, 1000])
def test_time_steps_begin_at_the_noisiest_and_go_down_evenly(steps: int) -> None:
    found = Sampler(steps=steps).timesteps(DiffusionProcess())
    assert len(found) == steps
    assert found[0] == 999
    gaps = [step - following for step, following in zip(found, [*found[1:], -1], strict=True)]
    assert min(gaps) >= 1
    assert max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize("method", METHODS)
def test_a_partial_start_begins_with_the_source_at_that_level(method: Any) -> None:
    process, source, seen = DiffusionProcess(), normal(SHAPE, 8), []

    def denoise(noisy: Tensor, timestep: int) -> Tensor:
        seen.append((noisy, timestep))
        return knowing(process, CLEAN)(noisy, timestep)

    sampler = Sampler(method, steps=10, init_strength=0.4)
    found = sampler.sample(denoise, START, process, KEYS, clean=source)
    torch.testing.assert_close(found, CLEAN, atol=5e-4, rtol=0)
    assert [step for _, step in seen] == Sampler(method, steps=10).timesteps(process)[6:]
    first = torch.full((2,), seen[0][1])
    torch.testing.assert_close(seen[0][0], process.add_noise(source, START, first))


@pytest.mark.parametrize("method", METHODS)
def test_the_source_has_no_say_at_full_strength(method: Any) -> None:
    process, sampler = DiffusionProcess(), Sampler(method, steps=4)
    plain = sampler.sample(wavy, START, process, KEYS)
    assert torch.equal(plain, sampler.sample(wavy, START, process, KEYS, clean=CLEAN))


@pytest.mark.parametrize("method", METHODS)
def test_outside_the_mask_the_known_latents_stand_at_every_level(method: Any) -> None:
    process, known, seen = DiffusionProcess(), normal(SHAPE, 9), []
    mask = torch.zeros(2, 3, 1, 6, 6)
    mask[..., 2:4, 2:4], mask[..., 4, 4] = 1, 0.3
    outside = (mask == 0).expand(SHAPE)

    def denoise(noisy: Tensor, timestep: int) -> Tensor:
        expected = process.add_noise(known, START, torch.full((2,), timestep))
        seen.append(bool((noisy[outside] == expected[outside]).all()))
        return wavy(noisy, timestep)

    sampler = Sampler(method, steps=4)
    found = sampler.sample(denoise, START, process, KEYS, outside=(mask, known))
    assert seen == [True] * 4
    assert torch.equal(found[outside], known[outside])
    alone = sampler.sample(wavy, START, process, KEYS)
    assert torch.equal(found[~outside], alone[~outside])  # this network looks at every latent by itself


def test_half_precision_predictions_keep_the_latents_type() -> None:
    found = Sampler("dpm++", steps=3).sample(
        lambda noisy, step: wavy(noisy, step).bfloat16(), START, DiffusionProcess(), KEYS
    )
    assert found.dtype == torch.float32
    torch.testing.assert_close(
        found, Sampler("dpm++", steps=3).sample(wavy, START, DiffusionProcess(), KEYS), atol=0.2, rtol=0.05
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "euler"}, "unknown sampler 'euler'; choose ddim, dpm\\+\\+, lcm, flow_euler"),
        ({"steps": 0}, "steps"),
        ({"eta": 1.5}, "eta"),
        ({"eta": 0.5, "method": "lcm"}, "only method=ddim"),
        ({"init_strength": 0.0}, "init_strength"),
        ({"init_strength": 1.1}, "init_strength"),
    ],
)
def test_senseless_settings_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(PaLibError, match=message):
        Sampler(**arguments)


def test_too_many_steps_missing_sources_and_missing_keys_are_refused() -> None:
    process = DiffusionProcess()
    for sampler, most in ((Sampler(steps=1001), 1000), (Sampler("lcm", steps=51), 50)):
        with pytest.raises(PaLibError, match=f"at most {most}"):
            sampler.sample(wavy, START, process, KEYS)
    with pytest.raises(PaLibError, match="pass clean"):
        Sampler(init_strength=0.5).sample(wavy, START, process, KEYS)
    with pytest.raises(ValueError, match="1 keys were given for 2 clips"):
        Sampler().sample(wavy, START, process, KEYS[:1])
