"""What begins with / in a conversation: one table, from which help, completion and the docs are made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, get_args

from filbert.cli.chat_answer import called, page
from filbert.cli.chats import format_of, writable, write, written
from filbert.cli.completion import OFFERED_CHATS, catalogue_names, installed_names
from filbert.cli.config import shown
from filbert.cli.console import cut, say, say_dim
from filbert.cli.talk import Talk, last_turns
from filbert.core.errors import BadInput
from filbert.core.nearest import did_you_mean, nearest
from filbert.core.settings import checked, takes

if TYPE_CHECKING:
    from filbert.chat.history import History
    from filbert.chat.record import Said

Offer = tuple[str, str]  # a text to complete to, and what it is
AS_QUESTION = "A question that begins with / needs a blank before it."
SHOWN_CHATS, SHOWN_TURNS = 20, 2
FORCE = "--force "
LIKE_COMMANDS = ("exit", "quit", "help", "?")  # as the whole of a line
FORGETTING = ("/reset", "/clear", "/new")
ELSEWHERE = MappingProxyType(
    {
        "/show": "/model tells the model, /system the system message, /set what is set.",
        "/list": "`filbert list` shows the models, /history the chats.",
        "/title": "/save TITLE gives the chat a title.",
    }
)
LINE_CHARACTERS = 60
KEYS = (
    ("Ctrl-C", "stop the answer"),
    ("Ctrl-D", "leave"),
    ("Alt-Enter", "begin a new line; so does a \\ at the end of a line"),
    ('"""', "begin and end a text of several lines"),
)


class Left(Exception):
    pass


@dataclass(frozen=True, slots=True)
class Command:
    """argument: as help shows it; "" takes nothing, [in brackets] may be left out. offers: what it may be."""

    name: str
    argument: str
    help: str
    run: Callable[[Talk, str], None]
    offers: Callable[[Talk, str], Iterable[Offer]] = lambda talk, typed: ()
    also: tuple[str, ...] = ()

    def check(self, argument: str) -> None:
        if argument and not self.argument:
            raise BadInput(f"{self.name} takes nothing more.", do=f"Type {self.name} alone. {AS_QUESTION}")
        if not argument and self.argument and not (self.argument.startswith("[") and self.argument.endswith("]")):
            raise BadInput(f"{self.name} needs something more.", do=f"Type {self.name} {self.argument}.")


def run(talk: Talk, text: str) -> None:
    """Do what a line that begins with / asks. Raises BadInput, Left."""
    word, _, rest = text.strip().partition(" ")
    argument = rest.strip()
    command = _by_word().get(word)
    if command is None:
        raise BadInput(f"There is no {word}.", do=f"{_meant(word)} {AS_QUESTION}")
    command.check(argument)
    command.run(talk, argument)


def _meant(word: str) -> str:
    """The nearest command, as a question, or what does the same here."""
    asked, otherwise = word if word != "/" else "", "/help lists what there is."
    return ELSEWHERE.get(word) or did_you_mean(asked, _by_word(), otherwise, sparing=FORGETTING)


def offers(talk: Talk, typed: str) -> Iterator[Offer]:
    """What may complete a line that begins with /."""
    word, blank, rest = typed.partition(" ")
    if not blank:
        yield from ((c.name, c.help) for c in COMMANDS if c.name.startswith(word))
    elif command := _by_word().get(word):
        yield from (offer for offer in command.offers(talk, rest) if offer[0].startswith(rest.rpartition(" ")[2]))


def help_text() -> str:
    rows = [(f"{command.name} {command.argument}".strip(), command.help) for command in COMMANDS]
    width = max(len(left) for left, _ in rows)
    return "\n".join(f"{left:{width}}  {right}" for left, right in (*rows, *KEYS))


def show_turns(talk: Talk) -> None:
    """The last questions and answers, as they were shown."""
    for _, role, text in last_turns(talk, SHOWN_TURNS):
        if role == "user":
            say(f"> {text}")
        else:
            sheet = page(talk.settings, talk.plain)
            sheet.text(text)
            sheet.end()
            say()


def _by_word() -> dict[str, Command]:
    return {word: command for command in COMMANDS for word in (command.name, *command.also)}


def _help(talk: Talk, argument: str) -> None:
    say(help_text())


def _reset(talk: Talk, argument: str) -> None:
    kept = talk.conversation.chat_id
    talk.conversation.reset()
    say(f"A new chat. `/load {kept}` goes back to the last one." if kept else "Forgotten.")


def _save(talk: Talk, title: str) -> None:
    conversation = talk.conversation
    if not conversation.chat_id:
        raise BadInput("There is nothing to save.", do="Say something first.")
    if conversation.history is None:
        raise BadInput("No history is kept.", do="/export FILE writes this chat to a file.")
    if title:
        conversation.title = title
    say(f"Kept as {conversation.chat_id}: {conversation.title}")


def _load(talk: Talk, chat_id: str) -> None:
    if not chat_id:
        _history(talk, "")
        return
    talk.conversation.load(chat_id)
    say_dim(f"{talk.conversation.title}\n")
    show_turns(talk)


def _model(talk: Talk, name: str) -> None:
    if name:
        talk.use(name)
    say(talk.model.summary)


def _regen(talk: Talk, argument: str) -> None:
    talk.ask(talk.conversation.regenerate)


def _edit(talk: Talk, argument: str) -> None:
    """A number names the question; without one it is the last."""
    first, _, rest = argument.partition(" ")
    if argument.isdecimal():
        raise BadInput(f"/edit {argument} needs the new text.", do=f"Type /edit {argument} TEXT.")
    if first.isdecimal():
        number, text = int(first), rest.strip()
    else:
        number, text = _last_question(talk), argument
    talk.ask(lambda: talk.conversation.edit(number, text))


def _last_question(talk: Talk) -> int:
    numbers = [number for number, said in enumerate(talk.conversation.path, 1) if said.message.role == "user"]
    if not numbers:
        raise BadInput("There is no question to edit.", do="Ask one first.")
    return numbers[-1]


def _branch(talk: Talk, argument: str) -> None:
    """`3` goes on from message 3; `3 2` switches to what was said second in its place; nothing lists them all."""
    if not argument:
        for line in _branches(talk):
            say(line)
        return
    words = argument.split()
    if len(words) > 2 or not all(word.isdecimal() for word in words):
        raise BadInput(f"{argument} is no number of a message.", do="/branch alone lists them.")
    talk.conversation.branch(*map(int, words))
    show_turns(talk)


def _branches(talk: Talk) -> Iterator[str]:
    if not talk.conversation.path:
        yield "Nothing was said yet."
    for number, said in enumerate(talk.conversation.path, 1):
        siblings = talk.conversation.branches(number)
        yield f"{number:3}  {said.message.role:9}  {_short(said)}"
        if len(siblings) > 1:
            for which, sibling in enumerate(siblings, 1):
                here = "*" if sibling.number == said.number else " "
                yield f"     {here} /branch {number} {which}  {_short(sibling)}"


def _short(said: Said) -> str:
    calls = "".join(map(called, said.message.tool_calls))
    return cut(" ".join((said.message.text or calls).split()), LINE_CHARACTERS)


def _stats(talk: Talk, argument: str) -> None:
    finish = talk.conversation.last_finish
    if finish is None:
        say("Nothing was said yet.")
        return
    usage, timings, context = finish.usage, finish.timings, talk.model.context
    thought = f" ({usage.reasoning_tokens} of them thought)" if usage.reasoning_tokens else ""
    filled = 100 * (usage.prompt_tokens + usage.completion_tokens) / context
    say(
        f"prompt {usage.prompt_tokens} tokens ({usage.cached_tokens} remembered){_speed(timings.prompt_tps)}\n"
        f"answer {usage.completion_tokens} tokens{thought}{_speed(timings.generation_tps)}, ended by {finish.reason}\n"
        f"context {context} tokens, {filled:.0f} % full"
    )


def _speed(tps: float) -> str:
    """Nothing for an answer that was stopped: the engine tells its times at the end only."""
    return f", {tps:.0f} tokens/s" if tps else ""


def _system(talk: Talk, text: str) -> None:
    if text:
        talk.conversation.system = text
    say(talk.conversation.system or talk.conversation.model.system or "There is no system message.")


def _set(talk: Talk, words: str) -> None:
    """`temperature 0.1` for the answers to come, also as Ollama has it: `parameter temperature 0.1`, `system TEXT`,
    `think`, `nothink`. Without a value that of the field is told, alone that of all."""
    from filbert.engine.sampling import Sampling

    field, _, value = words.removeprefix("parameter ").strip().partition(" ")
    if field == "system":
        _system(talk, value.strip().strip('"'))
    elif field in ("think", "nothink"):
        _think(talk, "off" if field == "nothink" else value.strip() or "on")
    elif field and field not in _settable():
        raise BadInput(f"There is no {field} to set.", do=_settable_instead(field))
    else:
        if value:
            kept = checked(Sampling, {field: value.strip()})
            talk.conversation.sampling = talk.conversation.sampling.choosing(**{field: getattr(kept, field)})
        for name in [field] if field else _settable():
            say(f"{name}: {shown(getattr(talk.conversation.sampling, name)) or 'not set'}")


def _settable() -> list[str]:
    from filbert.engine.sampling import Sampling

    return [name for name in Sampling.model_fields if name not in ("think", "logprobs", "json_schema", "grammar")]


def _settable_instead(field: str) -> str:
    from filbert.engine.load_options import LoadOptions

    field = {"num_ctx": "context", "num_thread": "threads"}.get(field, field)
    if field in LoadOptions.model_fields:
        return f"It is chosen when a model is loaded: `filbert chat --{field.replace('_', '-')}`."
    near = nearest({"num_predict": "max_tokens"}.get(field, field), _settable())
    return f"Did you mean /set {near[0]}?" if near else f"/set takes {', '.join(_settable())}."


def _offer_fields(talk: Talk, typed: str) -> Iterator[Offer]:
    from filbert.engine.sampling import Sampling

    if " " not in typed:
        yield from ((name, takes(Sampling.model_fields[name])) for name in _settable())


def _attach(talk: Talk, file: str) -> None:
    talk.attach(Path(file))


def _think(talk: Talk, how: str) -> None:
    """Raises BadInput for a model that cannot think."""
    from filbert.engine.thinking import think_fields

    if how:
        if how not in _efforts():
            raise BadInput(f"A model cannot think {how}.", do=f"Choose one of {', '.join(_efforts())}.")
        wanted = talk.conversation.sampling.choosing(think=how)
        think_fields(talk.model.name, talk.model.thinking, wanted)
        talk.conversation.sampling = wanted
    say(f"think: {talk.conversation.sampling.think or 'as the model likes'}")


def _efforts() -> tuple[str, ...]:
    from filbert.engine.sampling import Think

    return get_args(Think)


def _export(talk: Talk, file: str) -> None:
    """Markdown by the ending .md, JSON by .json."""
    path = Path(file.removeprefix(FORCE).strip())
    if path.suffix.lower() not in (".md", ".json"):
        raise BadInput(f"{path.name} does not say what it is to be.", do="End its name in .md or .json.")
    path = writable(path, force=file.startswith(FORCE))
    write(written([talk.conversation.chat], format_of(path)), path)
    say(f"Written: {path}")


def _history(talk: Talk, words: str) -> None:
    history = _kept(talk)
    if words:
        for hit in history.search(words, SHOWN_CHATS):
            say(f"{hit.chat}  {hit.updated:%Y-%m-%d}  {hit.title}\n    {hit.snippet}")
    else:
        for chat in history.chats(SHOWN_CHATS):
            say(f"{chat.id}  {chat.updated:%Y-%m-%d}  {chat.title}")
    say_dim("/load ID goes on with one.\n")


def _kept(talk: Talk) -> History:
    if talk.conversation.history is None:
        raise BadInput("No history is kept.", do="Leave out --no-history.")
    return talk.conversation.history


def _quit(talk: Talk, argument: str) -> None:
    raise Left


def _offer_chats(talk: Talk, typed: str) -> Iterator[Offer]:
    if talk.conversation.history is not None:
        yield from ((chat.id, chat.title) for chat in talk.conversation.history.chats(OFFERED_CHATS))


def _offer_models(talk: Talk, typed: str) -> Iterator[Offer]:
    here = installed_names()
    yield from ((name, "installed") for name in here)
    yield from ((name, "to download") for name in catalogue_names() if name not in here)


def _offer_efforts(talk: Talk, typed: str) -> Iterator[Offer]:
    yield from ((effort, "") for effort in _efforts())


def _offer_files(talk: Talk, typed: str) -> Iterator[Offer]:
    """Files and folders whose names begin as what is typed."""
    folder, _, beginning = typed.rpartition("/")
    lead = f"{folder}/" if "/" in typed else ""
    try:
        found = sorted(Path(lead or ".").expanduser().iterdir())[:1000]
    except (OSError, RuntimeError):
        return
    for path in found:
        if path.name.startswith(beginning) and (beginning or not path.name.startswith(".")):
            yield (f"{lead}{path.name}/", "folder") if path.is_dir() else (f"{lead}{path.name}", "")


COMMANDS = (
    Command("/help", "", "this list", _help, also=("/?",)),
    Command(
        "/reset", "", "forget the conversation and begin a new chat (also /clear)", _reset, also=("/clear", "/new")
    ),
    Command("/save", "[TITLE]", "give this chat a title (it is kept anyway)", _save),
    Command("/load", "[ID]", "go on with another chat; nothing: list the latest", _load, _offer_chats),
    Command("/history", "[WORDS]", "list the latest chats, or those in which words were said", _history),
    Command("/model", "[NAME]", "go on with another model; nothing: tell which it is", _model, _offer_models),
    Command("/regen", "", "answer the last question again", _regen),
    Command("/edit", "[N] TEXT", "ask TEXT in the place of question N, or of the last one", _edit),
    Command("/branch", "[N [K]]", "go on from message N, or with its branch K; nothing: list", _branch),
    Command("/stats", "", "tokens and speed of the last answer, how full the context is", _stats),
    Command("/system", "[TEXT]", "set the system message; nothing: show it", _system),
    Command("/set", "[FIELD [VALUE]]", "temperature, top_p, seed … of the answers to come", _set, _offer_fields),
    Command("/attach", "FILE", "send a text or an image with the next question", _attach, _offer_files),
    Command("/think", "[HOW]", "on, off, low, medium or high, for models that think", _think, _offer_efforts),
    Command("/export", "FILE", "write this chat to FILE.md or FILE.json", _export, _offer_files),
    Command("/quit", "", "leave (also /exit, /bye, Ctrl-D)", _quit, also=("/exit", "/bye")),
)
