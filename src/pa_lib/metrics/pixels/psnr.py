"""PSNR of the pixels that were to be kept, over whole videos, with the band along the mask apart."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pa_lib.errors import SettingError
from pa_lib.functional.intervals import t_half_width, t_interval, within
from pa_lib.functional.psnr import halo, kept_pixels, psnr_db, region_errors
from pa_lib.metrics.base import Measurement, MetricValue
from pa_lib.metrics.pixels.frames import AbstractPixelMetric

# Columns of a clip's row after its number. A region is the halo or what lies beyond it.
_SQUARES, _VALUES, _IDENTICAL, _PIXELS = slice(1, 3), slice(3, 5), slice(5, 7), slice(7, 9)
_DB, _FINITE, _INFINITE, _EMPTY = 9, 10, 11, 12


class UnmaskedPSNR(AbstractPixelMetric):
    """How well the kept pixels are kept, in dB; see `functional.unmasked_psnr`.

    Values:
    ``unmasked_psnr_db``: the PSNR of the squared error pooled over all kept pixels of a clip, and averaged over clips
    before the logarithm, so that identical clips need no special case; infinite only if everything is identical.
    ``unmasked_psnr_frame_mean_db``: the mean of the frames' own PSNR, per clip, then over clips, without the frames
    that are identical, which are counted.
    ``unmasked_psnr_halo_db``, ``unmasked_psnr_beyond_halo_db``: as the first, for the kept pixels within `halo_px` of
    the mask, and for the others.
    ``unmasked_identical_share``: the share of kept pixels that are equal to the bit; mean over clips.

    Args:
        halo_px: Width of the band along the mask in pixels, >= 1.
        data_range: Peak value of pixels in [0, 1].

    Raises:
        SettingError: The halo is narrower than 1 px, or the range is not positive.

    >>> metric = UnmaskedPSNR()
    >>> source, masks = torch.zeros(1, 2, 3, 32, 32), torch.zeros(1, 2, 1, 32, 32)
    >>> metric.update(source, source + 0.1, masks)
    >>> metric.measure().values[0].value  # doctest: +ELLIPSIS
    19.999...

    Ours: the halo, and the mean over clips.
    """

    name = "unmasked_psnr"
    higher_is_better = True

    def __init__(self, halo_px: float = 8, data_range: float = 1.0) -> None:
        super().__init__(12)
        if not halo_px >= 1:
            raise SettingError(f"halo_px is {halo_px}, expected at least 1")
        if not data_range > 0:
            raise SettingError(f"data_range is {data_range}, expected more than 0")
        self.halo_px, self.data_range = halo_px, data_range

    def sums(self, source: Tensor, anonymized: Tensor, masks: Tensor) -> Float[Tensor, "b 12"]:
        """Squared errors and numbers of pixels in and beyond the halo, and the frames' own PSNR."""
        kept = kept_pixels(masks)
        near = halo(kept, self.halo_px)
        errors = region_errors(source, anonymized, torch.stack([near, kept & ~near]))
        per_frame = psnr_db(errors.squares.sum(0), errors.values.sum(0), self.data_range)
        columns = [part.sum(2).T for part in errors]
        columns += [
            part.double().sum(1, keepdim=True)
            for part in (
                torch.where(per_frame.isfinite(), per_frame, 0.0),
                per_frame.isfinite(),
                per_frame.isinf(),
                per_frame.isnan(),
            )
        ]
        return torch.cat(columns, 1)

    def protocol(self) -> dict[str, Any]:
        """See `AbstractMetric.protocol`."""
        return {
            "kept": "mask == 0",
            "halo_px": float(self.halo_px),
            "halo": "kept pixels whose centre is at most halo_px from the centre of a pixel that is not kept",
            "data_range": float(self.data_range),
            "pixels": "RGB in [0, 1], 8-bit values / 255, not rounded or clamped",
            "pooling": "squared error per clip over frames, kept pixels and channels; mean over clips; then dB",
            "frame_mean": "mean over frames of each frame's dB, then over clips; identical frames left out and counted",
            "interval": "Student's t over clips, 95 %; pooled figures by the delta method",
        }

    def _measure(self) -> Measurement:
        rows = self.joined("rows")
        of_frames = {
            "identical frames": int(rows[:, _INFINITE].sum()),
            "frames without kept pixels": int(rows[:, _EMPTY].sum()),
        }
        squares, values = rows[:, _SQUARES], rows[:, _VALUES]
        return Measurement(
            (
                self._pooled("unmasked_psnr_db", squares.sum(1), values.sum(1), "all kept pixels", of_frames),
                self._frame_mean(rows, of_frames),
                self._pooled(
                    "unmasked_psnr_halo_db",
                    squares[:, 0],
                    values[:, 0],
                    f"kept pixels within {self.halo_px:g} px of the mask",
                ),
                self._pooled(
                    "unmasked_psnr_beyond_halo_db",
                    squares[:, 1],
                    values[:, 1],
                    f"kept pixels more than {self.halo_px:g} px from the mask",
                ),
                _identical_share(rows),
            )
        )

    def _pooled(
        self, name: str, squares: Tensor, values: Tensor, where: str, counted: dict[str, int] | None = None
    ) -> MetricValue:
        is_there = values > 0
        errors = squares[is_there] / values[is_there]
        mean = errors.mean()  # NaN without clips
        value = float(psnr_db(mean, torch.ones_like(mean), self.data_range))
        counts = {
            **(counted or {}),
            "clips without such pixels": int((~is_there).sum()),
            "identical clips": int((errors == 0).sum()),
        }
        interval = None
        if len(errors) >= 2 and math.isfinite(value):
            # d(dB) = 10 / ln 10 * d(error) / error
            half = 10 / math.log(10) * t_half_width(errors) / float(mean)
            interval = (value - half, value + half)
        what = f"PSNR of the pooled squared error of {where}"
        return MetricValue(name, value, len(errors), "clips", what, True, interval, counts)

    def _frame_mean(self, rows: Tensor, counted: dict[str, int]) -> MetricValue:
        some = rows[rows[:, _FINITE] > 0]
        means = some[:, _DB] / some[:, _FINITE]
        value = float(means.mean())
        if not len(some) and bool((rows[:, _INFINITE] > 0).any()):
            value = math.inf
        return MetricValue(
            "unmasked_psnr_frame_mean_db",
            value,
            int(some[:, _FINITE].sum()),
            "frames",
            "mean of the PSNR of the kept pixels of each frame that is not identical",
            True,
            t_interval(means),
            {**counted, "clips without such frames": len(rows) - len(some)},
        )


def _identical_share(rows: Tensor) -> MetricValue:
    identical, pixels = rows[:, _IDENTICAL].sum(1), rows[:, _PIXELS].sum(1)
    shares = identical[pixels > 0] / pixels[pixels > 0]
    counted = {"clips without kept pixels": len(rows) - len(shares)}
    what = "share of the kept pixels that are equal to the bit"
    interval = within(t_interval(shares), 0.0, 1.0)
    return MetricValue(
        "unmasked_identical_share", float(shares.mean()), len(shares), "clips", what, True, interval, counted
    )
