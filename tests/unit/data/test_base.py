"""Data modules under a real trainer: batches are those of an uninterrupted run wherever it was interrupted."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from pa_lib.contracts import Batch
from pa_lib.data import AbstractClipSet, AbstractDataModule, Draw, Sample, SyntheticDataModule, collate
from pa_lib.data.base import held_out
from pa_lib.errors import PaLibError

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks used to create"),
]


class Tiny(AbstractClipSet):
    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def sample(self, draw: Draw) -> Sample:
        frames = torch.full((1, 3, 2, 2), draw.index / 100)
        return Sample(frames, torch.ones(1, 1, 2, 2), clip_id=draw.index, identity=draw.epoch)


class TinyData(AbstractDataModule):
    def make_sets(self) -> tuple[Tiny, Tiny | None]:
        return Tiny(11), Tiny(3) if self.val_share else None


class Recorder(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.clips: list[tuple[int, list[int], list[int]]] = []
        self.validated: list[list[int]] = []

    def training_step(self, batch: Batch, index: int) -> torch.Tensor:
        assert batch.identities is not None
        self.clips.append((self.global_step, batch.clip_ids.tolist(), batch.identities.tolist()))
        return self.layer(batch.frames.mean((1, 2, 3, 4))[:, None]).square().mean()

    def validation_step(self, batch: Batch, index: int) -> None:
        self.validated.append(batch.clip_ids.tolist())

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(n_steps: int, ckpt: Path | None = None, callbacks: list[Any] | None = None, **options: Any) -> Any:
    model = Recorder()
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_steps=n_steps,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=bool(callbacks),
        callbacks=callbacks,
        log_every_n_steps=1,
        **options,
    )
    trainer.fit(model, TinyData(batch_size=2, val_share=0.1), ckpt_path=ckpt, weights_only=True)
    return trainer


@pytest.mark.parametrize("n_steps", [3, 5, 7])  # an epoch is 5
@pytest.mark.parametrize("options", [{}, {"limit_val_batches": 0}, {"val_check_interval": 2}])
def test_run_resumed_after_n_steps_gets_the_batches_of_an_uninterrupted_one(
    n_steps: int, options: dict[str, Any], tmp_path: Path
) -> None:
    whole = fit(2 * n_steps, **options).lightning_module
    half = fit(n_steps, **options)  # Lightning believes that an epoch which max_steps cut short is complete
    half.save_checkpoint(tmp_path / "half.ckpt")
    rest = fit(2 * n_steps, tmp_path / "half.ckpt", **options).lightning_module
    assert half.lightning_module.clips + rest.clips == whole.clips
    assert len(whole.clips) == 2 * n_steps


@pytest.mark.parametrize("n_steps", [3, 5, 7])
def test_checkpoints_made_within_a_run_resume_exactly(n_steps: int, tmp_path: Path) -> None:
    whole = fit(
        14,
        callbacks=[
            ModelCheckpoint(
                tmp_path,
                filename="step{step}",
                auto_insert_metric_name=False,
                every_n_train_steps=n_steps,
                save_top_k=-1,
            ),
            ModelCheckpoint(
                tmp_path / "epochs", filename="{step}", auto_insert_metric_name=False, every_n_epochs=1, save_top_k=-1
            ),
        ],
    ).lightning_module
    rest = fit(14, tmp_path / f"step{n_steps}.ckpt").lightning_module
    assert whole.clips[:n_steps] + rest.clips == whole.clips
    after_epoch = fit(14, tmp_path / "epochs" / "5.ckpt").lightning_module
    assert whole.clips[:5] + after_epoch.clips == whole.clips


def test_epochs_differ_and_validation_does_not() -> None:
    model = fit(15).lightning_module
    epochs = [[clip for _, clips, _ in model.clips[i : i + 5] for clip in clips] for i in (0, 5, 10)]
    assert all(len(set(epoch)) == 10 for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert [identities[0] for _, _, identities in model.clips] == [0] * 5 + [1] * 5 + [2] * 5
    assert model.validated == [[0, 1], [2]] * (len(model.validated) // 2)


def test_overfitting_repeats_the_same_clips() -> None:
    model = fit(6, overfit_batches=2).lightning_module
    clips = [sorted(clips) for _, clips, _ in model.clips]
    assert [identities[0] for _, _, identities in model.clips] == [0, 0, 1, 1, 2, 2]
    assert len(clips) == 6


def test_processes_share_the_batch() -> None:
    def batches(world_size: int) -> list[list[int]]:
        per_rank = []
        for rank in range(world_size):
            data = TinyData(batch_size=4)
            data.trainer = SimpleNamespace(  # type: ignore[assignment]
                distributed_sampler_kwargs={"num_replicas": world_size, "rank": rank}, overfit_batches=0
            )
            per_rank.append([batch.clip_ids.tolist() for batch in data.train_dataloader()])
        return [[clip for share in shares for clip in share] for shares in zip(*per_rank, strict=True)]

    assert batches(1) == batches(2) == batches(4)


def test_nothing_held_out_means_no_validation() -> None:
    assert TinyData(batch_size=2, val_share=0).val_dataloader() == []


def test_batches_of_unlike_clips_are_refused() -> None:
    clip = Sample(torch.rand(1, 3, 2, 2), torch.rand(1, 1, 2, 2), 0)
    with pytest.raises(PaLibError, match="one size"):
        collate([clip, Sample(torch.rand(2, 3, 2, 2), torch.rand(2, 1, 2, 2), 1)])
    with pytest.raises(PaLibError, match="1 of 2 clips have identities"):
        collate([clip, Sample(clip.frames, clip.mask, 1, identity=4)])


def test_batch_holds_what_the_clips_hold() -> None:
    batch = collate([Sample(torch.rand(2, 3, 4, 4), torch.rand(2, 1, 4, 4), i, prompt=f"clip {i}") for i in (3, 1)])
    assert batch.frames.shape == (2, 2, 3, 4, 4)
    assert batch.clip_ids.tolist() == [3, 1]
    assert batch.clip_ids.dtype == torch.int64
    assert batch.prompts == ("clip 3", "clip 1")
    assert batch.identities is None
    assert batch.flow is None


@pytest.mark.parametrize("arguments", [{"batch_size": 0}, {"n_workers": -1}, {"val_share": 1.0}])
def test_wrong_settings_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(PaLibError, match=next(iter(arguments))):
        TinyData(**arguments)


def test_only_the_setting_that_is_wrong_is_named() -> None:
    with pytest.raises(PaLibError, match=r"^batch_size 0: expected at least 1$"):
        TinyData(batch_size=0, n_workers=0)


def test_held_out_groups_are_stable_and_never_all() -> None:
    names = [f"person {i}" for i in range(50)]
    out = held_out(names, 0.2, seed=1)
    assert len(out) == 10
    assert len(out & held_out(names + [f"new {i}" for i in range(5)], 0.2, seed=1)) >= 8
    assert out != held_out(names, 0.2, seed=2)
    assert len(held_out(["a", "b"], 0.01, seed=0)) == len(held_out(["a", "b"], 0.99, seed=0)) == 1
    assert held_out(["a"], 0.5, seed=0) == held_out(names, 0, seed=0) == set()


def test_workers_change_nothing_and_what_they_made_ahead_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # workers hand their tensors over by local sockets

    def data(n_workers: int) -> SyntheticDataModule:
        return SyntheticDataModule(n_clips=10, n_frames=2, side=16, batch_size=2, n_workers=n_workers, val_share=0)

    alone = [batch for _ in range(2) for batch in data(0).train_dataloader()][:5]
    interrupted = data(2)
    batches = iter(interrupted.train_dataloader())
    helped = [next(batches) for _ in range(2)]
    resumed = data(0)
    resumed.load_state_dict(interrupted.state_dict())
    assert resumed.state_dict()["n_batches"] == 2
    helped += list(resumed.train_dataloader())[:3]
    for one, two in zip(alone, helped, strict=True):
        assert torch.equal(one.clip_ids, two.clip_ids)
        assert torch.equal(one.frames, two.frames)
