"""Pictures of a few validation clips and their anonymized versions, kept beside the checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from lightning import LightningModule, Trainer
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pa_lib.callbacks.stream import AbstractStreamCallback
from pa_lib.contracts import Result
from pa_lib.errors import SettingError

_MOST_FRAMES = 8  # of a strip: more do not fit a screen
_GREY = 0.5


class Preview(AbstractStreamCallback):
    """Writes ``source | masked | anonymized`` of the first validation clips, every validation.

    Images become one PNG, a row to each. Clips become a PNG strip (three rows to a clip, up to 8 frames spread over it)
    and a GIF of all of them side by side. Loggers that take images get the PNG too. The pictures show people as they
    were filmed: keep them as you keep the data.

    Args:
        folder: Folder for ``step_0000500.png`` and ``.gif``.
        n_clips: Number of clips that are shown, >= 1.
        fps: Frame rate of the GIF in frames per second, > 0.
        stream: Name of the data stream that is shown, where the data has several (see `data.JointDataModule`). None =
            the first clips of any of them.

    Raises:
        SettingError: A number out of range, or a stream that the data does not have.
    """

    def __init__(self, folder: str | Path, n_clips: int = 4, fps: float = 8.0, stream: str | None = None) -> None:
        super().__init__(stream)
        if n_clips < 1 or fps <= 0:
            raise SettingError(f"preview: got n_clips {n_clips} and fps {fps}, expected at least 1 and above 0")
        self.folder = Path(folder)
        self.n_clips = n_clips
        self.fps = fps
        self._panels: list[Float[Tensor, "3 _ 3 h w"]] = []

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Drop the clips of an earlier validation."""
        self.require_stream(trainer)
        self._panels = []

    def take(self, trainer: Trainer, pl_module: LightningModule, outputs: Any) -> None:
        """Keep the first clips of the main process; systems whose validation gives no `Result` have no previews."""
        if trainer.is_global_zero and isinstance(outputs, Result):
            for index in range(min(len(outputs.source), self.n_clips - len(self._panels))):
                self._panels.append(_panel(outputs, index))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write and log them."""
        if not self._panels or trainer.sanity_checking:
            return
        name = f"step_{trainer.global_step:07d}"
        self.folder.mkdir(parents=True, exist_ok=True)
        still = contact_sheet(self._panels)
        Image.fromarray(still).save(self.folder / f"{name}.png")
        if max(panel.shape[1] for panel in self._panels) > 1:
            _write_gif(self.folder / f"{name}.gif", self._panels, self.fps)
        for logger in trainer.loggers:
            _log_image(logger, still, trainer.global_step)
        self._panels = []


def contact_sheet(panels: list[Float[Tensor, "3 _ 3 h w"]]) -> UInt8[NDArray[np.uint8], "rows columns 3"]:
    """Previews as one picture: for images a row ``source | masked | anonymized``, for clips three rows over time."""
    rows = []
    for panel in panels:
        n_frames = panel.shape[1]
        if n_frames == 1:
            rows.append(rearrange(panel, "kinds 1 c h w -> h (kinds w) c"))
            continue
        shown = torch.linspace(0, n_frames - 1, min(n_frames, _MOST_FRAMES)).round().long()
        rows.append(rearrange(panel[:, shown], "kinds t c h w -> (kinds h) (t w) c"))
    width = max(row.shape[1] for row in rows)
    padded = [torch.nn.functional.pad(row, (0, 0, 0, width - row.shape[1]), value=1.0) for row in rows]
    return _bytes(torch.cat(padded))


def _panel(result: Result, index: int) -> Float[Tensor, "3 t 3 h w"]:
    source, mask = result.source[index].float(), result.masks[index].float()
    masked = source * (1 - mask) + _GREY * mask
    return torch.stack([source, masked, result.anonymized[index].float()]).detach().cpu()


def _write_gif(path: Path, panels: list[Float[Tensor, "3 _ 3 h w"]], fps: float) -> None:
    n_frames = max(panel.shape[1] for panel in panels)
    pictures = []
    for time in range(n_frames):
        rows = [rearrange(panel[:, min(time, panel.shape[1] - 1)], "kinds c h w -> h (kinds w) c") for panel in panels]
        pictures.append(Image.fromarray(_bytes(torch.cat(rows))))
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=round(1000 / fps), loop=0)


def _bytes(picture: Float[Tensor, "h w 3"]) -> NDArray[np.uint8]:
    array: NDArray[np.uint8] = (picture.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    return array


def _log_image(logger: Any, picture: NDArray[np.uint8], step: int) -> None:
    if hasattr(logger, "log_image"):  # Weights & Biases
        logger.log_image(key="val/preview", images=[picture], step=step)
    elif hasattr(logger.experiment, "add_image"):  # TensorBoard
        logger.experiment.add_image("val/preview", picture, step, dataformats="HWC")
