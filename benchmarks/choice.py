"""Choice: is the dancer kept and the crowd hidden, and are equals all hidden? Measured on the output's pixels.

    python benchmarks/choice.py

The clips are encoded without loss, and so is the output: a pixel that differs was replaced, one that does not was not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from _annotations import AnnotatedClip, Recall, face_clips, recall
from _bench import WORK, Table, frames_of, pa_anonymize, publish, run_child, shared_data, write_clip
from numpy.typing import NDArray

from pa_lib.people.tracks.record import TracksRecord, read_tracks

KEPT_SHARE = 0.9
FOUND_SHARE = 0.5
CROWDS, EQUALS = ("breakdance", "dance-twirl"), ("intel_walking", "intel_walking_pause")
# noise: no replaced pixel keeps its value but by rare chance
LOSSLESS = (
    "people/chooser=keep_subject",
    "module=conventional",
    "module.method=noise",
    "write.codec=h264",
    "write.crf=0",
)


@dataclass(frozen=True)
class Choice:
    """What became of one clip."""

    others: Recall
    found: list[float]  # of the subject's pixels in each frame, the share in the box of whoever was decided to be kept
    kept: list[float]  # the share that was left untouched
    summary: str


def planes(path: Path) -> Iterator[NDArray[np.uint8]]:
    """Brightness and both colour planes of every frame, at full size, shape 3 h w."""
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            stacked = frame.reformat(format="yuv420p").to_ndarray()
            height, width = frame.height, frame.width
            colours = stacked[height:].reshape(2, height // 2, width // 2)
            yield np.stack([stacked[:height], *(np.repeat(np.repeat(c, 2, axis=0), 2, axis=1) for c in colours)])


def subject_masks(clip: AnnotatedClip) -> list[NDArray[np.bool_]]:
    folder = shared_data() / "clips_with_masks" / f"davis_{clip.name}" / "masks"
    return [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) > 127 for path in sorted(folder.iterdir())]


def in_kept_boxes(record: TracksRecord, frame: int, subject: NDArray[np.bool_]) -> float:
    """The share of the subject's pixels that the boxes of whoever is kept hold."""
    inside = np.zeros_like(subject)
    for _, track, row in record.present_at(frame)[1]:
        x0, y0, x1, y1 = (max(0, round(float(side))) for side in track.boxes[row])
        inside[y0:y1, x0:x1] = True
    return float(inside[subject].mean())


def run(clip: AnnotatedClip) -> Choice:
    source = write_clip(WORK / f"choice_{clip.name}.mp4", frames_of(clip.path), crf=0)
    output = WORK / f"choice_{clip.name}_out.mp4"
    told = run_child(pa_anonymize(f"input={source}", f"output={output}", *LOSSLESS)).output
    subject = subject_masks(clip) if clip.name in CROWDS else None
    record = read_tracks(output.with_suffix(".tracks.json"))
    shares: dict[tuple[int, int], float] = {}
    found, kept = [], []
    for frame, (before, after) in enumerate(zip(planes(source), planes(output), strict=True)):
        changed = (before != after).any(axis=0)
        # a hole of one pixel is noise that met the old value by chance, not something left to see
        changed = cv2.morphologyEx(changed.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)).astype(bool)
        shares |= {(target.identity, frame): target.covered(changed) for target in clip.targets[frame]}
        if subject is not None:
            found.append(in_kept_boxes(record, frame, subject[frame]))
            kept.append(1 - float(changed[subject[frame]].mean()))
    return Choice(
        recall(clip.counted(), shares), found, kept, next((line for line in told.splitlines() if "kept" in line), "")
    )


def _crowd_row(name: str, choice: Choice) -> tuple[object, ...]:
    return (
        name,
        f"{sum(share >= FOUND_SHARE for share in choice.found)}/{len(choice.found)}",
        float(np.mean(choice.kept)),
        min(choice.kept),
        sum(share < KEPT_SHARE for share in choice.kept),
        f"{choice.others.n_covered}/{choice.others.n_targets}",
        choice.others.share,
    )


def main() -> None:
    clips = {clip.name: clip for clip in face_clips()}
    done = {}
    for name in (*CROWDS, *EQUALS):
        done[name] = run(clips[name])
        print(f"{name}: {done[name].summary}", flush=True)
    crowd = Table(
        "keep_subject with a crowd behind a dancer (DAVIS): the dancer's mask and the annotated faces of the others",
        (
            "clip",
            "frames in which the dancer is the one kept",
            "dancer's pixels untouched",
            "worst frame",
            f"frames below {KEPT_SHARE:g}",
            "others' faces hidden",
            "recall",
        ),
        [_crowd_row(name, done[name]) for name in CROWDS],
        [
            f"Kept: the boxes of the person decided to be kept hold {FOUND_SHARE:.0%} of the dancer's pixels and more.",
            "The dancer's pixels that change are those where the mask of a person behind reaches over.",
        ],
    )
    equal = Table(
        "keep_subject with equals side by side: everyone must be hidden",
        ("clip", "faces hidden", "recall"),
        [(n, f"{done[n].others.n_covered}/{done[n].others.n_targets}", done[n].others.share) for n in EQUALS],
    )
    goals = {
        "subject_kept_in_every_frame": all(min(done[name].found) >= FOUND_SHARE for name in CROWDS),
        "subject_untouched_in_every_frame": all(min(done[name].kept) >= KEPT_SHARE for name in CROWDS),
        "crowd_hidden": all(done[name].others.share == 1 for name in CROWDS),
        "equals_hidden": all(done[name].others.share == 1 for name in EQUALS),
    }
    raw = {
        name: {"found": choice.found, "kept": choice.kept, "others": vars(choice.others), "told": choice.summary}
        for name, choice in done.items()
    }
    publish("choice", [crowd, equal], {"goals": goals, **raw})


if __name__ == "__main__":
    main()
