"""UnmaskedSSIM: the checklist of every metric, and what is counted."""

from __future__ import annotations

import math
from typing import Any

import matplotlib as mpl
import pytest
import torch

from _metrics import (
    assert_plain_protocol,
    assert_split_changes_nothing,
    measured,
)
from pa_lib.functional import unmasked_ssim
from pa_lib.metrics import UnmaskedSSIM


def _update(clips: list[int], t: int = 2, seed: int = 0) -> dict[str, Any]:
    draw = torch.Generator().manual_seed(seed)
    source = torch.rand(len(clips), t, 3, 14, 17, generator=draw)
    masks = torch.zeros(len(clips), t, 1, 14, 17)
    masks[..., :3, :4] = 1
    other = 0.8 * source + 0.2 * torch.rand(source.shape, generator=draw)
    return {"source": source, "anonymized": other, "masks": masks, "clip_ids": torch.tensor(clips)}


def test_batches_windows_and_context_change_nothing() -> None:
    whole = _update([4, 9], t=4)
    windows: list[dict[str, Any]] = []
    for clip in (0, 1):
        for frames, context in ((slice(0, 2), 0), (slice(1, 4), 1)):
            part = {name: whole[name][clip : clip + 1, frames] for name in ("source", "anonymized", "masks")}
            windows.append({**part, "clip_ids": whole["clip_ids"][clip : clip + 1], "context": context})
    assert_split_changes_nothing(UnmaskedSSIM, [whole], windows)


def test_long_and_short_clips_weigh_the_same() -> None:
    long, short = _update([0], t=3), _update([1], t=1, seed=1)
    figure = measured(UnmaskedSSIM, [long, short]).values[0]
    parts = [unmasked_ssim(update["source"], update["anonymized"], update["masks"]) for update in (long, short)]
    means = [float(part.mean()) for part in parts]
    assert figure.value == pytest.approx(sum(means) / 2, abs=1e-12)
    assert figure.n == 2
    assert figure.interval is not None
    half = 12.7062047 * abs(means[0] - means[1]) / 2  # Student's t with one degree of freedom
    assert figure.interval == pytest.approx((max(-1, figure.value - half), min(1, figure.value + half)), abs=1e-7)


def test_frames_without_a_window_are_counted() -> None:
    update = _update([0, 1])
    update["masks"][1] = 1
    update["masks"][0, 0] = 1
    figure = measured(UnmaskedSSIM, [update]).values[0]
    expected = unmasked_ssim(update["source"], update["anonymized"], update["masks"])[0, 1]
    assert figure.value == pytest.approx(float(expected))
    assert figure.counted == {"frames without a wholly kept window": 3, "clips left out": 1}
    update["masks"][:] = 1
    empty = measured(UnmaskedSSIM, [update]).values[0]
    assert math.isnan(empty.value)
    assert empty.n == 0


def test_identical_is_one_and_plots() -> None:
    mpl.use("Agg")
    metric, update = UnmaskedSSIM(), _update([0])
    metric.update(**update | {"anonymized": update["source"]})
    assert metric.measure().values[0].value == 1
    figure, _ = metric.plot()
    assert figure.axes
    mpl.pyplot.close(figure)


def test_protocol_is_plain() -> None:
    assert_plain_protocol(UnmaskedSSIM())
