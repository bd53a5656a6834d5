"""What a person types: with history, several lines and completion on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from filbert.core import paths
from filbert.core.errors import FilbertError
from filbert.core.files import write_whole

if TYPE_CHECKING:
    from prompt_toolkit.completion import Completer
    from prompt_toolkit.history import History as TypedBefore
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

PROMPT, MORE, QUOTES = "> ", "… ", '"""'
MOST_BYTES = 1 << 20
MENU_LINES = 5
Offer = tuple[str, str]  # a text to complete to, and what it is


class Input(Protocol):
    def read(self) -> str:
        """What a person asks next. Raises EOFError at Ctrl-D, KeyboardInterrupt at Ctrl-C."""


def is_full_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def typed_file() -> Path:
    return paths.data_folder() / "typed.jsonl"


class PlainInput:
    """Lines as the terminal's driver edits them."""

    def __init__(self) -> None:
        with contextlib.suppress(ImportError):
            import readline  # gives input() its history and editing

            if os.environ.get("TERM") != "dumb":  # which would print the marks around what is pasted
                readline.parse_and_bind("set enable-bracketed-paste on")  # lines that are pasted are one question

    def read(self) -> str:
        text = input(PROMPT)
        while is_open(text):
            text = f"{joined(text)}\n{input(MORE)}"
        return unquoted(text)


class PromptInput:
    """prompt_toolkit. offers: what the text before the cursor may go on with. kept: what was typed is found again in
    the next chat."""

    def __init__(self, offers: Callable[[str], Iterable[Offer]], kept: bool) -> None:
        from prompt_toolkit import PromptSession

        self._session: PromptSession[str] = PromptSession(
            PROMPT,
            multiline=True,
            prompt_continuation=MORE,
            key_bindings=_keys(),
            completer=_completer(offers),
            complete_while_typing=True,
            complete_in_thread=True,  # a history that is held by another program takes its time
            history=_typed_before() if kept else None,
            reserve_space_for_menu=MENU_LINES,
        )

    def read(self) -> str:
        return unquoted(self._session.prompt())


def is_open(text: str) -> bool:
    """Whether the next line belongs to it: after a final backslash, or between two marks of three quotes."""
    if text.lstrip().startswith(QUOTES):
        return not text.rstrip()[len(QUOTES) :].endswith(QUOTES) if text.strip() != QUOTES else True
    return text.endswith("\\")


def joined(text: str) -> str:
    return text if text.lstrip().startswith(QUOTES) else text.removesuffix("\\")


def unquoted(text: str) -> str:
    bare = text.strip()
    return bare[len(QUOTES) : -len(QUOTES)].strip() if bare.startswith(QUOTES) and not is_open(bare) else text


def _keys() -> KeyBindings:
    from prompt_toolkit.key_binding import KeyBindings

    keys = KeyBindings()

    @keys.add("enter")
    def _enter(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if not is_open(buffer.text):
            buffer.validate_and_handle()
        elif buffer.document.is_cursor_at_the_end:
            buffer.text = f"{joined(buffer.text)}\n"
            buffer.cursor_position = len(buffer.text)
        else:
            buffer.insert_text("\n")

    @keys.add("escape", "enter")
    def _new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return keys


def _completer(offers: Callable[[str], Iterable[Offer]]) -> Completer:
    from prompt_toolkit.completion import Completer, Completion

    class Offers(Completer):
        def get_completions(self, document: Any, complete_event: Any) -> Iterable[Completion]:
            before = document.text
            if not before.startswith("/") or document.text_after_cursor:
                return
            word = before.rpartition(" ")[2]
            try:
                found = list(offers(before))
            except (FilbertError, OSError, ValueError):  # the command itself will say what is wrong
                return
            for text, what in found:
                yield Completion(text, start_position=-len(word), display_meta=what)

    return Offers()


def _typed_before() -> TypedBefore:
    from prompt_toolkit.history import History

    class TypedBefore(History):
        """What was typed, one JSON text a line; a disk that is full keeps nobody from asking."""

        def load_history_strings(self) -> Iterable[str]:
            return reversed(read_typed())

        def store_string(self, string: str) -> None:
            with contextlib.suppress(OSError):
                append_typed(string)

    return TypedBefore()


def read_typed() -> list[str]:
    """The oldest first. A file that grew long is cut to its newest entries."""
    file = typed_file()
    try:
        data = file.read_bytes()
    except OSError:
        return []
    if len(data) > MOST_BYTES:
        data = data[-MOST_BYTES // 2 :].partition(b"\n")[2]
        with contextlib.suppress(OSError, FilbertError), write_whole(file) as whole:
            Path(whole.name).chmod(0o600)
            whole.write(data)
    return [text for line in data.decode("utf-8", "replace").splitlines() if (text := _text(line))]


def _text(line: str) -> str:
    try:
        text = json.loads(line)
    except (ValueError, RecursionError):  # a line that was cut
        return ""
    return text if isinstance(text, str) else ""


def append_typed(text: str) -> None:
    """For nobody else's eyes."""
    file = typed_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "a", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o600)) as typed:
        typed.write(f"{json.dumps(text)}\n")
