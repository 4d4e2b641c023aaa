"""DiffusersUNet against the diffusers network that it wraps, called by hand."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from _backbones import predict
from pa_lib.errors import PaLibError
from pa_lib.modules.backbones.base import on_sample
from pa_lib.modules.backbones.context import TextCondition
from pa_lib.modules.backbones.diffusers_unet import DiffusersUNet

TINY: dict[str, Any] = {
    "block_out_channels": [8, 16],
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 2,
    "cross_attention_dim": 12,
}
SDXL = TINY | {
    "in_channels": 9,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 4,
    "projection_class_embeddings_input_dim": 6 * 4 + 10,
    "use_linear_projection": True,
}
SD15: dict[str, Any] = {"cross_attention_dim": 768}  # the rest are diffusers' defaults


def raw(seed: int = 0, **changes: Any) -> UNet2DConditionModel:
    torch.manual_seed(seed)
    return UNet2DConditionModel(**(TINY | changes)).eval()


def clips(seed: int = 1, frames: int = 3, channels: int = 4, condition: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    noisy = torch.randn(2, frames, channels, 8, 8, generator=draw)
    return noisy, torch.tensor([7, 900]), torch.randn(2, frames, condition, 8, 8, generator=draw)


def text(width: int = 12, clips: int = 2, pooled: int | None = None, seed: int = 2) -> TextCondition:
    draw = torch.Generator().manual_seed(seed)
    states = torch.randn(clips, 5, width, generator=draw)
    return TextCondition(states, None if pooled is None else torch.randn(clips, pooled, generator=draw))


def test_frames_go_through_one_by_one() -> None:
    unet = raw(in_channels=9)
    backbone = DiffusersUNet(unet=copy.deepcopy(unet))
    noisy, steps, condition = clips()
    with torch.no_grad():
        predicted = predict(backbone, noisy, steps, condition, text())
        for clip in range(2):
            for frame in range(3):
                image = torch.cat([noisy[clip, frame], condition[clip, frame]])[None]
                alone = unet(image, steps[clip], text().states[clip : clip + 1]).sample[0]
                torch.testing.assert_close(predicted[clip, frame], alone, atol=1e-6, rtol=1e-5)
    assert predicted.shape == noisy.shape
    assert backbone.context is None  # between two passes


@settings(deadline=None, max_examples=8)
@given(st.integers(0, 999), st.integers(1, 8), st.floats(-100, 100))
def test_a_widened_unet_starts_as_the_base_whatever_the_condition_is(seed: int, extra: int, size: float) -> None:
    unet = raw(seed)
    backbone = DiffusersUNet(unet=copy.deepcopy(unet), condition_channels=extra)
    noisy, steps, condition = clips(seed, frames=1, condition=extra)
    with torch.no_grad():
        predicted = predict(backbone, noisy, steps, condition * size, text())
        base = unet(noisy[:, 0], steps, text().states).sample
    torch.testing.assert_close(predicted[:, 0], base, atol=1e-5, rtol=1e-4)
    assert backbone.unet.config["in_channels"] == 4 + extra


def test_zero_weights_of_the_condition_get_a_gradient() -> None:
    backbone = DiffusersUNet(unet=raw())
    noisy, steps, condition = clips()
    predict(backbone, noisy, steps, condition, text()).square().sum().backward()
    gradient = backbone.unet.conv_in.weight.grad
    assert gradient is not None
    assert (gradient[:, 4:].abs().sum(dim=(0, 2, 3)) > 0).all()


def test_channel_order_is_noisy_mask_background() -> None:
    seen: list[Tensor] = []
    backbone = DiffusersUNet(unet=raw(in_channels=9))
    backbone.unet.conv_in.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    noisy, steps, condition = clips()
    predict(backbone, noisy, steps, condition, text())
    assert torch.equal(seen[0][:, :4], noisy.flatten(0, 1))
    assert torch.equal(seen[0][:, 4:], condition.flatten(0, 1))


def test_without_a_condition() -> None:
    backbone = DiffusersUNet(unet=raw(), condition_channels=0)
    noisy, steps, condition = clips()
    assert predict(backbone, noisy, steps, text=text()).shape == noisy.shape
    assert backbone.unet.conv_in.in_channels == 4
    with pytest.raises(PaLibError, match="got 5 condition channels, expected 0"):
        predict(backbone, noisy, steps, condition, text())


def test_every_weight_gets_a_gradient_and_bf16_is_close() -> None:
    backbone = DiffusersUNet(unet=raw(in_channels=9))
    noisy, steps, condition = clips()
    full = predict(backbone, noisy, steps, condition, text())
    full.square().mean().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in backbone.parameters())
    half = predict(backbone.bfloat16(), noisy.bfloat16(), steps, condition.bfloat16(), text())
    assert half.dtype == torch.bfloat16
    assert (half.float() - full).norm() / full.norm() < 0.05


@pytest.mark.parametrize("make", [lambda: DiffusersUNet(unet=raw()), lambda: DiffusersUNet(config=TINY)])
def test_state_round_trip(make: Any) -> None:
    first, second = make(), DiffusersUNet(config=TINY)
    second.load_state_dict(first.state_dict())
    noisy, steps, condition = clips()
    with torch.no_grad():
        predicted = predict(first.eval(), noisy, steps, condition, text())
        assert torch.equal(predict(second.eval(), noisy, steps, condition, text()), predicted)


class Doubling(nn.Module):
    """A guest: its hook is a bound method with a weight of its own."""

    def __init__(self, backbone: DiffusersUNet) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(2.0))
        self.running = backbone.running
        self.seen: list[int] = []
        backbone.sites()[0].module.register_forward_hook(self.scale)

    def scale(self, module: nn.Module, given: Any, output: Any) -> Any:
        assert self.running.current is not None
        self.seen.append(self.running.current.frames)
        return on_sample(output, lambda sample: sample * self.factor)


def test_a_deep_copy_is_hooked_to_its_own_copies() -> None:
    backbone = DiffusersUNet(unet=raw(in_channels=9))
    system = nn.ModuleDict({"backbone": backbone, "guest": Doubling(backbone)}).eval()
    twin = copy.deepcopy(system)
    noisy, steps, condition = clips()
    with torch.no_grad():
        before = predict(system["backbone"], noisy, steps, condition, text())
        twin["guest"].factor.fill_(0.5)
        assert torch.equal(predict(system["backbone"], noisy, steps, condition, text()), before)
        assert not torch.allclose(
            predict(twin["backbone"], noisy[:, :2], steps, condition[:, :2], text()), before[:, :2]
        )
    assert system["guest"].seen == [3, 3]
    assert twin["guest"].seen == [2]
    assert twin["guest"].running is twin["backbone"].running
    assert twin["guest"].running is not system["backbone"].running


def test_sites_of_stable_diffusion_1() -> None:
    with torch.device("meta"):
        backbone = DiffusersUNet(unet=UNet2DConditionModel(**SD15))
    sites = backbone.sites()
    names = [f"down_{level}_{layer}" for level in range(4) for layer in range(2)] + ["mid_0"]
    names += [f"up_{level}_{layer}" for level in range(4) for layer in range(3)]
    assert [site.name for site in sites] == names
    down, up = [320, 320, 640, 640, 1280, 1280, 1280, 1280], [1280] * 6 + [640] * 3 + [320] * 3
    assert [site.channels for site in sites] == [*down, 1280, *up]
    without = [site.name for site in sites if not site.has_attention]
    assert without == ["down_3_0", "down_3_1", "up_0_0", "up_0_1", "up_0_2"]
    projections = backbone.attention_projections()
    assert len(projections) == 16 * 2 * 4
    assert all(isinstance(layer, nn.Linear) for layer in projections.values())
    assert "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q" in projections
    assert projections["mid_block.attentions.0.transformer_blocks.0.attn2.to_k"].in_features == 768
    assert backbone.unet.conv_in.weight.shape == (320, 9, 3, 3)
    assert (backbone.text_width, backbone.channels, backbone.is_text_optional) == (768, 4, False)


def test_sites_run_in_their_order_and_have_their_channels() -> None:
    backbone = DiffusersUNet(unet=raw(in_channels=9))
    ran: list[tuple[str, int]] = []
    for site in backbone.sites():
        site.module.register_forward_hook(
            lambda _, __, output, name=site.name: on_sample(output, lambda x: ran.append((name, x.shape[1])) or x)
        )
    noisy, steps, condition = clips()
    predict(backbone, noisy, steps, condition, text())
    assert ran == [(site.name, site.channels) for site in backbone.sites()]


@pytest.mark.parametrize("later", [3, 1])
def test_gradient_checkpointing_gives_the_same_gradient(later: int) -> None:
    """Also where a clip of another length goes through before the backward pass."""
    noisy, steps, condition = clips()
    gradients = []
    for is_checkpointing in (False, True):
        backbone = DiffusersUNet(unet=raw(in_channels=9))
        guest = Doubling(backbone)
        if is_checkpointing:
            backbone.use_gradient_checkpointing()
        loss = predict(backbone, noisy, steps, condition, text()).square().mean()
        loss = loss + predict(backbone, noisy[:, :later], steps, condition[:, :later], text()).mean()
        loss.backward()
        assert set(guest.seen) == {3, later}
        gradients.append([weight.grad for weight in [*backbone.parameters(), guest.factor]])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed, atol=1e-6, rtol=1e-5)


def test_recomputing_sees_the_context_of_its_own_forward() -> None:
    backbone = DiffusersUNet(unet=raw(in_channels=9))
    backbone.use_gradient_checkpointing()
    twin = copy.deepcopy(backbone)
    seen: list[int] = []
    twin.sites()[1].module.register_forward_pre_hook(lambda *_: seen.append(twin.context.frames if twin.context else 0))
    noisy, steps, condition = clips()
    long = predict(twin, noisy, steps, condition, text())
    predict(twin, noisy[:, :1], steps, condition[:, :1], text())
    long.sum().backward()
    assert seen == [3, 1, 3]  # the last is the recomputation of the long clip, after the short one
    assert backbone.context is None
    assert twin.context is None


def test_sdxl_takes_pooled_text_and_sizes() -> None:
    unet = raw(**{key: value for key, value in SDXL.items() if key not in TINY})
    backbone = DiffusersUNet(unet=copy.deepcopy(unet))
    noisy, steps, condition = clips()
    given = text(pooled=10)
    assert given.pooled is not None
    with torch.no_grad():
        predicted = predict(backbone, noisy, steps, condition, given)
        size = torch.tensor([64.0, 64.0, 0.0, 0.0, 64.0, 64.0])  # 8 latents of 8 px
        alone = unet(
            torch.cat([noisy, condition], 2)[:, 1],
            steps,
            given.states,
            added_cond_kwargs={"text_embeds": given.pooled, "time_ids": size.expand(2, -1)},
        ).sample
    torch.testing.assert_close(predicted[:, 1], alone, atol=1e-6, rtol=1e-5)
    with pytest.raises(PaLibError, match="wants pooled text"):
        predict(backbone, noisy, steps, condition, text())


def test_null_tokens_stand_in_for_text() -> None:
    backbone = DiffusersUNet(config=TINY, null_tokens=3)
    noisy, steps, condition = clips()
    assert backbone.is_text_optional
    predicted = predict(backbone, noisy, steps, condition)
    assert backbone.null_text is not None
    same = TextCondition(backbone.null_text.expand(2, -1, -1))
    torch.testing.assert_close(predicted, predict(backbone, noisy, steps, condition, same))
    predicted.square().sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in backbone.parameters())


def test_a_unet_without_cross_attention_needs_no_text() -> None:
    plain = {"down_block_types": ["DownBlock2D"] * 2, "up_block_types": ["UpBlock2D"] * 2, "mid_block_type": None}
    backbone = DiffusersUNet(config=TINY | plain)
    noisy, steps, condition = clips()
    assert backbone.text_width is None
    assert predict(backbone, noisy, steps, condition).shape == noisy.shape
    assert [site.name for site in backbone.sites()] == ["down_0_0", "down_1_0", "up_0_0", "up_0_1", "up_1_0", "up_1_1"]
    assert backbone.attention_projections() == {}


@pytest.mark.parametrize("where", ["pipeline", "unet itself"])
def test_loads_from_a_folder(tmp_path: Path, where: str) -> None:
    unet = raw(in_channels=9)
    unet.save_pretrained(tmp_path / "unet")
    backbone = DiffusersUNet(str(tmp_path if where == "pipeline" else tmp_path / "unet"))
    noisy, steps, condition = clips()
    given = DiffusersUNet(unet=unet)
    with torch.no_grad():
        assert torch.equal(
            predict(backbone, noisy, steps, condition, text()), predict(given, noisy, steps, condition, text())
        )


def test_a_saved_widened_unet_loads_again(tmp_path: Path) -> None:
    DiffusersUNet(unet=raw()).unet.save_pretrained(tmp_path)
    assert DiffusersUNet(str(tmp_path)).unet.conv_in.in_channels == 9


def test_folder_without_config_or_weights(tmp_path: Path) -> None:
    with pytest.raises(PaLibError, match=r"no config.json in .*unet or .*: set path to") as caught:
        DiffusersUNet(str(tmp_path))
    assert "\n" not in str(caught.value)
    raw().save_pretrained(tmp_path / "unet")
    weights = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    whole = weights.read_bytes()
    for harm in (whole[: len(whole) // 2], None):
        weights.unlink() if harm is None else weights.write_bytes(harm)
        with pytest.raises(PaLibError, match="cannot load a UNet2DConditionModel from"):
            DiffusersUNet(str(tmp_path))


@pytest.mark.parametrize("path", ["/nowhere/at/all", "./nowhere", "nowhere"])
def test_no_such_folder(path: str) -> None:
    with pytest.raises(PaLibError, match=r"no folder .*set path to a folder"):
        DiffusersUNet(path)


def test_hub_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("nobody/nothing does not appear to have\na file named config.json.")

    monkeypatch.setattr(UNet2DConditionModel, "from_pretrained", fail)
    with pytest.raises(PaLibError, match=r"UNet2DConditionModel from nobody/nothing/unet: [^\n]*connection[^\n]*$"):
        DiffusersUNet("nobody/nothing")


@pytest.mark.parametrize("given", [{}, {"config": TINY, "path": "x"}])
def test_exactly_one_source(given: dict[str, Any]) -> None:
    with pytest.raises(PaLibError, match=f"{len(given)} sources given, expected one"):
        DiffusersUNet(**given)


@pytest.mark.parametrize(
    ("config", "arguments", "message"),
    [
        (TINY | {"in_channels": 7}, {}, "takes 7 channels and predicts 4"),
        (TINY | {"in_channels": 9}, {"condition_channels": 0}, "takes 9 channels and predicts 4"),
        (TINY | {"num_class_embeds": 10}, {}, "num_class_embeds=10"),
        (TINY | {"cross_attention_dim": [12, 16]}, {}, r"2 widths \[12, 16\]"),
        (TINY | {"widths": 3}, {}, "config makes no UNet2DConditionModel: .*widths"),
        (TINY | {"block_out_channels": [8]}, {}, "config makes no UNet2DConditionModel: .*correct the config"),
        (SDXL, {"null_tokens": 2}, "null_tokens is 2 but this UNet also wants pooled text"),
    ],
)
def test_unets_that_do_not_fit_are_refused(config: dict[str, Any], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(PaLibError, match=message):
        DiffusersUNet(config=config, **arguments)


@pytest.mark.wrong_types
def test_an_injected_module_of_another_kind() -> None:
    with pytest.raises(PaLibError, match="got a Linear, expected a UNet2DConditionModel"):
        DiffusersUNet(unet=nn.Linear(2, 2))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda noisy, condition: (noisy[:, :, :3], condition, text()), r"expected b t 4 h w"),
        (lambda noisy, condition: (noisy, None, text()), "got 0 condition channels, expected 5"),
        (lambda noisy, condition: (noisy, condition[..., :4], text()), "the same clips, frames and size"),
        (lambda noisy, condition: (noisy, condition, None), "wants text of width 12 and got none"),
        (lambda noisy, condition: (noisy, condition, text(width=16)), "expected 2 l 12"),
        (lambda noisy, condition: (noisy, condition, text(clips=1)), "expected 2 l 12"),
    ],
)
def test_inputs_that_do_not_fit(change: Any, message: str) -> None:
    noisy, steps, condition = clips()
    noisy, condition, words = change(noisy, condition)
    with pytest.raises(PaLibError, match=message):
        predict(DiffusersUNet(unet=raw()), noisy, steps, condition, words)
