"""Weights of private slots lie in one file, which its owner alone can read, and in no other."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor

from _toys import ToyGan, two
from pa_lib.callbacks import ConfigInCheckpoint, ExponentialAverage, LastCheckpoint, RandomState
from pa_lib.checkpoint import load_module, private_path, save_module
from pa_lib.data import SyntheticDataModule
from pa_lib.errors import SettingError, WeightsError

TRUSTED = ("_toys",)
pytestmark = pytest.mark.filterwarnings("ignore:.*(many workers|not resumable|treespec|eval mode|is not empty).*")


def system() -> ToyGan:
    return ToyGan(optimizers=two())


def fit(module: ToyGan, folder: Path, steps: int, ckpt: Path | None = None, *, has_average: bool = True) -> Trainer:
    best = ModelCheckpoint(folder, "best", monitor="val/loss", auto_insert_metric_name=False)
    callbacks = [LastCheckpoint(folder / "last.ckpt", 3), best, RandomState()]
    callbacks += [ExponentialAverage(0.5)] * has_average
    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        max_epochs=-1,
        num_sanity_val_steps=0,
        val_check_interval=2,
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=[CSVLogger(folder, "csv"), TensorBoardLogger(folder, "tensorboard")],
        log_every_n_steps=1,
        callbacks=callbacks,
    )
    data = SyntheticDataModule(n_clips=24, n_frames=1, side=16, n_identities=4, batch_size=2)
    trainer.fit(module, datamodule=data, ckpt_path=ckpt, weights_only=True)
    return trainer


def files_with(tensor: Tensor, folder: Path) -> set[str]:
    """Names of the files below `folder` that hold the values of a tensor, in float32 or as half of them do."""
    rows = [row.contiguous() for row in tensor.detach().cpu()]
    patterns = [row.to(dtype).view(torch.uint8).numpy().tobytes() for row in rows for dtype in (tensor.dtype,)]
    found = set()
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            if any(pattern in content for pattern in patterns):
                found.add(path.name)
    return found


@pytest.mark.parametrize("has_average", [True, False])
def test_no_other_file_of_a_run_holds_what_is_private(tmp_path: Path, has_average: bool) -> None:
    module = system()
    learning: list[Tensor] = []
    step = module.on_train_batch_end

    def note(*arguments: Any) -> None:  # the weights of every step, not only of the last one
        learning.append(module.recovery.weight.detach().clone())
        step(*arguments)

    module.on_train_batch_end = note  # type: ignore[method-assign]
    trainer = fit(module, tmp_path, 7, has_average=has_average)
    state = trainer.optimizers[0].state[module.recovery.weight]
    private = [*learning, module.recovery.weight, state["exp_avg"], state["exp_avg_sq"]]
    assert {name for tensor in private for name in files_with(tensor, tmp_path)} == {"last.private.ckpt"}
    for tensor in (learning[-1], state["exp_avg"], state["exp_avg_sq"]):  # what the search would have found
        assert files_with(tensor, tmp_path) == {"last.private.ckpt"}
    # The search finds what is not private. What optimizers keep of it may tell of the rest (LBFGS mixes all weights).
    assert files_with(module.generator.weight, tmp_path) >= {"last.ckpt"}
    public = trainer.optimizers[0].state[module.generator.weight]["exp_avg"]
    assert files_with(public, tmp_path) == {"last.private.ckpt"}
    mode = stat.S_IMODE(os.stat(tmp_path / "last.private.ckpt").st_mode)
    assert mode == 0o600


def test_a_run_with_a_private_slot_goes_on_exactly(tmp_path: Path) -> None:
    fit(whole := system(), tmp_path / "whole", 9)
    fit(system(), tmp_path / "cut", 5)
    fit(second := system(), tmp_path / "cut", 9, ckpt=tmp_path / "cut" / "last.ckpt")
    for name, weight in whole.state_dict().items():
        assert torch.equal(second.state_dict()[name], weight), name


def test_a_run_without_its_private_file_is_not_resumed(tmp_path: Path) -> None:
    fit(system(), tmp_path, 4)
    last, private = tmp_path / "last.ckpt", private_path(tmp_path / "last.ckpt")
    private.rename(tmp_path / "aside")
    with pytest.raises(WeightsError, match=r"last\.private\.ckpt: no such file; the checkpoint's private slots"):
        fit(system(), tmp_path / "again", 6, ckpt=last)
    (tmp_path / "more").mkdir()
    fit(system(), tmp_path / "more", 5)
    private_path(tmp_path / "more" / "last.ckpt").rename(private)
    with pytest.raises(WeightsError, match="is of step 5, the checkpoint of step 4; they do not belong together"):
        fit(system(), tmp_path / "again", 6, ckpt=last)


def test_a_private_file_brings_its_slot_back(tmp_path: Path) -> None:
    module = system()
    fit(module, tmp_path, 4)
    fresh = system().recovery.weight
    without = load_module(tmp_path / "last.ckpt", trusted=TRUSTED)
    assert torch.equal(without.recovery.weight, fresh)
    assert torch.equal(without.generator.weight, module.generator.weight)
    whole = load_module(tmp_path / "last.ckpt", private=tmp_path / "last.private.ckpt", trusted=TRUSTED)
    for name, weight in module.state_dict().items():  # the average, as after the training
        assert torch.equal(whole.state_dict()[name], weight), name


def test_weights_alone_leave_without_what_is_private(tmp_path: Path) -> None:
    module = system()
    with torch.no_grad():
        for at, weight in enumerate(module.parameters()):
            weight.add_(at + 1)
    save_module(module, None, tmp_path / "out" / "m.safetensors")
    assert not files_with(module.recovery.weight, tmp_path)
    save_module(module, None, tmp_path / "own" / "m.private.safetensors", slots=("recovery",))
    own = tmp_path / "own" / "m.private.safetensors"
    assert stat.S_IMODE(own.stat().st_mode) == 0o600
    assert files_with(module.recovery.weight, tmp_path) == {own.name}
    assert not files_with(module.generator.weight, tmp_path / "own")
    without = load_module(tmp_path / "out" / "m.safetensors", trusted=TRUSTED)
    assert torch.equal(without.recovery.weight, system().recovery.weight)
    whole = load_module(tmp_path / "out" / "m.safetensors", private=own, trusted=TRUSTED)
    assert torch.equal(whole.recovery.weight, module.recovery.weight)
    with pytest.raises(SettingError, match="recovery must not leave with generator"):
        save_module(module, None, tmp_path / "both.safetensors", slots=("generator", "recovery"))
    with pytest.raises(WeightsError, match="holds the private slots recovery and nothing else; give it as private="):
        load_module(own, trusted=TRUSTED)
    with pytest.raises(WeightsError, match="holds no private slots"):
        load_module(tmp_path / "out" / "m.safetensors", private=tmp_path / "out" / "m.safetensors", trusted=TRUSTED)


def test_the_config_of_a_command_line_goes_before_the_module_s_own(tmp_path: Path) -> None:
    module = system()
    checkpoint: dict[str, Any] = {"state_dict": dict(module.state_dict())}
    trainer = Trainer(logger=False, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    ConfigInCheckpoint({"_target_": "_toys.ToyGan", "seed": 7}).on_save_checkpoint(trainer, module, checkpoint)
    apart: list[dict[str, Any]] = []
    with module.private_part_to(lambda part, mark: apart.append(part)):
        module.on_save_checkpoint(checkpoint)
    assert checkpoint["pa_lib"]["config"] == {"_target_": "_toys.ToyGan", "seed": 7}
    assert not any(name.startswith("recovery.") for name in checkpoint["state_dict"])
    assert [set(part["state_dict"]) for part in apart] == [{"recovery.weight"}]
    module.on_save_checkpoint(checkpoint)
    assert len(apart) == 1
