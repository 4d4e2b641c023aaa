"""TCS in a backbone: exact when new or off, its own copies, its own weights, any number of frames."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from _backbones import predict
from pa_lib.errors import PaLibError, SettingError
from pa_lib.modules.backbones.base import AbstractBackbone, Site
from pa_lib.modules.backbones.compact import CompactUNet
from pa_lib.modules.temporal.attention import TemporalTransformer
from pa_lib.modules.temporal.content_stabilizer import TemporalContentStabilizer
from pa_lib.modules.temporal.convolution import TemporalConvolution
from pa_lib.modules.temporal.none import NoTemporal

from .conftest import Rig, stir

BOTH = pytest.mark.parametrize("layer", ["attention", "convolution"])
SITES = ["down_0_0", "down_0_1", "down_1_0", "down_1_1", "mid_0"] + [f"up_{i}_{j}" for i in (0, 1) for j in range(3)]


def attached(rig: Rig, **options: Any) -> TemporalContentStabilizer:
    stabilizer = TemporalContentStabilizer(**options)
    stabilizer.attach(rig.backbone)
    return stabilizer


@BOTH
@pytest.mark.parametrize("is_norm_per_frame", [True, False])
@pytest.mark.parametrize("frames", [1, 3])
def test_right_after_attach_nothing_has_changed(rig: Rig, layer: str, is_norm_per_frame: bool, frames: int) -> None:
    before = rig.predict(frames)
    attached(rig, layer=layer, is_norm_per_frame=is_norm_per_frame)
    assert torch.equal(rig.predict(frames), before)


@BOTH
def test_switched_off_it_is_as_if_it_were_not_there(rig: Rig, layer: str) -> None:
    before = rig.predict()
    stabilizer = stir(attached(rig, layer=layer))
    assert (rig.predict() - before).abs().max() > 0.01
    stabilizer.is_enabled = False
    assert torch.equal(rig.predict(), before)
    stabilizer.is_enabled = True
    assert not torch.equal(rig.predict(), before)


def test_a_compact_backbone_takes_it_too() -> None:
    torch.manual_seed(0)
    backbone = CompactUNet(4, 1, widths=(8, 16), layers=1, attention_levels=(1,), head_width=8)
    clips = torch.randn(1, 3, 4, 8, 8), torch.tensor([7]), torch.rand(1, 3, 1, 8, 8)
    before = predict(backbone, *clips)
    stabilizer = TemporalContentStabilizer(heads=3)
    stabilizer.attach(backbone)
    assert torch.equal(predict(backbone, *clips), before)
    assert {site: layer.heads for site, layer in stabilizer.layers.items() if site.startswith("down")} == {
        "down_0_0": 2,  # the largest number up to 3 that divides 8, and 16
        "down_1_0": 2,
    }
    assert (stir(stabilizer) and predict(backbone, *clips) - before).abs().max() > 0.01


def test_one_layer_for_every_site_and_none_in_the_backbones_own_state(rig: Rig) -> None:
    names = set(rig.backbone.state_dict())
    stabilizer = attached(rig)
    assert list(stabilizer.layers) == SITES
    assert all(type(layer) is TemporalTransformer for layer in stabilizer.layers.values())
    assert set(rig.backbone.state_dict()) == names
    assert {name.split(".")[1] for name in stabilizer.state_dict()} == set(SITES)
    convolutions = attached(rig, layer="convolution").layers.values()
    assert all(type(layer) is TemporalConvolution for layer in convolutions)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"has_mid": False}, [site for site in SITES if site != "mid_0"]),
        ({"levels": (0,), "has_mid": False}, ["down_0_0", "down_0_1", "up_1_0", "up_1_1", "up_1_2"]),
        ({"levels": [1]}, ["down_1_0", "down_1_1", "mid_0", "up_0_0", "up_0_1", "up_0_2"]),
        ({"levels": ()}, ["mid_0"]),
    ],
)
def test_levels_choose_resolutions(rig: Rig, options: dict[str, Any], expected: list[str]) -> None:
    assert list(attached(rig, **options).layers) == expected


@BOTH
def test_frames_are_seen_across_a_clip_and_not_across_clips(rig: Rig, layer: str) -> None:
    stir(attached(rig, layer=layer))
    both = rig.predict()
    noisy = rig.noisy()
    noisy[1, 2] += 1
    moved = (predict(rig.backbone, noisy, rig.timesteps, None, rig.text) - both).abs().amax((2, 3, 4)) > 1e-4
    assert moved.tolist() == [[False] * 3, [True] * 3]


@pytest.mark.parametrize("frames", [1, 2, 5, 16])
def test_any_number_of_frames_after_any_other(rig: Rig, frames: int) -> None:
    stir(attached(rig))
    rig.predict(3)
    assert rig.predict(frames).shape == rig.noisy(frames).shape
    assert rig.predict(frames).isfinite().all()


def test_a_frame_alone_is_what_a_clip_of_one_frame_is(rig: Rig) -> None:
    """Two clips of one frame are not one clip of two."""
    stir(attached(rig))
    alone = rig.predict(1)
    one = predict(rig.backbone, rig.noisy(1)[:1], rig.timesteps[:1], None, type(rig.text)(rig.text.states[:1]))
    torch.testing.assert_close(alone[:1], one, rtol=0, atol=1e-5)


class Parent(nn.Module):
    """A system's skeleton: a backbone and its guest, side by side."""

    def __init__(self, backbone: AbstractBackbone, temporal: TemporalContentStabilizer) -> None:
        super().__init__()
        self.backbone = backbone
        self.temporal = temporal


@pytest.mark.parametrize("is_temporal_first", [False, True])
def test_a_deep_copy_is_hooked_to_its_own_copies(rig: Rig, is_temporal_first: bool) -> None:
    stabilizer = stir(attached(rig))
    parent: nn.Module = Parent(rig.backbone, stabilizer)
    if is_temporal_first:
        parent = nn.ModuleDict({"temporal": stabilizer, "backbone": rig.backbone})
    before = rig.predict()
    twin: Any = copy.deepcopy(parent)
    twin = twin if not is_temporal_first else Parent(twin["backbone"], twin["temporal"])
    assert torch.equal(rig.predict(backbone=twin.backbone), before)
    with torch.no_grad():
        for parameter in twin.temporal.parameters():
            parameter.mul_(1.5)
    assert not torch.equal(rig.predict(backbone=twin.backbone), before)
    rig.predict(5, twin.backbone)  # leaves its frame count at 5
    assert torch.equal(rig.predict(), before)
    twin.temporal.is_enabled = False
    assert torch.equal(rig.predict(), before)
    stabilizer.is_enabled = False
    assert torch.equal(rig.predict(backbone=twin.backbone), rig.predict())


@BOTH
def test_stage_two_moves_temporal_weights_alone_and_all_of_them(rig: Rig, layer: str) -> None:
    stabilizer = stir(attached(rig, layer=layer))
    rig.backbone.requires_grad_(False)
    rig.predict().square().mean().backward()
    assert all(parameter.grad is None for parameter in rig.backbone.parameters())
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in stabilizer.parameters())


@pytest.mark.parametrize("is_backbone_frozen", [True, False])
def test_checkpointing_gives_the_same_gradients(rig: Rig, is_backbone_frozen: bool) -> None:
    stabilizer = stir(attached(rig))
    rig.backbone.requires_grad_(not is_backbone_frozen)

    def gradients() -> list[Tensor]:
        stabilizer.zero_grad()
        loss = rig.predict(3).square().mean()
        rig.predict(2)  # another clip, before the backward pass of the first
        loss.backward()
        return [parameter.grad.clone() for parameter in stabilizer.parameters() if parameter.grad is not None]

    plain = gradients()
    stabilizer.use_gradient_checkpointing()
    torch.testing.assert_close(gradients(), plain, rtol=1e-5, atol=1e-7)
    rig.backbone.use_gradient_checkpointing()
    torch.testing.assert_close(gradients(), plain, rtol=1e-5, atol=1e-7)


@BOTH
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_a_frozen_network_of_half_precision_without_autocast(rig: Rig, layer: str, dtype: torch.dtype) -> None:
    """Layers compute in float32: near the float32 network, and trained."""
    stabilizer = stir(attached(rig, layer=layer))
    expected, state = rig.predict().detach(), copy.deepcopy(stabilizer.state_dict())
    stabilizer.detach()
    rig.unet.to(dtype).requires_grad_(False)
    half = TemporalContentStabilizer(layer=layer)
    half.attach(rig.unet)
    half.frames = 3
    before = rig.plain(dtype=dtype)
    assert torch.equal(rig.plain(dtype=dtype), before)
    half.load_state_dict(state)
    assert {weight.dtype for weight in half.parameters()} == {torch.float32}
    found = rig.plain(dtype=dtype)
    assert found.dtype == dtype
    assert (found.float() - expected).abs().max() < 0.05 * expected.abs().max()
    found.float().square().mean().backward()
    assert all(weight.grad is not None and weight.grad.abs().max() > 0 for weight in half.parameters())


@BOTH
def test_a_plain_unet_is_told_the_frames_and_computes_as_our_backbone(rig: Rig, layer: str) -> None:
    in_backbone = stir(attached(rig, layer=layer))
    expected = rig.predict(3), rig.predict(2)
    in_backbone.detach()
    in_backbone.attach(rig.unet)
    with pytest.raises(PaLibError, match=r"UNet2DConditionModel does not know which images are a clip; set frames"):
        rig.plain()
    for frames, wanted in zip((3, 2), expected, strict=True):
        in_backbone.frames = frames
        assert torch.equal(rig.plain(frames), wanted)
    in_backbone.frames = 4
    with pytest.raises(PaLibError, match="6 images are not whole clips of 4 frames"):
        rig.plain(3)


def test_frames_that_contradict_the_backbone_are_refused(rig: Rig) -> None:
    stabilizer = attached(rig)
    stabilizer.frames = 3
    rig.predict(3)
    with pytest.raises(PaLibError, match="is 3, but DiffusersUNet got clips of 2; leave frames None"):
        rig.predict(2)


def test_without_position_codes_the_order_of_frames_is_not_seen(rig: Rig) -> None:
    stir(attached(rig, has_position_codes=False))
    order = [2, 0, 1]
    noisy = rig.noisy()
    one, other = (predict(rig.backbone, x, rig.timesteps, text=rig.text) for x in (noisy, noisy[:, order]))
    torch.testing.assert_close(other, one[:, order], rtol=0, atol=1e-4)


def test_half_precision_is_near(rig: Rig) -> None:
    stir(attached(rig))
    expected = rig.predict()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = rig.predict().float()
    assert (mixed - expected).abs().max() / expected.abs().max() < 0.05


@BOTH
def test_weights_file_round_trip(rig: Rig, layer: str, tmp_path: Path) -> None:
    stabilizer = stir(attached(rig, layer=layer))
    expected = rig.predict()
    stabilizer.save_weights(tmp_path / "tcs.safetensors")
    stabilizer.load_state_dict({name: torch.zeros_like(value) for name, value in stabilizer.state_dict().items()})
    assert not torch.equal(rig.predict(), expected)
    stabilizer.load_weights(str(tmp_path / "tcs.safetensors"))
    assert torch.equal(rig.predict(), expected)


def test_weights_of_other_settings_sites_or_sizes_are_refused(rig: Rig, tmp_path: Path) -> None:
    file = tmp_path / "tcs.safetensors"
    attached(rig).save_weights(file)
    others = {"heads": 2, "groups": 4, "is_norm_per_frame": False, "has_position_codes": False, "layer": "convolution"}
    for option, value in others.items():
        with pytest.raises(PaLibError, match=f"was trained with {option} .*, these layers have {value}; set {option}"):
            attached(rig, **{option: value}).load_weights(file)
    with pytest.raises(PaLibError, match=r"differ in mid_0\..* more; take the same backbone and levels"):
        attached(rig, has_mid=False).load_weights(file)
    backbone = CompactUNet(4, 0, widths=(8, 16), layers=2, attention_levels=(), head_width=8)
    smaller = TemporalContentStabilizer()
    smaller.attach(backbone)
    with pytest.raises(PaLibError, match=r"down_0_0\..* has shape \(16.*here it is \(8"):
        smaller.load_weights(file)


def test_files_that_are_none_of_ours_are_refused(rig: Rig, tmp_path: Path) -> None:
    stabilizer = attached(rig)
    with pytest.raises(PaLibError, match=r"no temporal weights at .*missing"):
        stabilizer.load_weights(tmp_path / "missing")
    (tmp_path / "text").write_text("no tensors")
    with pytest.raises(PaLibError, match="cannot read temporal weights"):
        stabilizer.load_weights(tmp_path / "text")
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign")
    with pytest.raises(PaLibError, match="not written by save_weights; try load_motion_adapter"):
        stabilizer.load_weights(tmp_path / "foreign")
    with pytest.raises(PaLibError, match="cannot write temporal weights"):
        stabilizer.save_weights(tmp_path / "no" / "folder")


def test_what_needs_a_backbone_says_so(rig: Rig, tmp_path: Path) -> None:
    loose = TemporalContentStabilizer()
    for use in (
        lambda: loose.save_weights(tmp_path / "x"),
        lambda: loose.load_weights(tmp_path / "x"),
        loose.motion_adapter,
        lambda: loose.load_motion_adapter({}),
    ):
        with pytest.raises(PaLibError, match="call attach"):
            use()
    loose.attach(rig.backbone)
    with pytest.raises(PaLibError, match="attached already"):
        loose.attach(rig.backbone)


class Odd(AbstractBackbone):
    """A backbone whose sites are named in another way."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.places = nn.ModuleDict({name: nn.Identity() for name in names})

    def forward(self, *arguments: Any) -> Tensor:
        raise NotImplementedError

    def sites(self) -> tuple[Site, ...]:
        return tuple(Site(name, module, 8, False) for name, module in self.places.items())

    def attention_projections(self) -> dict[str, nn.Linear]:
        return {}

    def use_gradient_checkpointing(self) -> None:
        pass


def test_backbones_without_such_sites() -> None:
    with pytest.raises(PaLibError, match=r"no site .* the backbone has none"):
        TemporalContentStabilizer().attach(Odd())
    with pytest.raises(PaLibError, match=r"levels of the temporal layers name 3; the backbone has 0 to 0"):
        TemporalContentStabilizer(levels=(3,)).attach(Odd("down_0_0", "up_0_0"))
    with pytest.raises(PaLibError, match=r"'block7' .* does not name its stage"):
        TemporalContentStabilizer(levels=(0,)).attach(Odd("block7"))
    everywhere = TemporalContentStabilizer()
    everywhere.attach(Odd("block7"))
    assert list(everywhere.layers) == ["block7"]


@pytest.mark.wrong_types
def test_an_unknown_layer_is_refused() -> None:
    with pytest.raises(PaLibError, match="unknown temporal layer 'pooling'"):
        TemporalContentStabilizer(layer="pooling")


def test_settings_out_of_range() -> None:
    with pytest.raises(PaLibError, match="0 heads"):
        TemporalContentStabilizer(heads=0)


def test_none_does_nothing_once(rig: Rig) -> None:
    before = rig.predict()
    nothing = NoTemporal()
    nothing.attach(rig.backbone)
    assert torch.equal(rig.predict(), before)
    assert not list(nothing.parameters())
    with pytest.raises(PaLibError, match="attached already"):
        nothing.attach(rig.backbone)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"levels": (0, -1)}, r"levels of the temporal layers: got \[0, -1\]"),
        ({"levels": 3}, r"TemporalContentStabilizer\.levels: got 3, expected a list"),
        ({"levels": "01"}, r"TemporalContentStabilizer\.levels: got '01', expected a list"),
        ({"levels": [0.5]}, r"TemporalContentStabilizer\.levels: got \[0.5\], expected a valid integer"),
        ({"heads": "4"}, r"TemporalContentStabilizer\.heads: got '4', expected a valid integer, e\.g\. 8"),
        ({"heads": 4.5}, r"TemporalContentStabilizer\.heads: got 4\.5, expected a valid integer"),
        ({"has_mid": "no"}, r"TemporalContentStabilizer\.has_mid: got 'no', expected a valid boolean"),
    ],
)
def test_settings_of_a_wrong_kind_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        TemporalContentStabilizer(**settings)
