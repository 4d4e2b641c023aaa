"""Recall: who is covered in each frame, for every finder, with and without tracking, beside deface's.

    python benchmarks/recall.py [--finders mtcnn centerface people faces_and_people] [--clips breakdance pets_vtest ...]

Everyone found is hidden. The masks are the program's own (its default masker); a feathered rim counts as not covered.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import _deface
import cv2
import numpy as np
from _annotations import COVERED_SHARE, MIN_FACE_PX, AnnotatedClip, Recall, Target, face_clips, pedestrian_clip, recall
from _bench import WORK, Table, frames_of, publish
from _ours import RememberingFinder, people_config, replaced, search, single_sightings, tracks_of
from numpy.typing import NDArray

from pa_lib.cli.compose import build, config_folder, option_groups

DEFAULT = people_config()["finder"]["_target_"]


@dataclass
class Result:
    """One way of finding on all clips."""

    name: str
    by_clip: dict[str, Recall] = field(default_factory=dict)
    areas: list[float] = field(default_factory=list)
    ms_per_frame: float | None = None

    def total(self, clips: Iterable[AnnotatedClip]) -> Recall:
        """All the given clips together."""
        parts = [self.by_clip[clip.name] for clip in clips if clip.name in self.by_clip]
        count = sum(part.n_targets for part in parts)
        return Recall(
            count,
            sum(part.n_covered for part in parts),
            sum(part.n_between for part in parts),
            sum(part.mean_share * part.n_targets for part in parts) / max(1, count),
            min((part.worst_frame for part in parts), default=1.0),
        )


def measure(result: Result, clip: AnnotatedClip, masks: Iterator[NDArray[np.bool_]]) -> None:
    shares: dict[tuple[int, int], float] = {}
    areas = []
    for frame, mask in enumerate(masks):
        areas.append(float(mask.mean()))
        shares |= {(target.identity, frame): target.covered(mask) for target in clip.targets.get(frame, [])}
    result.by_clip[clip.name] = recall(clip.counted(), shares)
    result.areas.append(float(np.mean(areas)))


def with_finder(name: str, clips: list[AnnotatedClip]) -> tuple[Result, Result]:
    people = people_config(f"people/finder={name}")
    masker = build(people["masker"])
    start_score = build(people["tracker"]).start_score
    alone, tracked = Result(f"{name}, every frame, no tracking"), Result(f"{name}, tracked")
    seconds = n_searched = 0.0
    for clip in clips:
        finder = RememberingFinder(build(people["finder"]))
        each = search(clip.path, finder, people["search"], stride=1)
        seconds, n_searched = seconds + finder.seconds, n_searched + finder.n_searched
        measure(alone, clip, replaced(clip, single_sightings(each, start_score), masker))
        sparse = search(clip.path, finder, people["search"])
        measure(tracked, clip, replaced(clip, tracks_of(sparse, clip.path, people), masker))
        told = [f"{one.by_clip[clip.name].n_covered}/{one.by_clip[clip.name].n_targets}" for one in (alone, tracked)]
        print(f"{name}: {clip.name}: alone {told[0]}, tracked {told[1]}", flush=True)
    alone.ms_per_frame = tracked.ms_per_frame = 1000 * seconds / max(1, n_searched)
    return alone, tracked


def with_deface(clips: list[AnnotatedClip]) -> Result:
    result = Result("deface 1.5.0, full resolution")
    for clip in clips:
        folder = WORK / "frames" / clip.name
        folder.mkdir(parents=True, exist_ok=True)
        for frame, rgb in enumerate(frames_of(clip.path)):
            height, width = rgb.shape[:2]
            cv2.imwrite(str(folder / f"{frame:05d}.png"), rgb[:, :, ::-1])
        found = _deface.boxes(sorted(folder.iterdir()))
        measure(result, clip, (_deface.replaced(boxes, height, width) for boxes in found))
    return result


def summary(results: list[Result], clips: list[AnnotatedClip], what: str, is_by: str) -> Table:
    rows = []
    for result in results:
        total = result.total(clips)
        if total.n_targets:
            rows.append(
                (result.name, total.share, f"{total.n_covered}/{total.n_targets}", total.n_between, total.mean_share,
                 100 * float(np.mean(result.areas)), result.ms_per_frame)
            )  # fmt: skip
    head = (
        "found by",
        "recall",
        "covered",
        "missed between two covered",
        "mean share",
        "% of the picture",
        "ms a search",
    )
    return Table(f"{what}: share covered, over all frames of all clips", head, rows, [is_by])


def sizes(clips: list[AnnotatedClip]) -> list[Target]:
    return [target for clip in clips for target in clip.counted()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = option_groups(config_folder())["people/finder"]
    parser.add_argument("--finders", nargs="+", default=names, choices=names)
    parser.add_argument("--clips", nargs="+")
    asked = parser.parse_args()
    faces = [clip for clip in face_clips() if not asked.clips or clip.name in asked.clips]
    walkers = [clip for clip in (pedestrian_clip(),) if not asked.clips or clip.name in asked.clips]
    results = [result for name in asked.finders for result in with_finder(name, [*faces, *walkers])]
    results.append(with_deface(faces))
    default = next((r for r in results if r.name.endswith("tracked") and is_default(r.name.split(",")[0])), None)
    tables = [
        summary(
            results,
            faces,
            f"Faces of {MIN_FACE_PX} px and more",
            f"Covered: at least {COVERED_SHARE:.0%} of the ellipse in the face's box wholly replaced. "
            f"{len(sizes(faces))} annotated faces in {sum(c.n_frames for c in faces)} frames.",
        ),
        summary(
            [r for r in results if "deface" not in r.name],
            walkers,
            "Pedestrians",
            f"Covered: at least {COVERED_SHARE:.0%} of the pedestrian's own pixels. "
            "Finders of faces alone are listed to show what they do not do.",
        ),
        Table(
            "Face recall by clip",
            ("clip", "faces", *(r.name for r in results if not r.name.endswith("no tracking"))),
            [
                (
                    c.name,
                    len(list(c.counted())),
                    *(r.by_clip[c.name].share for r in results if not r.name.endswith("no tracking")),
                )
                for c in faces
            ],
        ),
    ]
    goals = {} if default is None else {"none_missed_between": default.total([*faces, *walkers]).n_between == 0}
    raw = {result.name: {clip: vars(value) for clip, value in result.by_clip.items()} for result in results}
    publish("recall", tables, {"goals": goals, "by_clip": raw})


def is_default(finder: str) -> bool:
    return bool(people_config(f"people/finder={finder}")["finder"]["_target_"] == DEFAULT)


if __name__ == "__main__":
    main()
