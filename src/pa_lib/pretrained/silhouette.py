"""MediaPipe selfie segmentation: the silhouette of the person in a box."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from pa_lib.contracts import Box
from pa_lib.errors import SettingError
from pa_lib.pretrained.onnx_network import OnnxNetwork

SIDE_PX = 256


class SelfieSegmentation:
    """Silhouettes of people whose boxes are known. On a whole street frame the network misses most people: box first.

    Args:
        margin: Growth of the box before it is made square, as a share of its longer side, half at each side.
        n_threads: Number of threads, see `OnnxNetwork`.

    Source: MediaPipe Selfie Segmentation model card (2021): 256 x 256, RGB in [0, 1].
    """

    def __init__(self, margin: float = 0.15, n_threads: int = 0) -> None:
        if not 0 <= margin <= 2:
            raise SettingError(f"margin is {margin}, expected a share of the box between 0 and 2")
        self.margin = margin
        self._network = OnnxNetwork("selfie_segmentation.onnx", n_threads)

    def silhouette(self, image: NDArray[np.uint8], boxes: Sequence[Box]) -> list[tuple[int, int, NDArray[np.float32]]]:
        """How far each pixel near a box belongs to the person in it.

        Args:
            image: RGB image, shape h w 3.
            boxes: Boxes ``x0 y0 x1 y1`` in pixels; they may reach beyond the image.

        Returns:
            For each box ``top, left`` (px) and an array of shape h w in [0, 1] that lies wholly inside the image: the
            square that the network saw. An array without pixels where the square lies outside the image.

        Raises:
            WeightsError: The shipped weights are missing or damaged.
            RuntimeError: The network's output is not numbers or has another shape.
            ValueError: A box is not finite or has no area.
        """
        return [self._silhouette(image, box) for box in boxes]

    def _silhouette(self, image: NDArray[np.uint8], box: Box) -> tuple[int, int, NDArray[np.float32]]:
        x0, y0, x1, y1 = box
        if not (np.isfinite(box).all() and x1 > x0 and y1 > y0):
            raise ValueError(f"box {box} has no area, expected x0 < x1 and y0 < y1, finite")
        side = max(1, int(np.ceil(max(x1 - x0, y1 - y0) * (1 + self.margin))))
        left, top = round((x0 + x1 - side) / 2), round((y0 + y1 - side) / 2)
        height, width = image.shape[:2]
        low = max(0, top), max(0, left)
        high = min(height, top + side), min(width, left + side)
        if high[0] <= low[0] or high[1] <= low[1]:
            return min(low[0], height), min(low[1], width), np.zeros((0, 0), np.float32)

        inside = image[low[0] : high[0], low[1] : high[1]]
        # Black beyond the border: a repeated border row smears a person who is cut there into a wall of person.
        edges = low[0] - top, top + side - high[0], low[1] - left, left + side - high[1]
        square = cv2.copyMakeBorder(inside, *edges, cv2.BORDER_CONSTANT) if any(edges) else inside
        method = cv2.INTER_AREA if side > SIDE_PX else cv2.INTER_LINEAR
        seen = cv2.resize(square, (SIDE_PX, SIDE_PX), interpolation=method)
        alpha = self._network.run(seen[None].astype(np.float32) / 255)["silhouette"]
        if alpha.shape != (1, SIDE_PX, SIDE_PX, 1):
            raise RuntimeError(f"selfie_segmentation.onnx gave shape {alpha.shape}, expected 1 {SIDE_PX} {SIDE_PX} 1")
        whole = np.clip(cv2.resize(alpha[0, :, :, 0], (side, side), interpolation=cv2.INTER_LINEAR), 0, 1)
        return low[0], low[1], whole[low[0] - top : high[0] - top, low[1] - left : high[1] - left]

    def release(self) -> None:
        """Give the network's memory back until the next call."""
        self._network.release()
