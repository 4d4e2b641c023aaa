"""ICC profiles: what the numbers of an image mean, without what else their makers put there."""

from __future__ import annotations

import struct

# What turns numbers into colors, ICC.1:2022 clause 9.2; all else is text, dates, devices, or private.
_COLOR_TAGS = {
    *(b"wtpt", b"bkpt", b"chad", b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC", b"bTRC", b"kTRC", b"lumi", b"cicp"),
    *(b"A2B0", b"A2B1", b"A2B2", b"B2A0", b"B2A1", b"B2A2", b"gamt"),
    *(b"D2B0", b"D2B1", b"D2B2", b"D2B3", b"B2D0", b"B2D1", b"B2D2", b"B2D3"),
}
_COLOR_TYPES = (b"XYZ ", b"curv", b"para", b"sf32", b"mft1", b"mft2", b"mAB ", b"mBA ", b"mpet", b"cicp")
_HEAD = 128
_NAME = "color profile"


def colors_alone(profile: bytes) -> bytes | None:
    """The profile with nothing but what turns numbers into colors: no names, dates, devices, private parts.

    Args:
        profile: An ICC profile of version 2 or 4.

    Returns:
        A profile that means the same colors; None where the given one is damaged.
    """
    try:
        return _rebuilt(profile)
    except (struct.error, ValueError):
        return None


def _rebuilt(profile: bytes) -> bytes:
    (count,) = struct.unpack_from(">I", profile, _HEAD)
    if profile[36:40] != b"acsp" or count > 200:
        raise ValueError("no ICC profile")
    tags: dict[bytes, bytes] = dict(zip((b"desc", b"cprt"), _texts(profile[8]), strict=True))
    for at in range(count):
        name, start, size = struct.unpack_from(">4sII", profile, _HEAD + 4 + 12 * at)
        if start + size > len(profile):
            raise ValueError("a tag reaches beyond the end")
        if name in _COLOR_TAGS and profile[start : start + 4] in _COLOR_TYPES:  # no text under such a name either
            tags[name] = profile[start : start + size]
    places: dict[bytes, int] = {}
    body, first = b"", _HEAD + 4 + 12 * len(tags)
    for data in tags.values():
        if data not in places:  # the three curves are often one
            places[data] = first + len(body)
            body += data.ljust(-(-len(data) // 4) * 4, b"\0")
    table = b"".join(struct.pack(">4sII", name, places[data], len(data)) for name, data in tags.items())
    head = bytearray(profile[:_HEAD])
    head[0:4] = struct.pack(">I", first + len(body))
    head[4:8] = bytes(4)  # who made the converter
    head[24:36] = struct.pack(">6H", 2000, 1, 1, 0, 0, 0)
    head[48:56] = bytes(8)  # maker and model of the device
    head[80:128] = bytes(48)  # who made the profile, and its checksum
    return bytes(head) + struct.pack(">I", len(tags)) + table + body


def _texts(version: int) -> tuple[bytes, bytes]:
    """The two texts that every profile must have, saying nothing."""
    if version >= 4:
        name = _NAME.encode("utf-16-be")
        text = b"mluc" + bytes(4) + struct.pack(">II4sII", 1, 12, b"enUS", len(name), 28) + name
        return text, text
    name = _NAME.encode() + b"\0"
    return b"desc" + bytes(4) + struct.pack(">I", len(name)) + name + bytes(78), b"text" + bytes(4) + name
