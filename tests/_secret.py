"""A clip with a secret: a magenta square that crosses a grey scene, and a finder that sees it by its color.

Nothing else in the clip is magenta, so a magenta pixel in an output is a leak. The square has a pattern, as faces have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from pa_lib.contracts import Detection
from pa_lib.modules import ConventionalAnonymizer
from pa_lib.people import AbstractFinder, BoxMasker, HideAll, KalmanTracker
from pa_lib.pipeline import AnonymizationPipeline, RunOutcome, RunReport, SearchSettings

N_FRAMES, WIDTH, HEIGHT, SIDE = 30, 160, 120, 24
MAGENTA = (255, 0, 255)
DARK_MAGENTA = (190, 0, 190)


class ColorFinder(AbstractFinder):
    """Finds the magenta square exactly; fails in the calls that it is to fail in."""

    def __init__(self, fails_at: Callable[[int], bool] = lambda call: False) -> None:
        self.fails_at = fails_at
        self.calls = 0

    def find(self, images: Sequence[NDArray[np.uint8]]) -> list[list[Detection]]:
        found = []
        for image in images:
            self.calls += 1
            if self.fails_at(self.calls):
                raise RuntimeError("the network is on fire")
            rows, columns = np.nonzero(is_magenta(image))
            if len(rows):
                box = (float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1))
                found.append([Detection("face", box, 0.99)])
            else:
                found.append([])
        return found

    def release(self) -> None:
        pass


def is_magenta(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    red, green, blue = (image[..., channel].astype(int) for channel in range(3))
    return (red > 150) & (blue > 150) & (green < 110)


def secret_clip(path: Path, n_frames: int = N_FRAMES) -> Path:
    """The square crosses the scene from left to right."""
    scene = np.random.default_rng(0).integers(90, 140, (HEIGHT, WIDTH, 1), dtype=np.uint8).repeat(3, 2)
    square = np.full((SIDE, SIDE, 3), MAGENTA, np.uint8)
    square[::6], square[1::6], square[2::6] = DARK_MAGENTA, DARK_MAGENTA, DARK_MAGENTA
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=10, options={"crf": "6", "g": "5", "bf": "0", "preset": "ultrafast"}
        )
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv444p"
        for index in range(n_frames):
            image = scene.copy()
            image[40 : 40 + SIDE, 10 + 4 * index : 10 + 4 * index + SIDE] = square
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def pipeline(**parts: Any) -> AnonymizationPipeline:
    """A pipeline that hides the square, but for the parts that are given."""
    defaults: dict[str, Any] = {
        "finder": ColorFinder(),
        "tracker": KalmanTracker(),
        "chooser": HideAll(),
        "masker": BoxMasker(),
        "module": ConventionalAnonymizer("fill", color=(0, 90, 0)),
        "search": SearchSettings(stride=3),
    }
    return AnonymizationPipeline(**(defaults | parts))


def decoded(path: Path) -> list[NDArray[np.uint8]]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def report_of(outcome: RunOutcome) -> RunReport:
    return RunReport.read_json(outcome.files["report"])


def leaks(output: Path) -> list[int]:
    """Frames of a video that show something of the secret."""
    return [index for index, image in enumerate(decoded(output)) if is_magenta(image).any()]
