"""Flow of pictures whose motion is known, and weights that are not what they should be."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from skimage.data import astronaut
from torch import Tensor

from pa_lib.errors import PaLibError
from pa_lib.pretrained import DISFlow, RAFTFlow


def _moved(x: int, y: int, side: int = 128) -> Tensor:
    """Two frames of a real picture, the second moved by x, y px; uint8."""
    picture = torch.from_numpy(astronaut()).permute(2, 0, 1)
    return torch.stack([picture[:, 100 - v : 100 - v + side, 150 - u : 150 - u + side] for u, v in ((0, 0), (x, y))])


class TestDISFlow:
    @pytest.mark.parametrize(("x", "y"), [(3, 0), (0, -4), (-5, 2)])
    def test_finds_motion_in_both_directions(self, x: int, y: int) -> None:
        ((forward, backward),) = DISFlow().both_ways(_moved(x, y))
        for flow, sign in ((forward, 1), (backward, -1)):
            off = (flow[:, 16:-16, 16:-16] - sign * torch.tensor([x, y]).view(2, 1, 1)).abs()
            assert float(off.median()) < 0.05

    def test_is_what_opencv_gives_for_its_own_grey(self) -> None:
        frames = _moved(3, 1)
        greys = [cv2.cvtColor(frame.permute(1, 2, 0).numpy().copy(), cv2.COLOR_RGB2GRAY) for frame in frames]
        expected = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST).calc(greys[0], greys[1], None)
        ((forward, _),) = DISFlow("fast").both_ways(frames)
        np.testing.assert_array_equal(forward.permute(1, 2, 0).numpy(), expected)

    def test_eight_bit_and_float_pixels_give_the_same(self) -> None:
        frames = _moved(2, 2)
        for eight, floats in zip(DISFlow().both_ways(frames), DISFlow().both_ways(frames / 255), strict=True):
            assert all(torch.equal(*ways) for ways in zip(eight, floats, strict=True))

    def test_threads_change_nothing(self) -> None:
        threads = cv2.getNumThreads()
        told = []
        try:
            for n in (1, 2):
                cv2.setNumThreads(n)
                told += list(DISFlow().both_ways(_moved(3, 1)))
        finally:
            cv2.setNumThreads(threads)
        assert all(torch.equal(*ways) for ways in zip(*told, strict=True))

    def test_gives_a_pair_for_every_frame_but_one(self) -> None:
        frames = _moved(0, 0).repeat(2, 1, 1, 1)
        assert [len(list(DISFlow().both_ways(frames[:n]))) for n in (0, 1, 2, 4)] == [0, 0, 1, 3]

    def test_can_be_pickled_and_tells_its_preset(self) -> None:
        flow = DISFlow("ultrafast")
        list(flow.both_ways(_moved(1, 1)))
        assert pickle.loads(pickle.dumps(flow)).protocol() == flow.protocol()
        assert flow.protocol()["preset"] == "ultrafast"

    @pytest.mark.wrong_types
    def test_what_does_not_fit_is_refused(self) -> None:
        with pytest.raises(ValueError, match="expected one of ultrafast, fast, medium"):
            DISFlow("slow")  # type: ignore[arg-type]
        for frames in (torch.zeros(2, 1, 64, 64), torch.zeros(3, 64, 64)):
            with pytest.raises(ValueError, match="sides of at least 16 px"):
                list(DISFlow().both_ways(frames))
        with pytest.raises(ValueError, match="int64"):
            list(DISFlow().both_ways(torch.zeros(2, 3, 64, 64, dtype=torch.int64)))

    def test_small_pictures_are_refused(self) -> None:
        with pytest.raises(ValueError, match="sides of at least 16 px"):
            list(DISFlow().both_ways(torch.zeros(2, 3, 8, 64)))

    @pytest.mark.parametrize("size", [(16, 16), (16, 300), (17, 23), (31, 16)])
    def test_small_pictures_are_no_error(self, size: tuple[int, int]) -> None:
        ((forward, _),) = DISFlow().both_ways(torch.rand(2, 3, *size))
        assert forward.shape == (2, *size)
        assert forward.isfinite().all()


def _random_weights(folder: Path, size: str) -> Path:
    from torchvision.models import optical_flow

    torch.manual_seed(0)
    path = folder / f"raft_{size}.pth"
    torch.save(getattr(optical_flow, f"raft_{size}")(weights=None, progress=False).state_dict(), path)
    return path


class TestRAFTFlow:
    @pytest.mark.parametrize("size", ["small", "large"])
    def test_is_the_network_of_the_file(self, tmp_path: Path, size: str) -> None:
        from torchvision.models import optical_flow

        path = _random_weights(tmp_path, size)
        flow = RAFTFlow(path, n_updates=2)
        told = flow.protocol()
        assert told["network"] == f"torchvision raft_{size}"
        assert told["weights_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        frames = _moved(2, 1)
        ((forward, backward),) = flow.both_ways(frames)
        network = getattr(optical_flow, f"raft_{size}")(weights=None, progress=False).eval()
        network.load_state_dict(torch.load(path, weights_only=True))
        one, other = (2 * frames[None].float() / 255 - 1).unbind(1)
        with torch.no_grad():
            torch.testing.assert_close(forward, network(one, other, 2)[-1][0], atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(backward, network(other, one, 2)[-1][0], atol=1e-4, rtol=1e-4)

    def test_sizes_that_are_no_multiple_of_eight_keep_their_size(self, tmp_path: Path) -> None:
        flow = RAFTFlow(_random_weights(tmp_path, "small"), n_updates=1)
        for size in ((60, 131), (130, 20)):
            ((forward, backward),) = flow.both_ways(torch.rand(2, 3, *size))
            assert forward.shape == backward.shape == (2, *size)
            assert not forward.requires_grad

    def test_stays_frozen(self, tmp_path: Path) -> None:
        flow = RAFTFlow(_random_weights(tmp_path, "small")).train()
        assert not any(module.training for module in flow.modules())
        assert not any(parameter.requires_grad for parameter in flow.parameters())

    def test_weights_that_are_missing_or_others_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(PaLibError, match=r"cannot be read .No such file.*use DISFlow"):
            RAFTFlow(tmp_path / "none.pth")
        damaged = tmp_path / "damaged.pth"
        damaged.write_bytes(b"not a state file")
        with pytest.raises(PaLibError, match="not a state file"):
            RAFTFlow(damaged)
        other = tmp_path / "other.pth"
        torch.save({"weight": torch.zeros(1)}, other)
        with pytest.raises(PaLibError, match="not the weights of RAFT"):
            RAFTFlow(other)
        state = torch.load(_random_weights(tmp_path, "small"), weights_only=True)
        torch.save({name: value[..., None] for name, value in state.items()}, other)
        with pytest.raises(PaLibError, match="not the weights of RAFT"):
            RAFTFlow(other)
        with pytest.raises(ValueError, match="at least 1"):
            RAFTFlow(other, n_updates=0)
