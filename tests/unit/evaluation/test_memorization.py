from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import pa_lib
from _attacks import SIDE, Same, photos
from pa_lib.data import FaceDataModule, SyntheticDataModule
from pa_lib.errors import InputError, PaLibError, SettingError
from pa_lib.evaluation import MemorizationOnFaces
from pa_lib.evaluation.memorization import (
    NearestFaces,
    closeness,
    face_identities,
    is_no_more_frequent,
    nearest_faces,
    quantiles,
)
from pa_lib.functional import wilson_interval
from pa_lib.pretrained import FaceIdentity


def made(*distances: float, near: float = 0.0) -> NearestFaces:
    values = torch.tensor(distances, dtype=torch.float64)
    return NearestFaces(values, torch.zeros(len(values), dtype=torch.int64), torch.full_like(values, near), 10)


class TestNearestFaces:
    def test_finds_the_nearest_in_the_plane(self) -> None:
        training = torch.tensor([[0.0, 0.0], [3.0, 4.0], [10.0, 0.0]])
        faces = nearest_faces(torch.tensor([[0.0, 1.0], [3.0, 0.0], [10.0, 0.0]]), training, 3.5)
        assert faces.distance.tolist() == [1.0, 3.0, 0.0]
        assert faces.face.tolist() == [0, 0, 2]
        # (3, 1) is 3.16 from the origin and 4 from (3, 4); (0, 1) is 4.24 from (3, 4).
        assert faces.near_share.tolist() == [1 / 3, 1 / 3, 1 / 3]
        assert faces.n_faces == 3

    def test_leaves_the_very_person_out(self) -> None:
        training = torch.tensor([[0.0], [1.0], [4.0]])
        own = torch.tensor([[True, False, False], [False, True, False]])
        faces = nearest_faces(torch.tensor([[0.0], [1.0]]), training, 2.0, own)
        assert faces.distance.tolist() == [1.0, 1.0]
        assert faces.face.tolist() == [1, 0]
        assert faces.near_share.tolist() == [0.5, 0.5]
        assert faces.n_faces == 2

    def test_keeps_the_digits_of_small_distances(self) -> None:
        far = torch.full((1, 128), 1000.0, dtype=torch.float64)
        near = far.clone()
        near[0, 0] += 1e-6
        assert nearest_faces(near, far, 1.0).distance.item() == pytest.approx(1e-6, rel=1e-3)

    @given(st.integers(1, 600), st.integers(1, 40), st.integers(0, 2**31))
    def test_says_what_one_by_one_says(self, n: int, m: int, seed: int) -> None:
        numbers = np.random.default_rng(seed)
        pictures, training = numbers.normal(size=(n, 3)), numbers.normal(size=(m, 3))
        faces = nearest_faces(torch.from_numpy(pictures), torch.from_numpy(training), 1.0)
        for at in {0, n // 2, n - 1}:
            apart = np.sqrt(((pictures[at] - training) ** 2).sum(1))
            assert faces.distance[at].item() == pytest.approx(apart.min(), rel=1e-12)
            assert faces.face[at].item() == apart.argmin()
            assert faces.near_share[at].item() == pytest.approx((apart < 1.0).mean())

    def test_has_nothing_to_say_about_nothing(self) -> None:
        faces = nearest_faces(torch.zeros(0, 2), torch.zeros(4, 2), 1.0)
        assert (len(faces), faces.n_faces) == (0, 4)
        assert all(math.isnan(value) for value in quantiles(faces).values())
        assert all(math.isnan(figure.value) for figure in closeness("x", faces, 1.0, 0.5))

    def test_refuses_what_has_no_distance(self) -> None:
        two = torch.zeros(2, 3)
        for pictures, training, match in (
            (two, torch.zeros(0, 3), "expected n d and m d"),
            (two + math.nan, two, "not finite"),
            (two, two + math.inf, "not finite"),
        ):
            with pytest.raises(PaLibError, match=match):
                nearest_faces(pictures, training, 1.0)
        with pytest.raises(PaLibError, match="above 0"):
            nearest_faces(two, two, 0.0)

    @pytest.mark.wrong_types
    def test_refuses_shapes_that_do_not_fit(self) -> None:
        two = torch.zeros(2, 3)
        with pytest.raises(PaLibError, match="expected n d and m d"):
            nearest_faces(two, torch.zeros(2, 4), 1.0)
        with pytest.raises(PaLibError, match=r"own has shape \(2,\)"):
            nearest_faces(two, two, 1.0, torch.zeros(2, dtype=torch.bool))

    def test_refuses_unequal_numbers_of_faces(self) -> None:
        two = torch.zeros(2, 3)
        with pytest.raises(PaLibError, match="compared with 1 to 2 faces"):
            nearest_faces(two, two, 1.0, torch.tensor([[True, False], [False, False]]))
        with pytest.raises(PaLibError, match="compared with 0 to 0 faces"):
            nearest_faces(two, two, 1.0, torch.ones(2, 2, dtype=torch.bool))


class TestFigures:
    def test_quantiles_of_even_distances(self) -> None:
        found = quantiles(made(*(at / 100 for at in range(101))), (0.0, 0.05, 0.5, 1.0))
        assert found == pytest.approx({0.0: 0.0, 0.05: 0.05, 0.5: 0.5, 1.0: 1.0})

    def test_counts_and_intervals(self) -> None:
        faces = NearestFaces(
            torch.tensor([0.1, 0.5, 0.6, 0.9], dtype=torch.float64),
            torch.zeros(4, dtype=torch.int64),
            torch.tensor([0.2, 0.1, 0.0, 0.0], dtype=torch.float64),
            10,
        )
        memorized, pairs, mean, tail = closeness("held_out", faces, 0.6, 0.3)
        assert (memorized.name, memorized.value, memorized.n) == ("memorized_held_out", 0.5, 4)
        assert memorized.interval == wilson_interval(2, 4)
        assert (tail.name, tail.value, tail.interval) == ("tail_held_out", 0.25, wilson_interval(1, 4))
        assert (pairs.name, mean.name) == ("near_pairs_held_out", "nearest_face_held_out")
        assert pairs.value == pytest.approx(0.075)
        assert mean.value == pytest.approx(0.525)
        # Student's t with 3 degrees of freedom, 3.182446; deviations about the means by hand.
        half = 3.182446 * math.sqrt((0.425**2 + 0.025**2 + 0.075**2 + 0.375**2) / 3) / 2
        assert mean.interval == pytest.approx((0.0, 0.525 + half), abs=1e-5)  # no distance is below 0
        assert pairs.interval is not None
        assert pairs.interval[0] == 0.0

    def test_leaves_the_tail_out_where_nobody_knows_it(self) -> None:
        assert len(closeness("x", made(0.5), 0.6)) == 3

    def test_verdict_allows_what_the_interval_of_real_faces_allows(self) -> None:
        real = closeness("real", made(*[0.5] * 2, *[0.7] * 98), 0.6)[0]  # 2 %, Wilson 0.55 to 7.0 %
        few = closeness("few", made(*[0.5] * 7, *[0.7] * 93), 0.6)[0]
        many = closeness("many", made(*[0.5] * 8, *[0.7] * 92), 0.6)[0]
        assert is_no_more_frequent(few, real)
        assert not is_no_more_frequent(many, real)

    def test_no_verdict_without_pictures(self) -> None:
        some, none = (closeness("x", faces, 0.6)[0] for faces in (made(0.5), made()))
        for pair in ((some, none), (none, some)):
            with pytest.raises(PaLibError, match="expected pictures in both"):
                is_no_more_frequent(*pair)


class TestFaceIdentities:
    def test_is_what_the_network_says_one_by_one(self) -> None:
        network, given_photos = FaceIdentity(), photos(2)
        told = face_identities(network, given_photos.frames, given_photos.landmarks)
        for row in (0, 3):
            image = given_photos.frames[row].permute(1, 2, 0).contiguous().numpy()
            expected = network.embed(image, given_photos.landmarks[row : row + 1].numpy())[0]
            assert told[row].numpy() == pytest.approx(expected, abs=1e-4)

    def test_of_nothing(self) -> None:
        told = face_identities(FaceIdentity(), torch.zeros(0, 3, SIDE, SIDE, dtype=torch.uint8), torch.zeros(0, 5, 2))
        assert tuple(told.shape) == (0, 128)


class TestMemorizationOnFaces:
    def data(self, folder: Path, n_val: int = 2) -> FaceDataModule:
        lines = ["file\tbox_x\tbox_y\tbox_w\tbox_h\tgroup\tsplit"]
        for at in range(6):
            pixels = np.random.default_rng(at).integers(0, 255, (12, 12, 3)).astype(np.uint8)
            cv2.imwrite(str(folder / f"{at}.png"), np.kron(pixels, np.ones((8, 8, 1), np.uint8)))
            lines.append(f"{at}.png\t24\t24\t48\t48\tp{at}\t{'val' if at < n_val else 'train'}")
        (folder / "index.tsv").write_text("\n".join(lines) + "\n")
        return FaceDataModule(folder, side=48)

    def test_a_system_that_hides_nothing_is_near_its_own_photos_and_no_nearer_to_others(self, tmp_path: Path) -> None:
        source = MemorizationOnFaces(Same(), self.data(tmp_path), FaceIdentity(), n_views=2)
        told = pa_lib.evaluate(source)
        assert told is not None
        (record,) = told.metrics
        values = {value.name: value for value in record.values}
        # Every training photo is its own nearest face; every held-out photo is as near as it is as it was.
        assert values["nearest_face_generated_training"].value == pytest.approx(0, abs=1e-5)
        assert values["memorized_generated_training"].value == 1.0
        assert values["memorized_generated_training"].counted == {"nearest face is of the person of the photo": 4}
        assert values["nearest_face_generated"].value == pytest.approx(values["nearest_face_real"].value, abs=1e-6)
        assert (values["nearest_face_generated"].n, values["nearest_face_real"].n) == (4, 2)
        assert (record.measured_on, told.data["n_clips"]) == ("attack", 6)
        assert any(note.startswith("tail_generated_training is ABOVE") for note in told.notes)

    def test_what_cannot_be_measured_is_refused(self, tmp_path: Path) -> None:
        network = FaceIdentity()
        data = self.data(tmp_path, n_val=0)
        with pytest.raises(InputError, match="holds no photo out"):
            pa_lib.evaluate(MemorizationOnFaces(Same(), data, network))
        with pytest.raises(SettingError, match="n_views 0: expected at least 1"):
            MemorizationOnFaces(Same(), data, network, n_views=0)

    @pytest.mark.wrong_types
    def test_data_without_faces_is_refused(self) -> None:
        clips = SyntheticDataModule(n_clips=4, side=16, n_frames=1)
        with pytest.raises(SettingError, match="got a SyntheticDataModule"):
            MemorizationOnFaces(Same(), clips, FaceIdentity())  # type: ignore[arg-type]
