"""A model on a task: every item's log-likelihoods, kept batch by batch, and what they come to.

    <evaluations>/<model>/<task>-<what was asked>/scored.jsonl    a batch a line while it runs: who resumes goes on here
                                                 /items.parquet   every item, once all are scored
                                                 /result.json     what they come to

What a folder is called follows from every token that is scored, so that another file, another limit, another template
or another engine is another run, and the same is never measured twice.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filbert.core.files import disk_errors, locked
from filbert.core.jobs import Job, Progress
from filbert.engine.forest import Item as Asked
from filbert.engine.forest import packed
from filbert.engine.score_and_perplexity import encoded
from filbert.engine.scorer import Scored
from filbert.engine.token_scorer import TokenScorer
from filbert.evaluate.items import Item
from filbert.evaluate.result import COLUMNS, TaskResult, graded, result_of
from filbert.evaluate.tables import write_parquet
from filbert.evaluate.task import Task
from filbert.models import results


@dataclass(frozen=True, slots=True)
class Prepared:
    """Items as tokens. asked: what is scored, a prompt and its endings; parts: of each, the item it is of; cut: the
    items whose prompts were longer than the context."""

    items: Sequence[Item]
    asked: Sequence[Asked]
    parts: Sequence[int]
    cut: frozenset[int]


def prepared(scorer: TokenScorer, items: Sequence[Item]) -> Prepared:
    """A prompt that does not fit loses its beginning, as in lm-eval. An ending that does not fit, or has no tokens of
    its own, leaves its item without numbers."""
    tokens = iter(encoded(scorer, [request for item in items for request in item.requests]))
    ready, asked, parts, cut = [], [], [], set()
    for at, item in enumerate(items):
        pairs = [next(tokens) for _ in item.requests]
        if not all(0 < len(ending) <= scorer.context for _, ending in pairs):
            why = "An ending has no tokens, or more than the context."
            ready.append(replace(item, requests=(), problem=item.problem or why))
            continue
        ready.append(item)
        shared: dict[tuple[int, ...], list[list[int]]] = {}
        for prefix, ending in pairs:
            kept = prefix[-(scorer.context + 1 - len(ending)) :]
            if len(kept) < len(prefix):
                cut.add(at)
            shared.setdefault(tuple(kept), []).append(ending)
        for kept_prefix, endings in shared.items():
            asked.append(Asked(kept_prefix, endings))
            parts.append(at)
    return Prepared(ready, asked, parts, frozenset(cut))


def evaluate_job(
    scorer: TokenScorer, task: Task, items: Sequence[Item], total: int, origin: str, command: str, settings: str = ""
) -> Job[TaskResult]:
    """total: documents of the split, of which the items are the first; settings: how they are put. Raises
    StoreBusy where another process runs the same, DiskFull."""
    ready = prepared(scorer, items)
    folder = _folder(scorer, task, ready)
    with locked(folder.with_suffix(".lock"), wait_s=0):
        scored = yield from _scored(scorer, ready, folder / "scored.jsonl", task.name)
        rows = [
            graded(item, each, at in ready.cut) for at, (item, each) in enumerate(zip(ready.items, scored, strict=True))
        ]
        write_parquet(folder / "items.parquet", [row.to_row() for row in rows], COLUMNS)
        result = result_of(task, rows, total, origin, scorer.provenance(command), folder.name)
        results.keep(result.to_result(settings), scorer.sha256)
    return result


def _folder(scorer: TokenScorer, task: Task, ready: Prepared) -> Path:
    """The hash names the model too: a run is found again by what its folder is called alone."""
    asked = hashlib.sha256(f"{scorer.sha256} {scorer.version} {task.version} {scorer.context}".encode())
    for item in ready.items:
        asked.update(json.dumps([item.requests, item.choices, item.gold, item.problem]).encode())
    name = re.sub(r"[^A-Za-z0-9_]+", "-", task.name)[:80].strip("-")  # a task file says it
    return results.folder_of(scorer.sha256) / f"{name or 'task'}-{asked.hexdigest()[:8]}"


def _scored(scorer: TokenScorer, ready: Prepared, file: Path, name: str) -> Job[list[list[Scored]]]:
    """Of each item, what each of its choices got."""
    batches = list(packed(ready.asked, scorer.context))
    found = _kept(file, batches)
    done = sum(len(batches[number]) for number in found)
    yield Progress(name, done, len(ready.asked), "prompts")
    with disk_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        _drop_torn(file)
        with file.open("ab") as log:
            for number, batch in enumerate(batches):
                if number in found:
                    continue
                found[number] = scorer.score_items([ready.asked[i] for i in batch])
                log.write(_line(number, found[number]))
                log.flush()
                done += len(batch)
                yield Progress(name, done, len(ready.asked), "prompts")
    each = (scored for number in range(len(batches)) for scored in found[number])
    per_item: list[list[Scored]] = [[] for _ in ready.items]
    for at, scored in zip(ready.parts, each, strict=True):
        per_item[at] += scored
    return per_item


def _line(number: int, scored: Sequence[Sequence[Scored]]) -> bytes:
    values = [[[one.loglikelihood, one.greedy, one.tokens] for one in each] for each in scored]
    return json.dumps({"batch": number, "scored": values}).encode() + b"\n"


def _kept(file: Path, batches: Sequence[Sequence[int]]) -> dict[int, list[list[Scored]]]:
    """What an earlier run wrote of these batches."""
    return {
        line["batch"]: [[Scored(*one) for one in each] for each in line["scored"]]
        for line in _whole_lines(file)
        if line["batch"] < len(batches) and len(line["scored"]) == len(batches[line["batch"]])
    }


def _whole_lines(file: Path) -> Iterator[Mapping[str, Any]]:
    lines = file.read_bytes().split(b"\n") if file.exists() else []
    for line in lines[:-1]:
        yield json.loads(line)


def _drop_torn(file: Path) -> None:
    """A line that a kill cut off."""
    if file.exists():
        data = file.read_bytes()
        with file.open("r+b") as kept:
            kept.truncate(data.rfind(b"\n") + 1)
