"""Networks of diffusers and transformers from a folder, the hub, or a config, with one clear line when it fails."""

from __future__ import annotations

import json
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from pa_lib.errors import SettingError, WeightsError
from pa_lib.paths import path_of
from pa_lib.stored import may_be_downloaded

Network = TypeVar("Network")

_SCHEDULER = "scheduler/scheduler_config.json"
_HUB_PATIENCE_S = 5.0
_WEIGHTS = re.compile(  # of diffusers or transformers, whole or in parts, with the variant before or behind the part
    r"(?:diffusion_pytorch_model|pytorch_model|model)(?:\.(\w+))?(?:-\d+-of-\d+)?(?:\.(\w+))?\.(?:safetensors|bin)"
)


def load_network(
    kind: type[Network],
    path: str | None,
    network: Network | None,
    config: Mapping[str, Any] | None,
    subfolder: str,
    *,
    dtype: str | torch.dtype | None = None,
    variant: str | None = None,
) -> Network:
    """A diffusers network: loaded, as given, or with random weights from its config.

    Args:
        kind: Class of the network.
        path: Folder or hub id; see `from_folder`.
        network: Existing network.
        config: Arguments of the class, as diffusers writes them into config.json.
        subfolder: Subfolder of `path` that holds the network.
        dtype: Type that the weights are converted to, see `torch_dtype`; None keeps their own.
        variant: Variant of the files in `path`, e.g. ``fp16`` for ``diffusion_pytorch_model.fp16.safetensors``.

    Raises:
        WeightsError: Not exactly one of the three is given, or it does not make a network.
    """
    given = [source for source in (path, network, config) if source is not None]
    if len(given) != 1:
        raise WeightsError(
            f"{kind.__name__}: {len(given)} sources given, expected one of path (folder or hub id), "
            "a network that is there already, and config (random weights)"
        )
    if network is not None:
        if not isinstance(network, kind):
            raise WeightsError(f"got a {type(network).__name__}, expected a {kind.__name__} of diffusers")
        return _cast(network, dtype)
    if path is not None:
        return _cast(from_folder(kind, path, subfolder, variant=variant), dtype)
    try:
        # not from_config, which drops misspelt settings; what begins with _ is diffusers' note of class and version
        made = kind(**{name: value for name, value in (config or {}).items() if not name.startswith("_")})
    except (TypeError, ValueError, AttributeError, IndexError) as error:
        raise WeightsError(f"config makes no {kind.__name__}: {_one_line(error)}; correct the config") from error
    return _cast(made, dtype)


def from_folder(
    kind: type[Network], path: str, subfolder: str, *, named: str = "config.json", variant: str | None = None
) -> Network:
    """Call `kind.from_pretrained` for a local folder or a hub id.

    Args:
        kind: A class of diffusers or transformers.
        path: A folder that holds `subfolder`, or is the network's own, or an id on the hub (``owner/name``).
        subfolder: Subfolder of the network, ``unet``, ``vae``, ``text_encoder`` and so on; empty where the network is
            at the root.
        named: Name of the file that must be there.
        variant: Variant of several files of weights, e.g. ``fp16``; None for the usual one, or, in a folder without it,
            for the only one that is there.

    Raises:
        WeightsError: No such folder; no config in it; weights missing, damaged or of other shapes; no connection.
    """
    folder = path_of(path)
    arguments: dict[str, Any] = {} if variant is None else {"variant": variant}
    if folder.is_dir():
        candidates = [folder / subfolder, folder]
        source = next((str(one) for one in candidates if (one / named).is_file()), None)
        if source is None:
            if found := _other_network(folder):
                raise WeightsError(
                    f"{folder} is {found}; {kind.__name__} is needed, of Stable Diffusion 1, 2 or SDXL: "
                    "set path to such a folder"
                )
            raise WeightsError(
                f"no {named} in {folder / subfolder} or {folder}; expected a folder as diffusers saves it "
                f"(save_pretrained), with {subfolder}/{named}: set path to such a folder"
            )
        if variant is None and (only := _only_variant(Path(source))):
            arguments["variant"] = only
    elif folder.is_absolute() or path.startswith((".", "~")) or path.count("/") != 1:
        raise WeightsError(f"no folder {folder}; set path to a folder saved by diffusers, or to a hub id (owner/name)")
    else:
        source = path
        arguments |= {"subfolder": subfolder, "local_files_only": not may_be_downloaded(path)}
        _check_reachable(kind, path, f"{subfolder}/{named}" if subfolder else named)
    try:
        with _quiet():
            made: Network = kind.from_pretrained(source, **arguments)  # type: ignore[attr-defined]
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        is_remote = "subfolder" in arguments
        where = f"{source}/{subfolder}" if is_remote else source
        do = (
            "check the connection and the id, or download it and set path to the folder"
            if is_remote
            else "save it again or set path to another folder"
        )
        raise WeightsError(f"cannot load a {kind.__name__} from {where}: {_one_line(error)}; {do}") from error
    return made


def settings_file(path: str, name: str) -> dict[str, Any]:
    """What a JSON file at the root of a local folder, or of a model on the hub, says.

    Raises:
        WeightsError: It is not there, cannot be reached, or is no JSON object.
    """
    folder = path_of(path)
    try:
        file = folder / name if folder.is_dir() else _hub_file(path, name)
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # the hub's errors are OSErrors, its word on a wrong id a ValueError
        raise WeightsError(
            f"no readable {name} in {path}: {_one_line(error)}; set path to the folder of a whole pipeline as "
            "diffusers saves it, or to a hub id (owner/name) that can be reached"
        ) from error
    if not isinstance(settings, dict):
        raise WeightsError(
            f"{name} in {path} holds a {type(settings).__name__}, expected a JSON object; correct the file"
        )
    return settings


def scheduler_settings(path: str) -> dict[str, Any] | None:
    """The scheduler that weights were trained with: ``scheduler/scheduler_config.json`` of their folder.

    Args:
        path: Local folder of a pipeline, or of its network beside the scheduler, or an id on the hub.

    Returns:
        None where there is no such file, or where it cannot be reached.
    """
    folder = path_of(path)
    if folder.is_dir():
        files = [root / _SCHEDULER for root in (folder, folder.parent)]
        file = next((file for file in files if file.is_file()), None)
    else:
        file = _from_hub(path, _SCHEDULER)
    if file is None:
        return None
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # of the weights, which are fine, it says nothing
    return settings if isinstance(settings, dict) else None


def torch_dtype(name: str | torch.dtype) -> torch.dtype:
    """A floating-point type by its name, as command lines have it.

    Raises:
        SettingError: There is no such type.

    >>> torch_dtype("bfloat16")
    torch.bfloat16
    """
    found = name if isinstance(name, torch.dtype) else getattr(torch, str(name).removeprefix("torch."), None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise SettingError(f"unknown dtype {name!r}; choose float32, bfloat16 or float16")
    return found


def _cast(network: Network, dtype: str | torch.dtype | None) -> Network:
    if dtype is not None:
        assert isinstance(network, nn.Module)
        nn.Module.to(network, torch_dtype(dtype))  # diffusers' own warns that some weights might be kept in float32
    return network


def _other_network(folder: Path) -> str | None:
    """What a folder of diffusers holds that is no UNet: a pipeline of a transformer, or a transformer."""
    for name in ("model_index.json", "transformer/config.json", "config.json"):
        try:
            settings = json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        kind = settings.get("_class_name") if isinstance(settings, dict) else None
        if isinstance(kind, str) and ((folder / "transformer").is_dir() or "Transformer" in kind):
            return f"a {kind} of diffusers, whose network is a transformer"
    return None


def _only_variant(folder: Path) -> str | None:
    """The variant of the weights in a folder that holds no others: ``fp16`` of ``model.fp16.safetensors``."""
    found = {match[1] or match[2] for file in folder.iterdir() if (match := _WEIGHTS.fullmatch(file.name))}
    return found.pop() if len(found) == 1 else None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps back what diffusers, transformers and the hub's library write: what fails is reported in one line."""
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    loggers = [logging.getLogger(name) for name in ("diffusers", "transformers", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    bars = [one for one in (of_diffusers, of_transformers) if one.is_progress_bar_enabled()]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    for one in bars:
        one.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for one in bars:
            one.enable_progress_bar()


def _check_reachable(kind: type, path: str, name: str) -> None:
    """Refuse a hub id at once where its config is neither in the cache nor to be had, instead of after many retries.

    Raises:
        WeightsError: It is not.
    """
    from huggingface_hub.errors import RemoteEntryNotFoundError

    try:
        _hub_file(path, name)
    except (OSError, ValueError) as error:
        if type(error) is RemoteEntryNotFoundError:
            return  # there is such a model: diffusers says what it lacks
        where = f"{path}/{name.rpartition('/')[0]}".rstrip("/")
        raise WeightsError(
            f"cannot load a {kind.__name__} from {where}: there is no such folder, it is not in the local cache, and "
            f"the hub does not give it ({_one_line(error)}); check the path or the id, and the connection, or "
            "download it and set path to the folder"
        ) from error


def _from_hub(path: str, name: str) -> Path | None:
    try:
        return _hub_file(path, name)
    except (OSError, ValueError):
        return None


def _hub_file(path: str, name: str) -> Path:
    """A file of a model on the hub, from the local cache where it is there.

    The hub's library tries again for half a minute where there is no connection. So the hub is asked once before; and
    not at all where the first part of the id is a folder here: a local folder was meant that is not there.

    Raises:
        OSError, ValueError: There is no such file, or no connection.
    """
    from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache

    if isinstance(cached := try_to_load_from_cache(path, name), str):
        return Path(cached)
    if not may_be_downloaded(path):
        raise OSError(
            "the hub was not asked, as it is a checkpoint that names it: download it, or give the path yourself"
        )
    if (parent := Path(path).parent).is_dir():
        raise OSError(f"{parent} is a folder here, without {Path(path).name}, so that the hub was not asked")
    try:
        HfApi().model_info(path, timeout=_HUB_PATIENCE_S)
    except (OSError, ValueError):
        raise
    except Exception as error:  # of whichever library makes the connection
        raise OSError(_one_line(error)) from error
    return Path(hf_hub_download(path, name, etag_timeout=_HUB_PATIENCE_S))


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else f"{text[:297]}..."
