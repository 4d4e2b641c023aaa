"""Rates: people on frames that were not searched, from 25 frames a second down to 1, and in a folder of photos.

    python benchmarks/rates.py [--rounds 3]

The same clips are played at other rates: with every n-th of their frames, and once faster than they were taken. Counted
are the people that the program's own detector sees on the frames that the search left out, and how many of them no
track covers; and the same for tracks from every other frame alone, which is how videos were searched before. What the
search costs is measured at 25 frames a second: whole commands, and those of `every_other.py`, in turns. Their runs are
kept in benchmarks/work: rounds may be measured at different times.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import before_after
import numpy as np
from _annotations import COVERED_SHARE, AnnotatedClip, Target, walking_clip_1080p
from _bench import HERE, RESULTS, WORK, Table, frames_of, pa_anonymize, publish, run_child, shared_data, write_clip
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
COST_FRAMES, MOST_RATIO = 48, 1.10
WAYS = ("every_other", "pa-anonymize")


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


@dataclass(frozen=True)
class Film:
    """What is anonymized at 25 frames a second, to measure what the search costs.

    Args:
        name: Name of the film.
        path: Its file.
        settings: Settings of the command.
        how: The settings in words.
    """

    name: str
    path: Path
    settings: tuple[str, ...] = (before_after.BLUR,)
    how: str = "default people, blur"


def films() -> list[Film]:
    shared = shared_data()
    sources = {"walking": shared / "clips" / "intel_face-demographics-walking.gif"} | {
        name: shared / "clips_with_masks" / f"davis_{name}" / "frames" for name in ("dance-twirl", "breakdance")
    }
    small = [
        Film(name, write_clip(FOLDER / f"{name}_{COST_FRAMES}.mp4", islice(frames_of(of), COST_FRAMES)))
        for name, of in sources.items()
    ]
    heads = (*before_after.HEADS, before_after.BLUR)
    return [Film("two who walk, 1080p", walking_clip_1080p(80).path, heads, "CenterFace, blur"), *small]


def rounds_of(film: Film, n_rounds: int) -> list[dict[str, dict[str, float]]]:
    """Runs of both, in turns, the first of a round in turns as well; kept ones count."""
    kept = FOLDER / f"cost_{film.path.stem}.json"
    rounds: list[dict[str, dict[str, float]]] = json.loads(kept.read_text()) if kept.is_file() else []
    ways = {"pa-anonymize": pa_anonymize(), "every_other": [sys.executable, str(HERE / "every_other.py")]}
    while len(rounds) < n_rounds:
        made = {}
        for way, command in list(ways.items())[:: 1 if len(rounds) % 2 == 0 else -1]:
            output = FOLDER / f"{film.path.stem}_{way}.mp4"
            done = run_child([*command, f"input={film.path}", f"output={output}", *film.settings])
            search = json.loads(output.with_suffix(".tracks.json").read_text())["search"]
            made[way] = {"cpu_s": done.cpu_s, "peak_mib": done.peak_mib, "n_searched": len(search["searched"])}
        rounds.append(made)
        kept.write_text(json.dumps(rounds, indent=1) + "\n")
        print(film.name, *(f"{way} {run['cpu_s']:.1f} s CPU" for way, run in made.items()), flush=True)
    return rounds


def cost(film: Film, rounds: list[dict[str, dict[str, float]]]) -> tuple[Any, ...]:
    """Medians, and the smallest and largest ratio of a round."""
    every, ours = ({key: statistics.median(of[way][key] for of in rounds) for key in rounds[0][way]} for way in WAYS)
    ratios = [of["pa-anonymize"]["cpu_s"] / of["every_other"]["cpu_s"] for of in rounds]
    return (
        film.name,
        film.how,
        round(every["n_searched"]),
        round(ours["n_searched"]),
        len(rounds),
        every["cpu_s"],
        ours["cpu_s"],
        statistics.median(ratios),
        f"{min(ratios):.2f} to {max(ratios):.2f}",
        every["peak_mib"],
        ours["peak_mib"],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="rounds for what the search costs, kept ones counted")
    parser.add_argument("--costs-only", action="store_true", help="keep the rows of the last result")
    asked = parser.parse_args()
    if asked.costs_only:
        done = [tuple(row) for row in json.loads((RESULTS / "rates.json").read_text())["values"]["rows"]]
    else:
        done = list(rows())
    measured = [(film, rounds_of(film, asked.rounds)) for film in films()]
    missing = [film.name for film, runs in measured if not runs]
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
    paid = [cost(film, runs) for film, runs in measured if runs]
    price = Table(
        "What the denser search costs at 25 frames a second: whole commands, processor seconds and peak memory",
        (
            "film", "settings", "searched: every other", "and where it takes it", "rounds",
            "CPU s, every other", "and where it takes it", "ratio", "of rounds", "MiB", "MiB",
        ),
        paid,
        [
            "Every other: the same program with `benchmarks/every_other.py`, which searches every other frame and the "
            "ends of shots, as it did before. In turns; medians, and the smallest and largest ratio of a round. Other "
            "work on the machine changes single runs by a tenth and more."
            + (f" Not measured yet: {' and '.join(missing)}." if missing else "")
        ],
    )  # fmt: skip
    goals = {
        "no_person_less_than_half_covered_at_any_rate": all(row[6] == 0 for row in done),
        "at_most_a_tenth_more_time_at_25_frames_a_second": not missing and all(row[7] <= MOST_RATIO for row in paid),
    }
    publish("rates", [table, price], {"goals": goals, "rows": done, "costs": paid})


if __name__ == "__main__":
    main()
