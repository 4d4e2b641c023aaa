"""Scaling: time grows linearly with the number of frames, and with the number of people only where people are hidden.

python benchmarks/scaling.py [--frames 50 100 200 400]
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from _annotations import face_clips
from _bench import WORK, Table, frames_of, pa_anonymize, publish, run_child, write_clip
from _ours import people_config
from numpy.typing import NDArray

from pa_lib.cli.compose import build, compose
from pa_lib.contracts import Clip, ClipMasks, Presence, Track
from pa_lib.people import MaskRequest

PEOPLE = (0, 1, 2, 4, 8, 16, 32)
CANVAS = (720, 1280)
REPEATS = 5
MIN_R2 = 0.99


def fit(x: list[float], y: list[float]) -> tuple[float, float, float]:
    """Slope, intercept and R2 of a straight line."""
    slope, intercept = np.polyfit(x, y, 1)
    rest = np.array(y) - (slope * np.array(x) + intercept)
    return float(slope), float(intercept), float(1 - rest.var() / np.var(y))


def against_frames(lengths: list[int]) -> tuple[Table, dict[str, Any]]:
    part = next(clip for clip in face_clips() if clip.name == "intel_walking_pause")
    pictures = list(frames_of(part.path))
    there_and_back = [*pictures, *reversed(pictures)]
    seconds = []
    for length in lengths:
        frames = (there_and_back[at % len(there_and_back)] for at in range(length))
        clip = write_clip(WORK / f"scaling_{length}.mp4", frames)
        runs = [
            run_child(pa_anonymize(f"input={clip}", f"output={WORK / 'scaling_out.mp4'}", "module=conventional"))
            for _ in range(3)
        ]
        seconds.append(statistics.median(run.seconds for run in runs))
        print(f"{length} frames: {seconds[-1]:.1f} s", flush=True)
    slope, start, r2 = fit([float(length) for length in lengths], seconds)
    table = Table(
        "Whole process with the default settings against the number of frames, 480x270 (median of 3)",
        ("frames", "seconds", "line, seconds"),
        [(n, s, start + slope * n) for n, s in zip(lengths, seconds, strict=True)],
        [f"Line: {start:.2f} s + {1000 * slope:.1f} ms a frame, R2 = {r2:.5f}."],
    )
    return table, {"frames": lengths, "seconds": seconds, "r2": r2, "goal": r2 >= MIN_R2}


def canvas_with(n_people: int, face: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], list[Track]]:
    """A grey picture with the same head `n_people` times, and their tracks of one frame."""
    rng = np.random.default_rng(0)
    canvas = rng.integers(96, 160, (*CANVAS, 3), dtype=np.uint8)
    height, width = face.shape[:2]
    tracks = []
    for at in range(n_people):
        top, left = 20 + at // 8 * 170, 20 + at % 8 * 155
        canvas[top : top + height, left : left + width] = face
        box = np.array([[left, top, left + width, top + height]], dtype=np.float32)
        tracks.append(Track(at + 1, "face", np.array([0]), box, np.ones(1, np.float32)))
    return canvas, tracks


def milliseconds(action: Callable[[], object]) -> float:
    """Median time of one call, after one to warm up."""
    import time

    action()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def against_people() -> tuple[Table, dict[str, Any]]:
    import torch

    source = next(clip for clip in face_clips() if clip.name == "intel_head_pose")
    x0, y0, x1, y1 = source.targets[0][0].box
    head = next(frames_of(source.path))[max(0, y0 - 30) : y1 + 10, x0 - 15 : x1 + 15]
    head = cv2.resize(head, (120, 150), interpolation=cv2.INTER_AREA)
    people, module = (
        people_config("people/finder=centerface", "people/masker=ellipse"),
        compose("anonymize", ["input=none", "module=conventional"])["module"],
    )
    finder, masker, anonymizer = build(people["finder"]), build(people["masker"]), build(module)
    rows = []
    for n_people in PEOPLE:
        image, tracks = canvas_with(n_people, head)
        here = [Presence(track.track_id, track, 0) for track in tracks]
        masks = masker.mask(MaskRequest(image, here)).masks
        clip = Clip(torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None])
        hidden = ClipMasks(masks, 1, *CANVAS)
        n_found = len(finder.find([image])[0])
        rows.append(
            (
                n_people,
                n_found,
                milliseconds(lambda image=image: finder.find([image])),
                milliseconds(lambda image=image, here=here: masker.mask(MaskRequest(image, here))),
                milliseconds(lambda clip=clip, hidden=hidden: anonymizer.anonymize(clip, hidden)),
            )
        )
        print(f"{n_people} people: {rows[-1][2:]} ms", flush=True)
    counts = [float(row[0]) for row in rows]
    find_slope, find_start, _ = fit(counts, [row[2] for row in rows])
    hide_slope, hide_start, hide_r2 = fit(counts, [row[4] for row in rows])
    table = Table(
        f"One frame of {CANVAS[1]}x{CANVAS[0]} against the number of people in it, milliseconds (median of {REPEATS})",
        ("people", "found", "find (CenterFace)", "mask (ellipse)", "anonymize (blur)"),
        rows,
        [
            f"Finding: {find_start:.0f} ms + {find_slope:.2f} ms a person. "
            f"Anonymizing: {hide_start:.2f} ms + {hide_slope:.2f} ms a person, R2 = {hide_r2:.4f}."
        ],
    )
    is_flat = find_slope * max(PEOPLE) <= 0.1 * find_start
    return table, {"rows": rows, "find_is_flat": is_flat, "anonymize_r2": hide_r2}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, nargs="+", default=[50, 100, 200, 400])
    asked = parser.parse_args()
    by_people, people_figures = against_people()
    by_frames, frame_figures = against_frames(asked.frames)
    goals = {
        "linear_in_frames": frame_figures["goal"],
        "finding_independent_of_people": people_figures["find_is_flat"],
        "anonymizer_linear_in_people": people_figures["anonymize_r2"] >= 0.9,
    }
    publish("scaling", [by_frames, by_people], {"goals": goals, "frames": frame_figures, "people": people_figures})


if __name__ == "__main__":
    main()
