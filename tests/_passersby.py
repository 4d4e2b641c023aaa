"""Passersby-Anonymizer in miniature: networks as diffusers saves them, settings that run in a moment, and a clip."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from pa_lib.contracts import Clip, ClipMasks, PersonMask

HEIGHT, WIDTH, N_FRAMES = 48, 64, 3

# pa-train with a network of 1 MB, on clips of 2 frames of 16 x 16 px
TINY = [
    "module/backbone=tiny",
    "module.backbone.config.block_out_channels=[16,32]",
    "module.backbone.config.norm_num_groups=4",
    "module.trainable=[adapter,temporal]",
    "module.crops.side=16",
    "module.sampler.steps=2",
    "data=synthetic",
    "data.side=16",
    "data.n_clips=24",
    "data.n_identities=8",
    "data.n_frames=2",
    "data.batch_size=4",
    "trainer.limit_val_batches=1",
    "trainer.enable_model_summary=false",
    "logger=none",
    "~callbacks.progress",
]

# Instead of the network above, in a command line that has it.
WITHOUT_TINY = [setting for setting in TINY if not setting.startswith(("module/backbone", "module.backbone"))]
COMPACT = [
    "module/backbone=compact",
    "module.backbone.widths=[16,32]",
    "module.backbone.layers=1",
    "module.backbone.attention_levels=[1]",
    "module.backbone.head_width=8",
]

_UNET: dict[str, Any] = {
    "in_channels": 9,
    "out_channels": 4,
    "block_out_channels": [16, 32],
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 2,
}
_KL: dict[str, Any] = {
    "block_out_channels": [8, 8, 8, 8],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "latent_channels": 4,
}
_TAESD: dict[str, Any] = {
    "encoder_block_out_channels": [8, 8, 8, 8],
    "decoder_block_out_channels": [8, 8, 8, 8],
    "num_encoder_blocks": [1, 1, 1, 1],
    "num_decoder_blocks": [1, 1, 1, 1],
}
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_WIDTH, _WIDTH_2, _POOLED = 32, 24, 6  # of the text; 32 is what backbone=tiny takes


def save_pipeline(folder: Path, *, in_channels: int = 9, is_sdxl: bool = False) -> str:
    """Random weights as a whole Stable Diffusion pipeline: unet, vae, text_encoder, tokenizer, model_index.json."""
    torch.manual_seed(0)
    unet = _UNET | {"in_channels": in_channels, "cross_attention_dim": _WIDTH}
    index: dict[str, Any] = {"text_encoder": ["transformers", "CLIPTextModel"]}
    if is_sdxl:
        unet |= {
            "cross_attention_dim": _WIDTH + _WIDTH_2,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 4,
            "projection_class_embeddings_input_dim": 6 * 4 + _POOLED,
            "use_linear_projection": True,
        }
        CLIPTextModelWithProjection(_clip(_WIDTH_2)).save_pretrained(folder / "text_encoder_2")
        _tokenizer().save_pretrained(folder / "tokenizer_2")
        index |= {"text_encoder_2": ["transformers", "CLIPTextModelWithProjection"]}
        index |= {"force_zeros_for_empty_prompt": True}
    UNet2DConditionModel(**unet).save_pretrained(folder / "unet")
    AutoencoderKL(**_KL, scaling_factor=0.2).save_pretrained(folder / "vae")
    CLIPTextModel(_clip(_WIDTH)).save_pretrained(folder / "text_encoder")
    _tokenizer().save_pretrained(folder / "tokenizer")
    (folder / "model_index.json").write_text(json.dumps(index))
    return str(folder)


def save_tiny_autoencoder(folder: Path) -> str:
    """Random weights as TAESD's are saved: at the root."""
    torch.manual_seed(0)
    AutoencoderTiny(**_TAESD).save_pretrained(folder)
    return str(folder)


def pretrained(backbone: str, folder: str) -> list[str]:
    """The settings that take everything from the folder of one pipeline, as a command line for real weights would."""
    return [
        f"module/backbone={backbone}",
        f"module.backbone.path={folder}",
        "module/autoencoder=kl",
        "module/text=clip",
        "module/diffusion=sd",
        "module.crops.side=32",
        "data.side=32",
    ]


def clip() -> Clip:
    """Noise: nothing in it is like anything that a network might paint."""
    frames = torch.randint(0, 256, (N_FRAMES, 3, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(1))
    return Clip(frames.byte(), 0)


def masks() -> ClipMasks:
    """One person, in every frame a little further to the right."""
    people = [PersonMask(1, frame, 10, 12 + frame, torch.ones(14, 12)) for frame in range(N_FRAMES)]
    return ClipMasks(tuple(people), N_FRAMES, HEIGHT, WIDTH)


def _clip(width: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=2 + 2 * len(_LETTERS),
        hidden_size=width,
        intermediate_size=16,
        projection_dim=_POOLED,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=24,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )


def _tokenizer() -> CLIPTokenizer:
    names = ["<|startoftext|>", "<|endoftext|>", *_LETTERS, *(f"{letter}</w>" for letter in _LETTERS)]
    return CLIPTokenizer({name: index for index, name in enumerate(names)}, [], model_max_length=24)
