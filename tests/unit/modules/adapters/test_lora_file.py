"""SCA travels: diffusers and peft compute the same with our weights, and ours with theirs."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from diffusers.utils import convert_state_dict_to_diffusers
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pa_lib.errors import PaLibError
from pa_lib.modules.adapters.lora_file import in_peft_names
from pa_lib.modules.adapters.spatial_content import SpatialContentAdapter
from pa_lib.modules.backbones.diffusers_unet import DiffusersUNet

from .conftest import UNET

Randomize = Callable[[nn.Module], None]
RANK = 3
PROJECTIONS = ["to_q", "to_k", "to_v", "to_out.0"]


def attached(backbone: DiffusersUNet, alpha: float | None = None, rank: int = RANK) -> SpatialContentAdapter:
    adapter = SpatialContentAdapter(rank, alpha)
    adapter.attach(backbone)
    return adapter


def run(unet: UNet2DConditionModel) -> Tensor:
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        sample = unet(torch.randn(2, 9, 8, 8, generator=draw), 7, torch.randn(2, 3, 8, generator=draw)).sample
    found: Tensor = sample
    return found


def assert_close(found: Tensor, wanted: Tensor, plain: Tensor) -> None:
    """Equal to 1e-5, and not because nothing happened."""
    assert (wanted - plain).abs().max() > 0.05
    assert (found - wanted).abs().max() <= 1e-5


@pytest.fixture
def plain(text_backbone: DiffusersUNet) -> UNet2DConditionModel:
    """A copy of the network that never had an adapter."""
    twin: UNet2DConditionModel = copy.deepcopy(text_backbone.unet)
    return twin


def with_peft(unet: UNet2DConditionModel, alpha: float = RANK, **settings: object) -> None:
    """A LoRA as diffusers' training example makes it, with weights as after training."""
    config = LoraConfig(r=RANK, lora_alpha=alpha, init_lora_weights="gaussian", target_modules=PROJECTIONS, **settings)
    unet.add_adapter(config)
    draw = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for name, weight in unet.named_parameters():
            if "lora_" in name:
                weight.copy_(0.3 * torch.randn(weight.shape, generator=draw))


@pytest.mark.parametrize("alpha", [None, 1.0, 7.0])
def test_diffusers_computes_the_same_with_our_lora(
    text_backbone: DiffusersUNet, plain: UNet2DConditionModel, randomize: Randomize, alpha: float | None
) -> None:
    before = run(plain)
    adapter = attached(text_backbone, alpha)
    randomize(adapter)
    plain.load_lora_adapter(adapter.diffusers_lora(), prefix="unet")
    assert_close(run(plain), run(text_backbone.unet), before)


def test_our_file_is_a_lora_file_of_diffusers(
    text_backbone: DiffusersUNet, plain: UNet2DConditionModel, randomize: Randomize, tmp_path: Path
) -> None:
    before = run(plain)
    adapter = attached(text_backbone, 7.0)
    randomize(adapter)
    adapter.save_weights(tmp_path / "sca.safetensors")
    plain.load_lora_adapter(tmp_path, weight_name="sca.safetensors", prefix="unet", local_files_only=True)
    assert_close(run(plain), run(text_backbone.unet), before)
    with safe_open(tmp_path / "sca.safetensors", framework="pt") as file:
        settings = json.loads(file.metadata()["lora_adapter_metadata"])
    assert (settings["unet.r"], settings["unet.lora_alpha"]) == (3, 7.0)
    assert len(settings["unet.target_modules"]) == 32


@pytest.mark.parametrize("settings", [{"use_dora": True}, {"use_rslora": True}, {"use_dora": True, "use_rslora": True}])
def test_dora_and_rank_stabilised_files_compute_the_same_in_diffusers_and_come_back(
    text_backbone: DiffusersUNet,
    plain: UNet2DConditionModel,
    randomize: Randomize,
    tmp_path: Path,
    settings: dict[str, bool],
) -> None:
    before, other = run(plain), copy.deepcopy(text_backbone)
    adapter = SpatialContentAdapter(RANK, 7.0, **settings)
    adapter.attach(text_backbone)
    randomize(adapter)
    adapter.save_weights(tmp_path / "sca.safetensors")
    plain.load_lora_adapter(tmp_path, weight_name="sca.safetensors", prefix="unet", local_files_only=True)
    assert_close(run(plain), run(text_backbone.unet), before)
    again = SpatialContentAdapter.from_file(tmp_path / "sca.safetensors")
    again.attach(other)
    assert torch.equal(run(other.unet), run(text_backbone.unet))
    assert (again.rank, again.alpha) == (RANK, 7.0)


def test_diffusers_reads_the_settings_where_the_name_is_given_apart(
    text_backbone: DiffusersUNet, plain: UNet2DConditionModel, randomize: Randomize, tmp_path: Path
) -> None:
    """As the page on Python has it, and what `save_weights` says of the other form."""
    before, other = run(plain), copy.deepcopy(plain)
    adapter = attached(text_backbone, 7.0)
    randomize(adapter)
    adapter.save_weights(tmp_path / "sca.safetensors")
    plain.load_lora_adapter(tmp_path, weight_name="sca.safetensors", prefix="unet")
    assert_close(run(plain), run(text_backbone.unet), before)
    other.load_lora_adapter(tmp_path / "sca.safetensors", prefix="unet")
    assert (run(other) - run(text_backbone.unet)).abs().max() > 0.05  # if this is mended, so can be the page
    page = (Path(__file__).parents[4] / "docs" / "python.md").read_text(encoding="utf-8")
    assert re.findall(r"load_lora_adapter\((.+)\)", page) == ['".", weight_name="sca.safetensors", prefix="unet"']


def test_everyone_may_read_the_file_whom_the_umask_lets(text_backbone: DiffusersUNet, tmp_path: Path) -> None:
    attached(text_backbone).save_weights(tmp_path / "sca.safetensors")
    (tmp_path / "other").write_text("")
    assert (tmp_path / "sca.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_diffusers_pipelines_find_our_file(text_backbone: DiffusersUNet, randomize: Randomize, tmp_path: Path) -> None:
    adapter = attached(text_backbone, 7.0)
    randomize(adapter)
    adapter.save_weights(tmp_path / "sca.safetensors")
    state, alphas = StableDiffusionPipeline.lora_state_dict(
        tmp_path, weight_name="sca.safetensors", local_files_only=True
    )
    assert alphas is None
    assert state.keys() == adapter.diffusers_lora().keys()


@pytest.mark.parametrize("is_older", [False, True])
def test_we_compute_the_same_with_a_lora_of_peft(
    text_backbone: DiffusersUNet, plain: UNet2DConditionModel, is_older: bool
) -> None:
    before = run(plain)
    with_peft(plain)
    state = get_peft_model_state_dict(plain)
    if is_older:
        state = convert_state_dict_to_diffusers(state)
        assert any(".lora.down." in key for key in state)
    attached(text_backbone).load_diffusers_lora(state)
    assert_close(run(text_backbone.unet), run(plain), before)


@pytest.mark.parametrize("alpha_here", [None, 2.0])
def test_alpha_of_a_state_dict_is_told_and_that_of_a_file_is_read(
    text_backbone: DiffusersUNet, plain: UNet2DConditionModel, tmp_path: Path, alpha_here: float | None
) -> None:
    before = run(plain)
    with_peft(plain, alpha=8)
    wanted = run(plain)
    adapter = attached(text_backbone, alpha_here)
    adapter.load_diffusers_lora(get_peft_model_state_dict(plain), alpha=8)
    assert_close(run(text_backbone.unet), wanted, before)
    adapter.load_diffusers_lora(get_peft_model_state_dict(plain))
    assert (run(text_backbone.unet) - wanted).abs().max() > 0.05

    plain.save_lora_adapter(tmp_path)  # with peft's configuration in the metadata
    adapter.load_weights(tmp_path / "pytorch_lora_weights.safetensors")
    assert_close(run(text_backbone.unet), wanted, before)

    StableDiffusionPipeline.save_lora_weights(  # the same under "unet."
        tmp_path / "pipeline",
        unet_lora_layers=get_peft_model_state_dict(plain),
        unet_lora_adapter_metadata=_jsonable(plain.peft_config["default"].to_dict()),
    )
    for layer in adapter.layers.values():
        nn.init.zeros_(layer.lora_B["default"].weight)
    adapter.load_weights(str(tmp_path / "pipeline" / "pytorch_lora_weights.safetensors"))
    assert_close(run(text_backbone.unet), wanted, before)


def _jsonable(settings: dict[str, object]) -> dict[str, object]:
    return {key: sorted(value) if isinstance(value, set) else value for key, value in settings.items()}


@pytest.mark.parametrize("prefix", ["", "unet."])
def test_keys_of_the_attention_processors_of_2023(
    text_backbone: DiffusersUNet, plain: UNet2DConditionModel, randomize: Randomize, prefix: str
) -> None:
    before = run(plain)
    adapter = attached(copy.deepcopy(text_backbone))
    randomize(adapter)
    old = {}
    for key, weight in adapter.diffusers_lora().items():
        name, letter = key.removeprefix("unet.").removesuffix(".weight").rsplit(".lora_", 1)
        attention, projection = name.removesuffix(".0").rsplit(".", 1)
        old[f"{prefix}{attention}.processor.{projection}_lora.{'down' if letter == 'A' else 'up'}.weight"] = weight
    assert any(".processor.to_out_lora.up.weight" in key for key in old)
    plain.load_lora_adapter({f"unet.{key.removeprefix('unet.')}": old[key] for key in old}, prefix="unet")
    attached(text_backbone).load_diffusers_lora(old)
    assert_close(run(text_backbone.unet), run(plain), before)


@given(
    prefix=st.sampled_from(["", "unet."]),
    place=st.from_regex(r"(down|up)_blocks\.[0-3]\.attentions\.[0-2]\.transformer_blocks\.0\.attn[12]", fullmatch=True),
    projection=st.sampled_from(["q", "k", "v", "out"]),
    is_down=st.booleans(),
)
def test_all_styles_name_the_same(prefix: str, place: str, projection: str, is_down: bool) -> None:
    old, new = ("down", "A") if is_down else ("up", "B")
    module = f"to_{projection}" + (".0" if projection == "out" else "")
    wanted = f"{place}.{module}.lora_{new}.weight"
    for key in (
        wanted,
        f"{place}.{module}.lora.{old}.weight",
        f"{place}.to_{projection}_lora.{old}.weight",
        f"{place}.processor.to_{projection}_lora.{old}.weight",
    ):
        assert list(in_peft_names({prefix + key: torch.zeros(1)})[0]) == [wanted]


@pytest.mark.parametrize("alphas", [(None, None), (6.0, 6.0), (6.0, 1.5), (7.0, 5.0)])
def test_weights_go_round_through_a_file(
    text_backbone: DiffusersUNet, randomize: Randomize, tmp_path: Path, alphas: tuple[float | None, float | None]
) -> None:
    """Alpha may differ at the other end: what the adapter computes is what travels."""
    other = copy.deepcopy(text_backbone)
    adapter, fresh = attached(text_backbone, alphas[0]), attached(other, alphas[1])
    randomize(adapter)
    adapter.save_weights(str(tmp_path / "sca.safetensors"))
    fresh.load_weights(tmp_path / "sca.safetensors")
    for ours, theirs in zip(adapter.layers.values(), fresh.layers.values(), strict=True):
        assert torch.equal(ours.lora_A["default"].weight, theirs.lora_A["default"].weight)
        wanted = ours.lora_B["default"].weight * (ours.scaling["default"] / theirs.scaling["default"])
        torch.testing.assert_close(theirs.lora_B["default"].weight, wanted, rtol=3e-7, atol=0)
        if alphas != (7.0, 5.0):  # factors of a power of two
            assert torch.equal(theirs.lora_B["default"].weight, wanted)


def test_what_is_exported_is_a_copy(text_backbone: DiffusersUNet, randomize: Randomize) -> None:
    adapter = attached(text_backbone)
    randomize(adapter)
    before = {key: weight.clone() for key, weight in adapter.state_dict().items()}
    for weight in adapter.diffusers_lora().values():
        assert not weight.requires_grad
        weight.zero_()
    assert all(torch.equal(weight, before[key]) for key, weight in adapter.state_dict().items())


def test_scale_stays_here(text_backbone: DiffusersUNet, randomize: Randomize) -> None:
    adapter = attached(text_backbone)
    randomize(adapter)
    full = adapter.diffusers_lora()
    adapter.scale = 0.5
    half = adapter.diffusers_lora()
    assert all(torch.equal(half[key], full[key]) for key in full)


NAME = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
A, B = f"unet.{NAME}.lora_A.weight", f"unet.{NAME}.lora_B.weight"


def without(key: str) -> Callable[[dict[str, Tensor]], None]:
    return lambda state: state.__delitem__(key)


def replaced(key: str, *shape: int, value: float = 0.0) -> Callable[[dict[str, Tensor]], None]:
    return lambda state: state.update({key: torch.full(shape, value)})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without(B), rf"lacks {NAME}.lora_B.weight; expected lora_A and lora_B of the 32 modules"),
        (replaced("text_encoder.q_proj.lora_A.weight", 3, 16), r"has unknown text_encoder.q_proj.lora_A.weight;"),
        (replaced(f"{NAME}.alpha", 1), rf"has unknown {NAME}.alpha;"),
        (replaced(f"{NAME}.lora_magnitude_vector", 16), rf"has unknown {NAME}.lora_magnitude_vector;"),
        (lambda state: state.clear(), r"lacks .* and 61 more;"),
        (replaced(A, 3, 15), rf"{NAME}.lora_A.weight has shape \(3, 15\), expected \(3, 16\); it was made for another"),
        (replaced(B, 17, 3), rf"{NAME}.lora_B.weight has shape \(17, 3\), expected \(16, 3\); it was made for another"),
        (replaced(A, 48), rf"{NAME}.lora_A.weight has shape \(48,\), expected"),
        (
            replaced(A, 5, 16),
            rf"{NAME}.lora_A.weight has shape \(5, 16\), so rank 5, this adapter has rank 3; build it",
        ),
        (replaced(B, 16, 5), rf"{NAME}.lora_B.weight has shape \(16, 5\), so rank 5, this adapter has rank 3"),
        (replaced(A, 3, 16, value=float("nan")), rf"{NAME}.lora_A.weight holds values that are not finite"),
        (replaced(f"{NAME}.lora.down.weight", 3, 16), rf"holds {NAME}.lora_A.weight twice, under two names"),
    ],
)
def test_a_lora_that_does_not_fit_is_refused_by_name_and_leaves_ours_alone(
    text_backbone: DiffusersUNet,
    randomize: Randomize,
    damage: Callable[[dict[str, Tensor]], None],
    message: str,
) -> None:
    adapter = attached(text_backbone)
    state = {key: torch.zeros_like(weight) for key, weight in adapter.diffusers_lora().items()}
    randomize(adapter)
    before = {key: weight.clone() for key, weight in adapter.state_dict().items()}
    damage(state)
    with pytest.raises(PaLibError, match=message) as told:
        adapter.load_diffusers_lora(state)
    assert "\n" not in str(told.value)
    assert all(torch.equal(weight, before[key]) for key, weight in adapter.state_dict().items())


def test_another_rank_throughout_is_refused_with_the_rank_to_build(text_backbone: DiffusersUNet) -> None:
    state = attached(copy.deepcopy(text_backbone), rank=8).diffusers_lora()
    with pytest.raises(PaLibError, match=r"rank 8, this adapter has rank 3; build it with from_file"):
        attached(text_backbone).load_diffusers_lora(state)


def mixed_lora(unet: UNet2DConditionModel, folder: Path) -> UNet2DConditionModel:
    """A LoRA of peft on some modules, of two ranks and two alphas, in diffusers' file."""
    config = LoraConfig(
        r=2, lora_alpha=3, rank_pattern={"to_k": 4}, alpha_pattern={"to_k": 5}, target_modules=["to_q", "to_k", "conv1"]
    )
    unet.add_adapter(config)
    draw = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for name, weight in unet.named_parameters():
            if "lora_" in name:
                weight.copy_(0.3 * torch.randn(weight.shape, generator=draw))
    unet.save_lora_adapter(folder)
    return unet


def test_from_file_has_the_files_ranks_alphas_and_modules(
    text_backbone: DiffusersUNet, plain: UNet2DConditionModel, tmp_path: Path
) -> None:
    before = run(plain)
    adapter = SpatialContentAdapter.from_file(mixed_lora(plain, tmp_path) and tmp_path / FILE)
    adapter.attach(text_backbone.unet)
    assert_close(run(text_backbone.unet), run(plain), before)
    assert {int(layer.r["default"]) for layer in adapter.layers.values()} == {2, 4}
    assert any(name.endswith("-conv1") for name in adapter.layers)
    adapter.fuse()
    assert_close(run(text_backbone.unet), run(plain), before)
    adapter.detach()
    assert torch.equal(run(text_backbone.unet), before)
    other = UNet2DConditionModel(**UNET | {"layers_per_block": 2, "down_block_types": ["DownBlock2D"] * 2})
    with pytest.raises(PaLibError, match=r"UNet2DConditionModel has no down_blocks\.0\.attentions.* and \d+ more"):
        SpatialContentAdapter.from_file(tmp_path / FILE).attach(other)


FILE = "pytorch_lora_weights.safetensors"


@pytest.mark.parametrize("is_without_settings", [False, True])
def test_a_file_of_another_rank_is_taken_under_a_name_of_its_own(
    text_backbone: DiffusersUNet, plain: UNet2DConditionModel, tmp_path: Path, is_without_settings: bool
) -> None:
    before = run(plain)
    with_peft(plain)
    plain.save_lora_adapter(tmp_path)
    if is_without_settings:
        save_file(load_file(tmp_path / FILE), tmp_path / FILE)
    adapter = attached(text_backbone, rank=8)
    adapter.load_weights(tmp_path / FILE, name="style")
    assert torch.equal(run(text_backbone.unet), before)
    adapter.use("style")
    assert_close(run(text_backbone.unet), run(plain), before)
    assert (adapter.rank, adapter.configs["style"].r) == (8, RANK)
    with pytest.raises(PaLibError, match="rank 3, this adapter has rank 8"):
        adapter.load_weights(tmp_path / FILE)
    for key, weight in get_peft_model_state_dict(plain).items():
        assert torch.equal(adapter.diffusers_lora("style")[f"unet.{key}"], weight)


def test_a_lora_for_other_modules_does_not_become_a_second_one(
    text_backbone: DiffusersUNet, plain: UNet2DConditionModel, tmp_path: Path
) -> None:
    mixed_lora(plain, tmp_path)
    adapter = attached(text_backbone)
    with pytest.raises(
        PaLibError, match=r"has weights for .*conv1 .*, which this adapter does not change; .*from_file"
    ):
        adapter.load_weights(tmp_path / FILE, name="style")
    assert list(adapter.configs) == ["default"]


def test_a_second_one_that_does_not_fit_is_not_kept(text_backbone: DiffusersUNet) -> None:
    adapter = attached(text_backbone)
    state = adapter.diffusers_lora()
    state[A] = torch.zeros(3, 15)
    with pytest.raises(PaLibError, match="made for another backbone"):
        adapter.load_diffusers_lora(state, name="style")
    assert list(adapter.configs) == ["default"]
    assert not any("style" in name for name in adapter.state_dict())


def test_kohyas_names_and_alphas(text_backbone: DiffusersUNet, plain: UNet2DConditionModel, tmp_path: Path) -> None:
    before = run(plain)
    with_peft(plain, alpha=6)
    state = {}
    for key, weight in get_peft_model_state_dict(plain).items():
        module, _, letter = key.removesuffix(".weight").rpartition(".lora_")
        name = "lora_unet_" + module.replace(".", "_")
        state[f"{name}.lora_{'down' if letter == 'A' else 'up'}.weight"] = weight
        state[f"{name}.alpha"] = torch.tensor(6.0)
    save_file(state, tmp_path / "kohya.safetensors")
    adapter = attached(text_backbone)
    adapter.load_weights(tmp_path / "kohya.safetensors")
    assert_close(run(text_backbone.unet), run(plain), before)


def test_alpha_of_nothing_is_refused(text_backbone: DiffusersUNet) -> None:
    adapter = attached(text_backbone)
    with pytest.raises(PaLibError, match="alpha 0 "):
        adapter.load_diffusers_lora(adapter.diffusers_lora(), alpha=0)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"r": 3, "lora_alpha": 3, "lora_bias": True}, "with lora_bias; expected rank"),
        ({"unet.r": 3, "unet.use_bdlora": {"blocks": 2}}, "with use_bdlora;"),
        ({"r": 0}, "rank 0 with nothing else|damaged"),
        ({"r": "three"}, "metadata of .* are damaged"),
        ([3], "metadata of .* are damaged"),
    ],
)
def test_a_file_whose_metadata_ask_for_more_is_refused(
    text_backbone: DiffusersUNet, tmp_path: Path, metadata: object, message: str
) -> None:
    adapter = attached(text_backbone)
    path = tmp_path / "lora.safetensors"
    save_file(adapter.diffusers_lora(), path, metadata={"lora_adapter_metadata": json.dumps(metadata)})
    with pytest.raises(PaLibError, match=message):
        adapter.load_weights(path)


def test_files_that_are_none_are_refused(text_backbone: DiffusersUNet, tmp_path: Path) -> None:
    adapter = attached(text_backbone)
    with pytest.raises(PaLibError, match=r"there is no file .*absent"):
        adapter.load_weights(tmp_path / "absent.safetensors")
    with pytest.raises(PaLibError, match="there is no file"):
        adapter.load_weights(tmp_path)
    (tmp_path / "text.safetensors").write_text("no weights at all")
    with pytest.raises(PaLibError, match=r"text\.safetensors is no safetensors file"):
        adapter.load_weights(tmp_path / "text.safetensors")
    with pytest.raises(PaLibError, match=r"cannot write LoRA weights to .*folder that exists"):
        adapter.save_weights(tmp_path / "missing" / "sca.safetensors")
    adapter.save_weights(tmp_path / "sca.safetensors")
    assert len(load_file(tmp_path / "sca.safetensors")) == 2 * len(adapter.layers)
