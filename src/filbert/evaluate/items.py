"""What is scored: documents made into requests, few-shot examples included, as lm-evaluation-harness 0.4.13 does it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import Any

from filbert.core.errors import BadInput
from filbert.core.messages import Message, Role
from filbert.evaluate.processors import Document, Function
from filbert.evaluate.task import Task
from filbert.evaluate.templates import Reads, render

SEED = 1234  # lm-eval's for few-shot examples
FAULTS = (AttributeError, KeyError, TypeError, ValueError)  # of a processor, over a document that is not as it expects
Request = tuple[str, str]
Chat = Callable[[Sequence[Message]], str]


@dataclass(frozen=True, slots=True)
class Item:
    """One document. requests: (context, continuation), one for each choice; for WinoGrande the contexts differ.
    choices, gold: the texts, and which is right; of a loglikelihood task, which has one request, () and None.
    problem: "", or why it cannot be scored (then requests is ()) or graded (then gold is None)."""

    index: int
    requests: tuple[Request, ...]
    choices: tuple[str, ...]
    gold: int | None
    problem: str = ""


def items(
    task: Task,
    documents: Sequence[Document],
    *,
    pool: Sequence[Document] = (),
    n_fewshot: int = 0,
    seed: int = SEED,
    chat: Chat | None = None,
) -> list[Item]:
    """One item a document, in their order. pool: documents to draw examples from, `task.pool_split`. chat: how messages
    are written for a model, the beginning of its answer included. Raises BadInput."""
    asked = [_processed(task, document) for document in documents]
    examples = [_processed(task, document) for document in pool] if n_fewshot else []
    picks = _picks(task, asked, examples, n_fewshot, Random(seed))
    drawn = sorted({at for picked in picks for at in picked})
    fields = {key for document in asked if not isinstance(document, str) for key in document}
    filled = _filled(task, [*asked, *(examples[at] for at in drawn)], fields)
    shots = dict(zip(drawn, filled[len(asked) :], strict=True))
    # As the first document is, so are all.
    in_contexts = next((isinstance(each.text, int) for each in filled if isinstance(each, _Filled)), False)
    writer = _Writer(task, in_contexts, chat)
    return [
        writer.item(index, each, [shots[at] for at in picked])
        for index, (each, picked) in enumerate(zip(filled, picks, strict=False))
    ]


@dataclass(frozen=True, slots=True)
class _Filled:
    """A document with its templates filled; nothing is checked yet."""

    text: Any
    target: Any
    choices: Any
    description: Any


class _Problem(Exception):
    """A document that cannot be made into requests; the message is a sentence."""


def _processed(task: Task, document: Document) -> Document | str:
    if not task.process_docs:
        return document
    try:
        processed: Document = task.process_docs(document)
    except FAULTS as exc:
        return _fault("process_docs", exc)
    return processed


def _fault(role: str, exc: Exception) -> str:
    if isinstance(exc, KeyError):
        return f"{role}: there is no {exc}."
    return f"{role}: {exc}."


def _picks(task: Task, documents: Sequence[Any], pool: Sequence[Any], n: int, random: Random) -> list[Sequence[int]]:
    """For each document the places in the pool of its examples: lm-eval's ContextSampler and FirstNSampler, which see
    the documents one after the other."""
    if not n:
        return [() for _ in documents]
    draw = _first if task.sampler == "first_n" else _sampled
    try:
        return [draw(document if task.leaves_itself_out else None, pool, n, random) for document in documents]
    except ValueError as exc:
        raise BadInput(
            f"{task.name} has {len(pool)} documents to draw {n} examples from.",
            why="A document is no example for itself." if task.leaves_itself_out else "",
            do="Ask for fewer with `--fewshot`, or give more of its data.",
        ) from exc


def _sampled(document: Any, pool: Sequence[Any], n: int, random: Random) -> Sequence[int]:
    if not document:
        return random.sample(range(len(pool)), n)
    picked = [at for at in random.sample(range(len(pool)), n + 1) if pool[at] != document][:n]
    if len(picked) == n:
        return picked
    return random.sample([at for at, other in enumerate(pool) if other != document], n)


def _first(document: Any, pool: Sequence[Any], n: int, random: Random) -> Sequence[int]:
    picked = list(islice((at for at, other in enumerate(pool) if document is None or other != document), n))
    if len(picked) < n:
        raise ValueError
    return picked


def _filled(task: Task, documents: Sequence[Document | str], fields: Collection[str]) -> list[_Filled | str]:
    """Each document with its values, or a sentence that says why it has none."""
    has_choices = task.doc_to_choice is not None
    reads: dict[str, Reads] = {
        "doc_to_text": "number" if has_choices else "text",
        "doc_to_target": "answer" if has_choices else "text",
        "doc_to_choice": "list",
        "description": "text",
    }
    sources = {role: getattr(task, role) for role in reads}
    templates: dict[str, tuple[str, Reads]] = {
        role: (source, reads[role])
        for role, source in sources.items()
        if isinstance(source, str) and source and source not in fields
    }
    usable = [document for document in documents if not isinstance(document, str)]
    rendered = iter(render(templates, usable, where=task.path))
    return [
        document if isinstance(document, str) else _values(document, sources, next(rendered)) for document in documents
    ]


def _values(document: Document, sources: Mapping[str, Any], rendered: Mapping[str, Any] | str) -> _Filled | str:
    if isinstance(rendered, str):
        return rendered
    values = {}
    for role, source in sources.items():
        try:
            values[role] = rendered[role] if role in rendered else _value(source, document)
        except FAULTS as exc:
            return _fault(role, exc)
    return _Filled(values["doc_to_text"], values["doc_to_target"], values["doc_to_choice"], values["description"])


def _value(source: Any, document: Document) -> Any:
    if isinstance(source, Function):
        return source(document)
    return document[source] if isinstance(source, str) and source else source


@dataclass(frozen=True, slots=True)
class _Writer:
    """in_contexts: whether the choices are the contexts, as in WinoGrande."""

    task: Task
    in_contexts: bool
    chat: Chat | None

    def item(self, index: int, filled: _Filled | str, shots: Iterable[_Filled | str]) -> Item:
        try:
            if isinstance(filled, str):
                raise _Problem(filled)
            examples = [turn for shot in shots for turn in self._example(shot)]
            if self.task.output_type == "loglikelihood":
                context = self._context(filled, examples, _text(filled.text, "doc_to_text"))
                return Item(index, ((context, _text(filled.target, "doc_to_target")),), (), None)
            choices = _choices(filled)
            gold, problem = _gold(filled.text if self.in_contexts else filled.target, choices)
            return Item(index, self._requests(filled, examples, choices), choices, gold, problem)
        except _Problem as exc:
            return Item(index, (), (), None, str(exc))

    def _requests(self, filled: _Filled, examples: Sequence[_Turn], choices: Sequence[str]) -> tuple[Request, ...]:
        delimiter = "" if self.chat else self.task.target_delimiter
        if self.in_contexts:
            target = _text(filled.target, "doc_to_target")
            return tuple((self._context(filled, examples, choice), delimiter + target) for choice in choices)
        context = self._context(filled, examples, _text(filled.text, "doc_to_text"))
        return tuple((context, delimiter + choice) for choice in choices)

    def _example(self, shot: _Filled | str) -> list[_Turn]:
        try:
            if isinstance(shot, str):
                raise _Problem(shot)
            choices = shot.choices
            question = _at(choices, shot.text) if self.in_contexts else shot.text
            answer = shot.target if self.in_contexts else _answer(shot.target, choices)
            user = _text(question, "doc_to_text")
            if answer in (None, ""):
                return [_Turn("user", user, "")]
            return [
                _Turn("user", user, self.task.target_delimiter),
                _Turn("assistant", _text(answer, "doc_to_target"), self.task.fewshot_delimiter),
            ]
        except _Problem as exc:
            raise _Problem(f"An example before it has a problem. {exc}") from None

    def _context(self, filled: _Filled, examples: Sequence[_Turn], question: str) -> str:
        description = _text(filled.description, "description")
        head = [_Turn("system", description, "")] if description else []
        turns = [*head, *examples, _Turn("user", question, "")]
        if self.chat:
            return self.chat([Message(turn.role, turn.text) for turn in turns])
        return "".join(turn.text + turn.delimiter for turn in turns)


@dataclass(frozen=True, slots=True)
class _Turn:
    """delimiter: what stands behind it where there is no chat template."""

    role: Role
    text: str
    delimiter: str


def _text(value: Any, role: str) -> str:
    if not isinstance(value, str):
        raise _Problem(f"{role}: {_shown(value)} is no text.")
    return value


def _choices(filled: _Filled) -> tuple[str, ...]:
    choices = filled.choices
    if not isinstance(choices, list | tuple) or not choices:
        raise _Problem(f"doc_to_choice: {_shown(choices)} is no list of choices.")
    for choice in choices:
        if not _text(choice, "doc_to_choice"):
            raise _Problem("doc_to_choice: a choice is empty.")
    return tuple(choices)


def _gold(target: Any, choices: Sequence[str]) -> tuple[int | None, str]:
    """Which choice is right, or None and a sentence."""
    if isinstance(target, int):
        if 0 <= target < len(choices):
            return int(target), ""
        return None, f"Choice {int(target)} is said to be right, and there are {len(choices)}, counted from 0."
    if isinstance(target, str) and target in choices:
        return choices.index(target), ""
    return None, f"{_shown(target)} is said to be right, and is none of the choices."


def _answer(target: Any, choices: Any) -> Any:
    if isinstance(target, int):
        return _at(choices, target)
    return target[0] if isinstance(target, list) and target else target


def _at(choices: Any, at: Any) -> Any:
    if not isinstance(choices, list | tuple) or not isinstance(at, int) or not 0 <= at < len(choices):
        raise _Problem(f"{_shown(at)} is said to be right, and is none of the choices.")
    return choices[at]


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:79]}…"
