"""Figures as people read them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pa_lib.metrics import MetricValue
from pa_lib.reports.text import NOTHING, interval, number, quantity


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (4.868e-17, "0"),  # the low end of Wilson's interval at no hits, but for rounding
        (1.0, "1"),
        (0.33333333, "0.3333"),
        (-12.3456, "-12.35"),
        (999.96, "1000"),
        (12345.678, "12,346"),
        (123456.0, "1.235e+05"),
        (0.0001573, "1.573e-04"),
        (math.nan, NOTHING),
        (math.inf, "∞"),
        (-math.inf, "-∞"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text


@given(st.floats(1e-12, 1e12) | st.floats(-1e12, -1e-12))
def test_numbers_keep_four_digits(value: float) -> None:
    assert float(number(value).replace(",", "")) == pytest.approx(value, rel=6e-4)


def test_intervals() -> None:
    assert interval(MetricValue("toy", 0.5, 3, "tracks", "a toy", None, (0.0, 0.75))) == "0 … 0.75"
    assert interval(MetricValue("toy", 0.5, 3, "tracks", "a toy", None)) == ""


@pytest.mark.parametrize(
    ("count", "things", "text"),
    [
        (1, "clips", "1 clip"),
        (1, "queries", "1 query"),
        (1, "pairs of frames", "1 pair of frames"),
        (1, "faces", "1 face"),
        (1, "gallery", "1 gallery"),
        (0, "clips", "0 clips"),
        (2, "queries", "2 queries"),
        (12345, "pairs of frames", "12,345 pairs of frames"),
    ],
)
def test_quantities(count: int, things: str, text: str) -> None:
    assert quantity(count, things) == text
