"""The page on plain Python runs as it stands, block after block."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

PAGE = Path(__file__).parents[2] / "docs" / "python.md"


@pytest.mark.filterwarnings("ignore:.*(many workers|not resumable|treespec|eval mode|litlogger|is not empty).*")
def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    blocks = re.findall(r"```python\n(.+?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert len(blocks) >= 7
    # Made by the page's own loop, by the Trainer, and for diffusers
    assert {path.name for path in tmp_path.iterdir()} >= {"sca.safetensors", "tcs.safetensors", "tcs", "last.ckpt"}
    assert torch.load("last.ckpt", weights_only=True)["global_step"] == 2
