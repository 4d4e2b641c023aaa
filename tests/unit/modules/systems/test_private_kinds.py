"""Every way in which private weights could reach a public file: foreign systems, hooks, hyperparameters, callbacks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor

from _toys import Bare, Careless, ToyGan, plain_system, two
from _weights_in_files import files_with
from pa_lib.callbacks import ConfigInCheckpoint, ExponentialAverage, LastCheckpoint, RandomState
from pa_lib.checkpoint import load_module, private_path, save_module
from pa_lib.data import SyntheticDataModule
from pa_lib.errors import SettingError, WeightsError

TRUSTED = ("_toys",)
pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning advises on all that is done here on purpose


class Copies(Callback):
    """Keeps weights of every step without their names, as averages of other makers do."""

    def __init__(self) -> None:
        self.shadow: list[Tensor] = []

    def on_train_batch_end(self, trainer: Trainer, module: Any, *arguments: Any) -> None:
        self.shadow = [weight.detach().clone() for weight in module.parameters()]

    def state_dict(self) -> dict[str, Any]:
        return {"shadow": self.shadow, "steps": 3}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.shadow = state_dict["shadow"]


def fit(module: Any, folder: Path, steps: int, *more: Callback, ckpt: Path | None = None) -> Trainer:
    plain = [
        ModelCheckpoint(folder, "whole", every_n_train_steps=1),
        ModelCheckpoint(folder, "weights", every_n_train_steps=2, save_weights_only=True),
    ]
    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        max_epochs=-1,
        limit_val_batches=0,
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=[CSVLogger(folder, "csv"), TensorBoardLogger(folder, "tensorboard")],
        callbacks=[LastCheckpoint(folder / "last.ckpt", 3), RandomState(), *plain, *more],
    )
    data = SyntheticDataModule(n_clips=24, n_frames=1, side=16, n_identities=4, batch_size=2)
    trainer.fit(module, datamodule=data, ckpt_path=ckpt, weights_only=True)
    trainer.save_checkpoint(folder / "manual.ckpt")
    return trainer


def test_a_system_on_plain_lightning_keeps_its_private_slot(tmp_path: Path) -> None:
    module = plain_system()
    trainer = fit(module, tmp_path, 5, copies := Copies())
    inner = module.recovery.inner.weight
    state = trainer.optimizers[0].state
    public = {"last.ckpt", "whole.ckpt", "weights.ckpt", "manual.ckpt"}
    for tensor in (module.recovery.weight, inner, *state[inner].values(), *copies.shadow[1:3]):
        if tensor.ndim == 2:
            assert files_with(tensor, tmp_path) == {"last.private.ckpt"}
    assert files_with(module.generator.weight, tmp_path) >= public - {"weights.ckpt"}  # which is of the step before
    for name in public:
        content = torch.load(tmp_path / name, weights_only=True)
        assert set(content["state_dict"]) == {"generator.weight"}, name
        assert content["hyper_parameters"] == {"width": 4}
    for path in tmp_path.rglob("hparams.yaml"):
        assert path.read_text().split() == ["width:", "4"]


def test_a_system_on_plain_lightning_goes_on_exactly(tmp_path: Path) -> None:
    fit(whole := plain_system(), tmp_path / "whole", 9, Copies())
    fit(plain_system(), tmp_path / "cut", 5, Copies())
    fit(second := plain_system(), tmp_path / "cut", 9, copies := Copies(), ckpt=tmp_path / "cut" / "last.ckpt")
    for name, weight in whole.state_dict().items():
        assert torch.equal(second.state_dict()[name], weight), name
    assert len(copies.shadow) == len(list(second.parameters()))
    private_path(tmp_path / "cut" / "last.ckpt").unlink()
    with pytest.raises(WeightsError, match=r"last\.private\.ckpt: no such file"):
        fit(plain_system(), tmp_path / "cut", 12, ckpt=tmp_path / "cut" / "last.ckpt")


def test_files_of_weights_keep_private_weights_by_every_name(tmp_path: Path) -> None:
    module = plain_system()
    save_module(module, None, tmp_path / "public.safetensors")
    save_module(module, None, tmp_path / "child.safetensors", slots=["shortcut"])
    assert not files_with(module.recovery.weight, tmp_path)
    assert not files_with(module.recovery.inner.weight, tmp_path)
    assert files_with(module.generator.weight, tmp_path) == {"public.safetensors"}
    save_module(module, None, tmp_path / "own.safetensors", slots=["recovery"])
    public, own = tmp_path / "public.safetensors", tmp_path / "own.safetensors"
    whole = load_module(public, private=own, trusted=TRUSTED)
    assert all(torch.equal(whole.state_dict()[name], one) for name, one in module.state_dict().items())
    load_module(public, trusted=TRUSTED)


def test_what_a_subclass_adds_is_not_written_to_public_files(tmp_path: Path) -> None:
    module = Careless(optimizers=two())
    fit(module, tmp_path, 4)
    assert files_with(module.recovery.weight, tmp_path) == {"last.private.ckpt"}
    content = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert content["extra"] == {"note": "text"}
    assert content["copies"] == {}


class Noted(ToyGan):
    """With hyperparameters."""

    def __init__(self, part: Any = None, *, width: int = 4, **training: Any) -> None:
        super().__init__(width=width, **training)
        self.parts = (part,)
        self.save_hyperparameters()


def test_hyperparameters_are_plain_values_and_the_file_can_be_read(tmp_path: Path) -> None:
    module = Noted(part := torch.nn.Linear(4, 4), optimizers=two())
    fit(module, tmp_path, 2, ConfigInCheckpoint({"_target_": "_toys.ToyGan"}))
    assert not files_with(part.weight, tmp_path)
    content = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert content["hyper_parameters"] == {"width": 4}
    load_module(tmp_path / "last.ckpt", trusted=TRUSTED)
    assert module.hparams == module.hparams_initial == {"width": 4}


def test_a_module_that_is_no_system_is_refused_with_private_slots(tmp_path: Path) -> None:
    trainer = Trainer(logger=False, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    for callback in (LastCheckpoint(tmp_path / "last.ckpt"), ConfigInCheckpoint({})):
        with pytest.raises(SettingError, match="Bare has the private slots recovery, which Lightning would write"):
            callback.setup(trainer, Bare(), "fit")
    save_module(Bare(), {"_target_": "_toys.Bare"}, tmp_path / "bare.safetensors")
    assert not files_with(Bare().recovery.weight, tmp_path)


def test_a_strategy_that_writes_weights_by_itself_is_refused() -> None:
    module = ToyGan(optimizers=two())

    class DeepSpeedStrategy:
        pass

    class Fake:
        strategy = DeepSpeedStrategy()

    module._trainer = Fake()  # type: ignore[assignment]
    with pytest.raises(SettingError, match="DeepSpeedStrategy writes all weights by itself, and recovery must not"):
        module.on_save_checkpoint({"state_dict": {}})


# -- pairs -------------------------------------------------------------------------------------------------------------


def test_the_private_file_of_another_run_of_the_same_step_is_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        fit(ToyGan(optimizers=two()), tmp_path / name, 4, ExponentialAverage(0.5))
    last, other = tmp_path / "one" / "last.ckpt", private_path(tmp_path / "two" / "last.ckpt")
    with pytest.raises(WeightsError, match=r"two/last\.private\.ckpt: is of another run or module than the checkpoint"):
        load_module(last, private=other, trusted=TRUSTED)
    private_path(last).write_bytes(other.read_bytes())
    with pytest.raises(WeightsError, match="is of another run or module than the checkpoint"):
        fit(ToyGan(optimizers=two()), tmp_path / "again", 6, ExponentialAverage(0.5), ckpt=last)
    content = torch.load(last, weights_only=True)
    del content["pa_lib"]["pair"]  # a file of an older version goes by its step
    torch.save(content, last)
    load_module(last, private=other, trusted=TRUSTED)


def test_files_of_weights_of_two_modules_are_no_pair(tmp_path: Path) -> None:
    one, two_ = plain_system(), plain_system()
    with torch.no_grad():
        two_.recovery.weight.add_(1)
    save_module(one, None, tmp_path / "public.safetensors")
    save_module(two_, None, tmp_path / "other.safetensors", slots=["recovery"])
    save_module(one, None, tmp_path / "half.safetensors", slots=["recovery"], dtype=torch.float16)
    with pytest.raises(WeightsError, match=r"other\.safetensors: is of another run or module"):
        load_module(tmp_path / "public.safetensors", private=tmp_path / "other.safetensors", trusted=TRUSTED)
    load_module(tmp_path / "public.safetensors", private=tmp_path / "half.safetensors", trusted=TRUSTED)


class KilledError(RuntimeError):
    """The power fails."""


@pytest.mark.parametrize("moment", ["public", "move"])
def test_a_crash_between_the_two_files_leaves_a_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    fit(whole := ToyGan(optimizers=two()), tmp_path / "whole", 9)
    last = tmp_path / "cut" / "last.ckpt"
    fit(ToyGan(optimizers=two()), last.parent, 3)
    with monkeypatch.context() as patch:
        if moment == "public":
            patch.setattr(Trainer, "save_checkpoint", _dumped)
        else:
            patch.setattr(os, "replace", _moved)
        with pytest.raises(KilledError):
            fit(ToyGan(optimizers=two()), last.parent, 6, ckpt=last)
    assert torch.load(last, weights_only=True)["global_step"] == {"public": 3, "move": 6}[moment]
    with monkeypatch.context() as patch:  # and once more, at the next save
        patch.setattr(Trainer, "save_checkpoint", _dumped)
        with pytest.raises(KilledError):
            fit(ToyGan(optimizers=two()), last.parent, 8, ckpt=last)
    fit(second := ToyGan(optimizers=two()), last.parent, 9, ckpt=last)
    for name, weight in whole.state_dict().items():
        assert torch.equal(second.state_dict()[name], weight), name
    assert not list(last.parent.glob("*next*"))


_replace, _save = os.replace, Trainer.save_checkpoint


def _moved(source: Path, target: Path) -> None:
    if Path(source).name == "last.private.next.ckpt":
        raise KilledError
    _replace(source, target)


def _dumped(trainer: Trainer, path: Any, *arguments: Any, **options: Any) -> None:
    if Path(path).name == "last.ckpt":
        trainer._checkpoint_connector.dump_checkpoint()
        raise KilledError
    _save(trainer, path, *arguments, **options)
