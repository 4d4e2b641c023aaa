"""Synthetic clips of one moving person before a moving background, with exact masks, flow and identities.

Ours: no data set of passersby comes with exact masks and flow, and claims about time or masks need a ground truth.
Every frame is a formula of the clip's number and the time, evaluated at the pixels; nothing is warped
or blurred, so that the flow is exact and the same at any number of frames.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

import torch
from jaxtyping import Float
from torch import Tensor

from pa_lib.data.base import AbstractClipSet, AbstractDataModule, Loading, Sample, held_out
from pa_lib.data.motion import Similarity, pixel_grid, smooth_curves
from pa_lib.data.sampling import Draw, clip_generator
from pa_lib.errors import SettingError
from pa_lib.functional.draws import generator_of

# A person in units of half its height, its middle at the origin: centre and half axes of head and body.
_HEAD, _HEAD_AXES = (0.0, -0.58), (0.32, 0.40)
_BODY, _BODY_AXES = (0.0, 0.42), (0.56, 0.62)
_SOFT = 0.07  # width of edges within the texture, same unit: 1.6 px at side 64, which bilinear sampling can follow


@dataclass(frozen=True, eq=False)
class _Look:
    """What makes an identity: colours (3 each, in [0, 1]) and proportions."""

    skin: Tensor
    hair: Tensor
    shirt: Tensor
    stripe: Tensor
    eyes: Tensor
    hairline: float
    eye_apart: float
    mouth_width: float
    stripe_angle: float
    stripe_rate: float

    @staticmethod
    def of(seed: int, identity: int) -> _Look:
        draw = torch.rand(20, generator=generator_of(seed, 0, identity, 1)).tolist()
        colours = torch.tensor(draw[:15]).view(5, 3)
        skin = torch.tensor([0.95, 0.75, 0.62]) * (0.4 + 0.6 * colours[0, :1]) + 0.05 * (colours[0] - 0.5)
        return _Look(
            skin=skin,
            hair=0.7 * colours[1],
            shirt=colours[2],
            stripe=colours[3],
            eyes=0.35 * colours[4],
            hairline=-0.45 + 0.4 * draw[15],
            eye_apart=0.28 + 0.14 * draw[16],
            mouth_width=0.2 + 0.2 * draw[17],
            stripe_angle=math.pi * draw[18],
            stripe_rate=1.0 + 1.5 * draw[19],
        )

    def head(self, points: Tensor) -> Tensor:
        """Colour of the head at points in units of its half axes."""
        x, y = points.unbind(-1)
        colour = _blend(self.skin.expand(*x.shape, 3), self.hair, _step(self.hairline + 0.25 * x * x - y))
        for side in (-1, 1):
            colour = _blend(colour, self.eyes, _step(0.13 - torch.hypot(x - side * self.eye_apart, y + 0.05)))
        mouth = torch.hypot(x / (self.mouth_width / 0.1), y - 0.5)
        return _blend(colour, torch.tensor([0.6, 0.2, 0.2]), _step(0.1 - mouth))

    def body(self, points: Tensor) -> Tensor:
        """Colour of the body at points in units of half the person's height."""
        x, y = points.unbind(-1)
        along = math.cos(self.stripe_angle) * x + math.sin(self.stripe_angle) * y
        share = 0.5 + 0.5 * torch.sin(2 * math.pi * self.stripe_rate * along)
        return _blend(self.shirt.expand(*x.shape, 3), self.stripe, share)


class SyntheticClipSet(AbstractClipSet):
    """The clips of `SyntheticDataModule` with these numbers.

    Args:
        numbers: Numbers of the clips; each clip is made from the seed and its number.
        n_frames, side, n_identities, speed_px, seed: See `SyntheticDataModule`.
    """

    def __init__(
        self, numbers: Sequence[int], *, n_frames: int, side: int, n_identities: int, speed_px: float, seed: int
    ) -> None:
        self.numbers = numbers
        self.n_frames = n_frames
        self.side = side
        self.n_identities = n_identities
        self.speed_px = speed_px
        self.seed = seed
        self.identities = [number % n_identities for number in numbers]

    def __len__(self) -> int:
        return len(self.numbers)

    def sample(self, draw: Draw) -> Sample:
        """The clip, the same in every epoch."""
        number = self.numbers[draw.index]
        identity = number % self.n_identities
        generator = clip_generator(self.seed, Draw(number, 0))
        look = _Look.of(self.seed, identity)
        waves = _waves(generator, self.side)
        times = torch.arange(self.n_frames, dtype=torch.float32)
        person, head, camera = self._motion(times, generator)

        pixels = pixel_grid(self.n_frames, self.side, self.side)
        world = camera.inverse(pixels)
        body_points = person.inverse(pixels)
        head_points = head.inverse(body_points)
        body = _coverage(body_points, _BODY, _BODY_AXES, person.scale)
        face = _coverage(head_points, _HEAD, _HEAD_AXES, person.scale)
        centred = (head_points - torch.tensor(_HEAD)) / torch.tensor(_HEAD_AXES)
        picture = _background(world, waves)
        picture = picture + body[..., None] * (look.body(body_points) - picture)
        picture = picture + face[..., None] * (look.head(centred) - picture)

        now, then = slice(0, self.n_frames - 1), slice(1, self.n_frames)
        flow = None
        if self.n_frames > 1:
            moved = camera.part(then)(world[now])
            onward = person.part(then)
            moved = torch.where(body[now, ..., None] >= 0.5, onward(body_points[now]), moved)
            moved = torch.where(face[now, ..., None] >= 0.5, onward(head.part(then)(head_points[now])), moved)
            flow = (moved - pixels[now]).permute(0, 3, 1, 2).contiguous()
        return Sample(
            frames=picture.clamp(0, 1).permute(0, 3, 1, 2).contiguous(),
            mask=(face + (1 - face) * body)[:, None],
            clip_id=number,
            identity=identity,
            flow=flow,
        )

    def _motion(self, times: Tensor, generator: torch.Generator) -> tuple[Similarity, Similarity, Similarity]:
        """Motion of the person in the picture, of the head on the person, and of the background in the picture."""
        size, x, y = torch.rand(3, generator=generator).tolist()
        curves = smooth_curves(times, 10, generator)
        # The steepest a curve gets is 2 pi / 24 a frame: this amplitude makes it `speed_px`.
        reach = min(self.speed_px * 24 / (2 * math.pi), 0.2 * self.side)
        half = (0.30 + 0.10 * size) * self.side
        middle = 0.12 * self.side * torch.tensor([2 * x - 1, 2 * y - 1])
        person = Similarity(0.12 * curves[0], half * (1 + 0.06 * curves[1]), middle + reach * curves[2:4].T)
        # The head turns about its own centre.
        angle, scale = 0.2 * curves[4], torch.ones_like(times)
        centre = torch.tensor(_HEAD)
        turned = Similarity(angle, scale, torch.zeros(len(times), 2))(centre.expand(len(times), 1, 1, 2))[:, 0, 0]
        head = Similarity(angle, scale, centre - turned + 0.04 * curves[5:7].T)
        camera = Similarity(0.03 * curves[7], 1 + 0.03 * curves[7], 0.7 * reach * curves[8:10].T)
        return person, head, camera


class SyntheticDataModule(AbstractDataModule):
    """Synthetic people with exact masks, exact flow and known identities, before moving textured backgrounds.

    A clip is a function of (split seed, its number): the same in every epoch, on every machine's CPU up to rounding,
    and its first frames do not depend on how many there are. Identities of held-out clips do not occur in training.

    Args:
        n_clips: Number of clips in all, held-out ones included.
        n_frames: Number of frames of a clip, >= 1.
        side: Side length of the square frames in pixels, >= 16.
        n_identities: Number of different synthetic people; clip i shows number ``i % n_identities``.
        speed_px: Largest speed of the people in pixels per frame in each direction; backgrounds move at 0.7 of it.
        loading: Further arguments of `AbstractDataModule`. `seed` is that of the order, `split_seed` also that of the
            people, their motion and the backgrounds; `val_share` is a share of the identities (of the clips of a single
            identity).

    >>> data = SyntheticDataModule(n_clips=4, n_frames=2, side=16, batch_size=2, val_share=0)
    >>> batch = next(iter(data.train_dataloader()))
    >>> batch.frames.shape, batch.flow.shape
    (torch.Size([2, 2, 3, 16, 16]), torch.Size([2, 1, 2, 16, 16]))
    """

    def __init__(
        self,
        *,
        n_clips: int = 512,
        n_frames: int = 8,
        side: int = 64,
        n_identities: int = 64,
        speed_px: float = 1.5,
        **loading: Unpack[Loading],
    ) -> None:
        super().__init__(**loading)
        for name, value, least in (
            ("n_clips", n_clips, 1),
            ("n_frames", n_frames, 1),
            ("side", side, 16),
            ("n_identities", n_identities, 1),
            ("speed_px", speed_px, 0),
        ):
            if not value >= least:
                raise SettingError(f"synthetic data: {name} {value}: expected at least {least}")
        self.n_clips = n_clips
        self.n_frames = n_frames
        self.side = side
        self.n_identities = n_identities
        self.speed_px = speed_px

    def make_sets(self) -> tuple[SyntheticClipSet, SyntheticClipSet | None]:
        """Clips of the identities to learn from, and of those held out."""
        n_groups = min(self.n_identities, self.n_clips) if self.n_identities > 1 else self.n_clips
        out = held_out(map(str, range(n_groups)), self.val_share, self.split_seed)
        sides: tuple[list[int], list[int]] = ([], [])
        for number in range(self.n_clips):
            sides[str(number % n_groups) in out].append(number)
        train, val = (self._clips(numbers) for numbers in sides)
        return train, val if len(val) else None

    def _clips(self, numbers: Sequence[int]) -> SyntheticClipSet:
        return SyntheticClipSet(
            numbers,
            n_frames=self.n_frames,
            side=self.side,
            n_identities=self.n_identities,
            speed_px=self.speed_px,
            seed=self.split_seed,
        )


def _coverage(points: Tensor, centre: tuple[float, float], axes: tuple[float, float], scale: Tensor) -> Tensor:
    """How much of each pixel an ellipse covers, from its distance to the edge in px; points in the person's units."""
    scaled = (points - torch.tensor(centre)) / torch.tensor(axes)
    k0, k1 = scaled.norm(dim=-1), (scaled / torch.tensor(axes)).norm(dim=-1)
    distance = k0 * (k0 - 1) / k1.clamp(min=1e-6)  # first order in the distance, exact on the edge
    covered: Tensor = (0.5 - distance * scale[:, None, None]).clamp(0, 1)
    return covered


def _waves(generator: torch.Generator, side: int, n: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    """Wave vectors (n 2, cycles per px), phases (n) and colours (n 3) of a background's texture."""
    length = side * (0.12 + 0.5 * torch.rand(n, 1, generator=generator))
    angle = 2 * math.pi * torch.rand(n, generator=generator)
    colours = torch.rand(n, 3, generator=generator) - 0.5
    phase = torch.rand(n, generator=generator)
    return torch.stack([angle.cos(), angle.sin()], -1) / length, phase, colours


def _background(points: Float[Tensor, "t h w 2"], waves: tuple[Tensor, Tensor, Tensor]) -> Float[Tensor, "t h w 3"]:
    vectors, phase, colours = waves
    signal = torch.sin(2 * math.pi * (points @ vectors.T + phase))
    picture: Tensor = 0.5 + 0.5 * (signal @ colours) / colours.abs().sum(0).clamp(min=0.5)
    return picture


def _step(distance: Tensor) -> Tensor:
    """From 0 to 1 where a distance changes its sign, softly."""
    return torch.sigmoid(distance / (_SOFT / 2))


def _blend(colour: Tensor, other: Tensor, share: Tensor) -> Tensor:
    return colour + share[..., None] * (other - colour)
