"""The page on a system of one's own runs as it stands."""

from __future__ import annotations

import os
import re
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from _clips import make_clip

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


@pytest.mark.slow
def test_the_commands_of_the_page_train_and_anonymize(tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.+?)^adam = ", text, re.DOTALL | re.MULTILINE)
    ((option, node),) = re.findall(r"```yaml\n# (my_conf/\S+)\n(.+?)```", text, re.DOTALL)
    for path, content in (("my_package/__init__.py", ""), ("my_package/systems.py", code), (option, node)):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content, encoding="utf-8")
    make_clip(tmp_path / "clip.mp4", n_frames=3)
    found = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    commands = re.findall(r"^pa-(train|anonymize) (.+)$", text, re.MULTILINE)
    assert [name for name, _ in commands] == ["train", "anonymize"]
    for name, line in commands:
        called = [sys.executable, "-m", f"pa_lib.cli.{name}", *shlex.split(line)]
        environment = {**os.environ, "PYTHONPATH": found}
        done = subprocess.run(called, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert torch.load(tmp_path / "runs/mine/checkpoints/last.ckpt", weights_only=True)["global_step"] == 2
    assert (tmp_path / "clip.anonymized.mp4").is_file()
