"""pa_lib's parts as the program would build them, and the pixels that its masks replace."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _annotations import AnnotatedClip
from _bench import frames_of
from numpy.typing import NDArray

from pa_lib.cli.compose import build, compose
from pa_lib.contracts import Detection, Presence, Track
from pa_lib.people import AbstractFinder, Findings, MaskRequest, find_people
from pa_lib.video import probe, read_frames

REPLACED = 0.99  # a feathered rim still shows the original: only what is wholly replaced counts


def people_config(*settings: str) -> dict[str, Any]:
    """The `people` node of the program's config with the given settings."""
    people: dict[str, Any] = compose("anonymize", ["input=none", *settings])["people"]
    return people


class RememberingFinder(AbstractFinder):
    """A finder that sees every picture once, so that one search serves with and without tracking; it keeps the time."""

    def __init__(self, finder: AbstractFinder) -> None:
        self.finder = finder
        self.seconds = 0.0
        self.n_searched = 0
        self._known: dict[int, list[Detection]] = {}

    def find(self, images: Sequence[NDArray[np.uint8]]) -> list[list[Detection]]:
        """The finder's own answer."""
        answers = []
        for image in images:
            key = hash(image.tobytes())
            if key not in self._known:
                start = time.perf_counter()
                self._known[key] = self.finder.find([image])[0]
                self.seconds += time.perf_counter() - start
                self.n_searched += 1
            answers.append(self._known[key])
        return answers

    def release(self) -> None:
        """The finder's own."""
        self.finder.release()


def search(path: Path, finder: AbstractFinder, settings: dict[str, Any], **changed: Any) -> Findings:
    """One search of a file, with the program's settings but for those `changed`."""
    return find_people(read_frames(probe(path)), finder, **{**settings, **changed})


def tracks_of(findings: Findings, path: Path, people: dict[str, Any]) -> list[Track]:
    """The tracks that the program would make."""
    info = probe(path)
    return list(build(people["tracker"]).track(findings, info.width, info.height))


def single_sightings(findings: Findings, min_score: float) -> list[Track]:
    """Every detection that would start a track as a track of one frame: what there is without tracking."""
    tracks = []
    for frame, detections in findings.detections.items():
        for seen in detections:
            if seen.score >= min_score:
                points = None if seen.landmarks is None else seen.landmarks[None]
                where, score = np.array([seen.box], dtype=np.float32), np.array([seen.score], dtype=np.float32)
                tracks.append(Track(len(tracks) + 1, seen.kind, np.array([frame]), where, score, points))
    return tracks


def replaced(clip: AnnotatedClip, tracks: Sequence[Track], masker: Any) -> Iterator[NDArray[np.bool_]]:
    """The pixels that hiding every track replaces, shape h w, frame by frame."""

    def everybody(frame: int) -> tuple[list[Any], list[Any]]:
        return [Presence(track.track_id, track, row) for track in tracks if (row := track.row(frame)) is not None], []

    yield from _replaced(clip, everybody, masker)


def replaced_from_tracks_file(path: Path, clip: AnnotatedClip, *settings: str) -> Iterator[NDArray[np.bool_]]:
    """The pixels that a finished run replaced, from the tracks file it left."""
    from pa_lib.people.tracks.record import read_tracks

    yield from _replaced(clip, read_tracks(path).present_at, build(people_config(*settings)["masker"]))


def _replaced(clip: AnnotatedClip, present_at: Any, masker: Any) -> Iterator[NDArray[np.bool_]]:
    for frame, image in enumerate(frames_of(clip.path)):
        hidden, kept = present_at(frame)
        mask = np.zeros(image.shape[:2], dtype=bool)
        for part in masker.mask(MaskRequest(image, hidden, kept)).masks:
            rows, columns = part.alpha.shape
            mask[part.top : part.top + rows, part.left : part.left + columns] |= part.alpha.numpy() >= REPLACED
        yield mask
