"""Doubles from the bank, placed as a detector of faces sees them."""

from __future__ import annotations

import numpy as np
import pytest

from pa_lib.contracts import HeadPose
from pa_lib.functional.head_pose import poses_of_landmarks
from pa_lib.modules.reference.casting import BankCasting
from pa_lib.pretrained import CenterFace


@pytest.mark.parametrize("roll", [0.0, 12.0])
def test_a_detector_sees_doubles_at_the_place_and_size_that_were_asked_for(roll: float) -> None:
    """As small as faces in films are: on the whole, since each face differs, and so does each detection."""
    casting, detector = BankCasting(), CenterFace()
    side, scale = 240, 24.0
    pose = HeadPose(120.0, 110.0, scale, roll)
    found = []
    for name in list(casting.names_of(range(16), 5, {}).values()):
        picture = casting.render(name, 0.0, pose, (0.0, 0.0, float(side), float(side)), side)
        grey = picture[:3] + (1 - picture[3:]) * 0.45
        image = np.ascontiguousarray((grey.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy())
        landmarks = detector.detect([image])[0][0].landmarks
        assert landmarks is not None
        seen = poses_of_landmarks(landmarks.astype(np.float64)[None])[0]
        down = float(np.linalg.norm(landmarks[3:].mean(0) - landmarks[:2].mean(0)))
        size = np.sqrt(seen[2] * down) / scale
        found.append([(seen[0] - pose.x) / scale, (seen[1] - pose.y) / scale, np.log(size)])
    assert np.abs(np.mean(found, axis=0)).max() < 0.03
