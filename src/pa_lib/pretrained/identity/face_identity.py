"""dlib's face ResNet: a face chip in, a 128-d identity out, as a torch module."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from pa_lib.pretrained.assets import asset_path
from pa_lib.pretrained.identity.face_chips import align_faces

# Places of the five landmarks in dlib's 150 px chip, averaged over faces that dlib's own aligner cut.
TEMPLATE = ((48.9, 45.8), (102.0, 45.5), (73.5, 78.0), (52.1, 103.0), (98.8, 102.7))
CHIP_PX = 150
CHUNK = 32  # chips at a time in `embed`: 4.0 ms each on two cores, 8.5 ms alone; 60 MB


class _ScaledConv(nn.Module):
    """A convolution, then a gain and a shift for each channel (dlib's affine layer)."""

    weight: Tensor
    bias: Tensor
    gain: Tensor
    shift: Tensor

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, padding: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.gain = nn.Parameter(torch.ones(outputs))
        self.shift = nn.Parameter(torch.zeros(outputs))
        self.stride, self.padding = stride, padding

    def forward(self, x: Tensor) -> Tensor:
        # Gain and shift go into the filters: one operation and no second activation map.
        weight = self.weight * self.gain[:, None, None, None]
        return functional.conv2d(x, weight, self.bias * self.gain + self.shift, self.stride, self.padding)


class _Block(nn.Module):
    """Two 3x3 convolutions and a skip; a down block halves the size, and its skip is a mean padded with zeros."""

    def __init__(self, inputs: int, outputs: int, *, is_down: bool) -> None:
        super().__init__()
        self.is_down = is_down
        self.conv1 = _ScaledConv(inputs, outputs, 3, 2 if is_down else 1, 0 if is_down else 1)
        self.conv2 = _ScaledConv(outputs, outputs, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(functional.relu(self.conv1(x)))
        if self.is_down:
            x = functional.avg_pool2d(x, 2)
            # Either side may be the smaller one; dlib extends the smaller with zeros in rows, columns and channels.
            sides = [max(a, b) for a, b in zip(x.shape[1:], y.shape[1:], strict=True)]
            x, y = _extend(x, sides), _extend(y, sides)
        return functional.relu(x + y)


def _extend(x: Tensor, sides: list[int]) -> Tensor:
    channels, rows, columns = (want - have for want, have in zip(sides, x.shape[1:], strict=True))
    return functional.pad(x, (0, columns, 0, rows, 0, channels))


class FaceIdentity(nn.Module):
    """Face identity network. Two chips whose embeddings are nearer than `same_person_distance` show one person.

    Frozen and differentiable with respect to its input. Weights ship with pa_lib (CC0), 8-bit for most layers.

    Raises:
        WeightsError: The shipped weights are missing or damaged.

    Source: King, dlib (2017), dnn_face_recognition_ex; He et al. 2015 with 29 convolutions and half the filters.
    Differs: expanded from 8-bit weights; embeddings are 0.04 (L2, mean) from dlib's own.

    >>> FaceIdentity()(torch.rand(2, 3, 150, 150)).shape
    torch.Size([2, 128])
    """

    chip_px = CHIP_PX
    n_dimensions = 128
    same_person_distance = 0.6  # dlib's own threshold, Euclidean

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([122.782, 117.001, 104.298])[:, None, None], persistent=False)
        self.stem = _ScaledConv(3, 32, 7, 2, 0)
        widths = {"32_1": 32, "32_2": 32, "32_3": 32, "64_down": 64, "64_1": 64, "64_2": 64, "64_3": 64}
        widths |= {"128_down": 128, "128_1": 128, "128_2": 128, "256_down": 256, "256_1": 256, "256_2": 256}
        widths |= {"256_down_out": 256}
        blocks, inputs = {}, 32
        for name, outputs in widths.items():
            blocks["conv" + name] = _Block(inputs, outputs, is_down="down" in name)
            inputs = outputs
        self.blocks = nn.ModuleDict(blocks)
        self.embed_layer = nn.Linear(256, 128, bias=False)
        self.load_state_dict(_read_weights())
        self.requires_grad_(False)
        self.eval()

    def forward(self, chips: Float[Tensor, "b 3 150 150"]) -> Float[Tensor, "b 128"]:
        """Identities of aligned faces.

        Args:
            chips: Face chips, RGB in [0, 1], cut as `align_faces` does with this network's template.

        Returns:
            Shape b 128, compared by Euclidean distance; length about 1.4, not normalised.

        Raises:
            ValueError: Chips of another shape.
        """
        if chips.ndim != 4 or tuple(chips.shape[1:]) != (3, CHIP_PX, CHIP_PX):
            raise ValueError(f"chips have shape {tuple(chips.shape)}, expected b 3 {CHIP_PX} {CHIP_PX}")
        x = (chips * 255 - self.mean) / 256
        x = functional.max_pool2d(functional.relu(self.stem(x)), 3, 2)
        for block in self.blocks.values():
            x = block(x)
        embedding: Tensor = self.embed_layer(x.mean((2, 3)))
        return embedding

    def chips(self, image: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> Float[Tensor, "n 3 150 150"]:
        """Faces of one image, cut out and upright, RGB in [0, 1]. Arguments as in `embed`."""
        cut = torch.from_numpy(align_faces(image, landmarks, TEMPLATE, CHIP_PX))
        return cut.permute(0, 3, 1, 2).to(self.mean.device) / 255

    @torch.no_grad()
    def embed(self, image: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
        """Identities of the faces in one image.

        Args:
            image: RGB image, shape h w 3.
            landmarks: Landmarks (x, y) in pixels, shape n 5 2, in the order of `Detection`.

        Returns:
            Shape n 128.

        Raises:
            ValueError: Landmarks of another shape or not finite.
        """
        chips = self.chips(image, landmarks)
        parts = [self(part).cpu().numpy() for part in torch.split(chips, CHUNK)] if len(chips) else []
        return np.concatenate(parts) if parts else np.zeros((0, self.n_dimensions), np.float32)


def _read_weights() -> dict[str, Tensor]:
    """The state of the module; 8-bit tensors are value = q * scale + minimum."""
    stored = load_file(asset_path("face_identity.safetensors"))
    state = {}
    for key, value in stored.items():
        if key.endswith(".range"):
            continue
        if value.dtype == torch.uint8:
            scale, minimum = stored[key + ".range"]
            value = value.float() * scale + minimum
        block = key.split(".")[0]
        prefix = "" if block == "stem" else "embed_layer." if block == "embed" else "blocks."
        state[prefix + key.removeprefix("embed.")] = value.float()
    return state
