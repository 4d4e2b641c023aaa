"""Motion of the camera: against homographies that the frames were made with."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from pa_lib.functional.camera import camera_motion, placed

HEIGHT, WIDTH, N = 240, 320, 9


def scene(seed: int = 0) -> NDArray[np.uint8]:
    """A picture of 480 x 640 with blobs of all sizes."""
    random = np.random.default_rng(seed)
    layers = [
        cv2.resize(random.normal(0, 1, (480 // size, 640 // size, 3)), (640, 480), interpolation=cv2.INTER_CUBIC)
        for size in (4, 10, 30)
    ]
    return np.clip(128 + 30 * sum(layers), 0, 255).astype(np.uint8)


def ways(zoom: float, turn: float, aside: float, tilt: float) -> NDArray[np.float64]:
    """Homographies from frames to the scene, of a camera that moves evenly."""
    found = []
    for at in range(N):
        t = at - N // 2
        angle, size = turn * t, 1 + zoom * t
        cos, sin = size * np.cos(angle), size * np.sin(angle)
        found.append([[cos, -sin, 160 + aside * t], [sin, cos, 120 - 0.5 * aside * t], [tilt * t, 0, 1]])
    return np.array(found)


def filmed(picture: NDArray[np.uint8], to_scene: NDArray[np.float64]) -> Tensor:
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    frames = [cv2.warpPerspective(picture, one, (WIDTH, HEIGHT), flags=flags) for one in to_scene]
    return torch.from_numpy(np.stack(frames)).movedim(-1, 1).contiguous()


def walker(frames: Tensor) -> Tensor:
    """Hidden pixels of a head that goes its own way."""
    hidden = torch.zeros(N, HEIGHT, WIDTH, dtype=torch.bool)
    for at in range(N):
        hidden[at, 60:120, 40 + 20 * at : 90 + 20 * at] = True
    return hidden


@pytest.mark.parametrize(
    ("zoom", "turn", "aside", "tilt"),
    [(0, 0, 3.3, 0), (0.01, 0, 0, 0), (0, 0.006, 1.0, 0), (0.004, 0.003, -2.0, 2e-5), (0, 0, 14.0, 0)],
)
def test_it_finds_how_the_frames_were_made(zoom: float, turn: float, aside: float, tilt: float) -> None:
    to_scene = ways(zoom, turn, aside, tilt)
    frames = filmed(scene(), to_scene)
    hidden = walker(frames)
    frames = torch.where(hidden[:, None], torch.randint_like(frames, 256), frames)
    motion = camera_motion(frames, hidden)
    assert motion is not None
    at = np.array([[x, y] for x in (30.0, 160.0, 290.0) for y in (30.0, 120.0, 210.0)])
    middle = to_scene[N // 2]
    for own, found in zip(to_scene, motion, strict=True):
        expected = placed(np.linalg.inv(own) @ middle, at)
        assert np.abs(placed(found, at) - expected).max() < 0.35
        assert np.abs(placed(found, at) - expected).mean() < 0.15


def test_hidden_pixels_do_not_matter() -> None:
    frames = filmed(scene(), ways(0.003, 0.002, 3.0, 0))
    hidden = walker(frames)
    other = torch.where(hidden[:, None], 255 - frames, frames)
    one, two = camera_motion(frames, hidden), camera_motion(other, hidden)
    assert one is not None
    assert two is not None
    assert np.array_equal(one, two)


def test_a_camera_that_stands_still_has_no_motion_though_people_walk() -> None:
    still = filmed(scene(), ways(0, 0, 0, 0))
    noise = torch.randint(-4, 5, still.shape, generator=torch.Generator().manual_seed(0))
    frames = (still.int() + noise).clamp(0, 255).byte()
    other = torch.from_numpy(scene(1)).movedim(-1, 0)
    for at in range(N):  # a visible body with texture that covers a quarter of the picture
        frames[at, :, 60:, 30 + 15 * at : 130 + 15 * at] = other[:, 60:HEIGHT, :100]
    assert camera_motion(frames, torch.zeros(N, HEIGHT, WIDTH, dtype=torch.bool)) is None


def test_nothing_to_hold_on_to_is_no_motion() -> None:
    flat = torch.full((N, 3, HEIGHT, WIDTH), 90, dtype=torch.uint8)
    nothing = torch.zeros(N, HEIGHT, WIDTH, dtype=torch.bool)
    assert camera_motion(flat, nothing) is None
    assert camera_motion(flat, ~nothing) is None
    assert camera_motion(flat[:1], nothing[:1]) is None


def test_another_shot_is_unknown() -> None:
    to_scene = ways(0, 0, 3.3, 0)
    frames = filmed(scene(), to_scene)
    frames[-3:] = filmed(scene(1), to_scene)[-3:]
    motion = camera_motion(frames, torch.zeros(N, HEIGHT, WIDTH, dtype=torch.bool))
    assert motion is not None
    assert np.isnan(motion[:, 0, 0]).tolist() == [False] * 6 + [True] * 3
