"""MTCNN of facenet-pytorch as a face detector of pa_lib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pa_lib.contracts import Detection
from pa_lib.errors import SettingError


class MTCNN:
    """Face detector; the weights are inside the package facenet-pytorch (MIT), which is imported at first use.

    Args:
        min_score: Least score of a detection, in [0, 1]: the last network's threshold.
        min_face_px: Size in pixels of the smallest faces that the image pyramid is built for; time grows with 1 / its
            square.

    Source: Zhang et al. 2016, "Joint Face Detection and Alignment using Multi-task Cascaded Convolutional Networks".
    """

    def __init__(self, min_score: float = 0.5, min_face_px: int = 16) -> None:
        if not 0 < min_score < 1:
            raise SettingError(f"min_score is {min_score}, expected a number between 0 and 1")
        if min_face_px < 12:
            raise SettingError(f"min_face_px is {min_face_px}, expected at least 12, the input of the first network")
        self.min_score = min_score
        self.min_face_px = min_face_px
        self._network: Any = None

    def detect(self, images: Sequence[NDArray[np.uint8]]) -> list[list[Detection]]:
        """Faces in each image, best first.

        Args:
            images: RGB images, shape h w 3 each.

        Raises:
            RuntimeError: The network gave numbers that are not finite.
        """
        return [self._detect(image) for image in images]

    def _detect(self, image: NDArray[np.uint8]) -> list[Detection]:
        if min(image.shape[:2]) < self.min_face_px:
            return []  # the pyramid would be empty, which facenet-pytorch takes for an error
        if self._network is None:
            from facenet_pytorch import MTCNN as Network  # noqa: N811

            self._network = Network(
                keep_all=True, min_face_size=self.min_face_px, thresholds=[0.6, 0.7, self.min_score], device="cpu"
            )
        # `detect` gives arrays of objects, and None in place of an empty list.
        boxes, scores, points = self._network.detect(image, landmarks=True)
        if boxes is None:
            return []
        boxes, scores, points = (np.asarray(value.tolist(), np.float32) for value in (boxes, scores, points))
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all() and np.isfinite(points).all()):
            raise RuntimeError("MTCNN gave numbers that are not finite")
        order = np.argsort(-scores, kind="stable")
        return [
            Detection("face", tuple(boxes[at].tolist()), float(scores[at]), points[at].reshape(5, 2)) for at in order
        ]

    def release(self) -> None:
        """Give the network's memory back until the next call."""
        self._network = None
