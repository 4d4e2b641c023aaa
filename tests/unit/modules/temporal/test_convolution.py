"""The temporal convolution: new it changes nothing, it sees seven frames each way, both directions of time alike."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pa_lib.errors import PaLibError
from pa_lib.modules.temporal.attention import TemporalTransformer
from pa_lib.modules.temporal.convolution import TemporalConvolution

CHANNELS = 8


def stirred(is_norm_per_frame: bool = True) -> TemporalConvolution:
    torch.manual_seed(1)
    layer = TemporalConvolution(CHANNELS, groups=4, is_norm_per_frame=is_norm_per_frame)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.2)
    return layer


def pictures(count: int) -> Tensor:
    return torch.randn(count, CHANNELS, 3, 5, generator=torch.Generator().manual_seed(2)) + 0.5


@pytest.mark.parametrize("is_norm_per_frame", [True, False])
@pytest.mark.parametrize("frames", [1, 2, 6])
def test_a_new_layer_changes_nothing(is_norm_per_frame: bool, frames: int) -> None:
    x = pictures(6)
    assert torch.equal(TemporalConvolution(CHANNELS, is_norm_per_frame=is_norm_per_frame)(x, frames), x)


@pytest.mark.parametrize("is_norm_per_frame", [True, False])
def test_it_is_what_its_formula_says(is_norm_per_frame: bool) -> None:
    """Written out frame by frame, with zeros beyond the ends."""
    layer, frames = stirred(is_norm_per_frame), 3
    x = pictures(2 * frames)
    expected = []
    for clip in x.split(frames):
        z = clip
        for norm, convolution in zip(layer.norms, layer.convolutions, strict=True):
            mixed = z if is_norm_per_frame else z.transpose(0, 1)[None]
            normed = norm(mixed) if is_norm_per_frame else norm(mixed)[0].transpose(0, 1)
            active = torch.cat([torch.zeros(1, *z.shape[1:]), normed * normed.sigmoid(), torch.zeros(1, *z.shape[1:])])
            taps = [torch.einsum("oc,tchw->tohw", convolution.weight[..., k], active[k : k + frames]) for k in range(3)]
            z = z + sum(taps) + convolution.bias[:, None, None]
        expected.append(
            clip + torch.einsum("oc,tchw->tohw", layer.proj_out.weight, z) + layer.proj_out.bias[:, None, None]
        )
    torch.testing.assert_close(layer(x, frames), torch.cat(expected), rtol=1e-5, atol=1e-5)


def test_a_frame_sees_seven_frames_each_way_and_no_other_clip() -> None:
    layer, frames = stirred().double(), 20
    x = pictures(2 * frames).double()
    before = layer(x, frames)
    x[9] += torch.linspace(-2, 2, 5)
    after = layer(x, frames)
    moved = [i for i in range(2 * frames) if not torch.allclose(after[i], before[i], rtol=0, atol=1e-12)]
    assert moved == list(range(2, 17))


def test_time_has_no_direction_when_kernels_are_symmetric() -> None:
    layer = stirred()
    with torch.no_grad():
        for convolution in layer.convolutions:
            convolution.weight[..., 2] = convolution.weight[..., 0]
    x = pictures(5)
    torch.testing.assert_close(layer(x.flip(0), 5), layer(x, 5).flip(0), rtol=1e-5, atol=1e-5)


def test_it_is_about_as_large_as_attention() -> None:
    def count(layer: nn.Module) -> int:
        return sum(parameter.numel() for parameter in layer.parameters())

    with torch.device("meta"):
        convolution, attention = TemporalConvolution(320), TemporalTransformer(320)
    assert count(convolution) == 22 * 320**2 + 22 * 320
    assert count(convolution) / count(attention) == pytest.approx(1, abs=0.001)


def test_gradient_reaches_every_weight_and_half_precision_is_near() -> None:
    layer, x = stirred(), pictures(6)
    expected = layer(x, 3)
    expected.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in layer.parameters())
    half = layer.bfloat16()(x.bfloat16(), 3).float()
    assert (half - expected).abs().max() / expected.abs().max() < 0.05


def test_pictures_that_are_no_whole_clips_are_refused() -> None:
    with pytest.raises(PaLibError, match="6 images are not whole clips of 4 frames"):
        TemporalConvolution(CHANNELS)(pictures(6), 4)
