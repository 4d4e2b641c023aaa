"""The shipped doubles: every picture decodes and fits its index; people are different people; damage is reported."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from pa_lib.doubles import DoubleBank, View
from pa_lib.doubles.rendering import pose_of_view
from pa_lib.errors import DamagedInputError, InputError, SettingError
from pa_lib.pretrained import FaceIdentity, asset_path

MOST_BYTES = 8_000_000
WALL = 0.45 * 255  # behind the heads, as grey as a street


@pytest.fixture(scope="module")
def bank() -> DoubleBank:
    return DoubleBank()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A small archive: the first double only."""
    path = tmp_path / "doubles.zip"
    with zipfile.ZipFile(asset_path("doubles.zip")) as whole, zipfile.ZipFile(path, "w") as small:
        index = json.loads(whole.read("index.json"))
        index["doubles"] = index["doubles"][:1]
        small.writestr("index.json", json.dumps(index))
        for view in index["doubles"][0]["views"]:
            small.writestr(view["file"], whole.read(view["file"]))
    return path


def rewritten(path: Path, file: str, content: bytes | None) -> Path:
    """The archive with one file replaced, or left out."""
    other = path.with_name("other.zip")
    with zipfile.ZipFile(path) as before, zipfile.ZipFile(other, "w") as after:
        for name in before.namelist():
            if name != file:
                after.writestr(name, before.read(name))
            elif content is not None:
                after.writestr(name, content)
    return other


def test_asset_is_small() -> None:
    assert asset_path("doubles.zip").stat().st_size <= MOST_BYTES


def test_every_view_decodes_and_fits_its_index(bank: DoubleBank) -> None:
    for name in bank.names:
        for entry in bank[name].entry.views:
            view = bank.read(entry)
            assert view.image.dtype == np.uint8
            assert view.image.shape == (entry.height, entry.width, 3)
            assert view.alpha.shape == (entry.height, entry.width)
            assert view.alpha.min() == 0
            assert view.alpha.max() == 1
            x0, y0, x1, y1 = entry.head_box
            assert 0 <= x0 < x1 < entry.width
            assert 0 <= y0 < y1 < entry.height
            # The head is solid in its middle, and nothing but hair or neck reaches the border.
            x, y = (round(value) for value in entry.eye_line)
            assert view.alpha[y, x] > 0.95
            assert entry.collar_y < entry.height
            assert (
                entry.view == "back" or y1 <= entry.collar_y
            )  # from behind, a collar may hide where the chin would be
            if entry.landmarks is not None:
                points = np.array(entry.landmarks)
                # The pose of the front may move the tip of the nose a little out of a profile.
                assert (points > -2).all()
                assert (points < [entry.width + 2, entry.height + 2]).all()
                eyes, nose, mouth = points[:2, 1].mean(), points[2, 1], points[3:, 1].mean()
                assert eyes < nose < mouth < entry.chin[1]


def views(bank: DoubleBank) -> Iterator[tuple[str, View]]:
    for name in bank.names:
        for entry in bank[name].entry.views:
            yield entry.file, bank.read(entry)


def test_no_picture_is_cut_by_its_border(bank: DoubleBank) -> None:
    for file, view in views(bank):
        borders = (view.alpha[0], view.alpha[-1], view.alpha[:, 0], view.alpha[:, -1])
        assert max(border.max() for border in borders) < 0.1, file


def test_crowns_are_round(bank: DoubleBank) -> None:
    """A crown that a frame has cut off is as wide in its first row as the cut."""
    for file, view in views(bank):
        widths = (view.alpha > 0.5).sum(axis=1)
        first = np.nonzero(widths)[0][0]
        assert widths[first] < 0.3 * widths.max(), file


def test_no_cloth_is_left_below_the_chin(bank: DoubleBank) -> None:
    """White or light grey is cloth there, but for single shines on hair."""
    for file, view in views(bank):
        lab = cv2.cvtColor(view.image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
        chroma = np.hypot(lab[..., 1], lab[..., 2])
        below = np.arange(len(lab))[:, None] > view.entry.chin[1]
        visible = below & (view.alpha > 0.1)
        cloth = visible & (lab[..., 0] > 55) & (chroma < 10)
        assert cloth.sum() <= 0.001 * visible.sum(), file


def test_all_views_of_a_double_have_one_size_and_one_height_of_the_eyes(bank: DoubleBank) -> None:
    """As `pose_of_view` measures them: so a change of view moves neither the crown nor the chin."""
    for name in bank.names:
        front = pose_of_view(bank[name].view())
        below = (bank[name].view().entry.chin[1] - front.y) / front.scale
        whole = bank[name].view().entry.face_px / front.scale
        heights = []
        for entry in bank[name].entry.views:
            view = bank.read(entry)
            pose = pose_of_view(view)
            assert entry.face_px / pose.scale == pytest.approx(whole, rel=0.01), entry.file
            assert entry.view == "back" or abs(pose.roll - front.roll) < 0.5, entry.file
            if entry.expression == "neutral" and entry.view != "back":
                assert (entry.chin[1] - pose.y) / pose.scale == pytest.approx(below, abs=0.05), entry.file
            crown = np.nonzero((view.alpha > 0.5).sum(axis=1) > 0.02 * entry.width)[0][0]
            heights.append((pose.y - crown) / pose.scale + below)
        assert np.abs(np.array(heights) / heights[0] - 1).max() < 0.09, name


def test_every_double_has_its_views(bank: DoubleBank) -> None:
    for name in bank.names:
        entries = bank[name].entry.views
        seen = {(entry.view, entry.expression) for entry in entries}
        assert len(seen) == len(entries)
        assert {("front", e) for e in ("neutral", "smiling", "mouth_open", "eyes_closed")} <= seen
        assert {(v, "neutral") for v in ("three_quarter_left", "three_quarter_right", "back")} <= seen


def test_a_face_that_looks_like_a_real_persons_is_not_shown(bank: DoubleBank) -> None:
    assert "P003" not in bank.names
    hers = [bank[name] for name in bank.names if bank[name].entry.parents[0] == "P003"]
    assert hers
    for double in hers:
        # Her hair, but not her own profile: the nearest pictures take its place.
        assert double.nearest(85).view == "three_quarter_right"
        assert double.nearest(-85).view == "three_quarter_left"
        assert double.nearest(120).view == "back"


def test_left_and_right_are_the_pictures(bank: DoubleBank) -> None:
    for name in bank.names:
        for entry in bank[name].entry.views:
            if entry.view == "back":
                assert entry.yaw_degrees == 180
                continue
            assert ("left" in entry.view) == (entry.yaw_degrees < 0)
            eyes, nose = np.array(entry.landmarks)[:2, 0].mean(), np.array(entry.landmarks)[2, 0]
            if entry.yaw_degrees:
                assert np.sign(nose - eyes) == np.sign(entry.yaw_degrees)


def test_all_doubles_are_different_people(bank: DoubleBank) -> None:
    network = FaceIdentity()
    identities = []
    for name in bank.names:
        view = bank[name].view()
        alpha = view.alpha[..., None]
        picture = (view.image * alpha + WALL * (1 - alpha)).astype(np.uint8)
        identities.append(network.embed(picture, view.landmarks[None])[0])
    x = np.stack(identities)
    distance = np.linalg.norm(x[:, None] - x[None], axis=2)[np.triu_indices(len(x), 1)]
    assert distance.min() > network.same_person_distance


def test_nearest_view_by_yaw_around_the_circle(bank: DoubleBank) -> None:
    double = bank["P001"]
    wanted = {0: "front", 10: "front", -20: "three_quarter_left", 25: "three_quarter_right", 80: "profile_right"}
    wanted |= {-100: "profile_left", 170: "back", -179: "back", 360: "front", 275: "profile_left"}
    assert {yaw: double.nearest(yaw).view for yaw in wanted} == wanted


def test_expression_where_there_is_one_and_neutral_elsewhere(bank: DoubleBank) -> None:
    double = bank["P001"]
    assert double.nearest(3, "smiling").expression == "smiling"
    assert double.nearest(-30, "smiling").expression == "neutral"
    assert double.nearest(0).expression == "neutral"


def test_wrong_names_and_expressions_are_refused(bank: DoubleBank) -> None:
    with pytest.raises(SettingError, match="no double is named 'P999'; there are: M001"):
        bank["P999"]
    with pytest.raises(SettingError, match=r"'laughing', expected one of: neutral, smiling, mouth_open, eyes_closed"):
        bank["P001"].view(expression="laughing")
    with pytest.raises(SettingError, match="yaw is nan"):
        bank["P001"].view(yaw=float("nan"))
    with pytest.raises(SettingError, match="n_kept is 0"):
        DoubleBank(n_kept=0)


def test_few_pictures_are_kept(copy: Path) -> None:
    bank = DoubleBank(copy, n_kept=2)
    first, *others = bank[bank.names[0]].entry.views
    kept = bank.read(first)
    assert bank.read(first) is kept
    for entry in others[:2]:
        bank.read(entry)
    assert bank.read(first) is not kept


def test_pictures_cannot_be_changed_by_mistake(bank: DoubleBank) -> None:
    view = bank["P001"].view()
    with pytest.raises(ValueError, match="read-only"):
        view.image[0, 0] = 0


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file, expected an archive of doubles"):
        DoubleBank(tmp_path / "none.zip")


def test_file_that_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("no archive")
    with pytest.raises(DamagedInputError, match=r"text.zip: index.json cannot be read, expected an archive of doubles"):
        DoubleBank(tmp_path / "text.zip")


def test_archive_without_index(copy: Path) -> None:
    with pytest.raises(DamagedInputError, match=r"index.json cannot be read, expected an archive of doubles"):
        DoubleBank(rewritten(copy, "index.json", None))


@pytest.mark.parametrize("value", range(0, 256, 15))
def test_compressed_index_with_a_damaged_byte(tmp_path: Path, value: int) -> None:
    path = tmp_path / "small.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("index.json", "x" * 1000)
    content = bytearray(path.read_bytes())
    content[30 + len("index.json")] = value  # the first byte after the local header
    path.write_bytes(content)
    with pytest.raises(DamagedInputError):
        DoubleBank(path)


def test_index_that_does_not_fit(copy: Path) -> None:
    with zipfile.ZipFile(copy) as archive:
        index = json.loads(archive.read("index.json"))
    index["doubles"][0]["views"][0]["yaw_degrees"] = 500
    with pytest.raises(DamagedInputError, match=r"index.json does not fit at doubles.0.views.0.yaw_degrees"):
        DoubleBank(rewritten(copy, "index.json", json.dumps(index).encode()))


@pytest.mark.parametrize("content", [None, b"", b"no picture"])
def test_damaged_picture(copy: Path, content: bytes | None) -> None:
    bank = DoubleBank(copy)
    double = bank[bank.names[0]]
    damaged = DoubleBank(rewritten(copy, double.entry.views[0].file, content))
    with pytest.raises(DamagedInputError, match="pack it again"):
        damaged[double.name].view()
