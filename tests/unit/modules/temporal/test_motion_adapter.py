"""To diffusers and back: the same weights give the same output in its motion UNet, also under AnimateDiff's names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_animatediff_checkpoint_to_diffusers
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.models.unets.unet_motion_model import MotionAdapter, UNetMotionModel
from einops import rearrange
from safetensors.torch import save_file
from torch import Tensor, nn

from pa_lib.errors import PaLibError
from pa_lib.modules.backbones.compact import CompactUNet
from pa_lib.modules.backbones.diffusers_unet import DiffusersUNet
from pa_lib.modules.temporal.content_stabilizer import TemporalContentStabilizer
from pa_lib.modules.temporal.motion_adapter import diffusers_names

from .conftest import GROUPS, HEADS, WIDTHS, Rig, stir

AS_DIFFUSERS = {"heads": HEADS, "groups": GROUPS, "is_norm_per_frame": False}


def attached(rig: Rig, **options: Any) -> TemporalContentStabilizer:
    stabilizer = TemporalContentStabilizer(**AS_DIFFUSERS | options)
    stabilizer.attach(rig.backbone)
    return stabilizer


def adapter(**options: Any) -> MotionAdapter:
    """diffusers' container with random weights everywhere."""
    torch.manual_seed(7)
    made = MotionAdapter(
        **{
            "block_out_channels": WIDTHS,
            "motion_layers_per_block": 2,
            "motion_num_attention_heads": HEADS,
            "motion_norm_num_groups": GROUPS,
        }
        | options
    )
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.2)
    return made


def with_settings(unet: UNet2DConditionModel, settings: dict[str, Any]) -> UNet2DConditionModel:
    """Another UNet of the same size."""
    config = {name: value for name, value in unet.config.items() if not name.startswith("_")}
    return UNet2DConditionModel(**config | settings)


def theirs(rig: Rig, motion: MotionAdapter, frames: int = 3) -> Tensor:
    """What diffusers' own motion UNet predicts with the rig's weights and these."""
    unet = UNetMotionModel.from_unet2d(rig.unet, motion).eval()
    noisy = rearrange(rig.noisy(frames), "b t c h w -> b c t h w")
    predicted = unet(noisy, rig.timesteps, rig.text.states.repeat_interleave(frames, 0)).sample
    return rearrange(predicted, "b c t h w -> b t c h w")


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("use_motion_mid_block", [True, False])
def test_diffusers_weights_give_its_output_here(rig: Rig, use_motion_mid_block: bool, frames: int) -> None:
    motion = adapter(use_motion_mid_block=use_motion_mid_block)
    stabilizer = attached(rig, has_mid=use_motion_mid_block)
    before = rig.predict(frames)
    stabilizer.load_motion_adapter(motion)
    assert (rig.predict(frames) - before).abs().max() > 0.01
    torch.testing.assert_close(rig.predict(frames), theirs(rig, motion, frames), rtol=0, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"has_mid": False}, {"levels": (1,)}, {"levels": (0,), "has_mid": False}])
def test_our_weights_give_our_output_there(rig: Rig, options: dict[str, Any]) -> None:
    """Levels that have no layers here get, there, layers that change nothing."""
    stabilizer = stir(attached(rig, **options))
    torch.testing.assert_close(theirs(rig, stabilizer.motion_adapter()), rig.predict(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message", "least"),
    [
        ({"is_norm_per_frame": True}, r"norms all frames of a clip together, .* \(is_norm_per_frame\);", 1e-3),
        ({"groups": 4}, r"norms 8 groups as in the UNet, these layers 4 \(groups\);", 1e-2),
    ],
)
def test_an_export_that_computes_something_else_is_refused_unless_it_is_asked_for(
    rig: Rig, options: dict[str, Any], message: str, least: float
) -> None:
    stabilizer = stir(attached(rig, **options))
    with pytest.raises(PaLibError, match=message):
        stabilizer.motion_adapter()
    motion = stabilizer.motion_adapter(allow_different=True)
    assert (theirs(rig, motion) - rig.predict()).abs().max() > least


@pytest.mark.parametrize(
    ("settings", "least"),
    [
        ({"act_fn": "gelu"}, 1e-2),
        ({"flip_sin_to_cos": False}, 1e-2),
        ({"freq_shift": 1}, 1e-3),
        ({"timestep_post_act": "silu"}, 1e-2),
        ({"center_input_sample": True}, 1e-2),
    ],
)
def test_a_unet_whose_settings_diffusers_does_not_take_over_is_refused(
    rig: Rig, settings: dict[str, Any], least: float
) -> None:
    torch.manual_seed(0)
    rig.unet = with_settings(rig.unet, settings)
    rig.backbone = DiffusersUNet(unet=rig.unet, condition_channels=0)
    stabilizer = stir(attached(rig))
    ((name, value),) = settings.items()
    with pytest.raises(PaLibError, match=f"does not take over {name}={value} of the UNet"):
        stabilizer.motion_adapter()
    motion = stabilizer.motion_adapter(allow_different=True)
    assert (theirs(rig, motion) - rig.predict()).abs().max() > least


@pytest.mark.parametrize(
    "settings",
    [
        {"norm_eps": 1e-2, "mid_block_scale_factor": 2.0, "use_linear_projection": True, "downsample_padding": 0},
        {"only_cross_attention": [False, False], "transformer_layers_per_block": 2, "dropout": 0.1},
        {"time_cond_proj_dim": 8, "upcast_attention": True, "attention_head_dim": [4, 8]},
    ],
)
def test_settings_that_diffusers_takes_over_are_exported_exactly(rig: Rig, settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    rig.unet = with_settings(rig.unet, settings).eval()
    rig.backbone = DiffusersUNet(unet=rig.unet, condition_channels=0).eval()
    motion = stir(attached(rig)).motion_adapter()
    torch.testing.assert_close(theirs(rig, motion), rig.predict(), rtol=0, atol=1e-5)


def test_layers_without_position_codes_are_exported_exactly(rig: Rig) -> None:
    stabilizer = stir(attached(rig, has_position_codes=False))
    motion = stabilizer.motion_adapter()
    torch.testing.assert_close(theirs(rig, motion), rig.predict(), rtol=0, atol=1e-5)
    stabilizer.load_motion_adapter(motion)
    with pytest.raises(PaLibError, match=r"have no position codes at .* \(has_position_codes True\)"):
        attached(rig).load_motion_adapter(motion)
    with pytest.raises(PaLibError, match=r"have position codes at .* \(has_position_codes False\)"):
        stabilizer.load_motion_adapter(adapter())


def test_codes_in_half_precision_are_taken(rig: Rig) -> None:
    attached(rig).load_motion_adapter(adapter().half().state_dict())


def test_an_export_from_a_plain_unet(rig: Rig) -> None:
    stabilizer = TemporalContentStabilizer(**AS_DIFFUSERS)
    stabilizer.attach(rig.unet)
    stabilizer.frames = 3
    stir(stabilizer)
    torch.testing.assert_close(theirs(rig, stabilizer.motion_adapter()), rig.plain(), rtol=0, atol=1e-5)


def test_the_export_takes_its_own_copy_and_no_random_numbers(rig: Rig) -> None:
    stabilizer = stir(attached(rig, levels=(0,)))
    state = torch.get_rng_state()
    motion = stabilizer.motion_adapter(max_frames=40)
    assert torch.equal(torch.get_rng_state(), state)
    assert motion.config.motion_max_seq_length == 40
    before = {name: weight.clone() for name, weight in motion.state_dict().items()}
    stir(stabilizer).requires_grad_(False).layers["down_0_0"].proj_in.weight.zero_()
    assert all(torch.equal(weight, before[name]) for name, weight in motion.state_dict().items())
    reference = adapter(motion_max_seq_length=40).state_dict()
    codes = [name for name in reference if name.endswith("pos_embed.pe")]
    assert codes
    assert all(torch.equal(before[name], reference[name]) for name in codes)


def test_there_and_back_through_a_folder_of_diffusers(rig: Rig, tmp_path: Path) -> None:
    stabilizer = stir(attached(rig))
    expected = rig.predict()
    stabilizer.motion_adapter().save_pretrained(tmp_path)
    loaded = MotionAdapter.from_pretrained(tmp_path, local_files_only=True)
    for source in (tmp_path, tmp_path / "diffusion_pytorch_model.safetensors", loaded, loaded.state_dict()):
        with torch.no_grad():
            for parameter in stabilizer.parameters():
                parameter.zero_()
        assert not torch.equal(rig.predict(), expected)
        stabilizer.load_motion_adapter(source)
        assert torch.equal(rig.predict(), expected)


def animatediff(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """diffusers' names -> those of AnimateDiff's released files, position codes and all."""
    renamed = {}
    for name, weight in state.items():
        if name.endswith("pos_embed.pe"):
            for number in (0, 1):
                code = name.replace("pos_embed.pe", f"attention_blocks.{number}.pos_encoder.pe")
                renamed[code] = weight
            continue
        for theirs_, originals in {
            "attn1.": "attention_blocks.0.",
            "attn2.": "attention_blocks.1.",
            "norm1.": "norms.0.",
            "norm2.": "norms.1.",
            "norm3.": "ff_norm.",
        }.items():
            name = name.replace(f"transformer_blocks.0.{theirs_}", f"transformer_blocks.0.{originals}")
        head, tail = name.split(".motion_modules.")
        number, rest = tail.split(".", 1)
        renamed[f"{head}.motion_modules.{number}.temporal_transformer.{rest}"] = weight
    return renamed


def test_names_are_those_that_diffusers_converts_too() -> None:
    state = adapter().state_dict()
    converted = convert_animatediff_checkpoint_to_diffusers(animatediff(state))
    ours = diffusers_names(animatediff(state))
    assert ours.keys() == {name for name in state if not name.endswith("pos_embed.pe")}
    assert all(torch.equal(ours[name], converted[name]) for name in ours)


@pytest.mark.parametrize("wrapping", ["plain", "trainer", "ckpt"])
def test_animatediffs_own_names(rig: Rig, wrapping: str, tmp_path: Path) -> None:
    motion = adapter()
    original: Any = animatediff(motion.state_dict())
    assert "down_blocks.0.motion_modules.1.temporal_transformer.transformer_blocks.0.ff_norm.bias" in original
    assert "mid_block.motion_modules.0.temporal_transformer.transformer_blocks.0.norms.1.weight" in original
    if wrapping != "plain":
        original = {"epoch": 3, "state_dict": {f"module.{name}": weight for name, weight in original.items()}}
    if wrapping == "ckpt":
        torch.save(original, tmp_path / "mm.ckpt")
        original = tmp_path / "mm.ckpt"
    stabilizer = attached(rig)
    stabilizer.load_motion_adapter(original)
    torch.testing.assert_close(rig.predict(), theirs(rig, motion), rtol=0, atol=1e-5)


def test_weights_that_do_not_fit_are_named(rig: Rig) -> None:
    state = adapter().state_dict()
    stabilizer = attached(rig)
    before = {name: weight.clone() for name, weight in stabilizer.state_dict().items()}
    lacking = {name: weight for name, weight in state.items() if name != "mid_block.motion_modules.0.proj_in.bias"}
    with pytest.raises(PaLibError, match=r"lack mid_block\.motion_modules\.0\.proj_in\.bias;"):
        stabilizer.load_motion_adapter(lacking)
    with pytest.raises(PaLibError, match=r"hold conv_in\.weight, for which there is no place$"):
        stabilizer.load_motion_adapter(state | {"conv_in.weight": torch.zeros(1)})
    with pytest.raises(PaLibError, match=r"hold .* and \d+ more, .*no layer at mid_0: set has_mid"):
        attached(rig, has_mid=False).load_motion_adapter(state)
    with pytest.raises(PaLibError, match=r"hold .*no layer at down_1_0, down_1_1, up_0_0, up_0_1, up_0_2"):
        attached(rig, levels=(0,)).load_motion_adapter(state)
    with pytest.raises(PaLibError, match=r"norm\.weight has shape \(24,\), the backbone needs \(16,\)"):
        stabilizer.load_motion_adapter(adapter(block_out_channels=(24, 32)).state_dict())
    with pytest.raises(PaLibError, match=r"lack down_blocks\.0\.motion_modules\.1\.norm\.weight, .* and \d+ more"):
        stabilizer.load_motion_adapter(adapter(motion_layers_per_block=1))
    assert all(torch.equal(weight, before[name]) for name, weight in stabilizer.state_dict().items())


def test_an_adapter_of_other_heads_or_groups_is_refused(rig: Rig) -> None:
    stabilizer = attached(rig)
    with pytest.raises(PaLibError, match="has 2 heads at down_0_0, this has 4; set heads"):
        stabilizer.load_motion_adapter(adapter(motion_num_attention_heads=2))
    with pytest.raises(PaLibError, match="norms 4 groups, this 8 at down_0_0; set groups"):
        stabilizer.load_motion_adapter(adapter(motion_norm_num_groups=4))
    with pytest.raises(PaLibError, match="has 8 heads at down_1_0, this has 4"):
        stabilizer.load_motion_adapter(adapter(motion_num_attention_heads=(4, 8)))


def test_files_without_weights_are_refused(rig: Rig, tmp_path: Path) -> None:
    stabilizer = attached(rig)
    with pytest.raises(PaLibError, match="no motion weights at"):
        stabilizer.load_motion_adapter(tmp_path)
    for name in ("bad.safetensors", "bad.ckpt"):
        (tmp_path / name).write_text("no tensors")
        with pytest.raises(PaLibError, match=r"bad\."):
            stabilizer.load_motion_adapter(tmp_path / name)
    torch.save({"state_dict": Path("an object")}, tmp_path / "code.ckpt")
    with pytest.raises(PaLibError, match=r"code\.ckpt is no file of weights that can be loaded safely"):
        stabilizer.load_motion_adapter(tmp_path / "code.ckpt")
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(PaLibError, match="lack down_blocks"):
        stabilizer.load_motion_adapter(tmp_path / "foreign.safetensors")


def test_heads_may_differ_from_level_to_level() -> None:
    backbone = CompactUNet(4, 0, widths=(12, 16), layers=1, attention_levels=(), head_width=4)
    stabilizer = TemporalContentStabilizer(heads=8, groups=4)
    stabilizer.attach(backbone)
    motion = stabilizer.motion_adapter(allow_different=True)  # no UNetMotionModel has such a backbone
    assert motion.config.motion_num_attention_heads == (6, 8)
    stabilizer.load_motion_adapter(motion)


def test_what_no_motion_adapter_can_hold(rig: Rig) -> None:
    backbone = CompactUNet(4, 0, widths=(12, 16), layers=1, attention_levels=(), head_width=4)
    stabilizer = TemporalContentStabilizer()
    stabilizer.attach(backbone)
    with pytest.raises(PaLibError, match=r"same number of groups everywhere, this \[12, 16\]; set groups"):
        stabilizer.motion_adapter(allow_different=True)
    with pytest.raises(PaLibError, match="these are convolution"):
        attached(rig, layer="convolution").motion_adapter()
    with pytest.raises(PaLibError, match="these are convolution"):
        attached(rig, layer="convolution").load_motion_adapter({})

    class Truncated(DiffusersUNet):
        def sites(self) -> Any:
            return super().sites()[:-1]

    odd = TemporalContentStabilizer(**AS_DIFFUSERS)
    odd.attach(Truncated(unet=rig.unet, condition_channels=0))
    with pytest.raises(PaLibError, match="are not laid out as in a MotionAdapter"):
        odd.motion_adapter()
