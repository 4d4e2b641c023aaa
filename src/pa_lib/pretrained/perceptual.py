"""LPIPS: how different two pictures look, pixel by pixel, from the features of a classification network."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pa_lib.errors import SettingError, WeightsError, first_line
from pa_lib.functional.hashing import weights_sha256
from pa_lib.paths import path_of

Net = Literal["alex", "squeeze", "vgg"]
MIN_PX = 32  # smaller pictures leave nothing of the last layers
# The networks that LPIPS' heads were fitted to, by their names in torchvision.
TRUNKS = {
    "alex": "AlexNet_Weights.IMAGENET1K_V1",
    "squeeze": "SqueezeNet1_1_Weights.IMAGENET1K_V1",
    "vgg": "VGG16_Weights.IMAGENET1K_V1",
}
HOW = (
    "give the path of a file you have: network.weights=/path/to/weights.pth (a torchvision state file, or safetensors)"
)


class Perceptual(nn.Module):
    """LPIPS 0.1 as a map: two pictures in, a distance at every pixel out. Frozen; differentiable in its inputs.

    The heads come with the `lpips` package (BSD). The trunk's weights are torchvision's (trained on ImageNet); they do
    not ship.

    Args:
        net: Backbone network: ``alex`` (the authors' choice for measuring), ``squeeze`` or ``vgg``. Values of one do
            not compare with those of another.
        weights: State file of torchvision's network, ``.pth`` or ``.safetensors``; the classifier may be missing. None
            takes torchvision's own, from torch's hub folder, where they are downloaded to once.

    Raises:
        SettingError: No such trunk.
        WeightsError: The weights cannot be read or downloaded, or are not of this trunk.

    Source: Zhang et al. 2018, "The unreasonable effectiveness of deep features as a perceptual metric"; package lpips.
    """

    def __init__(self, net: Net = "alex", weights: str | Path | None = None) -> None:
        super().__init__()
        if net not in get_args(Net):
            raise SettingError(f"no LPIPS trunk named {net!r}; there are: {', '.join(get_args(Net))}")
        self.net = net
        self.network = _build(net)
        _fill(self.network.net, net, weights)
        self.weights_sha256 = _digest(self.network.state_dict())
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Perceptual:
        """Stays in evaluation mode: it is frozen, and its heads have a dropout."""
        del mode
        return super().train(False)

    def forward(self, one: Float[Tensor, "n 3 h w"], other: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 1 h w"]:
        """Distance at every pixel: the layers' distances, each resized to the picture, added up.

        Its mean over all pixels is the LPIPS of the pair, up to how the edges are resized.

        Args:
            one: Pictures, RGB in [0, 1], at least 32 px high and wide.
            other: Pictures to compare them with, of the same shape.

        Raises:
            ValueError: Shapes do not fit, or the pictures are smaller.
        """
        if one.ndim != 4 or one.shape[1] != 3 or other.shape != one.shape:
            raise ValueError(f"pictures are {tuple(one.shape)} and {tuple(other.shape)}, expected both n 3 h w")
        if min(one.shape[2:]) < MIN_PX:
            height, width = one.shape[2:]
            raise ValueError(f"pictures are {height} x {width} px, expected at least {MIN_PX} px each way")
        distances: Tensor = self.network(one, other, normalize=True)
        return distances


def _build(net: Net) -> Any:
    """The network of the lpips package with its heads; the trunk is random yet."""
    import lpips  # type: ignore[import-untyped]

    # The package asks torchvision by an argument that is to go, and draws random weights that are thrown away.
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore", UserWarning)
        return lpips.LPIPS(net=net, version="0.1", pnet_rand=True, spatial=True, verbose=False)


def _fill(trunk: nn.Module, net: Net, weights: str | Path | None) -> None:
    """Put torchvision's weights into the trunk, whose layers lpips has cut into slices but left their numbers."""
    state = _downloaded(net) if weights is None else _read(path_of(weights), net)
    try:
        # slice2.3.squeeze.weight is features.3.squeeze.weight
        trunk.load_state_dict({name: state["features." + name.split(".", 1)[1]] for name in trunk.state_dict()})
    except (KeyError, RuntimeError, AttributeError, TypeError) as error:
        where = "torchvision's file" if weights is None else os.fspath(weights)
        raise WeightsError(f"{where}: not the weights of torchvision's {TRUNKS[net]} ({first_line(error)})") from error


def _downloaded(net: Net) -> dict[str, Tensor]:
    """Torchvision's own weights, from the hub folder or from where torchvision has them."""
    from torchvision.models import get_weight  # type: ignore[import-untyped]

    try:
        state: dict[str, Tensor] = get_weight(TRUNKS[net]).get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        # URLError is an OSError; a damaged file in the cache is a RuntimeError.
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise WeightsError(
            f"the LPIPS trunk {TRUNKS[net]} could not be downloaded to, or read from, {folder} "
            f"({first_line(error)}); {HOW}"
        ) from error
    return state


def _read(path: Path, net: Net) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise WeightsError(
            f"no LPIPS weights at {path}, expected a state file of torchvision's {TRUNKS[net]}"
        ) from error
    except Exception as error:  # torch and safetensors raise pickle, zip, key and header errors, by the damage
        raise WeightsError(f"{path}: cannot be read as weights ({first_line(error)}); {HOW}") from error
    return state


def _digest(state: dict[str, Tensor]) -> str:
    """Of names and float32 bytes, by name: the same weights have the same digest whatever file they came in."""
    return weights_sha256(state, has_header=False, dtype=torch.float32)
