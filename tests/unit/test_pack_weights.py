"""The tool that packs weights to ship: what is in the file, what is refused, and what the network makes of it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pack_weights
import pytest
import torch
from safetensors import safe_open

import pa_lib
from _heads import CONFIG, clip, config, painter, people
from pa_lib.checkpoint import config_of, load_config, load_module, save_module
from pa_lib.contracts import OutlinePrompt
from pa_lib.errors import PaLibError
from pa_lib.functional.outline_prompt import Square, planes_of
from pa_lib.modules import LightTransform, OutlineTraining
from pa_lib.pretrained import PersonOutline


def trained(path: Path, **changed: Any) -> Path:
    """A checkpoint as pa-train leaves it."""
    entry = {"version": pa_lib.__version__, "config": config(**changed)}
    torch.save({"state_dict": painter(**changed).state_dict(), "pa_lib": entry}, path)
    return path


def test_the_file_is_half_as_large_and_rebuilds_itself(tmp_path: Path) -> None:
    out = tmp_path / "new" / "packed.safetensors"
    loss = pack_weights.pack(trained(tmp_path / "last.ckpt"), out)
    weights = painter().state_dict()
    with safe_open(out, framework="pt") as file:
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    assert set(stored) == set(weights)
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    for name, tensor in stored.items():
        assert torch.equal(tensor, weights[name].half())
    # Half precision keeps 11 bits: a number changes by 2^-11 of itself at most, or by 2^-25 near zero.
    assert 0 < loss <= 2**-11
    loaded = load_module(out)
    assert {tensor.dtype for tensor in loaded.state_dict().values()} == {torch.float32}
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    assert out.stat().st_mode & 0o777 == 0o644


def test_some_slots_alone(tmp_path: Path) -> None:
    out = tmp_path / "packed.safetensors"
    pack_weights.pack(trained(tmp_path / "last.ckpt"), out, slots=["adapter"])
    with safe_open(out, framework="pt") as file:
        names = set(file.keys())
    assert names == {name for name in painter().state_dict() if name.startswith("adapter.")}
    assert names


def test_the_outline_network_is_used_as_it_was_trained(tmp_path: Path) -> None:
    """Packed alone, in half precision, it says of a crop what the training's network says of it."""
    torch.manual_seed(0)
    training = OutlineTraining((8, 8, 16, 16), trainable=["network"])
    entry = {"version": pa_lib.__version__, "config": config_of(training)}
    torch.save({"state_dict": training.state_dict(), "pa_lib": entry}, tmp_path / "last.ckpt")
    out = tmp_path / "person_outline.safetensors"
    pack_weights.pack(tmp_path / "last.ckpt", out, slots=["network"])

    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    box = (8.0, 8.0, 56.0, 56.0)
    assert Square.around(box) == Square(0, 0, 63)  # nearly the whole image
    ((_, _, likely),) = PersonOutline(64, out).silhouette(image, [box])
    small = cv2.resize(image[:63, :63], (64, 64), interpolation=cv2.INTER_LINEAR)
    planes = planes_of(small, Square(0, 0, 63), OutlinePrompt(box))
    with torch.no_grad():
        expected = training.eval()(torch.from_numpy(planes)[None]).softmax(1)[0, 0].numpy()
    np.testing.assert_allclose(likely, cv2.resize(expected, (63, 63)), atol=5e-3)


def test_what_only_training_needs_is_left_out(tmp_path: Path) -> None:
    out = tmp_path / "packed.safetensors"
    pack_weights.pack(trained(tmp_path / "last.ckpt"), out)
    stored = load_config(out)
    assert stored == config() | {"optimizer": None, "trainable": []}
    with pytest.raises(PaLibError, match="no optimizer"):
        load_module(out).configure_optimizers()


def test_what_is_painted_stays_nearly_the_same(tmp_path: Path) -> None:
    out = tmp_path / "packed.safetensors"
    pack_weights.pack(trained(tmp_path / "last.ckpt"), out)
    before = painter().anonymize(clip(), people(), seed=5).frames.int()
    after = load_module(out).anonymize(clip(), people(), seed=5).frames.int()  # type: ignore[operator]
    change = (before - after).abs()
    hidden = torch.stack([people().union(at) > 0 for at in range(change.shape[0])])[:, None].expand_as(change)
    # Of 255. Measured: 4 and 0.26 here, with random weights; 1 and 0.04 with those of a trained network.
    assert int(change.max()) <= 8
    assert 0 < float(change[hidden].float().mean()) < 0.5


def test_the_same_checkpoint_gives_the_same_bytes(tmp_path: Path) -> None:
    checkpoint = trained(tmp_path / "last.ckpt")
    for name in ("a", "b"):
        pack_weights.pack(checkpoint, tmp_path / f"{name}.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_too_large_is_refused_and_what_was_there_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint, out = trained(tmp_path / "last.ckpt"), tmp_path / "packed.safetensors"
    out.write_bytes(b"before")
    assert pack_weights.main([str(checkpoint), "--out", str(out), "--most-bytes", "1000"]) == 1
    told = capsys.readouterr()
    assert "bytes in half precision, at most 1,000 may ship" in told.err
    assert not told.out
    assert out.read_bytes() == b"before"
    assert {path.name for path in tmp_path.iterdir()} == {"last.ckpt", "packed.safetensors"}


def test_forty_megabytes_is_the_most() -> None:
    assert pack_weights.MOST_BYTES == 40_000_000


def test_parts_from_elsewhere_are_refused(tmp_path: Path) -> None:
    packed = tmp_path / "packed.safetensors"
    pack_weights.pack(trained(tmp_path / "last.ckpt"), packed)
    node = {"_target_": "pa_lib.modules.embedded_passersby", "steps": 2, "body": "fill", "weights": str(packed)}
    save_module(load_module(packed), node, tmp_path / "begun.safetensors")
    with pytest.raises(PaLibError, match=r"adapter, .*backbone.* comes from a path of its own"):
        pack_weights.pack(tmp_path / "begun.safetensors", tmp_path / "again.safetensors")


def test_parts_that_ship_by_themselves_are_not_packed_again(tmp_path: Path) -> None:
    out = tmp_path / "packed.safetensors"
    light = {"_target_": "pa_lib.modules.LightTransform", "path": "shipped"}
    reference = {"_target_": "pa_lib.modules.DoublesReference", "light": light}
    backbone = CONFIG["backbone"] | {"condition_channels": 98}
    pack_weights.pack(trained(tmp_path / "last.ckpt", backbone=backbone, reference=reference), out)
    with safe_open(out, framework="pt") as file:
        assert not [name for name in file.keys() if name.startswith("reference.")]  # noqa: SIM118  # no mapping
    shipped = torch.cat([weight.flatten() for weight in LightTransform(path="shipped").parameters()])
    rebuilt = torch.cat([weight.flatten() for weight in load_module(out).get_submodule("reference.light").parameters()])
    assert torch.equal(rebuilt, shipped)


def test_the_entry_is_told_and_written_beside_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint, out = trained(tmp_path / "last.ckpt"), tmp_path / "packed.safetensors"
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps({"other.onnx": {"licence": "MIT"}, "packed.safetensors": {"licence": "MIT"}}))
    told = ["--licence", "CC0-1.0", "--origin", "made here", "--what", "paints"]
    assert pack_weights.main([str(checkpoint), "--out", str(out), "--manifest", str(manifest), *told]) == 0
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    expected = {
        "what": "paints",
        "licence": "CC0-1.0",
        "origin": "made here",
        "source_sha256": [hashlib.sha256(checkpoint.read_bytes()).hexdigest()],
        "sha256": digest,
        "n_bytes": out.stat().st_size,
    }
    assert json.loads(manifest.read_text()) == {"other.onnx": {"licence": "MIT"}, "packed.safetensors": expected}
    printed = capsys.readouterr().out
    assert digest in printed
    assert f"{out.stat().st_size:,} bytes" in printed
