"""Flow matching against diffusers' own scheduler, and a tiny system that learns and samples with it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import _heads
from pa_lib.errors import SettingError
from pa_lib.functional.draws import normal
from pa_lib.modules import FlowMatching, InpaintingRequest, Sampler, VariancePreserving, interference

SHAPE = (3, 2, 4, 5, 6)
CLEAN, NOISE = normal(SHAPE, 1), normal(SHAPE, 2)
LEVELS = torch.tensor([0, 400, 999])


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_levels_and_noise_are_those_of_diffusers(shift: float) -> None:
    process, theirs = FlowMatching(shift=shift), FlowMatchEulerDiscreteScheduler(shift=shift)
    torch.testing.assert_close(process.sigmas.flip(0), theirs.sigmas)
    times = process.network_time(torch.arange(1000))
    torch.testing.assert_close(times.flip(0), theirs.timesteps)
    expected = theirs.scale_noise(CLEAN, theirs.timesteps[999 - LEVELS], NOISE)
    torch.testing.assert_close(process.add_noise(CLEAN, NOISE, LEVELS), expected)


@settings(deadline=None, max_examples=30)
@given(st.floats(0.2, 8), st.integers(0, 999))
def test_a_prediction_leads_to_the_clean_latents_and_back(shift: float, level: int) -> None:
    process, levels = FlowMatching(shift=shift), torch.full((3,), level)
    noisy, target = process.add_noise(CLEAN, NOISE, levels), process.target(CLEAN, NOISE, levels)
    torch.testing.assert_close(target, NOISE - CLEAN)
    torch.testing.assert_close(process.clean_from(target, noisy, levels), CLEAN, atol=1e-4, rtol=1e-4)
    back = process.clean_from(process.prediction_of(CLEAN, NOISE, levels), NOISE, levels)
    torch.testing.assert_close(back, CLEAN, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(("steps", "shift"), [(1, 1.0), (7, 1.0), (20, 3.0)])
def test_sampling_is_diffusers_own_loop(steps: int, shift: float) -> None:
    def wavy(noisy: Tensor, time: Tensor) -> Tensor:
        return torch.sin(noisy * 1.3 + time / 300) * 0.9

    process, theirs = FlowMatching(shift=shift), FlowMatchEulerDiscreteScheduler(shift=shift)
    sampler = Sampler("flow_euler", steps)
    theirs.set_timesteps(sigmas=[(level + 1) / 1000 for level in sampler.timesteps(process)])
    expected = NOISE
    for time in theirs.timesteps:
        expected = theirs.step(wavy(expected, time), time, expected, return_dict=False)[0]
    found = sampler.sample(
        lambda noisy, level: wavy(noisy, process.network_time(torch.tensor([level]))), NOISE, process, [(0,)] * 3
    )
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("steps", [1, 5])
def test_what_the_network_knows_is_found(steps: int) -> None:
    process = FlowMatching(shift=2.0)

    def knowing(noisy: Tensor, level: int) -> Tensor:
        return process.prediction_of(CLEAN, noisy, torch.full((3,), level))

    found = Sampler("flow_euler", steps).sample(knowing, NOISE, process, [(0,)] * 3)
    torch.testing.assert_close(found, CLEAN, atol=1e-4, rtol=0)


def test_samplers_and_processes_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(SettingError, match=r"noise process is FlowMatching; choose flow_euler \(module/sampler\)"):
        Sampler("ddim").timesteps(FlowMatching())
    with pytest.raises(SettingError, match="choose ddim or dpm\\+\\+ or lcm"):
        Sampler("flow_euler").timesteps(VariancePreserving())
    with pytest.raises(SettingError, match="shift of flow matching is 0"):
        FlowMatching(shift=0)


def test_a_tiny_system_learns_and_anonymizes_with_it() -> None:
    flow: dict[str, Any] = {
        "diffusion": {"_target_": "pa_lib.modules.FlowMatching", "shift": 2.0},
        "sampler": {"_target_": "pa_lib.modules.Sampler", "method": "flow_euler", "steps": 2},
    }
    made = _heads.painter(**flow)
    frames, masks = torch.rand(2, 3, 3, 16, 16), torch.ones(2, 3, 1, 16, 16)
    optimizer = torch.optim.Adam(made.parameters(), 1e-3)
    losses = []
    for _ in range(2):
        found = made.inpainter.denoised(InpaintingRequest(frames, masks, [(0, 1), (0, 2)]))
        losses.append(made.loss(found.prediction, found.target, found.mask, found.snr, made.diffusion.prediction))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[1] < losses[0]
    assert made.is_non_interfering
    assert interference(made, _heads.clip(), _heads.people()) == 0
