"""The kernel video distance: as the Frechet distance, but without bias at few clips and without Gaussians."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pa_lib.functional.intervals import jackknife_interval
from pa_lib.functional.kvd import kernel_video_distance, paired_terms
from pa_lib.metrics.base import AbstractMetric, Measurement, MetricValue
from pa_lib.metrics.video.clips import ClipCutter, Region, feature_rows, numbered, smallest_keys
from pa_lib.pretrained.features.base import AbstractVideoFeatures


class KernelVideoDistance(AbstractMetric):
    r"""Squared maximum mean discrepancy between the features of original and anonymized clips, cubic kernel.

    Clip i before and clip i after are a pair, so the statistic for pairs is taken (see
    `functional.kernel_video_distance`): untouched videos give exactly 0, and the expected value is right at any number
    of clips. It can fall below 0.

    Args:
        features: The network, e.g. `pretrained.I3DFeatures`; its name is in the figure's.
        clip_frames: Frames of a clip, cut one after the other out of the new frames of every row of an update.
        stride: Every how many frames one is taken.
        region: ``frame``, or ``masks``: the square around all masks of a clip, 1.5 times their size.
        keep: At most how many clips' features are kept and compared. Of more, a fair draw by hashes of their features;
            the others are counted.

    Raises:
        ValueError: A setting beyond its range, or a clip length that the network does not take.

    >>> from pa_lib.pretrained import TransNetFeatures
    >>> metric = KernelVideoDistance(TransNetFeatures(), clip_frames=4)
    >>> video = torch.rand(3, 4, 3, 27, 48)
    >>> metric.update(video, video)
    >>> float(metric.compute()["kernel_video_distance_transnet"])
    0.0

    Source: Binkowski et al. 2018, "Demystifying MMD GANs" (kernel: degree 3, 1 / d, constant 1); Unterthiner et al.
    2018, section 3.1, for the kernel video distance. Ours: the statistic for pairs, the interval.
    """

    name = "kernel_video_distance"
    higher_is_better = False

    count: Tensor
    n_short: Tensor
    n_unmasked: Tensor
    rows: Tensor

    def __init__(
        self,
        features: AbstractVideoFeatures,
        clip_frames: int = 16,
        stride: int = 1,
        region: Region = "frame",
        keep: int = 2048,
    ) -> None:
        super().__init__()
        if keep < 2:
            raise ValueError(f"keep is {keep}, expected at least 2 clips")
        features.check_frames(torch.zeros(1, clip_frames, 3, 1, 1))
        self.features = features
        self.cutter = ClipCutter(clip_frames, stride, region)
        self.keep = keep
        self._next_id = 0
        for state in ("count", "n_short", "n_unmasked"):
            self.add_state(state, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_rows("rows", 2 + 2 * features.n_dimensions)

    @property
    def figure_name(self) -> str:
        """What the figure is called: with the network's name, always."""
        return f"{self.name}_{self.features.name}" + ("_masks" if self.cutter.region == "masks" else "")

    def update(
        self,
        source: Tensor,
        anonymized: Tensor,
        masks: Tensor | None = None,
        clip_ids: Tensor | None = None,
        context: int = 0,
    ) -> None:
        """Take in the clips of a batch; arguments and errors as of `FrechetVideoDistance.update`."""
        ids = numbered(clip_ids, len(source), self._next_id)
        self._next_id += len(source)
        found = feature_rows(self.features, self.cutter, source, anonymized, masks, ids, context)
        self.count += len(found.rows)
        self.n_short += found.n_short
        self.n_unmasked += found.n_unmasked
        self.rows = smallest_keys(torch.cat([self.rows, found.rows.to(self.rows.device)]), self.keep)

    def protocol(self) -> dict[str, Any]:
        """See `AbstractMetric`."""
        return {
            "figure": self.figure_name,
            **self.cutter.protocol(),
            "features": self.features.protocol(),
            "kernel": "(x y / d + 1)^3",
            "statistic": "unbiased, for pairs: of the cross term i = j is left out",
            "most_clips": self.keep,
            "interval": "95 %, jackknife over videos, Student's t; none for fewer than 2 videos",
        }

    def _measure(self) -> Measurement:
        rows = smallest_keys(self.rows, self.keep)
        value, interval = float("nan"), None
        if len(rows) >= 2:
            d = self.features.n_dimensions
            before, after = rows[:, 2 : 2 + d], rows[:, 2 + d :]
            value = float(kernel_video_distance(before, after, is_paired=True))
            interval = _interval(paired_terms(before, after), rows[:, 1], value)
        counted = {
            f"pieces shorter than {self.cutter.span} frames": int(self.n_short),
            "clips without a mask": int(self.n_unmasked),
            "clips missing to the 2 it takes": max(0, 2 - len(rows)),
            f"clips beyond the {self.keep} compared": int(self.count) - len(rows),
        }
        figure = MetricValue(
            self.figure_name,
            value,
            len(rows),
            "clips",
            f"kernel distance between original and anonymized clips as sets, features of {self.features.name}",
            is_higher_better=False,
            interval=interval,
            counted={what: number for what, number in counted.items() if number},
        )
        return Measurement((figure,))


def _interval(terms: Float[Tensor, "n n"], videos: Tensor, value: float) -> tuple[float, float] | None:
    """Value -+ Student's t times the jackknife's standard error, whole videos left out one at a time."""
    terms = terms - torch.diag(terms.diagonal())
    _, places, sizes = torch.unique(videos, return_inverse=True, return_counts=True)
    n, n_videos = len(terms), len(sizes)
    left = n - sizes
    if n_videos < 2 or bool((left < 2).any()):
        return None
    by_video = terms.new_zeros(n_videos, n).index_add_(0, places, terms)
    inner = terms.new_zeros(n_videos, n_videos).index_add_(1, places, by_video)
    without = (terms.sum() - 2 * by_video.sum(1) + inner.diagonal()) / (left * (left - 1))
    return jackknife_interval(without, value)
