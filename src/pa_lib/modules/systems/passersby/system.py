"""Passersby-Anonymizer: a latent diffusion model with SCA and TCS, trained mask-aware, that paints somebody else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Unpack

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d

from pa_lib.contracts import Batch, Clip, ClipMasks, Result
from pa_lib.errors import PaLibError
from pa_lib.functional.crops import cut_and_hide
from pa_lib.functional.draws import normal, uniform
from pa_lib.functional.windows import blend
from pa_lib.modules.adapters.base import AbstractAdapter
from pa_lib.modules.autoencoders.base import AbstractAutoencoder
from pa_lib.modules.backbones.base import AbstractBackbone
from pa_lib.modules.backbones.context import ForwardContext
from pa_lib.modules.crops.aligner import CropAligner, Crops, Reintegrator
from pa_lib.modules.crops.appearances import Appearance, appearances, batches
from pa_lib.modules.diffusion.process import DiffusionProcess
from pa_lib.modules.diffusion.sampler import Sampler
from pa_lib.modules.guidance.identity import IdentityPush
from pa_lib.modules.losses.masked_diffusion import MaskedDiffusionLoss
from pa_lib.modules.losses.plain_diffusion import PlainDiffusionLoss
from pa_lib.modules.optimization import Training
from pa_lib.modules.systems.bodies import KEPT, Body, checked_body, layers
from pa_lib.modules.systems.learned import AbstractLearnedAnonymizer
from pa_lib.modules.systems.passersby.settings import MaskAwareTraining, Windows, check_fit
from pa_lib.modules.temporal.base import AbstractTemporal
from pa_lib.modules.text.base import AbstractText

PUSHED = (
    "faces are pushed away from the people that they replace: what is painted depends on whom it hides (identity_push)"
)
_BLANK = 0.5  # what stands where somebody was: the middle of the pixels' range, 0 after most autoencoders' scaling
_DROPPING_TEXT, _VALIDATING = 0x7E87, 0x7A11D  # last keys of their own, see `functional.draws`


class PassersbyAnonymizer(AbstractLearnedAnonymizer):
    r"""Replaces each person in a square crop by somebody that a diffusion model makes up from the background alone.

    Training, images and clips alike, on the latents :math:`z_0` of crops with the mask :math:`m`:

    .. math:: \min\; L\big(\epsilon_\theta([z_t, m, E(x \odot (1 - m))], t, c),\; y(z_0, \epsilon, t)\big)

    with the loss weighted to the mask (`MaskedDiffusionLoss`). Stage 1 trains the adapter on images
    (``trainable=("adapter",)``), stage 2 the temporal layers on clips (``("temporal",)``).

    To anonymize, pure noise is denoised in the mask: the person's own pixels are blanked before anything sees them,
    those of everybody else who is hidden as well. A person's noise is drawn from (seed, person, frame), so they turn
    into the same somebody in every window and whenever they come back.

    The slots are keyword arguments, more than ten of them, since each is a group that is swapped by name.

    Args:
        backbone: Predicts from noisy latents; with ``condition_channels`` = 1 + the latents' channels.
        autoencoder: Pixels to latents and back.
        text: Prompts to conditions, or none.
        adapter: SCA or another adapter of the backbone.
        temporal: TCS or other temporal layers.
        loss: What training minimises.
        diffusion: The noise that is added, and what is predicted.
        sampler: How it is taken away again.
        crops: How people are cut out.
        mask_aware: The switches of mask-aware training.
        windows: How long clips are cut.
        body: What becomes of masks of kind ``body`` when a video is anonymized. ``generate``: they are painted by
            the network like those of kind ``face``; right for a network that has learned whole people. The others are
            for one that has learned heads: it paints the faces, over bodies that are hidden by a ``mosaic`` or a
            ``fill``, as by `ConventionalAnonymizer`, or that **stay as filmed**: ``keep`` leaves clothes and gait to
            be seen, and wherever no face was found of somebody, all of that person.
        prompt: For everybody without a prompt of their own. "A person is walking" is the paper's figure's.
        text_dropout: Share of training clips whose prompt is left out, for guidance; AnimateDiff's 0.1.
        noise_sharing: Share of the noise's variance that the frames of a person have in common, in [0, 1] (the mixed
            noise of Ge et al. 2023, PYoCo). 0 is AnimateDiff's independent noise.
        identity_push: How hard faces are pushed away from the people that they replace while they are sampled, see
            `IdentityPush`; 0 = not at all. Above 0 what is painted depends on whom it hides.
        training: Optimizers, what learns, and the seed; see `Training`.

    Raises:
        PaLibError: The slots do not fit each other.

    Source: Passersby-Anonymizer (IJCB 2024): SCA, TCS, mask-aware training, crops, prompt, seeds. The composition is
    our reconstruction from its abstract and one figure; see docs/systems/passersby.md.
    """

    def __init__(
        self,
        *,
        backbone: AbstractBackbone,
        autoencoder: AbstractAutoencoder,
        text: AbstractText,
        adapter: AbstractAdapter,
        temporal: AbstractTemporal,
        loss: MaskedDiffusionLoss | PlainDiffusionLoss,
        diffusion: DiffusionProcess,
        sampler: Sampler,
        crops: CropAligner,
        mask_aware: MaskAwareTraining | None = None,
        windows: Windows | None = None,
        body: Body = "generate",
        prompt: str = "A person is walking",
        text_dropout: float = 0.1,
        noise_sharing: float = 0.5,
        identity_push: float = 0.0,
        **training: Unpack[Training],
    ) -> None:
        super().__init__(**training)
        check_fit(backbone, autoencoder, text, crops)
        for name, share in (("text_dropout", text_dropout), ("noise_sharing", noise_sharing)):
            if not 0 <= share <= 1:
                raise PaLibError(f"{name} of PassersbyAnonymizer is {share}, expected a share in [0, 1]")
        self.backbone = backbone
        self.autoencoder = autoencoder
        self.text = text
        self.adapter = adapter
        self.temporal = temporal
        self.loss = loss
        self.diffusion = diffusion
        self.sampler = sampler
        self.crops = crops
        self.reintegrator = Reintegrator()
        self.mask_aware = mask_aware or MaskAwareTraining()
        self.windows = windows or Windows()
        self.body = checked_body(body)
        self.prompt = prompt
        self.text_dropout = text_dropout
        self.noise_sharing = noise_sharing
        self.push = IdentityPush(identity_push, crops.expansion) if identity_push else None
        adapter.attach(backbone)
        temporal.attach(backbone)
        self.set_up_training()

    @property
    def window_frames(self) -> int:
        """Frames that are held in memory at a time."""
        return self.windows.chunk

    @property
    def overlap_frames(self) -> int:
        """Frames that the next window generates again."""
        return self.windows.chunk_overlap

    @property
    def is_non_interfering(self) -> bool:
        """True unless sampling begins with the person's own latents or is pushed away from them, or a body shows."""
        return not self._is_source_needed and self.body in ("generate", "fill")

    @property
    def _is_source_needed(self) -> bool:
        return self.sampler.init_strength < 1 or self.push is not None

    @property
    def notes(self) -> tuple[str, ...]:
        """That bodies are kept or faces pushed, where they are."""
        return ((KEPT,) if self.body == "keep" else ()) + ((PUSHED,) if self.push is not None else ())

    # -- training --------------------------------------------------------------------------------------------------

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """The loss of one batch; everything random in it comes from (seed, clip, step)."""
        keys = [(self.seed, int(clip), self.train_step) for clip in batch.clip_ids]
        masks = batch.masks if self.mask_aware.augmentation is None else self.mask_aware.augmentation(batch.masks, keys)
        dropped = [float(uniform((), *own, _DROPPING_TEXT)) < self.text_dropout for own in keys]
        loss = self._diffusion_loss(batch, masks, keys, dropped)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(keys))
        return loss

    def validation_step(self, batch: Batch, batch_index: int) -> Result:  # type: ignore[override]  # for callbacks
        """The loss at noise that is the same in every epoch, and every clip anonymized."""
        keys = [(self.seed, int(clip), _VALIDATING) for clip in batch.clip_ids]
        loss = self._diffusion_loss(batch, batch.masks, keys, [False] * len(keys))
        self.log("val/loss", loss, prog_bar=True, batch_size=len(keys), sync_dist=True)
        hidden = (batch.masks > 0).to(batch.frames.dtype)
        painted = self.generate(batch.frames, hidden, keys, prompts=batch.prompts, source=batch.frames)
        anonymized = batch.frames * (1 - batch.masks) + painted * batch.masks
        return Result(batch.frames, anonymized, batch.masks, batch.clip_ids, batch.identities)

    def _diffusion_loss(
        self, batch: Batch, masks: Tensor, keys: Sequence[Sequence[int]], dropped: list[bool]
    ) -> Tensor:
        clean = self._encode(batch.frames)
        grid, background = self._surroundings(batch.frames, (masks > 0).to(batch.frames.dtype))
        timesteps = self.diffusion.draw_timesteps(keys).to(clean.device)
        noise = self._noise(keys, [range(clean.shape[1])] * len(keys), clean.shape[2:]).to(clean)
        noisy = self.diffusion.add_noise(clean, noise, timesteps)
        texts = [
            "" if drop else text for text, drop in zip(self._prompts(batch.prompts, len(keys)), dropped, strict=True)
        ]
        context = ForwardContext(
            frames=clean.shape[1],
            timesteps=timesteps,
            text=self.text(texts),
            concat=self._condition(grid, background),
        )
        prediction = self.backbone(noisy, context)
        target = self.diffusion.target(clean, noise, timesteps)
        loss: Tensor = self.loss(prediction, target, grid, self.diffusion.snr(timesteps), self.diffusion.prediction)
        return loss

    # -- anonymizing -----------------------------------------------------------------------------------------------

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
        """Crops with somebody new under the mask.

        Args:
            frames: In [0, 1]. What lies under `hidden` is blanked before anything is computed from it.
            hidden: 1 = nobody may see this, and is made anew; 0 = is there to be seen.
            keys: One sequence per clip, from which its noise is drawn.
            frame_numbers: For each clip the numbers of its frames in the video, from which the rest of the noise is
                drawn; None counts from 0.
            prompts: One per clip; None takes the system's own.
            source: The same crops with nothing blanked; looked at only where sampling begins with the people's own
                latents (``sampler.init_strength < 1``) or is pushed away from them (`identity_push`).

        Returns:
            In [0, 1]. Outside the mask close to the source, not equal: paste only what lies under it.
        """
        n_clips, n_frames = frames.shape[:2]
        clean = self._encode(source) if source is not None and self.sampler.init_strength < 1 else None
        grid, background = self._surroundings(frames, hidden)
        condition = self._condition(grid, background)
        text = self.text(self._prompts(prompts, n_clips))
        plain = self.text([""] * n_clips) if self.sampler.guidance != 1 and text is not None else None
        numbers = [range(n_frames)] * n_clips if frame_numbers is None else frame_numbers
        start = self._noise(keys, numbers, background.shape[2:]).to(background)
        pushed = self._pushed_away_from(source)

        def denoise(noisy: Tensor, timestep: int) -> Tensor:
            timesteps = torch.full((n_clips,), timestep, device=noisy.device)

            def predict(window: slice) -> Tensor:
                context = ForwardContext(n_frames, timesteps, text, condition).window(window)
                told: Tensor = self.backbone(noisy[:, window], context)
                if plain is None:
                    return told
                untold: Tensor = self.backbone(noisy[:, window], replace(context, text=plain))
                return untold + self.sampler.guidance * (told - untold)

            predicted = blend(predict, n_frames, self.windows.frames, self.windows.overlap)
            return predicted if pushed is None else pushed(predicted, noisy, timesteps)

        outside = (grid, background) if self.mask_aware.has_compositing else None
        latents = self.sampler.sample(denoise, start, self.diffusion, keys, clean, outside)
        return self._decode(latents).clamp(0, 1).to(frames.dtype)

    def _pushed_away_from(self, source: Tensor | None) -> Callable[[Tensor, Tensor, Tensor], Tensor] | None:
        """From a prediction, its noisy latents and time steps to the prediction of latents pushed away."""
        if self.push is None:
            return None
        if source is None:
            raise PaLibError("identity_push pushes away from somebody, but no source was given: pass it, or set 0")
        move = self.push.away_from(source, self._decode)
        last = self.sampler.timesteps(self.diffusion)[-1]

        def pushed(predicted: Tensor, noisy: Tensor, timesteps: Tensor) -> Tensor:
            # The last word is the network's: it takes back what only the face network sees.
            if int(timesteps[0]) == last:
                return predicted
            return self.diffusion.prediction_of(
                move(self.diffusion.clean_from(predicted, noisy, timesteps)), noisy, timesteps
            )

        return pushed

    def anonymize(self, clip: Clip, masks: ClipMasks, *, seed: int = 0) -> Clip:
        """Replace the people under the masks; see `AbstractAnonymizer.anonymize`."""
        n_frames, _, height, width = clip.frames.shape
        if (masks.n_frames, masks.height, masks.width) != (n_frames, height, width):
            raise ValueError(
                f"the masks are for {masks.n_frames} frames of {masks.width} x {masks.height}, "
                f"the clip has {n_frames} of {width} x {height}"
            )
        layered = layers(clip, masks, self.body, seed)
        frames, hidden = layered.below, layered.hidden
        people = appearances(layered.painted)
        painted: dict[int, tuple[Crops, Tensor]] = {}
        for group in batches(people, self.windows.crops):
            cut = [self.crops.align(clip.frames[[*one.frames]], one.masks, hidden[[*one.frames]]) for one in group]
            pixels = self.generate(
                torch.stack([crops.pixels for crops in cut]).to(self.device),
                torch.stack([crops.hidden for crops in cut]).to(self.device),
                [(seed, one.person_id) for one in group],
                [[clip.first_frame + at for at in one.frames] for one in group],
                source=self._uncovered(clip, group, cut),
            )
            painted |= {one.person_id: (crops, own) for one, crops, own in zip(group, cut, pixels.cpu(), strict=True)}
        for one in people:  # the largest last: whoever is nearer is seen
            crops, own = painted[one.person_id]
            at = [*one.frames]
            frames[at] = self.reintegrator.paste(frames[at], own, crops.geometry, one.masks)
        return Clip(frames, clip.first_frame, clip.fps)

    def _uncovered(self, clip: Clip, people: Sequence[Appearance], cut: Sequence[Crops]) -> Tensor | None:
        """The crops with the people in them, where sampling is told to begin with those."""
        if not self._is_source_needed:
            return None
        nobody = torch.zeros(clip.frames.shape[2:], dtype=torch.bool)
        clips = [
            torch.stack(
                [
                    cut_and_hide(clip.frames[at], nobody, nobody, crops.geometry.box(row), self.crops.side)[0]
                    for row, at in enumerate(one.frames)
                ]
            )
            for one, crops in zip(people, cut, strict=True)
        ]
        return torch.stack(clips).to(self.device)

    # -- parts of both ---------------------------------------------------------------------------------------------

    def _encode(self, frames: Float[Tensor, "b t 3 h w"]) -> Float[Tensor, "b t c h w"]:
        latents = self.autoencoder.encode(rearrange(frames, "b t c h w -> (b t) c h w"))
        return rearrange(latents, "(b t) c h w -> b t c h w", b=len(frames))

    def _decode(self, latents: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t 3 s s"]:
        pixels = self.autoencoder.decode(rearrange(latents, "b t c h w -> (b t) c h w"))
        return rearrange(pixels, "(b t) c h w -> b t c h w", b=len(latents))

    def _surroundings(
        self, frames: Float[Tensor, "b t 3 h w"], hidden: Float[Tensor, "b t 1 h w"]
    ) -> tuple[Float[Tensor, "b t 1 h w"], Float[Tensor, "b t c h w"]]:
        """The mask on the latents' grid, 1 where a cell holds a hidden pixel, and the blanked source's latents."""
        background = self._encode(torch.where(hidden > 0, _BLANK, frames))
        cells = adaptive_max_pool2d(rearrange(hidden, "b t c h w -> (b t) c h w"), background.shape[-2:])
        return rearrange(cells, "(b t) c h w -> b t c h w", b=len(frames)), background

    def _condition(self, grid: Tensor, background: Tensor) -> Tensor | None:
        if self.backbone.condition_channels == 0:
            return None
        condition = torch.cat([grid, background], dim=2)
        return condition if self.mask_aware.has_condition else torch.zeros_like(condition)

    def _noise(
        self, keys: Sequence[Sequence[int]], numbers: Sequence[Sequence[int]], shape: Sequence[int]
    ) -> Float[Tensor, "b t c h w"]:
        """Standard normal noise per clip and frame, of which the frames of a clip share `noise_sharing`."""
        shared, own = self.noise_sharing**0.5, (1 - self.noise_sharing) ** 0.5
        clips = []
        for clip_keys, frames in zip(keys, numbers, strict=True):
            common = shared * normal(shape, *clip_keys) if shared else torch.zeros(tuple(shape))
            each = [common + own * normal(shape, *clip_keys, frame) if own else common for frame in frames]
            clips.append(torch.stack(each))
        return torch.stack(clips)

    def _prompts(self, prompts: Sequence[str] | None, n_clips: int) -> list[str]:
        return [self.prompt] * n_clips if prompts is None else list(prompts)
