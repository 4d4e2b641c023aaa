"""LPIPS maps against the lpips package itself, a reference value, and weights that are not there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from urllib.error import URLError

import lpips
import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import Tensor

from pa_lib.errors import PaLibError
from pa_lib.pretrained import Perceptual


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of SqueezeNet in torchvision's layout, with its classifier."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("perceptual") / "squeezenet.pth"
    torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def network(weights: Path) -> Perceptual:
    return Perceptual("squeeze", weights)


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_is_a_frozen_map_that_gradients_pass(network: Perceptual) -> None:
    one, other = _random(2, 3, 40, 48).requires_grad_(), _random(2, 3, 40, 48, seed=1)
    distances = network.train()(one, other)
    assert distances.shape == (2, 1, 40, 48)
    assert bool((distances >= 0).all())
    assert torch.equal(distances, network(one, other))  # no dropout
    distances.sum().backward()
    assert one.grad is not None
    assert one.grad.abs().max() > 0
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert float(network(other, other).abs().max()) == 0


@pytest.mark.filterwarnings("ignore:The parameter 'pretrained'", "ignore:Arguments other than a weight enum")
@pytest.mark.parametrize("net", ["alex", "squeeze"])
def test_is_the_package_with_torchvisions_trunk(net: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package itself loads the trunk from torchvision; here both get the same random one."""
    make = {"alex": torchvision.models.alexnet, "squeeze": torchvision.models.squeezenet1_1}[net]
    trunk = make(weights=None)
    torch.save(trunk.state_dict(), tmp_path / "trunk.pth")
    monkeypatch.setattr(lpips.pretrained_networks.tv, make.__name__, lambda **_: trunk)
    upstream = lpips.LPIPS(net=net, spatial=True, verbose=False)
    monkeypatch.undo()
    one, other = _random(1, 3, 64, 80), _random(1, 3, 64, 80, seed=1)
    told = Perceptual(net, tmp_path / "trunk.pth")(one, other)  # type: ignore[arg-type]
    torch.testing.assert_close(told, upstream(2 * one - 1, 2 * other - 1))


def test_real_weights_give_the_reference_value(shared_data: Path) -> None:
    network = Perceptual("squeeze", shared_data / "weights" / "perceptual" / "squeezenet1_1_features.safetensors")
    black = torch.zeros(1, 3, 64, 64)
    values = json.loads((shared_data / "reference" / "metric_reference_values.json").read_text(encoding="utf-8"))
    expected = values["lpips_squeeze_with_kept_features"]["zeros_vs_ones_64"]
    assert float(network(black, black + 1).mean()) == pytest.approx(expected, abs=1e-5)


def test_alexnet_gives_the_published_value() -> None:
    """JunyaoHu/common_metrics_on_video_quality: 0.81400907 for black against white, 64 x 64."""
    if not list((Path(torch.hub.get_dir()) / "checkpoints").glob("alexnet-*.pth")):
        pytest.skip("needs torchvision's AlexNet weights in torch's hub folder")
    black = torch.zeros(1, 3, 64, 64)
    assert float(Perceptual("alex")(black, black + 1).mean()) == pytest.approx(0.81400907, abs=1e-5)


def test_the_same_weights_in_another_file_have_the_same_digest(
    network: Perceptual, weights: Path, tmp_path: Path
) -> None:
    state = torch.load(weights, weights_only=True)
    save_file(
        {name: value for name, value in state.items() if name.startswith("features")}, tmp_path / "other.safetensors"
    )
    assert Perceptual("squeeze", tmp_path / "other.safetensors").weights_sha256 == network.weights_sha256
    state["features.0.bias"] += 1e-3
    torch.save(state, tmp_path / "changed.pth")
    assert Perceptual("squeeze", tmp_path / "changed.pth").weights_sha256 != network.weights_sha256
    assert len(load_file(tmp_path / "other.safetensors")) == 50


def test_making_one_draws_nothing_from_the_seed(weights: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    Perceptual("squeeze", weights)
    assert torch.equal(torch.rand(2), expected)


def test_takes_torchvisions_weights_from_the_hub_folder(
    network: Perceptual, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    shutil.copy(weights, tmp_path / "checkpoints" / "squeezenet1_1-b8a52dc0.pth")
    assert Perceptual("squeeze").weights_sha256 == network.weights_sha256


@pytest.mark.parametrize("error", [URLError("Name or service not known"), RuntimeError("invalid hash value")])
def test_no_download(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    with pytest.raises(PaLibError, match=r"AlexNet_Weights\.IMAGENET1K_V1 could not be downloaded.*network\.weights="):
        Perceptual()


def test_files_that_are_no_weights(tmp_path: Path, weights: Path) -> None:
    with pytest.raises(PaLibError, match=r"no LPIPS weights at .*none\.pth, expected a state file of"):
        Perceptual("alex", tmp_path / "none.pth")
    for name in ("garbage.pth", "garbage.safetensors"):
        (tmp_path / name).write_bytes(b"not a network")
        with pytest.raises(PaLibError, match="cannot be read as weights") as told:
            Perceptual("alex", tmp_path / name)
        assert "\n" not in str(told.value)
    with pytest.raises(PaLibError, match="not the weights of torchvision's AlexNet_Weights") as told:
        Perceptual("alex", weights)
    assert "\n" not in str(told.value)


@pytest.mark.wrong_types
def test_an_unknown_trunk_is_refused() -> None:
    with pytest.raises(PaLibError, match="no LPIPS trunk named 'resnet'; there are: alex, squeeze, vgg"):
        Perceptual("resnet")  # type: ignore[arg-type]


@pytest.mark.wrong_types
def test_refuses_pictures_of_unequal_size(network: Perceptual) -> None:
    with pytest.raises(ValueError, match=r"pictures are \(1, 3, 40, 40\) and \(1, 3, 40, 39\)"):
        network(_random(1, 3, 40, 40), _random(1, 3, 40, 39))


def test_refuses_pictures_that_are_too_small(network: Perceptual) -> None:
    with pytest.raises(ValueError, match="31 x 40 px, expected at least 32 px"):
        network(_random(1, 3, 31, 40), _random(1, 3, 31, 40))
    assert network(_random(1, 3, 32, 32), _random(1, 3, 32, 32)).shape == (1, 1, 32, 32)
