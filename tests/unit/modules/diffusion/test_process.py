"""The forward process against diffusers' own, and its draws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler

from pa_lib.errors import PaLibError
from pa_lib.functional.draws import normal
from pa_lib.modules.diffusion.variance_preserving import DiffusionProcess

SHAPE = (3, 2, 4, 5, 6)
CLEAN, NOISE = normal(SHAPE, 1), normal(SHAPE, 2)
STEPS = torch.tensor([0, 500, 999])
SD = {"num_train_timesteps": 1000, "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
PREDICTIONS = ("epsilon", "v_prediction", "sample")


def test_noise_and_velocity_are_those_of_diffusers() -> None:
    reference = DDPMScheduler(**SD)
    process = DiffusionProcess(prediction="v_prediction")
    torch.testing.assert_close(process.add_noise(CLEAN, NOISE, STEPS), reference.add_noise(CLEAN, NOISE, STEPS))
    torch.testing.assert_close(process.target(CLEAN, NOISE, STEPS), reference.get_velocity(CLEAN, NOISE, STEPS))


def test_levels_are_those_of_the_closed_form() -> None:
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    alphas = np.cumprod(1 - betas)[STEPS]
    snr = DiffusionProcess().snr(STEPS)
    assert snr.dtype == torch.float32
    np.testing.assert_allclose(snr.numpy(), alphas / (1 - alphas), rtol=2e-4)
    noisy = DiffusionProcess().add_noise(CLEAN, NOISE, STEPS).numpy()
    root = lambda values: np.sqrt(values)[:, None, None, None, None]  # noqa: E731
    np.testing.assert_allclose(noisy, root(alphas) * CLEAN.numpy() + root(1 - alphas) * NOISE.numpy(), atol=1e-5)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_target_leads_back_to_the_clean_latents(prediction: Any) -> None:
    process = DiffusionProcess(prediction=prediction)
    noisy = process.add_noise(CLEAN, NOISE, STEPS)
    found = process.clean_from(process.target(CLEAN, NOISE, STEPS), noisy, STEPS)
    torch.testing.assert_close(found, CLEAN, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_prediction_of_clean_latents_leads_to_them(prediction: Any) -> None:
    process = DiffusionProcess(prediction=prediction)
    found = process.clean_from(process.prediction_of(CLEAN, NOISE, STEPS), NOISE, STEPS)
    torch.testing.assert_close(found, CLEAN, atol=1e-4, rtol=1e-4)


def test_targets_are_what_they_are_called() -> None:
    assert DiffusionProcess(prediction="epsilon").target(CLEAN, NOISE, STEPS) is NOISE
    assert DiffusionProcess(prediction="sample").target(CLEAN, NOISE, STEPS) is CLEAN


def test_zero_terminal_snr_ends_in_noise_alone() -> None:
    process = DiffusionProcess(prediction="v_prediction", is_zero_terminal_snr=True)
    assert float(process.snr(torch.tensor([999]))) == 0
    assert torch.equal(process.add_noise(CLEAN, NOISE, torch.tensor([999] * 3)), NOISE)


def test_half_precision_stays_close_and_keeps_its_type() -> None:
    process = DiffusionProcess()
    exact = process.add_noise(CLEAN, NOISE, STEPS)
    half = process.add_noise(CLEAN.bfloat16(), NOISE.bfloat16(), STEPS)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), exact, atol=0.05, rtol=0.02)


@pytest.mark.parametrize("timesteps", ["uniform", "logit_normal"])
def test_time_steps_come_from_each_clips_keys_alone(timesteps: Any) -> None:
    process = DiffusionProcess(timesteps=timesteps)
    keys = [(0, clip, 3) for clip in range(6)]
    together = process.draw_timesteps(keys)
    assert together.dtype == torch.int64
    assert together.tolist() == [int(process.draw_timesteps([own])) for own in keys]
    assert len(set(together.tolist())) > 3


def test_uniform_time_steps_are_uniform() -> None:
    drawn = DiffusionProcess().draw_timesteps([(0, clip) for clip in range(4000)]).numpy()
    assert drawn.min() >= 0
    assert drawn.max() <= 999
    counts = np.histogram(drawn, bins=10, range=(0, 1000))[0]
    assert (((counts - 400) ** 2) / 400).sum() < 35


def test_logit_normal_time_steps_follow_their_quantiles() -> None:
    drawn = DiffusionProcess(timesteps="logit_normal").draw_timesteps([(0, clip) for clip in range(4000)]) / 1000
    # sigmoid keeps order, so quantiles are the sigmoids of the normal distribution's: -1, 0, 1 at 15.87, 50, 84.13 %
    expected = 1 / (1 + np.exp(-np.array([-1.0, 0.0, 1.0])))
    np.testing.assert_allclose(np.quantile(drawn.numpy(), [0.1587, 0.5, 0.8413]), expected, atol=0.02)


def test_time_steps_are_independent_of_noise_drawn_from_the_same_keys() -> None:
    keys = [(0, clip) for clip in range(3000)]
    steps = DiffusionProcess().draw_timesteps(keys).double().numpy()
    noise = np.array([float(normal((), *own)) for own in keys])
    assert abs(np.corrcoef(steps, noise)[0, 1]) < 4.5 / np.sqrt(3000)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({"prediction": "noise"}, "unknown prediction 'noise'", marks=pytest.mark.wrong_types),
        pytest.param({"beta_schedule": "cosine"}, "unknown beta_schedule 'cosine'", marks=pytest.mark.wrong_types),
        pytest.param({"timesteps": "normal"}, "unknown timesteps 'normal'", marks=pytest.mark.wrong_types),
        ({"n_steps": 0}, "n_steps"),
        ({"beta_start": 0.5, "beta_end": 0.1}, "betas"),
        ({"is_zero_terminal_snr": True}, "does not go with prediction=epsilon"),
    ],
)
def test_senseless_settings_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(PaLibError, match=message):
        DiffusionProcess(**arguments)
