from .systems.base import AbstractAnonymizer
from .systems.conventional import ConventionalAnonymizer

__all__ = ["AbstractAnonymizer", "ConventionalAnonymizer"]
