"""What is known of a video before it is decoded."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal

from pa_lib.video.clock import Clock
from pa_lib.video.container import Limits
from pa_lib.video.frame import PixelFormat
from pa_lib.video.marks import FieldOrder, Marks
from pa_lib.video.orient import UPRIGHT, Orientation

Container = Literal["video", "gif", "image", "image_folder"]


@dataclass(frozen=True)
class VideoInfo:
    """What `probe` found. Sizes are those of the upright picture.

    Args:
        path: The file or image folder.
        container: Kind of the container.
        format: Pixel format of every `Picture` read from it.
        fps: Average frame rate in frames per second.
        time_base: Seconds in one unit of `Frame.pts`.
        n_frames_estimate: Number of frames by the header, or by duration and rate; exact for images; None if unknown.
        duration_s: Duration in seconds; None if unknown.
        codec: FFmpeg's name of the codec, e.g. ``h264``; that of the format for images, e.g. ``png``.
        source_pixel_format: The decoder's own format, which is converted to `pixel_format`.
        is_variable_rate: Whether the first frames are not equally far apart.
        rotation_deg: Clockwise rotation, 0, 90, 180 or 270, that the display matrix or the EXIF orientation asks for;
            the frames are already rotated.
        is_flipped: Whether these ask for a mirror image, too.
        marks: Marks of the upright pictures: what they mean beyond their samples and color codes.
        coded_fields: Field that is shown first of the pictures as they are coded, before they are turned upright; None
            where they are progressive.
        is_deinterlaced: Whether such pictures are deinterlaced on reading.
        clock: Clock of the file; times of frames and sound are on that of the film, which begins at 0.
        end_pts: End of the last frame in units of `time_base`, if the header holds it exactly; else None.
        audio: Codec name of each audio track.
        audio_faults: Number of an audio track, from 1, -> why it cannot be decoded.
        tags: The container's own metadata.
        files: Images of a folder in their order, or the one file.
        faults: Damage that shows without decoding, e.g. a file that ends early; the output is not whole then.
        notes: Conversions on reading, one line each, e.g. transparency shown on white.
        limits: The limits that it was checked against.
        is_scaled: Whether frames of another size or pixel format than the first are scaled to it, instead of counting
            as damaged.
    """

    path: Path
    container: Container
    format: PixelFormat
    fps: float
    time_base: Fraction
    n_frames_estimate: int | None
    duration_s: float | None
    codec: str
    source_pixel_format: str
    is_variable_rate: bool = False
    rotation_deg: int = 0
    is_flipped: bool = False
    marks: Marks = field(default_factory=Marks)
    coded_fields: FieldOrder | None = None
    is_deinterlaced: bool = False
    clock: Clock = field(default_factory=Clock)
    end_pts: int | None = None
    audio: tuple[str, ...] = ()
    audio_faults: dict[int, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    orientation: Orientation = UPRIGHT
    is_scaled: bool = False

    @property
    def width(self) -> int:
        """Columns of the upright picture, px."""
        return self.format.width

    @property
    def height(self) -> int:
        """Rows of the upright picture, px."""
        return self.format.height

    @property
    def sample_aspect_ratio(self) -> Fraction:
        """Ratio of width to height of one upright pixel."""
        return self.marks.pixel_aspect

    @property
    def pixel_format(self) -> str:
        """Name of the working format."""
        return self.format.name

    @property
    def chroma_grid(self) -> tuple[int, int]:
        """Rows and columns of pixels that share their chroma samples with no others."""
        return self.format.chroma_grid

    @property
    def nominal_duration(self) -> int:
        """Units of `time_base` that one frame is shown at the average rate, at least 1."""
        return max(1, round(1 / (self.fps * self.time_base)))
