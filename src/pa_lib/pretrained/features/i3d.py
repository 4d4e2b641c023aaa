"""I3D as published FVDs use it: the TorchScript file of StyleGAN-V. It does not ship: give its path."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from pa_lib.errors import WeightsError, first_line
from pa_lib.pretrained.features.base import AbstractVideoFeatures

FILE = "i3d_torchscript.pt"
ORIGIN = f"https://www.dropbox.com/s/ge9e5ujwgetktms/{FILE}?dl=1"
SHA256 = "bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2"
VARIABLE = "PA_I3D"


class I3DFeatures(AbstractVideoFeatures):
    """Logits of I3D trained on Kinetics-400, before the softmax: with them, and no others, the distance is FVD.

    Pixels go to [-1, 1] and clips to 224 x 224, aspect ignored, inside the network's own file.

    Args:
        path: The file ``i3d_torchscript.pt``. None takes what the environment variable PA_I3D names, or else the
            copy of an earlier download.
        download: Whether the file (49 MiB) is fetched into torch's hub folder where there is none.

    Raises:
        WeightsError: No file, a download that fails, or a file with other content than that of published numbers.

    Source: Carreira and Zisserman 2017, "Quo vadis, action recognition?"; the TorchScript of StyleGAN-V (Skorokhodov
    et al. 2022), made from the network on TensorFlow Hub that FVD was defined with, which differs from the weights
    that were released beside the I3D paper.
    """

    name = "i3d"
    n_dimensions = 400
    min_frames = 10  # fewer do not survive the network's strides

    def __init__(self, path: str | Path | None = None, *, download: bool = False) -> None:
        super().__init__()
        content = _verified(_find(path, is_download_allowed=download))
        self.network = torch.jit.load(str(content), map_location="cpu")  # type: ignore[no-untyped-call]
        self.requires_grad_(False)
        self.eval()

    @torch.no_grad()
    def forward(self, frames: Float[Tensor, "b t 3 h w"]) -> Float[Tensor, "b d"]:
        """Logits of clips of 10 frames or more (published: 16), RGB in [0, 1]."""
        self.check_frames(frames)
        pixels = rearrange(frames.float() * 255, "b t c h w -> b c t h w")
        logits: Tensor = self.network(pixels, rescale=True, resize=True, return_features=True)
        return logits

    def protocol(self) -> dict[str, Any]:
        """See `AbstractVideoFeatures`."""
        return {
            "network": "I3D, Kinetics-400, TorchScript of StyleGAN-V",
            "features": "400 logits before the softmax",
            "weights_sha256": SHA256,
            "resize": "224 x 224, bilinear without antialiasing, aspect ignored, inside the network's file",
            "pixels": "[0, 255] to [-1, 1], inside the network's file",
        }


def _find(path: str | Path | None, *, is_download_allowed: bool) -> Path:
    given = path or os.environ.get(VARIABLE)
    if given:
        return Path(given)
    kept = Path(torch.hub.get_dir()) / "checkpoints" / FILE
    if kept.exists():
        return kept
    how = f"give the path of {FILE} (sha256 {SHA256[:12]}…, from {ORIGIN}), or set {VARIABLE} to it"
    if not is_download_allowed:
        raise WeightsError(f"no I3D weights: none ship, and {kept} is not there; {how}, or allow its download")
    kept.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(ORIGIN, str(kept), hash_prefix=SHA256, progress=False)
    except (OSError, RuntimeError) as error:  # URLError is an OSError; another content is a RuntimeError
        raise WeightsError(f"the I3D weights could not be downloaded to {kept} ({first_line(error)}); {how}") from error
    return kept


def _verified(path: Path) -> Path:
    """The same path, if its content is what published numbers were made with."""
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise WeightsError(f"no I3D weights at {path} ({error.strerror}); expected {FILE} from {ORIGIN}") from error
    if digest != SHA256:
        raise WeightsError(
            f"{path}: sha256 {digest[:12]}…, expected {SHA256[:12]}…: other weights give other numbers, which are "
            f"not comparable; take {FILE} from {ORIGIN}"
        )
    return path
