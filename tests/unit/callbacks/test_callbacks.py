"""Callbacks on a module small enough to work out by hand."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from _training import Standin
from pa_lib.callbacks import ExponentialAverage, LastCheckpoint, NanGuard, Preview, Progress, RandomState
from pa_lib.callbacks.preview import contact_sheet
from pa_lib.contracts import Batch, Result
from pa_lib.data import SyntheticDataModule
from pa_lib.errors import PaLibError


class Counting(LightningModule):
    """A weight that grows by one every step: SGD on loss = -w."""

    def __init__(self, dtype: torch.dtype = torch.float32, n_optimizers: int = 1) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros((), dtype=dtype))
        self.v = torch.nn.Parameter(torch.zeros((), dtype=dtype))
        self.frozen = torch.nn.Parameter(torch.ones(()), requires_grad=False)
        self.n_optimizers = n_optimizers
        self.automatic_optimization = n_optimizers == 1
        self.validated: list[float] = []
        self.drawn: list[float] = []

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor | None:
        self.drawn.append(float(torch.rand(())) + random.random() + float(np.random.rand()))
        loss = -self.w - self.v
        if self.automatic_optimization:
            return loss
        self.manual_backward(loss)
        for optimizer in self.optimizers():
            optimizer.step()
            optimizer.zero_grad()
        return None

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        torch.rand(3)
        self.validated.append(float(self.w))

    def configure_optimizers(self) -> Any:
        if self.n_optimizers == 1:
            return torch.optim.SGD([self.w, self.v], lr=1.0)
        return [torch.optim.SGD([weight], lr=1.0) for weight in (self.w, self.v)]


def fit(
    module: LightningModule, callbacks: list[Callback], steps: int, ckpt: Path | None = None, **more: Any
) -> Trainer:
    settings: dict[str, Any] = {"max_steps": steps, "max_epochs": -1, "num_sanity_val_steps": 0} | more
    settings.setdefault("enable_progress_bar", False)
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(callback, LastCheckpoint) for callback in callbacks),
        callbacks=callbacks,
        **settings,
    )
    loader = DataLoader(torch.zeros(100, 1), batch_size=1)
    trainer.fit(module, loader, DataLoader(torch.zeros(1, 1)), ckpt_path=ckpt, weights_only=True)
    return trainer


quiet = pytest.mark.filterwarnings("ignore:.*(many workers|not resumable|treespec).*")


def averaged(values: list[float], decay: float) -> float:
    average = values[0]
    for n, value in enumerate(values[1:], 1):
        d = min(decay, (1 + n) / (10 + n))
        average = d * average + (1 - d) * value
    return average


@quiet
def test_average_follows_the_formula_and_is_what_is_validated_and_kept() -> None:
    module = Counting()
    fit(module, [ExponentialAverage(decay=0.25)], 6, val_check_interval=3)
    assert module.validated == pytest.approx([averaged([0, 1, 2, 3], 0.25), averaged(list(range(7)), 0.25)], abs=1e-6)
    assert module.w.item() == pytest.approx(averaged(list(range(7)), 0.25), abs=1e-6)
    assert module.frozen.item() == 1


@quiet
def test_average_counts_summed_batches_as_one_step() -> None:
    module = Counting()
    fit(module, [ExponentialAverage(decay=0.25)], 2, accumulate_grad_batches=3)
    assert module.w.item() == pytest.approx(averaged([0, 1, 2], 0.25), abs=1e-6)


@quiet
def test_average_is_kept_precisely_where_weights_are_not(tmp_path: Path) -> None:
    whole, first, second = (Counting(dtype=torch.bfloat16) for _ in range(3))
    last = tmp_path / "last.ckpt"
    fit(whole, [average := ExponentialAverage(0.99)], 5)
    fit(first, [ExponentialAverage(0.99), LastCheckpoint(last)], 2)
    fit(second, [resumed := ExponentialAverage(0.99)], 5, ckpt=last)
    assert average._averages["w"].dtype == torch.float32
    assert torch.equal(resumed._averages["w"], average._averages["w"])
    assert torch.equal(second.w, whole.w)


@quiet
def test_last_checkpoint_holds_the_average_and_the_training_weights(tmp_path: Path) -> None:
    module = Counting()
    fit(module, [ExponentialAverage(0.25), LastCheckpoint(tmp_path / "a" / "last.ckpt", every_n_steps=2)], 5)
    stored = torch.load(tmp_path / "a" / "last.ckpt", weights_only=True)
    assert stored["global_step"] == 5  # the last step, though 5 is no multiple of 2
    assert float(stored["training_weights"]["w"]) == 5
    assert float(stored["state_dict"]["w"]) == pytest.approx(averaged(list(range(6)), 0.25), abs=1e-6)
    assert "frozen" not in stored["training_weights"]


@quiet
@pytest.mark.parametrize("n_optimizers", [1, 2])
def test_saves_come_at_the_steps_asked_for(tmp_path: Path, n_optimizers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []
    monkeypatch.setattr(
        Trainer, "save_checkpoint", lambda trainer, path, weights_only: saved.append(trainer.global_step)
    )
    fit(Counting(n_optimizers=n_optimizers), [LastCheckpoint(tmp_path / "last.ckpt", every_n_steps=3)], 8)
    # Two optimizers count two steps a batch: 2, 4, 6, 8; the multiples of 3 are passed at 4 and at 6.
    assert saved == ([3, 6, 8] if n_optimizers == 1 else [4, 6, 8])


class Scored(Counting):
    """Its validation gives a value that is prescribed for each step."""

    def __init__(self, scores: dict[int, float]) -> None:
        super().__init__()
        self.scores = scores

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        super().validation_step(batch, batch_idx)
        self.log("score", self.scores[self.trainer.global_step])


class Ending(Callback):
    """Ends a run in the validation of a step, as early stopping does."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.should_stop = trainer.should_stop or trainer.global_step == 3


@quiet
@pytest.mark.filterwarnings("ignore:.*exists and is not empty")
@pytest.mark.parametrize("is_last_first", [True, False])
def test_a_resumed_run_remembers_the_validation_of_the_step_it_was_saved_at(
    tmp_path: Path, is_last_first: bool
) -> None:
    def run(steps: int, ckpt: Path | None = None) -> ModelCheckpoint:
        best = ModelCheckpoint(tmp_path / "part", filename="best", monitor="score", enable_version_counter=False)
        callbacks = [LastCheckpoint(tmp_path / "part" / "last.ckpt", every_n_steps=2), best]
        module = Scored({2: 3.0, 4: 1.0, 6: 2.0})
        fit(module, callbacks if is_last_first else callbacks[::-1], steps, ckpt=ckpt, val_check_interval=2)
        return best

    run(4)
    best = run(6, tmp_path / "part" / "last.ckpt")
    assert float(best.best_model_score) == 1.0
    assert torch.load(tmp_path / "part" / "best.ckpt", weights_only=True)["global_step"] == 4


@quiet
def test_a_run_that_a_validation_ends_is_saved_where_it_ended(tmp_path: Path) -> None:
    fit(Counting(), [LastCheckpoint(tmp_path / "last.ckpt"), Ending()], 8, val_check_interval=3)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 3


@quiet
def test_no_validation_saves_between_batches_that_are_summed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []
    monkeypatch.setattr(
        Trainer, "save_checkpoint", lambda trainer, path, weights_only: saved.append(trainer.fit_loop.total_batch_idx)
    )
    last = LastCheckpoint(tmp_path / "last.ckpt", every_n_steps=1)
    fit(Counting(), [last], 3, val_check_interval=3, accumulate_grad_batches=2)
    assert saved == [1, 3, 5, 5]  # steps end with the batches 1, 3 and 5; validation comes after 2 and 5


@quiet
def test_other_trained_weights_than_in_the_checkpoint_are_refused(tmp_path: Path) -> None:
    fit(Counting(), [ExponentialAverage(), LastCheckpoint(tmp_path / "last.ckpt")], 1)
    other = Counting()
    other.frozen.requires_grad_(True)
    with pytest.raises(PaLibError, match="frozen was not trained in it"):
        fit(other, [ExponentialAverage()], 2, ckpt=tmp_path / "last.ckpt")


@quiet
@pytest.mark.parametrize("n_optimizers", [1, 2])
def test_random_numbers_go_on_where_they_stopped(tmp_path: Path, n_optimizers: int) -> None:
    last = tmp_path / "last.ckpt"
    steps = n_optimizers  # of a batch

    def seeded() -> Counting:
        torch.manual_seed(3)
        random.seed(3)
        np.random.seed(3)
        return Counting(n_optimizers=n_optimizers)

    fit(whole := seeded(), [RandomState()], 6 * steps, val_check_interval=2)
    fit(first := seeded(), [RandomState(), LastCheckpoint(last)], 3 * steps)  # validates at other times, too
    torch.manual_seed(99)
    fit(second := Counting(n_optimizers=n_optimizers), [RandomState()], 6 * steps, ckpt=last)
    assert first.drawn + second.drawn == whole.drawn
    assert second.w.item() == 6


@quiet
def test_another_number_of_processes_is_told(tmp_path: Path) -> None:
    trainer = Trainer(logger=False, accelerator="cpu", enable_progress_bar=False)
    with pytest.raises(PaLibError, match=r"2 processes, this run has 1.*~callbacks\.random_state"):
        RandomState().on_load_checkpoint(trainer, Counting(), {"random_states": [{}, {}]})


@quiet
@pytest.mark.parametrize("is_manual", [False, True])
def test_nan_stops_before_the_weights_change(is_manual: bool) -> None:
    data = SyntheticDataModule(n_clips=20, n_frames=1, side=16, n_identities=4, batch_size=2)
    # With two optimizers Lightning counts two steps to a batch.
    module = Standin(nan_at=2, is_manual=is_manual)
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        max_steps=4,
        limit_val_batches=0,
        callbacks=[NanGuard()],
    )
    with pytest.raises(PaLibError, match="the loss is NaN at step 2; lower the learning rate"):
        trainer.fit(module, datamodule=data)
    assert all(weight.isfinite().all() for weight in module.parameters())


def test_guard_lets_a_scaled_half_precision_overflow_pass() -> None:
    trainer = Trainer(logger=False, accelerator="cpu", enable_progress_bar=False)
    NanGuard().on_before_backward(trainer, Counting(), torch.tensor(float("inf"), dtype=torch.float16))
    with pytest.raises(PaLibError, match="infinite at step 0"):
        NanGuard().on_before_backward(trainer, Counting(), torch.tensor(float("inf")))


def result(n_frames: int) -> Result:
    source = torch.zeros(2, n_frames, 3, 4, 6)
    source[:, :, 0] = 1.0  # red
    masks = torch.zeros(2, n_frames, 1, 4, 6)
    masks[..., :3] = 1.0
    anonymized = torch.zeros_like(source)
    anonymized[:, :, 2] = 1.0  # blue
    return Result(source, anonymized, masks, torch.arange(2))


class Images:
    """A logger that takes images, as TensorBoard's."""

    def __init__(self) -> None:
        self.experiment = self
        self.given: list[tuple[str, tuple[int, ...], int]] = []

    def add_image(self, tag: str, picture: Any, step: int, dataformats: str) -> None:
        self.given.append((tag, picture.shape, step))


@pytest.mark.parametrize(("n_frames", "size"), [(1, (18, 8)), (3, (18, 24)), (20, (48, 24))])
def test_preview_pictures(
    tmp_path: Path, n_frames: int, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(logger=False, accelerator="cpu", enable_progress_bar=False)
    logger = Images()
    monkeypatch.setattr(Trainer, "loggers", [logger])
    preview = Preview(tmp_path / "p", n_clips=2)
    preview.on_validation_start(trainer, Counting())
    for index in range(2):  # the second batch is one too many
        preview.on_validation_batch_end(trainer, Counting(), result(n_frames), None, index)
    preview.on_validation_end(trainer, Counting())
    picture = Image.open(tmp_path / "p" / "step_0000000.png")
    assert picture.size == size
    assert picture.getpixel((0, 0)) == (255, 0, 0)
    if n_frames == 1:
        assert picture.getpixel((6, 0)) == (128, 128, 128)  # masked
        assert picture.getpixel((9, 0)) == (255, 0, 0)  # beside the mask
        assert picture.getpixel((12, 0)) == (0, 0, 255)
    assert logger.given == [("val/preview", (size[1], size[0], 3), 0)]
    clips = list((tmp_path / "p").glob("*.gif"))
    assert len(clips) == (n_frames > 1)
    for path in clips:
        with Image.open(path) as moving:
            assert moving.size == (18, 8)


def test_preview_needs_no_result(tmp_path: Path) -> None:
    trainer = Trainer(logger=False, accelerator="cpu", enable_progress_bar=False)
    preview = Preview(tmp_path / "p")
    preview.on_validation_batch_end(trainer, Counting(), None, None, 0)
    preview.on_validation_end(trainer, Counting())
    assert not (tmp_path / "p").exists()


def test_sheets_of_unequal_length_are_padded() -> None:
    assert contact_sheet([torch.zeros(3, 2, 3, 4, 6), torch.zeros(3, 5, 3, 4, 6)]).shape == (24, 30, 3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ExponentialAverage(1.0),
        lambda: LastCheckpoint("x.ckpt", 0),
        lambda: Preview("x", n_clips=0),
        lambda: Preview("x", fps=0),
    ],
)
def test_settings_out_of_range(make: Any) -> None:
    with pytest.raises(PaLibError, match="expected"):
        make()


def test_callbacks_can_be_copied_with_a_module() -> None:
    module = Standin()
    assert copy.deepcopy(module)(torch.rand(1, 3, 4, 4)).shape == (1, 3, 4, 4)
    assert isinstance(Batch(torch.zeros(1), torch.zeros(1), torch.zeros(1)).to("cpu"), Batch)


class Watched(Progress):
    """Notes what the bar shows at the end of the training."""

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        task = self.train_progress_bar
        self.shown = (task.description, task.completed, task.total)
        super().on_train_end(trainer, pl_module)


@quiet
def test_progress_counts_the_steps_of_the_run_also_after_a_resume(tmp_path: Path) -> None:
    last, bar = tmp_path / "last.ckpt", Watched()
    fit(Counting(), [LastCheckpoint(last)], 2)
    fit(Counting(), [bar], 4, ckpt=last, enable_progress_bar=True)
    assert bar.shown[0].endswith("Epoch 1, from step 2 of 4")
    assert bar.shown[1:] == (4, 4)
