"""Dense face meshes by MediaPipe, in a Python of its own: MediaPipe needs numpy 1, pa_lib does not.

    PYTHON_WITH_MEDIAPIPE tools/doubles/meshes.py WHEEL OUT.npz

Writes, for every picture that `looks` lists and in which a face is found, 478 points (x, y, z), px of the picture.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).parents[1]))

import cv2

from doubles.sheets import ANGLES, EMOTIONS, PEOPLE, People

PORTRAIT_PX = 1024
# These portraits cut the hair; the upper parts of the pictures of the whole body do not.
POSTURE_CUT = {"P004": (slice(100, 900), slice(418, 1218)), "P009": (slice(70, 970), slice(310, 1210))}


def front(people: People, person: str) -> NDArray[np.uint8]:
    """The best picture from the front."""
    if person in POSTURE_CUT:
        return people.picture(person, "studio_posture")[POSTURE_CUT[person]]
    portrait = people.picture(person, "studio_portrait")
    return cv2.resize(portrait, (PORTRAIT_PX, PORTRAIT_PX), interpolation=cv2.INTER_AREA)


def looks(people: People) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Every picture of a head, by a name such as ``P001/emotion/happy``."""
    for person in PEOPLE:
        yield f"{person}/front", front(people, person)
        emotions, angles = people.emotions(person), people.angles(person)
        for name in EMOTIONS:
            yield f"{person}/emotion/{name}", emotions[name]
        for name in ANGLES:
            yield f"{person}/angle/{name}", angles[name]


def main() -> None:
    """See the module."""
    import mediapipe

    found: dict[str, NDArray[np.float32]] = {}
    settings = {
        "static_image_mode": True,
        "max_num_faces": 1,
        "refine_landmarks": True,
        "min_detection_confidence": 0.3,
    }
    with mediapipe.solutions.face_mesh.FaceMesh(**settings) as network:
        for name, picture in looks(People(Path(sys.argv[1]))):
            # Twice the size: the detector in front of the mesh misses some small faces.
            large = cv2.resize(picture, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
            faces = network.process(large).multi_face_landmarks
            if faces:
                h, w = picture.shape[:2]
                points = [[point.x * w, point.y * h, point.z * w] for point in faces[0].landmark]
                found[name] = np.array(points, np.float32)
    np.savez(sys.argv[2], **found)


if __name__ == "__main__":
    main()
