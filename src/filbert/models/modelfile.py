"""Read Ollama's Modelfile: what a preset is made of. Nothing in it is executed, its Go template least of all.

Instructions, quotes and comments are those of Ollama's own parser: an instruction begins a line; its value goes to the
end of the line, or from a quote (" or three of them) to the line that ends with it; names are of any case.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from filbert.core.errors import BadInput
from filbert.core.files import read_text_file
from filbert.models.name import parse
from filbert.models.preset import Example

# Ollama's names of what we have, too.
PARAMETERS = {
    "num_ctx": "context",
    "num_predict": "max_tokens",
    "num_thread": "threads",
    "num_gpu": "gpu_layers",
    "num_batch": "batch",
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "seed": "seed",
    "stop": "stop",
    "repeat_penalty": "repeat_penalty",
    "repeat_last_n": "repeat_last_n",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
}
MOST_STOPS = 64
NEGATIVE_MEANS_ANY = ("max_tokens", "seed", "gpu_layers")
INSTRUCTIONS = ("from", "parameter", "template", "system", "adapter", "license", "message")
PASSED_OVER = ("renderer", "parser", "requires", "draft")  # how Ollama's own engine renders, reads and runs a model
OF_HUB = re.compile(r"(?:https?://)?(?:hf\.co|huggingface\.co)/(?P<rest>[^?#]+)", re.IGNORECASE)
LINE = re.compile(r"\s*(?P<word>[A-Za-z]+)[ \t]+(?P<rest>.*)")
MARKERS = re.compile(r"<\|[^|<>\s]{1,40}\|>|</?[a-z]\w{1,40}>|\[/?[A-Z_]{2,30}\]|<</?SYS>>|#{2,3} ?[A-Z]\w{1,30}")


@dataclass(frozen=True)
class Modelfile:
    """of: the model, as a name or path of ours. values: our keys, and what the file says of each. template: of Go or
    Jinja. ignored: what it says that means nothing here."""

    of: str
    values: Mapping[str, str | list[str]]
    template: str = ""
    examples: tuple[Example, ...] = ()
    licence: str = ""
    ignored: tuple[str, ...] = ()


@dataclass
class _Instruction:
    line: int
    word: str
    value: str


def read_modelfile(path: Path) -> Modelfile:
    """Raises BadInput with the line where it stops making sense."""
    said = list(_instructions(read_text_file(path, str(path)).removeprefix("\ufeff"), path.name))
    by_word = {word: [each for each in said if each.word == word] for word in INSTRUCTIONS}
    if not by_word["from"]:
        raise BadInput(f"{path.name} has no FROM.", why="It names the model.", do="Begin it with FROM smollm2:135m.")
    found = _Parameters()
    for each in by_word["parameter"]:
        found.read(each, path.name)
    if by_word["system"]:
        found.values["system"] = by_word["system"][-1].value
    base, *more = [each.value for each in by_word["from"]]
    if more:
        raise BadInput(f"{path.name} names {1 + len(more)} models.", do="Keep one FROM.")
    adapters = [_place(each.value, path.parent) for each in by_word["adapter"]]
    return Modelfile(
        of="+".join([_place(base, path.parent), *adapters]),
        values=found.values,
        template="".join(each.value for each in by_word["template"][-1:]),
        examples=tuple(_example(each, path.name) for each in by_word["message"]),
        licence="\n\n".join(each.value for each in by_word["license"]),
        ignored=tuple(
            dict.fromkeys([*found.ignored, *(each.word.upper() for each in said if each.word in PASSED_OVER)])
        ),
    )


def is_jinja(template: str) -> bool:
    return "{%" in template


def is_of(template: str, own: str) -> bool:
    """Whether a Go template writes the turns that a model's own template writes: all its markers stand in that one."""
    literal = "\n".join([piece.partition("}}")[2] if at else piece for at, piece in enumerate(template.split("{{"))])
    markers = set(MARKERS.findall(literal))
    return bool(markers) and all(marker in own for marker in markers)


# --- the lines ------------------------------------------------------------------------------------------------------


def _instructions(text: str, name: str) -> Iterator[_Instruction]:
    lines = enumerate(re.split(r"\r\n|\n|\r", text), 1)
    for number, line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = LINE.fullmatch(line)
        word = match["word"].lower() if match else ""
        if match is None or word not in (*INSTRUCTIONS, *PASSED_OVER):
            known = ", ".join(word.upper() for word in INSTRUCTIONS)
            raise BadInput(
                f"Line {number} of {name} is no instruction: {line.strip()[:60]!r}.",
                why=f"It begins with {known}.",
                do="Mend the line.",
            )
        lead, value = _lead(word, match["rest"].strip())
        yield _Instruction(number, word, lead + _whole(value, lines, number, name))


def _lead(word: str, rest: str) -> tuple[str, str]:
    """What stands before the value: a parameter's name, a message's role."""
    if word not in ("parameter", "message"):
        return "", rest
    first, _, value = rest.replace("\t", " ", 1).partition(" ")
    return f"{first} ", value.strip()


def _whole(value: str, lines: Iterator[tuple[int, str]], number: int, name: str) -> str:
    quote = next((quote for quote in ('"""', '"') if value.startswith(quote)), "")
    if not quote:
        return value
    pieces = [value[len(quote) :]]
    while not pieces[-1].rstrip().endswith(quote):
        _, line = next(lines, (0, None))
        if line is None:
            raise BadInput(
                f"The quote that begins in line {number} of {name} has no end.", do=f"Close it with {quote}."
            )
        pieces.append(line)
    pieces[-1] = pieces[-1].rstrip()[: -len(quote)]
    return "\n".join(pieces)


# --- what they say --------------------------------------------------------------------------------------------------


@dataclass
class _Parameters:
    values: dict[str, str | list[str]] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)

    def read(self, each: _Instruction, name: str) -> None:
        theirs, _, value = each.value.partition(" ")
        ours = PARAMETERS.get(theirs.lower())
        if not value:
            raise BadInput(f"Line {each.line} of {name} gives {theirs} no value.", do="Write PARAMETER NAME VALUE.")
        if ours is None:
            self.ignored.append(theirs)
        elif ours == "stop":
            self._stop(value, each.line, name)
        elif not (ours in NEGATIVE_MEANS_ANY and value.startswith("-")):
            self.values[ours] = value

    def _stop(self, value: str, line: int, name: str) -> None:
        texts = self.values.setdefault("stop", [])
        if isinstance(texts, list):
            texts.append(value)
        if len(texts) > MOST_STOPS:
            raise BadInput(
                f"Line {line} of {name} is one stop too many.", why=f"The most is {MOST_STOPS}.", do="Leave some out."
            )


def _example(each: _Instruction, name: str) -> Example:
    role, _, content = each.value.partition(" ")
    match role.lower():
        case "system" | "user" | "assistant" as known:
            return Example(role=known, content=content)
    raise BadInput(f"Line {each.line} of {name} has a MESSAGE of {role!r}.", do="Write system, user or assistant.")


def _place(named: str, folder: Path) -> str:
    """A model's name in our spelling; a path from the file's own folder."""
    is_path = re.match(r"[.]{0,2}[/\\]|~|[A-Za-z]:[/\\]", named) or named.lower().endswith((".gguf", ".bin"))
    if is_path and not OF_HUB.match(named) and not re.match(r"[a-z]+:", named):
        return parse(named).text if named.startswith("~") else str((folder / named).absolute())
    return named_by_ollama(named)


def named_by_ollama(text: str) -> str:
    """A model's name as Ollama's users write it, in our spelling."""
    if match := OF_HUB.match(text):
        return f"hf:{match['rest'].removesuffix(':latest')}"
    return text.removesuffix(":latest")
