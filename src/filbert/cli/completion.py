"""What shells complete. Bash takes ":" and "=" for the end of a word, and names of models have both in them."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout, suppress

from filbert.core.errors import BadInput, FilbertError

OFFERED_CHATS = 50
BREAKS = re.compile("[:=]+")


def installed_names() -> list[str]:
    """With the names of people's own."""
    from filbert.models import manifest, preset

    return [*manifest.installed_names(), *preset.stand_in_names()]


def preset_keys() -> list[str]:
    from filbert.face import presets

    return [f"{key}=" for key in presets.preset_keys()]


def catalogue_names() -> list[str]:
    from filbert.models import catalogue

    return catalogue.names()


def chat_ids() -> list[tuple[str, str]]:
    """With their titles, the latest first; none of a history that cannot be read, for here is no place to say so."""
    from filbert.chat.history import History

    with suppress(FilbertError), History() as history:
        if history.file and not history.file.exists():
            return []  # to open it would make it
        return [(chat.id, chat.title) for chat in history.chats(OFFERED_CHATS)]
    return []


def asked_by_bash() -> bool:
    return os.environ.get("_FILBERT_COMPLETE") == "complete_bash"


def complete_for_bash(app: Callable[[], object]) -> None:
    """Let `app` complete the word as it was typed, and give bash what follows the last break in it."""
    pieces, at_piece = os.environ.get("COMP_WORDS", "").split("\n"), os.environ.get("COMP_CWORD", "")
    if not at_piece.isdecimal() or int(at_piece) >= len(pieces):
        raise BadInput("What bash completes is not known.", do="Leave _FILBERT_COMPLETE to bash.")
    words, at, lead = joined(pieces, int(at_piece))
    os.environ.update(COMP_WORDS="\n".join(words), COMP_CWORD=str(at))
    found = io.StringIO()
    try:
        with redirect_stdout(found):
            app()
    finally:
        sys.stdout.write("".join(f"{line.removeprefix(lead)}\n" for line in found.getvalue().splitlines()))


def joined(pieces: Sequence[str], at: int) -> tuple[list[str], int, str]:
    """The words that bash broke, which of them is to be completed, and what of that stands before bash's own piece.
    The value of `--flag=value` stays a word of its own."""
    words, joins = [pieces[0]], False
    for index, piece in enumerate(pieces[1 : at + 1], 1):
        is_break = BREAKS.fullmatch(piece) is not None
        joins = (is_break or joins) and index > 1 and not words[-1].startswith("-")
        words[-1:] = [words[-1] + piece] if joins else [words[-1], piece]
        joins = joins and is_break
    last = pieces[at]
    lead = words[-1] if BREAKS.fullmatch(last) else words[-1].removesuffix(last)
    return words, len(words) - 1, lead
