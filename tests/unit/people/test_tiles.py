from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pa_lib.contracts import Detection
from pa_lib.people.tiles import find_in_tiles, merged, scaled, tile_spans


@given(st.integers(1, 5000), st.integers(2, 900), st.data())
def test_spans_cover_the_side_with_the_overlap_asked_for(length: int, longest: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, longest // 2))
    spans = tile_spans(length, longest, overlap)
    assert spans[0][0] == 0
    assert spans[-1][1] == length
    assert len({end - start for start, end in spans}) == 1
    assert all(end - start <= longest for start, end in spans)
    for (_, end), (start, _) in itertools.pairwise(spans):
        assert end - start >= overlap
    # No fewer would do: n tiles reach n * longest - (n - 1) * overlap.
    if len(spans) > 1:
        assert (len(spans) - 1) * longest - (len(spans) - 2) * overlap < length


def test_impossible_overlap() -> None:
    with pytest.raises(ValueError, match="overlap is 50"):
        tile_spans(100, 50, 50)


def bright_blobs(images: Sequence[NDArray[np.uint8]]) -> list[list[Detection]]:
    """A detector of rectangles of one colour each, of what is seen of them: it cannot tell that one is cut."""
    found = []
    for image in images:
        seen = []
        for colour in np.unique(image[..., 0]):
            if colour:
                rows, columns = np.nonzero(image[..., 0] == colour)
                box = float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1)
                seen.append(Detection("face", box, 0.9, np.array([box[:2]] * 5, np.float32)))
        found.append(seen)
    return found


@given(
    st.integers(40, 300), st.integers(40, 300), st.lists(st.tuples(*[st.floats(0, 1)] * 4), max_size=6), st.booleans()
)
def test_what_fits_the_overlap_is_found_whole_and_once(
    width: int, height: int, places: list[tuple[float, float, float, float]], is_doubled: bool
) -> None:
    image = np.zeros((height, width, 3), np.uint8)
    for at, (x, y, w, h) in enumerate(places):
        # At most 24 - 2 * 8 px: the tiles' cores reach 8 px into each other.
        left, top = int(x * (width - 9)), int(y * (height - 9))
        image[top : top + 1 + int(h * 7), left : left + 1 + int(w * 7)] = 20 + at
    expected = sorted(detection.box for detection in bright_blobs([image])[0])
    zoom, tile, overlap = (2.0, (128, 96), 56) if is_doubled else (1.0, (64, 48), 28)
    if is_doubled:  # interpolation would mix the colours
        grown = image.repeat(2, 0).repeat(2, 1)
        found = find_in_tiles(grown, bright_blobs, zoom=1, tile=tile, overlap=overlap)
        found = [scaled(one, 0.5, 0.5) for one in found]
    else:
        found = find_in_tiles(image, bright_blobs, zoom=zoom, tile=tile, overlap=overlap)
    boxes = {detection.box for detection in found}
    assert sorted(boxes) == expected
    assert all(np.allclose(one.landmarks, one.box[:2]) for one in found)


def test_zoom_answers_in_pixels_of_the_frame() -> None:
    sizes = []

    def detect(images: Sequence[NDArray[np.uint8]]) -> list[list[Detection]]:
        sizes.append(images[0].shape[:2])
        height, width = images[0].shape[:2]
        return [[Detection("face", (0, 0, width, height), 0.5)]]

    (whole,) = find_in_tiles(np.zeros((50, 81, 3), np.uint8), detect, zoom=1.5, tile=(640, 640), overlap=0)
    assert sizes == [(75, 122)]
    assert whole.box == pytest.approx((0, 0, 81, 50))
    assert whole.landmarks is None


def test_merged_keeps_the_best_of_each_place() -> None:
    boxes = [(0, 0, 10, 10), (1, 0, 11, 10), (30, 0, 40, 10)]
    found = [Detection("face", box, score) for box, score in zip(boxes, (0.5, 0.8, 0.3), strict=True)]
    assert merged(found, 0.3) == [found[1], found[2]]
    assert merged([], 0.3) == []
