"""Pairs of clips whose masks and differences are known, and evaluations made by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from _clips import make_clip
from pa_lib.contracts import Detection
from pa_lib.evaluation.pairs import ClipPair
from pa_lib.metrics import MetricValue, TrackRow
from pa_lib.modules import ConventionalAnonymizer
from pa_lib.people import AbstractFinder, AbstractMasker, BoxMasker, HideAll, KalmanTracker
from pa_lib.pipeline import AnonymizationPipeline, RunSettings
from pa_lib.reports.evaluation_record import Evaluation, MeasuredClip, MeasuredFile, MetricRecord
from pa_lib.video import WriteSettings

BOX = (12.0, 10.0, 24.0, 20.0)
BOX_MASKER = {
    "_target_": "pa_lib.people.BoxMasker",
    "face_scale": 1.0,
    "body_scale": 1.0,
    "dilation_px": 0,
    "feather_px": 0,
}
LOSSLESS: dict[str, Any] = {"codec": "ffv1", "pixel_format": "yuv420p"}


class StillFinder(AbstractFinder):
    """Always sees one person in the same place."""

    def find(self, images: Sequence[NDArray[np.uint8]]) -> list[list[Detection]]:
        return [[Detection("body", BOX, 0.9)] for _ in images]

    def release(self) -> None:
        pass


def box_masker(node: Mapping[str, Any] | None = None, path: Path | None = None) -> AbstractMasker:
    settings = {key: value for key, value in (node or BOX_MASKER).items() if key != "_target_"}
    return BoxMasker(**settings)


def anonymized_pair(
    folder: Path, name: str = "clip", n_frames: int = 20, *, is_lossless: bool = True, **options: Any
) -> ClipPair:
    """A clip with one hidden person, filled black, and all that the run leaves beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    kind = LOSSLESS if is_lossless else {}
    source = make_clip(folder / f"{name}.{'mkv' if is_lossless else 'mp4'}", n_frames=n_frames, **{**kind, **options})
    pipeline = AnonymizationPipeline(
        StillFinder(),
        KalmanTracker(growth_per_s=0),
        HideAll(),
        box_masker(),
        ConventionalAnonymizer("fill", color=(0, 0, 0)),
        write=WriteSettings(codec="ffv1" if is_lossless else "auto"),
    )
    outcome = pipeline.run(source, settings=RunSettings(config={"people": {"masker": BOX_MASKER}}))
    return ClipPair(source, outcome.files["video"], outcome.files["tracks"], outcome.files["report"])


def evaluation(
    values: Mapping[str, float],
    *,
    protocol: Mapping[str, Any] | None = None,
    tracks: Sequence[TrackRow] = (),
    sha256: str = "a" * 64,
    tracks_sha256: str = "t" * 64,
    interval: tuple[float, float] | None = None,
    is_higher_better: bool | None = True,
    hash_: str = "0123456789ab",
) -> Evaluation:
    """One metric called ``toy`` with these figures on one clip."""
    figures = tuple(
        MetricValue(name, value, 3, "frames", "a toy", is_higher_better, interval, {"odd ones": 2})
        for name, value in values.items()
    )
    file = MeasuredFile("clip.mp4", sha256, 64, 48, 25.0, "h264")
    clip = MeasuredClip(0, "clip.mp4", file, file, 20, tracks_sha256=tracks_sha256, masker=BOX_MASKER)
    record = MetricRecord("toy", "encoded", protocol or {"scale": 1}, hash_, figures, tuple(tracks))
    return Evaluation("clip.mp4 → clip.anonymized.mp4", (record,), (clip,))
