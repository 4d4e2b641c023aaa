"""pa_lib: generative video anonymization. Importing it pulls in no optional or heavy dependency."""

__version__ = "0.1.0"

__all__ = ["__version__"]
