"""Clips out of tracklets: windows, sides of the split, and faults of the index."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pa_lib.data import TrackletDataModule
from pa_lib.errors import PaLibError

SIDE = 16


def add_video(root: Path, name: str, lengths: dict[str, tuple[str, int]], is_lossless: bool = True) -> None:
    """A video with tracklets: id -> person and number of frames. Frame i of all is grey 10 i, its mask's left half."""
    folder = root / name
    folder.mkdir(parents=True)
    suffix = ".frame.png" if is_lossless else ".jpg"
    entries = []
    for key, (person, n_frames) in lengths.items():
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[:, : SIDE // 2] = 255
        for i in range(n_frames):
            Image.new("RGB", (SIDE, SIDE), (10 * i, 0, 200)).save(folder / f"{key}-{i:06d}{suffix}", quality=95)
            Image.fromarray(mask).save(folder / f"{key}-{i:06d}.png")
        entries.append(
            {
                "id": key,
                "files": f"{key}-",
                "person": person,
                "kind": "face" if key.startswith("f") else "body",
                "first_frame": 7,
                "fps": 25.0,
                "boxes": [[0, 0, SIDE, SIDE]] * n_frames,
            }
        )
    (folder / "tracklets.json").write_text(json.dumps({"version": 1, "video": name * 8, "tracklets": entries}))


def clips(data: TrackletDataModule) -> list[Any]:
    return [data.train_set[i] for i in range(len(data.train_set))]


@pytest.mark.parametrize("is_lossless", [True, False])
def test_clips_are_windows_of_tracklets(tmp_path: Path, is_lossless: bool) -> None:
    add_video(tmp_path, "a", {"0001": ("1", 8), "0002": ("1", 2), "0003": ("2", 3)}, is_lossless)
    data = TrackletDataModule(tmp_path, n_frames=3, stride=2, side=SIDE, val_share=0)
    found = clips(data)
    # 0001 gives windows at 0, 2 and 4; 0002 is too short; 0003 gives one
    reds = [[round(float(frame[0].mean()) * 25.5) for frame in clip.frames] for clip in found]
    assert reds == [[0, 1, 2], [2, 3, 4], [4, 5, 6], [0, 1, 2]]
    assert [clip.identity for clip in found] == [0, 0, 0, 1]
    assert [clip.clip_id for clip in found] == [0, 1, 2, 3]
    assert (found[0].mask[..., : SIDE // 2] == 1).all()
    assert (found[0].mask[..., SIDE // 2 :] == 0).all()
    assert abs(float(found[0].frames[:, 2].mean()) - 200 / 255) < 0.02


def test_side_is_what_was_asked(tmp_path: Path) -> None:
    add_video(tmp_path, "a", {"0001": ("1", 4)})
    clip = clips(TrackletDataModule(tmp_path, n_frames=4, side=24, val_share=0, batch_size=1))[0]
    assert clip.frames.shape == (4, 3, 24, 24)
    assert clip.mask.mean() == pytest.approx(0.5, abs=1e-5)


def test_whole_videos_are_held_out_or_whole_people_of_one(tmp_path: Path) -> None:
    for name in "abcd":
        add_video(tmp_path / "many", name, {"0001": ("1", 4), "0002": ("2", 4)})
    data = TrackletDataModule(tmp_path / "many", n_frames=2, side=SIDE, val_share=0.25)
    assert data.val_set is not None
    assert (len(data.train_set), len(data.val_set)) == (12, 4)
    videos = [{w.tracklet.video for w in s.windows} for s in (data.train_set, data.val_set)]  # type: ignore[attr-defined]
    assert not videos[0] & videos[1]

    add_video(tmp_path / "one", "a", {"0001": ("1", 4), "0002": ("2", 4), "0003": ("1", 4)})
    data = TrackletDataModule(tmp_path / "one", n_frames=4, side=SIDE, val_share=0.5)
    assert data.val_set is not None
    people = [{w.tracklet.person for w in s.windows} for s in (data.train_set, data.val_set)]  # type: ignore[attr-defined]
    assert sorted(map(len, people)) == [1, 1]
    assert not people[0] & people[1]


def test_kind_is_chosen(tmp_path: Path) -> None:
    add_video(tmp_path, "a", {"0001": ("1", 4), "f002": ("1", 6)})
    assert len(TrackletDataModule(tmp_path, n_frames=2, side=SIDE, kind="face", val_share=0).train_set) == 3
    assert len(TrackletDataModule(tmp_path, n_frames=2, side=SIDE, val_share=0).train_set) == 5


def test_hidden_folders_are_not_read(tmp_path: Path) -> None:
    add_video(tmp_path, "a", {"0001": ("1", 4)})
    add_video(tmp_path, ".half", {"0001": ("1", 4)})
    assert len(TrackletDataModule(tmp_path, n_frames=4, side=SIDE, val_share=0).train_set) == 1


def test_batches_come_out(tmp_path: Path) -> None:
    add_video(tmp_path, "a", {"0001": ("1", 8)})
    batch = next(
        iter(TrackletDataModule(tmp_path, n_frames=2, side=SIDE, batch_size=4, val_share=0).train_dataloader())
    )
    assert batch.frames.shape == (4, 2, 3, SIDE, SIDE)
    assert batch.masks.shape == (4, 2, 1, SIDE, SIDE)
    assert batch.flow is None
    assert batch.identities is not None
    assert torch.equal(batch.identities, torch.zeros(4, dtype=torch.int64))


def test_folders_that_call_bodies_persons_are_read(tmp_path: Path) -> None:
    add_video(tmp_path, "a", {"0001": ("1", 4), "f002": ("1", 4)})
    index = tmp_path / "a" / "tracklets.json"
    index.write_text(index.read_text().replace('"kind": "body"', '"kind": "person"'))
    for word in ("body", "person"):
        data = TrackletDataModule(tmp_path, n_frames=4, side=SIDE, kind=word, val_share=0)  # type: ignore[arg-type]
        assert [window.tracklet.kind for window in data.train_set.windows] == ["body"]  # type: ignore[attr-defined]


def test_what_is_missing_or_wrong_gets_one_clear_line(tmp_path: Path) -> None:
    def refused(message: str, **options: Any) -> None:
        with pytest.raises(PaLibError, match=message) as caught:
            TrackletDataModule(tmp_path, **{"n_frames": 2, "side": SIDE, **options}).setup()
        assert "\n" not in str(caught.value)

    refused("cut tracklets with pa-tracklets")
    add_video(tmp_path, "a", {"0001": ("1", 4)})
    refused("none of 1 tracklets has 9 frames", n_frames=9)
    refused("none of 0 tracklets of kind face", kind="face")
    (tmp_path / "a" / "0001-000003.png").rename(tmp_path / "kept.png")
    refused(r"tracklet 0001: there is no a/0001-000003\.png")
    (tmp_path / "kept.png").rename(tmp_path / "a" / "0001-000003.png")
    index = tmp_path / "a" / "tracklets.json"
    whole = index.read_text()
    index.write_text(whole.replace('"person": "1", ', ""))
    refused(r"tracklets\.0\.person: Field required")
    index.write_text(whole.replace('"version": 1', '"version": 2'))
    refused("version 2, expected 1")
    index.write_text(whole[:40])
    refused("expected an index of tracklets as JSON")
    index.write_text(whole)
    (tmp_path / "a" / "0001-000001.frame.png").write_bytes(b"")
    with pytest.raises(PaLibError, match="is no image"):
        clips(TrackletDataModule(tmp_path, n_frames=2, side=SIDE, val_share=0))


@pytest.mark.parametrize(
    "arguments",
    [{"n_frames": 0}, {"stride": 0}, {"side": 1}, pytest.param({"kind": "dog"}, marks=pytest.mark.wrong_types)],
)
def test_wrong_settings_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(PaLibError, match=next(iter(arguments))):
        TrackletDataModule("somewhere", **arguments)
