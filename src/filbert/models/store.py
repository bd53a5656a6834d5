"""The models on this machine.

    <models>/names/<slug>-<hash>.json    one manifest an installed name, written last: without it there is no model
    <models>/files/<64 hex>/x.gguf       a folder a model file, or all parts of one: the engine wants them together
    <models>/files/<64 hex>.lock         held while a folder is filled or emptied
    <models>/presets/…                   what is kept with a name (models/preset.py)
    <models>/import.lock                 held while `filbert import` gives names

A folder is called after the sha256 of what is in it, so two names of one file share it; where no hash was known before
the first download, after the address. A model file that a person keeps elsewhere is used where it lies; `filbert
import` gives it a name here (docs/decisions/006-adopt.md).
"""

from filbert.models.installed import (
    StoredModel,
    damaged,
    describe,
    find,
    in_place,
    installed,
    is_file_with_plus,
    list_models,
    meant,
    named,
    resolve,
    whole_and_damaged,
)
from filbert.models.manifest import one_hash
from filbert.models.pull import pull, resolve_or_pull
from filbert.models.remove import clean, linked, remove, standing_on, unfinished

__all__ = [
    "StoredModel",
    "clean",
    "damaged",
    "describe",
    "find",
    "in_place",
    "installed",
    "is_file_with_plus",
    "linked",
    "list_models",
    "meant",
    "named",
    "one_hash",
    "pull",
    "remove",
    "resolve",
    "resolve_or_pull",
    "standing_on",
    "unfinished",
    "whole_and_damaged",
]
