"""Choice: is the dancer kept and the crowd hidden, and are equals all hidden? Measured on the output's pixels.

    python benchmarks/choice.py

The clips are encoded without loss, and so is the output: a pixel that differs was replaced, one that does not was not.
Clips with a subject are hidden by both networks that outline people, with the same tracks.
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

KEPT_SHARE, MEAN_SHARE, WORST_SHARE = 0.9, 0.95, 0.85
FOUND_SHARE = 0.5
OUTLINES = ("selfie", "person")
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
    visible: list[
        float
    ]  # of what else is in the boxes of hidden bodies in each frame, the share that was left untouched
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


def in_hidden_boxes(record: TracksRecord, frame: int, subject: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The boxes of hidden bodies, without the subject's own pixels."""
    inside = np.zeros_like(subject)
    for _, track, row in record.present_at(frame)[0]:
        if track.kind == "body":
            x0, y0, x1, y1 = (max(0, round(float(side))) for side in track.boxes[row])
            inside[y0:y1, x0:x1] = True
    return inside & ~subject


def run(clip: AnnotatedClip, outline: str = OUTLINES[0], tracks: Path | None = None) -> Choice:
    """Hide the crowd of one clip, and measure it.

    Args:
        clip: The clip.
        outline: The network that outlines people.
        tracks: Tracks file of an earlier run, so that the same people are hidden; None searches.
    """
    source = write_clip(WORK / f"choice_{clip.name}.mp4", frames_of(clip.path), crf=0)
    output = WORK / f"choice_{clip.name}_{outline}.mp4"
    chosen = [f"people/outline={outline}", *([] if tracks is None else [f"tracks={tracks}"])]
    told = run_child(pa_anonymize(f"input={source}", f"output={output}", *LOSSLESS, *chosen)).output
    subject = subject_masks(clip) if clip.name in CROWDS else None
    record = read_tracks(output.with_suffix(".tracks.json"))
    shares: dict[tuple[int, int], float] = {}
    found, kept, visible = [], [], []
    for frame, (before, after) in enumerate(zip(planes(source), planes(output), strict=True)):
        changed = (before != after).any(axis=0)
        # a hole of one pixel is noise that met the old value by chance, not something left to see
        changed = cv2.morphologyEx(changed.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)).astype(bool)
        shares |= {(target.identity, frame): target.covered(changed) for target in clip.targets[frame]}
        if subject is not None:
            found.append(in_kept_boxes(record, frame, subject[frame]))
            kept.append(1 - float(changed[subject[frame]].mean()))
            others = in_hidden_boxes(record, frame, subject[frame])
            visible.append(1 - float(changed[others].mean()) if others.any() else 0.0)
    return Choice(
        recall(clip.counted(), shares),
        found,
        kept,
        visible,
        next((line for line in told.splitlines() if "kept" in line), ""),
    )


def _crowd_row(name: str, outline: str, choice: Choice) -> tuple[object, ...]:
    return (
        name,
        outline,
        f"{sum(share >= FOUND_SHARE for share in choice.found)}/{len(choice.found)}",
        float(np.mean(choice.kept)),
        min(choice.kept),
        sum(share < KEPT_SHARE for share in choice.kept),
        f"{choice.others.n_covered}/{choice.others.n_targets}",
        choice.others.share,
        float(np.mean(choice.visible)),
    )


def main() -> None:
    clips = {clip.name: clip for clip in face_clips()}
    done = {}
    for name in (*CROWDS, *EQUALS):
        tracks: Path | None = None
        for outline in OUTLINES if name in CROWDS else OUTLINES[:1]:
            done[name, outline] = run(clips[name], outline, tracks)
            tracks = tracks or WORK / f"choice_{name}_{outline}.tracks.json"
            print(f"{name}, {outline}: {done[name, outline].summary}", flush=True)
    crowd = Table(
        "keep_subject with a crowd behind a dancer (DAVIS): the dancer's mask and the annotated faces of the others",
        (
            "clip",
            "outlines by",
            "frames in which the dancer is the one kept",
            "dancer's pixels untouched",
            "worst frame",
            f"frames below {KEPT_SHARE:g}",
            "others' faces hidden",
            "recall",
            "visible in the boxes of hidden bodies",
        ),
        [_crowd_row(name, outline, done[name, outline]) for name in CROWDS for outline in OUTLINES],
        [
            f"Kept: the boxes of the person decided to be kept hold {FOUND_SHARE:.0%} of the dancer's pixels and more.",
            "The dancer's pixels that change are those where the mask of a person behind reaches over.",
            "Visible: what is neither replaced nor the dancer's; most of it is background.",
        ],
    )
    equal = Table(
        "keep_subject with equals side by side: everyone must be hidden",
        ("clip", "faces hidden", "recall"),
        [(n, f"{one.n_covered}/{one.n_targets}", one.share) for n in EQUALS for one in [done[n, OUTLINES[0]].others]],
    )
    crowds = [done[name, outline] for name in CROWDS for outline in OUTLINES]
    outlined = [done[name, "person"] for name in CROWDS]
    goals = {
        "subject_kept_in_every_frame": all(min(choice.found) >= FOUND_SHARE for choice in crowds),
        "subject_untouched": all(np.mean(choice.kept) >= MEAN_SHARE for choice in outlined),
        "subject_untouched_in_every_frame": all(min(choice.kept) >= WORST_SHARE for choice in outlined),
        "crowd_hidden": all(choice.others.share == 1 for choice in crowds),
        "no_more_visible": all(
            np.mean(done[name, "person"].visible) <= np.mean(done[name, "selfie"].visible) for name in CROWDS
        ),
        "equals_hidden": all(done[name, OUTLINES[0]].others.share == 1 for name in EQUALS),
    }
    raw = {
        f"{name} {outline}": {
            "found": choice.found,
            "kept": choice.kept,
            "visible": choice.visible,
            "others": vars(choice.others),
            "told": choice.summary,
        }
        for (name, outline), choice in done.items()
    }
    publish("choice", [crowd, equal], {"goals": goals, **raw})


if __name__ == "__main__":
    main()
