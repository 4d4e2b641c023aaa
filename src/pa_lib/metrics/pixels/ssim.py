"""Structural similarity of the pixels that were to be kept, over whole videos."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from pa_lib.functional.ssim import SSIM_WINDOW_PX, unmasked_ssim
from pa_lib.metrics.base import Measurement
from pa_lib.metrics.pixels.frames import AbstractFrameMean


class UnmaskedSSIM(AbstractFrameMean):
    """Mean SSIM of the windows that see kept pixels only; see `functional.unmasked_ssim`.

    One value, ``unmasked_ssim``: mean over a frame's windows, then over frames, then over clips. Frames without such
    a window are counted and left out.

    >>> import torch
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

    def frame_values(self, source: Tensor, anonymized: Tensor, masks: Tensor) -> Float[Tensor, "b t"]:
        """See `functional.unmasked_ssim`."""
        return unmasked_ssim(source, anonymized, masks)

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
        what = "mean SSIM of the windows that see kept pixels only"
        missing = "frames without a wholly kept window"
        return Measurement((self.mean("unmasked_ssim", what, True, missing, (-1.0, 1.0)),))
