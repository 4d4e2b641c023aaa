from __future__ import annotations

import functools
import math
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from _metrics import (
    assert_plain_protocol,
    assert_split_changes_nothing,
    measured,
)
from _video_features import ColourFeatures
from pa_lib.functional import kernel_video_distance
from pa_lib.metrics import KernelVideoDistance
from pa_lib.metrics.video.kvd import _interval


def make(keep: int = 2048, **settings: Any) -> KernelVideoDistance:
    return KernelVideoDistance(ColourFeatures(), clip_frames=4, keep=keep, **settings)


def update(clips: list[int], n_frames: int = 8) -> dict[str, Any]:
    source = torch.stack(
        [torch.rand(n_frames, 3, 6, 8, generator=torch.Generator().manual_seed(clip)) for clip in clips]
    )
    return {"source": source, "anonymized": source**2, "clip_ids": torch.tensor(clips)}


def features_of(clips: torch.Tensor) -> torch.Tensor:
    means = clips.double().mean((3, 4))
    return torch.cat([means.mean(1), means[:, -1] - means[:, 0]], 1)


MANY = list(range(9))


class TestKernelVideoDistance:
    @pytest.mark.parametrize("keep", [2048, 5])
    def test_batches_change_nothing(self, keep: int) -> None:
        apart = [update([8, 1]), update([0]), update([5, 4, 3, 2]), update([7, 6])]
        assert_split_changes_nothing(functools.partial(make, keep), [update(MANY)], apart)

    def test_protocol_is_plain_and_hangs_on_settings(self) -> None:
        assert_plain_protocol(make())
        assert len({make().protocol_hash(), make(5).protocol_hash(), make(region="masks").protocol_hash()}) == 3

    def test_is_the_distance_of_the_pairs(self) -> None:
        fed = update(MANY)
        clips = [features_of(fed[side].reshape(18, 4, 3, 6, 8)) for side in ("source", "anonymized")]
        (figure,) = measured(make, [fed]).values
        assert figure.value == pytest.approx(float(kernel_video_distance(*clips, is_paired=True)), abs=1e-12)
        assert (figure.name, figure.n, dict(figure.counted)) == ("kernel_video_distance_colour", 18, {})

    def test_of_untouched_videos_is_zero(self) -> None:
        fed = update(MANY)
        (figure,) = measured(make, [{**fed, "anonymized": fed["source"]}]).values
        assert figure.value == 0.0
        assert figure.interval == pytest.approx((0.0, 0.0), abs=1e-12)

    def test_a_draw_is_counted(self) -> None:
        (figure,) = measured(functools.partial(make, 5), [update(MANY)]).values
        assert (figure.n, figure.counted) == (5, {"clips beyond the 5 compared": 13})

    def test_a_draw_is_fair(self) -> None:
        # Over many sets of videos, the mean of the draws' values is the mean of the values of all.
        drawn, full = [], []
        for start in range(0, 600, 10):
            fed = update(list(range(start, start + 10)), 4)
            drawn.append(measured(functools.partial(make, 5), [fed]).values[0].value)
            full.append(measured(make, [fed]).values[0].value)
        error = np.std(np.array(drawn) - full) / len(full) ** 0.5
        assert np.mean(drawn) == pytest.approx(np.mean(full), abs=4 * error)

    def test_fewer_than_two_clips_are_nan_and_counted(self) -> None:
        figure = measured(make, [update([0], 7)]).values[0]
        assert math.isnan(figure.value)
        assert figure.counted == {"pieces shorter than 4 frames": 1, "clips missing to the 2 it takes": 1}

    def test_plots(self) -> None:
        metric = make()
        metric.update(**update(MANY))
        figure, _ = metric.plot()
        plt.close(figure)

    @pytest.mark.parametrize(
        ("settings", "message"), [({"keep": 1}, "keep is 1"), ({"clip_frames": 1}, "colour expects 2 or more")]
    )
    def test_refuses_settings(self, settings: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            KernelVideoDistance(ColourFeatures(), **{"clip_frames": 4} | settings)


class TestInterval:
    def test_is_the_jackknife_by_leaving_out(self) -> None:
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(12, 3, generator=generator).double()
        y = x * 1.5 + torch.randn(12, 3, generator=generator)
        videos = torch.tensor([0, 0, 0, 5, 5, 7, 7, 7, 9, 9, 9, 9]).double()
        from pa_lib.functional.kvd import paired_terms

        told = _interval(paired_terms(x, y), videos, 1.0)
        without = [
            float(kernel_video_distance(x[videos != v], y[videos != v], is_paired=True)) for v in (0.0, 5.0, 7.0, 9.0)
        ]
        error = math.sqrt(3 / 4 * sum((value - np.mean(without)) ** 2 for value in without))
        assert told is not None
        assert told[1] - 1.0 == pytest.approx(3.182446 * error, rel=1e-6)  # Student's t, 3 degrees of freedom
        assert told[0] + told[1] == pytest.approx(2.0)

    def test_needs_two_videos(self) -> None:
        assert _interval(torch.ones(4, 4).double(), torch.zeros(4), 1.0) is None
