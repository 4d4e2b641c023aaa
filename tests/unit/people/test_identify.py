from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from _people import person, standing, track
from pa_lib.contracts import Detection, Person
from pa_lib.errors import PaLibError
from pa_lib.people import best_faces, embed_people, embed_photos
from pa_lib.people.identify import LEAST_FACE_PX


def points(x: float) -> np.ndarray:
    return np.full((5, 2), x, dtype=np.float32)


def face(number: int, n: int, side: float = 40, first: int = 0, scores: list[float] | None = None):
    """A face whose landmarks are all at its frame's number."""
    landmarks = np.stack([points(first + i) for i in range(n)])
    made = track(number, "face", first, [(10, 10, 10 + side, 10 + side)] * n, landmarks=landmarks)
    if scores is not None:
        made.scores[:] = scores
    return made


@dataclass
class _Picture:
    value: int

    def rgb(self) -> np.ndarray:
        return np.full((4, 4, 3), self.value, dtype=np.uint8)


@dataclass
class _Frame:
    index: int
    picture: _Picture | None


@dataclass
class _Network:
    """Answers with (what the image shows, where the landmarks are)."""

    n_dimensions: int = 2
    same_person_distance: float = 0.6
    calls: list[int] = field(default_factory=list)

    def embed(self, image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        self.calls.append(len(landmarks))
        return np.array([[float(image[0, 0, 0]), float(five[0, 0])] for five in landmarks], dtype=np.float32)


@dataclass
class _Finder:
    found: list[Detection]

    def find(self, images: list[np.ndarray]) -> list[list[Detection]]:
        return [self.found for _ in images]


def frames(n: int, broken: tuple[int, ...] = ()):
    for i in range(n):
        yield _Frame(i, None if i in broken else _Picture(i))


def test_the_best_faces_are_spread_over_time() -> None:
    scores = [0.5] * 20
    scores[3], scores[4], scores[12] = 0.9, 0.95, 0.8
    best = best_faces(person(1, face(1, 20, scores=scores)), at_most=2)
    assert [frame for frame, _ in best] == [4, 12]
    np.testing.assert_array_equal(best[0][1], points(4))


def test_larger_faces_come_first() -> None:
    small, large = face(1, 1, side=30), face(2, 1, side=60, first=1)
    assert [f for f, _ in best_faces(person(1, small, large), at_most=1)] == [1]


def test_faces_that_cannot_be_compared_are_left_out() -> None:
    tiny = face(1, 5, side=LEAST_FACE_PX - 1)
    filled = face(2, 5, scores=[float("nan")] * 5)
    without = standing(3, "face", 10, 10, 40, 40)
    assert best_faces(person(1, tiny, filled, without, standing(4, "body", 0, 0, 90, 200))) == []
    assert len(best_faces(person(1, face(1, 3)))) == 3


def test_everybody_is_embedded_in_one_pass() -> None:
    people = [person(1, face(1, 10)), person(2, face(2, 10)), person(3, standing(3, "body", 0, 0, 90, 200))]
    network = _Network()
    found = embed_people(frames(30), people, network, at_most=2)  # type: ignore[arg-type]
    assert sorted(found) == [1, 2]
    # The frame's own picture met the landmarks of the same frame.
    np.testing.assert_array_equal(found[1][:, 0], found[1][:, 1])
    assert found[1].shape == (2, 2)
    assert network.calls == [2, 2]


def test_the_pass_ends_with_the_last_face_and_survives_broken_frames() -> None:
    read = []

    def counted():
        for frame in frames(30, broken=(0,)):
            read.append(frame.index)
            yield frame

    scores = [0.9, *[0.1] * 8, 0.9]
    found = embed_people(counted(), [person(1, face(1, 10, scores=scores))], _Network(), at_most=2)  # type: ignore[arg-type]
    assert found[1].tolist() == [[9.0, 9.0]]
    assert max(read) <= 10
    assert embed_people(frames(5), [], _Network()) == {}  # type: ignore[arg-type]


def test_embeddings_that_are_not_finite_are_dropped() -> None:
    class Broken(_Network):
        def embed(self, image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
            return np.full((len(landmarks), 2), np.nan, dtype=np.float32)

    people: list[Person] = [person(1, face(1, 4))]
    assert embed_people(frames(5), people, Broken()) == {}  # type: ignore[arg-type]


def photo(folder: Path, name: str = "a.png") -> Path:
    path = folder / name
    Image.fromarray(np.full((8, 8, 3), 7, dtype=np.uint8)).save(path)
    return path


def seen(landmarks: np.ndarray | None = None, kind: str = "face") -> Detection:
    return Detection(kind, (0, 0, 5, 5), 0.9, landmarks)  # type: ignore[arg-type]


def test_photos_are_embedded(tmp_path: Path) -> None:
    finder = _Finder([seen(points(3)), seen(kind="body")])
    rows = embed_photos([photo(tmp_path), photo(tmp_path, "b.png")], _Network(), finder)  # type: ignore[arg-type]
    assert rows.tolist() == [[7.0, 3.0], [7.0, 3.0]]


@pytest.mark.parametrize(
    ("found", "message"),
    [([], "no face found"), ([seen(points(1))] * 3, "3 faces found"), ([seen()], "gives no facial landmarks")],
)
def test_photos_without_one_face_are_refused(tmp_path: Path, found: list[Detection], message: str) -> None:
    with pytest.raises(PaLibError, match=message):
        embed_photos([photo(tmp_path)], _Network(), _Finder(found))  # type: ignore[arg-type]


def test_photos_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    finder = _Finder([seen(points(1))])
    (tmp_path / "text.jpg").write_text("no picture")
    whole = photo(tmp_path, "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    expected = {"missing.jpg": "No such file", "text.jpg": "not an image", "cut.png": "photo .*cut.png"}
    for name, message in expected.items():
        with pytest.raises(PaLibError, match=message):
            embed_photos([tmp_path / name], _Network(), finder)  # type: ignore[arg-type]


def test_huge_photos_are_refused_before_they_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pa_lib.people.identify.MAX_PHOTO_PIXELS", 63)
    with pytest.raises(PaLibError, match="8 x 8 px, at most 63 px"):
        embed_photos([photo(tmp_path)], _Network(), _Finder([]))  # type: ignore[arg-type]


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((8, 16, 3), dtype=np.uint8)).save(path, exif=exif)
    shapes = []

    class Looking(_Finder):
        def find(self, images: list[np.ndarray]) -> list[list[Detection]]:
            shapes.append(images[0].shape)
            return super().find(images)

    embed_photos([path], _Network(), Looking([seen(points(1))]))  # type: ignore[arg-type]
    assert shapes == [(16, 8, 3)]
