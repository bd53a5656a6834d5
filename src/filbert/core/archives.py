"""Zip files of others."""

from __future__ import annotations

import lzma
import zipfile
import zlib

# What reading one may raise; of RuntimeError `zipfile` makes its own for a password, and for a packing it lacks.
DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError)
