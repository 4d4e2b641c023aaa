"""The page on a system of one's own runs as it stands."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest
import torch

PAGE = Path(__file__).parents[2] / "docs" / "own_system.md"


@pytest.mark.filterwarnings("ignore:.*(many workers|not resumable|treespec|eval mode|litlogger|is not empty).*")
def test_the_system_of_the_page_trains_and_anonymizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    for block in re.findall(r"```python\n(.+?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        exec(compile(block, str(PAGE), "exec"), names)
    public = torch.load("run/last.ckpt", weights_only=True)
    private = torch.load("run/last.private.ckpt", weights_only=True)
    assert {name.split(".")[0] for name in public["state_dict"]} == {"generator"}
    assert {name.split(".")[0] for name in private["state_dict"]} == {"recovery"}
    assert stat.S_IMODE(Path("run/last.private.ckpt").stat().st_mode) == 0o600
    # The checkpoint can be resumed, and says why it cannot be rebuilt: the page's classes are in no module.
    assert "cannot be recorded" in public["pa_lib"]["no_config"]
