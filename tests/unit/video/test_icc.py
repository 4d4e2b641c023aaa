"""ICC profiles keep their colors and nothing else."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from pa_lib.video.icc import colors_alone


def profile(version: int = 4) -> bytes:
    """sRGB with a camera's owner in its description, a device, and a private tag with a picture."""
    plain = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    (count,) = struct.unpack_from(">I", plain, 128)
    entries = [struct.unpack_from(">4sII", plain, 132 + 12 * at) for at in range(count)]
    tags = {name: plain[start : start + size] for name, start, size in entries}
    tags |= {b"priv": b"data" + bytes(4) + b"Secret", b"dmnd": b"text" + bytes(4) + b"Secret\0"}
    tags[b"lumi"] = b"text" + bytes(4) + b"Secret\0"  # of a name that colors have
    tags[b"desc"] = b"text" + bytes(4) + b"Secret\0"
    table, body, start = b"", b"", 132 + 12 * len(tags)
    for name, data in tags.items():
        table += struct.pack(">4sII", name, start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = bytearray(plain[:128])
    head[0:4] = struct.pack(">I", start + len(body))
    head[8], head[48:56] = version, b"SecretMk"
    return bytes(head) + struct.pack(">I", len(tags)) + table + body


def lab(icc: bytes, colors: np.ndarray) -> np.ndarray:
    image = Image.fromarray(colors)
    done = ImageCms.profileToProfile(image, io.BytesIO(icc), ImageCms.createProfile("LAB"), outputMode="LAB")
    return np.asarray(done)


@pytest.mark.parametrize("version", [2, 4])
def test_colors_stay_and_all_else_goes(version):
    given_profile = profile(version)
    assert b"Secret" in given_profile
    kept = colors_alone(given_profile)
    assert b"Secret" not in kept
    assert len(kept) == struct.unpack_from(">I", kept)[0]
    colors = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    assert np.array_equal(lab(given_profile, colors), lab(kept, colors))
    assert "color profile" in ImageCms.getProfileDescription(io.BytesIO(kept))


@given(st.binary(max_size=400), st.integers(0, 600))
def test_a_damaged_profile_is_left_out_or_read_whole(noise, length):
    for data in (noise, profile()[:length], profile()[:128] + noise):
        kept = colors_alone(data)
        assert kept is None or b"Secret" not in kept
