"""Encode, condition, add noise, and back: window by window, guided, solved, decoded."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d

from pa_lib.functional.draws import normal, uniform
from pa_lib.functional.windows import blend
from pa_lib.modules.autoencoders.base import AbstractAutoencoder
from pa_lib.modules.backbones.base import AbstractBackbone
from pa_lib.modules.backbones.context import ForwardContext
from pa_lib.modules.conditioners.base import AbstractConditioner, Scene
from pa_lib.modules.diffusion.base import AbstractNoiseProcess
from pa_lib.modules.diffusion.sampler import Denoise, Sampler
from pa_lib.modules.guidance.base import AbstractGuidance, SamplingStart
from pa_lib.modules.inpainting.settings import Windows

_BLANK = 0.5  # stands in for hidden pixels: the middle of their range, 0 after most autoencoders' scaling


@dataclass(frozen=True, eq=False)
class Denoised:
    """What a loss compares in a training step.

    Args:
        prediction: What the network predicts.
        target: What it should predict.
        mask: On the grid of the latents, shape b t 1 y x, 1 = hidden.
        snr: Signal to noise ratio per clip.
    """

    prediction: Float[Tensor, "b t c y x"]
    target: Float[Tensor, "b t c y x"]
    mask: Float[Tensor, "b t 1 y x"]
    snr: Float[Tensor, " b"]

    def clips(self) -> Iterator[Denoised]:
        """Each clip as a batch of its own."""
        parts = (self.prediction, self.target, self.mask, self.snr)
        for at in range(len(self.snr)):
            yield Denoised(*(part[at : at + 1] for part in parts))


@dataclass(frozen=True, eq=False)
class LatentInpainter:
    """Generates what is hidden in clips, as latents of an autoencoder, by a diffusion or flow model.

    A plain object over the parts of a system, without weights or state of its own: a system that inpaints *has* one,
    and trains and anonymizes by it.

    Args:
        backbone: Predicts from noisy latents.
        autoencoder: Pixels to latents and back.
        process: The noise that is added.
        sampler: How it is taken away again.
        conditioners: What the prediction is conditioned on; they add to the context in this order.
        guidance: What changes the prediction while a clip is sampled.
        windows: How long clips are cut for the backbone.
        noise_sharing: Share of the noise's variance that the frames of a clip have in common, in [0, 1].
        is_composited: While sampling, latents outside the mask are held at those of the (blanked) source.
        crop_expansion: Side length of the crops over the longer side of the person's mask.
    """

    backbone: AbstractBackbone
    autoencoder: AbstractAutoencoder
    process: AbstractNoiseProcess
    sampler: Sampler
    conditioners: Sequence[AbstractConditioner] = ()
    guidance: Sequence[AbstractGuidance] = ()
    windows: Windows = field(default_factory=Windows)
    noise_sharing: float = 0.0
    is_composited: bool = True
    crop_expansion: float = 1.0

    @property
    def looks_at_hidden(self) -> bool:
        """Whether the result depends on hidden pixels: by where sampling begins, by a condition, or by guidance."""
        looking = [one.looks_at_hidden for one in self.conditioners] + [one.looks_at_hidden for one in self.guidance]
        return self.sampler.init_strength < 1 or any(looking)

    # -- training --------------------------------------------------------------------------------------------------

    def denoised(
        self,
        frames: Float[Tensor, "b t 3 h w"],
        hidden: Float[Tensor, "b t 1 h w"],
        keys: Sequence[Sequence[int]],
        prompts: Sequence[str] | None = None,
        has_dropout: bool = False,
    ) -> Denoised:
        """Add noise to clips and let the backbone predict.

        Args:
            frames: In [0, 1].
            hidden: 1 = hidden, 0 = visible.
            keys: One sequence per clip, from which its level, its noise and its dropouts are drawn.
            prompts: One per clip; None takes the conditioner's own.
            has_dropout: Whether conditioners are left out as often as they say.
        """
        clean = self.encode(frames)
        scene = self.scene(frames, hidden, prompts=prompts, source=frames)
        timesteps = self.process.draw_timesteps(keys).to(clean.device)
        noise = self.noise(keys, [range(clean.shape[1])] * len(keys), clean.shape[2:]).to(clean)
        noisy = self.process.add_noise(clean, noise, timesteps)
        left_out = {
            one.name: [has_dropout and float(uniform((), *own, one.draws_from)) < one.dropout for own in keys]
            for one in self.conditioners
        }
        prediction = self.backbone(noisy, self.context(scene, self.process.network_time(timesteps), left_out))
        target = self.process.target(clean, noise, timesteps)
        return Denoised(prediction, target, scene.latent_mask, self.process.snr(timesteps))

    # -- sampling --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def generate(
        self,
        frames: Float[Tensor, "b t 3 h w"],
        hidden: Float[Tensor, "b t 1 h w"],
        keys: Sequence[Sequence[int]],
        frame_numbers: Sequence[Sequence[int]] | None = None,
        prompts: Sequence[str] | None = None,
        source: Float[Tensor, "b t 3 h w"] | None = None,
    ) -> Float[Tensor, "b t 3 h w"]:
        """Clips with something new under the mask.

        Args:
            frames: In [0, 1]. What lies under `hidden` is blanked before anything is computed from it.
            hidden: 1 = hidden, and generated anew; 0 = visible.
            keys: One sequence per clip, from which its noise is drawn.
            frame_numbers: For each clip the numbers of its frames in the video, from which the rest of the noise is
                drawn; None counts from 0.
            prompts: One per clip; None takes the conditioner's own.
            source: The same clips with nothing blanked; used only if something `looks_at_hidden`.

        Returns:
            In [0, 1]. Outside the mask close to the source, not equal: paste only what lies under it.
        """
        n_clips, n_frames = frames.shape[:2]
        clean = self.encode(source) if source is not None and self.sampler.init_strength < 1 else None
        numbers = [range(n_frames)] * n_clips if frame_numbers is None else frame_numbers
        scene = self.scene(frames, hidden, numbers, prompts, source)
        start = self.noise(keys, numbers, scene.background.shape[2:]).to(scene.background)
        denoise = self._denoise(scene, self.sampler.timesteps(self.process)[-1])
        outside = (scene.latent_mask, scene.background) if self.is_composited else None
        latents = self.sampler.sample(denoise, start, self.process, keys, clean, outside)
        return self.decode(latents).clamp(0, 1).to(frames.dtype)

    def _denoise(self, scene: Scene, last: int) -> Denoise:
        n_clips, n_frames = scene.pixels.shape[:2]
        somewhen = torch.zeros(n_clips, dtype=torch.long, device=scene.pixels.device)
        context = self.context(scene, somewhen)

        def without(names: Collection[str]) -> ForwardContext | None:
            left_out = {one.name: [one.name in names] * n_clips for one in self.conditioners}
            is_there = any(self._has_part(one, scene) for one in self.conditioners if one.name in names)
            return self.context(scene, somewhen, left_out) if is_there else None

        prepared = [
            one.prepare(
                SamplingStart(
                    self.process,
                    self.decode,
                    without,
                    self.crop_expansion,
                    scene.source if one.looks_at_hidden else None,
                )
            )
            for one in sorted(self.guidance, key=lambda one: one.order)
            if one.is_active
        ]

        def denoise(noisy: Tensor, timestep: int) -> Tensor:
            levels = torch.full((n_clips,), timestep, device=noisy.device)
            times = self.process.network_time(levels)

            def predict(window: slice) -> Tensor:
                predicted: Tensor = self.backbone(noisy[:, window], context.at(times).window(window))
                for one in prepared:
                    if one.context is not None and one.combine is not None:
                        other = self.backbone(noisy[:, window], one.context.at(times).window(window))
                        predicted = one.combine(predicted, other)
                return predicted

            predicted = blend(predict, n_frames, self.windows.frames, self.windows.overlap)
            for one in prepared:
                if one.correct is not None and timestep != last:
                    predicted = one.correct(predicted.to(noisy.dtype), noisy, levels)
            return predicted

        return denoise

    # -- parts of both ---------------------------------------------------------------------------------------------

    def encode(self, frames: Float[Tensor, "b t 3 h w"]) -> Float[Tensor, "b t c y x"]:
        """Latents of pixels in [0, 1]."""
        return self.autoencoder.encode(frames)

    def decode(self, latents: Float[Tensor, "b t c y x"]) -> Float[Tensor, "b t 3 h w"]:
        """Pixels of latents, about in [0, 1]."""
        return self.autoencoder.decode(latents)

    def scene(
        self,
        frames: Float[Tensor, "b t 3 h w"],
        hidden: Float[Tensor, "b t 1 h w"],
        frame_numbers: Sequence[Sequence[int]] | None = None,
        prompts: Sequence[str] | None = None,
        source: Float[Tensor, "b t 3 h w"] | None = None,
    ) -> Scene:
        """What there is to condition on: hidden pixels are blanked, and the mask is brought to the latents' grid."""
        pixels = torch.where(hidden > 0, _BLANK, frames)
        background = self.encode(pixels)
        cells = adaptive_max_pool2d(rearrange(hidden, "b t c h w -> (b t) c h w"), background.shape[-2:])
        numbers = None if frame_numbers is None else torch.tensor([list(own) for own in frame_numbers])
        return Scene(
            pixels=pixels,
            hidden=hidden,
            latent_mask=rearrange(cells, "(b t) c h w -> b t c h w", b=len(frames)),
            background=background,
            prompts=prompts,
            frame_numbers=None if numbers is None else numbers.to(frames.device),
            source=source,
        )

    def context(self, scene: Scene, times: Tensor, left_out: dict[str, list[bool]] | None = None) -> ForwardContext:
        """What the conditioners make of a scene.

        Args:
            scene: What to condition on.
            times: The network's time, one per clip.
            left_out: Name of a conditioner -> for each clip whether it is left out; None leaves nothing out.
        """
        context = ForwardContext(frames=scene.pixels.shape[1], timesteps=times, frame_positions=scene.frame_numbers)
        for one in self.conditioners:
            is_out = (left_out or {}).get(one.name, [False] * scene.n_clips)
            context = self._conditioned(one, scene, context, is_out)
        if self.backbone.condition_channels == 0 and context.concat is not None:
            context = replace(context, concat=None)  # a backbone without a condition is blind on purpose
        return context

    def _has_part(self, conditioner: AbstractConditioner, scene: Scene) -> bool:
        """Whether a conditioner adds anything to a context (text, say, for a backbone that reads none, does not)."""
        empty = ForwardContext(scene.pixels.shape[1], torch.zeros(scene.n_clips, dtype=torch.long))
        added = self._conditioned(conditioner, scene, empty, [False] * scene.n_clips)
        return any(part is not None for part in (added.text, added.concat, added.residuals, added.tokens))

    def _conditioned(
        self, conditioner: AbstractConditioner, scene: Scene, context: ForwardContext, left_out: Sequence[bool]
    ) -> ForwardContext:
        """What one conditioner makes of a scene, of which it sees the source only if it declares that it looks."""
        seen = scene if conditioner.looks_at_hidden else replace(scene, source=None)
        return conditioner.condition(seen, context, left_out)

    def noise(
        self, keys: Sequence[Sequence[int]], numbers: Sequence[Sequence[int]], shape: Sequence[int]
    ) -> Float[Tensor, "b t c y x"]:
        """Standard normal noise per clip and frame, of which the frames of a clip share `noise_sharing`."""
        shared, own = self.noise_sharing**0.5, (1 - self.noise_sharing) ** 0.5
        clips = []
        for clip_keys, frames in zip(keys, numbers, strict=True):
            common = shared * normal(shape, *clip_keys) if shared else torch.zeros(tuple(shape))
            each = [common + own * normal(shape, *clip_keys, frame) if own else common for frame in frames]
            clips.append(torch.stack(each))
        return torch.stack(clips)
