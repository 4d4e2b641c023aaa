"""A real face that comes with a package: scikit-image's astronaut (NASA, public domain)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

# Read off the picture by hand, px: forehead to chin and ear to ear, and the five points.
FACE = (182.0, 60.0, 268.0, 178.0)
EYES_NOSE_MOUTH = np.array([[202, 101], [248, 103], [224, 128], [206, 142], [242, 142]], np.float32)


@dataclass(frozen=True)
class Portrait:
    """A picture, and where its one face is."""

    image: NDArray[np.uint8]
    face: NDArray[np.float32]
    landmarks: NDArray[np.float32]


@pytest.fixture(scope="session")
def portrait() -> Portrait:
    data = pytest.importorskip("skimage.data")
    return Portrait(np.asarray(data.astronaut()), np.array(FACE, np.float32), EYES_NOSE_MOUTH)
