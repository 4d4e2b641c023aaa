"""Passersby-Anonymizer on a GPU: frames and clips a second and peak memory, with the networks of Stable Diffusion 1.5.

python benchmarks/passersby_gpu.py [--device cuda] [--sides 256 512] [--repeats 5]

Random weights, bf16 by autocast, with and without torch.compile. --is-tiny, with --device cpu,
runs the same on small networks, to see that it runs.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from _bench import MIB, Table, publish
from diffusers import AutoencoderKL, UNet2DConditionModel
from passersby import RandomText

from pa_lib.contracts import Batch
from pa_lib.modules import (
    CropAligner,
    DiffusersUNet,
    DiffusionProcess,
    InpaintingRequest,
    KLAutoencoder,
    MaskedDiffusionLoss,
    PassersbyAnonymizer,
    Sampler,
    SpatialContentAdapter,
    TemporalContentStabilizer,
)

FRAMES = 16
TRAINABLE = {"stage 1, images": ("adapter",), "stage 2, clips": ("temporal",)}


def system_of(side: int, steps: int, *, is_tiny: bool) -> PassersbyAnonymizer:
    """SD 1.5's UNet for inpainting and its autoencoder, with SCA and TCS in it."""
    torch.manual_seed(0)
    widths = (32, 32, 64, 64) if is_tiny else (320, 640, 1280, 1280)
    width = 32 if is_tiny else 768
    unet = UNet2DConditionModel(
        in_channels=9, out_channels=4, block_out_channels=widths, cross_attention_dim=width, attention_head_dim=8
    )
    autoencoder = AutoencoderKL(
        block_out_channels=(32, 32, 32, 32) if is_tiny else (128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
    )
    return PassersbyAnonymizer(
        backbone=DiffusersUNet(unet=unet),
        autoencoder=KLAutoencoder(vae=autoencoder),
        text=RandomText(width),
        adapter=SpatialContentAdapter(),
        temporal=TemporalContentStabilizer(),
        loss=MaskedDiffusionLoss(),
        diffusion=DiffusionProcess(),
        sampler=Sampler("ddim", steps=steps),
        crops=CropAligner(side=side),
    )


def measured(work: Callable[[], object], device: torch.device, repeats: int) -> tuple[float, float | None]:
    """Median seconds and, on a GPU, peak memory in MiB; the first two calls warm up (and compile)."""
    seconds = []
    for number in range(repeats + 2):
        if number == 2 and device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if number >= 2:
            seconds.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated() / MIB if device.type == "cuda" else None
    return statistics.median(seconds), peak


def measure(side: int, asked: argparse.Namespace, *, is_compiled: bool) -> list[tuple[Any, ...]]:
    """Rows: what, side, compiled, seconds, frames or clips a second, peak MiB."""
    device = torch.device(asked.device)
    system = system_of(side, asked.steps, is_tiny=asked.is_tiny).to(device)
    if is_compiled:
        system.backbone.unet.compile()  # in place: names of weights stay
    frames = torch.rand(1, FRAMES, 3, side, side, device=device)
    masks = torch.zeros(1, FRAMES, 1, side, side, device=device)
    masks[..., side // 8 : -side // 8, side // 4 : -side // 4] = 1
    rows = []

    def row(what: str, count: int, work: Callable[[], object]) -> None:
        with torch.autocast(device.type, torch.bfloat16):
            took, peak = measured(work, device, asked.repeats)
        rows.append((what, side, is_compiled, took, count / took, peak))
        print(*rows[-1], flush=True)

    system.eval()
    request = InpaintingRequest(frames, masks, [(0, 1)])
    row(f"anonymize {FRAMES} frames", FRAMES, lambda: system.generate(request))
    for stage, slots in TRAINABLE.items():
        system.set_trainable(slots)
        system.train()
        batch = Batch(frames, masks, torch.zeros(1, dtype=torch.long))
        if slots == ("adapter",):
            batch = Batch(frames.transpose(0, 1), masks.transpose(0, 1), torch.arange(FRAMES))
        optimizer = torch.optim.AdamW([weight for weight in system.parameters() if weight.requires_grad], lr=1e-4)

        def step(batch: Batch = batch, optimizer: torch.optim.Optimizer = optimizer) -> None:
            optimizer.zero_grad()
            system.training_step(batch, 0).backward()
            optimizer.step()

        row(f"train {stage}", len(batch.clip_ids), step)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 512], help="of the crops, px")
    parser.add_argument("--steps", type=int, default=25, help="of the sampler")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--is-tiny", action="store_true", help="small networks; writes no results")
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")  # losses are not logged
    rows = [
        row
        for is_compiled in (False, True)
        for side in asked.sides
        for row in measure(side, asked, is_compiled=is_compiled)
    ]
    name = torch.cuda.get_device_name() if asked.device.startswith("cuda") else asked.device
    table = Table(
        f"Networks of Stable Diffusion 1.5 with SCA and TCS, bf16, {asked.steps} steps of DDIM, on {name}, "
        f"median of {asked.repeats}",
        ("what", "side, px", "compiled", "seconds", "frames or clips a second", "peak MiB"),
        rows,
        [f"Anonymizing counts frames of one clip; stage 1 counts images of a batch of {FRAMES}, stage 2 clips of one."],
    )
    if asked.is_tiny:
        print(table.markdown())
    else:
        publish("passersby_gpu", [table], {"goals": {}, "rows": rows, "device": name})


if __name__ == "__main__":
    main()
