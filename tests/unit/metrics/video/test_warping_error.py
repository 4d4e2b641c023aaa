"""The metric against the function, closed forms, and what was measured on real clips by other code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from _metrics import assert_plain_protocol, assert_split_changes_nothing, measured
from _warping import GivenFlow, ShiftFlow
from pa_lib.data import SyntheticDataModule
from pa_lib.functional import gradient_length, temporal_warping_error
from pa_lib.metrics import Measurement, MetricValue, TemporalWarpingError
from pa_lib.pretrained import DISFlow


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def _moving(n_clips: int, n_frames: int, side: int = 32, seed: int = 0) -> Tensor:
    """Smooth pictures that move by a pixel a frame."""
    small = _random(n_clips, 3, 8, 8, seed=seed)
    picture = torch.nn.functional.interpolate(small, (side, side), mode="bicubic").clamp(0, 1)
    return torch.stack([picture.roll(step, -1) for step in range(n_frames)], 1)


def _by_name(told: Measurement) -> dict[str, MetricValue]:
    return {figure.name: figure for figure in told.values}


def _figures(metric: TemporalWarpingError, *arguments: Any, **named: Any) -> dict[str, MetricValue]:
    metric.update(*arguments, **named)
    return _by_name(metric.measure())


def _left_half(n_clips: int, n_frames: int, side: int) -> Tensor:
    mask = torch.zeros(n_clips, n_frames, 1, side, side)
    mask[..., : side // 2] = 1
    return mask


class TestTemporalWarpingError:
    def test_keeps_the_checklist(self) -> None:
        source = _moving(3, 5)
        anonymized = (source + 0.1 * _random(3, 5, 3, 32, 32, seed=1)).clamp(0, 1)
        masks = _left_half(3, 5, 32)
        masks[1, 3:] = 0
        ids = torch.tensor([4, 2, 9])

        def window(rows: list[int], frames: slice, context: int = 0) -> dict[str, Any]:
            return {
                "source": source[rows, frames],
                "anonymized": anonymized[rows, frames],
                "masks": masks[rows, frames],
                "clip_ids": ids[rows],
                "context": context,
            }

        together = [window([0, 1, 2], slice(None))]
        apart = [window([1], slice(None)), window([2, 0], slice(0, 3)), window([0, 2], slice(2, 5), context=1)]
        assert_plain_protocol(TemporalWarpingError())
        assert_split_changes_nothing(TemporalWarpingError, together, apart)

    def test_context_of_several_frames_counts_nothing_twice(self) -> None:
        source, masks = _moving(1, 5), _left_half(1, 5, 32)
        ids = torch.zeros(1)
        whole = measured(TemporalWarpingError, [{"source": source, "anonymized": source.flip(1), "masks": masks}])
        metric = TemporalWarpingError()
        metric.update(source[:, :3], source.flip(1)[:, :3], masks[:, :3], ids)
        metric.update(source[:, 1:], source.flip(1)[:, 1:], masks[:, 1:], ids, context=2)
        for one, other in zip(whole.values, metric.measure().values, strict=True):
            assert (one.name, one.n) == (other.name, other.n)
            assert one.value == pytest.approx(other.value, abs=1e-12)

    def test_a_video_that_stands_still_has_no_error(self) -> None:
        still = _moving(1, 1).expand(1, 4, 3, 32, 32)
        told = _figures(TemporalWarpingError(), still, still, _left_half(1, 4, 32))
        for suffix in ("", "_inside", "_outside"):
            assert told[f"warping_error{suffix}"].value == pytest.approx(0, abs=1e-12)

    @pytest.mark.parametrize(("convention", "expected"), [("lai", 0.01), ("per_pixel", 0.03)])
    def test_flicker_of_amplitude_c_costs_c_squared(self, convention: Any, expected: float) -> None:
        source = 0.8 * _moving(1, 1).expand(1, 4, 3, 32, 32)
        flicker = source + torch.tensor([0, 0.1, 0, 0.1]).view(1, 4, 1, 1, 1)
        told = _figures(TemporalWarpingError(ShiftFlow(), convention), source, flicker, _left_half(1, 4, 32))
        for suffix in ("", "_inside", "_outside"):
            assert told[f"warping_error{suffix}"].value == pytest.approx(expected, rel=1e-5)
            assert told[f"warping_error{suffix}_source"].value == pytest.approx(0, abs=1e-12)
            assert told[f"warping_error{suffix}_excess"].value == pytest.approx(expected, rel=1e-5)

    def test_a_shift_by_whole_pixels_with_its_exact_flow_costs_nothing_off_the_border(self) -> None:
        picture = _random(1, 3, 16, 16)
        source = torch.stack([picture.roll((step, 2 * step), (-2, -1)) for step in range(3)], 1)
        masks = torch.zeros(1, 3, 1, 16, 16)
        masks[..., :12, :11] = 1  # what is in it does not reach the border where frames go round
        told = _figures(TemporalWarpingError(ShiftFlow(2, 1)), source, source, masks)
        assert told["warping_error_inside"].value == pytest.approx(0, abs=1e-9)
        assert told["warping_error"].value > 1e-3  # clamped to the border, as the code of Lai does

    def test_each_region_is_the_function_with_its_mask(self) -> None:
        source, output = _moving(2, 3), _random(2, 3, 3, 32, 32, seed=3)
        masks = (_moving(2, 3, seed=5)[:, :, :1] * 3 - 1).clamp(0, 1)
        told = _figures(TemporalWarpingError(), source, output, masks)
        forward, seen = [], []
        for clip in source:
            ways = list(DISFlow().both_ways(clip))
            forward.append(torch.stack([there for there, _ in ways]))
            seen.append(~_hidden(ways))
        flow, visible = torch.stack(forward), torch.stack(seen)
        for suffix, mask in (("", None), ("_inside", masks), ("_outside", 1 - masks)):
            for end, video in (("", output), ("_source", source)):
                expected = float(temporal_warping_error(video, flow, mask, visible).mean())
                assert told[f"warping_error{suffix}{end}"].value == pytest.approx(expected, rel=1e-4, abs=1e-9)
        m = masks[:, :, 0]
        weights = (m[..., :-1, :-1] * m[..., :-1, 1:] * m[..., 1:, :-1]).sum((2, 3))
        lengths = [(gradient_length(video, masks) * weights).sum(1) for video in (output, source)]
        ratios = lengths[0] / lengths[1]
        assert told["warping_error_sharpness_inside"].value == pytest.approx(float(ratios.mean()), rel=1e-5)
        both = masks[:, 1:] * masks[:, :-1]
        squares = [(both * (video[:, 1:] - video[:, :-1]).square()).sum((1, 2, 3, 4)) for video in (output, source)]
        ratios = squares[0] / squares[1]
        assert told["warping_error_motion_inside"].value == pytest.approx(float(ratios.mean()), rel=1e-5)

    def test_flow_that_is_given_is_the_flow_that_is_used(self) -> None:
        data = SyntheticDataModule(n_clips=1, n_frames=4, side=64, batch_size=1, val_share=0)
        batch = next(iter(data.train_dataloader()))
        assert batch.flow is not None
        output = (batch.frames + 0.1 * _random(*batch.frames.shape)).clamp(0, 1)
        told = _figures(TemporalWarpingError(GivenFlow(batch.flow[0])), batch.frames, output, batch.masks)
        visible = ~_hidden([(flow, -flow) for flow in batch.flow[0]])[None]
        expected = float(temporal_warping_error(output, batch.flow, batch.masks, visible).mean())
        assert told["warping_error_inside"].value == pytest.approx(expected, rel=1e-5)

    def test_wholly_hidden_pairs_are_left_out_and_counted(self) -> None:
        source = _random(1, 3, 3, 16, 16)
        told = _figures(TemporalWarpingError(ShiftFlow(2, 0, back=(5, 0))), source, source)
        assert np.isnan(told["warping_error"].value)
        assert told["warping_error"].n == 0
        assert told["warping_error"].counted == {"pairs wholly hidden": 2, "clips without such pairs": 1}

    def test_pairs_without_a_mask_are_not_inside_and_counted(self) -> None:
        source, masks = _moving(1, 4), _left_half(1, 4, 32)
        masks[:, 2:] = 0
        told = _figures(TemporalWarpingError(), source, source, masks)
        assert [told[f"warping_error{end}"].n for end in ("", "_inside", "_outside")] == [3, 1, 3]
        assert told["warping_error_inside"].counted["pairs without such pixels"] == 2
        nobody = _figures(TemporalWarpingError(), source, source)
        assert nobody["warping_error_outside"].value == nobody["warping_error"].value
        assert np.isnan(nobody["warping_error_inside"].value)
        assert nobody["warping_error_inside"].counted["pairs without such pixels"] == 3
        assert np.isnan(nobody["warping_error_sharpness_inside"].value)

    def test_clips_weigh_the_same_whatever_their_length(self) -> None:
        metric = TemporalWarpingError(ShiftFlow())
        for clip, (n_frames, step) in enumerate([(2, 0.1), (7, 0.2)]):
            light = torch.arange(n_frames).remainder(2).view(1, -1, 1, 1, 1) * step
            source = torch.full((1, n_frames, 3, 16, 16), 0.5)
            metric.update(source, source + light, clip_ids=torch.tensor([clip]))
        figure = metric.measure().values[0]
        assert figure.value == pytest.approx((0.01 + 0.04) / 2, rel=1e-5)
        assert figure.interval is not None
        # Two values: half their distance times t(0.975, 1) = 12.706
        assert figure.interval[1] == pytest.approx(0.025 + 0.015 * 12.7062, rel=1e-4)
        assert figure.n == 7

    def test_blurred_and_frozen_videos_are_told_by_their_companions(self) -> None:
        source, masks = _moving(1, 6, side=64), _left_half(1, 6, 64)
        noisy = (source + 0.2 * _random(1, 1, 3, 64, 64)).clamp(0, 1)  # detail that the blur takes away
        blurred = torch.nn.functional.avg_pool2d(noisy[0], 9, 1, 4, count_include_pad=False)[None]
        frozen = noisy[:, :1].expand_as(noisy)
        same, blur, freeze = (_figures(TemporalWarpingError(), noisy, o, masks) for o in (noisy, blurred, frozen))
        sharpness, motion = "warping_error_sharpness_inside", "warping_error_motion_inside"
        assert same[sharpness].value == same[motion].value == 1
        assert blur[sharpness].value < 0.5
        assert freeze[motion].value == 0
        assert freeze[sharpness].value == pytest.approx(1, rel=0.05)

    def test_eight_bit_and_float_pixels_give_the_same(self) -> None:
        source = (_moving(1, 3) * 255).round().to(torch.uint8)
        output, masks = source.flip(1), _left_half(1, 3, 32)
        eight = _figures(TemporalWarpingError(), source, output, masks)
        floats = _figures(TemporalWarpingError(), source / 255, output / 255, masks)
        for name, figure in eight.items():
            assert floats[name].value == pytest.approx(figure.value, rel=1e-6)

    def test_a_single_frame_has_no_pair(self) -> None:
        told = _figures(TemporalWarpingError(), _moving(1, 1), _moving(1, 1), _left_half(1, 1, 32))
        assert np.isnan(told["warping_error"].value)
        assert told["warping_error"].counted["clips without such pairs"] == 1

    def test_plots(self) -> None:
        matplotlib.use("Agg")
        metric = TemporalWarpingError()
        metric.update(_moving(1, 2), _moving(1, 2))
        figure, _ = metric.plot()
        assert figure is not None
        matplotlib.pyplot.close(figure)

    def test_protocol_tells_flow_and_convention(self) -> None:
        hashes = {
            TemporalWarpingError().protocol_hash(),
            TemporalWarpingError(convention="per_pixel").protocol_hash(),
            TemporalWarpingError(DISFlow("fast")).protocol_hash(),
            TemporalWarpingError(ShiftFlow()).protocol_hash(),
        }
        assert len(hashes) == 4
        assert TemporalWarpingError().protocol() == TemporalWarpingError(DISFlow("medium"), "lai").protocol()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"source": torch.zeros(1, 3, 16, 16)}, "source has shape"),
            ({"anonymized": torch.zeros(1, 2, 3, 16, 17)}, "expected both b t 3 h w"),
            ({"masks": torch.zeros(1, 2, 16, 16)}, "masks have shape"),
            ({"masks": torch.full((1, 2, 1, 16, 16), 255.0)}, "expected \\[0, 1\\]"),
            ({"anonymized": torch.full((1, 2, 3, 16, 16), 255.0)}, "float pixels lie in"),
            ({"clip_ids": torch.zeros(2)}, "one for each clip"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, change: dict[str, Tensor], message: str) -> None:
        fitting = {name: torch.zeros(1, 2, 3, 16, 16) for name in ("source", "anonymized")}
        with pytest.raises(ValueError, match=message):
            TemporalWarpingError().update(**{**fitting, **change})

    @pytest.mark.wrong_types
    def test_an_unknown_convention_is_refused(self) -> None:
        with pytest.raises(ValueError, match="expected one of lai, per_pixel"):
            TemporalWarpingError(convention="rgb")  # type: ignore[arg-type]

    # Printed with four digits or fewer (1e-6 absolute: half of the last digit, and flow that may differ in the last
    # bit from one build of OpenCV to another).
    @pytest.mark.parametrize("name", ["davis_breakdance", "davis_dance-twirl", "davis_scooter-black", "pets_vtest"])
    def test_real_clips_have_the_error_that_other_code_measured(self, shared_data: Path, name: str) -> None:
        paths = sorted((shared_data / "clips_with_masks" / name / "frames").iterdir())[:21]
        if len(paths) < 21:
            pytest.skip(f"needs 21 frames of {name}")
        frames = torch.stack([torch.from_numpy(np.array(Image.open(path).convert("RGB"))) for path in paths])
        source = frames.permute(0, 3, 1, 2)[None]
        reference = json.loads((shared_data / "reference" / "metric_reference_values.json").read_text())
        expected = reference["warping_error_real_clips_DIS_flow"]["values"][name]
        told = _figures(TemporalWarpingError(), source, source)
        assert told["warping_error"].value == pytest.approx(expected["E_warp_mean_sq"], abs=1e-6)
        assert told["warping_error_source"].value == told["warping_error"].value
        visible = ~_hidden(list(DISFlow().both_ways(source[0])))
        assert float(visible.float().mean()) == pytest.approx(expected["valid_fraction"], abs=1e-3)


def _hidden(ways: list[tuple[Tensor, Tensor]]) -> Tensor:
    from pa_lib.functional import occlusion

    forward, backward = (torch.stack(part) for part in zip(*ways, strict=True))
    return occlusion(forward, backward)
