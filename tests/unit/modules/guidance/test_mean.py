"""Mean guidance on a process whose best prediction is known in closed form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from pa_lib.errors import SettingError
from pa_lib.functional.draws import normal
from pa_lib.modules import DiffusionProcess, MeanGuidance, Sampler, SamplingStart

SHAPE = (2, 3, 4, 6, 6)
START = normal(SHAPE, 6)
KEYS = [(0, 1), (0, 2)]
Network = Callable[[Tensor, int], Tensor]


def guided(network: Network, scale: float, process: DiffusionProcess, last: int) -> Network:
    """The network with mean guidance in every step but the last."""
    start = SamplingStart(process, decode=lambda latents: latents, without=lambda names: None)
    correct = MeanGuidance(scale).prepare(start).correct
    assert correct is not None

    def denoise(noisy: Tensor, timestep: int) -> Tensor:
        prediction = network(noisy, timestep)
        levels = torch.full((len(noisy),), timestep)
        return prediction if timestep == last else correct(prediction, noisy, levels)

    return denoise


def wavy(noisy: Tensor, timestep: int) -> Tensor:
    return torch.sin(noisy * 1.3 + timestep / 300) * 0.9


def of_a_gaussian(process: DiffusionProcess, last: int, share: float) -> Callable[[Tensor, int], Tensor]:
    """What is known of independent numbers of mean 0.3 and variance 0.5; all but the last time, a share of it.

    The best guess of x_0 is its mean, plus cov(x_0, x_t) / var(x_t) of what x_t is above its own.
    """

    def denoise(noisy: Tensor, timestep: int) -> Tensor:
        alpha = process.alphas_cumprod[timestep]
        guess = 0.5 * alpha.sqrt() / (0.5 * alpha + 1 - alpha) * (noisy - 0.3 * alpha.sqrt())
        clean = 0.3 + guess * (1 if timestep == last else share)
        return process.prediction_of(clean, noisy, torch.full((len(noisy),), timestep))

    return denoise


@pytest.mark.parametrize("prediction", ["v_prediction", "sample"])
@pytest.mark.parametrize("method", ["ddim", "dpm++"])
def test_mean_guidance_gives_back_what_a_network_withholds(method: Any, prediction: Any) -> None:
    process = DiffusionProcess(prediction=prediction, is_zero_terminal_snr=True)
    last = Sampler(method, 10).timesteps(process)[-1]
    right = Sampler(method, 10).sample(of_a_gaussian(process, last, 1.0), START, process, KEYS)
    shy = Sampler(method, 10).sample(of_a_gaussian(process, last, 0.8), START, process, KEYS)
    further = guided(of_a_gaussian(process, last, 0.8), 1.25, process, last)
    found = Sampler(method, 10).sample(further, START, process, KEYS)
    torch.testing.assert_close(found, right, atol=2e-3, rtol=0)  # of diffusers' 2^-24, as above
    assert float(shy.std()) < 0.9 * float(right.std())


@pytest.mark.parametrize("steps", [1, 2])
def test_it_needs_a_step_between_the_first_and_the_last(steps: int) -> None:
    process = DiffusionProcess(prediction="sample")
    last = Sampler(steps=steps).timesteps(process)[-1]
    one, other = (
        Sampler(steps=steps).sample(network, START, process, KEYS)
        for network in (wavy, guided(wavy, 3.0, process, last))
    )
    torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


@pytest.mark.parametrize("scale", [-0.5, float("nan"), float("inf")])
def test_senseless_scales_are_refused(scale: float) -> None:
    with pytest.raises(SettingError, match="scale of mean guidance"):
        MeanGuidance(scale)


def test_a_scale_of_one_is_off() -> None:
    assert not MeanGuidance(1.0).is_active
    assert MeanGuidance(1.25).is_active
    assert not MeanGuidance(1.25).looks_at_hidden
