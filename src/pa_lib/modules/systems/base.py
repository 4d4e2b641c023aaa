"""The one interface of every anonymization system, from a blur to a video diffusion model."""

from __future__ import annotations

from abc import ABC, abstractmethod

from pa_lib.contracts import Clip, ClipMasks


class AbstractAnonymizer(ABC):
    """Replaces people in a clip.

    The caller decides who is hidden and where, hands over decoded frames with masks, and composites: of the frames that
    come back it uses only what lies under the masks. A system therefore may work person by person on crops, or on
    whole frames, on one frame or on many.

    Attributes:
        window_frames: How many consecutive frames the system wants to see at a time, >= 1. The caller cuts a video into
            such windows; the last one of a shot may be shorter.
        overlap_frames: How many frames at the start of a window it has seen in the one before, < `window_frames`. What
            the two windows made of them is cross-faded, so that nobody changes from one frame to the next.
        is_non_interfering: Whether the result is a function of what lies *outside* the masks, of the masks and of the
            seed alone: change hidden pixels in any way and the result is the same bit for bit. Only then can nobody
            compute the hidden pixels back from it. A system that says True is tested for it.
        remarks: What whoever looks at the result should know of the system as it is set, one line each; the report of a
            video shows them.
    """

    window_frames: int
    overlap_frames: int = 0
    is_non_interfering: bool
    remarks: tuple[str, ...] = ()

    @abstractmethod
    def anonymize(self, clip: Clip, masks: ClipMasks, *, seed: int = 0) -> Clip:
        """Replace the people under the masks.

        Args:
            clip: Frames t 3 h w, uint8. Not changed.
            masks: Who is hidden where; their ``n_frames``, ``height`` and ``width`` are the clip's. They may overlap,
                touch the frame's edge, or be absent.
            seed: Fixes everything random: the same clip, masks and seed give the same frames on the same device. Draw
                per person from ``(seed, person_id)``, so that a person looks the same in every window.

        Returns:
            A clip of the same shape, type, first frame and rate. Where a system cannot replace somebody it raises:
            giving back source pixels under a mask would be a leak that nobody sees.
        """
