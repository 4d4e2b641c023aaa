"""The kernel video distance: as the Frechet distance, but without bias at few clips and without Gaussians."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pa_lib.errors import SettingError
from pa_lib.functional.intervals import jackknife_interval
from pa_lib.functional.kvd import kernel_video_distance, paired_terms
from pa_lib.metrics.base import Measurement
from pa_lib.metrics.video.clips import AbstractClipDistance, ClipCutter, Region, smallest_keys
from pa_lib.pretrained.features.base import AbstractVideoFeatures


class KernelVideoDistance(AbstractClipDistance):
    r"""Squared maximum mean discrepancy between the features of original and anonymized clips, cubic kernel.

    Clip i before and clip i after are a pair, so the statistic for pairs is taken (see
    `functional.kernel_video_distance`): untouched videos give exactly 0, and the expected value is right at any number
    of clips. It can fall below 0.

    Args:
        features: Network that embeds clips, e.g. `pretrained.I3DFeatures`; its name is part of the value's.
        clip_frames: Number of frames of a clip; clips are cut one after the other out of the new frames of every row.
        stride: Distance in frames between two frames that are taken.
        region: ``frame``, or ``masks``: the square around all masks of a clip, 1.5 times their size.
        keep: Largest number of clips of which features are kept and compared. Of more clips, a random subset is kept,
            drawn by hashes of their features; the others are counted.

    Raises:
        SettingError: A setting is out of range.
        ValueError: The network does not take clips of this length.

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

    def __init__(
        self,
        features: AbstractVideoFeatures,
        clip_frames: int = 16,
        stride: int = 1,
        region: Region = "frame",
        keep: int = 2048,
    ) -> None:
        super().__init__(features, ClipCutter(clip_frames, stride, region), keep)
        if keep < 2:
            raise SettingError(f"keep is {keep}, expected at least 2 clips")

    def compacted(self, name: str, rows: Float[Tensor, "n k"]) -> Float[Tensor, "m k"]:
        """At most `keep` clips."""
        return smallest_keys(super().compacted(name, rows), self.keep)

    def protocol(self) -> dict[str, Any]:
        """See `AbstractMetric`."""
        return {
            "figure": self.value_name,
            **self.cutter.protocol(),
            "features": self.features.protocol(),
            "kernel": "(x y / d + 1)^3",
            "statistic": "unbiased, for pairs: of the cross term i = j is left out",
            "most_clips": self.keep,
            "interval": "95 %, jackknife over videos, Student's t; none for fewer than 2 videos",
        }

    def _measure(self) -> Measurement:
        rows = self.joined("rows")
        value, interval = float("nan"), None
        if len(rows) >= 2:
            before, after = self.split(rows)
            value = float(kernel_video_distance(before, after, is_paired=True))
            interval = _interval(paired_terms(before, after), rows[:, 1], value)
        beyond = {f"clips beyond the {self.keep} compared": int(self.count) - len(rows)}
        return self.measurement(value, len(rows), interval, "kernel distance", beyond)


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
