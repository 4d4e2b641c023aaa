from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from pa_lib.functional.boxes import box_overlaps
from pa_lib.pretrained import MTCNN


def test_real_face_and_none(portrait: Any) -> None:
    blank = np.full((200, 200, 3), 127, np.uint8)
    found, nobody, tiny = MTCNN(min_face_px=60).detect([portrait.image, blank, blank[:30, :10]])
    assert nobody == tiny == []
    assert box_overlaps(np.array([found[0].box]), portrait.face[None])[0, 0] > 0.75
    assert found[0].landmarks is not None
    assert found[0].landmarks.dtype == np.float32
    assert np.abs(found[0].landmarks - portrait.landmarks).max() < 8
    assert isinstance(found[0].box[0], float)


def test_numbers_that_are_not_finite_are_an_error() -> None:
    class Broken:
        def detect(self, image: object, landmarks: bool) -> tuple[Any, Any, Any]:
            return tuple(np.array(value, object) for value in ([[0, 0, np.nan, 9]], [0.9], [np.zeros((5, 2))]))

    detector = MTCNN()
    detector._network = Broken()
    with pytest.raises(RuntimeError, match="not finite"):
        detector.detect([np.zeros((64, 64, 3), np.uint8)])


def test_bad_settings() -> None:
    with pytest.raises(ValueError, match="min_score is 0"):
        MTCNN(min_score=0)
    with pytest.raises(ValueError, match="min_face_px is 5"):
        MTCNN(min_face_px=5)


def test_finders_are_made_without_torch_and_without_a_session() -> None:
    probe = (
        "from pa_lib.people.finders import CenterFaceFinder, FacesAndPeopleFinder, MtcnnFinder; import sys;"
        "FacesAndPeopleFinder(); MtcnnFinder();"
        "print([name for name in ('torch', 'facenet_pytorch', 'onnxruntime') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", probe], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
