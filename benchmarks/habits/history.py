"""A history of 10,000 chats of 10 messages: how long it takes to open, page and search it, and to keep a turn.

    python benchmarks/habits/history.py [--chats 10000]

Words come from the project's own test text with the frequencies of English; the history is made in a temporary folder.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from filbert.chat.history import History
from filbert.chat.record import Chat, Said, new_id, title_of
from filbert.core.messages import Message
from filbert.report.table import table

CHECKOUT = Path(__file__).parents[2]
FILBERT = Path(sys.executable).with_name("filbert")
WORDS = (CHECKOUT / "tests/data/war-and-peace.txt").read_text("utf-8").split()
BEGAN = datetime(2024, 1, 1, tzinfo=UTC)
ROUNDS = 11


def conversation(number: int, chance: random.Random) -> Chat:
    """Ten messages: questions of 20 words, answers of 150, an hour after the chat before."""
    at = BEGAN + timedelta(hours=number)
    chat = Chat(new_id(at), model="smollm2:135m", created=at, updated=at, source=f"benchmark:{number}")
    for place in range(1, 11):
        role, length = ("user", 20) if place % 2 else ("assistant", 150)
        begin = chance.randrange(len(WORDS) - length)
        message = Message(role, " ".join(WORDS[begin : begin + length]))  # type: ignore[arg-type]
        chat.said[place] = Said(message, place - 1 or None, place, created=at, key=str(place))
    chat.title, chat.leaf = title_of(said.message for said in chat.said.values()), 10
    return chat


def seconds(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """The median."""
    taken = []
    for _ in range(rounds):
        begin = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken)


def opened() -> None:
    with History() as history:
        assert len(history.chats(20)) == 20


def kept_turn(history: History, chat: Chat) -> None:
    """What a turn of a second writes: the question, the answer twice while it comes, and at its end."""
    question = history.add(chat.id, Said(Message("user", "Why is the sky blue?")))
    answer = history.add(chat.id, Said(Message("assistant", "Because"), question.number))
    for _ in range(3):
        history.update(chat.id, answer)


def rows(count: int) -> Iterator[tuple[str, str, str]]:
    chance = random.Random(7)
    with History() as history:
        begin = time.perf_counter()
        history.merge_all(conversation(number, chance) for number in range(count))
        made = time.perf_counter() - begin
        size = Path(os.environ["FILBERT_HOME"], "chats.db").stat().st_size
        yield f"made, {count:,} chats of 10 messages", f"{made:.1f} s, {size / 1e6:.0f} MB", ""
        yield "opened, the 20 latest listed", f"{seconds(opened):.3f} s", "0.3 s"
        command = [
            str(FILBERT),
            "chats",
        ]
        listed = seconds(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))
        yield "`filbert chats`, the whole process", f"{listed:.3f} s", "0.3 s"
        yield "the last page listed", f"{seconds(lambda: history.chats(20, count - 20)):.3f} s", ""
        for words in ("Bolkonski", "the", "prince Andrew said", "ro", "Napoleon battle army general"):
            yield f"searched: {words}", f"{seconds(lambda words=words: history.search(words)):.3f} s", "0.1 s"
        chat = history.chat(history.chats(1)[0].id)
        yield "a chat read", f"{1e3 * seconds(lambda: history.chat(chat.id)):.1f} ms", ""
        yield "a turn kept", f"{1e3 * seconds(lambda: kept_turn(history, chat)):.1f} ms", ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chats", type=int, default=10_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ["FILBERT_HOME"] = home
        print(f"load at the start: {os.getloadavg()[0]:.1f}")
        print(table(("what", "figure", "at most"), list(rows(given.chats))))


if __name__ == "__main__":
    main()
