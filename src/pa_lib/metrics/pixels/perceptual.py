"""How different the kept pixels look (LPIPS), over whole videos."""

from __future__ import annotations

import math
from typing import Any

from jaxtyping import Float
from torch import Tensor

from pa_lib.errors import SettingError
from pa_lib.functional.perceptual import unmasked_lpips
from pa_lib.metrics.base import Measurement
from pa_lib.metrics.pixels.frames import AbstractFrameMean
from pa_lib.pretrained.perceptual import Perceptual


class UnmaskedLPIPS(AbstractFrameMean):
    """LPIPS of the kept pixels; see `functional.unmasked_lpips` for what that means near the mask.

    One value, named after the trunk, because values of different trunks do not compare, e.g. ``unmasked_lpips_alex``.
    Mean over a frame's kept pixels, then over frames, then over clips. Frames without kept pixels are counted and left
    out.

    Args:
        network: Network that gives the map of distances.
        chunk: Number of frames at a time; see `functional.unmasked_lpips`.

    Raises:
        SettingError: The chunk is smaller than 1.

    Source: Zhang et al. 2018. Ours: the restriction to kept pixels.
    """

    name = "unmasked_lpips"
    higher_is_better = False
    plot_lower_bound = 0.0

    def __init__(self, network: Perceptual, chunk: int = 1) -> None:
        super().__init__()
        if chunk < 1:
            raise SettingError(f"chunk is {chunk}, expected at least 1 frame")
        self.network, self.chunk = network, chunk

    def frame_values(self, source: Tensor, anonymized: Tensor, masks: Tensor) -> Float[Tensor, "b t"]:
        """See `functional.unmasked_lpips`."""
        device = next(self.network.parameters()).device
        source, anonymized, masks = (part.to(device) for part in (source, anonymized, masks))
        return unmasked_lpips(source, anonymized, masks, self.network, self.chunk)

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
        name = f"unmasked_lpips_{self.network.net}"
        what = f"LPIPS ({self.network.net}) of the kept pixels"
        return Measurement((self.mean(name, what, False, "frames without kept pixels", (0.0, math.inf)),))
