from __future__ import annotations

import pytest
import torch

from pa_lib.metrics.over_clips import clip_keys


class TestClipKeys:
    def test_given_ones_are_taken(self) -> None:
        assert clip_keys(torch.tensor([5, 2]), 2, torch.zeros(0, 1)).tolist() == [5, 2]

    def test_without_any_every_row_is_a_new_clip(self) -> None:
        first = clip_keys(None, 2, torch.zeros(0, 3, dtype=torch.float64))
        assert first.tolist() == [0, 1]
        assert clip_keys(None, 1, first[:, None]).tolist() == [2]

    def test_processes_number_from_places_of_their_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
        monkeypatch.setattr(torch.distributed, "get_rank", lambda: 3)
        first = clip_keys(None, 2, torch.tensor([[7.0]], dtype=torch.float64))
        assert first.tolist() == [3 * 2**40, 3 * 2**40 + 1]
        assert clip_keys(None, 1, first[:, None]).tolist() == [3 * 2**40 + 2]

    def test_refuses_another_number_of_them(self) -> None:
        with pytest.raises(ValueError, match=r"clip_ids have shape \(3,\), expected \(2,\)"):
            clip_keys(torch.arange(3), 2, torch.zeros(0, 1))
