"""Classes of one's own, in a package of one's own: with permission in every command, refused without."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from _clips import make_clip
from _passersby import TINY
from pa_lib.cli.command import FAILED, OK, USAGE
from pa_lib.cli.compose import ConfigError, composition

PARTS = '''
"""Parts of a user."""
import os

from pa_lib.contracts import Clip, ClipMasks
from pa_lib.metrics import UnmaskedPSNR
from pa_lib.modules import ConventionalAnonymizer, MaskedDiffusionLoss


class MyLoss(MaskedDiffusionLoss):
    """Mine."""


class MyPSNR(UnmaskedPSNR):
    """Mine."""


class MyAnonymizer(ConventionalAnonymizer):
    """Mine."""
'''


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package and a config folder; commands run in an empty folder."""
    package = tmp_path / "site" / "my_package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "parts.py").write_text(PARTS)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_package"]:
        monkeypatch.delitem(sys.modules, name)  # of another test
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")]))
    options = {
        "module/loss/mine": {"_target_": "my_package.parts.MyLoss", "background_weight": 0.5},
        "module/mine": {"_target_": "my_package.parts.MyAnonymizer", "method": "fill"},
        "metrics/mine": {"_target_": "my_package.parts.MyPSNR"},
        "experiment/selfish": {"trust": ["my_package"]},
    }
    for name, node in options.items():
        path = tmp_path / "conf" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        head = "# @package _global_\n" if name.startswith("experiment") else ""
        path.write_text(head + yaml.safe_dump(node))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "conf"


def shell(command: str, conf: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    called = [sys.executable, "-m", f"pa_lib.cli.{command}", "--config-dir", str(conf), *arguments]
    return subprocess.run(called, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_own_classes_in_every_command(conf: Path) -> None:
    training = [*TINY, "module/loss=mine", "output=out", "trainer.max_steps=1", "trainer.val_check_interval=1"]
    refused = shell("train", conf, *training)
    assert refused.returncode == USAGE
    (line,) = refused.stderr.splitlines()
    assert "refused _target_ my_package.parts.MyLoss" in line
    assert line.endswith("permit it: trust=[my_package]")
    trained = shell("train", conf, *training, "--trust", "my_package.parts")
    assert trained.returncode == OK, trained.stderr
    assert "pa-train: note: code of your own may run: trust=[my_package.parts]" in trained.stderr
    assert yaml.safe_load(Path("out/config.yaml").read_text())["trust"] == ["my_package.parts"]

    # What was trained carries the need for permission with it.
    clips = ["module=passersby", "weights=out/checkpoints/last.ckpt", "data=synthetic", "data.n_clips=12"]
    clips += ["data.n_identities=4", "data.side=16", "data.n_frames=2", "data.batch_size=4", "output=measured"]
    refused = shell("evaluate", conf, *clips, "metrics=fast")
    assert refused.returncode in (FAILED, USAGE)
    assert "my_package" in refused.stderr
    measured = shell("evaluate", conf, *clips, "metrics=mine", "trust=[my_package]")
    assert measured.returncode == OK, measured.stderr
    assert "my_package" in json.dumps(json.loads(Path("measured/metrics.json").read_text()))

    make_clip(Path("clip.mp4"), n_frames=4)
    for more, code in ((["trust=[my_package]"], OK), ([], USAGE)):
        anonymized = shell("anonymize", conf, "input=clip.mp4", "module=mine", "people/masker=ellipse", *more)
        assert anonymized.returncode == code, anonymized.stderr
    assert Path("clip.anonymized.mp4").is_file()


def test_permission_is_for_what_the_package_defines(conf: Path) -> None:
    for target in ("my_package.parts.os.system", "my_package.parts.UnmaskedPSNR", "my_package.parts.No", "os.system"):
        with pytest.raises(ConfigError, match="refused _target_"):
            composition("train", ["output=out", "trust=[my_package]", f"+module.extra={{_target_:{target}}}"], conf)


def test_a_config_cannot_permit_itself(conf: Path) -> None:
    with pytest.raises(ConfigError, match="comes from a config file; only the command line may give it"):
        composition("train", ["output=out", "experiment=selfish"], conf)
    given = composition("train", ["output=out", "experiment=selfish", "trust=[my_package]"], conf)
    assert given.config["trust"] == ["my_package"]


def test_python_itself_is_never_trusted(conf: Path) -> None:
    with pytest.raises(ConfigError, match="trusted names os, a part of Python itself"):
        composition("train", ["output=out", "trust=[os]"], conf)
