"""Optical flow from frame to frame and back: OpenCV's DIS, which has no weights, and RAFT, whose are given."""

from __future__ import annotations

import hashlib
import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pa_lib.errors import SettingError, WeightsError, first_line
from pa_lib.paths import path_of

Frames = Float[Tensor, "t 3 h w"] | UInt8[Tensor, "t 3 h w"]
BothWays = tuple[Float[Tensor, "2 h w"], Float[Tensor, "2 h w"]]

_PRESETS = {
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}
_DIS_MIN_PX = 16  # smaller pictures have no level that a patch of DIS fits into
_RAFT_MULTIPLE, _RAFT_MIN_PX = 8, 128  # RAFT works at an eighth of the size, and its correlations halve that thrice


class AbstractOpticalFlow(ABC):
    """Optical flow from every frame to the next one and back."""

    @abstractmethod
    def both_ways(self, frames: Frames) -> Iterator[BothWays]:
        """The flow of every pair of neighbouring frames, one pair after the other, so that memory holds but one.

        Args:
            frames: Frames, shape t 3 h w, RGB, uint8 in 0..255 or floats in [0, 1].

        Yields:
            t - 1 times, shape 2 h w, px, x then y: where the pixels of the earlier frame are in the later one, and
            where those of the later one were in the earlier one.
        """

    @abstractmethod
    def protocol(self) -> dict[str, Any]:
        """What makes its flow reproducible, as plain JSON values; see `metrics.AbstractMetric.protocol`."""


class DISFlow(AbstractOpticalFlow):
    """Dense inverse search by OpenCV, on grey pictures of full size. On the CPU; the same whatever number of threads.

    Args:
        preset: Preset of OpenCV: ``ultrafast``, ``fast`` or ``medium``.

    Raises:
        ValueError: No such preset.

    >>> frames = torch.nn.functional.interpolate(torch.rand(1, 3, 8, 8), (64, 64), mode="bicubic").clamp(0, 1)
    >>> (forward, backward), = DISFlow().both_ways(torch.cat([frames, frames.roll(2, -1)]))
    >>> [round(float(way[0, 16:48, 16:48].median())) for way in (forward, backward)]
    [2, -2]

    Source: Kroeger et al. 2016, "Fast optical flow using dense inverse search"; OpenCV's DISOpticalFlow.
    """

    def __init__(self, preset: Literal["ultrafast", "fast", "medium"] = "medium") -> None:
        if preset not in _PRESETS:
            raise SettingError(f"preset is {preset!r}, expected one of {', '.join(_PRESETS)}")
        self.preset = preset

    def both_ways(self, frames: Frames) -> Iterator[BothWays]:
        """See `AbstractOpticalFlow.both_ways`; the flow comes on the CPU.

        Raises:
            ValueError: Frames of another shape, type or range, or of fewer than 16 pixels a side.
        """
        _check(frames, _DIS_MIN_PX)
        # Made here, not kept: a finder keeps buffers of the size of a picture, and cannot be pickled.
        finder = cv2.DISOpticalFlow.create(_PRESETS[self.preset])

        def flow(earlier: NDArray[np.uint8], later: NDArray[np.uint8]) -> BothWays:
            return _planar(finder.calc(earlier, later, None)), _planar(finder.calc(later, earlier, None))

        # A pair ahead: much of DIS runs on one core, and another has time for what is done with the flow.
        with ThreadPoolExecutor(1) as ahead:
            coming: Future[BothWays] | None = None
            for earlier, later in itertools.pairwise(map(_grey, frames)):
                done, coming = coming, ahead.submit(flow, earlier, later)
                if done is not None:
                    yield done.result()
            if coming is not None:
                yield coming.result()

    def protocol(self) -> dict[str, Any]:
        """See `AbstractOpticalFlow.protocol`."""
        return {
            "network": "OpenCV DISOpticalFlow",
            "preset": self.preset,
            "resolution": "that of the video",
            "input": "8-bit grey, 0.299 R + 0.587 G + 0.114 B; floats are rounded to 8 bits",
        }


class RAFTFlow(nn.Module, AbstractOpticalFlow):
    """RAFT by torchvision, with weights of yours. It runs on the device it is moved to.

    Args:
        weights: Path of a state file of torchvision's ``raft_small`` or ``raft_large``; the file decides which.
        n_updates: Number of refinements, >= 1; torchvision's own default is 12.

    Raises:
        WeightsError: The file is missing, or is not such weights.
        SettingError: Fewer than 1 update.

    Source: Teed and Deng 2020, "RAFT: recurrent all-pairs field transforms for optical flow"; torchvision's models.
    """

    def __init__(self, weights: str | Path, n_updates: int = 12) -> None:
        super().__init__()
        if n_updates < 1:
            raise SettingError(f"n_updates is {n_updates}, expected at least 1")
        self.n_updates = n_updates
        self.architecture, self.sha256, self.network = _load_raft(path_of(weights))
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> RAFTFlow:
        """Stays in evaluation mode: it is frozen, and its batch norms must not see a batch."""
        del mode
        return super().train(False)

    @torch.no_grad()
    def both_ways(self, frames: Frames) -> Iterator[BothWays]:
        """See `AbstractOpticalFlow.both_ways`; the flow comes on the device of the network.

        Raises:
            ValueError: Frames of another shape, type or range.
        """
        _check(frames, 1)
        device = next(self.parameters()).device
        height, width = frames.shape[-2:]
        below, right = (max(_RAFT_MIN_PX - side, -side % _RAFT_MULTIPLE) for side in (height, width))
        earlier = None
        for frame in frames:
            pixels = frame.to(device).float() / 255 if frame.dtype == torch.uint8 else frame.to(device).float()
            later = functional.pad(2 * pixels[None] - 1, (0, right, 0, below), mode="replicate")
            if earlier is not None:
                pair = torch.cat([earlier, later]), torch.cat([later, earlier])
                flow = self.network(*pair, num_flow_updates=self.n_updates)[-1][..., :height, :width]
                yield flow[0], flow[1]
            earlier = later

    def protocol(self) -> dict[str, Any]:
        """See `AbstractOpticalFlow.protocol`."""
        return {
            "network": f"torchvision {self.architecture}",
            "weights_sha256": self.sha256,
            "n_updates": self.n_updates,
            "resolution": f"that of the video, its last row and column repeated up to multiples of {_RAFT_MULTIPLE} px",
            "input": "RGB in [-1, 1]",
        }


def _grey(frame: Tensor) -> NDArray[np.uint8]:
    if frame.dtype != torch.uint8:
        frame = (frame * 255).round().clamp(0, 255).to(torch.uint8)
    # OpenCV's own merge: half a millisecond for 768 x 576, where reordering by torch or numpy takes four
    rgb = cv2.merge([plane.contiguous().numpy() for plane in frame.cpu()])
    grey: NDArray[np.uint8] = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    return grey


def _planar(flow: NDArray[np.float32]) -> Float[Tensor, "2 h w"]:
    # One copy here: all that is worked out from planes that are interleaved takes ten times as long
    return rearrange(torch.from_numpy(flow), "h w c -> c h w").contiguous()


def _check(frames: Tensor, least_px: int) -> None:
    if frames.ndim != 4 or frames.shape[1] != 3 or min(frames.shape[2:]) < least_px:
        raise ValueError(
            f"frames have shape {tuple(frames.shape)}, expected t 3 h w with sides of at least {least_px} px"
        )
    if frames.dtype != torch.uint8 and not frames.is_floating_point():
        raise ValueError(f"frames are {frames.dtype}, expected uint8 in 0..255 or floats in [0, 1]")


def _load_raft(path: Path) -> tuple[str, str, nn.Module]:
    """Name, sha256 and network of a state file; small and large differ in the names and shapes of their weights."""
    # Here, not above: torchvision takes a second to import
    from torchvision.models.optical_flow import raft_large, raft_small  # type: ignore[import-untyped]

    how = "give the path of a state file of torchvision's raft_small or raft_large, or use DISFlow, which needs none"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path}: the weights of RAFT cannot be read ({error.strerror}); {how}") from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises pickle, zip, key and attribute errors, by the damage
        raise WeightsError(f"{path}: not a state file ({first_line(error)}); {how}") from error
    for name, build in (("raft_large", raft_large), ("raft_small", raft_small)):
        network = build(weights=None, progress=False)
        if isinstance(state, dict) and state.keys() == network.state_dict().keys():
            try:
                network.load_state_dict(state)
            except RuntimeError:  # same names, other sizes
                continue
            return name, hashlib.sha256(content).hexdigest(), network
    raise WeightsError(f"{path}: these are not the weights of RAFT; {how}")
