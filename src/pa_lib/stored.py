"""Files of weights with the config that rebuilds them: reading, and writing at once or not at all.

Two kinds: Lightning's ``.ckpt`` with an entry ``pa_lib``, and ``.safetensors`` with the same entry as JSON in its
metadata. Neither can run code when it is read: tensors and plain values only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pa_lib import __version__
from pa_lib.errors import WeightsError, first_line

if TYPE_CHECKING:
    from torch import Tensor

KEY = "pa_lib"  # of the entry in a .ckpt and in the metadata of a .safetensors

_MARKS = ("pair", "private_weights")  # of the entry

_BY_USER: ContextVar[Collection[object] | None] = ContextVar("by_user", default=None)  # None: no file is built

_OWNER_ONLY, _EVERYBODY = 0o600, 0o666  # of which the user's umask takes its part


@dataclass(frozen=True, eq=False)
class Stored:
    """What a file holds.

    Args:
        weights: Tensors by name.
        config: Config that rebuilds the module.
        version: Version of pa_lib that wrote the file.
        trusted: Packages of the user's own that the config names.
        step: Number of training steps before it was written; None where the file does not state it.
        private: Names of the slots that a private file holds; empty for others.
        marks: Marks by which a public and a private file know each other: ``pair``, drawn whenever a checkpoint
            is saved, or ``private_weights``, a hash in files of `pa_lib.checkpoint.save_module`. Older files have none.
        parts: Content of a private file: all that was left out of the checkpoint that it belongs to.
    """

    weights: Mapping[str, Tensor]
    config: dict[str, Any]
    version: str
    trusted: tuple[str, ...] = ()
    step: int | None = None
    private: tuple[str, ...] = ()
    marks: Mapping[str, str] = field(default_factory=dict)
    parts: dict[str, Any] = field(default_factory=dict)


@contextmanager
def named_by_file(by_user: Collection[object] = ()) -> Iterator[None]:
    """While a config from a file is built: what it names is not downloaded.

    Args:
        by_user: Values that the user gave, not the file.
    """
    token = _BY_USER.set(by_user)
    try:
        yield
    finally:
        _BY_USER.reset(token)


def may_be_downloaded(name: str) -> bool:
    """Whether it was the user who named something on the network, and not a file that is being read."""
    by_user = _BY_USER.get()
    return by_user is None or name in by_user


def read(path: Path) -> Stored:
    """Read either kind of file and check the version that wrote it.

    Raises:
        WeightsError: The file is missing, damaged, not ours, from a newer version, or was saved without its config.
    """
    if not path.is_file():
        raise WeightsError(
            f"{path}: no such checkpoint; expected a .ckpt of a training or a .safetensors of save_module"
        )
    found = _read_safetensors(path) if path.suffix == ".safetensors" else _read_lightning(path)
    if found is None:
        raise WeightsError(
            f"{path}: no checkpoint of pa_lib: it holds no entry '{KEY}' with the config and version; give a .ckpt of "
            "a training or a .safetensors of save_module (the file of a single network belongs to that part's own path)"
        )
    weights, record, content = found
    if isinstance(record.get("no_config"), str):
        raise WeightsError(f"{path}: was saved without its config: {record['no_config']}")
    config, version = record.get("config"), record.get("version")
    if not isinstance(config, dict) or not isinstance(version, str):
        raise WeightsError(f"{path}: no checkpoint of pa_lib: its entry '{KEY}' lacks the config or the version")
    _check_version(version, path)
    step = content.get("global_step")
    return Stored(
        weights,
        config,
        version,
        trusted=tuple(str(name) for name in record.get("trusted") or ()),
        step=step if isinstance(step, int) else None,
        private=tuple(str(name) for name in record.get("private") or ()),
        marks=marks_of(record),
        parts={name: value for name, value in content.items() if name not in (KEY, "global_step")},
    )


def marks_of(entry: object) -> dict[str, str]:
    """The marks in an entry, see `Stored`."""
    given = entry if isinstance(entry, Mapping) else {}
    return {name: str(given[name]) for name in _MARKS if name in given}


def marks_in(path: Path) -> dict[str, str]:
    """The marks of a ``.ckpt``, see `Stored`.

    Raises:
        WeightsError: The file is damaged.
    """
    found = _read_lightning(path)
    return {} if found is None else marks_of(found[1])


def write_safetensors(path: Path, weights: Mapping[str, Tensor], record: str, *, is_private: bool = False) -> None:
    """Write weights and the entry (JSON) as one file.

    Args:
        path: File to write, replaced at once or not at all.
        weights: Tensors by name; no two may share memory.
        record: The entry as JSON.
        is_private: Whether only the owner may read the file (mode 0600).
    """
    from safetensors.torch import save, save_file

    metadata = {KEY: record}
    if is_private:
        written_aside(path, lambda staged: staged.write_bytes(save(dict(weights), metadata)), is_private=True)
    else:
        written_aside(path, lambda staged: save_file(dict(weights), staged, metadata=metadata))


def written_aside(path: Path, write: Callable[[Path], Any], *, is_private: bool = False) -> None:
    """Let `write` write a file beside `path` and give it its name when it is whole.

    Args:
        path: File to write, replaced at once or not at all; its folder is made.
        write: Function that writes to the path that it gets, where there is an empty file.
        is_private: Whether only the owner may read the file (mode 0600), from its first byte on.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.partial")
    staged.unlink(missing_ok=True)
    try:
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
        os.close(os.open(staged, flags, _OWNER_ONLY if is_private else _EVERYBODY))
        mode = staged.stat().st_mode
        write(staged)
        staged.chmod(mode)  # safetensors puts a file of its own there, which only its owner can read
        os.replace(staged, path)
    finally:
        staged.unlink(missing_ok=True)


def _read_safetensors(path: Path) -> tuple[Mapping[str, Tensor], dict[str, Any], dict[str, Any]] | None:
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        record = json.loads(metadata[KEY]) if KEY in metadata else None
        return (load_file(path), record, {}) if isinstance(record, dict) else None
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        raise WeightsError(f"{path}: damaged, or no safetensors file: {first_line(error)}") from error


def _read_lightning(path: Path) -> tuple[Mapping[str, Tensor], dict[str, Any], dict[str, Any]] | None:
    import pickle

    import torch

    try:
        # Mapped, so that the optimizer's state, twice the size of the weights, stays on the disk.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise WeightsError(
            f"{path}: damaged, or holds more than tensors and plain values: {first_line(error)}"
        ) from error
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict):
        return None
    record = content.get(KEY)
    return (content["state_dict"], record, content) if isinstance(record, dict) else None


def _check_version(version: str, path: Path) -> None:
    try:
        written, ours = (tuple(int(part) for part in text.split(".")[:2]) for text in (version, __version__))
    except ValueError as error:
        raise WeightsError(f"{path}: got version {version!r}, expected one like {__version__}") from error
    if written > ours:
        raise WeightsError(f"{path}: written by pa_lib {version}, newer than this {__version__}; upgrade pa_lib")
