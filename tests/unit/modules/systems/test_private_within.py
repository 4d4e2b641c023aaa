"""Private and pretrained slots that are no direct children of the system: they go by dotted names."""

from __future__ import annotations

import os
import stat
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from torch import Tensor

from _toys import SGD, Nested
from _weights_in_files import files_with
from pa_lib.callbacks import ExponentialAverage, LastCheckpoint, RandomState
from pa_lib.checkpoint import load_module, load_slots, private_path, save_module
from pa_lib.data import SyntheticDataModule
from pa_lib.errors import SettingError, WeightsError
from pa_lib.modules import OptimizerSpec

TRUSTED = ("_toys",)
NAME = "box.inner.recovery"
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*(many workers|not resumable|treespec|eval mode|is not empty|pre-optimization|WeightAveraging|dirpath).*"
)


def system(path: str | None = None, **adam: Any) -> Nested:
    make = partial(torch.optim.Adam, lr=0.01, **adam)
    specs = {"generator": OptimizerSpec(("generator", "box"), make), "critic": OptimizerSpec(("critic",), SGD)}
    return Nested(path=path, optimizers=specs)


def recovery(module: Any) -> Tensor:
    weight: Tensor = module.get_parameter(f"{NAME}.weight")
    return weight


def fit(module: Any, folder: Path, steps: int, *more: Callback, ckpt: Path | None = None) -> Trainer:
    weights = ModelCheckpoint(folder, "weights", save_weights_only=True, every_n_train_steps=2)
    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        max_epochs=-1,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=False,
        callbacks=[LastCheckpoint(folder / "last.ckpt", 3), weights, RandomState(), *more],
    )
    data = SyntheticDataModule(n_clips=24, n_frames=1, side=16, n_identities=4, batch_size=2)
    trainer.fit(module, datamodule=data, ckpt_path=ckpt, weights_only=True)
    trainer.save_checkpoint(folder / "manual.ckpt")
    return trainer


class Note(Callback):
    """Keeps the private weights of every step."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def on_train_batch_end(self, trainer: Trainer, module: Any, *arguments: Any) -> None:
        self.seen.append(recovery(module).detach().clone())


@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize("average", [None, ExponentialAverage, EMAWeightAveraging])
def test_no_public_file_holds_a_private_slot_that_lies_deeper(tmp_path: Path, average: Any, amsgrad: bool) -> None:
    module, note = system(amsgrad=amsgrad), Note()
    trainer = fit(module, tmp_path, 7, note, *([average()] if average else []))
    assert {"last.ckpt", "manual.ckpt", "weights.ckpt", "last.private.ckpt"} == {p.name for p in tmp_path.iterdir()}
    adam = trainer.optimizers[0].state[recovery(module)]
    moments = [value for value in adam.values() if value.ndim == 2]
    assert len(moments) == (3 if amsgrad else 2)
    for tensor in (*note.seen, *moments, recovery(module)):
        assert files_with(tensor, tmp_path) <= {"last.private.ckpt"}
    for tensor in (note.seen[-1], *moments):
        assert files_with(tensor, tmp_path) == {"last.private.ckpt"}
    assert files_with(module.box["open"].weight, tmp_path) >= {"last.ckpt", "manual.ckpt"}  # type: ignore[arg-type]
    assert stat.S_IMODE(os.stat(tmp_path / "last.private.ckpt").st_mode) == 0o600


def test_a_run_goes_on_exactly_and_needs_its_private_file(tmp_path: Path) -> None:
    fit(whole := system(), tmp_path / "whole", 9, ExponentialAverage(0.5))
    fit(system(), tmp_path / "cut", 5, ExponentialAverage(0.5))
    last = tmp_path / "cut" / "last.ckpt"
    fit(second := system(), tmp_path / "again", 9, ExponentialAverage(0.5), ckpt=last)
    for name, weight in whole.state_dict().items():
        assert torch.equal(second.state_dict()[name], weight), name
    private_path(last).unlink()
    with pytest.raises(WeightsError, match=r"last\.private\.ckpt: no such file"):
        fit(system(), tmp_path / "again", 9, ckpt=last)


def test_files_of_weights_go_by_the_dotted_name(tmp_path: Path) -> None:
    module = system()
    with torch.no_grad():
        for at, weight in enumerate(module.parameters()):
            weight.add_(at + 1)
    assert module.private_slots() == {NAME}
    public, part, own = (tmp_path / f"{name}.safetensors" for name in ("public", "part", "own"))
    save_module(module, None, public)
    save_module(module, None, part, slots=["box"])
    assert not files_with(recovery(module), tmp_path)
    save_module(module, None, own, slots=[NAME])
    assert files_with(recovery(module), tmp_path) == {own.name}
    assert not files_with(module.box["open"].weight, own.parent) - {public.name, part.name}  # type: ignore[arg-type]
    assert stat.S_IMODE(own.stat().st_mode) == 0o600
    with pytest.raises(SettingError, match=f"{NAME} must not leave with box"):
        save_module(module, None, tmp_path / "both.safetensors", slots=["box", NAME])
    without = load_module(public, trusted=TRUSTED)
    assert torch.equal(recovery(without), recovery(system()))
    whole = load_module(public, private=own, trusted=TRUSTED)
    assert all(torch.equal(whole.state_dict()[name], weight) for name, weight in module.state_dict().items())
    fresh = system()
    load_slots(fresh, public, ["box"])
    assert torch.equal(fresh.box["open"].weight, module.box["open"].weight)  # type: ignore[arg-type]
    assert torch.equal(recovery(fresh), recovery(system()))


def test_pretrained_slots_that_lie_deeper_are_left_out_where_they_are_frozen(tmp_path: Path) -> None:
    module = system("given.safetensors")
    assert set(module.origins()) == {"box.given", "shelf.0"}
    assert module.external_slots() == {"shelf.0"}  # box learns
    assert module.untrained_slots() >= {"box.open", "generator"}
    assert not module.untrained_slots() & {"box", "box.given", "shelf", "shelf.0"}
    fit(module, tmp_path, 2)
    content = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert "shelf.0.weight" not in content["state_dict"]
    assert "box.given.weight" in content["state_dict"]
    fit(system("given.safetensors"), tmp_path, 4, ckpt=tmp_path / "last.ckpt")
    loaded = load_module(tmp_path / "last.ckpt", trusted=TRUSTED)
    assert torch.equal(loaded.shelf[0].weight, module.shelf[0].weight)  # type: ignore[union-attr,index]
