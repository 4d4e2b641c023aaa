"""The temporal warping error beside the optical flow it needs: frames per second at 768 x 576, in turns.

    python benchmarks/warping.py [--repeats 9] [--frames 9] [--clip davis_breakdance]

Each round runs OpenCV's DIS alone, both ways over the same pairs of grey pictures, and then the whole metric on uint8
frames and their masks: flow of the source, errors of source and output in three regions, and both companions. Decoding
is not in either. Processor time tells more than wall time where other work runs on the machine; both are given.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from _bench import Table, frames_of, publish, shared_data
from torch import Tensor

from pa_lib.functional import blur
from pa_lib.metrics import TemporalWarpingError

WIDTH, HEIGHT = 768, 576
GOAL = 0.8  # of the frames per second of DIS alone


def clip(name: str, n_frames: int) -> tuple[Tensor, Tensor]:
    """Frames as uint8 and masks as float, resized to the size of the goal."""
    folder = shared_data() / "clips_with_masks" / name
    parts = []
    for kind in ("frames", "masks"):
        pictures = [picture for picture, _ in zip(frames_of(folder / kind), range(n_frames), strict=False)]
        if len(pictures) < n_frames:
            sys.exit(f"{folder / kind} has {len(pictures)} frames, expected {n_frames}: give fewer --frames")
        resized = [cv2.resize(picture, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA) for picture in pictures]
        parts.append(torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2).contiguous()[None])
    return parts[0], (parts[1][:, :, :1] > 127).float()


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def contenders(source: Tensor, masks: Tensor) -> dict[str, Callable[[], object]]:
    blurred = torch.stack([blur(frame, 12.0) for frame in source[0]])[None]
    anonymized = torch.where(masks > 0, blurred, source)
    greys = [cv2.cvtColor(frame.permute(1, 2, 0).numpy().copy(), cv2.COLOR_RGB2GRAY) for frame in source[0]]
    finder = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def flow_alone() -> None:
        for earlier, later in itertools.pairwise(greys):
            finder.calc(earlier, later, None)
            finder.calc(later, earlier, None)

    def whole_metric() -> object:
        metric = TemporalWarpingError()
        metric.update(source, anonymized, masks)
        return metric.measure()

    return {"DIS alone, both ways": flow_alone, "TemporalWarpingError": whole_metric}


Rounds = dict[str, list[tuple[float, float]]]


def in_turns(works: dict[str, Callable[[], object]], repeats: int) -> Rounds:
    """Wall and processor seconds of every round; one before them warms up."""
    rounds: Rounds = {name: [] for name in works}
    for number in range(repeats + 1):
        for name, work in works.items():
            took = timed(work)
            if number:
                rounds[name].append(took)
        if number:
            print(f"round {number}: " + ", ".join(f"{name} {times[-1][0]:.2f} s" for name, times in rounds.items()))
    return rounds


def share(rounds: Rounds) -> tuple[float, float]:
    """The metric's frames per second over those of DIS in the same round, by wall and by processor time; medians."""
    alone, metric = rounds.values()
    wall, cpu = (statistics.median(a[by] / m[by] for a, m in zip(alone, metric, strict=True)) for by in (0, 1))
    return wall, cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--frames", type=int, default=9)
    parser.add_argument("--clip", default="davis_breakdance")
    asked = parser.parse_args()
    source, masks = clip(asked.clip, asked.frames)
    pairs = asked.frames - 1
    works = contenders(source, masks)
    rows: list[tuple[Any, ...]] = []
    shares, seconds = {}, {}
    for threads in (1, cv2.getNumThreads()):
        cv2.setNumThreads(threads)
        rounds = in_turns(works, asked.repeats)
        told = f"DIS on {threads} thread{'s' if threads > 1 else ''}"
        shares[told] = share(rounds)
        seconds[told] = {name: [[round(part, 4) for part in took] for took in times] for name, times in rounds.items()}
        for name, times in rounds.items():
            wall, cpu = (statistics.median(took[by] for took in times) / pairs for by in (0, 1))
            rows.append((f"{name}, {told}", 1 / wall, wall * 1000, cpu * 1000))
    table = Table(
        f"Temporal warping error at {WIDTH} x {HEIGHT}, {pairs} pairs of {asked.clip}, medians of {asked.repeats}",
        ("what", "pairs/s", "ms a pair", "processor ms a pair"),
        rows,
        [
            f"Goal: at least {GOAL:.0%} of the frames per second of DIS alone. Reached, medians of the rounds' own "
            "ratios: "
            + "; ".join(
                f"{told} {wall:.0%} by wall time, {cpu:.0%} by processor time" for told, (wall, cpu) in shares.items()
            )
            + ". The metric computes the flow a pair ahead on a thread of its own, looks source, output, mask and "
            "backward flow up along it, and measures three regions and two companions. Where DIS alone keeps every "
            "core busy, what the metric adds cannot be hidden behind it. "
            f"Torch used {torch.get_num_threads()} threads.",
        ],
    )
    figures = {
        "goals": {
            f"at_least_80_percent_of_the_frames_per_second_of_{told.replace(' ', '_')}": wall >= GOAL
            for told, (wall, _) in shares.items()
        },
        "share_of_frames_per_second": {told: {"wall": wall, "processor": cpu} for told, (wall, cpu) in shares.items()},
        "torch_threads": torch.get_num_threads(),
        "masked_share": float(masks.mean()),
        "seconds": seconds,
    }
    publish("warping", [table], figures)


if __name__ == "__main__":
    main()
