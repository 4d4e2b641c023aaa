"""Encode, condition, add noise, and back: window by window, guided, solved, decoded."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, adaptive_max_pool2d

from pa_lib.functional.draws import normal, uniform
from pa_lib.functional.windows import blend
from pa_lib.modules.autoencoders.base import AbstractAutoencoder
from pa_lib.modules.backbones.base import AbstractBackbone
from pa_lib.modules.backbones.context import ForwardContext
from pa_lib.modules.conditioners.base import AbstractConditioner, Scene
from pa_lib.modules.diffusion.base import AbstractNoiseProcess
from pa_lib.modules.diffusion.sampler import Denoise, Sampler
from pa_lib.modules.guidance.base import AbstractGuidance, SamplingStart
from pa_lib.modules.inpainting.composite import composite
from pa_lib.modules.inpainting.request import InpaintingRequest
from pa_lib.modules.inpainting.settings import Windows

_BLANK = 0.5  # stands in for hidden pixels: the middle of their range, 0 after most autoencoders' scaling


@dataclass(frozen=True, eq=False)
class Denoised:
    """What a loss compares in a training step.

    Args:
        prediction: The network's output for the noisy latents, shape b t c y x.
        target: Target of the network (noise, clean latents or velocity), shape b t c y x.
        mask: Hidden cells of the latents' grid, shape b t 1 y x: 1 = hidden, 0 = visible.
        snr: Signal-to-noise ratio of each clip's noise level, shape b, >= 0.
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
        autoencoder: Converts pixels to latents and back.
        process: The noise process that the backbone was trained with.
        sampler: Removes the noise step by step.
        conditioners: Conditions of the prediction; they add to the context in this order.
        guidance: Guidance that changes the prediction while a clip is sampled.
        windows: Lengths of the windows that long clips are cut into for the backbone, in frames.
        noise_sharing: Share of the noise's variance that the frames of a clip have in common, in [0, 1].
        is_composited: Whether latents outside the mask are held at those of the (blanked) source while sampling.
        crop_expansion: Ratio of the crops' side length to the longer side of the person's mask, >= 1.
        is_difference: Whether the latents of the references before their background (`composite`) are taken off all
            latents: the noise process runs over the difference, and is the network's to remove. What the picture has
            need not be learned; a network that knows nothing leaves it about as it is. Ours. For networks that begin
            with random weights: pretrained ones have learned latents of whole pictures.
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
    is_difference: bool = False

    @property
    def looks_at_hidden(self) -> bool:
        """Whether the result depends on hidden pixels: by where sampling begins, by a condition, or by guidance."""
        looking = [one.looks_at_hidden for one in self.conditioners] + [one.looks_at_hidden for one in self.guidance]
        return self.sampler.init_strength < 1 or any(looking)

    # -- training --------------------------------------------------------------------------------------------------

    def denoised(self, request: InpaintingRequest, has_dropout: bool = False) -> Denoised:
        """Add noise to clips, which are the source as well, and let the backbone predict.

        Args:
            request: The clips; each one's noise level, noise and dropouts are drawn from its keys.
            has_dropout: Whether each conditioner is left out for its `dropout`'s share of the clips.
        """
        keys = request.keys
        scene = self.scene(replace(request, source=request.frames))
        clean = _less_base(self.encode(request.frames), scene)
        timesteps = self.process.draw_timesteps(keys).to(clean.device)
        noise = self.noise(keys, [range(clean.shape[1])] * len(keys), clean.shape[2:]).to(clean)
        noisy = self.process.add_noise(clean, noise, timesteps)
        left_out = {
            one.name: [bool(share) and float(uniform((), *own, one.draws_from)) < share for own in keys]
            for one in self.conditioners
            for share in (one.dropout if has_dropout else 0.0,)
        }
        prediction = self.backbone(noisy, self.context(scene, self.process.network_time(timesteps), left_out))
        target = self.process.target(clean, noise, timesteps)
        return Denoised(prediction, target, scene.latent_mask, self.process.snr(timesteps))

    # -- sampling --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def generate(self, request: InpaintingRequest) -> Float[Tensor, "b t 3 h w"]:
        """Clips with something new under the mask.

        Returns:
            In [0, 1]. Outside the mask close to the source, not equal: paste only what lies under it.
        """
        n_clips, n_frames = request.frames.shape[:2]
        source = request.source
        numbers = [range(n_frames)] * n_clips if request.frame_numbers is None else request.frame_numbers
        scene = self.scene(replace(request, frame_numbers=numbers))
        is_from_source = self.sampler.init_strength < 1
        clean = _less_base(self.encode(source), scene) if source is not None and is_from_source else None
        start = self.noise(request.keys, numbers, scene.background.shape[2:]).to(scene.background)
        denoise = self._denoise(scene, self.sampler.timesteps(self.process)[-1])
        outside = (scene.latent_mask, _less_base(scene.background, scene)) if self.is_composited else None
        latents = self.sampler.sample(denoise, start, self.process, request.keys, clean, outside)
        return self.decode(_with_base(latents, scene)).clamp(0, 1).to(request.frames.dtype)

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
                    lambda latents: self.decode(_with_base(latents, scene)),
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

    def scene(self, request: InpaintingRequest) -> Scene:
        """What there is to condition on: hidden pixels are blanked, and the mask is brought to the latents' grid."""
        pixels = torch.where(request.hidden > 0, _BLANK, request.frames)
        background = self.encode(pixels)
        cells = adaptive_max_pool2d(rearrange(request.hidden, "b t c h w -> (b t) c h w"), background.shape[-2:])
        numbers = request.frame_numbers
        base = self.encode(composite(request, has_edges=False)) if self.is_difference else None
        return Scene(
            pixels=pixels,
            hidden=request.hidden,
            latent_mask=rearrange(cells, "(b t) c h w -> b t c h w", b=len(pixels)),
            background=background,
            prompts=request.prompts,
            frame_numbers=None if numbers is None else torch.tensor([list(own) for own in numbers]).to(pixels.device),
            source=request.source,
            reference=self._reference(request, base)
            if any("reference" in one.needs for one in self.conditioners)
            else None,
            base=base,
        )

    def _reference(
        self, request: InpaintingRequest, base: Float[Tensor, "b t _ _ _"] | None
    ) -> Float[Tensor, "b t _ _ _"]:
        """Latents of the reference before its background or, without a base, on a blank ground; alpha in each cell."""
        frames, reference = request.frames, request.reference
        if reference is None:
            reference = torch.zeros_like(torch.cat([frames, frames[:, :, :1]], 2))
        reference = reference.to(frames)
        color, alpha = reference[:, :, :3], reference[:, :, 3:]
        latents = self.encode(color + _BLANK * (1 - alpha)) if base is None else base
        cells = adaptive_avg_pool2d(
            rearrange(alpha, "b t c h w -> (b t) c h w"), (latents.shape[-2], latents.shape[-1])
        )
        return torch.cat([latents, rearrange(cells, "(b t) c h w -> b t c h w", b=len(frames))], 2)

    def context(self, scene: Scene, times: Tensor, left_out: dict[str, list[bool]] | None = None) -> ForwardContext:
        """What the conditioners make of a scene.

        Args:
            scene: The scene to condition on.
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


def _less_base(latents: Float[Tensor, "b t c y x"], scene: Scene) -> Float[Tensor, "b t c y x"]:
    return latents if scene.base is None else latents - scene.base


def _with_base(latents: Float[Tensor, "b t c y x"], scene: Scene) -> Float[Tensor, "b t c y x"]:
    return latents if scene.base is None else latents + scene.base
