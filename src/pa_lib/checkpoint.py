"""Checkpoints that rebuild themselves: weights with the resolved config and the version that wrote them.

Two kinds of file: Lightning's ``.ckpt``, from which training continues, with an extra entry ``pa_lib`` (every system of
pa_lib adds it; for other modules see `pa_lib.callbacks.ConfigInCheckpoint`); and ``.safetensors``, weights only, with
the same entry as JSON in its metadata. Neither can run code when it is read: tensors and plain values only, and the
config may name only public parts and what you permit (`pa_lib.targets`).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from pa_lib import __version__
from pa_lib.config_of import config_of
from pa_lib.errors import PaLibError, SettingError, WeightsError, first_line, listed
from pa_lib.paths import path_of
from pa_lib.private_slots import digest, private_names, private_path, private_slots, read_private
from pa_lib.renamed import migrated, renamed_setting
from pa_lib.setting_types import checked_names
from pa_lib.stored import Stored, named_by_file, read, write_safetensors
from pa_lib.targets import check_targets, own_packages, targets_in
from pa_lib.weights_fit import explained, load_weights, prefixes

if TYPE_CHECKING:  # the command line reads this file before it knows whether it needs torch
    import torch
    from lightning import LightningModule
    from torch import Tensor, nn

__all__ = [
    "check_targets",
    "config_of",
    "entry_of",
    "external_prefixes",
    "load_config",
    "load_module",
    "load_slots",
    "new_entry",
    "private_path",
    "save_module",
    "targets_in",
]


@runtime_checkable
class HasExternalSlots(Protocol):
    """A module some of whose parts are rebuilt from files of their own."""

    def external_slots(self) -> set[str]:
        """Names of submodules, dotted below direct children, whose weights checkpoints leave out."""


@runtime_checkable
class HasOrigins(Protocol):
    """A module that knows which of its parts take their weights from a file whenever they are built."""

    def origins(self) -> Mapping[str, Any]:
        """Name of a submodule, dotted below a direct child -> its origin, which has a ``path``."""


def load_module(
    path: str | Path,
    *,
    private: str | Path | None = None,
    slots: Sequence[str] | None = None,
    map_location: str | torch.device = "cpu",
    trusted: Sequence[str] = (),
    changed: Mapping[str, Any] | None = None,
) -> LightningModule:
    """Rebuild a trained module from its checkpoint, ready to use (in eval mode).

    Args:
        path: A ``.ckpt`` of a training or a ``.safetensors`` of `save_module`. Where an average of the weights was
            trained (`pa_lib.callbacks.ExponentialAverage`), the average is what comes back.
        private: The file with the weights of private slots that belongs to it: ``last.private.ckpt``, or a
            ``.safetensors`` of ``save_module(slots=...)``. None leaves those slots as their config makes them: without
            what they have learned.
        slots: Direct children (or private slots) whose weights are loaded; the others stay as their config makes them.
            None: everything.
        map_location: Device that the module ends on.
        trusted: Packages of your own whose classes the config may name and whose code therefore may run, e.g.
            ``("my_package",)``. A file says which ones it needs.
        changed: Settings of the stored config to build with other values, e.g. ``{"sampler.steps": 10}``. The weights
            must still fit. A setting that the part takes, but that is newer than the file, may be named too. What the
            file itself names on the hub is taken from the local cache alone; what is named here may be downloaded.

    Raises:
        WeightsError: A file is missing, damaged, not ours or from a newer version, or the weights do not fit.
            So does one whose config names what is not public, or holds a setting that is out of range.
        SettingError: The config names classes that `trusted` must permit, or a setting in `changed` is not there or out
            of range.
    """
    path = path_of(path)
    stored = read(path)
    if stored.private:
        raise WeightsError(
            f"{path}: holds the private slots {', '.join(stored.private)} and nothing else; give it as private=, "
            "beside the checkpoint that it belongs to"
        )
    config = _checked_config(stored, path, trusted)
    wished = _with_changes(config, changed, path) if changed else config
    check_targets(wished, path, trusted, role=_module_class())
    try:
        with named_by_file([value for value in (changed or {}).values() if isinstance(value, str)]):
            module: LightningModule = _instantiate(wished, path)
    except SettingError as error:
        if changed and _does_build(config):  # else the fault is the file's own
            raise
        raise WeightsError(f"{path}: its config does not build: {error}") from error
    wanted = None if slots is None else _known_slots(module, slots, path)
    weights, missing_ok = stored.weights, external_prefixes(module)
    if private is not None:
        weights = {**weights, **_private_weights(module, Path(private), stored)}
        inside = prefixes(private_slots(module))  # other names of what lies there share its memory
        missing_ok += tuple(name for name in private_names(module) if name not in inside)
    else:
        missing_ok += private_names(module)
    with explained(config, wished):
        load_weights(module, weights, path, slots=wanted, missing_ok=missing_ok)
    return module.eval().to(map_location)


def load_config(path: str | Path) -> dict[str, Any]:
    """The config that a checkpoint is rebuilt by, with today's names; nothing of it is built.

    Args:
        path: A ``.ckpt`` or ``.safetensors``, see `load_module`.

    Raises:
        WeightsError: The file is missing, damaged, not ours or from a newer version.
    """
    return _with_todays_names(read(path_of(path)).config, path_of(path))


def save_module(
    module: LightningModule,
    config: Mapping[str, Any] | None,
    path: str | Path,
    *,
    slots: Sequence[str] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a module's weights and the config that rebuilds it as one ``.safetensors``.

    Parts that `module` names in ``external_slots()`` are rebuilt from their own files and are left out, and so are
    those in ``private_slots()``, unless they are asked for by `slots`, by exactly that name.

    Args:
        module: The module itself; averages of its weights are not stored.
        config: The plain, resolved ``module`` config: ``_target_`` and arguments, JSON values only. None takes it from
            the arguments that the module was constructed with (`config_of`).
        path: Ends in ``.safetensors``. Replaced at once or not at all.
        slots: Direct children to write, or private slots (of any depth, e.g. ``conditioners.key``), not both;
            `load_module` needs the rest from elsewhere. Private slots within a child are not written with it. A file of
            private slots can be read by its owner alone (mode 0600); see ``load_module(private=...)``. None writes all
            that may leave.
        dtype: Type that floating-point weights are stored in, e.g. ``torch.float16`` for half the size; `load_module`
            converts them back to what the module has. None stores them as they are.

    Raises:
        SettingError: Another ending, a config that JSON cannot hold or that cannot be taken from the module, or private
            slots together with others.
        WeightsError: A weight that is too large for `dtype`, or a slot that the module lacks.
    """
    path = path_of(path)
    if path.suffix != ".safetensors":
        raise SettingError(f"got {path}, expected a name that ends in .safetensors")
    private = private_slots(module)
    wanted = None if slots is None else _known_slots(module, slots, path)
    if wanted is not None and wanted & private and wanted - private:
        raise SettingError(
            f"{path}: {', '.join(sorted(wanted & private))} must not leave with {', '.join(sorted(wanted - private))}; "
            "write private slots to a file of their own"
        )
    entry = new_entry(config_of(module) if config is None else config)
    if wanted is not None and wanted <= private:
        entry["private"] = sorted(wanted)
    if private:
        entry["private_weights"] = digest(module)
    try:
        record = json.dumps(entry)
    except TypeError as error:
        raise SettingError(f"{path}: the config must hold plain values only: {error}") from error
    asked = prefixes(private & (wanted or set()))
    chosen = ("",) if wanted is None else prefixes(wanted)
    left_out = external_prefixes(module) if wanted is None else ()
    left_out += tuple(name for name in private_names(module) if not name.startswith(asked))
    weights: dict[str, Tensor] = {}
    stored: set[tuple[int, tuple[int, ...]]] = set()
    for name, tensor in module.state_dict().items():
        if not name.startswith(chosen) or name.startswith(left_out):
            continue
        flat = _stored_as(dtype, tensor.detach().cpu(), name).contiguous()
        place = (flat.data_ptr(), tuple(flat.shape))
        weights[name] = flat.clone() if place in stored else flat  # tied weights are refused by the format
        stored.add(place)
    write_safetensors(path, weights, record, is_private=bool(wanted and wanted & private))


def entry_of(module: nn.Module) -> dict[str, Any]:
    """The entry ``pa_lib`` of a checkpoint, for a module that was constructed in Python; never fails.

    Where an argument cannot be recorded the entry holds the reason, and the file can be resumed, but not rebuilt.
    """
    try:
        return new_entry(config_of(module))
    except SettingError as error:
        return {"version": __version__, "no_config": str(error)}


def new_entry(config: Mapping[str, Any]) -> dict[str, Any]:
    """The entry ``pa_lib`` of a checkpoint whose module is rebuilt by `config`: with it, the version and what it needs.

    Classes of the user's own are named under ``trusted``; `load_module` asks for permission for them.
    """
    entry: dict[str, Any] = {"version": __version__, "config": dict(config)}
    if needed := own_packages(config):
        entry["trusted"] = list(needed)
    return entry


def _stored_as(dtype: torch.dtype | None, tensor: Tensor, name: str) -> Tensor:
    """A tensor in the type that it is stored in; whole numbers stay."""
    if dtype is None or not tensor.is_floating_point():
        return tensor
    stored = tensor.to(dtype)
    if bool((tensor.isfinite() & ~stored.isfinite()).any()):
        largest = float(tensor[tensor.isfinite()].abs().max())
        raise WeightsError(f"{name} holds {largest:.3g}, which {dtype} cannot; store it as it is (dtype=None)")
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
        SettingError: A slot that the module lacks.
        WeightsError: A slot that the file lacks, or weights of another name or shape.
    """
    path = path_of(path)
    stored = read(path)
    known = _known_slots(module, slots, path)
    origins = module.origins() if isinstance(module, HasOrigins) else {}
    there = {slot for slot, origin in origins.items() if _is_there_already(slot, origin, stored)}
    for slot in known - there:
        with explained(migrated(stored.config), entry_of(module).get("config") or {}):
            load_weights(
                module,
                stored.weights,
                path,
                slots={slot},
                missing_ok=prefixes(there) + tuple(name for name in private_names(module) if name != f"{slot}."),
            )


def _is_there_already(slot: str, origin: Any, stored: Stored) -> bool:
    """Whether a slot came from a path of its own, left as it was, in the stored run as in this one."""
    node: Any = stored.config
    for part in (*slot.split("."), "path"):
        node = node.get(part) if isinstance(node, dict) else None
    is_stored = any(name.startswith(f"{slot}.") for name in stored.weights)
    return node is not None and node == origin.path and not is_stored


def external_prefixes(module: nn.Module) -> tuple[str, ...]:
    """What the names of weights begin with that are not stored, for their slots are rebuilt from files of their own."""
    return prefixes(module.external_slots()) if isinstance(module, HasExternalSlots) else ()


def _private_weights(module: nn.Module, path: Path, public: Stored) -> Mapping[str, Tensor]:
    """The weights of private slots, from the file that belongs to the public one."""
    stored = read_private(path, public.step, public.marks)
    allowed = private_names(module)
    if odd := [name for name in stored.weights if not name.startswith(allowed or ("\0",))]:
        raise WeightsError(f"{path}: holds {listed(odd)}, which belongs to no private slot of {type(module).__name__}")
    return stored.weights


def _with_todays_names(config: Mapping[str, Any], path: Path) -> dict[str, Any]:
    try:
        return migrated(config)
    except SettingError as error:
        raise WeightsError(f"{path}: {error}") from error


def _checked_config(stored: Stored, path: Path, trusted: Sequence[str]) -> dict[str, Any]:
    """The stored config with today's names, if it names nothing but public parts and what is trusted."""
    check_targets({}, path, trusted)
    try:
        config = _with_todays_names(stored.config, path)
        check_targets(config, path, trusted, role=_module_class())
    except SettingError as error:
        if missing := [name for name in stored.trusted if not _is_trusted(name, trusted)]:
            outer = list(dict.fromkeys(name.partition(".")[0] for name in missing))
            refused = first_line(error).partition(": expected")[0]  # whose own advice is for one class only
            raise SettingError(
                f"{refused}: it was made with {listed(outer)}: where their code may run, pass "
                f"trusted=({', '.join(map(repr, outer))},)"
            ) from error
        raise WeightsError(str(error)) from error  # of the file, not of the call
    return config


def _module_class() -> type[nn.Module]:
    from torch import nn

    return nn.Module


def _is_trusted(name: str, trusted: Sequence[str]) -> bool:
    return any(name == root or name.startswith(f"{root}.") for root in trusted)


def _with_changes(config: dict[str, Any], changed: Mapping[str, Any], path: Path) -> dict[str, Any]:
    result = copy.deepcopy(config)
    for given, value in changed.items():
        name = renamed_setting(given)
        *above, last = name.split(".")
        node: Any = result
        for part in above:
            node = node.get(part) if isinstance(node, dict) else None
        if not isinstance(node, dict) or (last not in node and not _is_taken(last, node)):
            raise SettingError(f"{path}: its module has no setting {given} to change")
        node[last] = value
    return result


def _is_taken(setting: str, node: Mapping[str, Any]) -> bool:
    """Whether the part that a config node names, whose target has been checked, has such a setting."""
    import importlib
    import inspect

    package, _, name = str(node.get("_target_", "")).rpartition(".")
    part = getattr(importlib.import_module(package), name, None) if package else None
    if not callable(part):
        return False
    parameters = inspect.signature(part).parameters
    # A part that passes named arguments on refuses unknown ones by itself.
    return setting in parameters or any(one.kind is one.VAR_KEYWORD for one in parameters.values())


def _does_build(config: dict[str, Any]) -> bool:
    try:
        with named_by_file():
            _instantiate(config, Path())
    except PaLibError:
        return False
    return True


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
        raise WeightsError(f"{path}: its config does not build: {first_line(cause)}") from error
    if not isinstance(module, nn.Module):  # by a function of the user's own
        raise WeightsError(f"{path}: its config builds a {type(module).__name__}, expected a module")
    return module


def _known_slots(module: nn.Module, slots: Sequence[str], path: Path) -> set[str]:
    slots = checked_names(slots, "slots")
    there = {name for name, _ in module.named_children()} | private_slots(module)
    if unknown := sorted(set(slots) - there):
        among = ", ".join(sorted(there)) or "none"
        raise SettingError(f"{path}: the module has no slot {', '.join(unknown)}; it has: {among}")
    return set(slots)
