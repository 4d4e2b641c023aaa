"""Which of several video streams is the film: files with a picture, a preview or a second film beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest

from pa_lib.video import probe, read_frames

RED, BLUE = (200, 20, 20), (20, 20, 200)


def make_streams(path: Path, counts: Sequence[int], default: int | None = None) -> Path:
    """A file with a video stream of `counts` frames each: the film is red, every other one blue.

    Args:
        counts: Number of frames of each stream; the film is the last one.
        default: Stream that is marked as the default; None leaves that to the muxer.
    """
    with av.open(str(path), "w") as output:
        streams = []
        for number in range(len(counts)):
            stream = output.add_stream("mpeg4", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            if default is not None:
                stream.disposition = av.stream.Disposition.default if number == default else av.stream.Disposition(0)
            streams.append(stream)
        for index in range(max(counts)):
            for number, stream in enumerate(streams):
                if index < counts[number]:
                    color = RED if number == len(counts) - 1 else BLUE
                    picture = np.full((48, 64, 3), color, np.uint8)
                    output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        for stream in streams:
            output.mux(stream.encode(None))
    return path


def is_red(path: Path) -> tuple[int, bool]:
    """Number of frames that are read, and whether all of them are the film's."""
    pictures = [frame.picture for frame in read_frames(probe(path))]
    means = [picture.rgb().reshape(-1, 3).mean(0) for picture in pictures if picture is not None]
    return len(pictures), len(means) == len(pictures) and all(red > 150 > 60 > blue for red, _, blue in means)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".avi", ".nut"])
@pytest.mark.parametrize("default", [None, 0])
def test_a_single_picture_that_nothing_marks_is_not_the_film(tmp_path: Path, suffix: str, default: int | None) -> None:
    """Whatever marks the picture as the default: the muxer of MP4 marks the first stream."""
    clip = make_streams(tmp_path / f"clip{suffix}", [1, 30], default)
    assert is_red(clip) == (30, True)
    assert "video track 2 of 2 is used, the others are dropped" in probe(clip).notes


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_of_two_films_the_marked_one_is_taken(tmp_path: Path, suffix: str) -> None:
    assert is_red(make_streams(tmp_path / f"a{suffix}", [30, 28], default=1)) == (28, True)
    assert is_red(make_streams(tmp_path / f"b{suffix}", [30, 28], default=0)) == (30, False)


@pytest.mark.parametrize("suffix", [".avi", ".mkv"])
def test_a_short_preview_is_not_the_film(tmp_path: Path, suffix: str) -> None:
    """Neither stream is marked, or both are."""
    clip = make_streams(tmp_path / f"clip{suffix}", [5, 30], default=None if suffix == ".avi" else 2)
    assert is_red(clip) == (30, True)


@pytest.mark.parametrize("suffix", [".avi", ".mkv", ".nut"])
def test_of_two_films_alike_the_first_is_taken(tmp_path: Path, suffix: str) -> None:
    """Also where the other one is a little longer: two cameras of one phone do not end at the same frame."""
    clip = make_streams(tmp_path / f"clip{suffix}", [29, 30], default=None if suffix == ".avi" else 2)
    assert is_red(clip) == (29, False)
    assert "video track 1 of 2 is used, the others are dropped" in probe(clip).notes


def test_a_file_of_single_pictures_has_one(tmp_path: Path) -> None:
    assert is_red(make_streams(tmp_path / "clip.mkv", [1, 1], default=1)) == (1, True)
