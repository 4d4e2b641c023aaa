"""A module small enough to train in a test, and `pa-train` with it."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import torch
import yaml
from einops import rearrange
from lightning import LightningModule
from torch import Tensor, nn

from pa_lib.contracts import Batch, Result

TARGET = "_training.Standin"


class Standin(LightningModule):
    """Predicts noise from noisy frames: a frozen backbone, a trained adapter, noise drawn from (seed, clip, step)."""

    def __init__(
        self,
        width: int = 4,
        lr: float = 0.05,
        seed: int = 0,
        dropout: float = 0.0,
        is_backbone_external: bool = False,
        is_manual: bool = False,
        nan_at: int | None = None,
        optimizer: Any = None,
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.backbone = nn.Conv2d(3, width, 3, padding=1).requires_grad_(False)
        self.adapter = nn.Sequential(nn.Dropout(dropout), nn.Conv2d(width, width, 1), nn.Tanh())
        self.temporal = nn.Conv2d(width, 3, 1)
        with torch.no_grad():
            for weight in self.backbone.parameters():
                weight.copy_(torch.randn(weight.shape, generator=generator))
        self.lr, self.seed, self.nan_at = lr, seed, nan_at
        self.is_backbone_external = is_backbone_external
        self.automatic_optimization = not is_manual
        self.optimizer = optimizer
        self.seen: list[list[int]] = []
        self.losses: list[float] = []

    def external_slots(self) -> set[str]:
        return {"backbone"} if self.is_backbone_external else set()

    def configure_model(self) -> None:
        if self.device_mesh is not None:  # what FSDP2 asks of a module: divide every part that is trained
            from torch.distributed.fsdp import fully_shard

            for part in (self.backbone, self.adapter, self.temporal):
                fully_shard(part, mesh=self.device_mesh["data_parallel"])

    def forward(self, frames: Tensor) -> Tensor:
        return self.temporal(self.adapter(self.backbone(frames)))

    def _loss(self, batch: Batch, step: int) -> Tensor:
        noise = torch.stack(
            [
                torch.randn(
                    batch.frames.shape[1:],
                    generator=torch.Generator().manual_seed(hash((self.seed, int(clip), step)) % 2**31),
                )
                for clip in batch.clip_ids
            ]
        )
        noisy, target = (rearrange(x, "b t c h w -> (b t) c h w") for x in (batch.frames + noise, noise))
        weight = 0.1 + rearrange(batch.masks, "b t c h w -> (b t) c h w")
        total = self.all_gather(weight.sum()).sum() / self.trainer.world_size  # of all processes: the ranks' mean is it
        return (weight * (self(noisy) - target) ** 2).sum() / total

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        self.seen.append(batch.clip_ids.tolist())
        loss = self._loss(batch, self.trainer.global_step)
        if self.nan_at == self.trainer.global_step:
            loss = loss * math.nan
        self.losses.append(float(loss.detach()))
        if self.automatic_optimization:
            return loss
        for optimizer in self.optimizers():
            optimizer.zero_grad()
        self.manual_backward(loss)
        for optimizer in self.optimizers():
            optimizer.step()
        return None

    def validation_step(self, batch: Batch, batch_idx: int) -> Result:
        self.log("val/loss", self._loss(batch, 0), sync_dist=True, batch_size=len(batch.frames))
        return Result(batch.frames, 1 - batch.frames, batch.masks, batch.clip_ids)

    def configure_optimizers(self) -> Any:
        if not self.automatic_optimization:
            return [torch.optim.AdamW(part.parameters(), lr=self.lr) for part in (self.adapter, self.temporal)]
        trained = [weight for weight in self.parameters() if weight.requires_grad]
        optimizer = self.optimizer(trained) if self.optimizer else torch.optim.AdamW(trained, lr=self.lr)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def write_configs(folder: Path, **module: Any) -> Path:
    """A config folder with ``module=standin``."""
    (folder / "module").mkdir(parents=True, exist_ok=True)
    (folder / "module" / "standin.yaml").write_text(yaml.safe_dump({"_target_": TARGET, **module}))
    return folder


TINY = [
    "module=standin",
    "trust=[_training]",
    "data=synthetic",
    "data.n_clips=40",
    "data.n_frames=2",
    "data.side=16",
    "data.n_identities=8",
    "data.batch_size=4",
    "trainer.max_steps=4",
    "trainer.val_check_interval=2",
    "trainer.enable_model_summary=false",
    "~callbacks.progress",
]


if __name__ == "__main__":  # pa-train as a script that Lightning can run again
    sys.path.insert(0, str(Path(__file__).parent))
    torch.set_num_threads(1)
    from pa_lib.cli.train import run

    run()
