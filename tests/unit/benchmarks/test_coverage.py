"""The rule that says who is covered, and the yardstick's masks: a benchmark that counts wrongly is worse than none."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from skimage.draw import ellipse as reference_ellipse

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

import _annotations
import _bench
import _deface
from _annotations import Target, recall


def test_a_face_is_covered_by_a_mask_of_its_ellipse_and_half_covered_by_half_a_mask() -> None:
    target = Target(1, 0, (10, 20, 50, 80))
    mask = np.zeros((100, 100), dtype=bool)
    assert target.covered(mask) == 0
    mask[20:80, 10:30] = True  # the left half
    assert target.covered(mask) == pytest.approx(0.5, abs=0.01)
    mask[20:80, 10:50] = _annotations.ellipse(40, 60)
    assert target.covered(mask) == 1


def test_the_inscribed_ellipse_has_the_area_of_one() -> None:
    assert _annotations.ellipse(400, 300).mean() == pytest.approx(np.pi / 4, abs=0.002)


def test_a_pedestrian_is_judged_by_its_own_pixels_only() -> None:
    own = np.zeros((10, 10), dtype=bool)
    own[:, 4:6] = True
    target = Target(1, 0, (0, 0, 10, 10), pixels=own)
    mask = np.zeros((20, 20), dtype=bool)
    mask[0:5] = True
    assert target.covered(mask) == 0.5


def test_recall_counts_a_miss_between_two_covered_frames() -> None:
    targets = [Target(1, frame, (0, 0, 20, 20)) for frame in range(5)] + [Target(2, 1, (30, 0, 50, 20))]
    shares = {(1, 0): 1.0, (1, 1): 0.2, (1, 2): 0.95, (1, 3): 0.89, (1, 4): 0.0, (2, 1): 1.0}
    found = recall(targets, shares)
    # frame 1 lies between two covered ones; frame 3 does not, as frame 4 is open too
    assert (found.n_targets, found.n_covered, found.n_between) == (6, 3, 1)
    assert found.worst_frame == 0
    assert found.share == 0.5


def test_nobody_to_cover_is_no_recall() -> None:
    assert recall([], {}).share is None


@pytest.mark.parametrize("box", [(30, 30, 50, 60), (0, 0, 12, 17), (80, 70, 99, 99)])
def test_the_yardstick_replaces_the_ellipse_that_scikit_image_draws(box: tuple[int, int, int, int]) -> None:
    x0, y0, x1, y1 = box
    expected = np.zeros((100, 100), dtype=bool)
    left, top = max(0, round(x0 - 0.3 * (x1 - x0))), max(0, round(y0 - 0.3 * (y1 - y0)))
    right, bottom = min(99, round(x1 + 0.3 * (x1 - x0))), min(99, round(y1 + 0.3 * (y1 - y0)))
    down, across = (bottom - top) // 2, (right - left) // 2
    rows, columns = reference_ellipse(down, across, down, across)
    expected[top + rows, left + columns] = True
    assert np.array_equal(_deface.replaced(np.array([box], dtype=float), 100, 100), expected)


def test_a_child_is_measured_from_start_to_end() -> None:
    program = "import time; block = bytearray(200 * 2**20); time.sleep(0.3)"
    run = _bench.run_child([sys.executable, "-c", program])
    assert run.seconds >= 0.3
    assert 200 <= run.peak_mib <= 300


def test_a_child_that_fails_stops_the_benchmark() -> None:
    with pytest.raises(SystemExit, match="exit code 7"):
        _bench.run_child([sys.executable, "-c", "raise SystemExit(7)"])


def test_the_annotations_lie_inside_their_clips() -> None:
    import json

    record = json.loads((_bench.HERE / "annotations" / "faces.json").read_text())
    assert record
    for entry in record.values():
        for face in entry["faces"]:
            assert 0 <= face["first_frame"] <= entry["n_frames"] - len(face["boxes"])
            for x, y, width, height in filter(None, face["boxes"]):
                assert x >= 0
                assert y >= 0
                assert 0 < width <= entry["width"] - x
                assert 0 < height <= entry["height"] - y
