"""The few bytes of Matroska that FFmpeg has no switch for: a header that only describes pictures, and their shape."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

_SEGMENT, _CLUSTER, _SEEK_HEAD, _TRACKS, _TRACK, _VIDEO = 0x18538067, 0x1F43B675, 0x114D9B74, 0x1654AE6B, 0xAE, 0xE0
_SEEK, _SEEK_ID, _SEEK_POSITION, _CRC, _VOID = 0x4DBB, 0x53AB, 0x53AC, 0xBF, 0xEC
_WIDTH, _HEIGHT, _DISPLAY_WIDTH, _DISPLAY_HEIGHT, _DISPLAY_UNIT = 0xB0, 0xBA, 0x54B0, 0x54BA, 0x54B2
_COLOR, _CHROMA_ACROSS, _CHROMA_DOWN = 0x55B0, 0x55B7, 0x55B8
_CHROMA = {1: 0.0, 2: 0.5}  # at the luma sample, or half-way to the next; 0: not stated
_CODECS = {
    "h264": "V_MPEG4/ISO/AVC",
    "hevc": "V_MPEGH/ISO/HEVC",
    "vp9": "V_VP9",
    "av1": "V_AV1",
    "ffv1": "V_FFV1",
}

_HEADERS = 1 << 20  # bytes of a file that are searched for the description of its tracks

PADDING = {"metadata_header_padding": "8192"}
"""Option of FFmpeg's muxer that leaves room for `set_pixel_aspect`: some 50 bytes for each of up to 64 tracks."""


def element(identity: int, *content: bytes) -> bytes:
    """An EBML element: its identity, its size in four bytes, and its content."""
    data = b"".join(content)
    return (
        identity.to_bytes((identity.bit_length() + 7) // 8, "big") + (0x10000000 | len(data)).to_bytes(4, "big") + data
    )


def unsigned(identity: int, number: int) -> bytes:
    """An element that holds a whole number of 0 or more."""
    return element(identity, number.to_bytes(max(1, (number.bit_length() + 7) // 8), "big"))


def real(identity: int, number: float) -> bytes:
    """An element that holds a real number."""
    return element(identity, struct.pack(">d", number))


def description(codec: str, width: int, height: int, *marks: bytes) -> bytes:
    """A Matroska file without pictures, whose one track is described by `marks`, elements of its ``Video`` element."""
    video = element(_VIDEO, unsigned(_WIDTH, width), unsigned(_HEIGHT, height), *marks)
    codec_id = element(0x86, _CODECS[codec].encode())
    track = element(_TRACK, unsigned(0xD7, 1), unsigned(0x73C5, 1), unsigned(0x83, 1), codec_id, video)
    body = element(0x1549A966, unsigned(0x2AD7B1, 1_000_000)) + element(_TRACKS, track)
    head = element(0x1A45DFA3, element(0x4282, b"matroska"), unsigned(0x4287, 4), unsigned(0x4285, 2))
    return head + element(_SEGMENT, body, element(_CLUSTER, unsigned(0xE7, 0)))


@dataclass(frozen=True)
class _Element:
    identity: int
    start: int  # of the identity
    content: int  # where the content begins
    end: int


def set_pixel_aspect(path: Path, aspect: Fraction) -> None:
    """State the shape of a pixel in the first video track of a finished Matroska or WebM file, in place.

    Codecs without a place for it (VP9, AV1) leave this to the container, and FFmpeg's muxer takes it from a place that
    PyAV cannot reach. The room is taken from the padding before the first cluster, so that nothing behind it moves.

    Args:
        path: The file, written with `PADDING`.
        aspect: Width to height of one pixel.

    Raises:
        OSError: If the file cannot be written, or has no room.
    """
    with path.open("r+b") as file:
        head = file.read(_HEADERS)
        start, parts = _head_parts(head)
        body = {part.identity: head[part.content : part.end] for part in parts if part.identity != _VOID}
        body[_TRACKS] = _shaped(_without_crc(body[_TRACKS]), aspect)
        size = parts[-1].end - start
        made = _laid_out(body, size)
        file.seek(start)
        file.write(made)


def chroma_place(path: Path, number: int) -> tuple[float, float] | None:
    """Place of a chroma sample among the luma samples that share it, as a Matroska or WebM file states it.

    Args:
        path: The file.
        number: Number of the video track among the video tracks, from 0.

    Returns:
        0 or 0.5 of the way to the next luma sample, to the right and down; None where the file does not say.
    """
    with path.open("rb") as file:
        head = file.read(_HEADERS)
    try:
        tracks = next(part for part in _head_parts(head)[1] if part.identity == _TRACKS)
        found = [_inside(head, part) for part in _elements(head, tracks.content, tracks.end) if part.identity == _TRACK]
        video = [track[_VIDEO] for track in found if _VIDEO in track][number]
        color = _inside(head, _inside(head, video)[_COLOR])
        x, y = (_CHROMA[_whole(head, color[side])] for side in (_CHROMA_ACROSS, _CHROMA_DOWN))
    except (IndexError, KeyError, StopIteration):  # cut short, or not stated
        return None
    return x, y


def _laid_out(body: dict[int, bytes], size: int) -> bytes:
    """The elements of a segment before its clusters, in as many bytes as before, with what points at them."""
    places = _seek_entries(_without_crc(body[_SEEK_HEAD]))
    for _ in range(2):  # sizes are known after the first round
        seeks = [
            element(_SEEK, element(_SEEK_ID, key.to_bytes(4, "big")), element(_SEEK_POSITION, at.to_bytes(8, "big")))
            for key, at in places.items()
        ]
        made = {_SEEK_HEAD: _with_crc(b"".join(seeks)), **{k: v for k, v in body.items() if k != _SEEK_HEAD}}
        made[_TRACKS] = _with_crc(body[_TRACKS])
        at, data = 0, b""
        for identity, content in made.items():
            if identity in places:
                places[identity] = at
            whole = element(identity, content)
            data, at = data + whole, at + len(whole)
    room = size - len(data) - 5  # identity and size of what fills the rest
    if room < 0:
        raise OSError("its header has no room for the shape of a pixel")
    return data + element(_VOID, bytes(room))


def _head_parts(data: bytes) -> tuple[int, list[_Element]]:
    """Where the segment's content begins, and its elements before the first cluster."""
    segment = next(part for part in _elements(data, 0, len(data)) if part.identity == _SEGMENT)
    parts = []
    for part in _elements(data, segment.content, len(data)):
        if part.identity == _CLUSTER:
            break
        parts.append(part)
    return segment.content, parts


def _elements(data: bytes, start: int, end: int) -> list[_Element]:
    found = []
    at = start
    while at < end:
        identity, size_at = _number(data, at, is_identity=True)
        size, content = _number(data, size_at)
        found.append(_Element(identity, at, content, content + size))
        if identity == _CLUSTER:
            break
        at = content + size
    return found


def _inside(data: bytes, outer: _Element) -> dict[int, _Element]:
    """The elements inside another, by their identities."""
    return {part.identity: part for part in _elements(data, outer.content, outer.end)}


def _whole(data: bytes, part: _Element) -> int:
    """The whole number that an element holds."""
    return int.from_bytes(data[part.content : part.end], "big")


def _number(data: bytes, at: int, *, is_identity: bool = False) -> tuple[int, int]:
    """A number of EBML, whose length the leading zeros of its first byte give, and where it ends."""
    length = 9 - data[at].bit_length()
    whole = int.from_bytes(data[at : at + length], "big")
    return whole if is_identity else whole & ((1 << 7 * length) - 1), at + length


def _seek_entries(content: bytes) -> dict[int, int]:
    entries = {}
    for seek in _elements(content, 0, len(content)):
        fields = _inside(content, seek)
        entries[_whole(content, fields[_SEEK_ID])] = _whole(content, fields[_SEEK_POSITION])
    return entries


def _shaped(tracks: bytes, aspect: Fraction) -> bytes:
    """The content of ``Tracks`` with the size at which the first track that has pictures is to be shown."""
    done, is_found = b"", False
    for track in _elements(tracks, 0, len(tracks)):
        fields = b""
        for each in _elements(tracks, track.content, track.end):
            content = tracks[each.content : each.end]
            if each.identity == _VIDEO and not is_found:
                content, is_found = _with_size(content, aspect), True
            fields += element(each.identity, content)
        done += element(track.identity, fields)
    return done


def _with_size(video: bytes, aspect: Fraction) -> bytes:
    parts = {each.identity: video[each.content : each.end] for each in _elements(video, 0, len(video))}
    # two views in one picture are shown one at a time: the muxer has halved the size then, and it stays so
    width, height = (
        int.from_bytes(parts.get(shown, parts[coded]), "big")
        for shown, coded in ((_DISPLAY_WIDTH, _WIDTH), (_DISPLAY_HEIGHT, _HEIGHT))
    )
    # in pixels, to the nearest, as players expect it; the muxer's word that the unit is unknown goes
    wide, high = (round(width * aspect), height) if aspect >= 1 else (width, round(height / aspect))
    parts |= {_DISPLAY_WIDTH: wide.to_bytes(4, "big"), _DISPLAY_HEIGHT: high.to_bytes(4, "big")}
    parts.pop(_DISPLAY_UNIT, None)
    return b"".join(element(identity, content) for identity, content in parts.items())


def _without_crc(content: bytes) -> bytes:
    return content[6:] if content[0] == _CRC else content


def _with_crc(content: bytes) -> bytes:
    return bytes([_CRC, 0x84]) + zlib.crc32(content).to_bytes(4, "little") + content
