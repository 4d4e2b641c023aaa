"""How far anonymized videos lie from the originals as a set: the Frechet video distance, with its network's name."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pa_lib.errors import SettingError
from pa_lib.functional.frechet import frechet_distance, gaussian_frechet_distance, mean_and_covariance
from pa_lib.functional.intervals import SEED, resampled_interval
from pa_lib.metrics.base import Measurement
from pa_lib.metrics.video.clips import AbstractClipDistance, ClipCutter, Region, smallest_keys
from pa_lib.pretrained.features.base import AbstractVideoFeatures

PUBLISHED_CLIPS = 2048  # what StyleGAN-V and those after it take of both sets


class FewClipsWarning(UserWarning):
    """A distance between sets of videos comes from fewer clips than its network has dimensions: it is too large."""


class FrechetVideoDistance(AbstractClipDistance):
    r"""Frechet distance between the features of original and of anonymized clips.

    The value is called ``fvd`` if the features are I3D's and whole frames are seen, and
    ``frechet_video_distance_<network>`` otherwise, with ``_masks`` at its end if only the masks' surroundings are.

    While the clips are at most `keep`, the value comes from their features (`functional.frechet_distance`);
    beyond, from their sums (`functional.gaussian_frechet_distance`), and there is no interval. So memory stays the same
    however many clips there are.

    Args:
        features: Network that embeds clips, e.g. `pretrained.I3DFeatures`.
        clip_frames: Number of frames of a clip; clips are cut one after the other out of the new frames of every row.
        stride: Distance in frames between two frames that are taken; a row must then have
            (clip_frames - 1) * stride + 1 new frames.
        region: ``frame``, or ``masks``: the square around all masks of a clip, 1.5 times their size. In a whole frame a
            small person hardly matters.
        ddof: Delta degrees of freedom: covariances are over n - ddof. Published numbers mostly have 0.
        keep: Largest number of clips of which features are kept, at 16 bytes times the dimensions each.
        resamples: Number of draws for the interval: videos with replacement, with a fixed seed; value -+ Student's t
            times the standard deviation of the draws. 0 = no interval.
        warn: Whether to give a Python warning if there are fewer clips than dimensions. The value's counts say so in
            any case.

    Raises:
        SettingError: A setting is out of range.
        ValueError: The network does not take clips of this length.

    >>> from pa_lib.pretrained import TransNetFeatures
    >>> metric = FrechetVideoDistance(TransNetFeatures(), clip_frames=4, warn=False)
    >>> video = torch.rand(3, 4, 3, 27, 48)
    >>> metric.update(video, video)
    >>> abs(float(metric.compute()["frechet_video_distance_transnet"])) < 1e-9
    True

    Source: Unterthiner et al. 2018, "Towards accurate generative models of video"; settings of published numbers:
    Skorokhodov et al. 2022, "StyleGAN-V". Ours: originals against their own anonymized versions, the interval, the
    masks' surroundings.
    """

    name = "frechet_video_distance"

    source_sum: Tensor
    source_outer: Tensor
    anonymized_sum: Tensor
    anonymized_outer: Tensor

    def __init__(
        self,
        features: AbstractVideoFeatures,
        clip_frames: int = 16,
        stride: int = 1,
        region: Region = "frame",
        ddof: int = 0,
        keep: int = PUBLISHED_CLIPS,
        resamples: int = 100,
        *,
        warn: bool = True,
    ) -> None:
        super().__init__(features, ClipCutter(clip_frames, stride, region), keep)
        if ddof not in (0, 1):
            raise SettingError(f"ddof is {ddof}, expected 0 (over n) or 1 (over n - 1)")
        if keep < 0 or resamples < 0 or resamples == 1:
            raise SettingError(f"keep is {keep} and resamples {resamples}, expected 0 or more, and not 1 resample")
        self.ddof, self.resamples, self.warn = ddof, resamples, warn
        d = features.n_dimensions
        for side in ("source", "anonymized"):
            self.add_state(f"{side}_sum", torch.zeros(d, dtype=torch.float64), dist_reduce_fx="sum")
            self.add_state(f"{side}_outer", torch.zeros(d, d, dtype=torch.float64), dist_reduce_fx="sum")

    @property
    def value_name(self) -> str:
        """Name of the value: only I3D on whole frames makes it FVD."""
        if self.features.name == "i3d" and self.cutter.region == "frame":
            return "fvd"
        return super().value_name

    def take(self, rows: Float[Tensor, "n k"]) -> None:
        """Add new clips to the sums, and their features if there is room."""
        before, after = self.split(rows.to(self.source_sum.device))
        self.source_sum = self.source_sum + before.sum(0)
        self.source_outer = self.source_outer + before.T @ before
        self.anonymized_sum = self.anonymized_sum + after.sum(0)
        self.anonymized_outer = self.anonymized_outer + after.T @ after
        super().take(rows)

    def compacted(self, name: str, rows: Float[Tensor, "n k"]) -> Float[Tensor, "m k"]:
        """No rows beyond `keep` clips: the value then comes from the sums, in however many processes."""
        return super().compacted(name, rows if int(self.count) <= self.keep else rows[:0])

    def protocol(self) -> dict[str, Any]:
        """See `AbstractMetric`."""
        interval = (
            f"95 %, {self.resamples} draws of videos with replacement, PCG64 with seed {SEED}, value -+ Student's t "
            "times their standard deviation; none for fewer than 2 videos"
            if self.resamples
            else "none"
        )
        return {
            "figure": self.value_name,
            **self.cutter.protocol(),
            "features": self.features.protocol(),
            "covariance_ddof": self.ddof,
            "value": f"nuclear norm of centred features up to {self.keep} clips, eigenvectors of covariances beyond",
            "interval": interval,
        }

    def _measure(self) -> Measurement:
        n, d = int(self.count), self.features.n_dimensions
        value, interval = float("nan"), None
        if 2 <= n <= self.keep:
            rows = smallest_keys(self.joined("rows"), n)

            def distance(some: Tensor | slice) -> float:
                return float(frechet_distance(*self.split(rows[some]), ddof=self.ddof))

            value = distance(slice(None))
            interval = resampled_interval(distance, rows[:, 1], value, self.resamples)
        elif n >= 2:
            before = mean_and_covariance(self.source_sum, self.source_outer, n, self.ddof)
            after = mean_and_covariance(self.anonymized_sum, self.anonymized_outer, n, self.ddof)
            value = float(gaussian_frechet_distance(*before, *after, ranks=(n - 1, n - 1)))
        if self.warn and 2 <= n < d:
            text = f"{self.value_name} of {n} clips with {d} dimensions: too large by far; give {d} clips or more"
            warnings.warn(text, FewClipsWarning, stacklevel=2)
        lacking = {
            f"clips missing to the network's {d} dimensions": max(0, d - n),
            f"clips missing to the usual {PUBLISHED_CLIPS}": max(0, PUBLISHED_CLIPS - n),
        }
        return self.measurement(value, n, interval, "distance", lacking)
