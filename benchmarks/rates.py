"""Rates: people on frames that were not searched, from 25 frames a second down to 1, and in a folder of photos.

    python benchmarks/rates.py [--before ../old [--rounds 5]]

The same clips are played at other rates: with every n-th of their frames, and once faster than they were taken. Counted
are the people that the program's own detector sees on the frames that the search left out, and how many of them no
track covers; and the same for tracks from every other frame alone, which is how videos were searched before. With
`--before`, a checkout of the library as it was, both run at 25 frames a second, in turns, for what the search costs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import before_after
import numpy as np
from _annotations import COVERED_SHARE, AnnotatedClip, Target, walking_clip_1080p
from _bench import HERE, WORK, Table, frames_of, publish, shared_data, write_clip
from _ours import RememberingFinder, people_config, replaced
from PIL import Image

from pa_lib.cli.compose import build
from pa_lib.contracts import Detection, Track
from pa_lib.people import Findings
from pa_lib.pipeline import SearchSettings
from pa_lib.pipeline.passes import search_people
from pa_lib.video import probe, read_frames

FOLDER = WORK / "rates"
PEOPLE = people_config("people/masker=box")
TRACKER = build(PEOPLE["tracker"])
MOST_FRAMES = 400


@dataclass(frozen=True)
class Played:
    """A clip at a rate.

    Args:
        name: Name of the clip.
        source: Video, or folder of its frames.
        step: Of so many of its frames one is taken.
        fps: Rate at which these are played, in frames per second; None: a folder of pictures.
        note: What is odd about it.
    """

    name: str
    source: Path
    step: int
    fps: int | None
    note: str = ""

    @property
    def path(self) -> Path:
        """The file or folder, made once; without loss, so that the detector sees the same frames at every rate."""
        made = FOLDER / f"{self.name}_{self.step}_{self.fps}"
        frames = islice(frames_of(self.source), 0, MOST_FRAMES, self.step)
        if self.fps is not None:
            return write_clip(made.with_suffix(".mp4"), frames, fps=self.fps, crf=0)
        if not made.exists():
            made.mkdir(parents=True)
            for index, rgb in enumerate(frames):
                Image.fromarray(rgb).save(made / f"{index:04d}.png", compress_level=1)
        return made


def plays() -> list[Played]:
    shared = shared_data()
    pets, dance = shared / "clips" / "pets_vtest_480x360_10fps.mp4", shared / "clips_with_masks"
    twirl, breakdance = (dance / f"davis_{name}" / "frames" for name in ("dance-twirl", "breakdance"))
    return [
        Played("pedestrians", pets, 1, 10),
        Played("pedestrians", pets, 2, 5),
        Played("pedestrians", pets, 5, 2),
        Played("pedestrians", pets, 10, 1),
        Played("pedestrians", pets, 10, None, "photos"),
        Played("pedestrians", pets, 10, 25, "1 a second, played faster"),
        Played("dance-twirl", twirl, 1, 25),
        Played("dance-twirl", twirl, 2, 12),
        Played("dance-twirl", twirl, 5, 5),
        Played("dance-twirl", twirl, 5, None, "photos"),
        Played("breakdance", breakdance, 1, 25),
        Played("a face in one frame", shared / "field" / "oneframe_face_only_in_frame_7.mp4", 1, 25),
    ]


def bare(findings: Findings, seen: dict[int, list[Detection]], path: Path) -> tuple[int, int, int]:
    """Of the people that a detector sees on the frames that were not searched: all, not covered, not even half."""
    info = probe(path)
    tracks: Sequence[Track] = TRACKER.track(findings, info.width, info.height)
    clip = AnnotatedClip(path.stem, path, findings.n_frames, {})
    shares = []
    for index, mask in enumerate(replaced(clip, tracks, build(PEOPLE["masker"]))):
        if index not in findings.detections:
            shares += [target.covered(mask) for target in targets(seen[index], index, mask.shape)]
    return len(shares), int(np.sum(np.less(shares, COVERED_SHARE))), int(np.sum(np.less(shares, 0.5)))


def targets(seen: Sequence[Detection], frame: int, size: tuple[int, ...]) -> Iterator[Target]:
    """Everyone that the tracker would follow, as far as they are in the picture."""
    for number, one in enumerate(seen):
        x0, y0, x1, y1 = (round(side) for side in one.box)
        box = max(0, x0), max(0, y0), min(size[1], x1), min(size[0], y1)
        if one.score >= TRACKER.start_score and box[2] > box[0] and box[3] > box[1]:
            yield Target(number, frame, box)


def rows() -> Iterator[tuple[Any, ...]]:
    finder = RememberingFinder(build(PEOPLE["finder"]))
    for played in plays():
        path = played.path
        findings = search_people(probe(path), finder, TRACKER, SearchSettings(**PEOPLE["search"])).findings
        pictures = ((frame.index, frame.picture) for frame in read_frames(probe(path)))
        seen = {index: finder.find([picture.rgb()])[0] for index, picture in pictures if picture}
        chosen = {*range(0, findings.n_frames, 2), findings.n_frames - 1}
        other = replace(findings, detections={index: tuple(seen[index]) for index in sorted(chosen)})
        row = (
            played.name,
            played.note or f"{played.fps} frames/s",
            findings.n_frames,
            len(findings.detections),
            *bare(findings, seen, path),
            *bare(other, seen, path),
        )
        print(*row, flush=True)
        yield row


def costs(before: Path, rounds: int) -> Table:
    """Both checkouts at 25 frames a second, in turns."""
    large = walking_clip_1080p(80).path
    dances = {
        name: write_clip(
            FOLDER / f"{name}_25.mp4", frames_of(shared_data() / "clips_with_masks" / f"davis_{name}" / "frames")
        )
        for name in ("dance-twirl", "breakdance")
    }
    works = {
        "80 frames of 1080p, two who walk: CenterFace, blur": before_after.Work(
            "pa-anonymize", (f"input={large}", *before_after.HEADS, before_after.BLUR), "rates_large.mp4"
        ),
        **{
            f"{name}, a crowd and a camera that moves: default": before_after.Work(
                "pa-anonymize", (f"input={path}", "device=cpu"), f"rates_{name}.mp4"
            )
            for name, path in dances.items()
        },
    }
    checkouts = {"before": before.resolve(), "after": HERE.parent}
    measured = {name: before_after.measure(name, work, checkouts, rounds, rounds) for name, work in works.items()}
    return Table(
        "What the denser search costs at 25 frames a second: whole commands, processor seconds and peak memory",
        ("command", "rounds", "CPU s before", "after", "after/before", "of rounds", "MiB before", "after"),
        [before_after.row_of(name, done)[:8] for name, done in measured.items()],
        [
            "Before: every other frame was searched and no other. Both in one environment, in turns; medians, and the "
            "smallest and largest ratio of a round."
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--before", type=Path, help="a checkout of the library as it was, to measure what it costs")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    if asked.before and not (asked.before / "src" / "pa_lib").is_dir():
        sys.exit(f"no library in {asked.before}: expected a checkout with src/pa_lib")
    done = list(rows())
    table = Table(
        "Frames that the search leaves out, by rate: people that the default detector sees there",
        (
            "clip", "played at", "frames", "searched",
            "people on the others", "not covered", "not even half",
            "every other frame alone: people on the others", "not covered", "not even half",
        ),
        done,
        [
            f"Not covered: less than {COVERED_SHARE:.0%} of the ellipse in the detector's box under "
            "`people/masker=box`. People are detections from the score on from which the tracker follows one, faces "
            "and bodies each; weak ones in a crowd are often something else. Where every frame was searched, there are "
            "no others."
        ],
    )  # fmt: skip
    tables = [table] + ([costs(asked.before, asked.rounds)] if asked.before else [])
    goals = {"no_person_less_than_half_covered_at_any_rate": all(row[6] == 0 for row in done)}
    publish("rates", tables, {"goals": goals, "rows": done})


if __name__ == "__main__":
    main()
