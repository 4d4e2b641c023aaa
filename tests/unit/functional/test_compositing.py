"""The composite changes nothing where nothing is hidden, and is exact where everything is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pa_lib.functional import composite


def random_frames(seed: int, t: int, h: int, w: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = np.random.default_rng(seed)
    source, other = (torch.from_numpy(draw.integers(0, 256, (t, 3, h, w), dtype=np.uint8)) for _ in range(2))
    soft = draw.random((t, 1, h, w), dtype=np.float32)
    alpha = np.select([soft < 0.5, soft > 0.8], [0.0, 1.0], soft).astype(np.float32)
    if seed % 3 == 0:  # a mask in one corner only
        alpha[..., : h // 2 + 1, :] = 0
    return source, other, torch.from_numpy(alpha)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 17), st.integers(1, 17))
def test_every_pixel_is_the_formula_and_outside_the_mask_none_changes(seed: int, t: int, h: int, w: int) -> None:
    source, other, alpha = random_frames(seed, t, h, w)
    before = source.clone(), other.clone()

    result = composite(source, other, alpha)

    a = alpha.expand_as(source)
    assert torch.equal(result[a == 0], source[a == 0])
    assert torch.equal(result[a == 1], other[a == 1])
    exact = source.double() + a.double() * (other.double() - source.double())
    assert float((result.double() - exact).abs().max()) <= 0.5 + 1e-4
    assert torch.equal(source, before[0])
    assert torch.equal(other, before[1])


def test_no_mask_gives_an_equal_copy() -> None:
    source, other, alpha = random_frames(1, 1, 6, 7)
    result = composite(source, other, torch.zeros_like(alpha))
    assert torch.equal(result, source)
    assert result.data_ptr() != source.data_ptr()


def test_decoded_frames_need_not_be_contiguous() -> None:
    source, other, alpha = random_frames(2, 1, 6, 7)
    as_decoded = source.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    assert torch.equal(composite(as_decoded, other, alpha), composite(source, other, alpha))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda s, o, a: (s, o.float() / 0, a), "NaN or infinity", marks=pytest.mark.wrong_types),
        pytest.param(lambda s, o, a: (s, o.float(), a), r"must be uint8.*float32", marks=pytest.mark.wrong_types),
        pytest.param(
            lambda s, o, a: (s, o[..., 1:], a),
            r"got torch.uint8 of shape \(1, 3, 4, 4\)",
            marks=pytest.mark.wrong_types,
        ),
        pytest.param(
            lambda s, o, a: (s, o[:0], a), r"must be uint8 of the source's shape", marks=pytest.mark.wrong_types
        ),
        pytest.param(lambda s, o, a: (s.float(), o, a), "source must be uint8", marks=pytest.mark.wrong_types),
        pytest.param(lambda s, o, a: (s, o, a[:, 0]), "alpha must be float of shape", marks=pytest.mark.wrong_types),
        pytest.param(lambda s, o, a: (s, o, a.bool()), "alpha must be float of shape", marks=pytest.mark.wrong_types),
        (lambda s, o, a: (s, o, a * float("nan")), "alpha must lie in"),
        (lambda s, o, a: (s, o, a - 2), "alpha must lie in"),
        (lambda s, o, a: (s, o, a + 2), "alpha must lie in"),
    ],
)
def test_what_cannot_be_trusted_is_refused(change: object, message: str) -> None:
    inputs = change(*random_frames(3, 1, 4, 5))  # type: ignore[operator]
    with pytest.raises(ValueError, match=message):
        composite(*inputs)


def test_one_nan_in_a_large_alpha_is_found() -> None:
    source, other, alpha = random_frames(3, 1, 64, 64)
    alpha[0, 0, 40, 40] = float("nan")
    with pytest.raises(ValueError, match="alpha"):
        composite(source, other, alpha)
