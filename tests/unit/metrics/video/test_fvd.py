from __future__ import annotations

import functools
import math
import warnings
from typing import Any

import matplotlib.pyplot as plt
import pytest
import torch
from torch import Tensor

from _metrics import (
    assert_close,
    assert_plain_protocol,
    assert_split_changes_nothing,
    measured,
)
from _video_features import ColourFeatures
from pa_lib.functional import frechet_distance
from pa_lib.metrics import FewClipsWarning, FrechetVideoDistance, KernelVideoDistance
from pa_lib.pretrained import TransNetFeatures


def make(keep: int = 2048, **settings: Any) -> FrechetVideoDistance:
    return FrechetVideoDistance(
        ColourFeatures(), clip_frames=4, keep=keep, **{"resamples": 20, "warn": False} | settings
    )


def update(clips: list[int], n_frames: int = 8, context: int = 0) -> dict[str, Any]:
    """Videos that hang on their number only: bright noise, and the same darker."""
    videos = []
    for clip in clips:
        videos.append(torch.rand(n_frames, 3, 6, 8, generator=torch.Generator().manual_seed(clip)))
    source = torch.stack(videos)
    return {"source": source, "anonymized": source**2, "clip_ids": torch.tensor(clips), "context": context}


def features_of(clips: Tensor) -> Tensor:
    """What `ColourFeatures` says, worked out here."""
    means = clips.double().mean((3, 4))
    return torch.cat([means.mean(1), means[:, -1] - means[:, 0]], 1)


MANY = list(range(9))


class TestFrechetVideoDistance:
    @pytest.mark.parametrize("keep", [2048, 5, 0])
    def test_batches_change_nothing(self, keep: int) -> None:
        apart = [update([8, 1]), update([0]), update([5, 4, 3, 2]), update([7, 6])]
        assert_split_changes_nothing(functools.partial(make, keep), [update(MANY)], apart)

    def test_protocol_is_plain_and_hangs_on_settings(self) -> None:
        assert_plain_protocol(make())
        hashes = {
            metric.protocol_hash()
            for metric in (
                make(),
                make(ddof=1),
                make(region="masks"),
                make(stride=2),
                make(7),
                FrechetVideoDistance(ColourFeatures(2.0), 4, resamples=20),
                FrechetVideoDistance(ColourFeatures(), 5, resamples=20),
            )
        }
        assert len(hashes) == 7

    @pytest.mark.parametrize("keep", [2048, 3])
    @pytest.mark.parametrize("ddof", [0, 1])
    def test_is_the_distance_of_the_clips(self, keep: int, ddof: int) -> None:
        fed = update(MANY)
        clips = [features_of(fed[side].reshape(18, 4, 3, 6, 8)) for side in ("source", "anonymized")]
        (figure,) = measured(functools.partial(make, keep, ddof=ddof), [fed]).values
        assert figure.value == pytest.approx(float(frechet_distance(*clips, ddof=ddof)), abs=1e-9)
        assert (figure.name, figure.n) == ("frechet_video_distance_colour", 18)

    def test_of_untouched_videos_is_zero(self) -> None:
        fed = update(MANY)
        (figure,) = measured(make, [{**fed, "anonymized": fed["source"]}]).values
        assert abs(figure.value) <= 1e-9

    def test_bytes_are_taken_as_floats_are(self) -> None:
        fed = update(MANY)
        as_bytes = {side: (fed[side] * 255).round().byte() for side in ("source", "anonymized")}
        as_floats = {side: as_bytes[side] / 255 for side in as_bytes}
        assert_close(measured(make, [fed | as_bytes]), measured(make, [fed | as_floats]))

    def test_context_is_not_counted_again(self) -> None:
        whole = update([0, 1], 8)
        first = {key: value[:, :4] if key in ("source", "anonymized") else value for key, value in whole.items()}
        then = {key: value[:, 3:] if key in ("source", "anonymized") else value for key, value in whole.items()}
        assert_close(measured(make, [whole]), measured(make, [first, then | {"context": 1}]))

    def test_windows_give_what_whole_videos_do(self) -> None:
        whole = update([0, 1], 10)
        windows = [
            {key: value[:, at : at + 4] if key in ("source", "anonymized") else value for key, value in whole.items()}
            for at in (0, 4, 8)
        ]
        assert_close(measured(make, [whole]), measured(make, windows))

    def test_short_pieces_are_counted(self) -> None:
        figure = measured(make, [update([0, 1], 9), update([2], 3)]).values[0]
        assert figure.n == 4
        assert figure.counted["pieces shorter than 4 frames"] == 3

    def test_stride_takes_every_other_frame(self) -> None:
        fed = update(MANY, 7)
        clips = [features_of(fed[side][:, ::2]) for side in ("source", "anonymized")]
        figure = measured(functools.partial(make, stride=2), [fed]).values[0]
        assert figure.n == 9
        assert figure.value == pytest.approx(float(frechet_distance(*clips)), abs=1e-9)
        short = measured(functools.partial(make, stride=2), [update([0, 1], 6)]).values[0]
        assert short.counted["pieces shorter than 7 frames"] == 2

    def test_fewer_than_two_clips_are_nan_and_counted(self) -> None:
        figure = measured(make, [update([0], 4)]).values[0]
        assert math.isnan(figure.value)
        assert figure.interval is None
        assert figure.counted["clips missing to the 2 it takes"] == 1

    @pytest.mark.filterwarnings("ignore:The ``compute`` method")
    def test_without_updates_all_is_nan(self) -> None:
        figure = measured(make, []).values[0]
        assert math.isnan(figure.value)
        assert figure.counted["clips missing to the 2 it takes"] == 2

    def test_warns_below_the_dimension_and_counts_below_the_usual_number(self) -> None:
        metric = make(warn=True)
        metric.update(**update([0, 1], 4))
        with pytest.warns(FewClipsWarning, match="of 2 clips with 6 dimensions"):
            counted = metric.measure().values[0].counted
        assert counted == {
            "clips missing to the network's 6 dimensions": 4,
            "clips missing to the usual 2048": 2046,
        }
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            measured(make, [update([0, 1], 4)])
            measured(functools.partial(make, warn=True), [update(MANY)])

    def test_interval_draws_videos(self) -> None:
        figure = measured(make, [update(MANY)]).values[0]
        assert figure.interval is not None
        low, high = figure.interval
        assert low < figure.value < high
        assert (low + high) / 2 == pytest.approx(figure.value, rel=1e-9)
        one_video = measured(make, [update([3], 40)]).values[0]
        assert (one_video.n, one_video.interval) == (10, None)
        assert measured(functools.partial(make, 4), [update(MANY)]).values[0].interval is None

    def test_interval_narrows_as_with_four_times_the_videos(self) -> None:
        def width(n: int) -> float:
            fed = update(list(range(n)), 4)
            metric = FrechetVideoDistance(ColourFeatures(), 4, resamples=200)
            metric.update(**fed)
            interval = metric.measure().values[0].interval
            assert interval is not None
            return interval[1] - interval[0]

        assert width(160) / width(40) == pytest.approx(0.5, abs=0.2)

    def test_only_i3d_is_called_fvd(self) -> None:
        named = FrechetVideoDistance(ColourFeatures(name="i3d"), 4)
        assert named.value_name == "fvd"
        masked = FrechetVideoDistance(ColourFeatures(name="i3d"), 4, region="masks")
        assert masked.value_name == "frechet_video_distance_i3d_masks"
        assert make().value_name == "frechet_video_distance_colour"

    def test_sees_a_small_person_in_the_masks_surroundings(self) -> None:
        fed = update(MANY, 4)
        masks = torch.zeros(9, 4, 1, 6, 8)
        masks[..., 2:4, 3:5] = 1
        touched = fed["source"].clone()
        touched[..., 2:4, 3:5] = 0.0
        fed |= {"anonymized": touched, "masks": masks}
        whole = measured(make, [fed]).values[0].value
        near = measured(functools.partial(make, region="masks"), [fed]).values[0]
        # 1.5 times 2 px is 3 px: 4 of 9 px change, in the whole frame 4 of 48.
        square = [features_of(fed[side][..., 1:4, 2:5]) for side in ("source", "anonymized")]
        assert near.value == pytest.approx(float(frechet_distance(*square)), abs=1e-9)
        assert near.value > 5 * whole
        fed["masks"][0] = 0
        without = measured(functools.partial(make, region="masks"), [fed]).values[0]
        assert (without.n, without.counted["clips without a mask"]) == (8, 1)

    def test_size_of_the_states_does_not_grow(self) -> None:
        metric = make(6)
        sizes = []
        for start in range(0, 40, 10):
            metric.update(**update(list(range(start, start + 10))))
            sizes.append(sum(getattr(metric, state).numel() for state in metric._defaults))
        assert len(set(sizes)) == 1

    def test_plots_and_computes(self) -> None:
        metric = make()
        metric.update(**update(MANY))
        assert set(metric.compute()) == {
            "frechet_video_distance_colour",
            "frechet_video_distance_colour_low",
            "frechet_video_distance_colour_high",
        }
        figure, _ = metric.plot()
        plt.close(figure)

    def test_starts_anew_after_a_reset(self) -> None:
        metric = make()
        metric.update(**update([0, 1, 2, 3]))
        metric.reset()
        metric.update(**update(MANY))
        assert_close(metric.measure(), measured(make, [update(MANY)]))

    def test_rows_without_ids_are_videos_of_their_own(self) -> None:
        fed = update(MANY)
        del fed["clip_ids"]
        halves = [{key: fed[key][part] for key in ("source", "anonymized")} for part in (slice(4), slice(4, 9))]
        assert_close(measured(make, [update(MANY)]), measured(make, halves))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"anonymized": torch.zeros(9, 7, 3, 6, 8)}, "expected both b t 3 h w"),
            ({"source": torch.zeros(3, 6, 8), "anonymized": torch.zeros(3, 6, 8)}, "expected both b t 3 h w"),
            ({"clip_ids": torch.zeros(2)}, "clip_ids have shape"),
            ({"context": 9}, "context is 9, expected 0 to 8"),
            ({"anonymized": torch.full((9, 8, 3, 6, 8), 255.0)}, "divide by 255"),
            ({"anonymized": torch.full((9, 8, 3, 6, 8), torch.nan)}, "NaN"),
        ],
    )
    def test_refuses_what_does_not_fit(self, change: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            make().update(**update(MANY) | change)

    def test_region_of_masks_needs_masks(self) -> None:
        with pytest.raises(ValueError, match="no masks given"):
            make(region="masks").update(**update(MANY))
        with pytest.raises(ValueError, match="masks have shape"):
            make(region="masks").update(**update(MANY), masks=torch.zeros(9, 8, 1, 2, 2))

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"ddof": 2}, "ddof is 2"),
            ({"keep": -1}, "keep is -1"),
            ({"resamples": 1}, "not 1 resample"),
            ({"stride": 0}, "stride 0"),
            pytest.param({"region": "faces"}, "expected frame or masks", marks=pytest.mark.wrong_types),
            ({"clip_frames": 1}, "clips have 1 frames, colour expects 2 or more"),
        ],
    )
    def test_refuses_settings(self, settings: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            FrechetVideoDistance(ColourFeatures(), **{"clip_frames": 4} | settings)

    def test_metrics_that_share_a_network_pay_once(self) -> None:
        network = ColourFeatures()
        first, second = FrechetVideoDistance(network, 4, resamples=0), KernelVideoDistance(network, 4)
        fed = update(MANY)
        first.update(**fed)
        asked = network.asked
        second.update(**fed)
        assert network.asked == asked == 36
        fed["anonymized"].mul_(0.5)
        second.update(**fed)
        assert network.asked == 72

    def test_takes_what_validation_hands_over(self) -> None:
        metric = make()
        with torch.inference_mode():
            metric.update(**update([0, 1, 2, 3]))
        metric.update(**update([4, 5, 6, 7, 8]))
        assert_close(metric.measure(), measured(make, [update(MANY)]))

    def test_flicker_shows_with_transnet(self) -> None:
        # Slow gradients that drift: flicker is what this network sees first, and more of it is further away.
        generator = torch.Generator().manual_seed(0)
        ramp = torch.linspace(0, 0.5, 48).expand(27, 48)
        videos = [
            torch.stack([(ramp.roll(at * speed, 1) + light).expand(3, 27, 48) for at in range(8)])
            for speed, light in zip(range(6), torch.rand(6, generator=generator) * 0.3, strict=True)
        ]
        source = torch.stack(videos)
        flicker = torch.randn(6, 8, 1, 1, 1, generator=generator)
        network = TransNetFeatures()

        def distance(anonymized: Tensor) -> float:
            metric = FrechetVideoDistance(network, 8, warn=False, resamples=0)
            metric.update(source, anonymized.clamp(0, 1))
            return float(metric.compute()["frechet_video_distance_transnet"])

        same, little, much = (distance(source + amount * flicker) for amount in (0.0, 0.02, 0.1))
        assert abs(same) <= 1e-9
        assert 1e-3 < little < much
