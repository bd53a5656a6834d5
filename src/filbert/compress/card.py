"""A model card: what a file says of itself and of its making, in Markdown, as hubs show it.

It is made of the file's header alone, so that it can be written anew wherever the file is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from shlex import quote

from filbert.compress.making import Kind, Making, Measured, making_of
from filbert.core.errors import BadInput
from filbert.core.files import size, write_whole
from filbert.engine.fidelity import Figure
from filbert.models.gguf import check_split
from filbert.models.header import Header
from filbert.models.parts import parts_beside
from filbert.report.page import Cell, Commands, Page, Section, Table, Words, markdown

REPO = re.compile(r"[A-Za-z0-9._-]+/[A-Za-z0-9._-]+")  # of the hub
HEAD = ("text", "tokens", "KL divergence, nats a token", "ratio of perplexities", "same likeliest token")
NOTE = (
    "In brackets are 95 % intervals, by a bootstrap over windows, which are few, so that they are somewhat too narrow. "
    "A KL divergence of 0 means that it predicts as its "
    "source does, a ratio of 1 that it is as good at the text."
)


def write_card(file: Path) -> Path:
    """Beside a file that `filbert compress` wrote, the first where there are several. Raises BadInput for another."""
    target = card_of(file)
    with write_whole(target) as written:
        written.write(card(file).encode())
    return target


def card_of(file: Path) -> Path:
    return file.with_suffix(".md")


def card(file: Path) -> str:
    headers = check_split(parts_beside(file))
    making = making_of(headers[0])
    if making is None:
        raise BadInput(f"{file.name} does not say how it was made.", do="Name a file that `filbert compress` wrote.")
    types = f"{sum(header.size_bytes for header in headers) / 1e6:,.1f} MB, {bits_a_weight(headers):.2f} bits a weight"
    page = Page(
        file.name,
        f"{making.source} in smaller types: {types}. A plain GGUF file that every llama.cpp runs.",
        [
            Section("What it lost", lost(making.measured)),
            Section(
                "What it is made of", [Table(("", ""), [[Cell(name), Cell(told)] for name, told in about(headers)])]
            ),
            Section(
                "Run it", [Commands([f"filbert chat --model {quote(file.name)}", f"llama-cli -m {quote(file.name)}"])]
            ),
            Section("Make it again", [Words(f"By {making.versions}:"), Commands([making.command])]),
        ],
    )
    return front_matter(headers[0]) + markdown(page)


def lost(measured: Measured | None) -> list[Words | Table]:
    if measured is None:
        return [Words("Nobody has measured it.")]
    cells = [[Cell(kind.name), Cell(f"{kind.tokens:,}"), *map(_cell, told(kind))] for kind in measured.kinds]
    return [Words(f"{on(measured)} {NOTE}"), Table(HEAD, cells)]


def rows(measured: Measured) -> list[list[str]]:
    """As `lost` has them, for a terminal."""
    figures = ([f"{value} ({interval})" for value, interval in told(kind)] for kind in measured.kinds)
    return [[kind.name, f"{kind.tokens:,}", *cells] for kind, cells in zip(measured.kinds, figures, strict=True)]


def on(measured: Measured) -> str:
    return (
        f"Measured beside its source on the {measured.text} (sha256 {measured.text_sha256[:12]}), every token of "
        f"windows of {measured.window}, which neither calibration nor training saw."
    )


def told(kind: Kind) -> Iterator[tuple[str, str]]:
    """Of each figure its value, and its interval."""
    for figure, form in ((kind.kl, ".5f"), (kind.perplexity_ratio, ".4f"), (kind.same_top, ".2%")):
        yield f"{figure.value:{form}}", _interval(figure, form)


def _interval(figure: Figure, form: str) -> str:
    low, high = figure.interval
    return f"{low:{form}} to {high:{form}}"


def _cell(told: tuple[str, str]) -> Cell:
    return Cell(*told)


def about(headers: Sequence[Header]) -> Iterator[tuple[str, str]]:
    first, making = headers[0], making_of(headers[0])
    yield "base model", base_model(first) or "not said in the file"
    yield "licence", first.licence or "not said in the file"
    yield from made_of(making) if making else ()
    yield "bytes", f"{sum(header.size_bytes for header in headers):,}"
    yield "tensors", ", ".join(f"{n} × {kind} ({size(of)})" for kind, n, of in _types(headers))


def made_of(making: Making) -> Iterator[tuple[str, str]]:
    yield "made from", f"{making.source} (sha256 {making.source_sha256})"
    yield "recipe", f"{making.recipe} (types: sha256 {making.types_sha256[:12]})"
    yield "importance matrix", f"sha256 {making.imatrix_sha256}" if making.imatrix_sha256 else "none"
    if making.exponent is not None:
        yield "re-scaled", f"before it was rounded, so that its columns round better (exponent {making.exponent:g})"
    if making.measured and making.measured.trained_steps:
        yield "trained", f"{making.measured.trained_steps} steps, on what its source predicts"


def _types(headers: Sequence[Header]) -> list[tuple[str, int, int]]:
    counted: dict[str, tuple[int, int]] = {}
    for header in headers:
        for kind, (n, of) in header.tensor_types.items():
            before = counted.get(kind, (0, 0))
            counted[kind] = before[0] + n, before[1] + of
    return [(kind, n, of) for kind, (n, of) in sorted(counted.items(), key=lambda item: -item[1][1])]


def bits_a_weight(headers: Sequence[Header]) -> float:
    tensors = [tensor for header in headers for tensor in header.tensors]
    return 8 * sum(tensor.size_bytes for tensor in tensors) / sum(tensor.count for tensor in tensors)


def base_model(header: Header) -> str:
    """As owner/name where the file says that, else in words, or ""."""
    for key in ("general.base_model.0.repo_url", "general.repo_url", "general.source.repo_url"):
        if (url := header.text(key)) and url.count("/") >= 4:
            return "/".join(url.rstrip("/").split("/")[-2:])
    return header.text("general.base_model.0.name") or header.text("general.name") or ""


def front_matter(header: Header) -> str:
    """What a hub reads of a card. Strings of JSON are strings of YAML."""
    base, licence = base_model(header), header.text("general.license")
    lines = [f"license: {json.dumps(licence)}"] if licence else []
    lines += [f"base_model: {json.dumps(base)}", "base_model_relation: quantized"] if REPO.fullmatch(base) else []
    return "\n".join(["---", *lines, "library_name: gguf", "tags: [gguf, filbert]", "---", "", ""])
