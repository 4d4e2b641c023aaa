"""pa_lib: generative video anonymization. Importing it pulls in no optional or heavy dependency."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pa_lib.errors import DamagedInputError, InputError, PaLibError, ProtectionError, SettingError, WeightsError

__version__ = "0.1.0"

__all__ = [
    "DamagedInputError",
    "InputError",
    "PaLibError",
    "ProtectionError",
    "SettingError",
    "WeightsError",
    "__version__",
    "evaluate",
    "load_module",
]

if TYPE_CHECKING:
    from pa_lib.checkpoint import load_module
    from pa_lib.evaluation import evaluate


def __getattr__(name: str) -> Any:
    if name == "load_module":  # at first use
        from pa_lib.checkpoint import load_module

        return load_module
    if name == "evaluate":
        from pa_lib.evaluation import evaluate

        return evaluate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
