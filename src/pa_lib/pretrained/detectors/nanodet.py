"""NanoDet-g: boxes of whole people."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from pa_lib.contracts import Detection
from pa_lib.errors import SettingError
from pa_lib.functional.boxes import non_maximum_suppression
from pa_lib.pretrained.onnx_network import OnnxNetwork

STRIDES_PX = (8, 16, 32)
MULTIPLE_PX = 32
MAX_OVERLAP = 0.5
MEAN = np.array([123.675, 116.28, 103.53], np.float32)  # RGB 0..255
STD = np.array([58.395, 57.12, 57.375], np.float32)


class NanoDet:
    """Person detector. The image is resized so that its longer side has `side_px` pixels.

    It was trained at 416 px, where people between about 20 and 400 px tall are found; more pixels find smaller people
    and lose those who then are too large. Share of the shared pedestrians found, by their height in what the network
    sees, with a score of 0.25 / 0.4: 12-15 px 39 / 17 %, 15-18 px 66 / 31 %, 18-22 px 92 / 72 %, 22-28 px 96 / 89 %,
    above 97 / 96 %.

    Args:
        min_score: Least score of a detection, in [0, 1]. The authors use 0.4; lower ones help a tracker to hold on.
        side_px: Longer side of the network's input in pixels.
        n_threads: Number of threads, see `OnnxNetwork`.

    Source: RangiLyu, NanoDet (2020); boxes as distributions over 11 distances: Li et al. 2020, "Generalized Focal
    Loss", equation 5.
    Differs: the authors stretch every image to 416 x 416; here the sides keep their ratio and any size runs.
    """

    def __init__(self, min_score: float = 0.25, side_px: int = 416, n_threads: int = 0) -> None:
        if not 0 < min_score < 1:
            raise SettingError(f"min_score is {min_score}, expected a number between 0 and 1")
        if side_px < MULTIPLE_PX:
            raise SettingError(f"side_px is {side_px}, expected at least {MULTIPLE_PX}")
        self.min_score = min_score
        self.side_px = side_px
        self._network = OnnxNetwork("nanodet_g.onnx", n_threads)

    def detect(self, images: Sequence[NDArray[np.uint8]], side_px: int | None = None) -> list[list[Detection]]:
        """People in each image, best first.

        Args:
            images: RGB images, shape h w 3 each.
            side_px: Longer side of the network's input in pixels, instead of the constructor's.

        Raises:
            WeightsError: The shipped weights are missing or damaged.
            RuntimeError: The network's outputs are not numbers, or have another shape than its input asks for.
        """
        return [self._detect(image, side_px or self.side_px) for image in images]

    def _detect(self, image: NDArray[np.uint8], side_px: int) -> list[Detection]:
        height, width = image.shape[:2]
        scale = side_px / max(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        seen = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        boxes, scores = self._decode(seen)
        boxes *= np.tile(np.array([width / size[0], height / size[1]], np.float32), 2)
        return [
            Detection("body", (float(box[0]), float(box[1]), float(box[2]), float(box[3])), float(score))
            for box, score in zip(boxes, scores, strict=True)
        ]

    def _decode(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Boxes n 4 and scores n, in pixels of `image`."""
        height, width = image.shape[:2]
        rows, columns = -(-height // MULTIPLE_PX) * MULTIPLE_PX, -(-width // MULTIPLE_PX) * MULTIPLE_PX
        blob = np.zeros((1, 3, rows, columns), np.float32)
        for at, channel in enumerate(cv2.split(image)):
            # The network takes BGR. Beyond the image stays 0, the mean.
            blob[0, 2 - at, :height, :width] = (channel - MEAN[at]) / STD[at]
        outputs = self._network.run(blob)
        found = [self._cells(outputs, stride, rows // stride, columns // stride) for stride in STRIDES_PX]
        boxes, scores = (np.concatenate(parts) for parts in zip(*found, strict=True))
        kept = non_maximum_suppression(boxes, scores, MAX_OVERLAP)
        return boxes[kept], scores[kept]

    def _cells(
        self, outputs: dict[str, NDArray[np.float32]], stride: int, rows: int, columns: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        scores = outputs[f"scores_{stride}"][0, :, 0]
        distances = outputs[f"distances_{stride}"][0]
        if len(scores) != rows * columns or distances.shape != (rows * columns, 44):
            raise RuntimeError(f"nanodet_g.onnx gave {len(scores)} cells at stride {stride}, expected {rows * columns}")
        cell = np.nonzero(scores >= self.min_score)[0]
        logits = distances[cell].reshape(-1, 4, 11)
        weight = np.exp(logits - logits.max(axis=-1, keepdims=True))
        sides = (weight / weight.sum(axis=-1, keepdims=True)) @ np.arange(11, dtype=np.float32) * stride
        centre = (np.stack([cell % columns, cell // columns], axis=1) + 0.5) * stride
        boxes = np.concatenate([centre - sides[:, :2], centre + sides[:, 2:]], axis=1)
        return boxes.astype(np.float32), scores[cell]

    def release(self) -> None:
        """Give the network's memory back until the next call."""
        self._network.release()
