"""What weights predict is read from their folder; a process that contradicts it is refused, with one that fits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler, UNet2DConditionModel
from hypothesis import given, settings
from hypothesis import strategies as st

from pa_lib.cli.compose import build, compose
from pa_lib.errors import SettingError
from pa_lib.modules import DiffusersUNet, FlowMatching, VariancePreserving
from pa_lib.modules.diffusion.trained import fitting_choice, noise_problem
from pa_lib.modules.fit import check_fit

SD: dict[str, Any] = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
CONFIG = {
    "in_channels": 9,
    "block_out_channels": [8, 16],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 2,
    "cross_attention_dim": 8,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
}


def folder(path: Path, scheduler: Any) -> str:
    """A pipeline's folder as diffusers writes it: a network, and the scheduler that it was trained with."""
    UNet2DConditionModel(**CONFIG).save_pretrained(path / "unet")
    scheduler.save_pretrained(path / "scheduler")
    return str(path)


def test_an_epsilon_network_takes_epsilon_alone(tmp_path: Path) -> None:
    backbone = DiffusersUNet(folder(tmp_path, DDIMScheduler(**SD, prediction_type="epsilon")))
    check_fit([backbone, VariancePreserving()])
    with pytest.raises(SettingError, match=r"trained with prediction=epsilon.*choose module/diffusion=sd$"):
        check_fit([backbone, VariancePreserving(prediction="sample", is_zero_terminal_snr=True)])
    with pytest.raises(SettingError, match=r"process=VariancePreserving, got process=FlowMatching; .*diffusion=sd$"):
        check_fit([backbone, FlowMatching()])
    unchecked = DiffusersUNet(str(tmp_path), is_noise_checked=False)
    check_fit([unchecked, VariancePreserving(beta_schedule="linear")])


def test_a_velocity_network_takes_its_own_betas_alone(tmp_path: Path) -> None:
    scheduler = DDIMScheduler(**SD, prediction_type="v_prediction")
    backbone = DiffusersUNet(folder(tmp_path, scheduler) + "/unet")
    check_fit([backbone, VariancePreserving(prediction="v_prediction")])
    with pytest.raises(SettingError, match=r"choose module/diffusion=v module.diffusion.is_zero_terminal_snr=false$"):
        check_fit([backbone, VariancePreserving()])


def test_a_folder_that_does_not_say_is_taken(tmp_path: Path) -> None:
    UNet2DConditionModel(**CONFIG).save_pretrained(tmp_path)
    check_fit([DiffusersUNet(str(tmp_path)), FlowMatching()])
    (tmp_path / "scheduler").mkdir()
    (tmp_path / "scheduler" / "scheduler_config.json").write_text("{")
    check_fit([DiffusersUNet(str(tmp_path)), FlowMatching()])


def test_flow_weights_take_flow_matching() -> None:
    theirs = json.loads(FlowMatchEulerDiscreteScheduler(shift=3.0).to_json_string())
    assert noise_problem(FlowMatching(), theirs, "sd3") is None
    problem = noise_problem(VariancePreserving(), theirs, "sd3")
    assert problem is not None
    assert problem.endswith("choose module/diffusion=flow module/sampler=flow_euler")


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from(["epsilon", "v_prediction", "sample"]),
    st.booleans(),
    st.sampled_from(["linear", "scaled_linear"]),
    st.sampled_from([500, 1000]),
)
def test_the_choice_that_is_named_fits(prediction: Any, is_zero: bool, schedule: Any, steps: int) -> None:
    """Taken as command-line overrides, it builds a process that the scheduler does not contradict."""
    theirs = {
        **SD,
        "prediction_type": prediction,
        "rescale_betas_zero_snr": is_zero and prediction != "epsilon",
        "beta_schedule": schedule,
        "num_train_timesteps": steps,
    }
    config = compose("train", ["module=passersby", *fitting_choice(theirs).split(" ")])
    assert noise_problem(build(config["module"]["diffusion"]), theirs, "x") is None
