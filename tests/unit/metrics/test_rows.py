from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pa_lib.metrics import summed
from pa_lib.metrics.rows import UNNUMBERED, clip_number, shifted, unnumbered_keys


class TestKeys:
    def test_given_ids_are_taken(self) -> None:
        assert unnumbered_keys(torch.tensor([5, 2]), 2, 7).tolist() == [5, 2]

    def test_without_ids_every_row_is_a_new_clip(self) -> None:
        keys = torch.cat([unnumbered_keys(None, 2, 0), unnumbered_keys(None, 3, 2)])
        assert keys.unique().tolist() == keys.tolist()
        assert [clip_number(key) for key in keys] == [0, 1, 2, 3, 4]

    def test_no_id_is_taken_for_a_clip_without_one(self) -> None:
        with pytest.raises(ValueError, match=r"expected less than 2\^52"):
            unnumbered_keys(torch.tensor([2**52]), 1, 0)
        assert float(unnumbered_keys(torch.tensor([2**52 - 1]), 1, 0)) < float(unnumbered_keys(None, 1, 0))

    def test_refuses_another_number_of_them(self) -> None:
        with pytest.raises(ValueError, match=r"clip_ids have shape \(3,\), expected \(2,\)"):
            unnumbered_keys(torch.arange(3), 2, 0)

    def test_only_clips_without_an_id_are_shifted(self) -> None:
        rows = torch.tensor([[1.0, 7.0], [2.0, UNNUMBERED + 1.0]], dtype=torch.float64)
        assert shifted(rows, 1, 4).tolist() == [[1.0, 7.0], [2.0, UNNUMBERED + 5.0]]
        assert rows[1, 1] == UNNUMBERED + 1


class TestSummed:
    @given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(-9, 9)), max_size=20))
    def test_adds_as_a_dictionary_would(self, rows: list[tuple[int, int, int]]) -> None:
        expected: dict[tuple[int, int], int] = {}
        for clip, person, value in rows:
            expected[clip, person] = expected.get((clip, person), 0) + value
        found = summed(torch.tensor(rows, dtype=torch.float64).view(-1, 3), n_keys=2)
        assert found.tolist() == [[*keys, value] for keys, value in sorted(expected.items())]
