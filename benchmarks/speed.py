"""Speed beside deface 1.5.0: whole processes on the same 1080p clip, in turns, and the recall of those very runs.

    python benchmarks/speed.py [--frames 152] [--repeats 3] [--add]

The clip is two real walking clips enlarged to 1920 x 1080. Both tools blur, both read and write H.264, both look for
faces with CenterFace at full resolution. deface looks at every frame; pa_lib at every other and follows people between
(its default), and once more at every frame for comparison. `--add` adds rounds to those of the last result, so that
they can be measured in several quiet stretches.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import _deface
import av
import cv2
from _annotations import AnnotatedClip, Recall, recall, walking_clip_1080p
from _bench import RESULTS, WORK, ChildRun, Table, frames_of, pa_anonymize, publish, run_child
from _ours import replaced_from_tracks_file

FACES_ONLY = ("people/finder=centerface", "people/chooser=all", "people/masker=ellipse", "module=conventional")
GOAL_RATIO = 2.0


@dataclass(frozen=True, eq=False)
class Contender:
    """One way to anonymize the clip."""

    name: str
    command: list[str]
    output: Path
    deface_scale: str | None = None


def contenders(clip: AnnotatedClip) -> list[Contender]:
    out = {name: WORK / f"speed_{name}.mp4" for name in ("pa", "pa_stride1", "deface", "deface_small")}
    return [
        Contender("pa_lib", pa_anonymize(f"input={clip.path}", f"output={out['pa']}", *FACES_ONLY), out["pa"]),
        Contender("deface", _deface.command(clip.path, out["deface"]), out["deface"], "full"),
        Contender(
            "pa_lib, every frame searched",
            pa_anonymize(f"input={clip.path}", f"output={out['pa_stride1']}", *FACES_ONLY, "people.search.stride=1"),
            out["pa_stride1"],
        ),
        Contender(
            "deface --scale 640x360",
            _deface.command(clip.path, out["deface_small"], "--scale", "640x360"),
            out["deface_small"],
            "640x360",
        ),
    ]


def recall_of(contender: Contender, clip: AnnotatedClip) -> Recall:
    if contender.deface_scale is None:
        masks = replaced_from_tracks_file(contender.output.with_suffix(".tracks.json"), clip, *FACES_ONLY)
        shares = {(t.identity, f): t.covered(mask) for f, mask in enumerate(masks) for t in clip.targets[f]}
    else:
        pictures = WORK / f"{clip.name}_frames"
        pictures.mkdir(exist_ok=True)
        for frame, rgb in enumerate(frames_of(clip.path)):
            cv2.imwrite(str(pictures / f"{frame:05d}.png"), rgb[:, :, ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
        shares = {}
        for frame, found in enumerate(_deface.boxes(sorted(pictures.iterdir()), contender.deface_scale)):
            mask = _deface.replaced(found, 1080, 1920)
            shares.update({(t.identity, frame): t.covered(mask) for t in clip.targets[frame]})
    return recall(clip.counted(), shares)


def earlier(frames: int, names: list[str]) -> dict[str, list[ChildRun]]:
    """The runs of the last result."""
    values = json.loads((RESULTS / "speed.json").read_text())["values"]
    if values.get("frames") != frames:
        sys.exit(f"the last result has {values.get('frames')} frames, asked for {frames}: leave out --add")
    return {name: [ChildRun(**run, output="") for run in values["runs"][name]] for name in names}


def size_of(path: Path) -> str:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return f"{stream.width}x{stream.height}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=152)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--add", action="store_true", help="to the runs of the last result")
    asked = parser.parse_args()
    clip = walking_clip_1080p(asked.frames)
    ways = contenders(clip)
    names = [way.name for way in ways]
    runs: dict[str, list[ChildRun]] = earlier(asked.frames, names) if asked.add else {name: [] for name in names}
    for number in range(asked.repeats):
        for way in ways:
            runs[way.name].append(run_child(way.command))
            print(f"run {number + 1} of {asked.repeats}: {way.name} {runs[way.name][-1].seconds:.1f} s", flush=True)
    rates = {name: asked.frames / statistics.median(run.seconds for run in done) for name, done in runs.items()}
    recalls = {way.name: recall_of(way, clip) for way in ways}
    rows = [
        (
            way.name,
            rates[way.name],
            rates[way.name] / rates["deface"],
            statistics.median(run.cpu_s for run in runs[way.name]),
            max(run.peak_mib for run in runs[way.name]),
            recalls[way.name].share,
            recalls[way.name].worst_frame,
            size_of(way.output),
        )
        for way in ways
    ]
    ratio = rates["pa_lib"] / rates["deface"]
    is_recall_kept = recalls["pa_lib"].n_covered >= recalls["deface"].n_covered
    n_rounds = len(runs[names[0]])
    table = Table(
        f"Whole process, blur, CenterFace, {asked.frames} frames of 1920x1080, median of {n_rounds} in turns",
        ("tool", "frames/s", "of deface's", "CPU s", "peak MiB", "face recall", "worst frame", "output"),
        rows,
        [
            f"Goal: at least {GOAL_RATIO:g} times deface's frames per second at equal or better per-frame recall: "
            f"{ratio:.2f} times, recall {recalls['pa_lib'].n_covered} against {recalls['deface'].n_covered} "
            f"of {recalls['deface'].n_targets} annotated faces. "
            "Start of the process, imports and the reading of weights are in the times of both.",
        ],
    )
    kept = {
        name: [{key: value for key, value in asdict(run).items() if key != "output"} for run in done]
        for name, done in runs.items()
    }
    goals = {"twice_as_fast": ratio >= GOAL_RATIO, "recall_kept": is_recall_kept}
    publish(
        "speed",
        [table],
        {
            "goals": goals,
            "ratio": ratio,
            "rates_fps": rates,
            "frames": asked.frames,
            "runs": kept,
            "recall": {n: vars(r) for n, r in recalls.items()},
        },
    )


if __name__ == "__main__":
    main()
