"""CenterFace: boxes and five landmarks of faces, in one pass over the whole frame."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from pa_lib.contracts import Detection
from pa_lib.errors import SettingError
from pa_lib.functional.boxes import non_maximum_suppression
from pa_lib.pretrained.onnx_network import OnnxNetwork

STRIDE_PX = 4  # one cell of the outputs covers 4 x 4 pixels
MULTIPLE_PX = 32  # the network halves the frame five times
MAX_OVERLAP = 0.3  # the authors' value


class CenterFace:
    """Face detector. RGB 0..255 at any size; memory grows with the frame (386 MB at 1920 x 1080).

    Args:
        min_score: Least score of a detection, in [0, 1]. The authors use 0.4 and up; detections between 0.2 and that
            help a tracker to hold on to faces that turn away, and must not start a track alone.
        max_side_px: Longest side of a frame in pixels; larger frames are shrunk to it first. None never shrinks.
        n_threads: Number of threads, see `OnnxNetwork`.

    Source: Xu et al. 2019, "CenterFace: Joint Face Detection and Alignment Using Face as Point", section 3.
    Differs: the frame is padded to a multiple of 32 at the right and the bottom, not stretched; boxes keep the part
    that lies beyond the frame.
    """

    def __init__(self, min_score: float = 0.2, max_side_px: int | None = None, n_threads: int = 0) -> None:
        if not 0 < min_score < 1:
            raise SettingError(f"min_score is {min_score}, expected a number between 0 and 1")
        if max_side_px is not None and max_side_px < MULTIPLE_PX:
            raise SettingError(f"max_side_px is {max_side_px}, expected at least {MULTIPLE_PX}, or None")
        self.min_score = min_score
        self.max_side_px = max_side_px
        self._network = OnnxNetwork("centerface.onnx", n_threads)

    def detect(self, images: Sequence[NDArray[np.uint8]]) -> list[list[Detection]]:
        """Faces in each image, best first.

        Args:
            images: RGB images, shape h w 3 each.

        Raises:
            WeightsError: The shipped weights are missing or damaged.
            RuntimeError: The network's outputs are not numbers, or have another shape than its input asks for.
        """
        return [self._detect(image) for image in images]

    def _detect(self, image: NDArray[np.uint8]) -> list[Detection]:
        height, width = image.shape[:2]
        shrink = min(1.0, self.max_side_px / max(height, width)) if self.max_side_px else 1.0
        if shrink < 1:
            size = max(1, round(width * shrink)), max(1, round(height * shrink))
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        # Sides are rounded, so the two axes may shrink by slightly different factors.
        back = np.array([width / image.shape[1], height / image.shape[0]], np.float32)
        boxes, scores, landmarks = self._decode(image)
        boxes *= np.tile(back, 2)
        landmarks *= back
        return [
            Detection("face", (float(box[0]), float(box[1]), float(box[2]), float(box[3])), float(score), points)
            for box, score, points in zip(boxes, scores, landmarks, strict=True)
        ]

    def _decode(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Boxes n 4, scores n and landmarks n 5 2 (x, y), in pixels of `image`."""
        height, width = image.shape[:2]
        rows, columns = -(-height // MULTIPLE_PX) * MULTIPLE_PX, -(-width // MULTIPLE_PX) * MULTIPLE_PX
        blob = np.zeros((1, 3, rows, columns), np.float32)
        for plane, channel in zip(blob[0], cv2.split(image), strict=True):
            plane[:height, :width] = channel
        maps = {name: value[0] for name, value in self._network.run(blob).items()}
        expected = rows // STRIDE_PX, columns // STRIDE_PX
        if any(value.shape[1:] != expected for value in maps.values()):
            raise RuntimeError(f"centerface.onnx gave maps of {maps['heatmap'].shape[1:]} cells, expected {expected}")

        row, column = np.nonzero(maps["heatmap"][0] >= self.min_score)
        scores = maps["heatmap"][0, row, column]
        # Axes of scale and offset are (y, x); all in pixels of the padded input, whose origin is the image's.
        size = np.exp(maps["scale"][:, row, column].T[:, ::-1]) * STRIDE_PX
        cell = np.stack([column, row], axis=1).astype(np.float32)
        centre = (cell + maps["offset"][:, row, column].T[:, ::-1] + 0.5) * STRIDE_PX
        boxes = np.concatenate([centre - size / 2, centre + size / 2], axis=1).astype(np.float32)
        kept = non_maximum_suppression(boxes, scores, MAX_OVERLAP)
        kept = kept[np.isfinite(boxes[kept]).all(axis=1)]  # exp of a wild scale
        relative = maps["landmarks"][:, row[kept], column[kept]].T.reshape(-1, 5, 2)[:, :, ::-1]
        landmarks = relative * size[kept][:, None] + boxes[kept][:, None, :2]
        return boxes[kept], scores[kept], landmarks.astype(np.float32)

    def release(self) -> None:
        """Give the network's memory back until the next call."""
        self._network.release()
