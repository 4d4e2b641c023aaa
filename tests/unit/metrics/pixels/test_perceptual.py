"""UnmaskedLPIPS: the checklist of every metric, on a real trunk with random weights."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
import torch
import torchvision

from _metrics import (
    assert_plain_protocol,
    assert_split_changes_nothing,
    measured,
)
from pa_lib.functional import unmasked_lpips
from pa_lib.metrics import UnmaskedLPIPS
from pa_lib.pretrained import Perceptual


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Perceptual:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("perceptual") / "squeezenet.pth"
    torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), path)
    return Perceptual("squeeze", path)


def _update(clips: list[int], t: int = 2, seed: int = 0) -> dict[str, Any]:
    draw = torch.Generator().manual_seed(seed)
    source = torch.rand(len(clips), t, 3, 33, 36, generator=draw)
    masks = torch.zeros(len(clips), t, 1, 33, 36)
    masks[..., 10:20, 5:20] = 1
    other = torch.rand(source.shape, generator=draw)
    return {"source": source, "anonymized": other, "masks": masks, "clip_ids": torch.tensor(clips)}


def test_batches_windows_and_context_change_nothing(network: Perceptual) -> None:
    whole = _update([4, 9], t=3)
    windows: list[dict[str, Any]] = []
    for clip in (0, 1):
        for frames, context in ((slice(0, 2), 0), (slice(1, 3), 1)):
            part = {name: whole[name][clip : clip + 1, frames] for name in ("source", "anonymized", "masks")}
            windows.append({**part, "clip_ids": whole["clip_ids"][clip : clip + 1], "context": context})
    assert_split_changes_nothing(lambda: UnmaskedLPIPS(network), [whole], windows)


def test_clips_weigh_the_same_and_empty_frames_are_counted(network: Perceptual) -> None:
    update = _update([0, 1, 2])
    update["masks"][0, 0] = 1
    update["masks"][2] = 1
    figure = measured(lambda: UnmaskedLPIPS(network), [update]).values[0]
    values = unmasked_lpips(update["source"], update["anonymized"], update["masks"], network)
    assert figure.name == "unmasked_lpips_squeeze"
    assert figure.value == pytest.approx((float(values[0, 1]) + float(values[1].mean())) / 2, abs=1e-12)
    assert figure.n == 2
    assert figure.counted == {"frames without kept pixels": 3, "clips left out": 1}
    update["masks"][:] = 1
    assert math.isnan(measured(lambda: UnmaskedLPIPS(network), [update]).values[0].value)


def test_what_is_kept_is_zero_and_plots(network: Perceptual) -> None:
    mpl.use("Agg")
    metric, update = UnmaskedLPIPS(network), _update([0])
    metric.update(**update | {"anonymized": torch.where(update["masks"] > 0, update["anonymized"], update["source"])})
    assert metric.measure().values[0].value == 0
    figure, _ = metric.plot()
    assert figure.axes
    mpl.pyplot.close(figure)


def test_protocol_is_plain_and_hangs_on_the_weights(network: Perceptual, shared_data: Path) -> None:
    assert_plain_protocol(UnmaskedLPIPS(network))
    real = Perceptual("squeeze", shared_data / "weights" / "perceptual" / "squeezenet1_1_features.safetensors")
    assert UnmaskedLPIPS(network).protocol_hash() != UnmaskedLPIPS(real).protocol_hash()
    assert UnmaskedLPIPS(network, chunk=4).protocol_hash() == UnmaskedLPIPS(network).protocol_hash()


def test_refuses_an_empty_chunk(network: Perceptual) -> None:
    with pytest.raises(ValueError, match="chunk is 0"):
        UnmaskedLPIPS(network, chunk=0)
