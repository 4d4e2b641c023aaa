from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

BENCHMARKS = str(Path(__file__).resolve().parents[3] / "benchmarks")


@pytest.fixture(scope="module")
def parts() -> Any:
    sys.path.insert(0, BENCHMARKS)
    try:
        import embedded_clips
        import embedded_faces
        import embedded_weights
    finally:
        sys.path.remove(BENCHMARKS)
    return embedded_weights, embedded_faces, embedded_clips


class TestFalls:
    def test_of_pairs_that_all_fall_alike_is_certain(self, parts: Any) -> None:
        fall, interval = parts[2].falls([1.0, 2.0, 4.0], [0.5, 1.0, 2.0])
        assert fall == 0.5
        assert interval == pytest.approx((0.5, 0.5))

    def test_interval_by_hand(self, parts: Any) -> None:
        # Means 2 and 1.5; ratio 0.75; residuals new - 0.75 old: -0.25, 0.25; over 2: -0.125, 0.125.
        fall, interval = parts[2].falls([1.0, 3.0], [0.5, 2.5])
        assert fall == 0.25
        half = 12.706205 * (0.125 * math.sqrt(2)) / math.sqrt(2)
        assert interval == pytest.approx((0.25 - half, 0.25 + half), abs=1e-5)

    def test_one_clip_has_no_interval(self, parts: Any) -> None:
        assert parts[2].falls([4.0], [1.0]) == (0.75, None)


class TestCells:
    def test_value_with_interval(self, parts: Any) -> None:
        assert parts[0].cell({"value": 0.25, "interval": [0.0, 0.5]}, 100) == "25 (0 to 50)"
        assert parts[0].cell({"value": 0.0, "interval": [3e-17, 0.5]}) == "0 (0 to 0.5)"
        assert parts[0].cell({"value": 0.25, "interval": None}) == "0.25"
        assert parts[0].cell({"value": None, "interval": None}) == "-"

    def test_values_are_nan_where_there_are_none(self, parts: Any) -> None:
        told = parts[0].values({"a": {"value": 2}, "b": {"value": None}, "c": {"value": "inf"}})
        assert told["a"] == 2.0
        assert math.isnan(told["b"])
        assert math.isnan(told["c"])


class TestKept:
    def test_measures_once(self, parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        weights = parts[0]
        monkeypatch.setattr(weights, "FOLDER", tmp_path)
        asked: list[int] = []

        def measure() -> dict[str, Any]:
            asked.append(1)
            return {"x": math.nan, "y": 0.5}

        assert weights.kept("part", ["w", 3], None) is None
        first = weights.kept("part", ["w", 3], measure)
        assert weights.kept("part", ["w", 3], measure) == first
        assert weights.kept("part", ["w", 3], None) == first
        assert (first["x"], first["y"], len(asked)) == (None, 0.5, 1)
        assert weights.kept("part", ["w", 4], None) is None
        assert weights.kept("other", ["w", 3], None) is None


class TestPortraits:
    @given(st.integers(1, 50), st.integers(1, 60))
    def test_spread_rows_are_in_order_and_each_once(self, parts: Any, n_rows: int, n: int) -> None:
        rows = parts[0]._spread(torch.arange(100, 100 + n_rows), n)
        assert len(rows) == min(n, n_rows)
        assert rows.tolist() == sorted(set(rows.tolist()))
        assert int(rows.min()) == 100
        assert int(rows.max()) < 100 + n_rows
