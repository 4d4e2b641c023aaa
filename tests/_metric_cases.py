"""One case or more for every exported metric, importable by the processes that metrics are measured in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from _identity import ColorNetwork, SquareFinder, box, clip, comparer
from _metrics import Brightness
from _video_features import ColourFeatures
from _warping import ShiftFlow
from pa_lib.contracts import Sighting
from pa_lib.metrics import (
    AbstractMetric,
    BodyReidentificationRate,
    DetectionRate,
    FaceComparer,
    FrechetIdentityDistance,
    FrechetVideoDistance,
    IdentityDistance,
    KernelVideoDistance,
    ReidentificationRate,
    TemporalWarpingError,
    UnmaskedLPIPS,
    UnmaskedPSNR,
    UnmaskedSSIM,
)
from pa_lib.pretrained.perceptual import Perceptual

Update = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A metric, and what it is updated with.

    Args:
        make: Makes a new one.
        twin: Makes one of the same states that is set differently and gives other values for `updates`.
        updates: Makes several updates; every row is a clip of its own, by its `clip_ids`.
        blank: Makes an update of which nothing can be measured, so that it leaves the same states in both.
        has_clips: Whether clip ids matter.
    """

    make: Callable[[], AbstractMetric]
    twin: Callable[[], AbstractMetric]
    updates: Callable[[], list[Update]]
    blank: Callable[[], Update]
    has_clips: bool = True


class MeanDifference(Perceptual):
    """Stands in for LPIPS's network."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.net = "mean"  # type: ignore[assignment]
        self.weights_sha256 = "0" * 64
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        return self.scale * (one - other).abs().mean(1, keepdim=True)


def videos() -> list[Update]:
    """Three batches of 2, 1 and 2 clips, 5 frames of 16 x 16 px; the left half is masked in most frames."""
    draw, updates, first = torch.Generator().manual_seed(0), [], 0
    for n in (2, 1, 2):
        source = torch.rand(n, 5, 3, 16, 16, generator=draw)
        anonymized = (source + 0.2 * torch.rand(source.shape, generator=draw)).clamp(0, 1)
        masks = torch.zeros(n, 5, 1, 16, 16)
        masks[:, 1:, :, :, :4] = 1
        ids = torch.arange(first, first + n)
        updates.append({"source": source, "anonymized": anonymized, "masks": masks, "clip_ids": ids})
        first += n
    return updates


def hidden() -> Update:
    """One frame, all masked: no pixel is kept, there is no pair of frames and no clip."""
    blank = torch.zeros(1, 1, 3, 16, 16)
    return {"source": blank, "anonymized": blank, "masks": torch.ones(1, 1, 1, 16, 16), "clip_ids": torch.tensor([9])}


_COLORS = [(250, 0, 0), (240, 10, 0), (0, 245, 0), (0, 180, 20), (0, 0, 250), (80, 80, 80)]
_OTHERS = [(240, 0, 0), (0, 0, 230), (10, 10, 250), (0, 230, 0), (0, 0, 0), (90, 60, 80)]


def faces() -> list[Update]:
    """Three batches of 2, 1 and 3 clips of two frames with one face, of three people of known identity."""
    updates, first = [], 0
    for n in (2, 1, 3):
        rows = range(first, first + n)
        updates.append(
            {
                "source": torch.cat([clip({0: _COLORS[row]}, {0: _COLORS[row]}) for row in rows]),
                "anonymized": torch.cat([clip({0: _OTHERS[row]}, {0: _COLORS[row - 1]}) for row in rows]),
                "people": tuple(Sighting(row - first, frame, 1, box(0)) for row in rows for frame in (0, 1)),
                "clip_ids": torch.tensor(rows),
                "identities": torch.tensor([row // 2 for row in rows]),
            }
        )
        first += n
    return updates


def nobody() -> Update:
    """A clip without people."""
    video = clip({})
    return {"source": video, "anonymized": video, "people": (), "clip_ids": torch.tensor([9])}


def strangers() -> list[Update]:
    """The same, and it is unknown who they are."""
    return [{name: value for name, value in update.items() if name != "identities"} for update in faces()]


def bodies() -> list[Update]:
    """Two queries and a gallery in three parts; junk among them."""
    degrees = torch.tensor([0.0, 1, 2, 3, 4, 5, 180, 181, 90])
    lengths = torch.tensor([1.0, 1, 1, 5, 1, 9, 1, 5, 1])
    whole = {
        "features": torch.stack([degrees.deg2rad().cos(), degrees.deg2rad().sin()], 1) * lengths[:, None],
        "ids": torch.tensor([7, 7, 8, 7, -1, 7, 9, 9, 5]),
        "cameras": torch.tensor([0, 0, 0, 1, 1, 2, 0, 1, 0]),
        "is_query": torch.tensor([1, 0, 0, 0, 0, 0, 1, 0, 1]).bool(),
    }
    return [{name: value[part] for name, value in whole.items()} for part in (slice(0, 4), slice(4, 5), slice(5, 9))]


def no_bodies() -> Update:
    return {name: value[:0] for name, value in bodies()[0].items()}


def light() -> list[Update]:
    return [{name: update[name] for name in ("source", "clip_ids")} for update in videos()]


def dark() -> Update:
    return {"source": torch.zeros(0, 1, 3, 4, 4), "clip_ids": torch.zeros(0, dtype=torch.int64)}


def _blind() -> FaceComparer:
    return FaceComparer(SquareFinder(), ColorNetwork(), min_score=0.95, min_face_px=50)


def _fvd(**settings: Any) -> FrechetVideoDistance:
    return FrechetVideoDistance(ColourFeatures(settings.pop("gain", 1.0)), 4, resamples=5, warn=False, **settings)


def _kvd(**settings: Any) -> KernelVideoDistance:
    return KernelVideoDistance(ColourFeatures(settings.pop("gain", 1.0)), 4, **settings)


CASES: dict[str, Case] = {
    "psnr": Case(UnmaskedPSNR, lambda: UnmaskedPSNR(halo_px=2), videos, hidden),
    "ssim": Case(UnmaskedSSIM, lambda: UnmaskedLPIPS(MeanDifference()), videos, hidden),
    "lpips": Case(lambda: UnmaskedLPIPS(MeanDifference()), UnmaskedSSIM, videos, hidden),
    "warping": Case(
        lambda: TemporalWarpingError(ShiftFlow(1)), lambda: TemporalWarpingError(ShiftFlow(2)), videos, hidden
    ),
    "fvd": Case(_fvd, lambda: _fvd(gain=2.0), videos, hidden),
    "fvd masks": Case(lambda: _fvd(region="masks"), lambda: _fvd(region="masks", gain=2.0), videos, hidden),
    "fvd beyond what is kept": Case(lambda: _fvd(keep=3), lambda: _fvd(keep=3, ddof=1), videos, hidden),
    "kvd": Case(_kvd, lambda: _kvd(gain=2.0), videos, hidden),
    "kvd beyond what is kept": Case(lambda: _kvd(keep=3), lambda: _kvd(keep=4), videos, hidden),
    "detection": Case(lambda: DetectionRate(comparer()), lambda: DetectionRate(_blind()), strangers, nobody),
    "identity": Case(
        lambda: IdentityDistance(comparer()), lambda: IdentityDistance(comparer(), "cosine", 0.1), faces, nobody
    ),
    "reidentification": Case(
        lambda: ReidentificationRate(comparer()), lambda: ReidentificationRate(_blind()), faces, nobody
    ),
    "reidentification of tracks": Case(
        lambda: ReidentificationRate(comparer()),
        lambda: ReidentificationRate(_blind()),
        strangers,
        nobody,
    ),
    "frechet identity": Case(
        lambda: FrechetIdentityDistance(comparer(), 5), lambda: FrechetIdentityDistance(_blind(), 5), strangers, nobody
    ),
    "body": Case(
        lambda: BodyReidentificationRate(2),
        lambda: BodyReidentificationRate(2, distance="euclidean"),
        bodies,
        no_bodies,
        has_clips=False,
    ),
    "a metric of a user": Case(Brightness, lambda: Brightness(2.0), light, dark),
}


def unnumbered(updates: list[Update]) -> list[Update]:
    """The same without clip ids."""
    return [{name: value for name, value in update.items() if name != "clip_ids"} for update in updates]


def parts(rank: int) -> Iterator[tuple[str, AbstractMetric, list[Update]]]:
    """For one of two processes: names of measurements, metrics and their updates; in the last one rank 1 has none."""
    for name, case in CASES.items():
        updates = case.updates()
        yield name, case.make(), updates[rank::2]
        yield f"{name}, without ids", case.make(), unnumbered(updates)[rank::2]
        yield f"{name}, one process idle", case.make(), updates if rank == 0 else []
