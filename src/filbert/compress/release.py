"""A release: a model in several sizes, in one folder that can be handed on as it is.

    MODEL-Q4_K_M.gguf, .md      each file and its card
    README.md                   the card of all, with a table to choose by
    index.json                  the same for programs
    SHA256SUMS                  as `sha256sum -c` reads them
    size-against-loss.svg       where they were measured, and matplotlib is there

All but the model files is made of these, and written anew each time: who runs the same again, makes what is missing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from shlex import quote
from typing import Any

from filbert.compress.card import bits_a_weight, front_matter, on, told, write_card
from filbert.compress.making import Making, making_of
from filbert.compress.measure import Measure
from filbert.compress.plan import Plan
from filbert.compress.quantise import quantise_job
from filbert.core.errors import BadInput
from filbert.core.files import sha256_of, size, write_whole
from filbert.core.jobs import Job, Progress
from filbert.models.gguf import check_split, read_header
from filbert.models.header import Header
from filbert.models.parts import parts_beside, projector_of
from filbert.report.page import Cell, Commands, Page, Section, Table, Words, markdown

README, INDEX, SUMS, CHART = "README.md", "index.json", "SHA256SUMS", "size-against-loss.svg"
HEAD = ("file", "size", "bits a weight", "KL divergence, nats a token", "ratio of perplexities", "same likeliest token")


@dataclass(frozen=True)
class Made:
    """A model of the release. files: of it and its projector, with the bytes and the sha256 of each."""

    name: str
    headers: Sequence[Header]
    making: Making
    files: Mapping[str, tuple[int, str]]

    @property
    def size_bytes(self) -> int:
        return sum(header.size_bytes for header in self.headers)

    def to_json(self) -> dict[str, Any]:
        files = [{"name": name, "bytes": bytes_, "sha256": sha256} for name, (bytes_, sha256) in self.files.items()]
        return {
            "name": self.name,
            "files": files,
            "bits_a_weight": bits_a_weight(self.headers),
            **self.making.to_json(),
        }


def release_job(
    plans: Mapping[str, Plan], folder: Path, measures: Mapping[str, Measure], threads: int | None = None
) -> Job[list[Made]]:
    """plans, measures: by the name of the file. Raises BadInput for a file of that name which something else made."""
    need_ours(folder)
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for name, each in plans.items():
        first = folder / each.names(name)[0]
        if not _is_made(first, each, is_measured=name in measures):
            yield from quantise_job(each, folder / name, threads=threads, measure=measures.get(name))
        write_card(first)
        parts = parts_beside(first)
        yield Progress(f"sha256 of {name}")
        eyes = [projector_of(first)] if each.source.original.projector else []
        files = {file.name: (file.stat().st_size, sha256_of(file)) for file in (*parts, *eyes)}
        headers = check_split(parts)
        making = making_of(headers[0])
        assert making
        made.append(Made(name, headers, making, files))
    made.sort(key=lambda each: each.size_bytes)
    _write(folder / INDEX, json.dumps([each.to_json() for each in made], indent=1) + "\n")
    _write(folder / SUMS, "".join(f"{sha256}  {name}\n" for each in made for name, (_, sha256) in each.files.items()))
    picture = ""
    if len(_points(made)) > 1 and find_spec("matplotlib"):
        _draw(made, folder / CHART)
        picture = f"\n![Size against loss]({CHART})\n"
    _write(folder / README, front_matter(made[0].headers[0]) + markdown(_page(made)) + picture)
    return made


def need_ours(folder: Path) -> None:
    """Raises BadInput for a folder in which something lies that is called as a release's files are, and of none."""
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is no folder.", do="Name another with --out.")
    other = next((folder / name for name in (README, SUMS, CHART) if (folder / name).exists()), None)
    if other and not (folder / INDEX).exists():
        raise BadInput(f"{other} is there already.", do="Take another folder, or take it away.")


def _is_made(file: Path, made: Plan, *, is_measured: bool) -> bool:
    if not file.exists():
        return False
    found = making_of(read_header(file))
    if found is None or not found.of_the_same(made.making):
        raise BadInput(
            f"{file} is there already.", why="It was made otherwise.", do="Take another folder, or take it away."
        )
    return found.measured is not None or not is_measured


def rows(made: Sequence[Made]) -> list[list[Cell]]:
    return [
        [Cell(each.name), Cell(size(each.size_bytes)), Cell(f"{bits_a_weight(each.headers):.2f}"), *_lost(each.making)]
        for each in made
    ]


def cells(made: Sequence[Made]) -> list[list[str]]:
    """The same, for a terminal."""
    return [[cell.text + (f" ({cell.small})" if cell.small else "") for cell in row] for row in rows(made)]


def _lost(making: Making) -> list[Cell]:
    return [Cell(*each) for each in told(making.measured.kinds[0])] if making.measured else [Cell("–")] * 3


def _page(made: Sequence[Made]) -> Page:
    smallest = made[0]
    measured = next((each.making.measured for each in made if each.making.measured), None)
    words = [Words(f"{on(measured)} In brackets are 95 % intervals.")] if measured else []
    return Page(
        f"{smallest.making.source} in {len(made)} sizes",
        "Plain GGUF files that every llama.cpp runs. Of those that fit into memory, take the one with the smallest KL "
        "divergence: its predictions are the nearest to those of the model it was made from.",
        [
            Section("Which to take", [*words, Table(HEAD, rows(made))]),
            Section("Run one", [Commands([f"filbert chat --model {quote(smallest.name)}", f"sha256sum -c {SUMS}"])]),
            Section("Made by", [Commands([each.making.command for each in made])]),
        ],
    )


def _points(made: Sequence[Made]) -> list[tuple[str, float, float, tuple[float, float]]]:
    """Of each that was measured: its recipe, MB, and the KL divergence with its interval."""
    measured = [(each, each.making.measured.kinds[0].kl) for each in made if each.making.measured]
    return [(each.making.recipe, each.size_bytes / 1e6, kl.value, kl.interval) for each, kl in measured]


def _draw(made: Sequence[Made], file: Path) -> None:
    from filbert.report.chart import curve

    title = f"{made[0].making.source}: what compression costs"
    curve(_points(made), title, "size, MB", "mean KL divergence, nats a token").write(file)


def _write(file: Path, text: str) -> None:
    with write_whole(file) as written:
        written.write(text.encode())
