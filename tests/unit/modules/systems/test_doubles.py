"""Doubles without a network: the same pictures as a system that has one and does not ask it, in little memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import _heads
from _portraits import DiscCasting
from pa_lib.cli.compose import build
from pa_lib.contracts import Clip, ClipMasks, HeadPose, PersonMask
from pa_lib.errors import SettingError
from pa_lib.modules import (
    CropAligner,
    DoublesAnonymizer,
    DoublesReference,
    LightTransform,
    NoLight,
    NoReference,
    PassersbyAnonymizer,
)
from pa_lib.pipeline.replaced import MaskedFrame, replaced_frames
from pa_lib.video import Frame, Picture, PixelFormat

N, HEIGHT, WIDTH = 24, 256, 384


def doubles(**changed: Any) -> DoublesAnonymizer:
    return DoublesAnonymizer(
        reference=DoublesReference(NoLight(), casting=DiscCasting()), crops=CropAligner(16), **changed
    )


def walker(at: int) -> PersonMask:
    return PersonMask(1, at, 80, 90 + at, torch.ones(24, 20), "face", HeadPose(100.0 + at, 90.0, 4.0))


@pytest.mark.parametrize("body", ["keep", "fill", "generate"])
def test_it_shows_what_a_network_would_begin_with(body: str) -> None:
    config = _heads.config(body=body)
    config["backbone"]["condition_channels"] = 98
    config["reference"] = {
        "_target_": "pa_lib.modules.DoublesReference",
        "light": {"_target_": "pa_lib.modules.NoLight"},
    }
    other: PassersbyAnonymizer = build(config)
    reference: Any = other.reference
    reference._casting, reference.is_result = DiscCasting(), True
    made = DoublesAnonymizer(reference=reference, crops=other.crops, body=other.body)
    masks = _heads.people()
    poses = [HeadPose(mask.left + 5.0, mask.top + 5.0, 2.0) if mask.kind == "face" else None for mask in masks.people]
    posed = [replace(mask, pose=pose) for mask, pose in zip(masks.people, poses, strict=True)]
    masks = replace(masks, people=tuple(posed))
    one, two = (system.anonymize(_heads.clip(), masks, seed=5).frames for system in (made, other.eval()))
    assert torch.equal(one, two)
    assert not torch.equal(one, _heads.clip().frames)


def test_in_place_is_the_same() -> None:
    masks = ClipMasks(tuple(walker(at) for at in range(4)), 4, HEIGHT, WIDTH)
    frames = torch.randint(0, 256, (4, 3, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(1)).byte()
    clip, made = Clip(frames.clone(), 7, 12.5), doubles()
    expected = made.anonymize(clip, masks, seed=2)
    assert torch.equal(clip.frames, frames)
    changed = made.anonymize_(clip, masks, seed=2)
    assert changed.frames is clip.frames
    assert torch.equal(changed.frames, expected.frames)
    assert (changed.first_frame, changed.fps) == (expected.first_frame, expected.fps) == (7, 12.5)


class Made(TorchDispatchMode):
    """Bytes of the memory that each operation makes anew."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[tuple[int, str]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {one.untyped_storage().data_ptr() for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)}
        result = func(*args, **(kwargs or {}))
        for one in tree_leaves(result):
            if isinstance(one, Tensor) and one.untyped_storage().data_ptr() not in given:
                self.sizes.append((one.untyped_storage().nbytes(), str(func)))
        return result


@contextmanager
def nothing_as_large_as(most_bytes: int) -> Iterator[None]:
    with Made() as made:
        yield
    assert made.sizes
    assert not [size for size in made.sizes if size[0] >= most_bytes]


@pytest.mark.parametrize("is_moving", [False, True])
def test_a_window_is_held_once(is_moving: bool) -> None:
    """Besides its frames and a mask of a byte a pixel nothing is made that grows with frames times pixels."""
    shift = np.arange(N) * (2 if is_moving else 0)
    scene = np.random.default_rng(0).integers(0, 256, (HEIGHT // 4, 128, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    items = []
    for at in range(N):
        plane = scene[:, shift[at] : shift[at] + WIDTH].copy()
        frame = Frame(at, at, 1, at / 25, Picture((plane,), PixelFormat("rgb24", WIDTH, HEIGHT)))
        items.append(MaskedFrame(frame, True, (walker(at),)))
    with nothing_as_large_as(N * HEIGHT * WIDTH * 3 // 2):
        done = list(replaced_frames(items, doubles(), {}, 0))
    for item, one in zip(items, done, strict=True):
        assert one.error is None
        assert one.made is not None
        assert item.frame.picture is not None
        changed = (one.made.permute(1, 2, 0).numpy() != item.frame.picture.rgb()).any(2)
        assert changed.any()
        assert not changed[item.union().numpy() == 0].any()


def test_a_light_with_random_weights_is_said() -> None:
    learning = DoublesReference(LightTransform(width=4, side=16), casting=DiscCasting())
    assert DoublesAnonymizer(reference=learning, crops=CropAligner(16)).untrained_slots() == {"reference"}
    assert not doubles().untrained_slots()


def test_no_weight_learns() -> None:
    shipped = DoublesReference(LightTransform(path="shipped"), casting=DiscCasting())
    made = DoublesAnonymizer(reference=shipped, crops=CropAligner(16))
    assert not made.untrained_slots()
    assert not any(weight.requires_grad for weight in made.parameters())
    assert not any(part.training for part in made.modules())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"chunk": 8, "chunk_overlap": 8}, "chunks of 8 frames cannot overlap by 8; expected 0 to 7"),
        ({"chunk": 0}, "chunks of 0 frames"),
        ({"chunk_overlap": -1}, "cannot overlap by -1"),
        ({"body": "blur"}, "unknown body 'blur'"),
        ({"reference": NoReference()}, "choose module/reference=doubles"),
    ],
)
@pytest.mark.wrong_types
def test_what_does_not_fit_is_refused(changed: dict[str, Any], message: str) -> None:
    given = {"reference": DoublesReference(NoLight(), casting=DiscCasting()), "crops": CropAligner(16), **changed}
    with pytest.raises(SettingError, match=message):
        DoublesAnonymizer(**given)
