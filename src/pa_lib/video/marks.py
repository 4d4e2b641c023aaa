"""What pictures mean beyond their samples and color codes: light, shape, fields, views; from one file to another.

What a container and a codec can hold is not listed here but found by trial: `read_marks` looks at the source and at a
file of one picture written with the same settings, and `lost_marks` compares the two.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import av.error
import av.logging

from pa_lib.video.container import Limits, open_video, video_stream
from pa_lib.video.frame import PixelFormat
from pa_lib.video.matroska import chroma_place
from pa_lib.video.orient import UPRIGHT, Orientation

FieldOrder = Literal["tff", "bff"]

_CHROMA_PLACES = ("left", "center", "topleft", "top", "bottomleft", "bottom")  # by their numbers in H.264 and H.265
_PLACES = dict(zip(_CHROMA_PLACES, ((0, 0.5), (0.5, 0.5), (0, 0), (0.5, 0), (0, 1), (0.5, 1)), strict=True))  # x, y
_CHROMA_PLACES_OF_AV1 = {1: "left", 2: "topleft"}
_TRACED = {"h264": "h264", "hevc": "hevc", "libdav1d": "av1", "av1": "av1"}  # decoder -> codec with a place for it
_FIELD_ORDERS: dict[int, FieldOrder] = {2: "tff", 5: "tff", 3: "bff", 4: "bff"}  # by FFmpeg's numbers
_FIRST_PACKETS = 300  # that are decoded until there is a picture
_HEADERS = 1 << 20  # bytes of a file that are searched for a box


@dataclass(frozen=True)
class Marks:
    """What pictures mean beyond their samples and color codes. None, or 1 for the aspect, where nothing is stated.

    Args:
        pixel_aspect: Width to height of one pixel.
        mastering: Chromaticities x, y of red, green, blue and white, then the least and the greatest luminance in
            cd/m2, of the display that HDR material was graded on.
        light: Greatest and mean-of-frame-greatest light of the content, MaxCLL and MaxFALL, in cd/m2.
        chroma: Place of a chroma sample among the luma samples that share it, by FFmpeg's names, e.g. ``topleft``.
        fields: Field of an interlaced picture that is shown first: ``tff``, that of the even rows, or ``bff``.
        spherical: Projection by FFmpeg's number; yaw, pitch and roll in 1/65536 degrees; bounds left, top, right and
            bottom.
        stereo: Arrangement of two views in one picture by FFmpeg's number, and whether right comes first.
    """

    pixel_aspect: Fraction = Fraction(1)
    mastering: tuple[float, ...] | None = None
    light: tuple[int, int] | None = None
    chroma: str | None = None
    fields: FieldOrder | None = None
    spherical: tuple[int, ...] | None = None
    stereo: tuple[int, bool] | None = None


_NAMES = {
    "pixel_aspect": "the shape of its pixels ({value})",
    "mastering": "the description of the HDR mastering display",
    "light": "the greatest light of its HDR content ({value[0]} and {value[1]} cd/m2)",
    "chroma": "the place of its chroma samples ({value})",
    "fields": "the order of its fields ({value})",
    "spherical": "the mark of a 360-degree picture",
    "stereo": "the mark of a picture with two views",
}
_DROPPED = {
    "A53_CC": "closed captions are dropped",
    "DOVI_RPU_BUFFER": "Dolby Vision metadata is dropped; what is left is the picture that it builds on",
    "DYNAMIC_HDR_PLUS": "HDR10+ metadata, which goes by scene, is dropped",
    "DYNAMIC_HDR_VIVID": "HDR Vivid metadata is dropped",
    "AMBIENT_VIEWING_ENVIRONMENT": "the description of the light that the film is to be seen in is dropped",
    "ICC_PROFILE": "the color profile is dropped",
}


def dropped_beside(frame: av.VideoFrame) -> list[str]:
    """One line for each kind of data beside a picture that no encoder here takes."""
    sides: Any = frame.side_data
    names = {side.type.name for side in sides}
    return [line for name, line in _DROPPED.items() if name in names]


def read_marks(path: Path, limits: Limits) -> Marks:
    """The marks of the pictures of a file, by its container, its headers and its first pictures.

    Raises:
        av.error.FFmpegError: If it cannot be opened.
    """
    with open_video(path, limits) as container:
        stream = video_stream(container)
        if stream is None:
            return Marks()
        found: dict[str, Any] = {"pixel_aspect": stream.sample_aspect_ratio or Fraction(1)}
        order = _FIELD_ORDERS.get(stream.codec_context.field_order)
        packet, frame = _first(container, stream)
        if frame is not None:
            found = _of_frame(frame) | found
            order = order or (_first_field(frame) if frame.interlaced_frame else None)
        if container.format.name.startswith("mov,"):
            found |= _of_boxes(path, found)
        chroma = None if packet is None else _chroma_place(stream, packet)
        if chroma is None and container.format.name.startswith("matroska"):  # all that VP9 and FFV1 have
            place = chroma_place(path, container.streams.video.index(stream))
            chroma = next((name for name, own in _PLACES.items() if own == place), None)
        return Marks(**found, fields=order, chroma=chroma)


def _first(
    container: av.container.InputContainer, stream: av.video.stream.VideoStream
) -> tuple[av.Packet[Any] | None, av.VideoFrame | None]:
    """The first packet of a stream and the first picture that can be decoded, as far as there are any."""
    first: av.Packet[Any] | None = None
    with suppress(av.error.FFmpegError):
        for n, packet in enumerate(container.demux(stream)):
            first = first or (packet if packet.size else None)
            with suppress(av.error.FFmpegError):
                for frame in stream.decode(packet if packet.size else None):
                    return first, frame
            if n > _FIRST_PACKETS:
                break
    return first, None


def turned(marks: Marks, orientation: Orientation) -> tuple[Marks, list[str]]:
    """The marks of the pictures when they are turned upright, and notes on those that mean nothing any more.

    Args:
        marks: The marks of the pictures as they are coded.
        orientation: The turn.
    """
    if orientation == UPRIGHT:
        return marks, []
    kept = replace(marks, chroma=_turned_place(marks.chroma, orientation), spherical=None, stereo=None)
    if orientation.is_transposed:
        kept = replace(kept, pixel_aspect=1 / marks.pixel_aspect, fields=None)
    elif orientation.is_upended and marks.fields is not None:
        kept = replace(kept, fields="bff" if marks.fields == "tff" else "tff")
    lost = [
        name for name in ("chroma", "fields", "spherical", "stereo") if getattr(marks, name) and not getattr(kept, name)
    ]
    why = "is dropped: the pictures are turned upright"
    notes = [f"{_NAMES[name].format(value=getattr(marks, name))} {why}" for name in lost]
    return kept, [f"{note}; is_deinterlaced=true deinterlaces them" if is_of_fields(note) else note for note in notes]


def is_of_fields(note: str) -> bool:
    """Whether a note of `turned` says that pictures are no longer known to be interlaced."""
    return note.startswith(_NAMES["fields"].partition("(")[0])


def _turned_place(chroma: str | None, orientation: Orientation) -> str | None:
    if chroma is None:
        return None
    x, y = _PLACES[chroma]
    if orientation.is_transposed:
        x, y = y, x
    x = 1 - x if orientation.is_mirrored else x
    y = 1 - y if orientation.is_upended else y
    return next((name for name, place in _PLACES.items() if place == (x, y)), None)


def lost_marks(source: Marks, result: Marks, where: str) -> Iterator[str]:
    """One line for every mark of the source that the result does not have.

    Args:
        source: The marks of the source.
        result: The marks of the result.
        where: The codec and the container of the result, for the lines.
    """
    for each in fields(Marks):
        wanted, found = getattr(source, each.name), getattr(result, each.name)
        if wanted is not None and not _is_same(each.name, wanted, found):
            yield f"{_NAMES[each.name].format(value=wanted)} is lost: {where} does not hold it"


def _is_same(name: str, wanted: Any, found: Any) -> bool:
    if name == "chroma" and wanted == "left":  # what all take it for where nothing is stated
        return found in (None, "left")
    if name == "pixel_aspect":  # some containers hold whole pixels of the size to be shown
        return bool(abs(found / wanted - 1) < 0.01)
    if name == "mastering" and found is not None:  # held in steps of 1/50000 and 1/10000 cd/m2
        return all(abs(a - b) <= 1e-4 + 1e-4 * abs(a) for a, b in zip(wanted, found, strict=True))
    return bool(wanted == found)


def in_fields(format: PixelFormat, marks: Marks) -> PixelFormat:
    """The format of pictures with these marks: of two fields where they are interlaced and that matters to chroma."""
    is_woven = format.name.startswith("yuv420p") and format.height % 4 == 0 and format.width % 2 == 0
    return replace(format, is_interlaced=True) if marks.fields is not None and is_woven else format


def _of_frame(frame: av.VideoFrame) -> dict[str, Any]:
    """The marks that FFmpeg puts beside a decoded picture; the structures are those of its libavutil."""
    found: dict[str, Any] = {}
    sides: Any = frame.side_data
    for side in sides:
        data, name = bytes(side), side.type.name
        if name == "MASTERING_DISPLAY_METADATA" and len(data) >= 88:
            *numbers, has_primaries, has_luminance = struct.unpack("22i", data[:88])
            pairs = zip(numbers[::2], numbers[1::2], strict=True)
            if has_primaries and has_luminance:
                found["mastering"] = tuple(top / bottom if bottom else 0.0 for top, bottom in pairs)
        elif name == "CONTENT_LIGHT_LEVEL" and len(data) >= 8:
            found["light"] = struct.unpack("2I", data[:8])
        elif name == "SPHERICAL" and len(data) >= 32:
            found["spherical"] = struct.unpack("4i4I", data[:32])
        elif name == "STEREO3D" and len(data) >= 8:
            kind, flags = struct.unpack("2i", data[:8])
            if kind:  # 0: one view
                found["stereo"] = (kind, bool(flags & 1))
    return found


def _of_boxes(path: Path, found: dict[str, Any]) -> dict[str, Any]:
    """What the boxes ``st3d`` and ``prhd`` of an MP4 say: FFmpeg lets another box, which says less, go before them."""
    with path.open("rb") as file:
        data = file.read(_HEADERS)
        if b"moov" not in data:
            file.seek(max(0, path.stat().st_size - _HEADERS))
            data = file.read(_HEADERS)
    more: dict[str, Any] = {}
    views, pose = (_in_box(data, name, size) for name, size in ((b"st3d", 1), (b"prhd", 12)))
    if "stereo" in found and views in (b"\1", b"\2"):
        more["stereo"] = (3 - views[0], False)  # top-bottom and side by side by the box's numbers
    if "spherical" in found and len(pose) == 12:
        more["spherical"] = (found["spherical"][0], *struct.unpack(">3i", pose), *found["spherical"][4:])
    return more


def _in_box(data: bytes, name: bytes, size: int) -> bytes:
    """The first bytes of a box behind its version and flags; none where there is no such box."""
    at = data.find(name)
    return data[at + 8 : at + 8 + size] if at >= 0 else b""


def _first_field(frame: av.VideoFrame) -> FieldOrder:
    """Which field of an interlaced picture comes first: PyAV does not say, so FFmpeg's filter is asked."""
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 25)
    )
    select, sink = graph.add("select", "eq(interlace_type\\,TOPFIRST)"), graph.add("buffersink")
    source.link_to(select)
    select.link_to(sink)
    graph.configure()
    graph.push(frame)
    graph.push(None)
    try:
        graph.pull()
    except (av.error.BlockingIOError, av.error.EOFError):
        return "bff"
    return "tff"


def _chroma_place(stream: av.video.stream.VideoStream, packet: av.Packet[Any]) -> str | None:
    """The place of chroma samples by the headers of a stream, which FFmpeg's own tracer reads."""
    codec = _TRACED.get(stream.codec_context.name)
    if codec is None:
        return None
    level = av.logging.get_level()
    av.logging.set_level(av.logging.INFO)  # what is below is not handed to Python
    try:
        with av.logging.Capture() as lines, suppress(av.error.FFmpegError):
            tracer = av.BitStreamFilterContext("trace_headers", stream)
            tracer.filter(packet)
    finally:
        av.logging.set_level(level)
    pattern = re.compile(r"chroma_sample_(?:loc_type_top_field|position)\s.*= (\d+)\s*$")
    numbers = [int(match[1]) for line in lines if (match := pattern.search(line[2]))]
    if not numbers:
        return None
    if codec == "av1":
        return _CHROMA_PLACES_OF_AV1.get(numbers[0])
    return _CHROMA_PLACES[numbers[0]] if numbers[0] < len(_CHROMA_PLACES) else None
