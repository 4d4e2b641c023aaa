"""One training step of Passersby-Anonymizer beside a loop written by hand; a part of passersby.py."""

from __future__ import annotations

import copy
import io
import shutil
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from _bench import WORK, Table
from lightning import Trainer
from torch import Tensor
from torch.nn.functional import max_pool2d, pixel_unshuffle

from pa_lib.callbacks import ConfigInCheckpoint
from pa_lib.cli.compose import build, compose
from pa_lib.contracts import Batch
from pa_lib.modules import PassersbyAnonymizer

STEP_GOAL, RESUME_GOAL = 1.05, 1.02
CHUNK = 4  # steps between two turns
FOLDER = WORK / "passersby"


class ByHand:
    """The loop that one would write without any library, over the same UNet with the same adapter in it."""

    def __init__(self, system: PassersbyAnonymizer) -> None:
        twin = copy.deepcopy(system)
        self.system = twin  # keeps the adapter, whose layers are hooked into the UNet
        self.unet = twin.backbone.unet
        weights = [weight for weight in twin.parameters() if weight.requires_grad]
        self.optimizer = torch.optim.AdamW(weights, lr=1e-4, weight_decay=0.01)
        self.alphas = system.diffusion.alphas_cumprod

    def loss(self, batch: Batch, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Of images, clips of one frame."""
        images, hidden = batch.frames[:, 0], batch.masks[:, 0] > 0
        clean = pixel_unshuffle(images * 2 - 1, 4)
        background = pixel_unshuffle(torch.where(hidden, 0.5, images) * 2 - 1, 4)
        mask = max_pool2d(hidden.float(), 4)
        signal, sigma = (a.sqrt().view(-1, 1, 1, 1) for a in (self.alphas[timesteps], 1 - self.alphas[timesteps]))
        noisy = signal * clean + sigma * noise
        predicted = self.unet(torch.cat([noisy, mask, background], 1), timesteps, return_dict=False)[0]
        weight = mask + 0.1 * (1 - mask)
        error: Tensor = (weight * (predicted - (signal * noise - sigma * clean)) ** 2).sum()
        return error / (weight.sum() * clean.shape[1])

    def steps(self, batches: Sequence[Batch]) -> None:
        """One step for each."""
        for batch in batches:
            size = len(batch.frames)
            loss = self.loss(batch, torch.randn(size, 48, 16, 16), torch.randint(0, 1000, (size,)))
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()


class Turns:
    """The batches of a trainer, for good; between chunks of them the loop by hand takes as many steps.

    A trainer's step lasts from its asking for one batch to its asking for the next: all that it does is in it.

    Args:
        batches: A chunk of them.
        by_hand: The other contender.
    """

    def __init__(self, batches: Sequence[Batch], by_hand: ByHand) -> None:
        self.batches, self.by_hand = batches, by_hand
        self.seconds: list[tuple[float, float]] = []  # per step: the trainer's, by hand

    def __iter__(self) -> Iterator[Batch]:
        while True:
            start = time.perf_counter()
            yield from self.batches
            middle = time.perf_counter()
            self.by_hand.steps(self.batches)
            end = time.perf_counter()
            self.seconds.append(((middle - start) / len(self.batches), (end - middle) / len(self.batches)))


def training_config(*overrides: str) -> dict[str, Any]:
    """Stage 1 as the recipe has it, without validation and what belongs to it."""
    shutil.rmtree(FOLDER / "run", ignore_errors=True)
    left_out = ("~callbacks.preview", "~callbacks.best", "trainer.limit_val_batches=0")
    run = (f"output={FOLDER / 'run'}", "trainer.enable_model_summary=false", *left_out)
    return compose("train", ["experiment=passersby_1_spatial", "module/diffusion=v", *run, *overrides])


def made_batches(n: int, size: int) -> list[Batch]:
    torch.manual_seed(0)
    masks = torch.zeros(size, 1, 1, 64, 64)
    masks[..., 8:60, 20:44] = 1
    return [Batch(torch.rand(size, 1, 3, 64, 64), masks, torch.arange(size) + at * size) for at in range(n)]


def check_same_loss(system: PassersbyAnonymizer, by_hand: ByHand, batch: Batch) -> None:
    """Given the same noise, both compute the same."""
    keys = [(0, int(clip), 0) for clip in batch.clip_ids]
    noise = system.inpainter.noise(keys, [[0]] * len(keys), (48, 16, 16))[:, 0]
    with torch.no_grad():
        found = system.denoised(batch, batch.masks, keys)
        ours = system.loss(found.prediction, found.target, found.mask, found.snr, system.diffusion.prediction)
        theirs = by_hand.loss(batch, noise, system.diffusion.draw_timesteps(keys))
    if not torch.allclose(ours, theirs, rtol=1e-5):
        sys.exit(f"the two loops do not compute the same: losses {ours:.6g} and {theirs:.6g}")


def trained(config: dict[str, Any], turns: Turns, n_turns: int, *, is_bare: bool, resumed: Path | None = None) -> float:
    """Train for so many turns; gives the seconds that one more checkpoint takes. `resumed`: what to go on from."""
    module = build(config["module"])
    callbacks: list[Any] = []
    if not is_bare:
        # Drawn, as on a terminal, but into a string
        terminal = {"console_kwargs": {"force_terminal": True, "file": io.StringIO()}}
        nodes = config["callbacks"].items()
        callbacks = [build(node, **(terminal if name == "progress" else {})) for name, node in nodes]
        callbacks.append(ConfigInCheckpoint(config["module"]))
    n_steps = n_turns * CHUNK * (2 if resumed else 1)
    make = build({**config["trainer"], "_partial_": True, "max_steps": n_steps})
    loggers = False if is_bare else [build(node) for node in config["logger"].values()]
    trainer: Trainer = make(
        callbacks=callbacks, logger=loggers, enable_checkpointing=not is_bare, enable_progress_bar=not is_bare
    )
    trainer.fit(module, train_dataloaders=turns, ckpt_path=resumed, weights_only=True if resumed else None)
    if trainer.global_step != n_steps:
        sys.exit(f"the trainer took {trainer.global_step} steps of {n_steps}")
    start = time.perf_counter()
    if not is_bare:
        trainer.save_checkpoint(FOLDER / "another.ckpt")
    return time.perf_counter() - start


def measure_training(n_turns: int, size: int) -> tuple[Table, dict[str, Any], dict[str, bool]]:
    batches = made_batches(CHUNK, size)
    rows: list[tuple[Any, ...]] = []
    figures: dict[str, Any] = {}

    def measure(name: str, config: dict[str, Any], by_hand: ByHand, **settings: Any) -> float:
        turns = Turns(batches, by_hand)
        save_s = trained(config, turns, n_turns, **settings)
        seconds = turns.seconds[1:]  # the first turn warms up
        ours, theirs = (statistics.median(each) for each in zip(*seconds, strict=True))
        ratio = statistics.median(one / other for one, other in seconds)
        rows.append((name, 1000 * ours, 1000 * theirs, ratio))
        figures[name] = {"ours_s": ours, "by_hand_s": theirs, "ratio": ratio, "save_s": save_s, "turns_s": seconds}
        print(f"{name}: {1000 * ours:.0f} ms, by hand {1000 * theirs:.0f} ms, ratio {ratio:.3f}", flush=True)
        return ratio

    ratios: dict[Any, float] = {}
    for slots in ("backbone,adapter", "adapter"):
        config = training_config(f"module.trainable=[{slots}]")
        system = build(config["module"])
        by_hand = ByHand(system)
        check_same_loss(system, by_hand, batches[0])
        what = f"{' and '.join(slots.split(','))} trained"
        ratios[slots, "bare"] = measure(f"{what}, Trainer and system alone", config, by_hand, is_bare=True)
        ratios[slots, "whole"] = measure(f"{what}, with callbacks and logger", config, by_hand, is_bare=False)
        if slots == "backbone,adapter":
            last = FOLDER / "run" / "checkpoints" / "last.ckpt"
            ratios["resumed"] = measure(f"{what}, resumed from last.ckpt", config, by_hand, is_bare=False, resumed=last)
    resumed = ratios["resumed"] / ratios["backbone,adapter", "whole"]
    save_s = figures[rows[1][0]]["save_s"]
    worst = max(ratios["backbone,adapter", "whole"], ratios["adapter", "whole"])
    share = save_s / (500 * figures[rows[1][0]]["ours_s"])
    figures |= {"resumed_of_before": resumed, "save_s": save_s, "save_share": share}
    table = Table(
        f"One training step of the compact backbone with SCA, {size} images of 64 px, "
        f"median of {n_turns - 1} turns of {CHUNK} steps",
        ("stage 1", "pa_lib, ms", "by hand, ms", "ratio"),
        rows,
        [
            f"Goal: at most {STEP_GOAL} times a PyTorch loop written by hand over the same UNet and adapter, whose "
            "loss is the same to 1e-5 (checked). With callbacks: those of conf/callbacks/default.yaml (average of the "
            "weights, checkpoints, random state, guard, progress drawn), and the CSV log; no validation. "
            f"After a resume a step takes {resumed:.3f} times as long against the loop by hand as before it "
            f"(goal: at most {RESUME_GOAL}); a checkpoint takes {save_s:.2f} s, every 500 steps {100 * share:.2f} %."
        ],
    )
    goals = {"training_step": worst <= STEP_GOAL, "resume_adds_nothing": resumed <= RESUME_GOAL}
    return table, figures, goals
