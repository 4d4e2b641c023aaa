"""A GAN small enough to work out by hand: several optimizers, and a decoder that must not leave with the rest."""

from __future__ import annotations

from functools import partial
from typing import Any, Unpack

import torch
from lightning import LightningModule
from torch import Tensor, nn

from pa_lib.contracts import Batch, Clip, ClipMasks
from pa_lib.modules import AbstractLearnedAnonymizer, OptimizerSpec, Slot, Training

SGD = partial(torch.optim.SGD, lr=0.1)
ADAM = partial(torch.optim.Adam, lr=0.01)


class Part(Slot, LightningModule):
    """A linear layer that always begins with the same weights."""

    def __init__(self, width: int = 4, seed: int = 1, path: str | None = None) -> None:
        super().__init__()
        self.comes_from(path)
        self.weight = nn.Parameter(torch.randn(width, width, generator=torch.Generator().manual_seed(seed)))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


class PrivatePart(Part):
    """One whose weights stay with their owner."""

    is_exportable = False


class ToyGan(AbstractLearnedAnonymizer):
    """Two optimizers; everything random comes from (seed, clip, step)."""

    optimizer_names = ("generator", "critic")
    window_frames = 1
    is_non_interfering = False

    def __init__(self, *, width: int = 4, **training: Unpack[Training]) -> None:
        super().__init__(**training)
        self.generator = Part(width, 1)
        self.critic = Part(width, 2)
        self.recovery = PrivatePart(width, 3)
        self.frozen = Part(width, 4)
        self.seen: list[tuple[int, int]] = []
        self.set_up_training()

    def values(self, batch: Batch) -> Tensor:
        """One row to a clip."""
        noise = torch.stack(
            [
                torch.randn(4, generator=torch.Generator().manual_seed(1000 * int(clip) + self.train_step + self.seed))
                for clip in batch.clip_ids
            ]
        )
        return batch.frames.flatten(1)[:, :4] + noise.to(batch.frames)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        self.seen.append((self.train_step, self.trainer.global_step))
        x = self.values(batch)
        fake = self.generator(x)
        if self.is_due("critic"):
            self.step("critic", (self.critic(fake.detach()) ** 2).mean() - self.critic(x).mean())
        self.step("generator", -self.critic(fake).mean() + ((self.recovery(fake) - x) ** 2).mean())

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        errors = self.generator(self.values(batch)) ** 2
        self.log_loss("val/loss", errors.sum(), torch.tensor(errors.numel()), len(errors))

    def anonymize(self, clip: Clip, masks: ClipMasks, *, seed: int = 0) -> Clip:
        return clip


def two(**generator: Any) -> dict[str, OptimizerSpec]:
    """The optimizers of `ToyGan`: the private decoder is trained with the generator."""
    return {
        "generator": OptimizerSpec(("generator", "recovery"), ADAM, **generator),
        "critic": OptimizerSpec(("critic",), SGD),
    }
