"""Passersby-Anonymizer: a training step beside a loop by hand, crops beside whole frames, and the length of a video.

python benchmarks/passersby.py [--turns 9] [--rounds 5] [--repeats 5] [--lengths 96 192 384 768]

Everything has random weights: what is measured does not depend on them.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _bench import RESULTS, ChildRun, Table, pa_anonymize, publish, run_child, write_clip
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionInpaintPipeline, UNet2DConditionModel
from numpy.typing import NDArray
from passersby_training import FOLDER, measure_training
from scaling import fit

from pa_lib.checkpoint import save_module
from pa_lib.cli.compose import build, compose
from pa_lib.contracts import Clip, ClipMasks, Decision, Person, PersonMask, Track
from pa_lib.modules import (
    AbstractText,
    CropAligner,
    DiffusersUNet,
    DiffusionProcess,
    KLAutoencoder,
    MaskedDiffusionLoss,
    NoAdapter,
    NoTemporal,
    PassersbyAnonymizer,
    Sampler,
    TemporalContentStabilizer,
    TextCondition,
)
from pa_lib.people import TracksRecord, write_tracks
from pa_lib.video import fingerprint, probe

SPEED_GOAL, MEMORY_GOAL, LINEAR_GOAL = 5.0, 1.05, 0.99
SIDE, PERSON = 512, (90, 40)  # of the whole frames, and of the people in them, px
TEXT_WIDTH = 64
PARTS = ("training", "crops", "lengths")
Part = tuple[Table, dict[str, Any], dict[str, bool]]


# -- crops against whole frames ------------------------------------------------------------------------------------


class RandomText(AbstractText):
    """As much text as CLIP gives, of random numbers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.states = torch.randn(1, 77, width)

    def forward(self, prompts: Sequence[str]) -> TextCondition:
        """The same for every prompt."""
        return TextCondition(self.states.expand(len(prompts), -1, -1))


def networks() -> tuple[UNet2DConditionModel, AutoencoderKL]:
    """Stable Diffusion's build with a fifth of its channels or less, and one level less.

    The finest level has no attention: its share of the work grows as channels become fewer, and it would take nearly
    all of a whole frame's time. This way it takes about the share that it has in Stable Diffusion at the same size.
    """
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=SIDE // 8,
        in_channels=9,
        out_channels=4,
        block_out_channels=(64, 128, 128),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
    )
    autoencoder = AutoencoderKL(
        block_out_channels=(8, 16, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
    )
    return unet.eval().requires_grad_(False), autoencoder.eval().requires_grad_(False)


def system_of(
    unet: UNet2DConditionModel, autoencoder: AutoencoderKL, text: RandomText, steps: int, side: int, *, has_tcs: bool
) -> PassersbyAnonymizer:
    system = PassersbyAnonymizer(
        backbone=DiffusersUNet(unet=copy.deepcopy(unet) if has_tcs else unet),
        autoencoder=KLAutoencoder(vae=autoencoder),
        text=text,
        adapter=NoAdapter(),
        temporal=TemporalContentStabilizer() if has_tcs else NoTemporal(),
        loss=MaskedDiffusionLoss(),
        diffusion=DiffusionProcess(),
        sampler=Sampler("ddim", steps=steps),
        crops=CropAligner(side=side),
    )
    return system.eval()


def clip_with(n_people: int, n_frames: int) -> tuple[Clip, ClipMasks]:
    """Noise with people of `PERSON` px who walk in four columns and two rows."""
    frames = torch.randint(0, 256, (n_frames, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0)).byte()
    masks = tuple(
        PersonMask(person + 1, at, 60 + person // 4 * 220, 30 + person % 4 * 120 + at, torch.ones(PERSON))
        for person in range(n_people)
        for at in range(n_frames)
    )
    return Clip(frames), ClipMasks(masks, n_frames, SIDE, SIDE)


def in_turns(contenders: dict[str, Callable[[], int]], rounds: int) -> dict[str, list[float]]:
    """Seconds per frame of each, a value per round; a contender does its work and says how many frames it was."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, work in contenders.items():
            start = time.perf_counter()
            n_frames = work()
            if number:  # the first round warms up
                seconds[name].append((time.perf_counter() - start) / n_frames)
    return seconds


def measure_crops(rounds: int, steps: int, n_frames: int = 8) -> Part:
    unet, autoencoder = networks()
    text = RandomText(TEXT_WIDTH)
    pipeline = StableDiffusionInpaintPipeline(
        vae=autoencoder,
        text_encoder=None,
        tokenizer=None,
        unet=unet,
        scheduler=DDIMScheduler(
            beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, steps_offset=1, clip_sample=False
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)

    def whole_frames(batch: int) -> int:
        clip, masks = clip_with(1, batch)
        settings = {"num_inference_steps": steps, "guidance_scale": 1.0, "output_type": "np"}
        frames = clip.frames.float() / 255
        hidden = torch.stack([masks.union(at) for at in range(batch)])[:, None]
        embedded = text.states.expand(batch, -1, -1)
        pipeline(image=frames, mask_image=hidden, prompt_embeds=embedded, height=SIDE, width=SIDE, **settings)
        return batch

    people = (1, 2, 4, 8)
    kinds = {"crops of 64 px": (64, False), "crops of 64 px, with TCS": (64, True), "crops of 128 px": (128, False)}
    contenders: dict[str, Callable[[], int]] = {
        "frame": lambda: whole_frames(1),
        "frames": lambda: whole_frames(4),
    }
    for kind, (side, has_tcs) in kinds.items():
        system = system_of(unet, autoencoder, text, steps, side, has_tcs=has_tcs)
        for k in people:
            clip, masks = clip_with(k, n_frames)

            def ours(system: PassersbyAnonymizer = system, clip: Clip = clip, masks: ClipMasks = masks) -> int:
                return len(system.anonymize(clip, masks).frames)

            contenders[f"{kind}, {k}"] = ours
    seconds = in_turns(contenders, rounds)
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    whole = [min(pair) for pair in zip(seconds["frame"], seconds["frames"], strict=True)]
    ratios = {
        name: statistics.median(theirs / mine for theirs, mine in zip(whole, each, strict=True))
        for name, each in seconds.items()
    }
    rows = [
        ("diffusers, whole frames, one by one", None, medians["frame"], None),
        ("diffusers, whole frames, four at a time", None, medians["frames"], None),
    ]
    rows += [(f"pa_lib, {kind}", k, medians[f"{kind}, {k}"], ratios[f"{kind}, {k}"]) for kind in kinds for k in people]
    for row in rows:
        print(row, flush=True)
    table = Table(
        f"Frames of {SIDE}x{SIDE} with people of {PERSON[1]}x{PERSON[0]} px, the same UNet and autoencoder, {steps} "
        f"steps of DDIM, median of {rounds} in turns",
        ("what is denoised", "people", "s a frame", "times faster"),
        rows,
        [
            f"Goal: at least {SPEED_GOAL:.0f} times faster than diffusers' StableDiffusionInpaintPipeline (the faster "
            "of its two rows), for 1 to 4 people. Its time does not depend on how many there are. Clips of "
            f"{n_frames} frames; the UNet has Stable Diffusion's build with fewer channels and none of its "
            "attention at the finest level: so attention takes 17 % of its operations at this size; in Stable "
            "Diffusion 1.5 it takes 16 %. A person of "
            f"{PERSON[0]} px fills a crop of 113 px: at 64 px it is generated coarser than it was filmed, at 128 finer."
        ],
    )
    small = [ratios[f"{kind}, {k}"] for kind in list(kinds)[:2] for k in people if k <= 4]
    large = [ratios[f"crops of 128 px, {k}"] for k in people if k <= 4]
    goals = {
        "five_times_faster_with_crops_of_64_px": min(small) >= SPEED_GOAL,
        "five_times_faster_with_crops_of_128_px": min(large) >= SPEED_GOAL,
    }
    return table, {"seconds_a_frame": seconds, "ratios": ratios, "steps": steps}, goals


# -- the length of a video -----------------------------------------------------------------------------------------


def tiny_weights() -> Path:
    """A checkpoint of a small system with SCA and TCS."""
    small = ("module.backbone.widths=[32,64]", "module.backbone.attention_levels=[1]", "module.backbone.layers=1")
    config = compose("train", ["experiment=passersby_2_temporal", "module.sampler.steps=2", *small])["module"]
    path = FOLDER / "tiny.safetensors"
    torch.manual_seed(0)
    save_module(build(config), config, path)
    return path


def street(n_frames: int, width: int = 320, height: int = 192) -> Iterator[NDArray[np.uint8]]:
    """A still picture of soft noise with two dark shapes that walk to and fro."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(64, 192, (height // 16, width // 16, 3), dtype=np.uint8)
    ground = coarse.repeat(16, 0).repeat(16, 1)
    for at in range(n_frames):
        frame = ground.copy()
        for left, top, right, bottom in boxes_at(at):
            frame[top:bottom, left:right] = 30
        yield frame


def boxes_at(frame: int) -> list[tuple[int, int, int, int]]:
    place = abs(frame % 96 - 48)
    return [(20 + place, 40, 60 + place, 130), (220 - place, 60, 260 - place, 150)]


def written_tracks(clip: Path, n_frames: int) -> Path:
    """A tracks file that hides both shapes in every frame."""
    info = probe(clip)
    people = tuple(
        Person(
            person + 1,
            (
                Track(
                    person + 1,
                    "body",
                    np.arange(n_frames),
                    np.array([boxes_at(at)[person] for at in range(n_frames)], np.float32),
                    np.ones(n_frames, np.float32),
                ),
            ),
        )
        for person in range(2)
    )
    record = TracksRecord(
        name=clip.name,
        sha256=fingerprint(clip),
        width=info.width,
        height=info.height,
        n_frames=n_frames,
        fps=float(info.fps),
        times_s=np.array([float(Fraction(at) / info.fps) for at in range(n_frames)]),
        people=people,
        decisions=tuple(Decision(person.person_id, True, "made") for person in people),
        searched=frozenset(range(n_frames)),
    )
    path = clip.with_suffix(".given.json")
    write_tracks(path, record)
    return path


def measure_lengths(lengths: Sequence[int], repeats: int) -> Part:
    weights = tiny_weights()
    commands = {}
    for length in lengths:
        clip = write_clip(FOLDER / f"street_{length}.mp4", street(length))
        settings = (f"weights={weights}", f"tracks={written_tracks(clip, length)}", "module=passersby")
        settings += (f"output={FOLDER / 'out.mp4'}", "people/masker=ellipse", "device=cpu")
        commands[length] = pa_anonymize(f"input={clip}", *settings)
    runs: dict[int, list[ChildRun]] = {length: [] for length in lengths}
    for _ in range(repeats):
        for length, command in commands.items():
            run = run_child(command)
            runs[length].append(run)
            print(f"{length} frames: {run.seconds:.1f} s, {run.cpu_s:.1f} s CPU, {run.peak_mib:.0f} MiB", flush=True)
    wall = [statistics.median(run.seconds for run in runs[length]) for length in lengths]
    cpu = [statistics.median(run.cpu_s for run in runs[length]) for length in lengths]
    # The shortest has two chunks: a clip of one chunk (48 frames) never holds the overlap, and shows less than a video.
    # Single runs may show as much again as they hold: a process being started still has its parent's memory, and is
    # counted beside it. The median is above that as long as it befalls fewer than half of them.
    held = [statistics.median(run.peak_mib for run in runs[length]) for length in lengths]
    slope, start, r2 = fit([float(length) for length in lengths], cpu)
    ratio = held[-1] / held[0]
    table = Table(
        f"pa-anonymize module=passersby against the number of frames, 320x192, two people, median of {repeats}",
        ("frames", "seconds", "CPU, seconds", "line, seconds", "peak MiB"),
        [(n, s, c, start + slope * n, mib) for n, s, c, mib in zip(lengths, wall, cpu, held, strict=True)],
        [
            f"Line of CPU time, which other work on the machine disturbs less: {start:.1f} s + {1000 * slope:.1f} ms a "
            f"frame, R2 = {r2:.5f} (goal: at least {LINEAR_GOAL}). Peak of the whole process, "
            f"{lengths[-1]} frames over {lengths[0]}: {ratio:.3f} (goal: at most {MEMORY_GOAL}). Small backbone with "
            "SCA and TCS, 2 steps, crops of 64 px; people given by a tracks file."
        ],
    )
    told = {
        length: [{"seconds": run.seconds, "cpu_s": run.cpu_s, "peak_mib": run.peak_mib} for run in of]
        for length, of in runs.items()
    }
    figures = {"frames": list(lengths), "runs": told, "r2": r2, "memory_ratio": ratio}
    return table, figures, {"time_linear": r2 >= LINEAR_GOAL, "memory_flat": ratio <= MEMORY_GOAL}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=9, help="of training, each of four steps; the first warms up")
    parser.add_argument("--batch", type=int, default=4, help="images in a training step")
    parser.add_argument("--rounds", type=int, default=5, help="of anonymizing the same clips")
    parser.add_argument("--steps", type=int, default=10, help="of the sampler, in the comparison with whole frames")
    parser.add_argument("--repeats", type=int, default=5, help="of anonymizing each length")
    parser.add_argument("--lengths", type=int, nargs="+", default=[96, 192, 384, 768], help="of videos, in frames")
    parser.add_argument("--only", nargs="+", default=PARTS, choices=PARTS, help="the others stay as last measured")
    asked = parser.parse_args()
    for name in ("lightning.pytorch", "lightning.fabric", "diffusers"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")  # tips of Lightning's
    FOLDER.mkdir(parents=True, exist_ok=True)
    measure: dict[str, Callable[[], Part]] = {
        "training": lambda: measure_training(asked.turns, asked.batch),
        "crops": lambda: measure_crops(asked.rounds, asked.steps),
        "lengths": lambda: measure_lengths(asked.lengths, asked.repeats),
    }
    parts = {name: work() if name in asked.only else earlier(at) for at, (name, work) in enumerate(measure.items())}
    goals = {name: is_met for _, _, own in parts.values() for name, is_met in own.items()}
    figures = {name: own | {"goals": met} for name, (_, own, met) in parts.items()}
    tables = [table for table, _, _ in parts.values()]
    publish("passersby", tables, {"goals": goals, "threads": torch.get_num_threads(), **figures})


def earlier(place: int) -> Part:
    """A part as it was measured the last time."""
    record = json.loads((RESULTS / "passersby.json").read_text())
    table = record["tables"][place]
    own = record["values"][PARTS[place]]
    made = Table(table["title"], tuple(table["columns"]), [tuple(row) for row in table["rows"]], table["notes"])
    return made, {name: value for name, value in own.items() if name != "goals"}, own["goals"]


if __name__ == "__main__":
    main()
