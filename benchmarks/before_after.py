"""Before a change and after it: the same commands of two checkouts of the library, in turns, as whole processes.

    python benchmarks/before_after.py --before ../old [--repeats 5] [--only "80 frames of 1080p, heads blurred" ...]

`--before` is a checkout of the library as it was (``git worktree add ../old 63dc5a2``, the last commit before the
redesign). Both run in the same environment. Compared are processor time, which other work on the machine disturbs less
than wall time, and peak memory; and whether the output is the same, pixel for pixel and weight for weight. Runs are
kept in benchmarks/work: rounds may be measured at different times. From the results of other benchmarks, run in both
checkouts, come the ratios that each of them takes within one run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from _annotations import walking_clip_1080p
from _bench import (
    HERE,
    TRAINING_ALONE,
    WORK,
    ChildRun,
    Table,
    frames_of,
    publish,
    run_child,
    shared_data,
    write_clip,
)

FOLDER = WORK / "before_after"
HEADS = ("people/finder=centerface", "people/chooser=all", "people/masker=ellipse")
BLUR = "module=conventional"
EMBEDDED = ("module=compact", "device=cpu")
SMALL = ("module.backbone.widths=[32,64]", "module.backbone.attention_levels=[1]", "module.backbone.layers=1")
SIDES = ("before", "after")


@dataclass(frozen=True, eq=False)
class Work:
    """One command that both checkouts run.

    Args:
        program: Its name, e.g. ``pa-anonymize``.
        settings: Its settings without the output.
        output: Name of the file or folder that it writes; None where it writes none.
    """

    program: str
    settings: tuple[str, ...]
    output: str | None = None


def works() -> dict[str, Work]:
    """All commands by the name of their row."""
    large = walking_clip_1080p(80).path
    small = walking_clip_480x270(24)
    dance = shared_data() / "clips_with_masks" / "davis_breakdance" / "frames"
    dancer = write_clip(FOLDER / "dancer.mp4", frames_of(dance))
    training = ("experiment=passersby_1_spatial", "trainer.max_steps=12", "data.batch_size=4", *TRAINING_ALONE)
    temporal = ("experiment=passersby_2_temporal", "trainer.max_steps=3", "data.batch_size=1", *SMALL, *TRAINING_ALONE)
    return {
        "help": Work("pa-anonymize", ("--help",)),
        "80 frames of 1080p, heads blurred": Work("pa-anonymize", (f"input={large}", *HEADS, BLUR), "large.mp4"),
        "crowd behind a dancer, default people, blur": Work("pa-anonymize", (f"input={dancer}", BLUR), "dancer.mp4"),
        "24 frames of 480x270, heads blurred, lossless": Work(
            "pa-anonymize", (f"input={small}", *HEADS, BLUR, "write.crf=0"), "small.mp4"
        ),
        "24 frames of 480x270, heads of the embedded default": Work(
            "pa-anonymize", (f"input={small}", *HEADS, *EMBEDDED), "embedded.mp4"
        ),
        "evaluation of 24 frames, default metrics": Work("pa-evaluate", (f"original={small}",), "evaluation"),
        "training, stage 1, 12 steps": Work("pa-train", training, "stage_1"),
        "training, stage 2, 3 steps": Work("pa-train", temporal, "stage_2"),
    }


def walking_clip_480x270(n_frames: int) -> Path:
    """The walking clip with a pause, there and back again."""
    pictures = list(frames_of(shared_data() / "clips" / "intel_face-demographics-walking-and-pause.gif"))
    there_and_back = [*pictures, *reversed(pictures)]
    return write_clip(FOLDER / "small.mp4", (there_and_back[at % len(there_and_back)] for at in range(n_frames)))


def run(work: Work, side: str, checkout: Path) -> tuple[ChildRun, str | None]:
    """One run of one checkout, and what it wrote as a digest."""
    place = FOLDER / side
    place.mkdir(parents=True, exist_ok=True)
    settings = work.settings
    if work.program == "pa-evaluate":
        settings += (f"anonymized={place / 'small.mp4'}",)
    output = None if work.output is None else place / work.output
    if output is not None:
        shutil.rmtree(output, ignore_errors=True)
        settings += (f"output={output}",)
    # Before the installed library, so that each program is that of its checkout
    command = ["env", f"PYTHONPATH={checkout / 'src'}", str(Path(sys.executable).with_name(work.program)), *settings]
    done = run_child(command)
    return done, None if output is None else digest(output)


def digest(output: Path) -> str:
    """Of decoded frames, of a checkpoint's weights in any order, or of an evaluation's values."""
    if output.is_file():
        sums = [hashlib.sha256(frame.tobytes()).hexdigest() for frame in frames_of(output)]
    elif (output / "checkpoints" / "last.ckpt").is_file():
        import torch

        state = torch.load(output / "checkpoints" / "last.ckpt", map_location="cpu", weights_only=True)["state_dict"]
        sums = sorted(hashlib.sha256(weight.contiguous().numpy().tobytes()).hexdigest() for weight in state.values())
    elif (output / "metrics.json").is_file():
        metrics = json.loads((output / "metrics.json").read_text())["metrics"]
        values = [value for metric in metrics for value in metric.get("values", metric.get("figures"))]
        sums = sorted(f"{value['name']} {value['value']}" for value in values)
    else:
        sys.exit(f"nothing to compare in {output}: neither a video, nor a checkpoint, nor metrics.json")
    return hashlib.sha256("".join(sums).encode()).hexdigest()[:16]


Rounds = list[dict[str, dict[str, Any]]]


def measure(name: str, work: Work, checkouts: dict[str, Path], repeats: int, n_max: int) -> Rounds:
    """Rounds of one run of each checkout, which take turns at going first; added to those that were kept."""
    kept = FOLDER / f"{hashlib.sha256(name.encode()).hexdigest()[:10]}.json"
    rounds: Rounds = json.loads(kept.read_text()) if kept.is_file() else []
    for _ in range(min(repeats, n_max - len(rounds))):
        made: dict[str, dict[str, Any]] = {}
        for side in SIDES if len(rounds) % 2 == 0 else SIDES[::-1]:
            done, output = run(work, side, checkouts[side])
            made[side] = {key: value for key, value in asdict(done).items() if key != "output"} | {"output": output}
        rounds.append(made)
        kept.write_text(json.dumps(rounds, indent=1) + "\n")
        print(f"{name}: " + ", ".join(f"{side} {made[side]['cpu_s']:.2f} s CPU" for side in SIDES), flush=True)
    return rounds


def row_of(name: str, rounds: Rounds) -> tuple[Any, ...]:
    """Medians before and after, and the ratios of the rounds."""
    cpu = {side: [of[side]["cpu_s"] for of in rounds] for side in SIDES}
    mib = {side: statistics.median(of[side]["peak_mib"] for of in rounds) for side in SIDES}
    ratios = [after / before for before, after in zip(cpu["before"], cpu["after"], strict=True)]
    outputs = {of[side]["output"] for of in rounds for side in SIDES}
    return (
        name,
        len(rounds),
        statistics.median(cpu["before"]),
        statistics.median(cpu["after"]),
        statistics.median(ratios),
        f"{min(ratios):.2f} to {max(ratios):.2f}",
        mib["before"],
        mib["after"],
        mib["after"] / mib["before"],
        None if outputs == {None} else len(outputs) == 1,
    )


def values_of(checkout: Path, name: str) -> dict[str, Any]:
    """The raw values of a benchmark's result; empty where it was not run today."""
    path = checkout / "benchmarks" / "results" / f"{name}.json"
    record = json.loads(path.read_text()) if path.is_file() else {}
    if record.get("date") != date.today().isoformat():
        return {}
    values: dict[str, Any] = record.get("values", record.get("figures", {}))
    return values


def ratios_of(checkout: Path) -> dict[str, float]:
    """What other benchmarks measure within one run against something that no change here moves."""
    found: dict[str, float] = {}
    for shape, layers in values_of(checkout, "temporal").get("shapes", {}).items():
        for what in ("time", "memory"):
            found[f"temporal layer, {shape}: {what} over diffusers'"] = layers["pa_lib, norm of each frame"][
                f"{what}_ratio"
            ]
    for name, share in values_of(checkout, "warping").get("share_of_frames_per_second", {}).items():
        found[f"warping error: time over that of {name}"] = 1 / share["processor"]
    passersby = values_of(checkout, "passersby")
    for name, ratio in passersby.get("crops", {}).get("ratios", {}).items():
        if name.endswith((", 1", ", 4")):
            found[f"{name} people: time over whole frames by diffusers"] = 1 / ratio
    for name, of in passersby.get("training", {}).items():
        if isinstance(of, dict) and "ratio" in of:
            found[f"training step, {name}: time over a loop by hand"] = of["ratio"]
    if "memory_ratio" in passersby.get("lengths", {}):
        found["module=passersby: peak of the longest video over the shortest"] = passersby["lengths"]["memory_ratio"]
    for name, (short, long) in values_of(checkout, "memory").get("peaks_mib", {}).items():
        found[f"{name}: peak of a video ten times longer"] = long / short
    return found


def tables(measured: dict[str, Rounds], checkouts: dict[str, Path]) -> list[Table]:
    columns = ("command", "rounds", "CPU s before", "after", "after/before", "of rounds", "peak MiB before", "after")
    commands = Table(
        "Before and after the redesign: whole commands, processor seconds and peak memory",
        (*columns, "after/before", "same output"),
        [row_of(name, rounds) for name, rounds in measured.items()],
        [
            "Both checkouts in one environment, in turns, the first of a round in turns as well; medians, and the "
            "smallest and largest ratio of a round. Same output: the decoded frames of the video, or the weights of "
            "the checkpoint, are the same in all runs of both. (The encoder itself may differ from run to run in a few "
            "pixels unless it is lossless.)"
        ],
    )
    before, after = (ratios_of(checkouts[side]) for side in SIDES)
    shared = [name for name in after if after[name] != before.get(name, after[name])]  # equal: an older record of both
    within = Table(
        "Before and after the redesign: ratios that a benchmark takes within one run",
        ("what", "before", "after", "after/before"),
        [(name, before[name], after[name], after[name] / before[name]) for name in shared],
        ["Lower is better. Each benchmark was run in both checkouts on the same day, in the same environment."],
    )
    return [commands, within] if shared else [commands]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--before", type=Path, required=True, help="a checkout of the library as it was")
    parser.add_argument("--repeats", type=int, default=5, help="rounds to add to those kept")
    parser.add_argument("--rounds", type=int, default=9, help="no more of each than so many, kept ones counted")
    parser.add_argument("--only", nargs="+", help="rows to measure; the others are shown as kept")
    asked = parser.parse_args(arguments)
    checkouts = {"before": asked.before.resolve(), "after": HERE.parent}
    if not (checkouts["before"] / "src" / "pa_lib").is_dir():
        sys.exit(f"no library in {asked.before}: expected a checkout with src/pa_lib")
    measured: dict[str, Rounds] = {}
    for name, work in works().items():
        n = asked.repeats if asked.only is None or name in asked.only else 0
        if rounds := measure(name, work, checkouts, n, asked.rounds):
            measured[name] = rounds
    shown = tables(measured, checkouts)
    publish("before_after", shown, {"rounds": measured, "ratios": {s: ratios_of(checkouts[s]) for s in SIDES}})


if __name__ == "__main__":
    main()
