from __future__ import annotations

import copy
import json
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from pa_lib.pretrained import FaceIdentity
from pa_lib.pretrained.identity.face_identity import TEMPLATE

# The five points in the shared 112 px crops, by the alignment that they were cut with.
ALIGNED_112 = np.array([(38.3, 51.7), (73.5, 51.5), (56.0, 71.7), (41.5, 92.4), (70.7, 92.2)], np.float32)


@pytest.fixture(scope="module")
def network() -> FaceIdentity:
    return FaceIdentity()


def test_part(network: FaceIdentity) -> None:
    chips = torch.rand(3, 3, 150, 150, requires_grad=True)
    embeddings = network(chips)
    assert embeddings.shape == (3, network.n_dimensions) == (3, 128)
    embeddings.square().sum().backward()
    assert chips.grad is not None
    assert chips.grad.abs().sum((1, 2, 3)).min() > 0
    assert not any(parameter.requires_grad for parameter in network.parameters())
    torch.testing.assert_close(network(chips[1:2]), embeddings[1:2], atol=1e-5, rtol=1e-4)
    half = copy.deepcopy(network).to(torch.bfloat16)(chips.detach().to(torch.bfloat16)).float()
    assert (half - embeddings).norm(dim=1).max() < 0.1


def test_state_survives_a_round_trip(network: FaceIdentity) -> None:
    twin = FaceIdentity()
    twin.load_state_dict(network.state_dict())
    chip = torch.rand(1, 3, 150, 150)
    assert torch.equal(twin(chip), network(chip))


def test_one_face_is_near_itself_and_far_from_another(network: FaceIdentity, portrait: Any) -> None:
    image = portrait.image
    dim = (image * 0.6).astype(np.uint8)
    blurred = cv2.GaussianBlur(image, (0, 0), 1.5)
    reference, *same = (network.embed(picture, portrait.landmarks[None])[0] for picture in (image, dim, blurred))
    same.append(network.embed(image, portrait.landmarks[None] + 2)[0])
    same.append(network.embed(np.ascontiguousarray(image[:, ::-1]), _mirrored(portrait.landmarks)[None])[0])
    assert max(np.linalg.norm(one - reference) for one in same) < network.same_person_distance - 0.1
    noise = network.embed(np.random.default_rng(0).integers(0, 255, image.shape, np.uint8), portrait.landmarks[None])[0]
    assert np.linalg.norm(noise - reference) > network.same_person_distance


def _mirrored(landmarks: np.ndarray) -> np.ndarray:
    return landmarks[[1, 0, 2, 4, 3]] * np.float32([-1, 1]) + np.float32([511, 0])


def test_chips_and_many_faces(network: FaceIdentity, portrait: Any) -> None:
    many = np.repeat(portrait.landmarks[None], 35, axis=0)  # more than one chunk
    embeddings = network.embed(portrait.image, many)
    assert embeddings.shape == (35, 128)
    assert embeddings.dtype == np.float32
    assert np.abs(embeddings - embeddings[0]).max() < 1e-4
    chips = network.chips(portrait.image, many[:1])
    assert chips.shape == (1, 3, 150, 150)
    assert 0 <= chips.min() <= chips.max() <= 1
    assert network.embed(portrait.image, many[:0]).shape == (0, 128)


@pytest.mark.wrong_types
def test_chips_of_another_size_are_refused(network: FaceIdentity) -> None:
    with pytest.raises(ValueError, match=r"chips have shape \(1, 3, 112, 112\), expected b 3 150 150"):
        network(torch.zeros(1, 3, 112, 112))


def test_landmarks_of_another_shape_are_refused(network: FaceIdentity) -> None:
    with pytest.raises(ValueError, match="expected n 5 2"):
        network.embed(np.zeros((50, 50, 3), np.uint8), np.zeros((5, 2), np.float32))


def test_weights_are_those_of_the_origin(network: FaceIdentity, shared_data: Path) -> None:
    folder = shared_data / "weights" / "face_identity"
    raw = (folder / "face_recognition_model.bin").read_bytes()
    entries = json.loads((folder / "face_recognition_model-weights_manifest.json").read_text())[0]["weights"]
    first, last = entries[0], entries[-1]
    scale = first["quantization"]
    filters = np.frombuffer(raw, np.uint8, 7 * 7 * 3 * 32).reshape(7, 7, 3, 32) * scale["scale"] + scale["min"]
    np.testing.assert_allclose(network.stem.weight[5, 2], filters[:, :, 2, 5], atol=1e-6)
    scale = last["quantization"]
    matrix = np.frombuffer(raw[-256 * 128 :], np.uint8).reshape(256, 128) * scale["scale"] + scale["min"]
    np.testing.assert_allclose(network.embed_layer.weight[3], matrix[:, 3], atol=1e-6)


def test_pairs_of_lfw(network: FaceIdentity, shared_data: Path) -> None:
    """100 people of the shared pairs. All 600: AUC 0.9945, 96.7 % and 98.9 % rightly told."""
    with zipfile.ZipFile(shared_data / "faces" / "lfw_grey_aligned112_pairs.zip") as pairs:
        everybody = sorted(name for name in pairs.namelist() if name.endswith(".jpg"))  # two of each, side by side
        names = [name for at in range(0, 1200, 12) for name in everybody[at : at + 2]]
        pictures = [cv2.imdecode(np.frombuffer(pairs.read(name), np.uint8), cv2.IMREAD_COLOR) for name in names]
    chips = torch.cat([network.chips(picture, ALIGNED_112[None]) for picture in pictures])
    with torch.no_grad():
        embeddings = torch.cat([network(part) for part in chips.split(50)])
    distances = torch.cdist(embeddings, embeddings).numpy()
    same = distances[np.arange(0, 200, 2), np.arange(1, 200, 2)]
    people = np.arange(200) // 2
    different = distances[people[:, None] < people[None]]
    auc = np.mean(same[:, None] < different[None])
    assert auc > 0.985
    assert np.mean(same < network.same_person_distance) > 0.93
    assert np.mean(different > network.same_person_distance) > 0.97
    assert different.mean() == pytest.approx(0.84, abs=0.06)  # the figure for another face set


def test_template_is_where_landmarks_are_put() -> None:
    assert np.asarray(TEMPLATE).shape == (5, 2)
    assert TEMPLATE[0][0] < TEMPLATE[2][0] < TEMPLATE[1][0]
