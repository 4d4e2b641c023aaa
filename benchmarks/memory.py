"""Memory and start: peak memory of the whole program on a 1080p clip and on one ten times longer; time to --help.

python benchmarks/memory.py [--frames 100]
"""

from __future__ import annotations

import argparse
import statistics

from _annotations import walking_clip_1080p
from _bench import WORK, Table, pa_anonymize, publish, run_child

GOAL_RATIO, GOAL_MIB, GOAL_HELP_S = 1.05, 1500, 1.5
WAYS = {
    "CenterFace, all, ellipse": (
        "people/finder=centerface",
        "people/chooser=all",
        "people/masker=ellipse",
        "module=conventional",
    ),
    "faces and people, subject kept, silhouettes": ("module=conventional",),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--frames", type=int, default=40, help="length of the short clip; the long one has ten times more"
    )
    asked = parser.parse_args()
    lengths = (asked.frames, 10 * asked.frames)
    rows, figures = [], {}
    for name, settings in WAYS.items():
        peaks = []
        for length in lengths:
            clip = walking_clip_1080p(length)
            run = run_child(pa_anonymize(f"input={clip.path}", f"output={WORK / 'memory.mp4'}", *settings))
            print(f"{name}, {length} frames: {run.peak_mib:.0f} MiB, {run.seconds:.0f} s", flush=True)
            peaks.append(run.peak_mib)
        rows.append((name, *peaks, peaks[1] / peaks[0]))
        figures[name] = peaks
    helps = [run_child(pa_anonymize("--help")) for _ in range(5)]
    help_s = statistics.median(run.seconds for run in helps)
    peaks = figures["CenterFace, all, ellipse"]
    goals = {
        "ratio": peaks[1] <= GOAL_RATIO * peaks[0],
        "peak": max(peaks) <= GOAL_MIB,
        "help": help_s < GOAL_HELP_S,
    }
    memory = Table(
        "Peak resident memory of pa-anonymize and its children, 1920x1080, MiB",
        ("settings", *(f"{length} frames" for length in lengths), "ratio"),
        rows,
        [f"Goal with CenterFace: ratio at most {GOAL_RATIO}, at most {GOAL_MIB} MiB."],
    )
    start = Table(
        "pa-anonymize --help",
        ("median of 5, s", "slowest, s", "peak MiB"),
        [(help_s, max(run.seconds for run in helps), max(run.peak_mib for run in helps))],
        [f"Goal: under {GOAL_HELP_S} s."],
    )
    publish("memory", [memory, start], {"goals": goals, "peaks_mib": figures, "help_s": [run.seconds for run in helps]})


if __name__ == "__main__":
    main()
