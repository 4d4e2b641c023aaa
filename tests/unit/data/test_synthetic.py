"""Made clips: what is said to be known about them is true."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import grid_sample, max_pool2d

from pa_lib.data import Draw, Sample, SyntheticDataModule
from pa_lib.data.synthetic import SyntheticClipSet
from pa_lib.errors import PaLibError

SIDE = 128


def clips(n: int = 8, n_frames: int = 5, n_identities: int = 8, seed: int = 0, side: int = SIDE) -> SyntheticClipSet:
    speed_px = 4 * side / SIDE
    return SyntheticClipSet(
        range(n), n_frames=n_frames, side=side, n_identities=n_identities, speed_px=speed_px, seed=seed
    )


def warped(following: Tensor, flow: Tensor) -> Tensor:
    """Each pixel of a frame as it looks in the next one: the next frame sampled where the flow leads."""
    side = flow.shape[-1]
    rows, columns = torch.meshgrid(*(torch.arange(side, dtype=torch.float32),) * 2, indexing="ij")
    at = torch.stack([columns, rows]) + flow
    return grid_sample(following, (2 * at / (side - 1) - 1).permute(0, 2, 3, 1), align_corners=True)


def inner(mask: Tensor, margin: int = 2) -> Tensor:
    return max_pool2d(1 - mask, 2 * margin + 1, 1, margin) < 0.01


@pytest.mark.parametrize("number", range(4))
def test_flow_leads_to_the_same_thing_in_the_next_frame(number: int) -> None:
    errors, stills = {}, {}
    for side in (128, 256):
        clip = clips(n_frames=2, side=side).sample(Draw(number, 0))
        assert clip.flow is not None
        now, then = clip.frames[:-1], clip.frames[1:]
        border = side // 16
        inside, outside = (
            inner(mask, side // 64)[..., border:-border, border:-border].expand(-1, 3, -1, -1)
            for mask in (clip.mask[:-1], 1 - clip.mask.amax(0, keepdim=True))
        )
        error, still = (
            (picture - now).abs()[..., border:-border, border:-border] for picture in (warped(then, clip.flow), then)
        )
        errors[side] = torch.stack([error[where].mean() for where in (inside, outside)])
        stills[side] = torch.stack([still[where].mean() for where in (inside, outside)])
        assert 0.05 < inside.float().mean() < 0.6
    assert (errors[256] < 0.1 * stills[256]).all()
    # What is left is bilinear sampling: its error falls with the square of the pixel, that of a wrong flow does not.
    assert (errors[256] < 0.4 * errors[128] + 1e-4).all()


@pytest.mark.parametrize("number", range(4))
def test_mask_moves_with_the_flow(number: int) -> None:
    clip = clips().sample(Draw(number, 0))
    assert clip.flow is not None
    inside = inner(clip.mask[:-1], 1)
    assert (warped(clip.mask[1:], clip.flow)[inside] > 0.98).all()
    # The figure's centre moves as its flow says on average: two measures that share nothing but the picture.
    grid = torch.stack(torch.meshgrid(*(torch.arange(SIDE, dtype=torch.float32),) * 2, indexing="ij")[::-1])
    centres = (clip.mask * grid).sum((2, 3)) / clip.mask.sum((2, 3))
    mean_flow = (clip.mask[:-1] * clip.flow).sum((2, 3)) / clip.mask[:-1].sum((2, 3))
    assert (centres.diff(dim=0) - mean_flow).abs().max() < 0.1


def test_identity_shows_only_under_the_mask() -> None:
    one, other = (clips(n_identities=n).sample(Draw(5, 0)) for n in (8, 3))
    assert (one.identity, other.identity) == (5, 2)
    assert torch.equal(one.mask, other.mask)
    assert one.flow is not None
    assert other.flow is not None
    assert torch.equal(one.flow, other.flow)
    outside = (one.mask == 0).expand_as(one.frames)
    assert torch.equal(one.frames[outside], other.frames[outside])
    assert (one.frames - other.frames)[~outside].abs().mean() > 0.05


def test_clips_of_one_identity_look_alike_and_move_differently() -> None:
    data = clips(n=24, n_identities=8)

    def colour(clip: Sample) -> Tensor:
        return (clip.frames * clip.mask).sum((0, 2, 3)) / clip.mask.sum()

    colours = [[colour(data.sample(Draw(number, 0))) for number in (i, i + 8, i + 16)] for i in range(8)]
    within = max((a - b).abs().max() for same in colours for a in same for b in same)
    between = sorted((colours[i][0] - colours[j][0]).abs().max() for i in range(8) for j in range(i))
    assert within < 0.06
    assert between[len(between) // 4] > 0.1
    assert not torch.equal(data.sample(Draw(0, 0)).mask, data.sample(Draw(8, 0)).mask)


def test_first_frames_do_not_depend_on_how_many_there_are_nor_on_the_epoch() -> None:
    long = clips(n_frames=7).sample(Draw(3, 0))
    short = clips(n_frames=3).sample(Draw(3, 4))
    torch.testing.assert_close(long.frames[:3], short.frames, atol=1e-5, rtol=0)
    torch.testing.assert_close(long.mask[:3], short.mask, atol=1e-4, rtol=0)


def test_one_frame_has_no_flow_and_another_seed_other_clips() -> None:
    image = clips(n_frames=1).sample(Draw(0, 0))
    assert image.flow is None
    assert image.frames.shape == (1, 3, SIDE, SIDE)
    assert not torch.equal(image.frames, clips(n_frames=1, seed=1).sample(Draw(0, 0)).frames)


def test_figure_stays_in_the_picture_over_a_long_time() -> None:
    clip = SyntheticClipSet([0], n_frames=200, side=32, n_identities=1, speed_px=1.5, seed=0).sample(Draw(0, 0))
    areas = clip.mask.sum((1, 2, 3)) / 32**2
    assert areas.min() > 0.08
    assert clip.flow is not None
    assert clip.flow.abs().max() < 4


def test_module_holds_out_identities() -> None:
    data = SyntheticDataModule(n_clips=40, n_frames=2, side=16, n_identities=10, batch_size=4, val_share=0.2)
    assert data.val_set is not None
    assert len(data.train_set) + len(data.val_set) == 40
    seen, new = ({data_set[i].identity for i in range(len(data_set))} for data_set in (data.train_set, data.val_set))
    assert len(new) == 2
    assert not seen & new
    ids = [[s[i].clip_id for i in range(len(s))] for s in (data.train_set, data.val_set)]
    assert sorted(ids[0] + ids[1]) == list(range(40))
    batch = next(iter(data.train_dataloader()))
    assert batch.frames.shape == (4, 2, 3, 16, 16)
    assert batch.masks.shape == (4, 2, 1, 16, 16)
    assert batch.flow is not None
    assert batch.flow.shape == (4, 1, 2, 16, 16)
    assert 0 <= batch.frames.min() <= batch.frames.max() <= 1
    assert 0 <= batch.masks.min() < batch.masks.max() == 1
    one = SyntheticDataModule(n_clips=10, n_frames=1, side=16, n_identities=1, val_share=0.2)
    assert one.val_set is not None
    assert (len(one.train_set), len(one.val_set)) == (8, 2)


@pytest.mark.parametrize("arguments", [{"n_clips": 0}, {"n_frames": 0}, {"side": 8}, {"speed_px": -1.0}])
def test_wrong_settings_are_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(PaLibError, match=next(iter(arguments))):
        SyntheticDataModule(**arguments)  # type: ignore[arg-type]


def test_seed_is_that_of_the_order_and_split_seed_that_of_everything_else() -> None:
    def data(**seeds: int) -> SyntheticDataModule:
        return SyntheticDataModule(n_clips=40, n_frames=1, side=16, n_identities=10, val_share=0.5, **seeds)

    one, order, split = data(), data(seed=1), data(split_seed=1)
    batches = [next(iter(made.train_dataloader())).clip_ids.tolist() for made in (one, order)]
    assert batches[0] != batches[1]
    assert set(order.train_set.numbers) == set(one.train_set.numbers)  # type: ignore[attr-defined]
    assert torch.equal(one.train_set[3].frames, order.train_set[3].frames)
    assert set(split.train_set.numbers) != set(one.train_set.numbers)  # type: ignore[attr-defined]
    assert not torch.equal(one.train_set[0].frames, split.train_set[0].frames)
