"""VideoMAE through transformers: features that look at motion more than I3D's do. Its weights do not ship."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from pa_lib.errors import WeightsError, first_line
from pa_lib.pretrained.features.base import AbstractVideoFeatures, state_sha256

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, as VideoMAE was trained


class VideoMAEFeatures(AbstractVideoFeatures):
    """Mean over the tokens of a VideoMAE encoder's last layer, one vector to a clip.

    Args:
        path: Folder of a VideoMAE model as transformers saves it (``config.json`` and weights), or its name on the hub.
        download: Whether a model of that name is fetched from the hub; without it only folders, and models that were
            fetched before.

    Raises:
        WeightsError: No such model, or one of another kind.

    Source: Tong et al. 2022, "VideoMAE"; Ge et al. 2024, "On the content bias in Frechet video distance", for its
    features. Differs: Ge et al. take VideoMAE-v2 ViT-g tuned on Something-Something v2; compare numbers only where
    `protocol` names the same weights.
    """

    name = "videomae"
    mean: Tensor
    deviation: Tensor

    def __init__(self, path: str | Path, *, download: bool = False) -> None:
        super().__init__()
        from transformers import VideoMAEConfig, VideoMAEModel

        how = "give the folder of a VideoMAE model as transformers saves it, or allow its download from the hub"
        try:
            settings, _ = VideoMAEConfig.get_config_dict(str(path), local_files_only=not download)
            kind = settings.get("model_type")
            if kind != "videomae":
                held = f"a model of kind {kind!r}" if kind else "no model"
                raise WeightsError(f"{path} holds {held}, expected videomae; {how}")
            found: Any = VideoMAEModel.from_pretrained(
                str(path), local_files_only=not download, output_loading_info=True
            )
        except (OSError, ValueError) as error:
            raise WeightsError(f"no VideoMAE model at {path} ({first_line(error)}); {how}") from error
        self.network, loaded = found
        # transformers draws what is missing at random.
        if missing := sorted(loaded["missing_keys"]):
            raise WeightsError(f"{path}: {len(missing)} weights missing, such as {missing[0]}; {how}")
        config = self.network.config
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION).view(1, 1, 3, 1, 1), persistent=False)
        self.n_dimensions = int(config.hidden_size)
        self.min_frames = self.max_frames = int(config.num_frames)
        sides = config.image_size
        self.side_px = int(sides if isinstance(sides, int) else sides[0])
        self.requires_grad_(False)
        self.eval()

    @torch.no_grad()
    def forward(self, frames: Float[Tensor, "b t 3 h w"]) -> Float[Tensor, "b d"]:
        """Features of clips of as many frames as the model was made for (mostly 16), RGB in [0, 1]."""
        self.check_frames(frames)
        flat = rearrange(frames.float(), "b t c h w -> (b t) c h w")
        sides = (self.side_px, self.side_px)
        small = functional.interpolate(flat, sides, mode="bilinear", align_corners=False, antialias=True)
        pixels = rearrange(small, "(b t) c h w -> b t c h w", b=len(frames))
        tokens: Tensor = self.network((pixels - self.mean) / self.deviation).last_hidden_state
        return tokens.mean(1)

    @cached_property
    def _sha256(self) -> str:
        return state_sha256(self.network)

    def protocol(self) -> dict[str, Any]:
        """See `AbstractVideoFeatures`."""
        return {
            "network": f"VideoMAE encoder, {self.network.config.num_hidden_layers} layers of {self.n_dimensions}",
            "features": "mean over the tokens of the last layer",
            "weights_sha256": self._sha256,
            "resize": f"{self.side_px} x {self.side_px}, bilinear with antialiasing, aspect ignored",
            "pixels": f"less {list(MEAN)}, over {list(DEVIATION)}",
        }
