"""What attacks that train a network share: loader, optimizer, and the weights that did best on photos to tune on."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from pa_lib.errors import PaLibError, SettingError
from pa_lib.functional.draws import generator
from pa_lib.modules.attackers.base import AbstractAttack
from pa_lib.setting_types import checked_seed


@dataclass(frozen=True, eq=False)
class BestWeights:
    """The weights that did best so far.

    Args:
        score: Score on the photos for tuning; higher is better.
        weights: State dict of the network, on the CPU.
        choices: Settings that were chosen together with them.
    """

    score: float
    weights: dict[str, Tensor]
    choices: Mapping[str, Any] = field(default_factory=dict)


class AbstractTrainedAttack(AbstractAttack):
    """An attack that trains one network on pairs, and keeps the weights that do best on photos to tune on.

    `prepare` of a subclass must begin with `start_over` and end with `keep_if_better`, so that the weights before
    training count too.

    Args:
        max_epochs: Number of epochs of training, >= 0.
        batch_size: Number of photos in a step, >= 2.
        lr: Highest learning rate of AdamW, > 0; it falls to 0 as a cosine.
        seed: Seed of the split, of weights, order and augmentation.

    Raises:
        SettingError: A setting is out of range.
    """

    def __init__(self, *, max_epochs: int, batch_size: int, lr: float, seed: int) -> None:
        super().__init__()
        if max_epochs < 0 or batch_size < 2 or not lr > 0:
            raise SettingError(
                f"{self.name}: max_epochs {max_epochs}, batch_size {batch_size}, lr {lr}: expected at least 0, at "
                "least 2, and more than 0"
            )
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.seed = checked_seed(seed)
        self._best: BestWeights | None = None

    @property
    @abstractmethod
    def learner(self) -> nn.Module:
        """The network that is trained."""

    @property
    @abstractmethod
    def learned_rows(self) -> Int64[Tensor, " k"]:
        """Rows of the anonymized pictures to learn from."""

    @abstractmethod
    def keep_if_better(self) -> None:
        """Score the weights on the photos to tune on, and hand the score to `keep`."""

    @property
    def best(self) -> BestWeights:
        """The weights that did best.

        Raises:
            PaLibError: `prepare` was not called.
        """
        if self._best is None:
            raise PaLibError("the attack has no photos yet: call prepare first, or pa_lib.evaluation.run_attack")
        return self._best

    def start_over(self) -> None:
        """Forget the weights that did best."""
        self._best = None

    def keep(self, score: float, **choices: Any) -> None:
        """Keep the weights as they are now if their score is above all before.

        Args:
            score: Score on the photos for tuning; higher is better.
            choices: Settings that were chosen together with them.
        """
        if self._best is None or score > self._best.score:
            state = self.learner.state_dict()
            weights = {name: tensor.detach().cpu().clone() for name, tensor in state.items()}
            self._best = BestWeights(score, weights, choices)

    def train_dataloader(self) -> DataLoader[Any]:
        """Rows of anonymized pictures to learn from, shuffled."""
        rows = self.learned_rows
        return DataLoader(
            TensorDataset(rows),
            min(self.batch_size, len(rows)),
            shuffle=True,
            drop_last=True,
            generator=generator(self.seed, 2),
        )

    def configure_optimizers(self) -> Any:
        """AdamW with a learning rate that rises for a tenth of the steps and then falls to nothing."""
        learning = [weight for weight in self.learner.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(learning, lr=self.lr, weight_decay=1e-4)
        steps = max(2, int(self.trainer.estimated_stepping_batches))
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.lr, total_steps=steps, pct_start=0.1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_epoch_end(self) -> None:
        """Keep the weights if they are the best so far."""
        self.keep_if_better()

    def on_train_end(self) -> None:
        """Go back to the weights that did best."""
        self.restore_best()

    def restore_best(self) -> None:
        """Load the weights that did best."""
        self.learner.load_state_dict(self.best.weights)
