"""UnmaskedPSNR: the checklist of every metric, both poolings, the halo, infinite and empty frames."""

from __future__ import annotations

import functools
import math
from typing import Any

import matplotlib as mpl
import pytest
import torch
from torch import Tensor

from _metrics import (
    assert_plain_protocol,
    assert_split_changes_nothing,
    measured,
)
from pa_lib.functional import halo, kept_pixels, unmasked_psnr
from pa_lib.metrics import Measurement, MetricValue, UnmaskedPSNR

MAKE = functools.partial(UnmaskedPSNR, halo_px=2)


def _update(clips: list[int], t: int = 3, seed: int = 0, is_byte: bool = True) -> dict[str, Any]:
    draw = torch.Generator().manual_seed(seed)
    source = torch.randint(0, 200, (len(clips), t, 3, 9, 8), dtype=torch.uint8, generator=draw)
    change = torch.randint(0, 50, source.shape, dtype=torch.uint8, generator=draw)
    change[torch.rand(source.shape, generator=draw) < 0.7] = 0
    masks = torch.zeros(len(clips), t, 1, 9, 8)
    masks[..., 3:6, 2:4] = torch.rand(len(clips), t, 1, 3, 2, generator=draw)
    other = source + change
    if not is_byte:
        source, other = source / 255, other / 255
    return {"source": source, "anonymized": other, "masks": masks, "clip_ids": torch.tensor(clips)}


def _part(update: dict[str, Any], rows: slice, frames: slice, context: int = 0) -> dict[str, Any]:
    part = {name: update[name][rows, frames] for name in ("source", "anonymized", "masks")}
    return {**part, "clip_ids": update["clip_ids"][rows], "context": context}


def _by_name(measurement: Measurement) -> dict[str, MetricValue]:
    return {figure.name: figure for figure in measurement.values}


def _told(update: dict[str, Any], halo_px: float = 2) -> dict[str, MetricValue]:
    return _by_name(measured(lambda: UnmaskedPSNR(halo_px), [update]))


@pytest.mark.parametrize("is_byte", [True, False])
def test_batches_windows_and_context_change_nothing(is_byte: bool) -> None:
    whole = _update([4, 9], t=5, is_byte=is_byte)
    everything = slice(None)
    windows = [
        _part(whole, slice(0, 1), slice(0, 3)),
        _part(whole, slice(0, 1), slice(2, 5), context=1),
        _part(whole, slice(1, 2), everything),
    ]
    assert_split_changes_nothing(MAKE, [whole], windows)


def test_protocol_is_plain_and_tells_the_halo_apart() -> None:
    assert_plain_protocol(UnmaskedPSNR())
    assert UnmaskedPSNR().protocol_hash() == UnmaskedPSNR(halo_px=8.0).protocol_hash()
    assert UnmaskedPSNR().protocol_hash() != UnmaskedPSNR(halo_px=4).protocol_hash()


def test_both_poolings_of_two_clips() -> None:
    levels = torch.tensor([[1e-2, 1e-1], [1e-3, 1e-3]], dtype=torch.float64)  # MSE 1e-4, 1e-2 and 1e-6, 1e-6
    source = torch.zeros(2, 2, 3, 4, 4, dtype=torch.float64)
    told = _told({"source": source, "anonymized": source + levels[..., None, None, None], "masks": _empty(2, 2)})
    mean = ((1e-4 + 1e-2) / 2 + 1e-6) / 2
    assert told["unmasked_psnr_db"].value == pytest.approx(-10 * math.log10(mean), abs=1e-9)
    assert told["unmasked_psnr_frame_mean_db"].value == pytest.approx((30.0 + 60.0) / 2, abs=1e-9)
    assert told["unmasked_psnr_frame_mean_db"].n == 4
    assert told["unmasked_psnr_db"].n == 2
    interval = told["unmasked_psnr_db"].interval
    assert interval is not None
    assert sum(interval) / 2 == pytest.approx(told["unmasked_psnr_db"].value)
    deviation = ((1e-4 + 1e-2) / 2 - 1e-6) / math.sqrt(2)  # sample standard deviation of two values
    half = 12.7062047 * deviation / math.sqrt(2) / mean * 10 / math.log(10)  # 12.706: Student's t, one degree
    assert interval[1] - interval[0] == pytest.approx(2 * half, rel=1e-6)


def _empty(b: int, t: int, side: int = 4) -> Tensor:
    return torch.zeros(b, t, 1, side, side)


def test_one_clip_has_no_interval_and_its_pooled_value_is_the_functions() -> None:
    update = _update([0])
    told = _told(update)
    expected = unmasked_psnr(update["source"], update["anonymized"], update["masks"], pooling="clip")
    assert told["unmasked_psnr_db"].value == pytest.approx(float(expected), abs=1e-12)
    assert all(figure.interval is None for figure in told.values())


def test_halo_and_beyond_are_apart_and_make_up_the_whole() -> None:
    masks = _empty(1, 1, 16)
    masks[..., 6:9, 6:9] = 1
    near = halo(kept_pixels(masks), 2)
    source = torch.zeros(1, 1, 3, 16, 16, dtype=torch.float64)
    other = source + 0.001 + 0.099 * near.double() + masks  # the mask itself is wholly changed
    told = _told({"source": source, "anonymized": other.clamp(max=1), "masks": masks})
    assert told["unmasked_psnr_halo_db"].value == pytest.approx(20.0, abs=1e-9)
    assert told["unmasked_psnr_beyond_halo_db"].value == pytest.approx(60.0, abs=1e-9)
    n_near, n_kept = int(near.sum()), 256 - 9
    # A 3 x 3 square grown by a disc of 2 px: its sides by 2 px, and one pixel at each corner, sqrt(2) px away.
    assert n_near == 4 * 3 * 2 + 4
    pooled = (n_near * 1e-2 + (n_kept - n_near) * 1e-6) / n_kept
    assert told["unmasked_psnr_db"].value == pytest.approx(-10 * math.log10(pooled), abs=1e-9)
    assert told["unmasked_identical_share"].value == 0


def test_what_is_kept_to_the_bit_has_share_one_and_is_infinite_and_counted() -> None:
    update = _update([0, 1])
    hidden = update["masks"] > 0
    update["anonymized"] = torch.where(hidden, 255 - update["source"], update["source"])
    told = _told(update)
    assert told["unmasked_identical_share"].value == 1.0
    for name in ("unmasked_psnr_db", "unmasked_psnr_frame_mean_db", "unmasked_psnr_halo_db"):
        assert told[name].value == math.inf
        assert told[name].interval is None
    assert told["unmasked_psnr_db"].counted["identical frames"] == 6
    assert told["unmasked_psnr_db"].counted["identical clips"] == 2


def test_infinite_and_empty_frames_are_counted_and_not_averaged() -> None:
    source = torch.zeros(1, 3, 3, 4, 4, dtype=torch.float64)
    other = source.clone()
    other[:, 1] += 0.1
    masks = _empty(1, 3)
    masks[:, 2] = 1
    told = _told({"source": source, "anonymized": other, "masks": masks})
    frames = told["unmasked_psnr_frame_mean_db"]
    assert (frames.value, frames.n) == (pytest.approx(20.0, abs=1e-9), 1)
    assert frames.counted["identical frames"] == frames.counted["frames without kept pixels"] == 1
    assert told["unmasked_psnr_db"].value == pytest.approx(20 + 10 * math.log10(2), abs=1e-9)  # half of it is kept
    assert told["unmasked_identical_share"].value == 0.5


def test_everything_hidden_is_nan_and_counted() -> None:
    update = _update([0])
    update["masks"] = torch.ones_like(update["masks"])
    told = _told(update)
    assert all(math.isnan(figure.value) and figure.n == 0 for figure in told.values())
    assert told["unmasked_psnr_db"].counted["frames without kept pixels"] == 3
    assert told["unmasked_psnr_db"].counted["clips without such pixels"] == 1


def test_without_numbers_every_row_is_a_clip_of_its_own() -> None:
    metric = UnmaskedPSNR()
    for seed in (0, 1):
        update = _update([0, 0], seed=seed)
        metric.update(update["source"], update["anonymized"], update["masks"])
    assert metric.measure().values[0].n == 4


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_without_updates_all_is_nan() -> None:
    assert all(math.isnan(figure.value) for figure in UnmaskedPSNR().measure().values)


def test_plots_and_forwards() -> None:
    mpl.use("Agg")
    metric = MAKE()
    told = metric(**_update([0, 1]))
    assert told["unmasked_psnr_db"].dtype == torch.float64
    figure, _ = metric.plot()
    assert figure.axes
    mpl.pyplot.close(figure)


@pytest.mark.parametrize(("arguments", "told"), [({"halo_px": 0}, "halo_px is 0"), ({"data_range": 0}, "data_range")])
def test_refuses_settings_that_make_no_sense(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        UnmaskedPSNR(**arguments)
