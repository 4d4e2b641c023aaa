"""What the rooms of pa_lib hand to each other: frozen records, with shape letters, ranges and units defined here, once.

Shape letters: ``b`` batch, ``t`` frames of a clip, ``c`` channels, ``h`` rows, ``w`` columns, ``n`` items of a list.

Pixels: a `Clip` cut from a file holds the decoder's own 8-bit RGB in 0..255 (a float copy of a 1080p window would take
four times the memory); everything that learns or measures works on floats in [0, 1].
Masks: 1 = anonymize here, 0 = leave alone; values between blend.
Boxes: ``x0 y0 x1 y1`` in pixels of the upright frame, ``x1`` and ``y1`` exclusive, so that a box of the whole frame is
``0 0 width height``. A box may reach beyond the frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Literal, NamedTuple, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

TYPE_CHECKING = False
if TYPE_CHECKING:  # torch takes two seconds to import, and people/ and video/ do without it
    import torch
    from torch import Tensor

Kind = Literal["face", "body"]
Box = tuple[float, float, float, float]  # x0 y0 x1 y1 in pixels, see above
Disc = tuple[float, float, float]  # x y radius in pixels
Image = NDArray[np.uint8]  # height width 3, RGB in 0..255


@runtime_checkable
class ProgressCallback(Protocol):
    """A function that is called as work goes on."""

    def __call__(self, task: str, done: int, total: int | None = None) -> None:
        """Report progress.

        Args:
            task: Name of the task, e.g. ``finding people``.
            done: Number of units that are done, >= 0.
            total: Number of units in all; None if unknown.
        """
        ...


@runtime_checkable
class FaceNetwork(Protocol):
    """A face recognition network: faces of one person have embeddings that lie close together."""

    n_dimensions: int
    same_person_distance: float

    def embed(self, image: Image, landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
        """Embeddings, shape n d, of the faces with these landmarks, shape n 5 2 px."""
        ...


@runtime_checkable
class Silhouettes(Protocol):
    """A network that finds the outline of a person whose box is known."""

    def silhouette(self, image: Image, boxes: Sequence[Box]) -> Sequence[tuple[int, int, NDArray[np.float32]]]:
        """For each box ``top, left`` and an array h w in [0, 1], wholly inside the image."""
        ...


class OutlinePrompt(NamedTuple):
    """Whose outline is wanted.

    Args:
        box: Box of the person in pixels of the frame.
        head: Middle and radius of the person's head, the same; None where unknown.
        others: Heads of other people, the same.
    """

    box: Box
    head: Disc | None = None
    others: Sequence[Disc] = ()


@runtime_checkable
class Outlines(Silhouettes, Protocol):
    """A network that finds the outline of one person among others: nothing of others belongs to it."""

    def outlines(
        self,
        image: Image,
        prompts: Sequence[OutlinePrompt],
        believed: Sequence[NDArray[np.float32] | None] | None = None,
    ) -> Sequence[tuple[int, int, NDArray[np.float32]]]:
        """For each prompt ``top, left`` and an array 2 h w in [0, 1], wholly inside the image.

        The planes are the probabilities of this person and of other people; `believed` is the outline as a neighbouring
        frame has it, as large as the image.
        """
        ...


def stored_kind(name: str) -> str:
    """A kind as a file names it, in today's words: older files call a ``body`` ``person``."""
    return "body" if name == "person" else name


@dataclass(frozen=True, eq=False)
class Detection:
    """One face or one whole body seen by a detector in one frame.

    Args:
        kind: ``face`` or ``body``.
        box: ``x0 y0 x1 y1`` px.
        score: Detector confidence in [0, 1].
        landmarks: Five landmarks (x, y) in pixels for faces, shape 5 2: image-left eye, image-right eye, nose tip,
            image-left and image-right mouth corner. None where the detector gives none.
        head: Box ``x0 y0 x1 y1`` px of a body's head, from the top of the skull to the chin and as wide as with its
            hair, where the outline of the body shows one; None where it shows none, and for faces.
    """

    kind: Kind
    box: Box
    score: float
    landmarks: NDArray[np.float32] | None = None
    head: Box | None = None


@dataclass(frozen=True, eq=False)
class Track:
    """One face or one body followed through the video: a box for every frame from its first to its last, without gaps.

    Args:
        track_id: Number of the track, unique in its video, from 1.
        kind: ``face`` or ``body``.
        frames: Frame indices, shape n, strictly increasing.
        boxes: Boxes ``x0 y0 x1 y1`` in pixels, one per frame, shape n 4.
        scores: Confidence of the detector, shape n, in [0, 1]; NaN where no detector saw it and the box was filled in.
        landmarks: Landmarks in pixels, shape n 5 2, NaN where unknown; None where the finder gives none.
        masks: Binary silhouettes as COCO run lengths of the whole frame (see `functional.masks`) by frame index, for
            tracks files that were edited or written by another tool. Empty otherwise.
        heads: Boxes of a body's head in pixels, shape n 4, see `Detection`; NaN where unknown. None for faces, and
            where the finder gives none.
    """

    track_id: int
    kind: Kind
    frames: NDArray[np.int64]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    landmarks: NDArray[np.float32] | None = None
    masks: dict[int, list[int]] = field(default_factory=dict)
    heads: NDArray[np.float32] | None = None

    def row(self, frame: int) -> int | None:
        """Position of `frame` in the arrays, or None where the track does not reach."""
        at = int(np.searchsorted(self.frames, frame))
        return at if at < len(self.frames) and self.frames[at] == frame else None


@dataclass(frozen=True)
class Attribute:
    """A property of a person's looks, e.g. their age.

    Args:
        value: Value of the attribute, e.g. ``adult`` or 34.
        confidence: Probability in [0, 1] that the value is right; None if unknown.
        method: Origin of the value: the name of a network, or ``hand``.
    """

    value: str | float
    confidence: float | None = None
    method: str = ""


@dataclass(frozen=True)
class Replacement:
    """A wish for what takes a person's place. A system that cannot fulfil it ignores it.

    Args:
        double: Name of a person who does not exist, out of the collection of a system; None leaves it to the system.
        attributes: Attribute -> value that the replacement is to have, e.g. ``{"age": "adult"}``.
    """

    double: str | None = None
    attributes: Mapping[str, str | float] = field(default_factory=dict)


@dataclass(frozen=True)
class PersonInfo:
    """What is known of a person besides their place.

    Args:
        attributes: Attributes of the person in the video by name. A system that uses them depends on hidden pixels.
        replacement: Wish for what takes the person's place; None leaves it to the system.
    """

    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    replacement: Replacement | None = None


@dataclass(frozen=True, eq=False)
class Person:
    """A person in the video: the tracks of one face, one body, or both, also across gaps.

    Args:
        person_id: Number of the person, unique in its video, from 1, in order of first appearance.
        tracks: Tracks of the person, at least one.
        info: Known attributes of the person and wishes for the replacement.
    """

    person_id: int
    tracks: tuple[Track, ...]
    info: PersonInfo = field(default_factory=PersonInfo)


class Presence(NamedTuple):
    """A person in one frame.

    Args:
        person_id: Number of the person.
        track: One of the person's tracks.
        row: Row of the frame in the arrays of the track.
    """

    person_id: int
    track: Track
    row: int

    @property
    def box(self) -> Box:
        """The track's box in this frame."""
        x0, y0, x1, y1 = (float(side) for side in self.track.boxes[self.row])
        return x0, y0, x1, y1


@dataclass(frozen=True)
class Decision:
    """Whether one person is hidden, and why.

    Args:
        person_id: Number of the person.
        is_hidden: Whether the person is anonymized; False = kept.
        reason: Reason in one short phrase, e.g. ``stands out 4.1x over the next``.
        score: Score that the chooser ranked by; NaN where it did not rank.
    """

    person_id: int
    is_hidden: bool
    reason: str
    score: float = float("nan")


@dataclass(frozen=True, eq=False)
class Clip:
    """Consecutive frames of one video, decoded.

    Args:
        frames: The frames, shape t 3 h w, uint8 RGB in 0..255.
        first_frame: Index in the video of ``frames[0]``.
        fps: Average rate of the video in frames per second.
    """

    frames: Tensor
    first_frame: int = 0
    fps: float = 25.0


@dataclass(frozen=True)
class HeadPose:
    """Place and turn of a head in a frame: the only numbers that pass from a hidden face to what replaces it.

    Args:
        x, y: Position of the middle between the eyes in pixels of the frame; seen from behind, where it would be.
        scale: Distance in pixels from the middle between the eyes to the middle of the closed mouth, as it would be
            from the front: turning the head does not shrink it. > 0.
        roll: Tilt of the head in the picture in degrees; positive = clockwise, as seen by who looks at the picture.
        yaw: Turn of the head in degrees, in (-180, 180]: 0 = towards the camera, positive = looks to the right of the
            picture, 180 = seen from behind.
        is_seen: Whether the pose comes from a face that was detected; False: from the box of the body.
    """

    x: float
    y: float
    scale: float
    roll: float = 0.0
    yaw: float = 0.0
    is_seen: bool = True


@dataclass(frozen=True, eq=False)
class PersonMask:
    """The part of one frame that hides one person, stored only where it is not zero.

    Args:
        person_id: Number of the person who is hidden.
        frame: Index of the frame within the clip, from 0.
        top, left: Position of ``alpha[0, 0]`` in the frame, in pixels.
        alpha: Opacity of the replacement, shape h w, float32 in [0, 1], wholly inside the frame. 1 = replaced, 0 =
            untouched.
        kind: Kind of what is hidden, a ``face`` or a whole ``body``.
        pose: Pose of the person's head in this frame; None if unknown.
    """

    person_id: int
    frame: int
    top: int
    left: int
    alpha: Tensor
    kind: Kind = "body"
    pose: HeadPose | None = None


@dataclass(frozen=True, eq=False)
class ClipMasks:
    """Who is hidden where in a `Clip`.

    Args:
        people: The masks, in any order; they may overlap.
        n_frames, height, width: Size of the clip they belong to.
        info: Known attributes of people by person id. People without any are absent.
    """

    people: tuple[PersonMask, ...]
    n_frames: int
    height: int
    width: int
    info: Mapping[int, PersonInfo] = field(default_factory=dict)

    def in_frame(self, frame: int) -> Iterator[PersonMask]:
        """The masks of one frame of the clip."""
        return (mask for mask in self.people if mask.frame == frame)

    def union(self, frame: int) -> Tensor:
        """All people hidden in one frame: shape h w, float32, the largest alpha at each pixel."""
        import torch

        alpha = torch.zeros(self.height, self.width)
        for mask in self.in_frame(frame):
            rows, columns = mask.alpha.shape
            region = alpha[mask.top : mask.top + rows, mask.left : mask.left + columns]
            torch.maximum(region, mask.alpha, out=region)
        return alpha


@dataclass(frozen=True, eq=False)
class AbstractBatch:
    """What a training or validation step gets: a frozen dataclass whose tensors travel together.

    Subclasses add fields; every field that is a tensor moves with `to` and `pin_memory`, all others stay.
    """

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """The same batch on another device; its name and arguments are those that Lightning looks for."""
        return self._mapped(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        """The same batch in page-locked memory; its name is the one that PyTorch's loaders look for."""
        return self._mapped(lambda tensor: tensor.pin_memory())

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> Self:
        from torch import Tensor

        values = {item.name: getattr(self, item.name) for item in fields(self)}
        moved = {name: change(value) for name, value in values.items() if isinstance(value, Tensor)}
        return replace(self, **moved)


def stream_name(loaders: object, index: int) -> str | None:
    """Name of the data stream that a validation batch comes from, see `data.JointDataModule`.

    Args:
        loaders: Lightning's ``trainer.val_dataloaders``.
        index: Lightning's ``dataloader_idx``.

    Returns:
        None where the data has no named streams.

    >>> stream_name({"faces": [], "actions": []}, 1)
    'actions'
    """
    return list(loaders)[index] if isinstance(loaders, Mapping) else None


@dataclass(frozen=True, eq=False)
class Batch(AbstractBatch):
    """Clips of people, one person to a clip, and where that person is.

    Images are clips of one frame.

    Args:
        frames: The frames, shape b t 3 h w, float32 in [0, 1].
        masks: The people's masks, shape b t 1 h w, float32 in [0, 1], 1 = the person.
        clip_ids: Number of each clip in its data set, shape b, int64. Everything random in a training step is drawn
            from the seed, this number and the step, so results do not depend on how clips are distributed to processes.
        identities: Number of the person in each clip, shape b, int64; -1 if unknown. None where the data has no
            identities.
        prompts: Text of each clip, b of them. None where the data has none.
        flow: Optical flow (x, y) in pixels from each frame to the next, shape b t-1 2 h w. Only synthetic data has it;
            None otherwise.
        reference: Picture of a head for the replacement to go by, in light of its own, shape b t 4 h w, float32 in
            [0, 1]: color times alpha, and alpha. Alpha is 0 wherever the mask is. None where the data has none.
    """

    frames: Tensor
    masks: Tensor
    clip_ids: Tensor
    identities: Tensor | None = None
    prompts: tuple[str, ...] | None = None
    flow: Tensor | None = None
    reference: Tensor | None = None


@dataclass(frozen=True, eq=False)
class ActionBatch(AbstractBatch):
    """Whole frames with the people who act in them, for action detectors.

    A clip has at most n actors; the rows of smaller clips are padded.

    Args:
        frames: The frames, shape b t 3 h w, float32 in [0, 1].
        boxes: Box of each actor in each frame, shape b t n 4, float32, in pixels.
        labels: Class of each actor's action, shape b n, int64, from 0; -1 for padding.
        is_valid: Whether the actor is in the frame, shape b t n, bool. Boxes are meaningless where it is False.
        clip_ids: Number of each clip in its data set, shape b, int64; see `Batch`.
        face_boxes: Boxes of the faces to be anonymized, shape b t m 4, float32, in pixels; NaN for padding. None if
            unknown.
    """

    frames: Tensor
    boxes: Tensor
    labels: Tensor
    is_valid: Tensor
    clip_ids: Tensor
    face_boxes: Tensor | None = None


@dataclass(frozen=True, eq=False)
class IdentityBatch(AbstractBatch):
    """Pictures of whole people, each cut out, with who they are and which camera saw them, for re-identification.

    Args:
        frames: The pictures as clips of one frame, shape b t 3 h w, float32 in [0, 1].
        identities: Number of the person, shape b, int64, >= 0.
        cameras: Number of the camera, shape b, int64, >= 0.
        clip_ids: Number of each picture in its data set, shape b, int64; see `Batch`.
    """

    frames: Tensor
    identities: Tensor
    cameras: Tensor
    clip_ids: Tensor


@dataclass(frozen=True, eq=False)
class OutlineBatch(AbstractBatch):
    """Crops with one person each whose outline is wanted, and the true outlines.

    Args:
        planes: Picture and prompt, shape b c s s, float32 in [0, 1]; see `functional.outline_prompt.planes_of`.
        labels: Class of each pixel, shape b s s, int64: 0 this person, 1 another, 2 background, 255 = not counted.
        clip_ids: Number of each crop in its data set, shape b, int64; see `Batch`.
    """

    planes: Tensor
    labels: Tensor
    clip_ids: Tensor


@dataclass(frozen=True, eq=False)
class Sighting:
    """One person in one frame of a batch of clips.

    Args:
        clip: Row in the batch.
        frame: Index of the frame within the clip, from 0.
        person_id: Number of the person, the same in every frame of the same video.
        box: Box ``x0 y0 x1 y1`` of the face or of the whole person, in pixels.
        landmarks: Five landmarks (x, y) in pixels in the order of `Detection`; None if unknown.
        is_hidden: Whether this person was to be anonymized.
        kind: Kind of what the box bounds, a ``face`` or a whole ``body``.
    """

    clip: int
    frame: int
    person_id: int
    box: Box
    landmarks: tuple[tuple[float, float], ...] | None = None
    is_hidden: bool = True
    kind: Kind = "face"


@dataclass(frozen=True, eq=False)
class Result:
    """An original and what was made of it, for metrics and previews.

    Args:
        source: Frames of the original, shape b t 3 h w, float in [0, 1], or uint8 in 0..255.
        anonymized: Frames of the anonymized version, of the same shape, range and type.
        masks: Masks, shape b t 1 h w, float in [0, 1], 1 = was to be anonymized.
        clip_ids: Number of the video or clip of each row, shape b, int64.
        identities: Number of the person in each clip, shape b, int64, or None; see `Batch`.
        people: People and their places, in any order; None if unknown.
        context: Number of first frames of every clip that an earlier result ended with: they are there to be compared
            with the next ones and are not to be counted again.
    """

    source: Tensor
    anonymized: Tensor
    masks: Tensor
    clip_ids: Tensor
    identities: Tensor | None = None
    people: tuple[Sighting, ...] | None = None
    context: int = 0
