"""The one interface of every anonymization system, from a blur to a video diffusion model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from pa_lib.contracts import Clip, ClipMasks, Kind, PersonInfo
from pa_lib.modules.systems.private import KeepsPrivate


class AbstractAnonymizer(KeepsPrivate, ABC):
    """Replaces people in a clip.

    The caller decides who is hidden and where, hands over decoded frames with masks, and composites: of the frames that
    come back it uses only what lies under the masks. A system may therefore work person by person on crops, or on whole
    frames, on one frame or on many.

    One that is a LightningModule too keeps the weights of private slots (`pa_lib.modules.Slot`) out of its checkpoints.

    A subclass defines the abstract properties as properties, or as class attributes where they are constant.
    """

    @property
    @abstractmethod
    def window_frames(self) -> int:
        """Number of consecutive frames that the system takes at a time, >= 1.

        The caller cuts a video into such windows; the last one of a shot may be shorter.
        """

    @property
    def overlap_frames(self) -> int:
        """Number of frames at the start of a window that the window before has had too, < `window_frames`.

        The two results are cross-faded there, so that no person changes from one frame to the next.
        """
        return 0

    @property
    @abstractmethod
    def is_non_interfering(self) -> bool:
        """Whether the output does not depend on hidden pixels (non-interference, as information-flow security has it).

        The result is then a function of the pixels *outside* the masks, of the masks and of the seed alone: change
        hidden pixels in any way and it is the same bit for bit, so that they cannot be computed back from it. A system
        that says True is tested for it.
        """

    @property
    def unchanged_kinds(self) -> frozenset[Kind]:
        """Kinds of masks under which the system leaves the source as it is, by a setting. Most systems have none.

        Under all others the caller expects other pixels than the source's, and redacts frames without.
        """
        return frozenset()

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of the results of the system as it is set, one line each; reports show them."""
        return ()

    def untrained_slots(self) -> set[str]:
        """Names of the parts that have random weights: the system would generate noise. Most systems have none."""
        return set()

    @property
    def remarks(self) -> tuple[str, ...]:
        """The old name of `notes`, for one version."""
        return self.notes

    def replacements(self, people: Mapping[int, PersonInfo], *, seed: int = 0) -> Mapping[int, str]:
        """What takes each person's place, by name, where a system has names for it: drawn, or as it was wished for.

        Called with all people of a video, and where people are recognized in several videos, first with those of all of
        them. The names reach `anonymize` and `extended` as `Replacement.double` in the masks' info, and the report and
        the sheet of people.

        Args:
            people: Person id -> what is known of the person, for all hidden people in order of first
                appearance. A wish is in its `PersonInfo.replacement`.
            seed: Seed of what is drawn.

        Returns:
            Person id -> name; empty for a system without names.

        Raises:
            PaLibError: A name that is wished for is unknown.
        """
        return {}

    def extended(self, masks: ClipMasks, *, seed: int = 0) -> ClipMasks:
        """The masks with everything that the system needs beyond them, for example the hair of a replaced head.

        The caller asks for it first, frame by frame, and everything goes by the result: what is cut, what is
        composited, what counts as untouched. It depends on the masks, their poses and info, and the seed, and for every
        frame on nothing but the masks of that frame.

        Args:
            masks: Masks of the hidden people with their poses.
            seed: Seed of the system, as for `anonymize`.

        Returns:
            Masks that cover at least what `masks` cover; `masks` itself where nothing is needed.
        """
        return masks

    @abstractmethod
    def anonymize(self, clip: Clip, masks: ClipMasks, *, seed: int = 0) -> Clip:
        """Replace the people under the masks.

        Args:
            clip: Frames t 3 h w, uint8. Not changed.
            masks: Masks of the hidden people; their ``n_frames``, ``height`` and ``width`` are the clip's. They may
                overlap, touch the frame's edge, or be absent.
            seed: Seed of everything random: the same clip, masks and seed give the same frames on the same device. Draw
                per person from ``(seed, person_id)``, so that a person looks the same in every window.

        Returns:
            A clip of the same shape, type, first frame and rate. A system that cannot replace a person raises: of
            source pixels under a mask the caller detects only whole people.
        """

    def anonymize_(self, clip: Clip, masks: ClipMasks, *, seed: int = 0) -> Clip:
        """As `anonymize`, for a caller who does not need the clip again: its frames may be changed, and be the result.

        A system that overrides it spares a copy of all frames, which large ones feel.
        """
        return self.anonymize(clip, masks, seed=seed)
