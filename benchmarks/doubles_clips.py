"""Doubles on real clips: steadiness, detail, pose, edge and light beside the film; and what whole commands take."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import doubles_measures
import torch
from _annotations import walking_clip_1080p
from comparison import CLIPS as SHARED
from comparison import Material, Tracked, tracked
from doubles_measures import Figure, Measures
from doubles_rows import PEOPLE, Row, code, measured_by
from embedded_clips import timed_command
from embedded_weights import FOLDER, Record, as_records, kept

from pa_lib.evaluation.maskers import Maskers
from pa_lib.evaluation.videos import composited_results
from pa_lib.functional import t_interval
from pa_lib.metrics import DetectionRate, FaceComparer, IdentityDistance, UnmaskedPSNR
from pa_lib.metrics.feed import feed
from pa_lib.people import read_tracks
from pa_lib.video import fingerprint

CLIPS: Mapping[str, Material] = {
    "walking": SHARED["walking"]._replace(n_frames=35),
    "walking_pause": SHARED["walking_pause"]._replace(n_frames=41),
    "carphone": SHARED["carphone"],
    "breakdance": Material("../clips_with_masks/davis_breakdance/frames", 16),
}
INTEL = ("walking", "walking_pause")


def clips(row: Row, n_frames: int | None, *, is_asked: bool) -> Record | None:
    """One system on every clip, before encoding; clips that were measured are kept."""
    protocols = [metric.protocol_hash() for metric in _metrics(FaceComparer())]
    what = [row.mark, n_frames, protocols, measured_by(__file__, doubles_measures.__file__)]

    def measure() -> Record:
        record: Record = {}
        for name, material in CLIPS.items():
            of = _material(name, material, n_frames)
            prints = fingerprint(of.clip), fingerprint(of.tracks)
            record[name] = kept("doubles_clip", [*what, name, *prints], partial(_measured, row, of))
            print(f"clips: {row.name}, {name} done", flush=True)
        return record

    return kept("doubles_clips", what, measure if is_asked else None)


def _material(name: str, material: Material, n_frames: int | None) -> Tracked:
    """A clip and its tracks, as this very code finds them."""
    shorter = material._replace(n_frames=min(n_frames or material.n_frames, material.n_frames))
    return tracked(name, shorter, FOLDER / f"clips_{code()}", PEOPLE)


def _metrics(compare: FaceComparer) -> tuple[IdentityDistance, DetectionRate, UnmaskedPSNR]:
    return IdentityDistance(compare), DetectionRate(compare), UnmaskedPSNR()


def _measured(row: Row, of: Tracked) -> Record:
    record = read_tracks(of.tracks)
    masker, _, place = Maskers().of(None, record, of.tracks)
    assert place == "tracks file"
    compare = FaceComparer()
    metrics, measures = _metrics(compare), Measures(compare, has_flow=True)
    output = FOLDER / f"doubles_{of.clip.stem}_{row.mark}.mp4"
    start = time.perf_counter()
    for whole in composited_results(of.clip, output, record, masker, row.system()):
        # Faces that are tracked: one that is seen in the box of a body in a crowd may be that of a neighbour.
        result = replace(whole, people=tuple(one for one in whole.people or () if one.kind == "face"))
        feed(metrics, result)
        measures.add(result)
    n_heads = sum(len({one.person_id for one in record.present_at(at)[0]}) for at in range(record.n_frames))
    values = as_records([figure for metric in metrics for figure in metric.measure().values])
    values |= measures.figures() | measures.apart(compare.network.same_person_distance)
    nearest = [track.values["identity_nearest_in_track"] for track in metrics[0].measure().tracks]
    values["nearest_in_any_frame"] = {"value": min(nearest, default=None), "interval": None, "n": len(nearest)}
    return {"values": values, "heads": n_heads, "frames": record.n_frames, "took_s": time.perf_counter() - start}


# -- speed -------------------------------------------------------------------------------------------------------------


def speed(row: Row, n_frames: int, repeats: int, *, is_asked: bool) -> Record | None:
    """Whole commands at 480 x 270 and at 1080p, some times over."""
    what = [row.mark, n_frames, torch.get_num_threads()]

    def measure() -> Record:
        small = _material("walking_pause", CLIPS["walking_pause"], None).clip
        large = walking_clip_1080p(n_frames).path
        record: Record = {"threads": torch.get_num_threads(), "values": {}, "runs": {}}
        for size, clip in (("480x270", small), ("1920x1080", large)):
            settings = ("device=cpu", *PEOPLE, *row.settings)
            runs = [
                kept("doubles_command", [*what, size, number], partial(timed_command, clip, row.name, settings))
                for number in range(repeats)
            ]
            record["runs"][size] = runs
            record["values"][f"{size}_heads_s"] = over_runs([one["crops"] / one["seconds"] for one in runs if one])
            record["values"][f"{size}_peak_mib"] = over_runs([one["peak_mib"] for one in runs if one])
        return record

    return kept("doubles_speed", [*what, repeats], measure if is_asked else None)


def over_runs(values: Sequence[float]) -> Figure:
    """Mean over runs, with Student's t interval."""
    found = torch.tensor(values, dtype=torch.float64)
    return {"value": float(found.mean()), "interval": t_interval(found), "n": len(values)}
