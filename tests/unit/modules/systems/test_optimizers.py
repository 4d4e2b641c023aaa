"""Several optimizers by name: each steps its own slots, and one batch is one training step."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor

from _toys import ADAM, SGD, Part, ToyGan, two
from pa_lib.callbacks import ExponentialAverage, LastCheckpoint, RandomState
from pa_lib.contracts import Batch
from pa_lib.data import SyntheticDataModule
from pa_lib.errors import PaLibError, SettingError
from pa_lib.modules import OptimizerSpec

quiet = pytest.mark.filterwarnings("ignore:.*(many workers|not resumable|treespec|eval mode).*")


def fit(module: Any, steps: int, *callbacks: Callback, ckpt: Path | None = None, **more: Any) -> Trainer:
    settings: dict[str, Any] = {"max_steps": steps, "max_epochs": -1, "num_sanity_val_steps": 0, "logger": False} | more
    trainer = Trainer(
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(callback, LastCheckpoint) for callback in callbacks),
        callbacks=list(callbacks),
        **settings,
    )
    data = SyntheticDataModule(n_clips=24, n_frames=1, side=16, n_identities=4, batch_size=2)
    trainer.fit(module, datamodule=data, ckpt_path=ckpt, weights_only=True)
    return trainer


class Six(ToyGan):
    """Six optimizers, a slot each."""

    optimizer_names = tuple(f"part_{number}" for number in range(6))

    def __init__(self, **training: Any) -> None:
        slots = {f"part_{number}": Part(4, number) for number in range(6)}
        self.made = slots
        super().__init__(**training)

    def set_up_training(self) -> None:
        for name, slot in vars(self).pop("made").items():
            setattr(self, name, slot)
        super().set_up_training()

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        self.seen.append((self.train_step, self.trainer.global_step))
        x = self.values(batch)
        for name in self.optimizer_names:
            x = x.detach()
            x = getattr(self, name)(x)
            self.step(name, (x**2).mean())


def six(**more: Any) -> dict[str, OptimizerSpec]:
    return {name: OptimizerSpec((name,), SGD, **more) for name in Six.optimizer_names}


@quiet
@pytest.mark.parametrize(("make", "specs"), [(ToyGan, two), (Six, six)])
def test_a_run_stops_after_as_many_batches_as_it_was_asked_for(make: Any, specs: Any) -> None:
    module = make(optimizers=specs())
    average = ExponentialAverage()
    trainer = fit(module, 7, average)
    assert [step for step, _ in module.seen] == list(range(7))
    assert [step for _, step in module.seen] == list(range(7))
    assert trainer.global_step == module.train_step == average.n_updates == 7


@quiet
def test_each_optimizer_steps_as_often_as_it_should() -> None:
    module = ToyGan(optimizers=two(every=3, schedule=partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5)))
    before = module.frozen.weight.clone()
    trainer = fit(module, 7)
    generator, critic = trainer.optimizers
    assert {int(state["step"]) for state in generator.state.values()} == {3}  # in steps 0, 3 and 6
    assert len(generator.state) == 2  # generator and recovery
    assert generator.param_groups[0]["lr"] == pytest.approx(0.01 * 0.5**3)
    assert critic.param_groups[0]["lr"] == 0.1
    assert trainer.global_step == 7
    assert torch.equal(module.frozen.weight, before)


@quiet
def test_steps_are_those_of_plain_pytorch() -> None:
    module = ToyGan(optimizers=two(clip=0.05))
    loop = ToyGan(optimizers=two())
    batches: list[Tensor] = []
    values = module.values
    module.values = lambda batch: batches.append(values(batch)) or batches[-1]  # type: ignore[assignment]
    fit(module, 5)
    learned = [*loop.generator.parameters(), *loop.recovery.parameters()]
    generator, critic = ADAM(learned), SGD(loop.critic.parameters())
    for x in batches:
        fake = loop.generator(x)
        critic.zero_grad()
        ((loop.critic(fake.detach()) ** 2).mean() - loop.critic(x).mean()).backward()
        critic.step()
        generator.zero_grad()
        (-loop.critic(fake).mean() + ((loop.recovery(fake) - x) ** 2).mean()).backward()
        torch.nn.utils.clip_grad_norm_(learned, 0.05)
        generator.step()
    for name, weight in loop.state_dict().items():
        assert torch.equal(module.state_dict()[name], weight), name


@quiet
@pytest.mark.parametrize("every", [1, 2])
def test_a_resumed_run_is_the_same_run(tmp_path: Path, every: int) -> None:
    schedule = partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=9)
    last = tmp_path / "last.ckpt"
    fit(whole := ToyGan(optimizers=two(every=every, schedule=schedule)), 9, ExponentialAverage(0.5), RandomState())
    first = ToyGan(optimizers=two(every=every, schedule=schedule))
    fit(first, 5, ExponentialAverage(0.5), RandomState(), LastCheckpoint(last, 2))
    second = ToyGan(optimizers=two(every=every, schedule=schedule))
    trainer = fit(second, 9, ExponentialAverage(0.5), RandomState(), ckpt=last)
    assert first.seen + second.seen == whole.seen
    assert trainer.global_step == 9
    for name, weight in whole.state_dict().items():
        assert torch.equal(second.state_dict()[name], weight), name


@quiet
def test_checkpoints_come_at_training_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []
    monkeypatch.setattr(
        Trainer, "save_checkpoint", lambda trainer, path, weights_only: saved.append(trainer.global_step)
    )
    fit(Six(optimizers=six(every=2)), 8, LastCheckpoint(tmp_path / "last.ckpt", every_n_steps=3))
    assert saved == [3, 6, 8]


@quiet
@pytest.mark.parametrize("setting", [{"accumulate_grad_batches": 2}, {"gradient_clip_val": 1.0}])
def test_what_only_one_optimizer_can_have_is_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(MisconfigurationException, match="not supported for manual optimization"):
        fit(ToyGan(optimizers=two()), 2, **setting)


class Guarded(ToyGan):
    """No loss is computed for an optimizer that does not step."""

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        self.seen.append((self.train_step, self.trainer.global_step))
        x = self.values(batch)
        for name in self.optimizer_names:
            if self.is_due(name):
                self.step(name, (getattr(self, name)(x) ** 2).mean())


@quiet
def test_a_step_in_which_no_optimizer_is_due_is_a_step(tmp_path: Path) -> None:
    plain = {name: OptimizerSpec(spec.slots, spec.make, every=3) for name, spec in two().items()}
    module = Guarded(optimizers=plain)
    before = {name: weight.clone() for name, weight in module.state_dict().items()}
    trainer = fit(module, 6, LastCheckpoint(tmp_path / "last.ckpt", every_n_steps=2))
    assert [step for step, _ in module.seen] == [step for _, step in module.seen] == list(range(6))
    assert trainer.global_step == module.train_step == 6
    assert not torch.equal(module.state_dict()["critic.weight"], before["critic.weight"])
    assert module.is_due("critic")  # asked between steps, it counts none
    assert trainer.global_step == 6


class Lazy(ToyGan):
    """A training step that trains nothing."""

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        pass


class OneOfTwo(ToyGan):
    """A training step that leaves one of its optimizers out."""

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        self.step("critic", (self.critic(self.values(batch)) ** 2).mean())


class Detached(ToyGan):
    """A loss that no weight has a part in."""

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        self.step("critic", self.values(batch).mean())


@quiet
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Lazy, r"did not call self\.step\(name, loss\) for generator, critic in step 0"),
        (OneOfTwo, r"did not call self\.step\(name, loss\) for generator in step 0; expected it for each of gen"),
        (Detached, "critic depends on no weight of critic"),
    ],
)
def test_a_step_without_learning_is_refused(make: Any, message: str) -> None:
    with pytest.raises(PaLibError, match=message):
        fit(make(optimizers=two()), 2)


@pytest.mark.wrong_types
@pytest.mark.parametrize(
    ("training", "message"),
    [
        (
            {"optimizers": {"generator": OptimizerSpec(("generator",), SGD)}},
            "steps the optimizers generator, critic;",
        ),
        ({"optimizers": two() | {"more": OptimizerSpec(("frozen",), SGD)}}, "got generator, critic, more"),
        ({"optimizers": two() | {"critic": OptimizerSpec(("critik",), SGD)}}, "slot critik, which ToyGan does not"),
        (
            {"optimizers": two() | {"critic": OptimizerSpec(("critic", "recovery"), SGD)}},
            "slot recovery of ToyGan has two optimizers, generator and critic",
        ),
        ({"optimizers": two(), "trainable": ["generator", "critic", "recovery", "frozen"]}, "^frozen of ToyGan should"),
        ({"optimizers": two(), "trainable": ["generator", "critic"]}, "generator updates recovery of ToyGan, which is"),
        ({"optimizers": two(), "optimizer": SGD}, "optimizer and optimizers; give one"),
        ({"optimisers": two()}, "ToyGan has no setting optimisers"),
        ({"trainable": ["wheel"]}, "trainable names wheel"),
        ({"trainable": "critic"}, "trainable: got 'critic', expected a list"),
        ({"optimizers": [OptimizerSpec(("critic",), SGD)]}, "optimizers of ToyGan: got .*, expected a mapping"),
        ({"optimizers": {"critic": {"slots": ["critic"]}}}, "optimizer critic of ToyGan: got .*, expected an Opt"),
        ({"seed": -1}, "seed: got -1, expected a whole number from 0"),
        ({"seed": True}, "seed: got True, expected a"),
        ({"seed": "x"}, "seed: got 'x', expected a"),
        ({"seed": None}, "seed: got None, expected a"),
    ],
)
def test_optimizers_that_do_not_fit_the_slots_are_refused(training: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        ToyGan(**training)


def test_one_optimizer_is_not_enough_for_two() -> None:
    with pytest.raises(SettingError, match="got one optimizer without a name"):
        ToyGan(optimizer=SGD, trainable=["generator"]).configure_optimizers()
    with pytest.raises(SettingError, match="no optimizer; give it one to train it, optimizers with the names"):
        ToyGan().configure_optimizers()


@pytest.mark.wrong_types
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"slots": ()}, "at least one slot"),
        ({"slots": "adapter"}, "slots of an optimizer: got 'adapter', expected a list"),
        ({"every": 1.5}, "every of an optimizer: got 1.5, expected a valid integer"),
        ({"every": "2"}, "every of an optimizer: got '2', expected a valid integer"),
        ({"every": True}, "every of an optimizer: got True, expected a valid integer"),
        ({"clip": "1"}, "clip of an optimizer: got '1', expected a valid number"),
        ({"every": 0}, "every of an optimizer is 0"),
        ({"clip": 0.0}, "clip of an optimizer is 0"),
    ],
)
def test_specs_out_of_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        OptimizerSpec(**({"slots": ("a",), "make": SGD} | settings))


def test_torchs_words_on_a_wrong_rate_name_the_setting() -> None:
    specs = two() | {"critic": OptimizerSpec(("critic",), partial(torch.optim.SGD, lr=-1.0))}
    with pytest.raises(SettingError, match=r"module\.optimizers\.critic\.make: Invalid learning rate: -1"):
        ToyGan(optimizers=specs).configure_optimizers()


@pytest.mark.parametrize(
    ("critic", "message"),
    [
        ({"make": partial(torch.optim.AdamW, lr="fast")}, "make.lr: got 'fast', expected a valid number, e.g. 0.001"),
        (
            {"make": partial(torch.optim.AdamW, betas=[0.9, "much"])},
            r"make.betas: got [0.9, 'much'], expected a valid nu",
        ),
        (
            {"make": SGD, "schedule": partial(torch.optim.lr_scheduler.LinearLR, total_iters="ten")},
            "schedule.total_iters: got 'ten', expected a valid integer, e.g. 5",
        ),
    ],
)
def test_a_setting_of_a_wrong_type_is_named(critic: dict[str, Any], message: str) -> None:
    specs = two() | {"critic": OptimizerSpec(("critic",), **critic)}
    with pytest.raises(SettingError, match=re.escape(f"module.optimizers.critic.{message}")):
        ToyGan(optimizers=specs).configure_optimizers()
