"""Blur, mosaic, fill, noise and what was trained, on the same clips with the same masks: every metric, and the time.

python benchmarks/comparison.py                                 the conventional systems
python benchmarks/comparison.py --weights runs/…/last.ckpt      and a trained Passersby-Anonymizer beside them
python benchmarks/comparison.py --rows fill --frames 16         a look at some rows on a few frames; nothing is written

Everyone's head is hidden. Clips, tracks files and rows that were measured before are kept in benchmarks/work, so a
run that was stopped goes on. Rows of changed settings, weights, clips or protocols are measured anew.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import cv2
from _bench import WORK, Table, frames_of, pa_anonymize, publish, run_child, shared_data, show, write_clip

from pa_lib import load_module
from pa_lib.cli.build import build_metrics
from pa_lib.cli.compose import compose
from pa_lib.contracts import Clip, ClipMasks
from pa_lib.evaluation.maskers import Maskers
from pa_lib.evaluation.pairs import ClipPair
from pa_lib.evaluation.videos import OpenedPair, composited_results
from pa_lib.metrics import MetricValue
from pa_lib.metrics.feed import feed
from pa_lib.modules import AbstractAnonymizer, ConventionalAnonymizer
from pa_lib.people import read_tracks
from pa_lib.reports.evaluation_record import Evaluation, MetricRecord
from pa_lib.reports.json import plain
from pa_lib.video import default_output, fingerprint, probe

FOLDER = WORK / "comparison"
STEPS = 5  # of the trained system's sampler
TIMED = "walking_pause"
HEADS = ("people/finder=centerface", "people/chooser=all", "people/masker=ellipse")
METRICS = (
    "metrics=default",
    *(f"+metrics@metrics.{name}={name}" for name in ("unmasked_lpips", "fvd", "kvd")),
    *(f"+metrics@metrics.{name}_masks={name}" for name in ("fvd", "kvd")),
    *(f"metrics.{name}_masks.region=masks" for name in ("fvd", "kvd")),
    "metrics.unmasked_lpips.network.net=squeeze",
)
STAGES = ("composited", "encoded")
Times = dict[str, list[list[float]]]


class Material(NamedTuple):
    """A shared clip, how many frames of it are used, and width and height that it is scaled to."""

    file: str
    n_frames: int  # a multiple of 16 where the video distances are to see all of it
    size: tuple[int, int] | None = None


CLIPS = {
    "walking": Material("intel_face-demographics-walking.gif", 32),
    "walking_pause": Material("intel_face-demographics-walking-and-pause.gif", 32),
    "head_pose": Material("intel_head-pose-face-detection-male.gif", 48),
    "carphone": Material("carphone_qcif.mp4", 48),
    "egoblur": Material("egoblur_indoor_face_fisheye.mp4", 14, (640, 480)),
}


class Tracked(NamedTuple):
    """A clip, H.264 without loss, and the one tracks file that all rows use: everyone's head is hidden."""

    clip: Path
    tracks: Path


class _Nothing(AbstractAnonymizer):
    """No anonymization."""

    window_frames = 1
    is_non_interfering = False

    def anonymize(self, clip: Clip, masks: ClipMasks, *, seed: int = 0) -> Clip:
        return clip


ROWS: dict[str, Callable[[], AbstractAnonymizer]] = {
    "nothing": _Nothing,
    "blur, 0.5": lambda: ConventionalAnonymizer("blur", 0.5),
    "blur, 1": lambda: ConventionalAnonymizer("blur", 1.0),
    "blur, 2": lambda: ConventionalAnonymizer("blur", 2.0),
    "mosaic, 1": lambda: ConventionalAnonymizer("mosaic", 1.0),
    "fill": lambda: ConventionalAnonymizer("fill"),
    "noise": lambda: ConventionalAnonymizer("noise"),
}


def tracked(name: str, material: Material, folder: Path = FOLDER, settings: Sequence[str] = HEADS) -> Tracked:
    """Make a clip and look for the heads in it, once in each folder."""
    source = shared_data() / "clips" / material.file
    clip = folder / f"{name}_{material.n_frames}.mp4"
    write_clip(clip, _frames(source, material), fps=round(probe(source).fps), crf=0)
    tracks = clip.with_suffix(".tracks.json")
    if not tracks.is_file():
        run_child(pa_anonymize(f"input={clip}", f"output={clip.with_suffix('.mkv')}", "stage=find", *settings))
    return Tracked(clip, tracks)


def _frames(source: Path, material: Material) -> Iterator[Any]:
    for frame in itertools.islice(frames_of(source), material.n_frames):
        yield frame if material.size is None else cv2.resize(frame, material.size, interpolation=cv2.INTER_AREA)


def _mark(what: Any) -> str:
    """The same for the same: names of files that are kept."""
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:10]


def measured(
    row: str, make: Callable[[], AbstractAnonymizer], clips: Sequence[Tracked], settings: Mapping[str, Any]
) -> Evaluation:
    """One system on all clips, as `pa-evaluate original=… module=…` measures, with tracks files that are given.

    Args:
        row: Its name.
        make: Makes it.
        clips: What it is measured on.
        settings: What decides the result beside the row's name and the clips, e.g. the weights.
    """
    weights = shared_data() / "weights" / "perceptual" / "squeezenet1_1_features.safetensors"
    node = compose("evaluate", [*METRICS, f"metrics.unmasked_lpips.network.weights={weights}"])["metrics"]
    stages = {stage: build_metrics(node) for stage in STAGES}
    material = [(fingerprint(of.clip), fingerprint(of.tracks)) for of in clips]
    mark = _mark([row, settings, material, [metric.protocol_hash() for metric in stages["encoded"]]])
    kept = FOLDER / f"row_{mark}.json"
    if kept.is_file():
        return Evaluation.read_json(kept)
    start = time.perf_counter()
    module, told = make(), []
    place = FOLDER / mark
    place.mkdir(parents=True, exist_ok=True)
    maskers = Maskers()
    for number, of in enumerate(clips):
        record = read_tracks(of.tracks)
        masker, _, taken_from = maskers.of(None, record, of.tracks)
        assert taken_from == "tracks file"
        output = default_output(probe(of.clip), place)
        for result in composited_results(of.clip, output, record, masker, module, clip=number):
            feed(stages["composited"], result)
        pair = OpenedPair(ClipPair(of.clip, output, of.tracks), number, maskers)
        for result in pair.results():
            feed(stages["encoded"], result)
        told.append(pair.measured())
        print(f"{row}: {of.clip.stem}, {time.perf_counter() - start:.0f} s", flush=True)
    records = tuple(MetricRecord.of(metric, stage) for stage, metrics in stages.items() for metric in metrics)
    evaluation = Evaluation(row, records, tuple(told), config=settings, elapsed_s=time.perf_counter() - start)
    evaluation.write_json(kept)
    return evaluation


def timed(name: str, clip: Path, settings: Sequence[str], repeats: int) -> Times:
    """Wall and processor seconds of `pa-anonymize` and then `pa-evaluate` on a clip, in turns, from start to end."""
    mark = _mark([name, fingerprint(clip), list(settings), repeats])
    kept, output = FOLDER / f"times_{mark}.json", FOLDER / f"times_{mark}.mp4"
    if not kept.is_file():
        anonymize = pa_anonymize(f"input={clip}", f"output={output}", *settings)
        evaluate = [anonymize[0].replace("pa-anonymize", "pa-evaluate"), f"original={clip}", f"anonymized={output}"]
        runs: Times = {"anonymize": [], "evaluate": []}
        for _ in range(repeats):
            for key, command in (("anonymize", anonymize), ("evaluate", evaluate)):
                run = run_child(command)
                runs[key].append([run.seconds, run.cpu_s])
                print(f"{name}: {key} {run.seconds:.1f} s, {run.cpu_s:.1f} s of processor time", flush=True)
        kept.write_text(json.dumps(runs, indent=1) + "\n")
    told: Times = json.loads(kept.read_text())
    return told


# -- tables ------------------------------------------------------------------------------------------------------------

PEOPLE = {
    "identity distance": ("identity_distance", 1.0),
    "faces recognized, %": ("identity_faces_recognized", 100.0),
    "tracks recognized, %": ("identity_tracks_recognized", 100.0),
    "spread of the new identity": ("intra_track_consistency", 1.0),
    "named, rank-1, %": ("reidentification_rank1", 100.0),
    "mAP, %": ("reidentification_map", 100.0),
    "still a face, %": ("detection_rate", 100.0),
}
KEPT = {
    "PSNR, dB": ("unmasked_psnr_db", 1.0),
    "PSNR within 8 px of the mask, dB": ("unmasked_psnr_halo_db", 1.0),
    "SSIM": ("unmasked_ssim", 1.0),
    "LPIPS, 1e-3": ("unmasked_lpips_squeeze", 1e3),
    "warping error outside, more than the source's, 1e-6": ("warping_error_outside_excess", 1e6),
}
INSIDE = {
    "warping error inside, more than the source's, 1e-4": ("warping_error_inside_excess", 1e4),
    "sharpness inside, of the source's": ("warping_error_sharpness_inside", 1.0),
    "motion inside, of the source's": ("warping_error_motion_inside", 1.0),
    "Fréchet distance, around masks": ("frechet_video_distance_transnet_masks", 1.0),
    "kernel distance, around masks": ("kernel_video_distance_transnet_masks", 1.0),
    "Fréchet distance, whole frames": ("frechet_video_distance_transnet", 1.0),
}
Figures = dict[str, dict[str, dict[str, MetricValue]]]  # of rows, by stage, by name


def figures_of(evaluation: Evaluation) -> dict[str, dict[str, MetricValue]]:
    """All values by stage and name."""
    told: dict[str, dict[str, MetricValue]] = {stage: {} for stage in STAGES}
    for record in evaluation.metrics:
        told[record.measured_on] |= {figure.name: figure for figure in record.values}
    return told


def cell(figure: MetricValue, scale: float, *, has_interval: bool) -> str:
    """A value, with its interval where that is asked for; a dash where there was nothing to measure."""
    if math.isnan(figure.value):
        return "-"
    told = show(scale * figure.value)
    if not has_interval or figure.interval is None or figure.interval[0] == figure.interval[1]:
        return told
    return f"{told} ({' to '.join(show(scale * end) for end in figure.interval)})"


def table(
    title: str, columns: Mapping[str, tuple[str, float]], rows: Figures, stage: str, *notes: str, has_intervals: bool
) -> Table:
    """Systems by values; `columns` maps a head to the name of a value and to what it is multiplied by."""
    first = next(iter(rows.values()))[stage]
    arrows = {True: " ↑", False: " ↓", None: ""}
    heads = [f"{head}{arrows[first[name].is_higher_better]}" for head, (name, _) in columns.items()]
    cells = [
        (row, *(cell(of[stage][name], scale, has_interval=has_intervals) for name, scale in columns.values()))
        for row, of in rows.items()
    ]
    return Table(title, ("system", *heads), cells, list(notes))


def tables(rows: Figures, used: str, left_out: str) -> list[Table]:
    """People, kept pixels, and what is inside the masks: after encoding, and people before it."""
    any_of = next(iter(rows.values()))["encoded"]
    identity, chance = any_of["identity_distance"], any_of["reidentification_chance_rank1"]
    apart = ", ".join(
        f"{count} {name}" for name, count in identity.counted.items() if count and "not found" not in name
    )
    pairs, distance = any_of["warping_error_inside_excess"], any_of["frechet_video_distance_transnet_masks"]
    return [
        table(
            "People, after encoding",
            PEOPLE,
            rows,
            "encoded",
            f"Clips: {used}, from the start of each; egoblur scaled from 2560x1920 to 640x480. Everyone's head is "
            "hidden (CenterFace, ellipses), by one tracks file per clip: all rows replace the very same pixels. "
            f"{left_out}",
            f"{identity.n} people in {len(CLIPS)} clips ({apart}). Distances are Euclidean, of dlib's network; "
            "recognized: within 0.6 of the original. Rank-1 and mAP: each person is looked for in a gallery of all "
            f"{chance.n}; chance is {100 * chance.value:.1f} %. Intervals: 95 %, over people, and wide with so few.",
            "Still a face: neither better nor worse in itself; a face that is generated should be one. Where no "
            "face is found any more, the place where it was is compared. Spread: how much the new identity changes "
            "within a track.",
            has_intervals=True,
        ),
        table(
            "People, before encoding",
            PEOPLE,
            rows,
            "composited",
            "As above, from the frames as they are generated.",
            has_intervals=False,
        ),
        table(
            "Kept pixels, after encoding",
            KEPT,
            rows,
            "encoded",
            "Before encoding every kept pixel is the source's, to the bit, in every row. Mean over "
            f"{any_of['unmasked_psnr_db'].n} clips. LPIPS with SqueezeNet. H.264 as pa-anonymize writes it by default; "
            "the source is H.264 without loss.",
            has_intervals=False,
        ),
        table(
            "Inside the masks, after encoding",
            INSIDE,
            rows,
            "encoded",
            f"Warping error by Lai et al., flow by DIS: {pairs.n} pairs of frames. Below 0 means less change along the "
            "flow than in the source: a blur has little to change. So read it with sharpness and motion, 1 is the "
            f"source's. Distances: TransNetV2's features of {distance.n} clips of 16 frames; with far fewer clips than "
            "the network has dimensions the Fréchet distance is too large: only rows of this table compare.",
            has_intervals=False,
        ),
    ]


def medians(runs: Times, which: int) -> tuple[float, float]:
    """Of anonymizing and evaluating: wall seconds (0) or processor seconds (1)."""
    anonymize, evaluate = (statistics.median(run[which] for run in runs[key]) for key in ("anonymize", "evaluate"))
    return anonymize, evaluate


def times_table(times: Mapping[str, Times], clip: Path, repeats: int) -> Table:
    """What `pa-anonymize` and `pa-evaluate` took."""
    cells = []
    for name, runs in times.items():
        wall, cpu = medians(runs, 0), medians(runs, 1)
        cells.append((name, *wall, wall[1] / wall[0], *cpu, cpu[1] / cpu[0]))
    info = probe(clip)
    steps = ("anonymize, {}", "evaluate, {}", "evaluate over anonymize, {}")
    return Table(
        f"pa-anonymize and pa-evaluate of {clip.stem}, {info.width}x{info.height}, median of {repeats} in turns",
        ("system", *(head.format("s") for head in steps), *(head.format("processor s") for head in steps)),
        cells,
        [
            "Whole commands with their defaults, but for what generates (faces and people, the subject kept, "
            "silhouettes; the default metrics), start included. Goal: evaluation takes less time than anonymization. "
            "What evaluation costs does not depend on the system: flow in both directions for every pair of frames, "
            "and the identity of every hidden face in both videos."
        ],
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--weights", type=Path, help="a checkpoint of Passersby-Anonymizer, for a row of its own")
    parser.add_argument("--repeats", type=int, default=3, help="of what is timed")
    parser.add_argument("--frames", type=int, help="at most so many of each clip; tables are shown, and not written")
    asked = parser.parse_args(arguments)
    used = {name: of._replace(n_frames=min(of.n_frames, asked.frames or of.n_frames)) for name, of in CLIPS.items()}
    clips = {name: tracked(name, material) for name, material in used.items()}
    everything = list(clips.values())
    settings: dict[str, Any] = {"steps": None, "weights": None}
    rows = {row: measured(row, ROWS[row], everything, settings) for row in asked.rows}
    timed_clip = clips[TIMED].clip
    times = {"default (blur)": timed("default", timed_clip, ("module=conventional",), asked.repeats)}
    left_out = "Left out: passersby, for no weights were given (--weights)."
    if asked.weights is not None:
        digest, name = fingerprint(asked.weights), f"passersby, {STEPS} steps"

        def trained() -> AbstractAnonymizer:
            module = load_module(asked.weights, changed={"sampler.steps": STEPS})
            assert isinstance(module, AbstractAnonymizer)
            return module

        rows[name] = measured(name, trained, everything, {"steps": STEPS, "weights": digest})
        command = (f"weights={asked.weights}", "module=passersby", f"module.sampler.steps={STEPS}", "device=cpu")
        times[name] = timed(f"{name} ({digest[:8]})", timed_clip, command, asked.repeats)
        left_out = f"Passersby: weights {digest[:8]}, DDIM in {STEPS} steps."
    figures = {row: figures_of(of) for row, of in rows.items()}
    told = ", ".join(f"{name} ({of.n_frames} frames)" for name, of in used.items())
    shown = [*tables(figures, told, left_out), times_table(times, timed_clip, asked.repeats)]
    if asked.frames:
        print("\n\n".join(of.markdown() for of in shown))
        return
    goals = {
        "all_rows_hide_the_same_pixels": len({of.masks for of in rows.values()}) == 1,
        "before_encoding_every_kept_pixel_is_the_source's": all(
            of["composited"]["unmasked_identical_share"].value == 1 for of in figures.values()
        ),
    }
    for name, runs in times.items():
        anonymize, evaluate = medians(runs, 0)
        goals[f"evaluation_takes_less_time_than_anonymization,_{name}"] = evaluate < anonymize
    raw = {
        row: {"seconds": round(of.elapsed_s, 1), "masks": of.masks, **plain(_as_dicts(figures[row]))}
        for row, of in rows.items()
    }
    publish("comparison", shown, {"goals": goals, "times": times, "rows": raw})


def _as_dicts(of: Mapping[str, Mapping[str, MetricValue]]) -> dict[str, dict[str, dict[str, Any]]]:
    return {stage: {name: asdict(figure) for name, figure in figures.items()} for stage, figures in of.items()}


if __name__ == "__main__":
    main()
