"""A GAN small enough to work out by hand: several optimizers, and a decoder that must not leave with the rest."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from pa_lib.contracts import Batch, Clip, ClipMasks
from pa_lib.modules import AbstractAnonymizer, AbstractLearnedAnonymizer, OptimizerSpec, Slot, Training

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

    def recovered(self, fake: Tensor) -> Tensor:
        """What the private decoder makes of it."""
        recovered: Tensor = self.recovery(fake)
        return recovered

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
        self.log_loss("train/loss", (fake**2).sum(), torch.tensor(fake.numel()), len(fake))
        if self.is_due("critic"):
            self.step("critic", (self.critic(fake.detach()) ** 2).mean() - self.critic(x).mean())
        self.step("generator", -self.critic(fake).mean() + ((self.recovered(fake) - x) ** 2).mean())

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        errors = self.generator(self.values(batch)) ** 2
        self.log_loss("val/loss", errors.sum(), torch.tensor(errors.numel()), len(errors))

    def anonymize(self, clip: Clip, masks: ClipMasks, *, seed: int = 0) -> Clip:
        return clip


class Nested(ToyGan):
    """The private decoder lies two levels down, beside a part that is not private and a pretrained one."""

    def __init__(self, *, path: str | None = None, **training: Unpack[Training]) -> None:
        self.path = path
        super().__init__(**training)

    def set_up_training(self) -> None:
        del self.recovery
        self.box = nn.ModuleDict(
            {
                "inner": nn.ModuleDict({"recovery": PrivatePart(4, 3)}),
                "open": Part(4, 5),
                "given": Part(4, 6, self.path),
            }
        )
        self.shelf = nn.ModuleList([Part(4, 7, self.path)])
        super().set_up_training()

    def recovered(self, fake: Tensor) -> Tensor:
        inner: Tensor = self.box["inner"]["recovery"](fake)  # type: ignore[index]
        given: Tensor = self.box["given"](self.shelf[0](inner))
        opened: Tensor = self.box["open"](given)
        return opened


class PlainSystem(LightningModule, AbstractAnonymizer):
    """A system on nothing but Lightning, with hyperparameters and other names of what lies in the private slot."""

    window_frames = 1
    is_non_interfering = False

    def __init__(self, generator: Part, recovery: Part, width: int = 4) -> None:
        super().__init__()
        self.width = width
        self.save_hyperparameters()
        self.generator = generator
        self.recovery = recovery
        self.recovery.inner = nn.Linear(width, width)
        self.recovery.generator = generator  # public where it lies outside
        self.shortcut = nn.ModuleDict({"inner": self.recovery.inner})
        self.register_buffer("first_rows", recovery.weight.detach()[:2])

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x = batch.frames.flatten(1)[:, :4]
        fake = self.generator(x)
        loss: Tensor = ((self.recovery.inner(self.recovery(fake)) - x) ** 2).mean() + (fake**2).mean()
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.01)

    def anonymize(self, clip: Clip, masks: ClipMasks, *, seed: int = 0) -> Clip:
        return clip


def plain_system() -> PlainSystem:
    """One with weights of its own."""
    torch.manual_seed(0)
    return PlainSystem(Part(4, 1), PrivatePart(4, 3))


class Careless(ToyGan):
    """Adds what it likes to a checkpoint, after and without what the system does."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["extra"] = {"mine": [self.recovery.weight.detach().clone()], "note": "text"}
        checkpoint["copies"] = {"module.recovery.weight": self.recovery.weight.detach() * 1}


class Bare(LightningModule):
    """No system."""

    def __init__(self) -> None:
        super().__init__()
        self.recovery = PrivatePart(4, 3)


def two(**generator: Any) -> dict[str, OptimizerSpec]:
    """The optimizers of `ToyGan`: the private decoder is trained with the generator."""
    return {
        "generator": OptimizerSpec(("generator", "recovery"), ADAM, **generator),
        "critic": OptimizerSpec(("critic",), SGD),
    }


class Losses(Callback):
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {"train/loss": [], "val/loss": [], "sizes": []}

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *arguments: Any) -> None:
        self.found["train/loss"].append(float(trainer.callback_metrics["train/loss"]))
        self.found["sizes"] = sorted({*self.found["sizes"], len(arguments[1].frames)})

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        self.found["val/loss"].append(float(trainer.callback_metrics["val/loss"]))


def main(n_processes: int, folder: Path) -> None:
    """Train the GAN in some processes and write what was logged."""
    from pa_lib.callbacks import LastCheckpoint
    from pa_lib.data import SyntheticDataModule

    module = ToyGan(optimizers=two(clip=0.5))
    trainer = Trainer(
        accelerator="cpu",
        devices=n_processes,
        strategy="ddp" if n_processes > 1 else "auto",
        max_steps=4,
        val_check_interval=2,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=False,
        use_distributed_sampler=False,
        callbacks=[losses := Losses(), LastCheckpoint(folder / "last.ckpt")],
    )
    trainer.fit(module, datamodule=SyntheticDataModule(n_clips=24, n_frames=1, side=16, n_identities=4, batch_size=4))
    if trainer.is_global_zero:
        (folder / "found.json").write_text(json.dumps(losses.found | {"steps": trainer.global_step}))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    torch.set_num_threads(1)
    main(int(sys.argv[1]), Path(sys.argv[2]))
