"""Filbert puts open language models in a nutshell."""

from filbert.version import __version__

__all__ = ["__version__"]
