"""Structural similarity of the pixels that were to be kept, over whole videos."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pa_lib.functional.ssim import SSIM_WINDOW_PX, unmasked_ssim
from pa_lib.metrics.base import AbstractMetric, Measurement
from pa_lib.metrics.over_clips import clip_keys, frame_rows, mean_over_clips
from pa_lib.metrics.per_clip import summed


class UnmaskedSSIM(AbstractMetric):
    """Mean SSIM of the windows that see kept pixels only; see `functional.unmasked_ssim`.

    One figure, ``unmasked_ssim``: mean over a frame's windows, then over frames, then over clips. Frames without such
    a window are counted and left out.

    >>> metric = UnmaskedSSIM()
    >>> source = torch.rand(1, 2, 3, 16, 16)
    >>> metric.update(source, source, torch.zeros(1, 2, 1, 16, 16))
    >>> metric.measure().values[0].value
    1.0

    Source: Wang et al. 2004. Ours: which windows count.
    """

    name = "unmasked_ssim"
    higher_is_better = True
    plot_upper_bound = 1.0

    rows: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_rows("rows", 4)

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
            ValueError: Shapes or ranges do not fit, or frames are smaller than SSIM's window.
        """
        values = unmasked_ssim(source[:, context:], anonymized[:, context:], masks[:, context:])
        keys = clip_keys(clip_ids, len(source), self.rows).to(self.rows.device)
        self.rows = summed(torch.cat([self.rows, frame_rows(keys, values)]))

    def protocol(self) -> dict[str, Any]:
        """See `AbstractMetric.protocol`."""
        return {
            "kept": "mask == 0",
            "window_px": SSIM_WINDOW_PX,
            "window": "Gaussian, sigma 1.5 px, population moments, wholly inside the picture and the kept pixels",
            "constants": [0.01, 0.03],
            "data_range": 1.0,
            "pixels": "RGB in [0, 1], 8-bit values / 255, not rounded or clamped; float32 arithmetic",
            "pooling": "mean over channels and windows, then frames, then clips; frames without a window left out",
            "interval": "Student's t over clips, 95 %",
        }

    def _measure(self) -> Measurement:
        rows = summed(self.rows.cpu())
        what = "mean SSIM of the windows that see kept pixels only"
        missing = "frames without a wholly kept window"
        return Measurement((mean_over_clips(rows, "unmasked_ssim", what, True, missing, (-1.0, 1.0)),))
