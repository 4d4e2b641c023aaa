"""A system that was built in Python is saved and loaded without a config by hand."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer

import pa_lib
from _heads import painter
from _toys import ADAM, Part, ToyGan, two
from pa_lib.checkpoint import config_of, load_config, load_module, save_module
from pa_lib.data import SyntheticDataModule
from pa_lib.errors import PaLibError, SettingError, WeightsError
from pa_lib.modules import (
    CompactUNet,
    CropAligner,
    DiffusersUNet,
    DiffusionProcess,
    MaskedDiffusionLoss,
    NoText,
    PassersbyAnonymizer,
    Patchify,
    Sampler,
    SpatialContentAdapter,
    TemporalContentStabilizer,
    Windows,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*(many workers|not resumable|treespec|eval mode|litlogger).*")


def passersby(**more: Any) -> PassersbyAnonymizer:
    """As a page for plain Python would write it."""
    torch.manual_seed(0)
    return PassersbyAnonymizer(
        backbone=CompactUNet(
            channels=48, condition_channels=49, widths=(8, 16), layers=1, attention_levels=(1,), head_width=8
        ),
        autoencoder=Patchify(4),
        text=NoText(),
        adapter=SpatialContentAdapter(rank=2),
        temporal=TemporalContentStabilizer(heads=2),
        loss=MaskedDiffusionLoss(),
        diffusion=DiffusionProcess(prediction="sample"),
        sampler=Sampler(steps=2),
        crops=CropAligner(side=16),
        windows=Windows(frames=3, overlap=1, chunk=6, chunk_overlap=2),
        **({"optimizer": partial(torch.optim.AdamW, lr=1e-3), "trainable": ("backbone", "adapter")} | more),
    )


def trained(system: PassersbyAnonymizer, folder: Path) -> Path:
    trainer = Trainer(
        accelerator="cpu",
        max_steps=2,
        limit_val_batches=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=False,
        default_root_dir=folder,
        enable_checkpointing=False,
    )
    data = SyntheticDataModule(n_clips=24, n_frames=2, side=16, n_identities=4, batch_size=2)
    trainer.fit(system, datamodule=data)
    trainer.save_checkpoint(folder / "run.ckpt")
    return folder / "run.ckpt"


def test_a_run_from_plain_python_is_saved_and_loaded(tmp_path: Path) -> None:
    system = passersby()
    path = trained(system, tmp_path)
    for loaded in (pa_lib.load_module(path), PassersbyAnonymizer.load_from_checkpoint(path)):
        assert isinstance(loaded, PassersbyAnonymizer)
        assert loaded.trainable == ("backbone", "adapter")
        assert loaded.windows == system.windows
        assert not loaded.training
        for name, weight in system.state_dict().items():
            assert torch.equal(loaded.state_dict()[name], weight), name
    save_module(system, None, tmp_path / "m.safetensors")
    assert load_config(tmp_path / "m.safetensors") == load_config(path)
    again = load_module(tmp_path / "m.safetensors")
    assert all(torch.equal(weight, system.state_dict()[name]) for name, weight in again.state_dict().items())
    with pytest.raises(PaLibError, match=r"run\.ckpt holds a PassersbyAnonymizer, expected a ToyGan"):
        ToyGan.load_from_checkpoint(path)


def test_a_system_from_a_config_gives_a_config_that_builds_the_same() -> None:
    from pa_lib.cli.compose import build

    made = painter()
    again = build(config_of(made))
    assert config_of(again) == config_of(made)
    assert [name for name, _ in again.named_parameters()] == [name for name, _ in made.named_parameters()]


def test_a_config_holds_plain_values_by_public_names() -> None:
    config = config_of(passersby())
    assert config["_target_"] == "pa_lib.modules.PassersbyAnonymizer"
    assert config["adapter"] == {"_target_": "pa_lib.modules.SpatialContentAdapter", "rank": 2}
    assert config["optimizer"] == {"_target_": "torch.optim.AdamW", "_partial_": True, "lr": 1e-3}
    assert config["autoencoder"] == {"_target_": "pa_lib.modules.Patchify", "patch": 4}
    assert config["windows"]["chunk_overlap"] == 2
    specs = config_of(ToyGan(optimizers=two(every=2)))["optimizers"]
    assert specs["generator"]["_target_"] == "pa_lib.modules.OptimizerSpec"
    assert specs["generator"]["every"] == 2
    assert specs["generator"]["make"] == {"_target_": "torch.optim.Adam", "_partial_": True, "lr": 0.01}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: passersby(optimizer=lambda weights: torch.optim.AdamW(weights)),
            r"PassersbyAnonymizer\.optimizer cannot be recorded: it is a lambda or local function .*functools\.partial",
        ),
        (
            lambda: Part(width=torch.tensor(4)),
            r"Part\.width cannot be recorded: it is a Tensor that is built already",
        ),
    ],
)
def test_what_cannot_be_recorded_gets_one_line(make: Any, message: str) -> None:
    with pytest.raises(SettingError, match=message) as caught:
        config_of(make())
    assert "\n" not in str(caught.value)


def test_a_network_that_is_built_already_is_named() -> None:
    from diffusers import UNet2DConditionModel

    config = {
        "block_out_channels": [8, 16],
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "attention_head_dim": 2,
        "cross_attention_dim": 8,
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    }
    with pytest.raises(SettingError, match=r"DiffusersUNet\.unet cannot be recorded: it is a UNet2DConditionModel"):
        config_of(DiffusersUNet(unet=UNet2DConditionModel(**config)))


def test_a_run_whose_config_cannot_be_recorded_says_why_it_cannot_be_loaded(tmp_path: Path) -> None:
    path = trained(passersby(optimizer=lambda weights: torch.optim.AdamW(weights, lr=1e-3)), tmp_path)
    with pytest.raises(WeightsError, match=r"saved without its config: PassersbyAnonymizer\.optimizer cannot be"):
        load_module(path)


def test_a_checkpoint_says_whom_it_must_be_trusted_for(tmp_path: Path) -> None:
    module = ToyGan(optimizers=two())
    save_module(module, None, tmp_path / "m.safetensors")
    with pytest.raises(SettingError, match=r"made with _toys: where their code may run, pass trusted=\('_toys',\)"):
        load_module(tmp_path / "m.safetensors")
    assert isinstance(load_module(tmp_path / "m.safetensors", trusted=("_toys",)), ToyGan)
    assert ADAM.keywords == {"lr": 0.01}


def test_half_weights_are_refused_before_the_first_batch() -> None:
    trainer = Trainer(
        accelerator="cpu",
        precision="bf16-true",
        max_steps=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    data = SyntheticDataModule(n_clips=24, n_frames=2, side=16, n_identities=4, batch_size=2)
    with pytest.raises(SettingError, match="precision=bf16-true: half weights cannot take small steps"):
        trainer.fit(passersby(), datamodule=data)
