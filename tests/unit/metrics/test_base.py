from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from _metrics import (
    Brightness,
    assert_plain_protocol,
    assert_split_changes_nothing,
    assert_two_processes_equal_one,
    measured,
)
from pa_lib.metrics import summed


def _update(clips: list[int], light: float = 0.5) -> dict[str, Any]:
    ids = torch.tensor(clips)
    return {"source": ids.float().mul(0.1).add(light).view(-1, 1, 1, 1, 1).expand(-1, 2, 3, 4, 4), "clip_ids": ids}


class TestAbstractMetric:
    def test_keeps_the_checklist(self) -> None:
        assert_plain_protocol(Brightness())
        assert_split_changes_nothing(Brightness, [_update([0, 1, 2])], [_update([2]), _update([0, 1])])
        assert_two_processes_equal_one(Brightness, [_update([0, 3]), _update([1]), _update([0], 0.9)])

    @pytest.mark.filterwarnings("ignore:The ``compute`` method")
    def test_a_process_without_updates_changes_nothing(self) -> None:
        assert_two_processes_equal_one(Brightness, [_update([0, 3])])

    def test_without_updates_all_is_nan(self) -> None:
        with pytest.warns(UserWarning, match="before the ``update``"):
            assert measured(Brightness, []).values[0].value != measured(Brightness, []).values[0].value

    def test_computes_values_and_interval_ends_by_name(self) -> None:
        metric = Brightness()
        metric.update(**_update([1]))
        told = metric.compute()
        assert set(told) == {"brightness", "brightness_low", "brightness_high"}
        assert told["brightness"].dtype == torch.float64
        assert float(told["brightness"]) == pytest.approx(0.6)

    def test_measures_anew_after_an_update(self) -> None:
        metric = Brightness()
        metric.update(**_update([1]))
        before = metric.measure().values[0]
        metric.update(**_update([2]))
        assert (before.n, metric.measure().values[0].n) == (1, 2)

    def test_hash_follows_the_protocol(self) -> None:
        assert Brightness().protocol_hash() == Brightness().protocol_hash() != Brightness(2.0).protocol_hash()


class TestSummed:
    @given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(-9, 9)), max_size=20))
    def test_adds_as_a_dictionary_would(self, rows: list[tuple[int, int, int]]) -> None:
        expected: dict[tuple[int, int], int] = {}
        for clip, person, value in rows:
            expected[clip, person] = expected.get((clip, person), 0) + value
        told = summed(torch.tensor(rows, dtype=torch.float64).view(-1, 3), n_keys=2)
        assert told.tolist() == [[*keys, value] for keys, value in sorted(expected.items())]
