"""How different the kept pixels look (LPIPS), over whole videos."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pa_lib.functional.perceptual import unmasked_lpips
from pa_lib.metrics.base import AbstractMetric, Measurement
from pa_lib.metrics.over_clips import clip_keys, frame_rows, mean_over_clips
from pa_lib.metrics.per_clip import summed
from pa_lib.pretrained.perceptual import Perceptual


class UnmaskedLPIPS(AbstractMetric):
    """LPIPS of the kept pixels; see `functional.unmasked_lpips` for what that means near the mask.

    One figure, named after the trunk, for values of different trunks do not compare: ``unmasked_lpips_alex`` and so on.
    Mean over a frame's kept pixels, then over frames, then over clips. Frames without kept pixels are counted and left
    out.

    Args:
        network: Makes the map of distances.
        chunk: Frames at a time; see `functional.unmasked_lpips`.

    Raises:
        ValueError: The chunk is smaller than 1.

    Source: Zhang et al. 2018. Ours: the restriction to kept pixels.
    """

    name = "unmasked_lpips"
    higher_is_better = False
    plot_lower_bound = 0.0

    rows: Tensor

    def __init__(self, network: Perceptual, chunk: int = 1) -> None:
        super().__init__()
        if chunk < 1:
            raise ValueError(f"chunk is {chunk}, expected at least 1 frame")
        self.network, self.chunk = network, chunk
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
            ValueError: Shapes or ranges do not fit, or frames are too small for the network.
        """
        device = next(self.network.parameters()).device
        source, anonymized, masks = (part[:, context:].to(device) for part in (source, anonymized, masks))
        with torch.no_grad():
            values = unmasked_lpips(source, anonymized, masks, self.network, self.chunk)
        keys = clip_keys(clip_ids, len(source), self.rows).to(self.rows.device)
        self.rows = summed(torch.cat([self.rows, frame_rows(keys, values)]))

    def protocol(self) -> dict[str, Any]:
        """See `AbstractMetric.protocol`."""
        return {
            "kept": "mask == 0",
            "network": f"LPIPS 0.1, {self.network.net}",
            "weights_sha256": self.network.weights_sha256,
            "weights_sha256_of": "name and float32 bytes of every tensor of the lpips package's network, by name",
            "restriction": "hidden pixels of both pictures are the source's; spatial map averaged over kept pixels",
            "pixels": "RGB in [0, 1], 8-bit values / 255, at their own size; float32 arithmetic",
            "pooling": "mean over kept pixels, then frames, then clips; frames without kept pixels left out",
            "interval": "Student's t over clips, 95 %",
        }

    def _measure(self) -> Measurement:
        rows = summed(self.rows.cpu())
        name = f"unmasked_lpips_{self.network.net}"
        what = f"LPIPS ({self.network.net}) of the kept pixels"
        missing = "frames without kept pixels"
        return Measurement((mean_over_clips(rows, name, what, False, missing, (0.0, math.inf)),))
