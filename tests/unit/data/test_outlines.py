"""Composed scenes: labels are what is visible, the same draw gives the same crop, sides of the split stay apart."""

import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from pa_lib.data import OutlineDataModule
from pa_lib.data.index import FileTree
from pa_lib.data.outline_figures import Figure, blurred, motion_kernel, posed
from pa_lib.data.outline_pieces import Cutout, Pieces
from pa_lib.data.outline_scenes import _Scene
from pa_lib.data.sampling import Draw
from pa_lib.errors import InputError, SettingError

HEADER = "file\tkind\tsplit\thead_x\thead_y\thead_r\n"


def webp(pixels: np.ndarray) -> bytes:
    code = cv2.COLOR_RGBA2BGRA if pixels.shape[2] == 4 else cv2.COLOR_RGB2BGR
    return cv2.imencode(".webp", cv2.cvtColor(pixels, code), [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes()


def person(high: int, wide: int, grey: int) -> np.ndarray:
    """An ellipse of one grey."""
    pixels = np.full((high, wide, 4), grey, np.uint8)
    pixels[..., 3] = 0
    mask = np.zeros((high, wide), np.uint8)
    cv2.ellipse(mask, (wide // 2, high // 2), (wide // 2 - 1, high // 2 - 1), 0, 0, 360, 255, -1)
    pixels[..., 3] = mask
    return pixels


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two bodies, heads and places for each side of the split, those for validation brighter."""
    path = tmp_path_factory.mktemp("pieces") / "pieces.zip"
    lines = [HEADER]
    with zipfile.ZipFile(path, "w") as archive:
        for split, grey in (("train", 60), ("val", 200)):
            for kind, (high, wide) in (("body", (96, 36)), ("head", (64, 56))):
                archive.writestr(f"synthetic/{split}_{kind}.webp", webp(person(high, wide, grey)))
                head = f"{wide / 2}\t8\t7" if kind == "body" else "nan\tnan\tnan"
                lines.append(f"synthetic/{split}_{kind}.webp\t{kind}\t{split}\t{head}\n")
            place = np.random.default_rng(grey).integers(0, 256, (260, 300, 3), np.uint8)
            numbers = np.zeros((260, 300), np.uint8)
            numbers[40:220, 100:180], numbers[:30, :30] = 1, 255
            archive.writestr(f"scenes/{split}.webp", webp(place))
            archive.writestr(f"scenes/{split}.png", cv2.imencode(".png", numbers)[1].tobytes())
            lines.append(f"scenes/{split}.webp\tscene\t{split}\tnan\tnan\tnan\n")
        archive.writestr("index.tsv", "".join(lines))
    return path


def test_crops_are_what_the_network_takes_and_ask_for_somebody_who_is_visible(pieces: Path) -> None:
    module = OutlineDataModule(pieces, side=64, n_clips=24, n_crops=2, n_held_out=4, batch_size=4)
    module.setup()
    batch = next(iter(module.train_dataloader()))
    assert batch.planes.shape == (8, 7, 64, 64)
    assert batch.planes.min() >= 0
    assert batch.planes.max() <= 1
    assert set(batch.labels.unique().tolist()) <= {0, 1, 2, 255}
    assert ((batch.labels == 0).sum((1, 2)) > 0).all()
    in_box = (batch.labels == 0) & (batch.planes[:, 3] > 0)
    assert (in_box.sum((1, 2)) / (batch.labels == 0).sum((1, 2))).median() > 0.9
    assert batch.clip_ids.tolist()[::2] == batch.clip_ids.tolist()[1::2]
    assert len(set(batch.clip_ids.tolist())) == 4
    assert next(iter(module.val_dataloader())).planes.shape == (4, 7, 64, 64)


def test_a_draw_is_a_crop_and_epochs_differ(pieces: Path) -> None:
    first, again = (OutlineDataModule(pieces, side=32, n_clips=4, n_held_out=2) for _ in range(2))
    for module in (first, again):
        module.setup()
    one, same, other = (
        first.train_set.sample(Draw(3, 0)),
        again.train_set.sample(Draw(3, 0)),
        first.train_set.sample(Draw(3, 1)),
    )
    assert one.planes.equal(same.planes)
    assert one.labels.equal(same.labels)
    assert not one.planes.equal(other.planes)
    assert first.val_set[1].planes.equal(again.val_set[1].planes)


def test_sides_of_the_split_stay_apart(pieces: Path) -> None:
    rng = np.random.default_rng(0)
    for split, grey in (("train", 60), ("val", 200)):
        found = Pieces(FileTree(pieces), split)
        for kind in ("body", "head"):
            pixels, head = found.person(kind, rng)
            assert np.abs(pixels[pixels[..., 3] == 255][:, :3].astype(int) - grey).max() <= 8
            assert (head is not None) == (kind == "body")
        assert set(np.unique(found.place(rng).people)) == {0, 1, 255}


def test_pasting_is_painting_over() -> None:
    """Against alpha compositing and a map of numbers, written down one pixel at a time."""
    rng = np.random.default_rng(0)
    scene = _Scene(rng.random((20, 30, 3), np.float32), np.zeros((20, 30), np.int32))
    colors, numbers = scene.pixels.copy(), scene.numbers.copy()
    for number, left, top in ((1, 3, 4), (2, 8, -3), (0, 25, 15), (3, -40, 0)):
        alpha = rng.random((9, 12, 1), np.float32)
        figure = Figure(np.concatenate([rng.random((9, 12, 3), np.float32) * alpha, alpha], 2), None)
        scene.paste(figure, left, top, number)
        for y in range(9):
            for x in range(12):
                if 0 <= top + y < 20 and 0 <= left + x < 30:
                    place, pixel = (top + y, left + x), figure.pixels[y, x]
                    colors[place] = colors[place] * (1 - pixel[3]) + pixel[:3]
                    numbers[place] = number if pixel[3] > 0.5 else numbers[place]
    np.testing.assert_allclose(scene.pixels, colors, atol=1e-6)
    np.testing.assert_array_equal(scene.numbers, numbers)
    assert [one.number for one in scene.people] == [1, 2]
    assert scene.people[0].box[0] >= 3
    assert scene.people[0].box[2] <= 15


@pytest.mark.parametrize("seed", range(12))
def test_a_posed_person_is_as_large_as_asked_and_has_colors_only_where_they_are(seed: int) -> None:
    rng = np.random.default_rng(seed)
    figure = blurred(posed(Cutout(person(96, 36, 128), (18.0, 8.0, 7.0)), 60.0, rng, None), rng)
    color, alpha = figure.pixels[..., :3], figure.pixels[..., 3:]
    assert alpha.min() >= -1e-5
    assert alpha.max() <= 1 + 1e-4
    assert (color <= alpha + 1e-3).all()  # color times alpha
    area = float(alpha.sum()) / (np.pi / 4 * 60 * 22.5)
    assert 0.4 < area < 2.2  # a limb more, a bend, and stretched a little
    assert figure.head is not None


@pytest.mark.parametrize(("length", "angle"), [(5.0, 0.0), (9.0, 1.2)])
def test_motion_blur_keeps_the_light_and_goes_one_way(length: float, angle: float) -> None:
    kernel = motion_kernel(length, angle)
    assert kernel.sum() == pytest.approx(1, abs=1e-6)
    y, x = np.indices(kernel.shape) - len(kernel) // 2
    spread = np.cov(np.stack([x.ravel(), y.ravel()]), aweights=kernel.ravel(), bias=True)
    main = np.linalg.eigh(spread)[1][:, 1]
    assert abs(main @ (np.cos(angle), np.sin(angle))) == pytest.approx(1, abs=0.02)


def test_settings_and_archives_that_do_not_do_are_refused(pieces: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="multiple of 16"):
        OutlineDataModule(pieces, side=40)
    with pytest.raises(SettingError, match="n_clips 0"):
        OutlineDataModule(pieces, n_clips=0)
    with pytest.raises(SettingError, match="real_p"):
        OutlineDataModule(pieces, real_p=1.5)
    (tmp_path / "index.tsv").write_text(HEADER + "a.webp\tbody\ttrain\tnan\tnan\tnan\n")
    with pytest.raises(InputError, match="has no head"):
        OutlineDataModule(tmp_path).setup()
