"""Portraits: the index and its faults, the mask, and stills that move."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import grid_sample

from pa_lib.data import ClipAugmentation, Draw, FaceDataModule
from pa_lib.errors import PaLibError

HEADER = "file\tbox_x\tbox_y\tbox_w\tbox_h"
LINE = "{}\t20\t16\t24\t32"


def picture(seed: int, size: tuple[int, int] = (64, 64)) -> Image.Image:
    """A smooth picture, so that resampling loses little."""
    y, x = np.mgrid[: size[1], : size[0]] / 64
    waves = [np.sin(2 * math.pi * (x * (1 + seed % 2) + y * c + 0.2 * seed)) for c in range(3)]
    return Image.fromarray((128 + 100 * np.stack(waves, -1)).astype(np.uint8))


def write(folder: Path, lines: list[str], header: str = HEADER) -> Path:
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    for number in range(4):
        picture(number).save(folder / "pictures" / f"{number}.png")
    (folder / "index.tsv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return folder


def faces(folder: Path, **options: object) -> FaceDataModule:
    path = write(folder, [LINE.format(f"pictures/{number}.png") for number in range(4)])
    return FaceDataModule(path, **{"batch_size": 2, "val_share": 0.25, **options})  # type: ignore[arg-type]


def test_image_is_itself_and_mask_is_the_ellipse_around_the_box(tmp_path: Path) -> None:
    data = faces(tmp_path, head_scale=1.0, val_share=0)
    clip = data.train_set[0]
    expected = torch.from_numpy(np.array(picture(0))).permute(2, 0, 1) / 255
    torch.testing.assert_close(clip.frames[0], expected, atol=1e-5, rtol=0)
    assert clip.flow is None
    assert clip.identity is None
    assert float(clip.mask.sum()) == pytest.approx(math.pi * 12 * 16, rel=0.01)
    y, x = torch.meshgrid(torch.arange(64) + 0.5, torch.arange(64) + 0.5, indexing="ij")
    assert float((clip.mask[0, 0] * x).sum() / clip.mask.sum()) == pytest.approx(32, abs=0.02)
    assert float((clip.mask[0, 0] * y).sum() / clip.mask.sum()) == pytest.approx(32, abs=0.02)


def test_head_scale_and_side_scale_the_mask(tmp_path: Path) -> None:
    clip = faces(tmp_path, head_scale=1.5, side=32).train_set[0]
    assert clip.frames.shape == (1, 3, 32, 32)
    assert float(clip.mask.sum()) == pytest.approx(math.pi * 12 * 16 * 1.5**2 / 4, rel=0.02)


def test_mask_turns_with_the_eyes(tmp_path: Path) -> None:
    header = HEADER + "\teye1_x\teye1_y\teye2_x\teye2_y"
    path = write(tmp_path, [LINE.format("pictures/0.png") + "\t32\t26\t32\t38"], header)
    clip = FaceDataModule(path, head_scale=1.0, batch_size=1).train_set[0]
    mask = clip.mask[0, 0]
    assert float(mask.any(0).sum()) == pytest.approx(32, abs=1)  # a quarter turn: the tall box lies
    assert float(mask.any(1).sum()) == pytest.approx(24, abs=1)


def test_square_of_a_wide_image_holds_the_head(tmp_path: Path) -> None:
    write(tmp_path, ["wide.png\t110\t16\t10\t12"])
    wide = picture(1, (128, 64))
    wide.save(tmp_path / "wide.png")
    clip = FaceDataModule(tmp_path, batch_size=1).train_set[0]
    right = torch.from_numpy(np.array(wide)).permute(2, 0, 1)[..., 64:] / 255
    torch.testing.assert_close(clip.frames[0], right, atol=1e-5, rtol=0)
    x = torch.arange(64) + 0.5
    assert float((clip.mask[0, 0] * x).sum() / clip.mask.sum()) == pytest.approx(115 - 64, abs=0.05)


def test_still_becomes_a_clip_that_begins_with_it(tmp_path: Path) -> None:
    still = faces(tmp_path, val_share=0).train_set[2]
    clip = faces(tmp_path, n_frames=6, light=0, motion=3, val_share=0).train_set[2]
    torch.testing.assert_close(clip.frames[:1], still.frames, atol=1e-5, rtol=0)
    assert clip.flow is not None
    assert clip.flow.shape == (5, 2, 64, 64)
    assert clip.flow.abs().amax((1, 2, 3)).min() > 0.1
    rows, columns = torch.meshgrid(*(torch.arange(64.0),) * 2, indexing="ij")
    at = (torch.stack([columns, rows]) + clip.flow + 0.5) / 32 - 1
    margin = slice(8, -8)  # beyond the border there is a mirror, which does not move as the camera does
    for following, now, tolerance in ((clip.frames[1:], clip.frames[:-1], 0.02), (clip.mask[1:], clip.mask[:-1], 0.3)):
        warped = grid_sample(following, at.permute(0, 2, 3, 1), mode="bicubic", align_corners=False)
        error = (warped - now)[..., margin, margin].abs()
        assert error.max() < 4 * tolerance
        assert error.mean() < tolerance / 10


def test_light_changes_colours_and_nothing_else(tmp_path: Path) -> None:
    clip = faces(tmp_path, n_frames=6, motion=0, light=2).train_set[1]
    assert clip.flow is not None
    assert clip.flow.abs().max() < 1e-4
    torch.testing.assert_close(clip.mask, clip.mask[:1].expand_as(clip.mask))
    assert (clip.frames[-1] - clip.frames[0]).abs().mean() > 0.01
    # Brighter stays brighter in every channel: gain and gamma are monotonic.
    order = clip.frames[0, 0].flatten().argsort()
    assert (clip.frames[-1, 0].flatten()[order].diff() > -1e-5).all()


def test_same_clip_in_the_same_epoch_and_another_motion_in_the_next(tmp_path: Path) -> None:
    data = faces(tmp_path, n_frames=3, augmentation=ClipAugmentation()).train_set
    one, two, three = (data.sample(Draw(1, epoch)) for epoch in (0, 0, 1))
    assert torch.equal(one.frames, two.frames)
    assert torch.equal(one.mask, two.mask)
    assert not torch.equal(one.frames, three.frames)


def test_only_training_is_augmented(tmp_path: Path) -> None:
    plain, augmented = (
        faces(tmp_path, augmentation=augmentation) for augmentation in (None, ClipAugmentation(flip_p=1.0))
    )
    assert plain.val_set is not None
    assert augmented.val_set is not None
    assert torch.equal(plain.val_set[0].frames, augmented.val_set[0].frames)
    assert not torch.equal(plain.train_set[0].frames, augmented.train_set[0].frames)


def test_held_out_clips_are_the_same_for_every_seed(tmp_path: Path) -> None:
    one, two, three = (faces(tmp_path, n_frames=3, **seeds) for seeds in ({}, {"seed": 5}, {"split_seed": 5}))
    assert one.val_set is not None
    assert two.val_set is not None
    assert three.val_set is not None
    assert one.val_set[0].clip_id == two.val_set[0].clip_id
    assert torch.equal(one.val_set[0].frames, two.val_set[0].frames)
    assert one.train_set[0].clip_id == two.train_set[0].clip_id
    assert not torch.equal(one.train_set[0].frames, two.train_set[0].frames)  # another motion, another light
    assert not torch.equal(one.val_set[0].frames, three.val_set[0].frames)


def test_photos_are_the_stills_of_both_sides_with_names_and_landmarks(tmp_path: Path) -> None:
    header = HEADER + "\tgroup\teye1_x\teye1_y"
    lines = [LINE.format(f"pictures/{i}.png") + f"\t{group}\t28\t30" for i, group in enumerate(["a", "", "a"])]
    faces(tmp_path)
    data = FaceDataModule(write(tmp_path, lines, header), n_frames=4, side=32, val_share=0.5, motion=2.0)
    photos = {photo.person: photo for photo in data.photos()}
    assert sorted(photo.person for photo in data.photos()) == ["a", "a", "line 3"]
    still = FaceDataModule(tmp_path, side=32, val_share=0).train_set
    assert torch.equal(photos["line 3"].frame, (still[1].frames[0] * 255).round().byte())
    assert torch.equal(photos["line 3"].mask, still[1].mask[0, 0])
    assert photos["line 3"].landmarks[0].tolist() == [14.0, 15.0]  # the picture is square and half as large
    x, y, width, height = map(float, LINE.split("\t")[1:5])
    nose = [(x + 0.51 * width) / 2, (y + 0.59 * height) / 2]
    assert photos["line 3"].landmarks[2].tolist() == pytest.approx(nose, abs=1e-4)


def test_people_and_split_are_read_from_the_index(tmp_path: Path) -> None:
    rows = [("a", "train"), ("b", "val"), ("a", "train"), ("", "train")]
    lines = [f"{LINE.format(f'pictures/{i}.png')}\t{group}\t{split}" for i, (group, split) in enumerate(rows)]
    data = FaceDataModule(write(tmp_path, lines, HEADER + "\tgroup\tsplit"), batch_size=1)
    assert data.val_set is not None
    assert [(s.clip_id, s.identity) for s in map(data.train_set.__getitem__, range(3))] == [(0, 0), (2, 0), (3, -1)]
    assert [(data.val_set[0].clip_id, data.val_set[0].identity)] == [(1, 1)]


def test_zip_is_read_as_the_folder(tmp_path: Path) -> None:
    folder = faces(tmp_path / "folder")
    archive = tmp_path / "faces.zip"
    with zipfile.ZipFile(archive, "w") as target:
        for file in (tmp_path / "folder").rglob("*.*"):
            target.write(file, file.relative_to(tmp_path / "folder"))
    zipped = FaceDataModule(archive, batch_size=2, val_share=0.25)
    for one, two in zip(folder.train_dataloader(), zipped.train_dataloader(), strict=True):
        assert torch.equal(one.frames, two.frames)


@pytest.mark.parametrize(
    ("lines", "header", "message"),
    [
        ([LINE.format("pictures/0.png"), LINE.format("gone.png")], HEADER, "line 3: there is no image gone.png"),
        ([], HEADER, "has no rows"),
        ([LINE.format("a")], "name\tbox_x\tbox_y\tbox_w\tbox_h", "no column file"),
        (["pictures/0.png\t1\t2"], HEADER, "line 2: 3 values, expected 5"),
        (["pictures/0.png\t1\ttwo\t3\t4"], HEADER, "line 2: box_y is 'two', expected a number"),
        (["pictures/0.png\t1\tnan\t3\t4"], HEADER, "line 2: box_y is 'nan', expected a number"),
        (["pictures/0.png\t1\t2\t0\t4"], HEADER, "line 2: the face box is 0 x 4 px"),
        ([LINE.format("pictures/0.png") + "\ttest"], HEADER + "\tsplit", "line 2: split is 'test'"),
        ([LINE.format("pictures/0.png") + "\tval"], HEADER + "\tsplit", "no row has split train"),
    ],
)
def test_wrong_index_gets_one_clear_line(tmp_path: Path, lines: list[str], header: str, message: str) -> None:
    with pytest.raises(PaLibError, match=r"index\.tsv") as caught:
        FaceDataModule(write(tmp_path, lines, header)).setup()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("file", ["../secret.png", "pictures/../../secret.png", "{parent}/secret.png"])
def test_a_table_cannot_name_files_outside_of_its_folder(tmp_path: Path, file: str) -> None:
    picture(9).save(tmp_path / "secret.png")
    lines = [LINE.format(f"pictures/{number}.png") for number in range(3)]
    folder = write(tmp_path / "data", [LINE.format(file.format(parent=tmp_path)), *lines])
    with pytest.raises(PaLibError, match="outside of the folder"):
        FaceDataModule(folder, val_share=0).train_set[0]


def test_damaged_image_names_its_row(tmp_path: Path) -> None:
    data = faces(tmp_path, val_share=0)
    (tmp_path / "pictures" / "2.png").write_bytes(b"no picture")
    with pytest.raises(PaLibError, match=r"line 4: .*pictures/2.png is no image"):
        data.train_set[2]


@pytest.mark.parametrize("content", [None, b"no zip"])
def test_wrong_path_gets_one_clear_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "faces.zip"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PaLibError, match=r"expected a folder or a \.zip"):
        FaceDataModule(path).setup()
    with pytest.raises(PaLibError, match="there is no index"):
        FaceDataModule(tmp_path).setup()


@pytest.mark.parametrize("arguments", [{"n_frames": 0}, {"side": 4}, {"motion": -1.0}, {"head_scale": 0.0}])
def test_wrong_settings_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(PaLibError, match="expected at least"):
        FaceDataModule("somewhere", **arguments)  # type: ignore[arg-type]


def test_real_faces(shared_data: Path) -> None:
    data = FaceDataModule(shared_data / "faces" / "faces_permissive_128.zip", n_frames=3, side=64, batch_size=4)
    assert data.val_set is not None
    assert (len(data.train_set), len(data.val_set)) == (3056, 345)  # as the data set's own description says
    batch = next(iter(data.train_dataloader()))
    assert batch.frames.shape == (4, 3, 3, 64, 64)
    assert batch.identities is not None
    assert (batch.identities >= 0).all()
    # The nose of everybody lies under the mask.
    for index in range(20):
        face, clip = data.train_set.faces[index], data.train_set[index]  # type: ignore[attr-defined]
        x, y = (int(face.row.number(f"nose_{axis}") / 2) for axis in "xy")
        assert clip.mask[0, 0, y, x] == 1
