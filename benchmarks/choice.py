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

KEPT_SHARE = 0.9
CROWDS, EQUALS = ("breakdance", "dance-twirl"), ("intel_walking", "intel_walking_pause")
# noise: no replaced pixel keeps its value but by rare chance
LOSSLESS = ("people/chooser=keep_subject", "module.method=noise", "write.codec=h264", "write.crf=0")


@dataclass(frozen=True)
class Choice:
    """What became of one clip."""

    others: Recall
    kept: list[float]
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


def run(clip: AnnotatedClip) -> Choice:
    source = write_clip(WORK / f"choice_{clip.name}.mp4", frames_of(clip.path), crf=0)
    output = WORK / f"choice_{clip.name}_out.mp4"
    told = run_child(pa_anonymize(f"input={source}", f"output={output}", *LOSSLESS)).output
    subject = subject_masks(clip) if clip.name in CROWDS else None
    shares: dict[tuple[int, int], float] = {}
    kept = []
    for frame, (before, after) in enumerate(zip(planes(source), planes(output), strict=True)):
        changed = (before != after).any(axis=0)
        # a hole of one pixel is noise that met the old value by chance, not something left to see
        changed = cv2.morphologyEx(changed.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)).astype(bool)
        shares |= {(target.identity, frame): target.covered(changed) for target in clip.targets[frame]}
        if subject is not None:
            kept.append(1 - float(changed[subject[frame]].mean()))
    return Choice(
        recall(clip.counted(), shares), kept, next((line for line in told.splitlines() if "kept" in line), "")
    )


def main() -> None:
    clips = {clip.name: clip for clip in face_clips()}
    done = {}
    for name in (*CROWDS, *EQUALS):
        done[name] = run(clips[name])
        print(f"{name}: {done[name].summary}", flush=True)
    crowd = Table(
        "keep_subject with a crowd behind a dancer (DAVIS): the dancer's mask and the annotated faces of the others",
        ("clip", "dancer untouched", "worst frame", f"frames below {KEPT_SHARE:g}", "others' faces hidden", "recall"),
        [
            (n, float(np.mean(done[n].kept)), min(done[n].kept), sum(k < KEPT_SHARE for k in done[n].kept),
             f"{done[n].others.n_covered}/{done[n].others.n_targets}", done[n].others.share)
            for n in CROWDS
        ],
        ["The dancer's pixels that change are those where the mask of somebody behind reaches over."],
    )  # fmt: skip
    equal = Table(
        "keep_subject with equals side by side: everybody must be hidden",
        ("clip", "faces hidden", "recall"),
        [(n, f"{done[n].others.n_covered}/{done[n].others.n_targets}", done[n].others.share) for n in EQUALS],
    )
    goals = {
        "subject_kept": all(min(done[name].kept) >= KEPT_SHARE for name in CROWDS),
        "crowd_hidden": all(done[name].others.share == 1 for name in CROWDS),
        "equals_hidden": all(done[name].others.share == 1 for name in EQUALS),
    }
    raw = {
        name: {"kept": choice.kept, "others": vars(choice.others), "told": choice.summary}
        for name, choice in done.items()
    }
    publish("choice", [crowd, equal], {"goals": goals, **raw})


if __name__ == "__main__":
    main()
