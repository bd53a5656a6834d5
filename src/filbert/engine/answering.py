"""The child's side of a question: it answers, or says which of our errors kept it from it (`child.answer`)."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from filbert.core.errors import FilbertError
from filbert.engine.lifeline import heard, open_lifeline

Say = Callable[[dict[str, Any]], None]


def told(exc: FilbertError | OSError) -> dict[str, Any]:
    if isinstance(exc, OSError):
        return {"error": {"errno": exc.errno, "file": exc.filename}}
    return {"error": {"code": exc.code, "what": exc.what, "why": exc.why, "do": exc.do}}


def answer_once(work: Callable[[dict[str, Any], Say], Any]) -> None:
    """A child that is told what to do and does it: `work` gets that, and how to speak. Ends the process."""
    say = open_lifeline()
    config = next(heard())
    try:
        say({"answer": work(config, say)})
    except (FilbertError, OSError) as exc:
        say(told(exc))
    os._exit(0)  # the engine's own threads are not waited for


def answer_each(start: Callable[[dict[str, Any], Say], Callable[[dict[str, Any]], Any]]) -> None:
    """A child that is told what to load, and then asked: `start` gives what answers. Ends the process."""
    say = open_lifeline()
    questions = heard()
    config = next(questions)
    try:
        answered = start(config, say)
        say({"answer": {}})
    except FilbertError as exc:
        say(told(exc))
        os._exit(0)
    for question in questions:
        try:
            say({"answer": answered(question)})
        except (FilbertError, OSError) as exc:
            say(told(exc))
    os._exit(0)
