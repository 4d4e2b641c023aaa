"""Which files of a folder hold a tensor's weights."""

from __future__ import annotations

import base64
from pathlib import Path

import torch
from torch import Tensor


def files_with(tensor: Tensor, folder: Path) -> set[str]:
    """Names of the files that hold any row of a tensor, as it is or in text as YAML has it."""
    rows = [row.contiguous().view(torch.uint8).numpy().tobytes() for row in tensor.detach().cpu()]
    text = base64.b64encode(tensor.detach().contiguous().view(torch.uint8).numpy().tobytes())[:-4]

    def holds(content: bytes) -> bool:
        return any(row in content for row in rows) or text in content.replace(b"\n", b"")

    return {path.name for path in folder.rglob("*") if path.is_file() and holds(path.read_bytes())}
