from __future__ import annotations

import hashlib
import shutil
import zlib
from pathlib import Path

import pytest

from pa_lib.errors import PaLibError
from pa_lib.pretrained import assets

NAMES = sorted(assets.asset_manifest())


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "assets"
    folder.mkdir()
    for name in ("manifest.json", "selfie_segmentation.onnx"):
        shutil.copy(assets.FOLDER / name, folder)
    monkeypatch.setattr(assets, "FOLDER", folder)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_file_is_what_the_manifest_and_the_page_say(name: str) -> None:
    content = assets.asset_path(name).read_bytes()
    asset = assets.asset_manifest()[name]
    page = (assets.FOLDER / "ASSETS.md").read_text(encoding="utf-8")
    assert hashlib.sha256(content).hexdigest() == asset.sha256
    assert len(content) == asset.n_bytes
    for fact in (asset.sha256, *asset.source_sha256, f"`{name}`", asset.licence, f"{asset.n_bytes:,}"):
        assert fact in page


def test_every_file_is_listed_and_all_are_free() -> None:
    lying = {path.name for path in assets.FOLDER.iterdir()} - {"manifest.json", "ASSETS.md", "__pycache__"}
    assert lying == set(NAMES)
    assert {asset.licence for asset in assets.asset_manifest().values()} <= {"MIT", "Apache-2.0", "CC0-1.0"}


def test_the_wheel_stays_below_60_mb() -> None:
    packed = sum(len(zlib.compress(path.read_bytes(), 6)) for path in assets.FOLDER.iterdir() if path.is_file())
    assert packed < 59_000_000  # code and settings take less than 1 MB


def test_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(
        PaLibError, match=r"no weights named 'yunet\.onnx'.*centerface\.onnx, doubles\.zip, doubles_light\.safe"
    ):
        assets.asset_path("yunet.onnx")


def test_missing_file_is_told_with_licence_and_cure(copy: Path) -> None:
    (copy / "selfie_segmentation.onnx").unlink()
    with pytest.raises(PaLibError, match=r"cannot be read \(No such file.*Apache-2.0.*mediapipe.*reinstall pa_lib"):
        assets.asset_path("selfie_segmentation.onnx")


def test_one_changed_byte_is_refused(copy: Path) -> None:
    path = copy / "selfie_segmentation.onnx"
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(PaLibError, match=r"damaged: sha256 .*expected eba3a5d9f43d"):
        assets.asset_path("selfie_segmentation.onnx")


def test_content_is_read_once_in_a_process(copy: Path) -> None:
    path = assets.asset_path("selfie_segmentation.onnx")
    path.unlink()
    assert assets.asset_path("selfie_segmentation.onnx") == path


def test_damaged_manifest(copy: Path) -> None:
    (copy / "manifest.json").write_text("{")
    with pytest.raises(PaLibError, match=r"manifest.json: the list of shipped weights cannot be read"):
        assets.asset_manifest()
