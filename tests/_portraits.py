"""Portraits in miniature with an index, and a stand-in for a bank of doubles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pa_lib.contracts import Box, HeadPose

_LANDMARKS = ("eye1", "eye2", "nose", "mouth1", "mouth2")
_HEADER = [
    "file", "box_x", "box_y", "box_w", "box_h",
    *(f"{name}_{axis}" for name in _LANDMARKS for axis in "xy"),
    "valid_x0", "valid_y0", "valid_x1", "valid_y1",
]  # fmt: skip


def write_portraits(folder: Path, n: int = 8, side: int = 48) -> Path:
    """Pictures of a drawn head and shoulders before a wall; the first four columns of each are padding."""
    folder.mkdir(parents=True)
    lines = ["\t".join(_HEADER)]
    y, x = np.mgrid[:side, :side] / side
    for number in range(n):
        picture = np.empty((side, side, 3), np.uint8)
        picture[:] = (90 + 10 * number, 120, 140)
        picture[_is_body(x, y)] = (40, 50, 90 + 5 * number)
        picture[_is_head(x, y)] = (200, 150 - 4 * number, 120)
        picture[_is_hair(x, y)] = (60, 40, 30)
        Image.fromarray(picture).save(folder / f"{number}.png")
        points = [(0.43, 0.47), (0.57, 0.47), (0.5, 0.54), (0.45, 0.62), (0.55, 0.62)]
        numbers = [0.34, 0.28, 0.32, 0.44, *(value for point in points for value in point)]
        lines.append(
            "\t".join([f"{number}.png", *(f"{side * value:.2f}" for value in numbers), "4", "0", *[str(side)] * 2])
        )
    (folder / "index.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


class DrawnSilhouettes:
    """Stands in for the silhouette network, which does not take drawings for people: knows where they are drawn."""

    def __init__(self, margin: float = 0.0, n_threads: int = 1) -> None:
        del margin, n_threads

    def silhouette(self, image: NDArray[np.uint8], boxes: Sequence[Box]) -> list[tuple[int, int, NDArray[np.float32]]]:
        y, x = np.mgrid[: image.shape[0], : image.shape[1]] / len(image)
        return [(0, 0, (_is_head(x, y) | _is_body(x, y)).astype(np.float32)) for _ in boxes]


def _is_body(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    return (y > 0.75) & (abs(x - 0.5) < 0.4)


def _is_head(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    is_face = ((x - 0.5) / 0.16) ** 2 + ((y - 0.5) / 0.26) ** 2 < 1
    return is_face | _is_hair(x, y)


def _is_hair(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    return ((x - 0.5) / 0.17) ** 2 + ((y - 0.32) / 0.1) ** 2 < 1


class DiscCasting:
    """Every double is a disc of one color around the middle of the eyes, two scales wide, drawn at any resolution.

    The color says who it is and which way they look.
    """

    def __init__(self, yaws: Sequence[float] = (0.0,)) -> None:
        self.asked: list[tuple[int, int, str | None]] = []
        self._yaws = yaws

    def names_of(self, people: Sequence[int], seed: int, wishes: Mapping[int, str]) -> dict[int, str]:
        self.asked += [(person_id, seed, wishes.get(person_id)) for person_id in people]
        return {person_id: wishes.get(person_id) or f"double {(person_id + seed) % 5}" for person_id in people}

    def yaws(self, name: str) -> Sequence[float]:
        return self._yaws

    def color(self, name: str, yaw: float = 0.0) -> Tensor:
        return torch.tensor([0.8, 0.1 + 0.1 * int(name[-1]), 0.3 + yaw / 600])

    def render(self, name: str, yaw: float, pose: HeadPose, box: Box, side: int) -> Tensor:
        x0, y0, x1, y1 = box
        n = 4 * side  # averaged: antialiased
        xs = x0 + (torch.arange(n) + 0.5) * (x1 - x0) / n
        ys = y0 + (torch.arange(n) + 0.5) * (y1 - y0) / n
        inside = (xs[None] - pose.x) ** 2 + (ys[:, None] - pose.y) ** 2 < (2 * pose.scale) ** 2
        alpha = inside.float().view(side, 4, side, 4).mean((1, 3))
        return torch.cat([self.color(name, yaw)[:, None, None] * alpha, alpha[None]])
