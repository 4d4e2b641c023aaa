"""The outline of one person among others, by the network that pa_lib has trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from pa_lib.contracts import Box, OutlinePrompt
from pa_lib.errors import SettingError, WeightsError
from pa_lib.functional.outline_prompt import Square, planes_of
from pa_lib.paths import path_of
from pa_lib.pretrained.assets import asset_path
from pa_lib.pretrained.outline.network import STRIDE, OutlineUNet

ASSET = "person_outline.safetensors"
_IN_TRAINING = "network."  # how its weights are named in checkpoints of `pa_lib.modules.OutlineTraining`
_CHUNK = 8  # people at a time


class PersonOutline:
    """Outlines of people whose boxes are known; other people in a box belong to no outline but their own.

    Args:
        side: Side of the square that the network sees, in pixels, a multiple of 16. It has learned at 128.
        path: A ``.safetensors`` of `pa_lib.modules.OutlineTraining`; None takes the weights that ship.

    Raises:
        SettingError: A side that is no multiple of 16.

    Ours. How it was trained, its data and its values: docs/models/person_outline.md.
    """

    def __init__(self, side: int = 128, path: str | Path | None = None) -> None:
        if side < STRIDE or side % STRIDE:
            raise SettingError(f"side {side} of the outline network: expected a multiple of {STRIDE}")
        self.side = side
        self.path = path
        self._network: OutlineUNet | None = None

    def silhouette(self, image: NDArray[np.uint8], boxes: Sequence[Box]) -> list[tuple[int, int, NDArray[np.float32]]]:
        """How far each pixel near a box belongs to the person in it; see `SelfieSegmentation.silhouette`."""
        found = self.outlines(image, [OutlinePrompt(box) for box in boxes])
        return [(top, left, shares[0]) for top, left, shares in found]

    def outlines(
        self,
        image: NDArray[np.uint8],
        prompts: Sequence[OutlinePrompt],
        believed: Sequence[NDArray[np.float32] | None] | None = None,
    ) -> list[tuple[int, int, NDArray[np.float32]]]:
        """How far each pixel belongs to the person who is asked for, and how far to another.

        Args:
            image: RGB image, shape h w 3.
            prompts: Prompts, one a person; boxes may reach beyond the image.
            believed: Outline of each person as it is believed to be, shape h w in [0, 1], as large as the image; None
                where it is not known.

        Returns:
            For each prompt ``top, left`` (px) and an array of shape 2 h w in [0, 1] that lies wholly inside the image,
            the square that the network saw: probabilities of this person and of other people, 1 together at most. An
            array without pixels where the square lies outside the image.

        Raises:
            WeightsError: The weights are missing or damaged, or are those of another network.
            ValueError: A box is not finite or has no area.
        """
        known = [None] * len(prompts) if believed is None else list(believed)
        squares = [_square_of(prompt.box) for prompt in prompts]
        planes = [
            planes_of(self._seen(image, square), square, prompt, None if one is None else self._seen(one, square))
            for square, prompt, one in zip(squares, prompts, known, strict=True)
        ]
        found: list[NDArray[np.float32]] = []
        for first in range(0, len(planes), _CHUNK):
            found += list(self._likely(np.stack(planes[first : first + _CHUNK])))
        return [_in_image(likely, square, *image.shape[:2]) for likely, square in zip(found, squares, strict=True)]

    def release(self) -> None:
        """Give the network's memory back until the next call."""
        self._network = None

    @torch.inference_mode()
    def _likely(self, planes: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._network is None:
            self._network = self._load()
        logits = self._network(torch.from_numpy(planes).contiguous(memory_format=torch.channels_last))
        likely: NDArray[np.float32] = logits.softmax(1)[:, :2].numpy()
        return likely

    def _load(self) -> OutlineUNet:
        path = asset_path(ASSET) if self.path is None else path_of(self.path)
        try:
            stored = load_file(path)
        except (OSError, SafetensorError) as error:
            raise WeightsError(f"{path}: cannot be read as .safetensors of the outline network ({error})") from error
        weights = {name.removeprefix(_IN_TRAINING): tensor.float() for name, tensor in stored.items()}
        try:
            network = OutlineUNet([len(weights[f"down.{level}.0.weight"]) for level in range(4)])
            network.load_state_dict(weights)
        except (KeyError, RuntimeError, SettingError) as error:
            raise WeightsError(f"{path}: holds no weights of the outline network; pack its slot network") from error
        return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def _seen(self, plane: NDArray[Any], square: Square) -> NDArray[Any]:
        """A square of an image as the network sees it, black beyond the border."""
        height, width = plane.shape[:2]
        left, top, side = square
        y0, y1, x0, x1 = max(0, top), min(height, top + side), max(0, left), min(width, left + side)
        if y0 >= y1 or x0 >= x1:
            return np.zeros((self.side, self.side, *plane.shape[2:]), plane.dtype)
        edges = y0 - top, top + side - y1, x0 - left, left + side - x1
        cut = plane[y0:y1, x0:x1]
        whole = cv2.copyMakeBorder(cut, *edges, cv2.BORDER_CONSTANT) if any(edges) else cut
        method = cv2.INTER_AREA if side > self.side else cv2.INTER_LINEAR
        seen: NDArray[Any] = cv2.resize(whole, (self.side, self.side), interpolation=method)
        return seen


def _square_of(box: Box) -> Square:
    x0, y0, x1, y1 = box
    if not (np.isfinite(box).all() and x1 > x0 and y1 > y0):
        raise ValueError(f"box {box} has no area, expected x0 < x1 and y0 < y1, finite")
    return Square.around(box)


def _in_image(
    likely: NDArray[np.float32], square: Square, height: int, width: int
) -> tuple[int, int, NDArray[np.float32]]:
    """The square at its size in the image, cut to what lies inside, with its top and left there."""
    left, top, side = square
    y0, y1, x0, x1 = max(0, top), min(height, top + side), max(0, left), min(width, left + side)
    if y0 >= y1 or x0 >= x1:
        return min(max(0, top), height), min(max(0, left), width), np.zeros((len(likely), 0, 0), np.float32)
    whole = np.stack([cv2.resize(one, (side, side), interpolation=cv2.INTER_LINEAR) for one in likely])
    return y0, x0, np.clip(whole[:, y0 - top : y1 - top, x0 - left : x1 - left], 0, 1)
