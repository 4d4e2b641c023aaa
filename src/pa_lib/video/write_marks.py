"""How the marks of pictures reach a file that is written: by its container, its encoder, or picture by picture."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from fractions import Fraction

import av

from pa_lib.video.frame import PixelFormat
from pa_lib.video.marks import Marks
from pa_lib.video.matroska import description, element, real, unsigned

# type and whether it is inverted, by FFmpeg's numbers -> StereoMode of Matroska
_STEREO_MODES = {
    (1, False): 1,
    (1, True): 11,
    (2, False): 3,
    (2, True): 2,
    (3, False): 13,
    (3, True): 14,
    (4, False): 5,
    (4, True): 4,
    (6, False): 7,
    (6, True): 6,
    (7, False): 9,
    (7, True): 8,
}
# codec -> option of its encoder, words for display and light there, units of chromaticities and of light, digits
_HDR_OPTIONS = {
    "hevc": ("x265-params", "master-display", "max-cll", 50_000, 10_000, None),
    "av1": ("svtav1-params", "mastering-display", "content-light", 1, 1, 5),
}
_PROJECTIONS = {0: 1, 1: 2, 2: 1}  # whole and cropped equirectangular, cube map -> ProjectionType of Matroska


def _is_coded_in_fields(codec: str, format: PixelFormat, marks: Marks) -> bool:
    """Whether an encoder codes pictures as two fields: x264 wants whole rows of chroma in both."""
    is_whole = format.height % (2 * format.sampling[0]) == 0
    return marks.fields is not None and (codec == "ffv1" or (codec == "h264" and is_whole))


def marker(format: PixelFormat, codec: str, marks: Marks) -> Callable[[av.VideoFrame], av.VideoFrame]:
    """What marks each picture for the encoder: the order of fields goes by picture, and only a filter can set it.

    Args:
        format: Format of the pictures.
        codec: FFmpeg's name of the codec.
        marks: The marks.
    """
    if marks.fields is None or not _is_coded_in_fields(codec, format, marks):
        return lambda frame: frame
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=format.width, height=format.height, format=av.VideoFormat(format.name), time_base=Fraction(1, 1000)
    )
    mark, sink = graph.add("setfield", marks.fields), graph.add("buffersink")
    source.link_to(mark)
    mark.link_to(sink)
    graph.configure()

    def marked(frame: av.VideoFrame) -> av.VideoFrame:
        graph.vpush(frame)
        return graph.vpull()

    return marked


def describe(stream: av.video.stream.VideoStream, codec: str, size: tuple[int, int], marks: Marks) -> None:
    """Give a stream of an output, before it is set up further, the marks that its container may hold.

    PyAV has no way to set them one by one, but copies all that one stream is described by to another: from the header
    of a Matroska file that is made for this, which has a place for each.

    Args:
        stream: The new stream.
        codec: FFmpeg's name of its codec.
        size: Width and height of its pictures in pixels.
        marks: The marks.
    """
    parts = [*_stereo_part(marks), *_color_part(marks), *_projection_part(marks)]
    if parts:
        with av.open(io.BytesIO(description(codec, *size, *parts))) as described:
            av.BitStreamFilterContext("null", described.streams.video[0], stream)
    if marks.fields is not None:
        stream.codec_context.field_order = 2 if marks.fields == "tff" else 3


def encoder_options(codec: str, format: PixelFormat, marks: Marks, own: dict[str, str]) -> dict[str, str]:
    """The options of an encoder, with those by which it writes the marks into its own headers.

    Args:
        codec: FFmpeg's name of the codec.
        format: Format of the pictures as they are encoded.
        marks: The marks.
        own: The options without them.
    """
    options = dict(own)
    if marks.chroma is not None:
        options["chroma_sample_location"] = marks.chroma
    if codec == "h264" and _is_coded_in_fields(codec, format, marks):
        options |= {"flags": "+ildct+ilme", "x264-params": f"{marks.fields}=1"}
    if codec in _HDR_OPTIONS:
        name, display, light, unit_xy, unit_l, digits = _HDR_OPTIONS[codec]
        texts = [options[name]] if name in options else []
        if marks.mastering is not None:
            xy = [round(value * unit_xy, digits) for value in marks.mastering[:8]]
            low, high = (round(value * unit_l, digits) for value in marks.mastering[8:])
            red, green, blue, white = (f"({x},{y})" for x, y in zip(xy[::2], xy[1::2], strict=True))
            texts.append(f"{display}=G{green}B{blue}R{red}WP{white}L({high},{low})")
        if marks.light is not None:
            texts.append(f"{light}={marks.light[0]},{marks.light[1]}")
        if codec == "hevc" and marks.fields is not None:
            texts.append(f"pic-struct={3 if marks.fields == 'tff' else 4}")
        if texts:
            options[name] = ":".join(texts)
    return options


def _color_part(marks: Marks) -> Iterator[bytes]:
    parts = b""
    if marks.light is not None:
        parts += unsigned(0x55BC, marks.light[0]) + unsigned(0x55BD, marks.light[1])
    if marks.mastering is not None:
        x_y, (low, high) = marks.mastering[:8], marks.mastering[8:]
        chromaticities = b"".join(real(0x55D1 + at, value) for at, value in enumerate(x_y))
        parts += element(0x55D0, chromaticities, real(0x55D9, high), real(0x55DA, low))
    if parts:
        yield element(0x55B0, parts)


def _stereo_part(marks: Marks) -> Iterator[bytes]:
    if marks.stereo in _STEREO_MODES:
        yield unsigned(0x53B8, _STEREO_MODES[marks.stereo])


def _projection_part(marks: Marks) -> Iterator[bytes]:
    if marks.spherical is None or marks.spherical[0] not in _PROJECTIONS:
        return
    projection, yaw, pitch, roll, left, top, right, bottom = marks.spherical
    private = struct.pack(">5I", 0, top, bottom, left, right) if projection != 1 else struct.pack(">3I", 0, 0, 0)
    poses = (real(0x7673 + at, angle / 65536) for at, angle in enumerate((yaw, pitch, roll)))
    yield element(0x7670, unsigned(0x7671, _PROJECTIONS[projection]), element(0x7672, private), *poses)
