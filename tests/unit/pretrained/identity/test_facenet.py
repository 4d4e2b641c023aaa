from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.error import URLError

import facenet_pytorch.models.inception_resnet_v1 as upstream
import numpy as np
import pytest
import torch

from pa_lib.errors import PaLibError
from pa_lib.pretrained import FaceNet


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, with the classifier that real files hold."""
    torch.manual_seed(0)
    state = upstream.InceptionResnetV1(pretrained=None).state_dict()
    state |= {"logits.weight": torch.zeros(8631, 512), "logits.bias": torch.zeros(8631)}
    path = tmp_path_factory.mktemp("facenet") / "weights.pt"
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def network(weights: Path) -> FaceNet:
    return FaceNet(weights)


def test_part(network: FaceNet, weights: Path) -> None:
    chips = torch.rand(2, 3, 160, 160, requires_grad=True)
    embeddings = network(chips)
    assert embeddings.shape == (2, network.n_dimensions) == (2, 512)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(2))
    embeddings[:, 0].sum().backward()
    assert chips.grad is not None
    assert chips.grad.abs().max() > 0
    assert not any(parameter.requires_grad for parameter in network.parameters())
    reference = upstream.InceptionResnetV1(pretrained=None).eval()
    state = torch.load(weights, weights_only=True)
    reference.load_state_dict({key: value for key, value in state.items() if "logits" not in key})
    torch.testing.assert_close(embeddings, reference(chips * 255 / 128 - 127.5 / 128), atol=1e-5, rtol=1e-4)


def test_stays_in_evaluation_mode(network: FaceNet) -> None:
    assert not network.train().network.training
    chip = torch.rand(1, 3, 160, 160)
    assert torch.equal(network(chip), network(chip))


def test_embed_takes_landmarks(network: FaceNet, portrait: Any) -> None:
    embeddings = network.embed(portrait.image, portrait.landmarks[None])
    assert embeddings.shape == (1, 512)
    assert network.embed(portrait.image, np.zeros((0, 5, 2), np.float32)).shape == (0, 512)
    assert network(torch.rand(1, 3, 112, 112)).shape == (1, 512)


@pytest.mark.wrong_types
def test_one_chip_without_a_batch_is_refused(network: FaceNet) -> None:
    with pytest.raises(ValueError, match="expected b 3 h w"):
        network(torch.rand(3, 160, 160))


@pytest.mark.parametrize("error", [URLError("Name or service not known"), RuntimeError("invalid hash value")])
def test_no_download(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(upstream, "load_weights", fail)
    with pytest.raises(
        PaLibError, match=r"'vggface2' could not be downloaded.*research use only.*identity\.weights="
    ) as told:
        FaceNet()
    assert "\n" not in str(told.value)


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    with pytest.raises(PaLibError, match=r"no FaceNet weights at .*none\.pt.*vggface2 or casia-webface"):
        FaceNet(tmp_path / "none.pt")
    garbage = tmp_path / "garbage.pt"
    garbage.write_bytes(b"not a network")
    with pytest.raises(PaLibError, match="not the weights of facenet-pytorch's InceptionResnetV1") as told:
        FaceNet(garbage)
    assert "\n" not in str(told.value)
    other = tmp_path / "other.pt"
    torch.save({"weight": torch.zeros(3)}, other)
    with pytest.raises(PaLibError, match="not the weights of facenet-pytorch's InceptionResnetV1"):
        FaceNet(other)
