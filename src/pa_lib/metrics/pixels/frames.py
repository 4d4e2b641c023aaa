"""What the means of a value of every frame share."""

from __future__ import annotations

from abc import abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from pa_lib.functional.intervals import t_interval, within
from pa_lib.functional.pixels import check_videos
from pa_lib.metrics.base import AbstractMetric, Field, MetricValue
from pa_lib.metrics.rows import frame_sums


class AbstractPixelMetric(AbstractMetric):
    """A metric of pixels outside the masks, from sums for each clip.

    Args:
        n_columns: Number of sums for each clip.
    """

    needs: frozenset[Field] = frozenset({"source", "anonymized", "masks"})
    uses: frozenset[Field] = frozenset({"clip_ids", "context"})

    rows: Tensor

    def __init__(self, n_columns: int) -> None:
        super().__init__()
        self.add_rows("rows", 1 + n_columns, n_keys=1, clip_column=0)

    @abstractmethod
    def sums(self, source: Tensor, anonymized: Tensor, masks: Tensor) -> Float[Tensor, "b k"]:
        """The sums over every clip of some new frames, float64."""

    def update(
        self,
        source: Tensor,
        anonymized: Tensor,
        masks: Tensor,
        clip_ids: Tensor | None = None,
        context: int = 0,
    ) -> None:
        """Add frames; arguments as in `contracts.Result`. The first `context` frames were counted before.

        Raises:
            ValueError: Shapes or ranges do not fit, or frames are too small.
        """
        check_videos(source, anonymized, masks, channels=None, context=context)
        with torch.no_grad():
            sums = self.sums(source[:, context:], anonymized[:, context:], masks[:, context:])
        keys = self.clip_keys(clip_ids, len(source))
        self.add_to("rows", torch.cat([keys[:, None], sums.to(keys.device)], 1))


class AbstractFrameMean(AbstractPixelMetric):
    """Mean of a value of the kept pixels over a clip's frames, then over clips.

    Frames without a value are left out and counted.
    """

    def __init__(self) -> None:
        super().__init__(3)

    @abstractmethod
    def frame_values(self, source: Tensor, anonymized: Tensor, masks: Tensor) -> Float[Tensor, "b t"]:
        """The value of every frame; NaN if it has none."""

    def sums(self, source: Tensor, anonymized: Tensor, masks: Tensor) -> Float[Tensor, "b 3"]:
        """Sum of the values, number of frames with one, and number of frames without."""
        return frame_sums(self.frame_values(source, anonymized, masks).double())

    def mean(
        self, name: str, what: str, is_higher_better: bool, missing: str, ends: tuple[float, float]
    ) -> MetricValue:
        """The mean over clips of the mean of their frames, with Student's t interval.

        Args:
            name: Name of the value.
            what: Description in one line.
            is_higher_better: Whether a higher value is better.
            missing: Description of frames without a value, e.g. ``frames without kept pixels``.
            ends: Least and greatest possible value; the interval stays within.
        """
        rows = self.joined("rows")
        some = rows[rows[:, 2] > 0]
        means = some[:, 1] / some[:, 2]
        counted = {missing: int(rows[:, 3].sum()), "clips left out": len(rows) - len(some)}
        interval = within(t_interval(means), *ends)
        return MetricValue(name, float(means.mean()), len(some), "clips", what, is_higher_better, interval, counted)
