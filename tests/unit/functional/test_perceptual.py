"""The restriction of LPIPS to kept pixels; the network itself is tested in pretrained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from pa_lib.functional import unmasked_lpips
from pa_lib.pretrained import Perceptual


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def _mean_difference(one: Tensor, other: Tensor) -> Tensor:
    return (one - other).abs().mean(1, keepdim=True)


@pytest.fixture(scope="module")
def network(shared_data: Path) -> Perceptual:
    return Perceptual("squeeze", shared_data / "weights" / "perceptual" / "squeezenet1_1_features.safetensors")


def test_averages_the_map_over_kept_pixels() -> None:
    source = torch.zeros(1, 1, 3, 1, 4)
    other = torch.tensor([0.1, 0.3, 0.9, 1.0]).expand(1, 1, 3, 1, 4)
    masks = torch.tensor([0.0, 0.0, 0.5, 1.0]).view(1, 1, 1, 1, 4)
    assert float(unmasked_lpips(source, other, masks, _mean_difference)) == pytest.approx(0.2)


def test_the_network_sees_the_source_where_it_is_hidden() -> None:
    source, other = _random(1, 1, 3, 4, 4), _random(1, 1, 3, 4, 4, seed=1)
    masks = torch.zeros(1, 1, 1, 4, 4)
    masks[..., 2:] = 1
    seen: list[Tensor] = []

    def look(one: Tensor, other: Tensor) -> Tensor:
        seen.extend((one, other))
        return _mean_difference(one, other)

    unmasked_lpips(source, other, masks, look)
    assert torch.equal(seen[0], source[0])
    assert torch.equal(seen[1][..., :2], other[0, ..., :2])
    assert torch.equal(seen[1][..., 2:], source[0, ..., 2:])


def test_with_nothing_hidden_it_is_plain_lpips(network: Perceptual) -> None:
    """Which averages each layer before it is resized: the same but for the edges."""
    source, other = _random(1, 2, 3, 64, 64), _random(1, 2, 3, 64, 64, seed=1)
    told = unmasked_lpips(source, other, torch.zeros(1, 2, 1, 64, 64), network)
    network.network.spatial = False
    try:
        expected = network.network(source[0], other[0], normalize=True).flatten()
    finally:
        network.network.spatial = True
    torch.testing.assert_close(told[0], expected.double(), rtol=0.03, atol=0)


def test_black_against_white_is_the_reference_value_for_8_bit_too(network: Perceptual) -> None:
    black = torch.zeros(1, 1, 3, 64, 64, dtype=torch.uint8)
    told = unmasked_lpips(black, black + 255, torch.zeros(1, 1, 1, 64, 64), network)
    assert float(told) == pytest.approx(0.58629, abs=1e-5)


def test_nothing_hidden_has_a_part_and_what_is_kept_to_the_bit_is_zero(network: Perceptual) -> None:
    source, other = _random(1, 1, 3, 64, 64), _random(1, 1, 3, 64, 64, seed=1)
    masks = torch.zeros(1, 1, 1, 64, 64)
    masks[..., 16:40, 20:44] = 1
    ruined = torch.where(masks > 0, 1 - other, other)
    told = unmasked_lpips(source, other, masks, network)
    assert torch.equal(told, unmasked_lpips(source, ruined, masks, network))
    assert float(told) > 0.05
    kept = torch.where(masks > 0, other, source)
    assert float(unmasked_lpips(source, kept, masks, network)) == 0


def test_chunks_change_no_more_than_rounding(network: Perceptual) -> None:
    source, other = _random(2, 2, 3, 40, 40), _random(2, 2, 3, 40, 40, seed=1)
    masks = (_random(2, 2, 1, 40, 40) < 0.2).float()
    alone = unmasked_lpips(source, other, masks, network)
    torch.testing.assert_close(unmasked_lpips(source, other, masks, network, chunk=3), alone, rtol=1e-4, atol=0)
    assert torch.equal(unmasked_lpips(source[1:, 1:], other[1:, 1:], masks[1:, 1:], network)[0, 0], alone[1, 1])


def test_frames_without_kept_pixels_are_nan() -> None:
    source, masks = torch.zeros(1, 3, 3, 4, 4), torch.zeros(1, 3, 1, 4, 4)
    masks[:, 1] = 1
    for chunk in (1, 2):
        told = unmasked_lpips(source, source + 0.5, masks, _mean_difference, chunk)
        assert told[0].isnan().tolist() == [False, True, False]


def test_refuses_chunks_of_nothing() -> None:
    source, masks = torch.zeros(1, 1, 3, 4, 4), torch.zeros(1, 1, 1, 4, 4)
    with pytest.raises(ValueError, match="chunk is 0"):
        unmasked_lpips(source, source, masks, _mean_difference, chunk=0)


@pytest.mark.wrong_types
def test_refuses_shapes_that_do_not_fit() -> None:
    source, masks = torch.zeros(1, 1, 3, 4, 4), torch.zeros(1, 1, 1, 4, 4)
    with pytest.raises(ValueError, match="expected both b t 3 h w"):
        unmasked_lpips(source[:, :, :1], source[:, :, :1], masks, _mean_difference)
    with pytest.raises(ValueError, match=r"masks have shape \(1, 1, 1, 4, 3\)"):
        unmasked_lpips(source, source, masks[..., 1:], _mean_difference)
