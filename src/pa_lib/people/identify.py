"""Faces to compare: the few best pictures of every person's face, embedded in one more pass over the video."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from pa_lib.contracts import FaceNetwork, Person, Track
from pa_lib.errors import InputError, SettingError

if TYPE_CHECKING:
    from pa_lib.people.finders import AbstractFinder
    from pa_lib.video.frame import Frame

# Photos of more pixels than this are refused before they are decoded: 50 Mpx is more than any phone's.
MAX_PHOTO_PIXELS = 50_000_000
# Smaller faces are not compared: below about 20 px between the borders, strangers look as similar as one person twice.
LEAST_FACE_PX = 20.0


def best_faces(person: Person, at_most: int = 5) -> list[tuple[int, NDArray[np.float32]]]:
    """The clearest and most different views of a person's face.

    Large faces of high confidence first, but not from one moment only: the time the face is seen is cut into equal
    parts and the best of each is taken, so that a head that turns is seen from several sides.

    Args:
        person: The person, with or without faces.
        at_most: Largest number of views.

    Returns:
        Pairs of frame and landmarks (5 2, px), in order of frames; empty where no face is large enough.
    """
    views: list[tuple[int, float, NDArray[np.float32]]] = []
    for track in person.tracks:
        if track.kind == "face" and track.landmarks is not None:
            views += _views(track)
    views.sort(key=lambda view: view[0])
    if not views:
        return []
    parts = np.array_split(np.arange(len(views)), min(at_most, len(views)))
    best = [views[max(part, key=lambda i: (views[i][1], -i))] for part in parts]
    return [(frame, landmarks) for frame, _, landmarks in best]


def embed_people(
    frames: Iterable[Frame], people: Sequence[Person], network: FaceNetwork, at_most: int = 5
) -> dict[int, NDArray[np.float32]]:
    """Embeddings of every person's best faces.

    Reads on only as far as the last frame that is needed, and holds one frame at a time.

    Args:
        frames: The video from its first frame, lazily.
        people: The people to compare.
        network: Network that embeds faces.
        at_most: Largest number of faces of one person.

    Returns:
        Person id -> shape n d. People without a face that can be compared are absent.
    """
    needed: dict[int, list[tuple[int, NDArray[np.float32]]]] = defaultdict(list)
    for person in people:
        for frame, landmarks in best_faces(person, at_most):
            needed[frame].append((person.person_id, landmarks))
    found: dict[int, list[NDArray[np.float32]]] = defaultdict(list)
    last = max(needed, default=-1)
    for item in frames:
        if item.index > last:
            break
        faces = needed.get(item.index)
        if not faces or item.picture is None:
            continue
        embedded = network.embed(item.picture.rgb(), np.stack([landmarks for _, landmarks in faces]))
        for (person_id, _), embedding in zip(faces, embedded, strict=True):
            if np.isfinite(embedding).all():
                found[person_id].append(embedding)
    return {person_id: np.stack(some).astype(np.float32) for person_id, some in found.items()}


def embed_photos(photos: Sequence[Path], network: FaceNetwork, finder: AbstractFinder) -> NDArray[np.float32]:
    """Embeddings of the people on reference photos, one face each.

    Args:
        photos: Image files; EXIF orientation is applied.
        network: Network that embeds faces.
        finder: Finder of faces with landmarks.

    Returns:
        Shape n d, one row per photo.

    Raises:
        InputError: If a photo cannot be read, or shows no face or several.
    """
    rows = []
    for path in photos:
        image = _photo(Path(path))
        faces = [d for d in finder.find([image])[0] if d.kind == "face"]
        if not faces:
            raise InputError(f"photo {path}: no face found; take one that shows the face from the front and larger")
        if len(faces) > 1:
            raise InputError(f"photo {path}: {len(faces)} faces found; cut it so that only the person to keep is on it")
        if faces[0].landmarks is None:
            raise SettingError(
                f"photo {path}: the finder gives no facial landmarks, and faces cannot be compared without; "
                "use people/finder=faces_and_people, centerface or mtcnn"
            )
        rows.append(network.embed(image, faces[0].landmarks[None])[0])
    return np.stack(rows).astype(np.float32)


def _views(track: Track) -> list[tuple[int, float, NDArray[np.float32]]]:
    """Frame, quality and landmarks of every detected face of a track that can be compared."""
    assert track.landmarks is not None
    size = np.sqrt(np.maximum(track.boxes[:, 2:] - track.boxes[:, :2], 0).prod(axis=1))
    is_usable = np.isfinite(track.scores) & np.isfinite(track.landmarks).all(axis=(1, 2)) & (size >= LEAST_FACE_PX)
    # A face twice as large counts twice until 150 px, the side of the networks' own pictures.
    quality = np.nan_to_num(track.scores) * np.minimum(size, 150.0)
    return [(int(track.frames[row]), float(quality[row]), track.landmarks[row]) for row in np.flatnonzero(is_usable)]


def _photo(path: Path) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as opened:
            if opened.width * opened.height > MAX_PHOTO_PIXELS:
                raise InputError(
                    f"photo {path}: {opened.width} x {opened.height} px, at most {MAX_PHOTO_PIXELS:,} px; scale it down"
                )
            return np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"photo {path}: {error}; scale it down") from error
    except UnidentifiedImageError as error:
        raise InputError(f"photo {path}: not an image that can be read; expected JPEG, PNG or WebP") from error
    except (OSError, SyntaxError) as error:
        raise InputError(f"photo {path}: {getattr(error, 'strerror', None) or error}") from error
