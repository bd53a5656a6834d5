"""What a found file is called: as the catalogue calls it where it is known, else as its program or its file does."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import chain, count

from filbert.core.errors import BadInput
from filbert.core.files import sha256_of
from filbert.models import catalogue
from filbert.models.adopt.found import Found
from filbert.models.catalogue import Entry
from filbert.models.name import parse
from filbert.models.parts import SPLIT
from filbert.models.quantisation import LABEL

LONGEST = 80
LONGEST_TITLE = 300  # more than a file's name has: it may be any text of a model's record
SIZE = re.compile(r"[-_.](?P<size>\d+(\.\d+)?[bm])(?=[-_.]|$)")
NAMELESS = re.compile(r"(ggml-)?model\b", re.IGNORECASE)


def name_of(found: Found, size_bytes: int, parameters: int, is_free: Callable[[str], bool]) -> str:
    """The first fitting name that is free. size_bytes, parameters: of the model's files together."""
    entry = known(found, size_bytes, parameters)
    if entry and is_free(entry.name):
        return entry.name
    name = spelled(found.name) or readable(found.name) if found.name else readable(_title(found))
    listed = catalogue.names()  # of a file that is not the catalogue's, it would be a lie
    return _free(name, found.program, lambda text: text not in listed and is_free(text))


def known(found: Found, size_bytes: int, parameters: int) -> Entry | None:
    """The catalogue's entry of this very file: by the hash that its program claims, or by its name where there is no
    other hash; and where neither its size nor its number of parameters says otherwise."""
    claimed = found.hashes[0] if len(found.parts) == 1 and found.hashes else ""
    by_hash = (entry for entry in catalogue.entries() if claimed and entry.files[0].sha256 == claimed)
    entry = next(by_hash, None) or catalogue.by_file(found.parts[0].name)
    if entry is None:
        return None
    file = entry.files[0]
    other_hash = bool(found.hashes and file.sha256 and file.sha256 != claimed)
    other_size = len(entry.files) == 1 and file.size_bytes not in (None, size_bytes)
    other_model = (
        not 0.5 <= parameters / (entry.parameters or parameters or 1) <= 2
    )  # the catalogue's is a round figure
    return None if other_hash or other_size or other_model else entry


def need_own(found: Found) -> None:
    """Raises BadInput where a person's name for a file is that of a model of the catalogue, and the file is not it."""
    same = [entry for entry in catalogue.entries() if found.name in (entry.name, entry.short)]
    hashes = {sha256_of(found.parts[0])} if any(entry.name == found.name for entry in same) else set()
    if same and not hashes & {entry.files[0].sha256 for entry in same}:
        raise BadInput(f"{found.name} is a model of the catalogue.", do="Give another name to the file.")


def readable(title: str) -> str:
    """A name made of a file's: Qwen3-4B.Q4_K_M → qwen3:4b-q4_k_m."""
    text = re.sub(r"(\.gguf|\.bin)+$", "", title[:LONGEST_TITLE].lower())
    text = re.sub(r"[^a-z0-9._-]+", "-", text)
    text = re.sub(rf"[._](?={LABEL}$)", "-", text)
    text = text.strip("-._")[:LONGEST].strip("-._") or "model"
    size = SIZE.search(text)
    split = f"{text[: size.start()]}:{size['size']}{text[size.end() :]}" if size else text
    return spelled(split) or spelled(text) or f"model-{text}"


def _title(found: Found) -> str:
    """The file's name; with its folder's where it says nothing."""
    path = found.parts[0]
    split = SPLIT.fullmatch(path.name)
    title = split["stem"] if split else path.name
    return NAMELESS.sub(path.parent.name, title, count=1) if NAMELESS.match(title) else title


def spelled(text: str) -> str:
    """The one spelling of a name, "" where it is none or means a file."""
    try:
        name = parse(text)
    except BadInput:
        return ""
    return name.text if name.scheme in ("catalogue", "hf") and len(name.text) <= 2 * LONGEST else ""


def _free(name: str, program: str, is_free: Callable[[str], bool]) -> str:
    if is_free(name):
        return name
    base = readable(name.rpartition("/")[2]) if name.startswith("hf:") else name
    marked = f"{base}-{re.sub(r'[^a-z0-9]', '', program.lower())}"
    return next(text for text in chain((marked,), _numbered(marked)) if is_free(text))


def _numbered(name: str) -> Iterator[str]:
    return (f"{name}-{number}" for number in count(2))
