"""Faces that are plain squares, whose identity is their colour: every figure is known beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pa_lib.contracts import Detection, Sighting
from pa_lib.metrics import FaceComparer

Color = tuple[int, int, int]
SIDE = 40  # px; squares stand at 20 + 80 n from the left, 20 from the top
_POINTS = np.array([(0.3, 0.4), (0.7, 0.4), (0.5, 0.5), (0.35, 0.8), (0.65, 0.8)], np.float32)


class SquareFinder:
    """Sees every square that is not nearly black."""

    def __init__(self) -> None:
        self.n_calls = 0

    def detect(self, images: Sequence[NDArray[np.uint8]]) -> list[list[Detection]]:
        self.n_calls += 1
        return [self._detect(image) for image in images]

    def _detect(self, image: NDArray[np.uint8]) -> list[Detection]:
        n, _, stats, _ = cv2.connectedComponentsWithStats((image.max(2) > 20).astype(np.uint8))
        found = []
        for x, y, width, height, _ in stats[1:n].tolist():
            points = (_POINTS * [width, height] + [x, y]).astype(np.float32)
            found.append(Detection("face", (x, y, x + width, y + height), 0.9, points))
        return found


class ColorNetwork:
    """The identity of a face is the colour of its nose, in [0, 1]."""

    n_dimensions = 3
    same_person_distance = 0.25

    def embed(self, image: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.stack([image[int(y), int(x)] / np.float32(255) for x, y in landmarks[:, 2]])


def comparer() -> FaceComparer:
    return FaceComparer(SquareFinder(), ColorNetwork())


def clip(*frames: Mapping[int, Color]) -> Tensor:
    """A clip of 1 t 3 80 240, uint8: place from the left -> colour, for every frame."""
    video = torch.zeros(1, len(frames), 3, 80, 240, dtype=torch.uint8)
    for at, frame in enumerate(frames):
        for place, color in frame.items():
            left = 20 + 80 * place
            video[0, at, :, 20 : 20 + SIDE, left : left + SIDE] = torch.tensor(color, dtype=torch.uint8)[:, None, None]
    return video


def box(place: int) -> tuple[float, float, float, float]:
    return 20.0 + 80 * place, 20.0, 20.0 + 80 * place + SIDE, 20.0 + SIDE


def sighted(*frames: Sequence[int]) -> tuple[Sighting, ...]:
    """Who is where: for every frame, the places with somebody; person n stands at place n - 1."""
    return tuple(Sighting(0, at, place + 1, box(place)) for at, places in enumerate(frames) for place in places)


def masks(video: Tensor) -> Tensor:
    """1 where a clip is not black."""
    return (video.amax(2, keepdim=True) > 0).float()
