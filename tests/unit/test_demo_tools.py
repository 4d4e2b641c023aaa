"""The demo: how its clip is put together, what is run on it, and the picture of it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import make_demo_clip
import make_readme_picture
import numpy as np
import pytest
from make_demo_clip import N_FRAMES, SIZE, WALKERS, CutOut, Sway, filmed, guided, placed
from PIL import Image

from _clips import make_clip
from pa_lib.cli.compose import compose
from pa_lib.doubles import DoubleBank
from pa_lib.video import probe

MAKEFILE = Path(__file__).parents[2] / "Makefile"


def test_guided_values_follow_the_edge_of_the_picture() -> None:
    guide = np.zeros((60, 60, 3), np.float32)
    guide[:, 30:] = (0.9, 0.5, 0.2)
    rough = np.zeros((60, 60), np.float32)
    rough[:, 27:] = 1  # three pixels beside the edge
    made = guided(guide, rough, 8, 1e-4)
    assert made[30, 31] > 0.95
    assert made[30, 29] < 0.5  # in the rough values it was 1
    assert made[30, 10] < 0.01


@pytest.mark.parametrize("walker", WALKERS)
def test_a_walker_stands_on_the_ground_in_perspective(walker: make_demo_clip.Walker) -> None:
    alpha = np.zeros((2528, 1696), np.float32)
    middle, feet = int(walker.feet[0]), int(walker.feet[1])
    alpha[int(feet - walker.tall_px) : feet, middle - 100 : middle + 100] = 1
    cut = CutOut.of(np.full((2528, 1696, 3), 0.5, np.float32), alpha, walker.largest)
    tops = {}
    for t, (_, scale) in ((0.0, walker.start), (1.0, walker.end)):
        layer = placed(walker, cut, t, (1800, 1696))
        opacity = layer[..., 3]
        np.testing.assert_allclose(layer[..., 0], 0.5 * opacity, atol=1e-5)
        tops[t] = np.flatnonzero(opacity.max(axis=1) > 0.5)[0]
        head = make_demo_clip.HORIZON + (make_demo_clip.CAMERA_M - walker.tall_m) * scale
        assert abs(tops[t] - head) < 0.05 * scale  # steps lift the body by up to 2.5 cm
    assert tops[1.0] < tops[0.0]  # nearer and taller than the camera: higher in the picture


def test_the_camera_moves_and_never_sees_the_border() -> None:
    picture = np.ones((make_demo_clip.PLATE_HEIGHT, 1696, 3), np.float32)
    random = np.random.default_rng(0)
    for index in range(0, N_FRAMES, 4):
        frame = filmed(picture, index / (N_FRAMES - 1), random)
        assert frame.shape == (SIZE[1], SIZE[0], 3)
        assert frame.min() > 230


def test_the_warp_moves_the_man_and_leaves_the_far_sides() -> None:
    x, y = Sway((1000, 1696)).at(0.7)
    rows, columns = np.mgrid[:1000, :1696]
    moved = np.hypot(x - columns, y - rows)
    assert moved[300, 830] > 1
    assert moved[:, :30].max() < 0.6
    assert moved[:, -30:].max() < 0.6


def test_no_one_of_the_clip_is_a_double() -> None:
    cast = {make_demo_clip.MAN, *(walker.person for walker in WALKERS)}
    assert not cast & set(DoubleBank().names)


def test_a_clip_that_is_there_is_kept(tmp_path: Path) -> None:
    (tmp_path / "park.mp4").write_bytes(b"there")
    make_demo_clip.main([str(tmp_path / "park.mp4")])
    assert (tmp_path / "park.mp4").read_bytes() == b"there"


def test_clips_are_encoded(tmp_path: Path) -> None:
    path = tmp_path / "new" / "park.mp4"
    make_demo_clip.encode(path, iter([np.full((SIZE[1], SIZE[0], 3), 90, np.uint8)] * 3))
    assert (probe(path).width, probe(path).height) == SIZE
    assert [file.name for file in path.parent.iterdir()] == ["park.mp4"]


def test_what_the_demo_runs_composes() -> None:
    lines = re.findall(r"^\t\$\(BIN\)/pa-anonymize (.+)$", MAKEFILE.read_text(encoding="utf-8"), re.MULTILINE)
    (line,) = lines
    assert compose("anonymize", shlex.split(line.replace("$(DEMO)", ".demo")))["input"] == ".demo/park.mp4"


def test_picture_of_the_readme(tmp_path: Path) -> None:
    def before(index: int, width: int, height: int) -> np.ndarray:
        return np.full((height, width, 3), (200, 10 * index, 40), np.uint8)

    def after(index: int, width: int, height: int) -> np.ndarray:
        return np.full((height, width, 3), (40, 10 * index, 200), np.uint8)

    clip = make_clip(tmp_path / "park.mp4", n_frames=12, draw=before)
    make_clip(tmp_path / "park.anonymized.mp4", n_frames=12, draw=after)
    out = tmp_path / "demo.jpg"
    make_readme_picture.main([str(clip), "--frames", "2", "9", "--out", str(out)])
    made = np.asarray(Image.open(out)).astype(int)
    height, width = made.shape[:2]
    assert out.stat().st_size <= make_readme_picture.MOST_BYTES
    for row, color in ((0, (200, 40)), (1, (40, 200))):
        for column, index in enumerate((2, 9)):
            seen = made[height // 4 + row * height // 2, width // 4 + column * width // 2]
            assert np.abs(seen - (color[0], 10 * index, color[1])).max() <= 12
