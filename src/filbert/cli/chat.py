"""`filbert chat`: one answer, or a conversation."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from filbert.cli.chat_answer import draws_markdown
from filbert.cli.chat_input import PlainInput, PromptInput, is_full_terminal
from filbert.cli.chats import history
from filbert.cli.completion import chat_ids
from filbert.cli.console import hint, note, piped_text, say
from filbert.cli.first_run import first_model
from filbert.cli.flags_from_options import with_options
from filbert.cli.loading import MODEL, loaded
from filbert.core.errors import BadInput, Cancelled, FilbertError
from filbert.core.settings import Settings
from filbert.engine.load_options import LoadOptions
from filbert.engine.sampling import Sampling

if TYPE_CHECKING:
    from filbert.chat.record import Chat
    from filbert.chat.tools import Function
    from filbert.cli.chat_input import Input
    from filbert.cli.talk import Talk


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
    resume: Annotated[
        str,
        typer.Option(
            "--resume",
            metavar="ID",
            help="Go on with a chat of `filbert chats`, by its ID or the beginning of it.",
            show_default=False,
            autocompletion=chat_ids,
        ),
    ] = "",
    last: Annotated[bool, typer.Option("--continue", "-c", help="Go on with the last chat.")] = False,
    no_history: Annotated[bool, typer.Option("--no-history", help="Keep nothing of this chat.")] = False,
    attach: Annotated[
        list[Path] | None,
        typer.Option("--attach", help="A text or an image that goes with the question. May be repeated."),
    ] = None,
    tools: Annotated[
        Path | None,
        typer.Option(
            "--tools", metavar="FILE", help="A Python file of yours, whose documented functions the model may call."
        ),
    ] = None,
    tool_choice: Annotated[
        str, typer.Option("--tool-choice", help="auto, none, required, or the name of the function to call.")
    ] = "auto",
    plain: Annotated[bool, typer.Option("--plain", help="Show answers as they come, without rendering Markdown.")] = (
        False
    ),
) -> None:
    """Talk to a model: one answer, or a conversation. Text piped in is added to the prompt."""
    if sampling.grammar is not None and sampling.json_schema is not None:
        raise BadInput("An answer cannot hold to a grammar and a JSON schema.", do="Leave one out.")
    if resume and last:
        raise BadInput("A chat cannot go on from two.", do="Leave out --continue, or --resume.")
    question = "\n\n".join(part for part in (" ".join(prompt or ()), piped_text(settings)) if part.strip())
    if not question and not (sys.stdin and sys.stdin.isatty()):
        raise BadInput("There is nothing to answer.", do='Try `filbert chat "Why is the sky blue?"`.')
    plain = plain or not draws_markdown()
    keeps = settings.history and not no_history
    later = list(_needed_later(keeps, plain, talking=not question))
    before = _resumed(resume, keeps) if resume or last else None
    name = model or _model_of(before, settings) or first_model(settings, load.threads)
    functions, load = _functions(tools) if tools else (), load.choosing(parallel=1)
    with loaded(name, load, settings, later) as engine:
        from filbert.chat.conversation import Conversation
        from filbert.cli.talk import Talk

        conversation = Conversation(engine, history() if keeps else None, before, system, sampling, functions)
        conversation.tool_choice = tool_choice
        with Talk(engine, conversation, load, settings, plain) as talk:
            for file in attach or ():
                talk.attach(file)
            if question:
                talk.show(talk.send(question))
            else:
                converse(talk)


def _needed_later(keeps: bool, plain: bool, talking: bool) -> Iterable[str]:
    """Modules that take long to import."""
    if not plain:
        yield "filbert.cli.markdown_screen"
    if talking and is_full_terminal():
        yield "prompt_toolkit"
    if keeps:
        yield "filbert.chat.history"


def _functions(file: Path) -> Sequence[Function]:
    from filbert.chat.tools import functions_of

    return functions_of(file)


def _resumed(chat_id: str, keeps: bool) -> Chat:
    """The chat of that id, the last one for "". Raises BadInput where there is none."""
    if not keeps:
        raise BadInput("There is no history to go on from.", do="Leave out --no-history, or set history to true.")
    with history() as kept:
        found = kept.chat(chat_id) if chat_id else kept.latest()
    if found is None:
        raise BadInput("There is no chat to go on with.", do="`filbert chat` begins one.")
    return found


def _model_of(before: Chat | None, settings: Settings) -> str:
    """The model that answered last, where it is still here."""
    from filbert.models import store

    if before is None or not before.model or store.find(before.model):
        return before.model if before else ""
    note(f"The chat was with {before.model}, which is not here any more.", settings)
    return ""


def converse(talk: Talk) -> None:
    """Until a person leaves. An error ends a step, not the conversation."""
    from filbert.cli import chat_commands

    kept = talk.conversation.history is not None
    where = "Kept on this machine; nothing leaves it." if kept else "Nothing of this chat is kept."
    hint(f"/help lists what you can do. {where}", talk.settings)
    chat_commands.show_turns(talk)
    typed: Input = (
        PromptInput(lambda text: chat_commands.offers(talk, text), kept) if is_full_terminal() else PlainInput()
    )
    while True:
        try:
            step(talk, typed.read())
        except (EOFError, chat_commands.Left) as way_out:
            if isinstance(way_out, EOFError):
                say()
            break
        except KeyboardInterrupt:
            say("\n(Ctrl-D or /quit leaves)")
    if talk.conversation.history is not None and talk.conversation.chat_id:
        hint(
            f"`filbert chat --resume {talk.conversation.chat_id}` or `--continue` goes on with this chat.",
            talk.settings,
        )


def step(talk: Talk, text: str) -> None:
    """Do what one input asks."""
    from filbert.cli import chat_commands
    from filbert.core.log import log

    try:
        if text.rstrip() in chat_commands.LIKE_COMMANDS:
            chat_commands.run(talk, f"/{text}")
        elif text.startswith("/"):
            chat_commands.run(talk, text)
        elif text.strip():
            talk.ask(lambda: talk.send(text))
    except Cancelled as exc:
        note(str(exc), talk.settings)
    except FilbertError as exc:
        note(f"error: {exc}", talk.settings)
    except (BrokenPipeError, chat_commands.Left):
        raise
    except Exception as exc:  # noqa: BLE001 - a fault of ours ends a step too, and the conversation goes on
        log.exception("fault")
        note(f"error: Filbert hit a fault of its own ({type(exc).__name__}: {exc}). The log has it.", talk.settings)
