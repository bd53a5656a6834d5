"""`filbert chat`: one answer, or a conversation."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from threading import Timer
from typing import TYPE_CHECKING, Annotated

import typer

from filbert.cli.console import note, patience, piped_text, say, say_dim
from filbert.cli.flags_from_options import with_options
from filbert.cli.loading import MODEL, loaded
from filbert.core.errors import BadInput, FilbertError
from filbert.core.settings import Settings
from filbert.engine.load_options import LoadOptions
from filbert.engine.sampling import Sampling

if TYPE_CHECKING:
    from filbert.chat.session import ChatSession, Turn

HELP = """/help            this list
/reset           forget the conversation, keep the system message
/system TEXT     set the system message (nothing: show it)
/regen           answer the last question again
/stats           tokens and speed of the last answer
/quit            leave (also /exit, /bye, Ctrl-D)
Ctrl-C           stop the answer
\"\"\"              begin and end a text of several lines; a line that ends in \\ goes on"""
LEAVE = ("/quit", "/exit", "/bye")
ALONE = ("/help", "/reset", "/regen", "/stats", *LEAVE)
AS_QUESTION = "A question that begins with / needs a blank before it."


@with_options(LoadOptions, Sampling, without=("parallel", "logprobs"))
def chat(
    load: LoadOptions,
    sampling: Sampling,
    settings: Settings,
    prompt: Annotated[
        list[str] | None, typer.Argument(help="What to ask. Left out on a terminal: a conversation.")
    ] = None,
    model: MODEL = "",
    system: Annotated[str, typer.Option("--system", help="The system message.", show_default=False)] = "",
) -> None:
    """Talk to a model: one answer, or a conversation. Text piped in is added to the prompt."""
    if sampling.grammar is not None and sampling.json_schema is not None:
        raise BadInput("An answer cannot hold to a grammar and a JSON schema.", do="Leave one out.")
    question = "\n\n".join(part for part in (" ".join(prompt or ()), piped_text(settings)) if part.strip())
    if not question and not (sys.stdin and sys.stdin.isatty()):
        raise BadInput("There is nothing to answer.", do='Try `filbert chat "Why is the sky blue?"`.')
    with loaded(model, load.model_copy(update={"parallel": 1}), settings) as engine:
        from filbert.chat.session import ChatSession

        session = ChatSession(engine, system=system, sampling=sampling)
        if question:
            answer(session.send(question), settings)
        else:
            note("/help lists what you can do.", settings)
            converse(session, settings)


def answer(turn: Turn, settings: Settings) -> None:
    """Print an answer as it comes; Ctrl-C stops it."""
    if turn.forgotten_turns:
        note(f"The context is full: the oldest {turn.forgotten_turns} turns are left out.", settings)
    with patience("reading the prompt", settings) as waiting:
        show(turn, waiting)
    if turn.cut_short:
        note(turn.cut_short, settings)


def show(turn: Turn, waiting: Timer) -> None:
    """Print chunks, and end the line if there were any; what a model thinks before it answers is for a terminal only,
    and dim."""
    begun = thinking = False
    try:
        for chunk in turn:
            if chunk.reasoning or chunk.text:
                waiting.cancel()
            if chunk.reasoning and sys.stdout.isatty():
                say_dim(chunk.reasoning)
                begun = thinking = True
            if chunk.text:
                say(("\n\n" if thinking else "") + chunk.text, end="")
                begun, thinking = True, False
    finally:
        if begun:
            say()


def converse(session: ChatSession, settings: Settings) -> None:
    with contextlib.suppress(ImportError):
        import readline  # gives input() its history and editing

        if os.environ.get("TERM") != "dumb":  # which would print the marks around what is pasted
            readline.parse_and_bind("set enable-bracketed-paste on")  # lines that are pasted are one question
    while True:
        try:
            text = read_text()
        except EOFError:
            say()
            return
        except KeyboardInterrupt:
            say("\n(Ctrl-D or /quit leaves)")
            continue
        if text.rstrip() in LEAVE:
            return
        if text.strip():
            step(session, text, settings)


def read_text() -> str:
    """A line, lines joined by a final backslash, or a text between two lines of three quotes."""
    line = input("> ")
    if line.strip().startswith('"""'):
        lines = [line.strip()[3:]]
        while not lines[-1].rstrip().endswith('"""'):
            lines.append(input("… "))
        lines[-1] = lines[-1].rstrip()[:-3]
        return "\n".join(lines).strip()
    lines = [line]
    while lines[-1].endswith("\\"):
        lines[-1] = lines[-1][:-1]
        lines.append(input("… "))
    return "\n".join(lines)


def step(session: ChatSession, text: str, settings: Settings) -> None:
    """Do what one input asks. An error ends the step, not the conversation."""
    try:
        if text.startswith("/"):
            command(session, text, settings)
        else:
            interruptible(lambda: session.send(text), settings)
    except FilbertError as exc:
        note(f"error: {exc}", settings)


def command(session: ChatSession, text: str, settings: Settings) -> None:
    word, *rest = text.strip().split(None, 1)
    if rest and word in ALONE:
        raise BadInput(f"{word} takes nothing more.", do=f"Type {word} alone. {AS_QUESTION}")
    if word == "/help":
        say(HELP)
    elif word == "/reset":
        session.reset()
        say("Forgotten.")
    elif word == "/system":
        session.system = rest[0] if rest else session.system
        say(session.system or "There is no system message.")
    elif word == "/regen":
        interruptible(session.regenerate, settings)
    elif word == "/stats":
        say(stats(session))
    else:
        raise BadInput(f"There is no {word}.", do=f"/help lists what there is. {AS_QUESTION}")


def interruptible(start: Callable[[], Turn], settings: Settings) -> None:
    """Ctrl-C ends the answer and nothing else; what was said so far stays in the conversation."""
    turn = None
    try:
        turn = start()
        answer(turn, settings)
    except KeyboardInterrupt:
        if turn:
            turn.cancel()
            turn.reply()
        note("(stopped)", settings)


def stats(session: ChatSession) -> str:
    finish = session.last_finish
    if finish is None:
        return "Nothing was said yet."
    usage, timings = finish.usage, finish.timings
    return (
        f"prompt {usage.prompt_tokens} tokens ({usage.cached_tokens} remembered){_speed(timings.prompt_tps)}; "
        f"answer {usage.completion_tokens} tokens{_speed(timings.generation_tps)}; "
        f"context {session.model.context} tokens; ended by {finish.reason}"
    )


def _speed(tps: float) -> str:
    """Nothing for an answer that was stopped: the engine tells its times at the end only."""
    return f", {tps:.0f} tokens/s" if tps else ""
