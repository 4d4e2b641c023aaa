"""Portraits: images with an index of face boxes. Stills become clips by simulated motion of a camera and of light."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from pa_lib.contracts import Box
from pa_lib.data.augment import ClipAugmentation
from pa_lib.data.base import AbstractClipSet, AbstractDataModule, Loading, Sample, held_out
from pa_lib.data.index import FileTree, Row, read_table
from pa_lib.data.motion import Similarity, pixel_grid, smooth_curves
from pa_lib.data.references import Portrait, PortraitReference
from pa_lib.data.sampling import Draw, clip_generator
from pa_lib.data.views import Silhouettes, View
from pa_lib.errors import DamagedInputError, InputError, PaLibError, SettingError

INDEX = "index.tsv"
_BOX = ("box_x", "box_y", "box_w", "box_h")
_EYES = ("eye1_x", "eye1_y", "eye2_x", "eye2_y")
_VALID = ("valid_x0", "valid_y0", "valid_x1", "valid_y1")
# Where the five landmarks lie in the face box (brow to chin), as shares of its sides: means over 3401 portraits.
_MEAN_LANDMARKS = {
    "eye1": (0.27, 0.39),
    "eye2": (0.74, 0.39),
    "nose": (0.51, 0.59),
    "mouth1": (0.31, 0.74),
    "mouth2": (0.71, 0.73),
}


@dataclass(frozen=True, eq=False)
class FacePhoto:
    """One portrait as it is, without motion, light and augmentation.

    Args:
        frame: The square around the face, shape 3 s s, RGB in 0..255.
        mask: Mask of the head, shape s s, in [0, 1], 1 = the head.
        person: Name of the person; a name of its own where the index gives none.
        landmarks: Landmarks in pixels of the frame, shape 5 2, in the order of `contracts.Detection`.
    """

    frame: UInt8[Tensor, "3 s s"]
    mask: Float[Tensor, "s s"]
    person: str
    landmarks: Float[Tensor, "5 2"]


@dataclass(frozen=True)
class _Face:
    """One row of the index."""

    number: int
    row: Row
    file: str
    box: Box
    tilt: float
    group: str
    split: str

    @staticmethod
    def of(number: int, row: Row, tree: FileTree) -> _Face:
        x, y, width, height = (row.number(column) for column in _BOX)
        if width <= 0 or height <= 0:
            raise row.wrong(f"the face box is {width:g} x {height:g} px, expected more than 0")
        if not tree.has(row["file"]):
            raise row.wrong(f"there is no image {row['file']} in {tree.path}")
        split = row.get("split", "")
        if split not in ("train", "val", ""):
            raise row.wrong(f"split is '{split}', expected train, val or nothing")
        tilt = 0.0
        if all(row.get(column) for column in _EYES):
            left_x, left_y, right_x, right_y = (row.number(column) for column in _EYES)
            tilt = math.atan2(right_y - left_y, right_x - left_x)
        return _Face(number, row, row["file"], (x, y, width, height), tilt, row.get("group", ""), split)

    @property
    def name(self) -> str:
        """The person's name; where it is unknown, one that no other row has."""
        return self.group or f"line {self.row.line}"

    def landmarks(self) -> list[tuple[float, float]]:
        """Five points in px of the image; those that the index lacks lie where they do in an average face."""
        x, y, width, height = self.box
        return [
            (self.row.number(f"{name}_x"), self.row.number(f"{name}_y"))
            if self.row.get(f"{name}_x") and self.row.get(f"{name}_y")
            else (x + across * width, y + down * height)
            for name, (across, down) in _MEAN_LANDMARKS.items()
        ]

    def photograph(self, height: int, width: int) -> Float[Tensor, "1 h w"]:
        """1 where the image is photograph; all of it where the index does not say."""
        is_photo = torch.ones(1, height, width)
        if all(self.row.get(column) for column in _VALID):
            x0, y0, x1, y1 = (round(self.row.number(column)) for column in _VALID)
            is_photo = torch.zeros(1, height, width)
            is_photo[:, max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = 1
        return is_photo


class FaceClipSet(AbstractClipSet):
    """The faces of `FaceDataModule` on one side of the split.

    Args:
        tree: The folder or zip with the pictures.
        faces: Rows of the index.
        identities: Number of the person in each row; None where the index names no people.
        n_frames, side, head_scale, motion, light: See `FaceDataModule`.
        seed: Seed of motion, light and augmentation.
        augmentation: Augmentation of the clips; None = none.
        reference: Makes references; None = none.
    """

    def __init__(
        self,
        tree: FileTree,
        faces: Sequence[_Face],
        identities: Sequence[int] | None,
        *,
        n_frames: int,
        side: int,
        head_scale: float,
        motion: float,
        light: float,
        seed: int,
        augmentation: ClipAugmentation | None = None,
        reference: PortraitReference | None = None,
    ) -> None:
        self.tree = tree
        self.faces = faces
        self.identities = identities
        self.n_frames = n_frames
        self.side = side
        self.head_scale = head_scale
        self.motion = motion
        self.light = light
        self.seed = seed
        self.augmentation = augmentation
        self.reference = reference
        self._silhouettes = Silhouettes()

    def __len__(self) -> int:
        return len(self.faces)

    def sample(self, draw: Draw) -> Sample:
        """One portrait as a clip, under another motion and another light in every epoch."""
        face = self.faces[draw.index]
        generator = clip_generator(self.seed, Draw(face.number, draw.epoch))
        picture = self._picture(face)
        times = torch.arange(self.n_frames, dtype=torch.float32)
        curves = smooth_curves(times, 9, generator)
        # Counted from the first frame, which is the still itself.
        curves = (curves - curves[:, :1]) / 2
        camera = Similarity(
            0.15 * self.motion * curves[0],
            torch.exp(0.15 * self.motion * curves[1]),
            0.12 * self.motion * self.side * curves[2:4].T,
        )
        pixels = pixel_grid(self.n_frames, self.side, self.side)
        still = camera.inverse(pixels)
        view = View.of(picture, face.box, self.side)
        gain = torch.exp(0.3 * self.light * curves[4] + 0.1 * self.light * curves[5:8]).T[..., None, None]
        gamma = torch.exp(0.3 * self.light * curves[8])[:, None, None, None]
        unlit = view.sampled(picture, still).clamp(min=0)
        frames = (gain * unlit**gamma).clamp(0, 1)
        flow = None
        if self.n_frames > 1:
            flow = camera.part(slice(1, None))(still[:-1]) - pixels[:-1]
            flow = flow.permute(0, 3, 1, 2).contiguous()
        mask, reference = self._head(face, view, still, camera.scale)[:, None], None
        if self.reference is not None:
            portrait = self._portrait(face, picture, view, still, camera.scale)
            frames, mask, reference = self.reference(unlit, frames, portrait, generator)
        sample = Sample(
            frames=frames,
            mask=mask,
            clip_id=face.number,
            identity=None if self.identities is None else self.identities[draw.index],
            flow=flow,
            reference=reference,
        )
        return sample if self.augmentation is None else self.augmentation(sample, generator)

    def photo(self, index: int) -> FacePhoto:
        """One portrait as it is."""
        face = self.faces[index]
        picture = self._picture(face)
        view = View.of(picture, face.box, self.side)
        points = pixel_grid(1, self.side, self.side)
        frame = view.sampled(picture, points)[0].clamp(0, 1)
        half = self.side / 2
        landmarks = [((x - view.x) * view.scale + half, (y - view.y) * view.scale + half) for x, y in face.landmarks()]
        mask = self._head(face, view, points, torch.ones(1))[0]
        return FacePhoto((frame * 255).round().byte(), mask, face.name, torch.tensor(landmarks))

    def _portrait(self, face: _Face, picture: Tensor, view: View, points: Tensor, scale: Tensor) -> Portrait:
        """Silhouette, padding and place of the head, at points of the still."""
        planes = torch.cat([self._silhouettes.of(face.number, picture, view), face.photograph(*picture.shape[-2:])])
        seen = view.sampled(planes, points, beyond="zeros")
        left, right, _, *mouth = (view.placed(x, y) for x, y in face.landmarks())
        eyes = (left + right) / 2
        down = (mouth[0] + mouth[1]) / 2 - eyes
        unit = down.norm().clamp(min=1e-3)
        ahead = points - eyes
        chart = torch.stack([ahead[..., 0] * down[1] - ahead[..., 1] * down[0], (ahead * down).sum(-1)], 1) / unit**2
        return Portrait(seen[:, :1], (seen[:, 1:] > 0.999).float(), chart, unit * scale)

    def _picture(self, face: _Face) -> Float[Tensor, "3 h w"]:
        try:
            return self.tree.picture(face.file).float() / 255
        except PaLibError as error:
            raise DamagedInputError(str(face.row.wrong(str(error)))) from error

    def _head(self, face: _Face, view: View, points: Tensor, scale: Tensor) -> Float[Tensor, "t h w"]:
        """The head's ellipse, turned with the line of the eyes, at points of the still; its edge is 1 px wide."""
        x, y, width, height = face.box
        centre = view.placed(x + width / 2, y + height / 2)
        along, across = (points - centre).unbind(-1)
        cosine, sine = math.cos(face.tilt), math.sin(face.tilt)
        turned = torch.stack([cosine * along + sine * across, cosine * across - sine * along], -1)
        axes = self.head_scale / 2 * view.scale * torch.tensor([width, height])
        scaled = turned / axes
        k0, k1 = scaled.norm(dim=-1), (scaled / axes).norm(dim=-1)
        distance = k0 * (k0 - 1) / k1.clamp(min=1e-9) * scale[:, None, None]
        mask: Tensor = (0.5 - distance).clamp(0, 1)
        return mask


class FaceDataModule(AbstractDataModule):
    """Portraits with an index, as images or as clips with a moving camera and changing light.

    Layout, in a folder or in a zip of it::

        index.tsv          tab-separated, a header, one row per face:
          file             path of a JPEG or PNG below the folder; several faces may share one
          box_x box_y box_w box_h                 the face from brow to chin, px: left, top, width, height
          eye1_x eye1_y eye2_x eye2_y             optional: image-left and image-right eye, px; they give the tilt
          group            optional: rows of one person share it; empty if unknown
          split            optional: train or val; without it `val_share` of the groups are held out
          ...              any other columns, e.g. source and licence, are left alone

    A frame is the largest square around the head that lies within the image, resized to `side`. The mask is ours:
    the ellipse around the face box, `head_scale` times as large, turned with the eyes, which is what the ellipse masker
    covers in a video. Pseudo-clips are ours, too: frame 0 is the still; the others see it through a camera that turns,
    zooms and shifts along low-frequency curves, while gain, gamma and color cast drift. The mask is evaluated in the
    moved picture, not resampled, and the flow is that of the camera (None with an augmentation).

    Args:
        path: The folder or the zip with the pictures and their index.
        n_frames: Number of frames of a clip, >= 1; 1 = images.
        side: Side length of the square frames in pixels, >= 16.
        head_scale: Axes of the mask divided by the sides of the face box, > 0.
        motion: Strength of the camera's motion, >= 0: 1 shifts by at most 0.12 of the side, turns by at most 9 degrees
            and zooms by at most 16 % from the first frame on.
        light: Strength of the change of light, >= 0: 1 changes the gain by a factor of at most 1.5.
        augmentation: Augmentation of the training clips, None = none.
        reference: Makes a reference of each clip for systems that take one, see `PortraitReference`: then its mask,
            which hides the reference, takes the place of the ellipse. None = none. The optional columns ``valid_x0
            valid_y0 valid_x1 valid_y1`` of the index say which part of an image is photograph, in pixels.
        loading: Further arguments of `AbstractDataModule`. `seed` is that of order, motion, light and augmentation in
            training; `val_share` counts where the index has no split, and is the share of the groups.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        n_frames: int = 1,
        side: int = 64,
        head_scale: float = 1.6,
        motion: float = 1.0,
        light: float = 1.0,
        augmentation: ClipAugmentation | None = None,
        reference: PortraitReference | None = None,
        **loading: Unpack[Loading],
    ) -> None:
        super().__init__(**loading)
        if n_frames < 1 or side < 16 or not (head_scale > 0 and motion >= 0 and light >= 0):
            raise SettingError(
                f"faces: n_frames {n_frames}, side {side}, head_scale {head_scale}, motion {motion}, light {light}: "
                "expected at least 1, 16, more than 0, 0 and 0"
            )
        self.path = path
        self.n_frames = n_frames
        self.side = side
        self.head_scale = head_scale
        self.motion = motion
        self.light = light
        self.augmentation = augmentation
        self.reference = reference

    def make_sets(self) -> tuple[FaceClipSet, FaceClipSet | None]:
        """Read the index and divide it.

        Raises:
            InputError: The index is wrong; the message names the table and the line.
        """
        tree = FileTree(self.path)
        rows = read_table(tree, INDEX, ("file", *_BOX))
        faces = [_Face.of(number, row, tree) for number, row in enumerate(rows)]
        names = [face.name for face in faces]
        out = held_out(names, self.val_share, self.split_seed)
        has_split = any(face.split for face in faces)
        is_val = [face.split == "val" if has_split else name in out for face, name in zip(faces, names, strict=True)]
        numbers = {name: number for number, name in enumerate(sorted({face.group for face in faces if face.group}))}
        sets = []
        for is_held_out in (False, True):
            mine = [face for face, is_out in zip(faces, is_val, strict=True) if is_out == is_held_out]
            sets.append(
                FaceClipSet(
                    tree,
                    mine,
                    [numbers.get(face.group, -1) for face in mine] if numbers else None,
                    n_frames=self.n_frames,
                    side=self.side,
                    head_scale=self.head_scale,
                    motion=self.motion,
                    light=self.light,
                    seed=self.split_seed if is_held_out else self.seed,
                    augmentation=None if is_held_out else self.augmentation,
                    reference=self.reference,
                )
            )
        if not len(sets[0]):
            raise InputError(f"{tree.path}/{INDEX}: no row has split train, nothing to learn from")
        return sets[0], sets[1] if len(sets[1]) else None

    def photos(self) -> Iterator[FacePhoto]:
        """All portraits as they are, of both sides of the split: for attacks that learn who people are."""
        for clips in (self.train_set, self.val_set):
            if isinstance(clips, FaceClipSet):
                yield from map(clips.photo, range(len(clips)))
