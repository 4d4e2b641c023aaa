"""Checkpoints that rebuild themselves: weights with the resolved config and the version that wrote them.

Two kinds of file: Lightning's ``.ckpt``, from which training goes on, with an extra entry ``pa_lib`` (see
`pa_lib.callbacks.ConfigInCheckpoint`); and ``.safetensors``, weights only, with the same entry as JSON in its metadata.
Neither can run code when it is read: tensors and plain values only, and the config may name only public parts.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pa_lib import __version__
from pa_lib.errors import PaLibError, first_line, listed

if TYPE_CHECKING:  # the command line reads this file before it knows whether it needs torch
    import torch
    from lightning import LightningModule
    from torch import Tensor, nn

KEY = "pa_lib"  # of the entry in a .ckpt and in the metadata of a .safetensors

_OUR_PACKAGES = ("pa_lib.modules", "pa_lib.functional", "pa_lib.pretrained")
_TORCH_PACKAGES = ("torch.nn", "torch.optim", "torch.optim.lr_scheduler")


@dataclass(frozen=True, eq=False)
class _Stored:
    weights: Mapping[str, Tensor]
    config: dict[str, Any]
    version: str


def load_module(
    path: str | Path,
    *,
    slots: Sequence[str] | None = None,
    map_location: str | torch.device = "cpu",
    trusted: Sequence[str] = (),
    changed: Mapping[str, Any] | None = None,
) -> LightningModule:
    """Rebuild a trained module from its checkpoint, ready to use (in eval mode).

    Args:
        path: A ``.ckpt`` of ``pa-train`` or a ``.safetensors`` of `save_module`. Where an average of the weights was
            trained (`pa_lib.callbacks.ExponentialAverage`), the average is what comes back.
        slots: Direct children whose weights are loaded; the others stay as their config makes them. None: everything.
        map_location: Device that the module ends on.
        trusted: Packages of your own whose classes the config may name, e.g. ``("my_package.parts",)``.
        changed: Settings of the stored config to build with other values, e.g. ``{"sampler.steps": 10}``. The weights
            must still fit. A setting that the part takes, but that is newer than the file, may be named too.

    Raises:
        PaLibError: The file is missing, damaged, not ours or from a newer version; its config names something
            outside the public parts; or the weights do not fit.
    """
    path = Path(path)
    stored = _read(path)
    _check_version(stored.version, path)
    check_targets(stored.config, path, trusted)
    config = _with_changes(stored.config, changed or {}, path)
    check_targets(config, path, trusted)
    module: LightningModule = _instantiate(config, path)
    wanted = None if slots is None else _known_slots(module, slots, path)
    _load_weights(module, stored.weights, path, slots=wanted, is_external_missing_ok=True)
    return module.eval().to(map_location)


def load_config(path: str | Path) -> dict[str, Any]:
    """The config that a checkpoint is rebuilt by, as it was stored; nothing of it is built.

    Args:
        path: A ``.ckpt`` or ``.safetensors``, see `load_module`.

    Raises:
        PaLibError: The file is missing, damaged, not ours or from a newer version.
    """
    path = Path(path)
    stored = _read(path)
    _check_version(stored.version, path)
    return stored.config


def save_module(
    module: LightningModule, config: Mapping[str, Any], path: str | Path, dtype: torch.dtype | None = None
) -> None:
    """Write a module's weights and the config that rebuilds it as one ``.safetensors``.

    Children that `module` names in ``external_slots()`` are rebuilt from their own files and are left out.

    Args:
        module: Whose weights; averages are not looked for.
        config: The plain, resolved ``module`` config: ``_target_`` and arguments, JSON values only.
        path: Ends in ``.safetensors``. Replaced at once or not at all.
        dtype: What floating-point weights are stored as, e.g. ``torch.float16`` for half the size; `load_module` makes
            them again what the module has. None stores them as they are.

    Raises:
        PaLibError: Another ending, a config that JSON cannot hold, or a weight that is too large for `dtype`.
    """
    from safetensors.torch import save_file

    path = Path(path)
    if path.suffix != ".safetensors":
        raise PaLibError(f"got {path}, expected a name that ends in .safetensors")
    try:
        record = json.dumps({"version": __version__, "config": config})
    except TypeError as error:
        raise PaLibError(f"{path}: the config must hold plain values only: {error}") from error
    outside = external_prefixes(module)
    weights: dict[str, Tensor] = {}
    stored: set[tuple[int, tuple[int, ...]]] = set()
    for name, tensor in module.state_dict().items():
        if name.startswith(outside):
            continue
        flat = _stored_as(dtype, tensor.detach().cpu(), name).contiguous()
        place = (flat.data_ptr(), tuple(flat.shape))
        weights[name] = flat.clone() if place in stored else flat  # tied weights are refused by the format
        stored.add(place)
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.partial")
    try:
        save_file(weights, staged, metadata={KEY: record})
        os.replace(staged, path)
    finally:
        staged.unlink(missing_ok=True)


def _stored_as(dtype: torch.dtype | None, tensor: Tensor, name: str) -> Tensor:
    """A tensor in the type that it is stored in; whole numbers stay."""
    if dtype is None or not tensor.is_floating_point():
        return tensor
    stored = tensor.to(dtype)
    if bool((tensor.isfinite() & ~stored.isfinite()).any()):
        largest = float(tensor[tensor.isfinite()].abs().max())
        raise PaLibError(f"{name} holds {largest:.3g}, which {dtype} cannot; store it as it is (dtype=None)")
    return stored


def load_slots(module: nn.Module, path: str | Path, slots: Sequence[str]) -> None:
    """Take the weights of some direct children from an earlier run, e.g. stage 1's adapter into stage 2.

    A slot that the earlier run had frozen and from the same path as `module` has it is there already: such weights are
    not in the file and not asked for.

    Args:
        module: Changed in place, in the named slots only.
        path: A ``.ckpt`` or ``.safetensors``, see `load_module`; of its config only those paths are looked at.
        slots: Names of direct children, e.g. ``["adapter"]``.

    Raises:
        PaLibError: A slot that the module or the file lacks, or weights of another name or shape.
    """
    path = Path(path)
    stored = _read(path)
    _check_version(stored.version, path)
    for slot in _known_slots(module, slots, path):
        if _is_there_already(module, slot, stored):
            continue
        _load_weights(module, stored.weights, path, slots={slot}, is_external_missing_ok=False)


def _is_there_already(module: nn.Module, slot: str, stored: _Stored) -> bool:
    """Whether a slot came from a path of its own, left as it was, in the stored run as in this one."""
    node = stored.config.get(slot)
    theirs = node.get("path") if isinstance(node, dict) else None
    is_stored = any(name.startswith(f"{slot}.") for name in stored.weights)
    return theirs is not None and theirs == getattr(getattr(module, slot), "path", None) and not is_stored


def external_prefixes(module: nn.Module) -> tuple[str, ...]:
    """What the names of weights begin with that are not stored, for their slots are rebuilt from files of their own.

    A module tells them by a method ``external_slots() -> set[str]`` of names of direct children.
    """
    tell = getattr(module, "external_slots", None)
    return () if tell is None else tuple(sorted(f"{slot}." for slot in tell()))


def targets_in(node: Any) -> Iterator[str]:
    """Every ``_target_`` in a config, nested ones too."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield str(node["_target_"])
        for value in node.values():
            yield from targets_in(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from targets_in(value)


def check_targets(config: Mapping[str, Any], path: Path, trusted: Sequence[str] = ()) -> None:
    """Refuse a config of unknown origin that names anything but public parts.

    A prefix alone is no fence: Hydra walks attributes, so ``pa_lib.video.staging.subprocess.run`` would begin right.
    A target is therefore a public name of one package and nothing deeper: what a pa_lib package exports, or a class of
    torch's layers, optimizers and schedules. Text to be interpolated is refused too, for it may read the environment.

    Raises:
        PaLibError: Names the target.
    """
    import importlib
    import inspect

    for target in targets_in(config):
        package, _, name = target.rpartition(".")
        if package in _OUR_PACKAGES:
            is_public = name in importlib.import_module(package).__all__
        elif package in _TORCH_PACKAGES:
            is_public = inspect.isclass(getattr(importlib.import_module(package), name, None))
        else:
            is_public = package in trusted
        if not is_public:
            among = ", ".join((*_OUR_PACKAGES, *_TORCH_PACKAGES, *trusted))
            raise PaLibError(f"{path}: refused _target_ {target}: expected a public name of {among}")
    if "${" in json.dumps(config, default=str):
        raise PaLibError(f"{path}: refused a config with unresolved ${{...}}; write it resolved")


def _read(path: Path) -> _Stored:
    if not path.is_file():
        raise PaLibError(f"{path}: no such checkpoint")
    stored = _read_safetensors(path) if path.suffix == ".safetensors" else _read_lightning(path)
    if stored is None:
        raise PaLibError(f"{path}: no checkpoint of pa_lib: it holds no entry '{KEY}' with the config and version")
    return stored


def _read_safetensors(path: Path) -> _Stored | None:
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        record = json.loads(metadata[KEY]) if KEY in metadata else None
        return None if record is None else _stored(load_file(path), record)
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        raise PaLibError(f"{path}: damaged, or no safetensors file: {first_line(error)}") from error


def _read_lightning(path: Path) -> _Stored | None:
    import pickle

    import torch

    try:
        # Mapped, so that the optimizer's state, twice the size of the weights, stays on the disk.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise PaLibError(
            f"{path}: damaged, or holds more than tensors and plain values: {first_line(error)}"
        ) from error
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict):
        return None
    return _stored(content["state_dict"], content.get(KEY))


def _stored(weights: Mapping[str, Tensor], record: Any) -> _Stored | None:
    if not isinstance(record, dict):
        return None
    config, version = record.get("config"), record.get("version")
    if not isinstance(config, dict) or not isinstance(version, str):
        return None
    return _Stored(weights, config, version)


def _check_version(version: str, path: Path) -> None:
    try:
        written, ours = (tuple(int(part) for part in text.split(".")[:2]) for text in (version, __version__))
    except ValueError as error:
        raise PaLibError(f"{path}: got version {version!r}, expected one like {__version__}") from error
    if written > ours:
        raise PaLibError(f"{path}: written by pa_lib {version}, newer than this {__version__}; upgrade pa_lib")


def _with_changes(config: dict[str, Any], changed: Mapping[str, Any], path: Path) -> dict[str, Any]:
    result = copy.deepcopy(config)
    for name, value in changed.items():
        *above, last = name.split(".")
        node: Any = result
        for part in above:
            node = node.get(part) if isinstance(node, dict) else None
        if not isinstance(node, dict) or (last not in node and not _is_taken(last, node)):
            raise PaLibError(f"{path}: its module has no setting {name} to change")
        node[last] = value
    return result


def _is_taken(setting: str, node: Mapping[str, Any]) -> bool:
    """Whether the part that a config node names, whose target has been checked, has such a setting."""
    import importlib
    import inspect

    package, _, name = str(node.get("_target_", "")).rpartition(".")
    part = getattr(importlib.import_module(package), name, None) if package else None
    return callable(part) and setting in inspect.signature(part).parameters


def _instantiate(config: dict[str, Any], path: Path) -> Any:
    from hydra.errors import HydraException
    from hydra.utils import instantiate
    from torch import nn

    try:
        module = instantiate(config, _convert_="all")
    except HydraException as error:
        if isinstance(error.__cause__, PaLibError):
            raise error.__cause__ from error
        cause = error.__cause__ or error
        raise PaLibError(f"{path}: its config does not build: {first_line(cause)}") from error
    if not isinstance(module, nn.Module):
        raise PaLibError(f"{path}: its config builds a {type(module).__name__}, expected a module")
    return module


def _known_slots(module: nn.Module, slots: Sequence[str], path: Path) -> set[str]:
    children = {name for name, _ in module.named_children()}
    if unknown := sorted(set(slots) - children):
        among = ", ".join(sorted(children)) or "none"
        raise PaLibError(f"{path}: the module has no slot {', '.join(unknown)}; it has: {among}")
    return set(slots)


def _load_weights(
    module: nn.Module,
    weights: Mapping[str, Tensor],
    path: Path,
    *,
    slots: Collection[str] | None,
    is_external_missing_ok: bool,
) -> None:
    def is_wanted(name: str) -> bool:
        return slots is None or name.split(".", 1)[0] in slots

    own = {name: tensor for name, tensor in module.state_dict().items() if is_wanted(name)}
    given = {name: tensor for name, tensor in weights.items() if is_wanted(name)}
    outside = external_prefixes(module) if is_external_missing_ok else ()
    if own and not given and slots is not None and not all(name.startswith(outside) for name in own):
        held = ", ".join(sorted({name.split(".", 1)[0] for name in weights})) or "none"
        raise PaLibError(f"{path}: holds no weights of slot {', '.join(sorted(slots))}; it holds: {held}")
    missing = [name for name in own if name not in given and not (outside and name.startswith(outside))]
    unexpected = [name for name in given if name not in own]
    if missing or unexpected:
        parts = [f"lacks {listed(missing)}"] if missing else []
        parts += [f"has {listed(unexpected)}, which the module has not"] if unexpected else []
        raise PaLibError(f"{path}: the weights do not fit: the file {' and '.join(parts)}")
    for name, tensor in given.items():
        if tensor.shape != own[name].shape:
            got, expected = tuple(tensor.shape), tuple(own[name].shape)
            raise PaLibError(f"{path}: {name} has shape {got}, expected {expected}; was another backbone or size used?")
    module.load_state_dict(dict(given), strict=False)
