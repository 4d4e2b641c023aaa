"""Videos in, tracklets out: square crops that follow one person each, with masks, as `TrackletDataModule` reads them.

A video is cut whole or not at all: its tracklets are written under a hidden name and get their own, which is made of
the video's content, at the end. So an interrupted video is cut again, and a finished one is skipped.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pa_lib.contracts import PersonMask, Presence, ProgressCallback, Track, stored_kind
from pa_lib.errors import InputError, PaLibError, ProtectionError, SettingError
from pa_lib.functional.crops import resample, square_boxes
from pa_lib.people import AbstractFinder, AbstractMasker, AbstractTracker, Findings, MaskRequest
from pa_lib.pipeline.passes import SearchSettings, no_progress, read_reported, search_people
from pa_lib.renamed import migrated
from pa_lib.video import Limits, MadeFolders, StagedFolder, VideoInfo, fingerprint, probe

INDEX, VERSION = "tracklets.json", 1
_REACH = {"face": 1.6, "body": 1.1}  # what the maskers cover over the sides of a box, so that crops hold the masks
_NAME_LENGTH = 16  # characters of the video's sha256: among a billion videos, two share it with a probability of 0.03


@dataclass(frozen=True)
class CutSettings:
    """Settings of the cut: what is cut, and how.

    Args:
        side: Side length of the stored crops in pixels, >= 16.
        kind: Kind of the tracklets: ``body`` cuts around whole bodies, ``face`` around faces, ``all`` both.
            ``person`` is the old word for ``body``.
        expansion: Ratio of the side of a crop to the longer side of what is masked, >= 1; take that of the system that
            is trained.
        smoothing_s: Smoothing of centre and size of the crops over time: standard deviation of a Gaussian in seconds, 0
            to 10.
        min_px: Smallest median of the longer side of the box in pixels; smaller tracklets are left out.
        min_frames: Shortest tracklet in frames; shorter ones are left out.
        max_frames: Longest tracklet in frames; longer ones are divided.
        jpeg_quality: Quality of the stored frames, 1 to 100. Masks are stored without loss.

    Raises:
        SettingError: A value is out of its range.
    """

    side: int = 128
    kind: Literal["body", "face", "all", "person"] = "body"
    expansion: float = 1.25
    smoothing_s: float = 0.2
    min_px: float = 48.0
    min_frames: int = 8
    max_frames: int = 256
    jpeg_quality: int = 95

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", stored_kind(self.kind))
        if self.kind not in ("body", "face", "all"):
            raise SettingError(f"kind: got '{self.kind}', expected body, face or all")
        for name, low, high in (
            ("side", 16, 4096),
            ("expansion", 1, 10),
            ("smoothing_s", 0, 10),
            ("min_px", 0, 1e5),
            ("min_frames", 1, self.max_frames),
            ("jpeg_quality", 1, 100),
        ):
            if not low <= getattr(self, name) <= high:
                raise SettingError(f"{name}: got {getattr(self, name)}, expected {low:g} to {high:g}")


@dataclass(frozen=True)
class CutOutcome:
    """The result of one video.

    Args:
        folder: Folder of the tracklets of the video.
        n_tracklets: Number of tracklets.
        n_frames: Number of crops in all of them.
        is_old: Whether it had been cut before, so that no file was changed.
        n_dropped: Number of tracklets that were left out because a frame could not be masked.
        n_other_kind: Number of tracks that were left out because `CutSettings.kind` asks for another kind.
    """

    folder: Path
    n_tracklets: int
    n_frames: int
    is_old: bool = False
    n_dropped: int = 0
    n_other_kind: int = 0


@dataclass(frozen=True, eq=False)
class _Tracklet:
    """A stretch of one track, as it will be cut."""

    name: str
    person_id: int
    track: Track
    rows: slice
    squares: NDArray[np.float64]

    @property
    def first(self) -> int:
        return int(self.track.frames[self.rows.start])

    def entry(self, fps: float) -> dict[str, Any]:
        """Its place in the index."""
        return {
            "id": self.name,
            "files": f"{self.name}-",
            "person": self.person_id,
            "kind": self.track.kind,
            "first_frame": self.first,
            "fps": fps,
            "boxes": np.asarray(self.track.boxes[self.rows], np.float64).round(2).tolist(),
            "squares": self.squares.tolist(),
        }


class TrackletCutter:
    """Cuts tracklets out of whole files with parts that the caller brings.

    Args:
        finder: Finder of faces, bodies or both in single frames.
        tracker: Tracker that joins detections into tracks without gaps.
        masker: Masker that decides which pixels are the person's: take the one that will hide people later, so that
            training sees the same masks.
        settings: Settings of the cut.
        search: Density of the search.
        limits: Limits on what is decoded.
    """

    def __init__(
        self,
        finder: AbstractFinder,
        tracker: AbstractTracker,
        masker: AbstractMasker,
        *,
        settings: CutSettings | None = None,
        search: SearchSettings | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.finder = finder
        self.tracker = tracker
        self.masker = masker
        self.settings = settings or CutSettings()
        self.search = search or SearchSettings()
        self.limits = limits or Limits()

    def run(self, source: Path, output: Path, on_progress: ProgressCallback | None = None) -> CutOutcome:
        """Cut one video, unless it has been cut already.

        Args:
            source: A video, GIF, or folder of images.
            output: The folder of all tracklets; each video gets a folder in it.
            on_progress: Callback after every frame of both passes.

        Raises:
            PaLibError: The video cannot be read, the output not be written, or it was cut with other settings before.
        """
        on_progress = on_progress or no_progress
        info = probe(source, self.limits)
        sha256 = fingerprint(source)
        folder = output / sha256[:_NAME_LENGTH]
        if folder.exists():
            return self._old(folder)
        with MadeFolders(output):
            return self._new(info, sha256, folder, on_progress)

    def _new(self, info: VideoInfo, sha256: str, folder: Path, on_progress: ProgressCallback) -> CutOutcome:
        """Search a video, and cut it into a folder that appears at once."""
        found = search_people(info, self.finder, self.tracker, self.search, on_progress)
        self.finder.release()
        tracks = found.tracks
        owners = {track.track_id: person.person_id for person in found.people for track in person.tracks}
        planned = self._planned(tracks, owners, found.findings, info.fps)
        with StagedFolder(folder) as staged:
            dropped = self._cut(info, tracks, owners, planned, staged.path, on_progress) if planned else set()
            kept = [tracklet for tracklet in planned if tracklet.name not in dropped]
            index = {
                "version": VERSION,
                "video": sha256,
                "settings": asdict(self.settings),
                "tracklets": [tracklet.entry(info.fps) for tracklet in kept],
            }
            (staged.path / INDEX).write_text(json.dumps(index) + "\n", encoding="utf-8")
            staged.commit()
        n_frames = sum(len(tracklet.squares) for tracklet in kept)
        n_other_kind = sum(not self._is_kind(track) for track in tracks)
        return CutOutcome(folder, len(kept), n_frames, n_dropped=len(dropped), n_other_kind=n_other_kind)

    def _old(self, folder: Path) -> CutOutcome:
        """What an earlier run has left."""
        try:
            index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
            settings, tracklets = migrated(index["settings"], prefix=""), index["tracklets"]
            n_frames = sum(len(tracklet["boxes"]) for tracklet in tracklets)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{folder} is there but holds no tracklets; remove it, or choose another output"
            ) from error
        settings["kind"] = stored_kind(settings.get("kind", ""))
        if changed := [name for name, value in asdict(self.settings).items() if settings.get(name) != value]:
            old = ", ".join(f"{name}={settings.get(name)}" for name in changed)
            raise SettingError(f"{folder} was cut with {old}; set the same, or choose another output")
        return CutOutcome(folder, len(tracklets), n_frames, is_old=True)

    def _is_kind(self, track: Track) -> bool:
        return self.settings.kind in ("all", track.kind)

    def _planned(
        self, tracks: Sequence[Track], owners: dict[int, int], findings: Findings, fps: float
    ) -> list[_Tracklet]:
        """Stretches of tracks from the first detection to the last, without frames that could not be decoded."""
        settings = self.settings
        planned: list[_Tracklet] = []
        faulty = np.array(sorted(findings.faults), np.int64)
        for track in tracks:
            if not self._is_kind(track):
                continue
            seen = np.flatnonzero(np.isfinite(track.scores))
            rows = np.arange(seen[0], seen[-1] + 1)
            is_good = ~np.isin(track.frames[rows], faulty)
            for run in np.split(rows, np.flatnonzero(np.diff(is_good)) + 1):
                if not is_good[run[0] - rows[0]]:
                    continue
                n_parts = -(-len(run) // settings.max_frames)
                for part in np.array_split(run, n_parts):
                    boxes = track.boxes[part]
                    if len(part) < settings.min_frames:
                        continue
                    if np.median((boxes[:, 2:] - boxes[:, :2]).max(axis=1)) < settings.min_px:
                        continue
                    squares = square_boxes(
                        torch.from_numpy(boxes),
                        settings.expansion * _REACH[track.kind],
                        temporal_smoothing=settings.smoothing_s * fps,
                    )
                    name = f"{len(planned) + 1:04d}"
                    stretch = slice(int(part[0]), int(part[-1]) + 1)
                    planned.append(_Tracklet(name, owners[track.track_id], track, stretch, squares.numpy()))
        return planned

    def _cut(
        self,
        info: VideoInfo,
        tracks: Sequence[Track],
        owners: dict[int, int],
        planned: Sequence[_Tracklet],
        folder: Path,
        on_progress: ProgressCallback,
    ) -> set[str]:
        """Write crops and masks; returns the tracklets that had to be given up, whose files are removed."""
        starting = defaultdict(list)
        for tracklet in planned:
            starting[tracklet.first].append(tracklet)
        live: list[_Tracklet] = []
        dropped: set[str] = set()
        for frame in read_reported(info, "cutting", on_progress):
            live += starting.pop(frame.index, [])
            live = [t for t in live if frame.index < t.first + len(t.squares) and t.name not in dropped]
            if not live:
                continue
            people = {tracklet.person_id for tracklet in live}
            present = [
                Presence(owners[track.track_id], track, row)
                for track in tracks
                if owners[track.track_id] in people and (row := track.row(frame.index)) is not None
            ]
            try:
                if frame.picture is None:
                    raise ProtectionError(frame.fault)
                masks = self.masker.mask(MaskRequest(frame.picture.rgb(), present, frame=frame.index)).masks
            except (ValueError, ProtectionError):  # its people have a gap here, and no clip may have one
                dropped |= {tracklet.name for tracklet in live}
                continue
            picture = torch.from_numpy(frame.picture.rgb().transpose(2, 0, 1).copy())
            for tracklet in live:
                alpha = _alpha(tracklet, masks, info.height, info.width)
                self._write(tracklet, frame.index - tracklet.first, picture, alpha, folder)
        for name in dropped:
            for file in folder.glob(f"{name}-*"):
                file.unlink()
        return dropped

    def _write(self, tracklet: _Tracklet, at: int, picture: Tensor, alpha: Tensor, folder: Path) -> None:
        x0, y0, x1, y1 = tracklet.squares[at].tolist()
        side = self.settings.side
        crop = resample(picture, (x0, y0, x1, y1), side, side, has_black_bars=True)
        mask = resample(alpha[None], (x0, y0, x1, y1), side, side, has_black_bars=True)[0]
        bgr = crop.round().clamp(0, 255).byte().flip(0).permute(1, 2, 0).numpy()
        grey = (mask * 255).round().clamp(0, 255).byte().numpy()
        _save(folder / f"{tracklet.name}-{at:06d}.jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, self.settings.jpeg_quality])
        _save(folder / f"{tracklet.name}-{at:06d}.png", grey, [])


def _alpha(tracklet: _Tracklet, masks: Sequence[PersonMask], height: int, width: int) -> Tensor:
    """The person's own mask: of the face for a face, of everything for a body. Shape h w."""
    alpha = torch.zeros(height, width)
    for mask in masks:
        if mask.person_id == tracklet.person_id and tracklet.track.kind in ("body", mask.kind):
            rows, columns = mask.alpha.shape
            region = alpha[mask.top : mask.top + rows, mask.left : mask.left + columns]
            torch.maximum(region, mask.alpha, out=region)
    return alpha


def _save(path: Path, image: NDArray[Any], options: list[int]) -> None:
    is_made, data = cv2.imencode(path.suffix, image, options)
    if not is_made:
        raise PaLibError(f"output {path} could not be encoded")
    try:
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise PaLibError(f"output {path} cannot be written: {error.strerror}") from error
