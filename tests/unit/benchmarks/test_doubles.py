"""The measures of doubles against what is known: a step of known height, a face of known angle, skin of known color."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from _attacks import SIDE, Static, photos
from pa_lib.contracts import Clip, ClipMasks, Detection, PersonMask, Result, Sighting
from pa_lib.metrics import FaceComparer, TemporalWarpingError
from pa_lib.modules import ConventionalAnonymizer
from pa_lib.pretrained.optical_flow import DISFlow

BENCHMARKS = str(Path(__file__).resolve().parents[3] / "benchmarks")
FACE = np.float32([[-20, 0], [20, 0], [0, 22], [-16, 44], [16, 44]])  # eyes, nose and corners of the mouth


@pytest.fixture(scope="module")
def room() -> Iterator[None]:
    sys.path.insert(0, BENCHMARKS)
    yield
    sys.path.remove(BENCHMARKS)


@pytest.fixture(scope="module")
def measures(room: None) -> Any:
    import doubles_measures

    return doubles_measures


def turned(points: np.ndarray, degrees: float) -> np.ndarray:
    angle = math.radians(degrees)
    matrix = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return np.float32(points @ matrix.T)


class TestFigure:
    def test_is_the_ratio_of_sums_not_the_mean_of_ratios(self, measures: Any) -> None:
        found = measures.figure([("a", 1.0, 1.0), ("b", 9.0, 3.0)])
        assert found["value"] == 2.5  # (1 + 9) / (1 + 3); the mean of the ratios is 2
        assert found["n"] == 2

    def test_rows_without_a_denominator_do_not_count(self, measures: Any) -> None:
        assert measures.figure([("a", 1.0, 2.0), ("a", 5.0, 0.0)])["value"] == 0.5
        assert measures.figure([]) == {"value": None, "interval": None, "n": 0}

    def test_groups_that_agree_leave_no_doubt_and_one_group_gives_no_interval(self, measures: Any) -> None:
        low, high = measures.figure([(group, 3.0, 2.0) for group in "abcd"])["interval"]
        assert (low, high) == pytest.approx((1.5, 1.5))
        assert measures.figure([("a", 1.0, 1.0), ("a", 2.0, 1.0)])["interval"] is None

    def test_alike_rows_in_few_groups_are_less_certain_than_apart(self, measures: Any) -> None:
        values = [0.0] * 8 + [1.0] * 8
        alike = measures.figure([(str(at // 8), value, 1.0) for at, value in enumerate(values)])["interval"]
        apart = measures.figure([(str(at), value, 1.0) for at, value in enumerate(values)])["interval"]
        assert alike[1] - alike[0] > apart[1] - apart[0]


class TestPoseError:
    @pytest.mark.parametrize("degrees", [-30.0, 0.0, 5.0, 12.5, 179.0])
    def test_a_turned_face_has_this_angle(self, measures: Any, degrees: float) -> None:
        filmed = FACE + 100
        turn, _ = measures.pose_error(filmed, turned(FACE, degrees) + 100)
        assert turn == pytest.approx(abs(degrees), abs=1e-3)

    def test_angles_go_around(self, measures: Any) -> None:
        turn, _ = measures.pose_error(turned(FACE, 178), turned(FACE, -178))
        assert turn == pytest.approx(4, abs=1e-3)

    def test_a_shift_counts_in_distances_of_the_eyes(self, measures: Any) -> None:
        # In the mean head the eyes are 0.928 of the way from eyes to mouth apart, and the mouth 0.816 wide.
        mean = 50 * np.float32([[-0.464, 0], [0.464, 0], [0, 0.5], [-0.408, 1], [0.408, 1]])
        turn, share = measures.pose_error(mean, mean + np.float32([3.0, 4.0]))
        assert turn == pytest.approx(0, abs=1e-5)
        assert share == pytest.approx(5 / (50 * 0.928), rel=1e-5)

    def test_a_face_that_is_turned_away_has_no_narrower_eyes(self, measures: Any) -> None:
        mean = 50 * np.float32([[-0.464, 0], [0.464, 0], [0, 0.5], [-0.408, 1], [0.408, 1]])
        aside = mean * np.float32([0.5, 1.0])
        assert measures.pose_error(aside, aside + 5)[1] == pytest.approx(measures.pose_error(mean, mean + 5)[1])

    def test_points_that_a_turn_moves(self, measures: Any) -> None:
        mean = 50 * np.float32([[-0.464, 0], [0.464, 0], [0, 0.5], [-0.408, 1], [0.408, 1]])
        _, share = measures.pose_error(mean, turned(mean, 10))
        chord = 2 * math.sin(math.radians(5))
        assert share == pytest.approx(chord * np.linalg.norm(mean, axis=1).mean() / (50 * 0.928), rel=1e-4)


def ramp(slope: float, size: int = 64) -> Tensor:
    """Brighter from left to right."""
    return (torch.arange(size) * slope).expand(3, size, size).contiguous()


class TestEdgeSteps:
    @pytest.mark.parametrize("step", [0.0, 0.05, 0.3])
    def test_a_step_adds_its_height_to_the_slope(self, measures: Any, step: float) -> None:
        hidden = np.zeros((64, 64), dtype=bool)
        hidden[:, 32:] = True  # one straight edge from top to bottom; the others lie at the frame's
        source = ramp(0.005)
        made = torch.where(torch.from_numpy(hidden), source + step, source)
        after, before = measures.edge_steps(torch.stack([made, source]), hidden, reach=3)
        # 6 px of slope, and the step
        assert after / before == pytest.approx((6 * 0.005 + step) / (6 * 0.005), rel=1e-3)

    def test_a_straight_edge_is_as_long_as_it_is(self, measures: Any) -> None:
        hidden = np.zeros((64, 64), dtype=bool)
        hidden[:, 32:] = True
        (before,) = measures.edge_steps(ramp(0.005)[None], hidden, reach=3)
        assert before == pytest.approx(64 * math.sqrt(3) * 6 * 0.005, rel=1e-3)

    def test_a_soft_edge_hides_no_step(self, measures: Any) -> None:
        hidden = np.zeros((64, 64), dtype=bool)
        hidden[:, 32:] = True
        alpha = torch.zeros(64, 64)
        alpha[:, 32:] = torch.tensor([1 / 3, 2 / 3] + [1.0] * 30)  # within 3 px
        source = torch.full((3, 64, 64), 0.3)
        made = source + 0.2 * alpha
        (after,) = measures.edge_steps(made[None], hidden, reach=3)
        assert after == pytest.approx(64 * math.sqrt(3) * 0.2, rel=1e-3)

    def test_a_round_edge(self, measures: Any) -> None:
        y, x = np.mgrid[:80, :80]
        hidden = np.hypot(x - 40, y - 38) < 20
        made = torch.full((3, 80, 80), 0.5)
        made[:, torch.from_numpy(hidden)] = 0.75
        same = torch.full((3, 80, 80), 0.5)
        after, before = measures.edge_steps(torch.stack([made, same]), hidden)
        assert before == 0
        n_points = after / (0.25 * math.sqrt(3))
        assert 0.8 * 2 * math.pi * 20 < n_points < 1.5 * 2 * math.pi * 20

    def test_a_frame_that_is_hidden_whole_or_not_at_all_has_no_edge(self, measures: Any) -> None:
        for hidden in (np.ones((20, 20), dtype=bool), np.zeros((20, 20), dtype=bool)):
            assert measures.edge_steps(ramp(0.01, 20)[None], hidden).tolist() == [0]


class TestVisibleSkin:
    SKIN, SHIRT = (200, 150, 125), (40, 60, 160)

    def picture(self, neck: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
        image = np.full((120, 100, 3), self.SHIRT, np.uint8)
        image[20:70, 30:70] = self.SKIN
        image[70:80, 40:60] = neck
        hidden = np.zeros((120, 100), dtype=bool)
        hidden[10:70, 20:80] = True
        return image, hidden

    def test_is_the_neck_below_the_mask(self, measures: Any) -> None:
        image, hidden = self.picture((195, 146, 122))
        filmed = measures.lab(np.uint8([[self.SKIN]]))[0, 0]
        found = measures.visible_skin(image, hidden, (30.0, 20.0, 70.0, 70.0), filmed)
        reference = cv2.cvtColor(np.float32([[[195, 146, 122]]]) / 255, cv2.COLOR_RGB2LAB)[0, 0]
        assert found == pytest.approx(reference, abs=1e-3)

    def test_is_not_there_where_the_neck_is_covered(self, measures: Any) -> None:
        image, hidden = self.picture(self.SHIRT)
        filmed = measures.lab(np.uint8([[self.SKIN]]))[0, 0]
        assert measures.visible_skin(image, hidden, (30.0, 20.0, 70.0, 70.0), filmed) is None

    def test_the_inner_color_is_that_between_eyes_and_mouth(self, measures: Any) -> None:
        image, _ = self.picture(self.SHIRT)
        points = FACE * 0.4 + np.float32([50, 40])
        for at, (x, y) in enumerate(points.round().astype(int)):
            cv2.circle(image, (int(x), int(y)), 2, (10, 200, 10) if at != 2 else self.SKIN, -1)
        filmed = measures.lab(np.uint8([[self.SKIN]]))[0, 0]
        assert measures.inner_color(image, points) == pytest.approx(filmed, abs=1e-3)


class Finder:
    """Finds the faces that it was given, at their places in pictures of whole frames."""

    def detect(self, images: Any) -> list[list[Detection]]:
        found = []
        for image in images:
            rows, columns = np.nonzero(image[..., 1] > 250)
            faces = []
            if len(rows):
                # A green square marks the left eye, a blue one the right eye; the rest of the face follows.
                left = np.array([columns.mean(), rows.mean()])
                rows, columns = np.nonzero((image[..., 2] > 250) & (image[..., 1] < 100))
                right = np.array([columns.mean(), rows.mean()])
                along = right - left
                down = np.array([-along[1], along[0]])
                points = np.float32(
                    [left, right, left + 0.5 * along + 0.55 * down, left + 0.1 * along + 1.1 * down,
                     left + 0.9 * along + 1.1 * down]
                )  # fmt: skip
                x0, y0, x1, y1 = *points.min(0) - 8, *points.max(0) + 8
                faces = [Detection("face", (float(x0), float(y0), float(x1), float(y1)), 0.9, points)]
            found.append(faces)
        return found


def marked_face(degrees: float, size: int = 96) -> Tensor:
    """A grey picture with the marks that `Finder` looks for, 30 px apart, turned around the middle between them."""
    image = np.full((size, size, 3), 90, np.uint8)
    for side, color in ((-15, (0, 255, 0)), (15, (0, 0, 255))):
        x = 48 + side * math.cos(math.radians(degrees))
        y = 40 + side * math.sin(math.radians(degrees))
        image[round(y) - 2 : round(y) + 3, round(x) - 2 : round(x) + 3] = color
    return torch.from_numpy(image).permute(2, 0, 1)


class TestMeasures:
    def test_reads_the_angle_between_filmed_and_shown(self, measures: Any) -> None:
        compare = FaceComparer(finder=Finder(), network=measures.FaceReadings(), min_score=0.4)
        gathered = measures.Measures(compare, has_flow=False)
        mask = torch.zeros(1, 1, 1, 96, 96)
        mask[..., 8:88, 8:88] = 1
        box = (22.0, 30.0, 74.0, 84.0)
        for number, degrees in enumerate((8.0, 16.0)):
            source, made = marked_face(0.0), marked_face(degrees)
            seen = (Sighting(0, 0, number + 1, box),)
            gathered.add(Result(source[None, None], made[None, None], mask, torch.tensor([number]), people=seen))
        found = gathered.figures()
        assert found["eye_line"]["n"] == 2
        assert found["eye_line"]["value"] == pytest.approx(12, abs=1.5)  # the marks are whole pixels
        assert "warping" not in found

    def test_pairs_of_one_identity_are_not_apart(self, measures: Any) -> None:
        compare = FaceComparer(finder=Finder(), network=measures.FaceReadings())
        gathered = measures.Measures(compare, has_flow=False)
        near, far = np.zeros(3), np.array([3.0, 4.0, 0.0])
        gathered.identities.update({1: [near, near], 2: [far, far], 3: [far]})
        gathered.filmed.update({1: [near], 2: [far], 3: [far]})
        found = gathered.apart(0.6)
        assert found["pairs_apart"]["value"] == pytest.approx(2 / 3)
        assert found["nearest_pair"]["value"] == 0

    def test_errors_of_pairs_are_those_of_the_metric(self, measures: Any) -> None:
        noise = torch.rand(1, 5, 3, 48, 48, generator=torch.Generator().manual_seed(3))
        source = (0.2 + 0.3 * torch.linspace(0, 1, 48).expand(1, 5, 3, 48, 48) * 255).byte()
        made = (source + 20 * noise).byte()
        masks = torch.zeros(1, 5, 1, 48, 48)
        masks[..., 10:40, 10:40] = 1
        pairs = list(measures.pair_errors(Result(source, made, masks, torch.tensor([0])), DISFlow()))
        metric = TemporalWarpingError()
        metric.update(source, made, masks)
        values = {value.name: value.value for value in metric.measure().values}
        assert [at for at, _, _ in pairs] == [1, 2, 3, 4]
        assert np.mean([after for _, after, _ in pairs]) == pytest.approx(values["warping_error_inside"], rel=1e-9)


class TestStrangers:
    def test_pairs_of_one_person_do_not_count(self, room: None) -> None:
        from doubles_portraits import apart

        # People 0, 0, 1 at 0, 9 and 4 on a line: the pairs of different people are 4 and 5 apart.
        found = apart(torch.tensor([[0.0], [9.0], [4.0]]), torch.tensor([0, 0, 1]), 4.5)
        assert found["distance"]["value"] == pytest.approx((4 + 5 + 4.5) / 3)
        assert found["near"]["value"] == pytest.approx((1 + 0 + 0.5) / 3)


class TestPortraits:
    def test_are_replaced_by_the_head_mask_and_nowhere_else(self, room: None) -> None:
        import doubles_portraits

        from pa_lib.data.faces import FacePhoto
        from pa_lib.people import HeadMasker

        generator = torch.Generator().manual_seed(1)
        frame = torch.randint(0, 255, (3, 96, 96), generator=generator).byte()
        mask = torch.zeros(96, 96)
        mask[20:70, 30:66] = 1
        photo = FacePhoto(frame, mask, "a", torch.from_numpy(FACE * 0.5 + np.float32([48, 40])))
        result = doubles_portraits.anonymized(ConventionalAnonymizer("fill"), HeadMasker(), photo, 6, 3)
        hidden = (result.masks[0, 0] > 0).expand_as(frame)
        assert torch.equal(result.anonymized[0, 0][~hidden], frame[~hidden])
        assert (result.anonymized[0, 0][hidden] != frame[hidden]).float().mean() > 0.9
        assert result.masks[0, 0, 0, 40, 48] == 1
        assert result.people is not None
        assert (result.people[0].person_id, result.clip_ids.tolist()) == (3, [6])


class TestKeptPictures:
    def test_are_made_once_for_the_same_masks_and_seed(self, room: None, tmp_path: Path) -> None:
        from doubles_attackers import KeptPictures

        clip = Clip(photos(1).frames[:1])
        masks = ClipMasks((PersonMask(1, 0, 0, 0, torch.ones(SIDE, SIDE), "face"),), 1, SIDE, SIDE)
        kept = KeptPictures(Static(), tmp_path)
        first = kept.anonymize(clip, masks, seed=5).frames
        again = KeptPictures(Static(), tmp_path)
        assert torch.equal(again.anonymize(clip, masks, seed=5).frames, first)
        assert (kept.n_made, again.n_made) == (1, 0)
        assert not torch.equal(again.anonymize(clip, masks, seed=6).frames, first)
        other = ClipMasks((PersonMask(2, 0, 0, 0, torch.ones(SIDE, SIDE), "face"),), 1, SIDE, SIDE)
        again.anonymize(clip, other, seed=5)
        assert again.n_made == 2


class TestTables:
    VALUES: ClassVar[dict[str, Any]] = {
        "x": {"value": 0.5, "interval": [0.4, 0.6]},
        "chance": {"value": 0.45, "interval": None},
    }

    def test_goals_are_those_of_the_first_row(self, room: None) -> None:
        import doubles_tables as tables

        rows = {"doubles": self.VALUES, "blur": {"x": {"value": 1, "interval": None}}}
        goals = (
            tables.Goal("X, %", "x", "at most 40", tables.at_most(0.4), 100.0),
            tables.Goal("by chance", "x", "chance", tables.by_chance("x", "chance")),
            tables.Goal("not there", "y", "at least 1", tables.at_least(1)),
            tables.Goal("without a goal", "x"),
        )
        table, reached = tables._table("T", tables._of("a", goals, rows), [])
        assert reached == {"a: X": False, "a: by chance": True}
        assert table.columns == ("what", "goal", "doubles", "reached", "blur")
        assert table.rows[0] == ("a: X, %", "at most 40", "50 (40 to 60)", "**no**", "100")
        assert table.rows[2] == ("a: not there", "at least 1", "-", None, "-")
        assert table.rows[3][3] is None

    def test_doubles_come_first(self, room: None) -> None:
        import doubles_tables as tables

        assert list(tables.ordered({"blur": {}, "doubles": {}, "mosaic": {}})) == ["doubles", "blur", "mosaic"]


class TestRows:
    def test_all_compose(self, room: None) -> None:
        import doubles_rows

        for name, settings in doubles_rows.SETTINGS.items():
            config = doubles_rows.Row(name, settings).config
            assert config["people"]["masker"]["_target_"] == "pa_lib.people.HeadMasker"
            assert config["module"]["_target_"].startswith("pa_lib.modules.")
        light = doubles_rows.Row("", doubles_rows.SETTINGS["light of their own"]).config["module"]["reference"]
        assert light["light"] == {"_target_": "pa_lib.modules.NoLight"}

    def test_a_mark_changes_with_a_setting(self, room: None) -> None:
        from doubles_rows import Row

        one, other = Row("a", ("module=conventional",)), Row("a", ("module=conventional", "module.strength=2"))
        assert one.mark != other.mark
        assert one.mark == Row("b", ("module=conventional",)).mark


def test_the_card_shows_the_last_result(room: None) -> None:
    import _bench
    import write_docs

    card = Path(BENCHMARKS).parent / "docs" / "models" / "doubles.md"
    place = _bench.RESULTS / "doubles.json"
    if not place.is_file():
        pytest.skip("doubles were not measured yet")
    text = card.read_text(encoding="utf-8")
    assert write_docs.with_values(text, json.loads(place.read_text())) == text
