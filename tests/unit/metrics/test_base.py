from __future__ import annotations

from typing import Any

import pytest
import torch

from _metrics import (
    Brightness,
    assert_plain_protocol,
    assert_split_changes_nothing,
    measured,
)


def _update(clips: list[int], light: float = 0.5) -> dict[str, Any]:
    ids = torch.tensor(clips)
    return {"source": ids.float().mul(0.1).add(light).view(-1, 1, 1, 1, 1).expand(-1, 2, 3, 4, 4), "clip_ids": ids}


class TestAbstractMetric:
    def test_keeps_the_checklist(self) -> None:
        assert_plain_protocol(Brightness())
        assert_split_changes_nothing(Brightness, [_update([0, 1, 2])], [_update([2]), _update([0, 1])])

    def test_without_updates_all_is_nan(self) -> None:
        with pytest.warns(UserWarning, match="before the ``update``"):
            assert measured(Brightness, []).values[0].value != measured(Brightness, []).values[0].value

    def test_computes_values_and_interval_ends_by_name(self) -> None:
        metric = Brightness()
        metric.update(**_update([1]))
        found = metric.compute()
        assert set(found) == {"brightness", "brightness_low", "brightness_high"}
        assert found["brightness"].dtype == torch.float64
        assert float(found["brightness"]) == pytest.approx(0.6)

    def test_measures_anew_after_an_update(self) -> None:
        metric = Brightness()
        metric.update(**_update([1]))
        before = metric.measure().values[0]
        metric.update(**_update([2]))
        assert (before.n, metric.measure().values[0].n) == (1, 2)

    def test_hash_follows_the_protocol(self) -> None:
        assert Brightness().protocol_hash() == Brightness().protocol_hash() != Brightness(2.0).protocol_hash()
