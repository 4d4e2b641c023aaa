"""Training of the outline network: cross entropy with weight on edges, and the overlap of each person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy, max_pool2d, one_hot

from pa_lib.contracts import OutlineBatch
from pa_lib.errors import SettingError
from pa_lib.modules.optimization import Training
from pa_lib.modules.systems.learned import AbstractLearned
from pa_lib.pretrained import OutlineUNet

IGNORED = 255
_EDGE = 2  # pixels to both sides of an edge that weigh more


class OutlineTraining(AbstractLearned):
    r"""Learns the outline of the person who is asked for, on crops of scenes.

    .. math:: L = \frac{\sum_x w_x \, \mathrm{CE}_x}{\sum_x w_x} + o \left(1 - \frac{1}{n} \sum_i
        \frac{\sum_{x} p_x t_x}{\sum_{x} (p_x + t_x - p_x t_x)}\right)

    with p the probability of this person, t the truth, over the pixels x of each crop i, and w = 1 + `edge` within two
    pixels of the outline. Pixels with the label 255 are not counted.

    Args:
        widths: Channels of the network's levels, see `pa_lib.pretrained.OutlineUNet`.
        edge: Further weight of pixels close to the outline, >= 0: most of a crop is easy.
        overlap: Weight o of the overlap, >= 0: a small person counts as much as a large one.
        training: See `Training`; the one slot is ``network``.

    Raises:
        SettingError: A number out of range.

    Ours; the overlap is the soft Jaccard index (Rahman and Wang 2016).
    """

    def __init__(
        self,
        widths: Sequence[int] = (16, 32, 64, 128),
        *,
        edge: float = 2.0,
        overlap: float = 1.0,
        **training: Unpack[Training],
    ) -> None:
        super().__init__(**training)
        for name, value in (("edge", edge), ("overlap", overlap)):
            if not 0 <= value < float("inf"):
                raise SettingError(f"{name} of the outline's loss is {value}, expected a number >= 0")
        self.edge, self.overlap = edge, overlap
        # Convolutions of few channels are half as fast again on CPUs with the channels last.
        self.network = OutlineUNet(widths).to(memory_format=torch.channels_last)
        self.set_up_training()

    def forward(self, planes: Float[Tensor, "n c s s"]) -> Float[Tensor, "n k s s"]:
        """Logits of this person, other people and background."""
        logits: Tensor = self.network(planes.contiguous(memory_format=torch.channels_last))
        return logits

    def training_step(self, batch: OutlineBatch, batch_idx: int) -> Tensor:
        """The loss of a batch; for Lightning."""
        errors, _ = self._errors(batch)
        self._log("train/loss", errors)
        return errors.mean()

    def validation_step(self, batch: OutlineBatch, batch_idx: int) -> None:
        """Log the loss, and how far the outlines overlap the truth; for Lightning."""
        errors, overlaps = self._errors(batch)
        self._log("val/loss", errors)
        self._log("val/iou", overlaps)

    def _errors(self, batch: OutlineBatch) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """Loss of each crop, and the intersection over union of its outline."""
        logits = self(batch.planes)
        counted = batch.labels != IGNORED
        labels = torch.where(counted, batch.labels, 0)
        truth = (one_hot(labels, logits.shape[1])[..., 0] * counted).to(logits)
        weight = counted * (1 + self.edge * _near_edge(truth))
        entropy = cross_entropy(logits, labels, reduction="none") * weight
        guess = logits.softmax(1)[:, 0] * counted
        errors = entropy.sum((1, 2)) / weight.sum((1, 2)).clamp(min=1) + self.overlap * (1 - _overlap(guess, truth))
        hard = (logits.detach().argmax(1) == 0) & counted
        return errors, _overlap(hard.to(truth), truth)

    def _log(self, name: str, values: Float[Tensor, " n"]) -> None:
        self.log_loss(name, values.sum(), values.new_tensor(len(values)), len(values))


def _near_edge(truth: Float[Tensor, "n s s"]) -> Float[Tensor, "n s s"]:
    """1 within two pixels of the outline, else 0."""
    size = 2 * _EDGE + 1
    grown, shrunk = (max_pool2d(sign * truth[:, None], size, 1, _EDGE)[:, 0] * sign for sign in (1, -1))
    return grown - shrunk


def _overlap(guess: Float[Tensor, "n s s"], truth: Float[Tensor, "n s s"]) -> Float[Tensor, " n"]:
    both = (guess * truth).sum((1, 2))
    return both / (guess + truth - guess * truth).sum((1, 2)).clamp(min=1e-6)
