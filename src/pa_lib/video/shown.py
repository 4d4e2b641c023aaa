"""Which packets of a stream show a picture, by the headers of the pictures in them.

A packet may hold a picture that is only kept for reference (VP8, VP9), or say that the picture before stays (MPEG-4
part 2). What a header does not say is left to the decoder.
"""

from __future__ import annotations

from collections.abc import Callable

_VOP, _FIRST_VOL, _LAST_VOL = 0xB6, 0x20, 0x2F  # start codes of ISO/IEC 14496-2, table 6-3
_EXTENDED_ASPECT = 15
_VBV_BITS = 79
_GREY_SHAPE = 3


def header_reader(codec: str, extradata: bytes | None) -> Callable[[memoryview], bool] | None:
    """A function from the bytes of each packet, in order, to whether it shows a picture; None if all of them do.

    Args:
        codec: FFmpeg's name of the codec.
        extradata: Headers that the container keeps apart from the packets.
    """
    if codec == "vp8":
        return _vp8_shows
    if codec == "vp9":
        return _vp9_shows
    return _Mpeg4(extradata or b"").shows if codec == "mpeg4" else None


def _vp8_shows(data: memoryview) -> bool:
    """``show_frame`` of RFC 6386, section 9.1; a key frame without its start code is damaged and was to be shown."""
    is_key = not data[0] & 1
    is_whole = len(data) > 10 and bytes(data[3:6]) == b"\x9d\x01\x2a" if is_key else len(data) > 3
    return bool(data[0] & 0x10) or not is_whole


def _vp9_shows(data: memoryview) -> bool:
    """``show_frame`` or ``show_existing_frame`` of any frame of the packet: VP9 specification, 6.2, annex B."""
    frames, marker = [data], data[-1]
    if marker & 0xE0 == 0xC0:
        n_frames, width = (marker & 7) + 1, (marker >> 3 & 3) + 1
        size = 2 + n_frames * width
        if len(data) > size and data[-size] == marker:
            table, frames, start = data[1 - size : -1], [], 0
            for at in range(0, n_frames * width, width):
                length = int.from_bytes(table[at : at + width], "little")
                frames.append(data[start : start + length])
                start += length
    return any(_vp9_frame_shows(frame[0]) for frame in frames if len(frame))


def _vp9_frame_shows(head: int) -> bool:
    if head >> 6 != 2:  # no frame of VP9
        return True
    bits = head if head & 0x30 == 0x30 else head >> 1  # profile 3 has one reserved bit more
    return bool(bits & 0b100) or bool(bits & 1)


class _Mpeg4:
    """ISO/IEC 14496-2: a picture with ``vop_coded`` = 0 repeats the one before.

    A "packed" stream puts two pictures into one packet and such a picture where the second is to be shown.
    """

    def __init__(self, headers: bytes) -> None:
        self._n_time_bits: int | None = None
        self._n_packed = 0
        self._n_coded(headers)

    def shows(self, data: memoryview) -> bool:
        n_coded, n_repeats = self._n_coded(bytes(data))
        if n_coded or not n_repeats:
            self._n_packed += max(0, n_coded - 1)
            return True
        is_due = self._n_packed > 0
        self._n_packed -= is_due
        return is_due

    def _n_coded(self, data: bytes) -> tuple[int, int]:
        """How many pictures are coded, and how many repeat the one before."""
        n_coded = n_repeats = 0
        at = data.find(b"\0\0\1")
        while 0 <= at < len(data) - 4:
            code, after = data[at + 3], _Bits(data[at + 4 : at + 40])
            if _FIRST_VOL <= code <= _LAST_VOL:
                self._n_time_bits = max(1, (_time_resolution(after) - 1).bit_length())
            elif code == _VOP:
                is_coded = self._n_time_bits is None or _is_coded(after, self._n_time_bits)
                n_coded, n_repeats = n_coded + is_coded, n_repeats + (not is_coded)
            at = data.find(b"\0\0\1", at + 3)
        return n_coded, n_repeats


class _Bits:
    """Bits from the first to the last; zeros behind the end."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data), 8 * len(data)

    def take(self, n: int) -> int:
        self._left -= n
        value = self._value >> self._left if self._left >= 0 else self._value << -self._left
        return value & ((1 << n) - 1)


def _time_resolution(bits: _Bits) -> int:
    """``vop_time_increment_resolution`` of a video object layer, clause 6.2.3."""
    bits.take(9)
    version = 1
    if bits.take(1):
        version = bits.take(4)
        bits.take(3)
    if bits.take(4) == _EXTENDED_ASPECT:
        bits.take(16)
    if bits.take(1):
        bits.take(3)
        if bits.take(1):
            bits.take(_VBV_BITS)
    if bits.take(2) == _GREY_SHAPE and version != 1:
        bits.take(4)
    bits.take(1)
    return bits.take(16)


def _is_coded(bits: _Bits, n_time_bits: int) -> bool:
    """``vop_coded`` of a picture, clause 6.2.5; a header that cannot be is taken for that of a coded one."""
    bits.take(2)
    for _ in range(64):  # one bit for each second since the last picture
        if not bits.take(1):
            break
    first_marker, _, second_marker = bits.take(1), bits.take(n_time_bits), bits.take(1)
    is_coded = bits.take(1)
    return bool(is_coded or not first_marker or not second_marker)
