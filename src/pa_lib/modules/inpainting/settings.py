"""How long clips are cut."""

from __future__ import annotations

from dataclasses import dataclass

from pa_lib.errors import SettingError
from pa_lib.setting_types import wrong_types


@dataclass(frozen=True)
class Windows:
    """How long clips are cut.

    Args:
        frames: Number of frames that the backbone sees at a time.
        overlap: Number of frames that neighbouring windows share; the predictions are averaged there, in every step.
        chunk: Number of frames that are held in memory at a time when a video is anonymized.
        chunk_overlap: Number of frames that neighbouring chunks share; the pictures are cross-faded there.
        crops: Number of crops (people times frames) that are denoised in one batch.
    """

    frames: int = 16
    overlap: int = 8
    chunk: int = 48
    chunk_overlap: int = 8
    crops: int = 256

    def __post_init__(self) -> None:
        for name, text in wrong_types(Windows, vars(self)):
            raise SettingError(f"windows.{name}: {text}")
        for name in ("frames", "chunk", "crops"):
            if getattr(self, name) < 1:
                raise SettingError(f"windows.{name} is {getattr(self, name)}, expected at least 1")
        for window, overlap in ((self.frames, self.overlap), (self.chunk, self.chunk_overlap)):
            if not 0 <= overlap < window:
                raise SettingError(
                    f"windows of {window} frames cannot overlap by {overlap}; expected 0 to {window - 1}"
                )
