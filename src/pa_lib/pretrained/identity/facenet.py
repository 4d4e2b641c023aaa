"""FaceNet (InceptionResnetV1 of facenet-pytorch): a second face identity network. Its weights do not ship."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pa_lib.errors import WeightsError, first_line
from pa_lib.paths import path_of
from pa_lib.pretrained.identity.face_chips import align_faces

# Where MTCNN's landmarks lie in its own boxes scaled to 160 px height, and the height of those boxes over their width:
# means over 200 public portraits, made symmetric. The weights learned from such boxes, stretched to squares.
TEMPLATE = ((52.4, 62.7), (107.6, 62.7), (80.0, 95.6), (53.9, 118.8), (106.1, 118.8))
STRETCH = 1.33
CHIP_PX = 160
CHUNK = 32
DOWNLOADS = ("vggface2", "casia-webface")
LICENCE = "facenet-pytorch is MIT, its weights were trained on data for research use only"


class FaceNet(nn.Module):
    """Face identity network with the same interface as `FaceIdentity`. Frozen; differentiable in its input.

    Args:
        weights: Path of a state file of InceptionResnetV1, or ``vggface2`` or ``casia-webface``, which facenet-pytorch
            downloads once into torch's hub folder.

    Raises:
        WeightsError: The weights cannot be read or downloaded, or are not of this network.

    Source: Schroff et al. 2015, "FaceNet"; Szegedy et al. 2016; weights of timesler/facenet-pytorch.
    Differs: faces are set upright by landmarks, where facenet-pytorch cuts MTCNN's box; `same_person_distance` is the
    paper's 1.1 (figure 1, a squared distance) as a Euclidean one, not tuned to these weights.
    """

    chip_px = CHIP_PX
    n_dimensions = 512
    same_person_distance = 1.05

    def __init__(self, weights: str | Path = "vggface2") -> None:
        super().__init__()
        self.network = _load(weights)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> FaceNet:
        """Stays in evaluation mode: it is frozen, and its batch norms must not see a batch."""
        del mode
        return super().train(False)

    def forward(self, chips: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 512"]:
        """Identities of aligned faces: unit vectors, compared by Euclidean distance.

        Args:
            chips: Face chips, RGB in [0, 1]; sizes other than 160 x 160 are resized.
        """
        if chips.ndim != 4 or chips.shape[1] != 3:
            raise ValueError(f"chips have shape {tuple(chips.shape)}, expected b 3 h w")
        if tuple(chips.shape[2:]) != (CHIP_PX, CHIP_PX):
            chips = functional.interpolate(chips, (CHIP_PX, CHIP_PX), mode="bilinear", antialias=True)
        embedding: Tensor = self.network((chips * 255 - 127.5) / 128)
        return embedding

    def chips(self, image: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> Float[Tensor, "n 3 160 160"]:
        """Faces of one image, cut out and upright, RGB in [0, 1]. Arguments as in `embed`."""
        cut = torch.from_numpy(align_faces(image, landmarks, TEMPLATE, CHIP_PX, STRETCH))
        return cut.permute(0, 3, 1, 2).to(next(self.parameters()).device) / 255

    @torch.no_grad()
    def embed(self, image: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
        """Identities of the faces in one image: shape n 512.

        Args:
            image: RGB image, shape h w 3.
            landmarks: Landmarks (x, y) in pixels, shape n 5 2, in the order of `Detection`.

        Raises:
            ValueError: Landmarks of another shape or not finite.
        """
        chips = self.chips(image, landmarks)
        parts = [self(part).cpu().numpy() for part in torch.split(chips, CHUNK)] if len(chips) else []
        return np.concatenate(parts) if parts else np.zeros((0, self.n_dimensions), np.float32)


def _load(weights: str | Path) -> Any:
    """InceptionResnetV1 with its weights."""
    from facenet_pytorch import InceptionResnetV1

    how = f"{LICENCE}; give the path of a file you have, identity.weights=/path/to/vggface2.pt"
    if str(weights) in DOWNLOADS:
        try:
            return InceptionResnetV1(pretrained=str(weights))
        except (OSError, RuntimeError) as error:
            # URLError is an OSError; a damaged file in the cache is a RuntimeError.
            hub = Path(torch.hub.get_dir()).parent / "checkpoints"
            raise WeightsError(
                f"the FaceNet weights {str(weights)!r} could not be downloaded to, or read from, {hub} "
                f"({first_line(error)}); {how}"
            ) from error
    path = path_of(weights)
    network = InceptionResnetV1(pretrained=None)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        # The files hold the classifier of the training set too; the embedding does without.
        state = {key: value for key, value in state.items() if not key.startswith("logits.")}
        network.load_state_dict(state)
    except FileNotFoundError as error:
        names = " or ".join(DOWNLOADS)
        raise WeightsError(f"no FaceNet weights at {os.fspath(weights)}, expected a file, or {names}; {how}") from error
    except Exception as error:  # torch raises pickle, zip, key and attribute errors, by the damage
        raise WeightsError(
            f"{path}: not the weights of facenet-pytorch's InceptionResnetV1 ({first_line(error)}); {how}"
        ) from error
    return network
