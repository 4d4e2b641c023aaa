"""TCS's layer beside diffusers' AnimateDiffTransformer3D: forward and backward, same shapes, same weights, in turns.

    python benchmarks/temporal.py [--repeats 7] [--device cpu] [--dtype float32] [--shapes 320x32 320x16 640x16 1280x8]

One clip of 16 frames, random weights, gradients of the input and of every weight. Before anything is measured the
outputs are compared. Shapes are channels x side of the feature map: the upper three levels of SD 1.5 and 256 pixels,
and one between.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _bench import MIB, Table, publish
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from torch import Tensor, nn

from pa_lib.modules.temporal.attention import TemporalTransformer

FRAMES, HEADS = 16, 8
GOAL = 1.0
TOLERANCE = {"float32": 1e-5, "bfloat16": 0.1}
Step = Callable[[], tuple[float, float]]


def layers(channels: int) -> dict[str, nn.Module]:
    """The layer of diffusers, ours computing the same, and ours as it is by default, all with the same weights."""
    torch.manual_seed(0)
    theirs = AnimateDiffTransformer3D(
        num_attention_heads=HEADS,
        attention_head_dim=channels // HEADS,
        in_channels=channels,
        positional_embeddings="sinusoidal",
        num_positional_embeddings=32,
    )
    weights = {name: value for name, value in theirs.state_dict().items() if "pos_embed" not in name}
    made: dict[str, nn.Module] = {"diffusers": theirs}
    for name, is_norm_per_frame in (("pa_lib, same norm", False), ("pa_lib, norm of each frame", True)):
        made[name] = TemporalTransformer(channels, HEADS, is_norm_per_frame=is_norm_per_frame)
        made[name].load_state_dict(weights)
    return made


def applied(layer: nn.Module, x: Tensor) -> Tensor:
    result: Tensor = layer(x, num_frames=FRAMES) if isinstance(layer, AnimateDiffTransformer3D) else layer(x, FRAMES)
    return result


def step_of(layer: nn.Module, side: int, device: str, dtype: torch.dtype) -> Step:
    """One forward and backward pass; gives the seconds of each."""
    layer.to(device, dtype)
    channels = layer.norm.num_channels  # type: ignore[union-attr]
    x = torch.randn(FRAMES, channels, side, side, device=device, dtype=dtype, requires_grad=True)
    gradient = torch.randn_like(x)

    def now() -> float:
        if device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter()

    def step() -> tuple[float, float]:
        layer.zero_grad()
        x.grad = None
        start = now()
        y = applied(layer, x)
        middle = now()
        y.backward(gradient)
        return middle - start, now() - middle

    return step


def check_equal(made: dict[str, nn.Module], side: int, device: str, dtype: torch.dtype) -> None:
    theirs, ours = (made[name].to(device, dtype) for name in ("diffusers", "pa_lib, same norm"))
    x = torch.randn(FRAMES, theirs.norm.num_channels, side, side, device=device, dtype=dtype)  # type: ignore[union-attr]
    with torch.no_grad():
        difference = float((applied(theirs, x) - applied(ours, x)).abs().max())
    if difference > TOLERANCE[str(dtype).removeprefix("torch.")]:
        sys.exit(f"the two layers do not compute the same: they differ by {difference:.2g}")


def measure_memory(name: str, shape: str, device: str, dtype_name: str) -> None:
    """In a process of its own: print what the first full step took over the level before it, in MiB.

    On a CPU: the kernel's high-water mark of resident memory, reset before the step. Weights and input are there
    before; gradients are not. A step on a picture of 2 x 2 goes first, so that libraries and threads are there too.
    """
    channels, side = map(int, shape.split("x"))
    dtype = getattr(torch, dtype_name)
    layer = layers(channels)[name]
    step_of(layer, 2, device, dtype)()
    step = step_of(layer, side, device, dtype)
    layer.zero_grad()
    if device == "cpu":
        Path("/proc/self/clear_refs").write_text("5")
        before = _status_kib("VmRSS")
        step()
        print((_status_kib("VmHWM") - before) / 1024)
    else:
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        step()
        print((torch.cuda.max_memory_allocated() - held) / MIB)


def _status_kib(entry: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{entry}:"))


def peak_mib(name: str, shape: str, asked: argparse.Namespace) -> float:
    command = [sys.executable, __file__, "--memory-of", name, "--shapes", shape]
    command += ["--device", asked.device, "--dtype", asked.dtype]
    # Freed tensors go back to the system at once, so that the mark counts what is alive and not how the heap is kept
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"measuring memory failed: {' '.join(command)}\n{done.stderr[-2000:]}")
    return float(json.loads(done.stdout.strip().splitlines()[-1]))


def measure(shape: str, asked: argparse.Namespace) -> dict[str, dict[str, Any]]:
    channels, side = map(int, shape.split("x"))
    dtype = getattr(torch, asked.dtype)
    made = layers(channels)
    check_equal(made, side, asked.device, dtype)
    steps = {name: step_of(layer, side, asked.device, dtype) for name, layer in made.items()}
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for number in range(asked.repeats + 1):
        for name, step in steps.items():
            took = step()
            if number:  # the first round warms up
                seconds[name].append(took)
    figures = {}
    for name, times in seconds.items():
        figures[name] = {
            "forward_s": statistics.median(forward for forward, _ in times),
            "step_s": statistics.median(forward + backward for forward, backward in times),
            # Each against diffusers' run of the same round: what else the machine does weighs on both
            "time_ratio": statistics.median(
                sum(mine) / sum(theirs) for mine, theirs in zip(times, seconds["diffusers"], strict=True)
            ),
            "peak_mib": peak_mib(name, shape, asked),
            "runs_s": [round(sum(took), 4) for took in times],
        }
        figures[name]["memory_ratio"] = figures[name]["peak_mib"] / figures["diffusers"]["peak_mib"]
        print(f"{shape} {name}: {figures[name]['step_s']:.3f} s, {figures[name]['peak_mib']:.0f} MiB", flush=True)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=TOLERANCE)
    parser.add_argument("--shapes", nargs="+", default=["320x32", "320x16", "640x16", "1280x8"])
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.memory_of:
        measure_memory(asked.memory_of, asked.shapes[0], asked.device, asked.dtype)
        return
    figures = {shape: measure(shape, asked) for shape in asked.shapes}
    rows = [
        (
            shape.replace("x", " channels, side "),
            name,
            of["forward_s"] * 1000,
            of["step_s"] * 1000,
            of["time_ratio"],
            of["peak_mib"],
            of["memory_ratio"],
        )
        for shape, contenders in figures.items()
        for name, of in contenders.items()
    ]
    ours = [of for contenders in figures.values() for name, of in contenders.items() if name != "diffusers"]
    slowest, largest = max(of["time_ratio"] for of in ours), max(of["memory_ratio"] for of in ours)
    table = Table(
        f"One temporal layer, forward and backward, 1 clip of {FRAMES} frames, {asked.dtype} on {asked.device}, "
        f"median of {asked.repeats} in turns",
        ("shape", "layer", "forward ms", "both ms", "time, of diffusers'", "peak MiB", "peak, of diffusers'"),
        rows,
        [
            f"Goals: time and peak memory at most those of diffusers' AnimateDiffTransformer3D: {slowest:.2f} and "
            f"{largest:.2f} times in the worst row. Time ratios are medians over rounds in which every layer ran once. "
            "Peak: what a process of its own needed for its first step over what it held before, gradients counted in "
            "(on a CPU the kernel's high-water mark, with freed memory given back at once).",
        ],
    )
    goals = {"time": slowest <= GOAL, "memory": largest <= GOAL}
    publish("temporal", [table], {"goals": goals, "threads": torch.get_num_threads(), "shapes": figures})


if __name__ == "__main__":
    main()
