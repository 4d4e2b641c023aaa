"""The outline of one person: what the network sees of an image, and where its answer lies."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pa_lib.contracts import OutlinePrompt, Outlines
from pa_lib.errors import SettingError, WeightsError
from pa_lib.pretrained import OutlineUNet, PersonOutline

WIDTHS = (8, 8, 16, 16)
IMAGE = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, as `tools/pack_weights.py --slots network` writes them: in half precision."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "person_outline.safetensors"
    network = OutlineUNet(WIDTHS)
    for weight in network.parameters():  # what begins as the identity shall count
        torch.nn.init.normal_(weight, std=0.2) if weight.ndim > 1 else torch.nn.init.normal_(weight, 0.5, 0.5)
    save_file({f"network.{name}": tensor.half() for name, tensor in network.state_dict().items()}, path)
    return path


def test_it_is_a_network_that_tells_people_apart(weights: Path) -> None:
    assert isinstance(PersonOutline(path=weights), Outlines)


@pytest.mark.parametrize("box", [(40.0, 20.0, 70.0, 80.0), (-30.0, -10.0, 30.0, 60.0), (100.0, 60.0, 160.0, 130.0)])
def test_the_answer_is_the_square_inside_the_image(weights: Path, box: tuple[float, float, float, float]) -> None:
    ((top, left, likely),) = PersonOutline(path=weights, side=64).silhouette(IMAGE, [box])
    side = int(np.ceil(1.3 * max(box[2] - box[0], box[3] - box[1])))
    x0, y0 = round((box[0] + box[2] - side) / 2), round((box[1] + box[3] - side) / 2)
    assert (top, left) == (max(0, y0), max(0, x0))
    assert likely.shape == (min(90, y0 + side) - top, min(120, x0 + side) - left)
    assert likely.min() >= 0
    assert likely.max() <= 1
    assert likely.std() > 0


def test_a_box_outside_the_image_has_no_pixels(weights: Path) -> None:
    ((_, _, likely),) = PersonOutline(path=weights).silhouette(IMAGE, [(500.0, 500.0, 520.0, 560.0)])
    assert likely.size == 0


def test_an_answer_depends_on_nothing_else_that_is_asked(weights: Path) -> None:
    """Nor on where in a larger, black frame the same picture lies."""
    network = PersonOutline(path=weights, side=64)
    boxes = [(40.0, 20.0, 70.0, 80.0), (10.0, 30.0, 50.0, 60.0)]
    alone = [network.silhouette(IMAGE, [box])[0] for box in boxes]
    for (top, left, one), (other_top, other_left, other) in zip(alone, network.silhouette(IMAGE, boxes), strict=True):
        assert (top, left) == (other_top, other_left)
        np.testing.assert_allclose(one, other, atol=1e-5)
    larger = np.zeros((200, 300, 3), np.uint8)
    larger[50:140, 100:220] = IMAGE
    x0, y0, x1, y1 = boxes[0]
    ((top, left, moved),) = network.silhouette(larger, [(x0 + 100, y0 + 50, x1 + 100, y1 + 50)])
    assert (top, left) == (alone[0][0] + 50, alone[0][1] + 100)
    np.testing.assert_allclose(moved, alone[0][2], atol=1e-5)


def test_the_prompt_and_what_is_believed_count(weights: Path) -> None:
    network = PersonOutline(path=weights, side=64)
    box = (40.0, 20.0, 70.0, 80.0)
    asked = [OutlinePrompt(box), OutlinePrompt(box, (55.0, 30.0, 6.0)), OutlinePrompt(box, None, [(60.0, 50.0, 6.0)])]
    answers = [shares for _, _, shares in network.outlines(IMAGE, asked)]
    assert all(shares.shape[0] == 2 and (shares.sum(0) <= 1 + 1e-5).all() for shares in answers)
    believed = np.zeros(IMAGE.shape[:2], np.float32)
    believed[20:80, 45:65] = 1
    answers.append(network.outlines(IMAGE, asked[:1], [believed])[0][2])
    for n, one in enumerate(answers):
        assert all(np.abs(one - other).max() > 1e-4 for other in answers[:n])


def test_wrong_files_sides_and_boxes_are_refused(tmp_path: Path, weights: Path) -> None:
    with pytest.raises(SettingError, match="multiple of 16"):
        PersonOutline(side=100)
    with pytest.raises(WeightsError, match="cannot be read"):
        PersonOutline(path=tmp_path / "none.safetensors").silhouette(IMAGE, [(0.0, 0.0, 9.0, 9.0)])
    save_file({"network.other": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="no weights of the outline network"):
        PersonOutline(path=tmp_path / "other.safetensors").silhouette(IMAGE, [(0.0, 0.0, 9.0, 9.0)])
    with pytest.raises(ValueError, match="no area"):
        PersonOutline(path=weights).silhouette(IMAGE, [(5.0, 5.0, 5.0, 9.0)])
    with pytest.raises(SettingError, match="four multiples of 8"):
        OutlineUNet((8, 8, 12, 16))
