"""Pixels in [0, 1] whatever they came as."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pa_lib.functional import as_unit


@given(st.lists(st.integers(0, 255), max_size=20))
def test_8_bit_pixels_are_divided_by_255(values: list[int]) -> None:
    told = as_unit(torch.tensor(values, dtype=torch.uint8))
    assert told.dtype == torch.float32
    assert told.tolist() == pytest.approx([value / 255 for value in values], rel=1e-7)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_floats_are_the_very_tensor(kind: torch.dtype) -> None:
    frames = torch.tensor([0, 0.25, 1], dtype=kind)
    assert as_unit(frames) is frames


@pytest.mark.parametrize("values", [[0.0, 255.0], [-1.0, 1.0], [0.0, float("inf")]])
def test_floats_of_another_range_are_refused_with_what_they_are(values: list[float]) -> None:
    with pytest.raises(ValueError, match=rf"float pixels lie in \[{values[0]:g}, {values[1]:g}\], expected \[0, 1\]"):
        as_unit(torch.tensor(values))


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        as_unit(torch.tensor([0.5, float("nan")]))


@pytest.mark.wrong_types
def test_other_types_are_refused() -> None:
    with pytest.raises(ValueError, match=r"pixels are torch\.int64, expected uint8"):
        as_unit(torch.tensor([1, 2]))


def test_an_empty_tensor_passes() -> None:
    assert as_unit(torch.zeros(0, 3)).shape == (0, 3)
