from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from _attacks import SIDE, Same, Static, photos
from pa_lib.contracts import Clip, ClipMasks
from pa_lib.data import FaceDataModule
from pa_lib.errors import PaLibError
from pa_lib.evaluation.attack import anonymized_photos, face_photos, run_attack
from pa_lib.functional import wilson_interval
from pa_lib.modules import AbstractAttack, Anonymized, AttackResult, ConventionalAnonymizer, Photos


class Listening(AbstractAttack):
    """Learns nothing and says what it was told."""

    name: ClassVar[str] = "listening"
    max_epochs = 0

    def __init__(self, values: Tensor | None = None, is_rate: bool = True) -> None:
        super().__init__()
        self.values = torch.tensor([1.0, 0.0, 0.0, 1.0]) if values is None else values
        self.is_rate = is_rate
        self.seen: Anonymized | None = None

    def views(self, photos: Photos, n_views: int) -> Tensor:
        return torch.tensor([n_views, 0] + [1] * (len(photos) - 2))

    def prepare(self, seen: Anonymized) -> None:
        self.seen = seen

    def results(self) -> tuple[AttackResult, ...]:
        return (AttackResult("listening", self.values, "things", "what", self.is_rate, counted={"odd": 2}),)

    def protocol(self) -> dict[str, Any]:
        return {}


class Watching(Same):
    def __init__(self) -> None:
        self.given: list[ClipMasks] = []

    def anonymize(self, clip: Clip, masks: ClipMasks, *, seed: int = 0) -> Clip:
        self.given.append(masks)
        return clip


class TestRunAttack:
    def test_anonymizes_what_is_asked_for_as_often_as_makes_sense(self) -> None:
        for system, expected in ((Same(), [0, 2, 3]), (Static(), [0, 0, 2, 3])):
            attack = Listening()
            run_attack(attack, system, photos(2))
            assert attack.seen is not None
            assert attack.seen.photo.tolist() == expected

    def test_attacks_the_composite(self) -> None:
        made = photos(2)
        masks = made.masks.clone()
        masks[:, :, :20] = 0
        attack = Listening()
        run_attack(attack, Static(), Photos(made.frames, masks, made.people, made.landmarks))
        assert attack.seen is not None
        frames, of = attack.seen.frames, attack.seen.photo
        assert torch.equal(frames[:, :, :20], made.frames[of][:, :, :20])
        assert (frames[:, :, 20:] != made.frames[of][:, :, 20:]).float().mean() > 0.9
        assert not torch.equal(frames[0], frames[1])

    def test_rates_have_wilsons_interval_and_means_students(self) -> None:
        (rate,) = run_attack(Listening(), Same(), photos(2)).values
        assert (rate.value, rate.n, rate.n_of, dict(rate.counted)) == (0.5, 4, "things", {"odd": 2})
        assert rate.interval == wilson_interval(2, 4)
        (mean,) = run_attack(Listening(torch.tensor([1.0, 2.0, 3.0]), False), Same(), photos(2)).values
        assert mean.value == 2
        assert mean.interval == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5), abs=1e-5)
        (none,) = run_attack(Listening(torch.zeros(0)), Same(), photos(2)).values
        assert none.value != none.value
        assert none.interval is None

    def test_leaves_the_callers_random_numbers_alone(self) -> None:
        torch.manual_seed(5)
        expected = torch.rand(3)
        torch.manual_seed(5)
        run_attack(Listening(), Same(), photos(2))
        assert torch.equal(torch.rand(3), expected)

    def test_tells_how_far_it_is(self) -> None:
        told: list[tuple[str, int, int]] = []
        run_attack(Listening(), Same(), photos(2), on_progress=lambda *at: told.append(at))
        assert told == [("anonymize", 3, 3)]  # many at once
        told.clear()
        run_attack(Listening(), Static(), photos(2), on_progress=lambda *at: told.append(at))
        # Each by itself, for this system's noise hangs on how many there are.
        assert told == [("anonymize", done, 4) for done in (1, 2, 3, 4)]

    def test_refuses_an_empty_mask(self) -> None:
        made = photos(2)
        with pytest.raises(PaLibError, match="photo 0 has an empty mask"):
            run_attack(Listening(), Same(), Photos(made.frames, made.masks * 0, made.people, made.landmarks))

    @pytest.mark.wrong_types
    def test_refuses_a_system_that_gives_back_another_size(self) -> None:
        class Small(Same):
            def anonymize(self, clip: Clip, masks: ClipMasks, *, seed: int = 0) -> Clip:
                return Clip(clip.frames[..., ::2])

        with pytest.raises(ValueError, match="source's shape"):
            run_attack(Listening(), Small(), photos(2))

    def test_refuses_photos_that_were_not_anonymized(self) -> None:
        made = photos(2)
        with pytest.raises(PaLibError, match="photo 1 was not anonymized"):
            Anonymized(made, made.frames[:1], torch.tensor([0])).rows(torch.tensor([0, 1]))

    @pytest.mark.wrong_types
    def test_refuses_photos_that_do_not_fit(self) -> None:
        made = photos(2)
        with pytest.raises(PaLibError, match="masks has shape"):
            Photos(made.frames, made.masks[:, 0], made.people, made.landmarks)
        with pytest.raises(PaLibError, match="expected uint8"):
            Photos(made.frames.float(), made.masks, made.people, made.landmarks)


class TestAnonymizedPhotos:
    def masked(self, masks: Tensor) -> Photos:
        some = photos(2)
        return Photos(some.frames, masks, some.people, some.landmarks)

    def test_paints_under_the_masks_only(self) -> None:
        masks = torch.zeros(4, 1, SIDE, SIDE)
        masks[:, :, 10:30, 5:25] = 1
        given_photos = self.masked(masks)
        rows = torch.tensor([3, 1])
        painted = anonymized_photos(Static(), given_photos, rows, seed=7)
        source = given_photos.frames[rows]
        is_hidden = masks[rows].expand_as(source) > 0
        assert torch.equal(painted[~is_hidden], source[~is_hidden])
        assert (painted[is_hidden] != source[is_hidden]).float().mean() > 0.9

    def test_everybody_has_a_number_of_their_own(self) -> None:
        masks = torch.zeros(4, 1, SIDE, SIDE)
        masks[:, :, 10:30, 5:25] = 1
        system = Watching()
        anonymized_photos(system, self.masked(masks), torch.tensor([2, 0]))
        (given,) = system.given
        found = [(one.person_id, one.frame, one.top, one.left, tuple(one.alpha.shape)) for one in given.people]
        assert found == [(3, 0, 10, 5, (20, 20)), (1, 1, 10, 5, (20, 20))]

    def test_refuses_a_photo_twice_and_an_empty_mask(self) -> None:
        with pytest.raises(PaLibError, match="twice"):
            anonymized_photos(Same(), photos(2), torch.tensor([1, 1]))
        with pytest.raises(PaLibError, match="photo 2 has an empty mask"):
            anonymized_photos(Same(), self.masked(torch.zeros(4, 1, SIDE, SIDE)), torch.tensor([2]))


class TestFacePhotos:
    def _folder(self, folder: Path, with_points: bool) -> Path:
        # One dot at each landmark, in a picture wider than high, so that the square has to be found.
        picture = np.zeros((100, 160, 3), np.uint8)
        points = {"eye1": (70, 40), "eye2": (90, 41), "nose": (80, 52), "mouth1": (72, 62), "mouth2": (88, 62)}
        for x, y in points.values():
            cv2.circle(picture, (x, y), 1, (255, 255, 255), -1)
        cv2.imwrite(str(folder / "a.png"), picture)
        box = {"box_x": 60, "box_y": 25, "box_w": 40, "box_h": 50}
        given = {f"{name}_{axis}": point[at] for name, point in points.items() for at, axis in enumerate("xy")}
        columns = {"file": "a.png", "group": "g", "split": "train"} | box | (given if with_points else {})
        rows = [columns, columns | {"split": "val"}, columns | {"group": ""}]
        table = ["\t".join(columns), *("\t".join(str(value) for value in row.values()) for row in rows)]
        (folder / "index.tsv").write_text("\n".join(table) + "\n")
        return folder

    def test_landmarks_lie_where_they_are_in_the_frame(self, tmp_path: Path) -> None:
        made = face_photos(FaceDataModule(self._folder(tmp_path, True), side=64))
        assert made.frames.shape == (3, 3, 64, 64)
        for x, y in made.landmarks[0].round().long().tolist():
            assert made.frames[0, 0, y - 1 : y + 2, x - 1 : x + 2].max() > 100
        blank = made.frames[0, 0].clone()
        for x, y in made.landmarks[0].round().long().tolist():
            blank[y - 2 : y + 3, x - 2 : x + 3] = 0
        assert blank.max() < 30

    def test_takes_both_sides_and_keeps_people_apart(self, tmp_path: Path) -> None:
        made = face_photos(FaceDataModule(self._folder(tmp_path, True), side=32))
        people = made.people.tolist()
        assert len(people) == 3
        assert sorted(people.count(person) for person in set(people)) == [1, 2]
        assert made.masks.min() == 0
        assert made.masks.max() == 1

    def test_landmarks_that_are_not_given_lie_in_the_box(self, tmp_path: Path) -> None:
        folder = self._folder(tmp_path, False)
        left, right = face_photos(FaceDataModule(folder, side=100)).landmarks[0, :2]
        # The square begins at x 30 of the picture: its middle is that of the box.
        assert left.tolist() == pytest.approx([60 + 0.27 * 40 - 30, 25 + 0.39 * 50], abs=1e-4)
        assert right.tolist() == pytest.approx([60 + 0.74 * 40 - 30, 25 + 0.39 * 50], abs=1e-4)


def test_fill_gives_exactly_chance() -> None:
    from pa_lib.modules import ParrotAttack
    from pa_lib.pretrained import FaceIdentity

    system = ConventionalAnonymizer("fill", color=(90, 120, 60))
    measured = run_attack(ParrotAttack(FaceIdentity(), max_epochs=1, batch_size=8), system, photos(7))
    rank1, rank5, _, chance = measured.values
    assert rank1.value == pytest.approx(1 / 6)
    assert rank5.value == pytest.approx(5 / 6)
    assert chance.value == pytest.approx(1 / 6)
