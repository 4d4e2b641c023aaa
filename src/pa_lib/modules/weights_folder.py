"""Networks of diffusers and transformers from a folder, the hub, or a config, with one clear line when it fails."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pa_lib.errors import PaLibError

Network = TypeVar("Network")


def load_network(
    kind: type[Network],
    path: str | None,
    network: Network | None,
    config: Mapping[str, Any] | None,
    subfolder: str,
) -> Network:
    """A diffusers network: loaded, as given, or with random weights from its config.

    Args:
        kind: The class.
        path: Folder or hub id; see `from_folder`.
        network: One that is there already.
        config: The arguments of the class, as diffusers writes them into config.json.
        subfolder: Where in `path` it is.

    Raises:
        PaLibError: Not exactly one of the three is given, or it does not make a network.
    """
    given = [source for source in (path, network, config) if source is not None]
    if len(given) != 1:
        raise PaLibError(
            f"{kind.__name__}: {len(given)} sources given, expected one of path (folder or hub id), "
            "a network that is there already, and config (random weights)"
        )
    if network is not None:
        if not isinstance(network, kind):
            raise PaLibError(f"got a {type(network).__name__}, expected a {kind.__name__} of diffusers")
        return network
    if path is not None:
        return from_folder(kind, path, subfolder)
    try:
        # not from_config, which drops misspelt settings; what begins with _ is diffusers' note of class and version
        return kind(**{name: value for name, value in (config or {}).items() if not name.startswith("_")})
    except (TypeError, ValueError, AttributeError, IndexError) as error:
        raise PaLibError(f"config makes no {kind.__name__}: {_one_line(error)}; mend the config") from error


def from_folder(kind: type[Network], path: str, subfolder: str, *, named: str = "config.json") -> Network:
    """Call `kind.from_pretrained` for a local folder or a hub id.

    Args:
        kind: A class of diffusers or transformers.
        path: A folder that holds `subfolder`, or is the network's own, or an id on the hub (``owner/name``).
        subfolder: ``unet``, ``vae``, ``text_encoder`` and so on; empty where the network is at the root.
        named: The file that must be there.

    Raises:
        PaLibError: No such folder; no config in it; weights missing, damaged or of other shapes; no connection.
    """
    folder = Path(path).expanduser()
    arguments = {}
    if folder.is_dir():
        candidates = [folder / subfolder, folder]
        source = next((str(one) for one in candidates if (one / named).is_file()), None)
        if source is None:
            raise PaLibError(
                f"no {named} in {folder / subfolder} or {folder}; expected a folder as diffusers saves it "
                f"(save_pretrained), with {subfolder}/{named}: set path to such a folder"
            )
    elif folder.is_absolute() or path.startswith((".", "~")) or path.count("/") != 1:
        raise PaLibError(f"no folder {folder}; set path to a folder saved by diffusers, or to a hub id (owner/name)")
    else:
        source = path
        arguments["subfolder"] = subfolder
    try:
        made: Network = kind.from_pretrained(source, **arguments)  # type: ignore[attr-defined]
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        where = f"{source}/{subfolder}" if arguments else source
        do = (
            "check the connection and the id, or download it and set path to the folder"
            if arguments
            else "save it anew or set path to another folder"
        )
        raise PaLibError(f"cannot load a {kind.__name__} from {where}: {_one_line(error)}; {do}") from error
    return made


def settings_file(path: str, name: str) -> dict[str, Any]:
    """What a JSON file at the root of a local folder, or of a model on the hub, says.

    Raises:
        PaLibError: It is not there, cannot be reached, or is no JSON object.
    """
    folder = Path(path).expanduser()
    try:
        if folder.is_dir():
            file = folder / name
        else:
            from huggingface_hub import hf_hub_download

            file = Path(hf_hub_download(path, name))
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # the hub's errors are OSErrors, its word on a wrong id a ValueError
        raise PaLibError(
            f"no readable {name} in {path}: {_one_line(error)}; set path to the folder of a whole pipeline as "
            "diffusers saves it, or to a hub id (owner/name) that can be reached"
        ) from error
    if not isinstance(settings, dict):
        raise PaLibError(f"{name} in {path} holds a {type(settings).__name__}, expected a JSON object; mend the file")
    return settings


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else f"{text[:297]}..."
