"""Tracklets: square crops that follow one person through a video, with masks, as `pa-tracklets` cuts them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Unpack, cast

import torch
from pydantic import BaseModel, Field, ValidationError
from torch import Tensor

from pa_lib.contracts import Kind, stored_kind
from pa_lib.data.augment import ClipAugmentation
from pa_lib.data.base import AbstractClipSet, AbstractDataModule, Loading, Sample, held_out
from pa_lib.data.index import FileTree
from pa_lib.data.sampling import Draw, clip_generator
from pa_lib.errors import DamagedInputError, InputError, SettingError
from pa_lib.functional.crops import resample

INDEX = "tracklets.json"
_FRAME_SUFFIXES = (".jpg", ".frame.png")


@dataclass(frozen=True)
class Tracklet:
    """One entry of an index.

    Args:
        files: Common beginning of the names of its files, from the top of the data on.
        suffix: Common ending of the names of its frames.
        video: Name of the folder of its video.
        person: Name of the person, unique within the video.
        kind: Kind of what was followed: ``body`` or ``face``.
        first_frame: Index of its first frame in the video.
        fps: Frame rate in frames per second.
        n_frames: Number of frames.
    """

    files: str
    suffix: str
    video: str
    person: str
    kind: str
    first_frame: int
    fps: float
    n_frames: int


@dataclass(frozen=True)
class _Window:
    """One clip: a stretch of a tracklet."""

    number: int
    tracklet: Tracklet
    first: int
    identity: int


class TrackletClipSet(AbstractClipSet):
    """The clips of `TrackletDataModule` on one side of the split.

    Args:
        tree: The folder or zip with the tracklets.
        windows: The clips.
        n_frames: Number of frames of a clip.
        side: Side length of the square frames in pixels.
        seed: Seed of the augmentation.
        augmentation: Augmentation of the clips; None = none.
    """

    def __init__(
        self,
        tree: FileTree,
        windows: Sequence[_Window],
        *,
        n_frames: int,
        side: int,
        seed: int,
        augmentation: ClipAugmentation | None = None,
    ) -> None:
        self.tree = tree
        self.windows = windows
        self.n_frames = n_frames
        self.side = side
        self.seed = seed
        self.augmentation = augmentation
        self.identities = [window.identity for window in windows]

    def __len__(self) -> int:
        return len(self.windows)

    def sample(self, draw: Draw) -> Sample:
        """One clip."""
        window = self.windows[draw.index]
        at = range(window.first, window.first + self.n_frames)
        frames = [self._resized(self._frame(window.tracklet, i)) for i in at]
        masks = [self._resized(self.tree.mask(f"{window.tracklet.files}{i:06d}.png")[None]) for i in at]
        sample = Sample(torch.stack(frames), torch.stack(masks), clip_id=window.number, identity=window.identity)
        if self.augmentation is None:
            return sample
        return self.augmentation(sample, clip_generator(self.seed, Draw(window.number, draw.epoch)))

    def _frame(self, tracklet: Tracklet, at: int) -> Tensor:
        return self.tree.picture(f"{tracklet.files}{at:06d}{tracklet.suffix}").float() / 255

    def _resized(self, planes: Tensor) -> Tensor:
        if planes.shape[-2] != planes.shape[-1]:
            size = " x ".join(map(str, planes.shape[-2:]))
            raise DamagedInputError(f"data {self.tree.path}: a crop of {size} px, expected a square")
        if planes.shape[-1] == self.side:
            return planes
        side = float(planes.shape[-1])
        return resample(planes, (0.0, 0.0, side, side), self.side, self.side).clamp(0, 1)


class TrackletDataModule(AbstractDataModule):
    """Clips of people cut out of videos.

    Layout, in a folder or in a zip of it: a folder for each video, and in it ::

        tracklets.json    {"version": 1, "video": sha256, "tracklets": [{...}, ...]}, each tracklet with
          id              unique within the video
          files           the beginning of the names of its files: "0001-", or "0001/" for a folder of its own
          person          the person's name, unique within the video: several tracklets may show one person
          kind            body or face: what was followed
          first_frame     index in the video of the first frame
          fps             frames per second
          boxes           [x0, y0, x1, y1] px in the video, one for each frame, without gaps in time
        0001-000000.jpg   the first crop, square; the numbers count from 0. Without loss: 0001-000000.frame.png
        0001-000000.png   its mask, grey, 255 = the person

    Clips have `n_frames` frames and begin every `stride` frames. Tracklets that are shorter than a clip are passed
    over. Whole videos are held out, or, of a single video, whole people.

    Args:
        path: The folder or the zip with the tracklets.
        n_frames: Number of frames of a clip, >= 1.
        stride: Number of frames from the beginning of a clip to that of the next one of its tracklet, >= 1; None =
            `n_frames`.
        side: Side length of the square frames in pixels, >= 16.
        kind: Kind of the tracklets that are used, ``body`` or ``face``; None = all. ``person`` is
            the old word for ``body``.
        augmentation: Augmentation of the training clips, None = none.
        loading: Further arguments of `AbstractDataModule`. `val_share` is a share of the videos (of the people of a
            single video).
    """

    def __init__(
        self,
        path: str | Path,
        *,
        n_frames: int = 8,
        stride: int | None = None,
        side: int = 64,
        kind: Kind | Literal["person"] | None = None,
        augmentation: ClipAugmentation | None = None,
        **loading: Unpack[Loading],
    ) -> None:
        super().__init__(**loading)
        if n_frames < 1 or side < 16 or (stride is not None and stride < 1):
            raise SettingError(
                f"tracklets: n_frames {n_frames}, stride {stride}, side {side}: expected at least 1, 1 and 16"
            )
        used = cast("Kind | None", kind and stored_kind(kind))
        if used not in (None, "body", "face"):
            raise SettingError(f"tracklets: kind is '{used}', expected body, face or nothing")
        self.path = path
        self.n_frames = n_frames
        self.stride = n_frames if stride is None else stride
        self.side = side
        self.kind = used
        self.augmentation = augmentation

    def make_sets(self) -> tuple[TrackletClipSet, TrackletClipSet | None]:
        """Read the indices and divide the clips.

        Raises:
            InputError: There is nothing to read, or an index is wrong; the message names it and the tracklet.
        """
        tree = FileTree(self.path)
        tracklets = [t for t in read_tracklets(tree) if self.kind in (None, t.kind)]
        long_enough = [t for t in tracklets if t.n_frames >= self.n_frames]
        if not long_enough:
            raise InputError(
                f"data {tree.path}: none of {len(tracklets)} tracklets"
                f"{f' of kind {self.kind}' if self.kind else ''} has {self.n_frames} frames; cut more or set n_frames"
            )
        people = [(tracklet.video, tracklet.person) for tracklet in long_enough]
        identities = {person: number for number, person in enumerate(sorted(set(people)))}
        is_one = len({video for video, _ in people}) == 1
        groups = [person if is_one else video for video, person in people]
        out = held_out(groups, self.val_share, self.split_seed)
        sides: tuple[list[_Window], list[_Window]] = ([], [])
        number = 0
        for tracklet, person, group in zip(long_enough, people, groups, strict=True):
            for first in range(0, tracklet.n_frames - self.n_frames + 1, self.stride):
                sides[group in out].append(_Window(number, tracklet, first, identities[person]))
                number += 1
        train, val = (
            TrackletClipSet(
                tree,
                windows,
                n_frames=self.n_frames,
                side=self.side,
                seed=self.split_seed if is_val else self.seed,
                augmentation=None if is_val else self.augmentation,
            )
            for is_val, windows in enumerate(sides)
        )
        return train, val if len(val) else None


class _Entry(BaseModel):
    """One tracklet as its index describes it."""

    id: int | str
    files: str
    person: int | str
    kind: str
    first_frame: int
    fps: float
    boxes: list[tuple[float, float, float, float]] = Field(min_length=1)


class _Version(BaseModel):
    version: int


class _Index(_Version):
    tracklets: list[_Entry]


def read_tracklets(tree: FileTree) -> list[Tracklet]:
    """The tracklets of all videos, in order of the videos' names.

    Raises:
        InputError: There is no index, or one is wrong, or a tracklet's first or last file is missing.
    """
    found = tree.in_folders(INDEX)
    if not found:
        raise InputError(f"data {tree.path}: no folder in it holds a {INDEX}; cut tracklets with pa-tracklets")
    tracklets = []
    for name in found:
        for entry in _index(tree.read(name), f"{tree.path}/{name}").tracklets:
            tracklets.append(_tracklet(tree, name.removesuffix(f"/{INDEX}"), entry))
    return tracklets


def _index(content: bytes, where: str) -> _Index:
    try:
        version = _Version.model_validate_json(content).version
        if version != 1:
            raise InputError(f"{where}: version {version}, expected 1; cut the tracklets again")
        return _Index.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{where}: expected an index of tracklets as JSON; {place + ': ' if place else ''}{first['msg']}"
        ) from error


def _tracklet(tree: FileTree, folder: str, entry: _Entry) -> Tracklet:
    n_frames = len(entry.boxes)
    prefix = f"{folder}/{entry.files}"
    suffix = next((s for s in _FRAME_SUFFIXES if tree.has(f"{prefix}{0:06d}{s}")), _FRAME_SUFFIXES[0])
    for at in {0, n_frames - 1}:
        for file in (f"{prefix}{at:06d}{suffix}", f"{prefix}{at:06d}.png"):
            if not tree.has(file):
                raise InputError(f"{tree.path}/{folder}/{INDEX}, tracklet {entry.id}: there is no {file}")
    return Tracklet(
        prefix, suffix, folder, str(entry.person), stored_kind(entry.kind), entry.first_frame, entry.fps, n_frames
    )
