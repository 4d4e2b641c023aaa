"""How far anonymized videos lie from the originals as a set: the Frechet video distance, with its network's name."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pa_lib.functional.frechet import frechet_distance, gaussian_frechet_distance, mean_and_covariance
from pa_lib.functional.intervals import SEED, resampled_interval
from pa_lib.metrics.base import AbstractMetric, Measurement, MetricValue
from pa_lib.metrics.video.clips import ClipCutter, Region, feature_rows, numbered, smallest_keys
from pa_lib.pretrained.features.base import AbstractVideoFeatures

PUBLISHED_CLIPS = 2048  # what StyleGAN-V and those after it take of both sets


class FewClipsWarning(UserWarning):
    """A distance between sets of videos comes from fewer clips than its network has dimensions: it is too large."""


class FrechetVideoDistance(AbstractMetric):
    r"""Frechet distance between the features of original and of anonymized clips.

    The figure is called ``fvd`` where the features are I3D's and whole frames are seen, and else
    ``frechet_video_distance_<network>``, with ``_masks`` at its end where only the masks' surroundings are.

    While the clips are at most `keep`, the value comes from their features (`functional.frechet_distance`);
    beyond, from their sums (`functional.gaussian_frechet_distance`), and there is no interval. So memory stays the same
    however many clips there are.

    Args:
        features: The network, e.g. `pretrained.I3DFeatures`.
        clip_frames: Frames of a clip, cut one after the other out of the new frames of every row of an update.
        stride: Every how many frames one is taken; a row must then have (clip_frames - 1) * stride + 1 new frames.
        region: ``frame``, or ``masks``: the square around all masks of a clip, 1.5 times their size. In a whole frame
            a small person hardly shows.
        ddof: Covariances are over n - ddof; published numbers mostly 0.
        keep: At most how many clips' features are kept, 16 bytes times the dimensions each.
        resamples: Draws for the interval: videos with replacement, with a fixed seed; value -+ Student's t times the
            standard deviation of the draws. 0: no interval.
        warn: A Python warning where there are fewer clips than dimensions. The figure's counts say so in any case.

    Raises:
        ValueError: A setting beyond its range, or a clip length that the network does not take.

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
    higher_is_better = False

    count: Tensor
    n_short: Tensor
    n_unmasked: Tensor
    source_sum: Tensor
    source_outer: Tensor
    anonymized_sum: Tensor
    anonymized_outer: Tensor
    rows: Tensor

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
        super().__init__()
        if ddof not in (0, 1):
            raise ValueError(f"ddof is {ddof}, expected 0 (over n) or 1 (over n - 1)")
        if keep < 0 or resamples < 0 or resamples == 1:
            raise ValueError(f"keep is {keep} and resamples {resamples}, expected 0 or more, and not 1 resample")
        features.check_frames(torch.zeros(1, clip_frames, 3, 1, 1))
        self.features = features
        self.cutter = ClipCutter(clip_frames, stride, region)
        self.ddof, self.keep, self.resamples, self.warn = ddof, keep, resamples, warn
        self._next_id = 0
        d = features.n_dimensions
        for state in ("count", "n_short", "n_unmasked"):
            self.add_state(state, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        for side in ("source", "anonymized"):
            self.add_state(f"{side}_sum", torch.zeros(d, dtype=torch.float64), dist_reduce_fx="sum")
            self.add_state(f"{side}_outer", torch.zeros(d, d, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_rows("rows", 2 + 2 * d)

    @property
    def figure_name(self) -> str:
        """What the figure is called: only I3D on whole frames makes it FVD."""
        if self.features.name == "i3d" and self.cutter.region == "frame":
            return "fvd"
        return f"{self.name}_{self.features.name}" + ("_masks" if self.cutter.region == "masks" else "")

    def update(
        self,
        source: Tensor,
        anonymized: Tensor,
        masks: Tensor | None = None,
        clip_ids: Tensor | None = None,
        context: int = 0,
    ) -> None:
        """Take in the clips of a batch.

        Args:
            source: Shape b t 3 h w, floats in [0, 1] or uint8 in 0..255.
            anonymized: The same.
            masks: Shape b t 1 h w in [0, 1], needed where the region is theirs.
            clip_ids: Shape b, which video each row is of: videos are what the interval draws. None takes every row
                for a video of its own.
            context: First frames of every row that were there before; they are left out.

        Raises:
            ValueError: Shapes do not fit, or pixels lie beyond their range.
        """
        ids = numbered(clip_ids, len(source), self._next_id)
        self._next_id += len(source)
        found = feature_rows(self.features, self.cutter, source, anonymized, masks, ids, context)
        new = found.rows.to(self.source_sum.device)
        self.count += len(new)
        self.n_short += found.n_short
        self.n_unmasked += found.n_unmasked
        before, after = self._split(new)
        self.source_sum = self.source_sum + before.sum(0)
        self.source_outer = self.source_outer + before.T @ before
        self.anonymized_sum = self.anonymized_sum + after.sum(0)
        self.anonymized_outer = self.anonymized_outer + after.T @ after
        # Beyond `keep` the value comes from the sums, in however many processes: rows are of no more use.
        is_kept = int(self.count) <= self.keep
        self.rows = torch.cat([self.rows, new]) if is_kept else self.rows[:0]

    def protocol(self) -> dict[str, Any]:
        """See `AbstractMetric`."""
        interval = (
            f"95 %, {self.resamples} draws of videos with replacement, PCG64 with seed {SEED}, value -+ Student's t "
            "times their standard deviation; none for fewer than 2 videos"
            if self.resamples
            else "none"
        )
        return {
            "figure": self.figure_name,
            **self.cutter.protocol(),
            "features": self.features.protocol(),
            "covariance_ddof": self.ddof,
            "value": f"nuclear norm of centred features up to {self.keep} clips, eigenvectors of covariances beyond",
            "interval": interval,
        }

    def _split(self, rows: Float[Tensor, "n k"]) -> tuple[Tensor, Tensor]:
        d = self.features.n_dimensions
        return rows[:, 2 : 2 + d], rows[:, 2 + d :]

    def _measure(self) -> Measurement:
        n, d = int(self.count), self.features.n_dimensions
        value, interval = float("nan"), None
        if 2 <= n <= self.keep:
            rows = smallest_keys(self.rows, n)

            def distance(some: Tensor | slice) -> float:
                return float(frechet_distance(*self._split(rows[some]), ddof=self.ddof))

            value = distance(slice(None))
            interval = resampled_interval(distance, rows[:, 1], value, self.resamples)
        elif n >= 2:
            before = mean_and_covariance(self.source_sum, self.source_outer, n, self.ddof)
            after = mean_and_covariance(self.anonymized_sum, self.anonymized_outer, n, self.ddof)
            value = float(gaussian_frechet_distance(*before, *after, ranks=(n - 1, n - 1)))
        if self.warn and 2 <= n < d:
            text = f"{self.figure_name} of {n} clips with {d} dimensions: too large by far; give {d} clips or more"
            warnings.warn(text, FewClipsWarning, stacklevel=2)
        figure = MetricValue(
            self.figure_name,
            value,
            n,
            "clips",
            f"distance between original and anonymized clips as sets, features of {self.features.name}",
            is_higher_better=False,
            interval=interval,
            counted=self._counted(n, d),
        )
        return Measurement((figure,))

    def _counted(self, n: int, d: int) -> dict[str, int]:
        counted = {
            f"pieces shorter than {self.cutter.span} frames": int(self.n_short),
            "clips without a mask": int(self.n_unmasked),
            "clips missing to the 2 it takes": max(0, 2 - n),
            f"clips missing to the network's {d} dimensions": max(0, d - n),
            f"clips missing to the usual {PUBLISHED_CLIPS}": max(0, PUBLISHED_CLIPS - n),
        }
        return {what: number for what, number in counted.items() if number}
