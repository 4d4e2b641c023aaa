"""A module that learns from two streams, and one of two processes that train it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor

from pa_lib.contracts import AbstractBatch, Batch, Result
from pa_lib.data import AbstractClipSet, AbstractDataModule, Draw, JointDataModule, Sample


class Numbered(AbstractClipSet):
    """Clips that hold their number and, in place of an identity, their epoch."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def sample(self, draw: Draw) -> Sample:
        frames = torch.full((1, 3, 2, 2), draw.index / 100)
        return Sample(frames, torch.ones(1, 1, 2, 2), clip_id=draw.index, identity=draw.epoch)


class NumberedData(AbstractDataModule):
    def __init__(self, n: int, **loading: Any) -> None:
        super().__init__(**loading)
        self.n = n

    def make_sets(self) -> tuple[Numbered, Numbered | None]:
        return Numbered(self.n), Numbered(3) if self.val_share else None


def joint(mode: Any = "max_size_cycle") -> JointDataModule:
    """7 batches of one stream, 3 of another one, which holds nothing out, and 2 of a third one."""
    return JointDataModule(
        {
            "long": NumberedData(14, batch_size=2),
            "short": NumberedData(13, batch_size=4, val_share=0, seed=5),
            "tiny": NumberedData(4, batch_size=2, seed=6),
        },
        mode,
    )


class TwoStreams(lightning.LightningModule):
    """Remembers what it got."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen: list[dict[str, tuple[list[int], list[int]]]] = []
        self.validated: list[tuple[int, list[int]]] = []

    def training_step(self, batches: dict[str, Batch], index: int) -> Tensor:
        assert all(isinstance(batch, AbstractBatch) for batch in batches.values())
        self.seen.append({name: (b.clip_ids.tolist(), b.identities.tolist()) for name, b in batches.items()})
        lights = torch.cat([batch.frames.mean((1, 2, 3, 4)) for batch in batches.values()])
        return self.layer(lights[:, None]).square().mean()

    def validation_step(self, batch: Batch, index: int, dataloader_idx: int = 0) -> Result | None:
        self.validated.append((dataloader_idx, batch.clip_ids.tolist()))
        result = Result(batch.frames, batch.frames / 2, batch.masks, batch.clip_ids)
        return result if dataloader_idx == 0 else None

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(n_steps: int, ckpt: Path | None = None, data: JointDataModule | None = None, **options: Any) -> Any:
    torch.manual_seed(0)
    model = TwoStreams()
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_steps=n_steps,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        **options,
    )
    trainer.fit(model, joint() if data is None else data, ckpt_path=ckpt, weights_only=True)
    return trainer


def fit_share(rank: int, port: int, folder: Path, queue: Any) -> None:
    """One of two processes: 4 steps, a checkpoint, and 5 more steps of a run that goes on from it."""
    torch.set_num_threads(1)
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "GROUP_RANK": "0",
        "TORCHELASTIC_RUN_ID": "joint",
        "LOCAL_WORLD_SIZE": "2",
    }
    half = fit(4, devices=2, strategy="ddp")
    half.save_checkpoint(folder / "half.ckpt")
    rest = fit(9, folder / "half.ckpt", devices=2, strategy="ddp")
    queue.put((rank, half.lightning_module.seen + rest.lightning_module.seen))
