"""`filbert chat` as a person lives in it: a real terminal, the real starter, and what the screen shows."""

from __future__ import annotations

import json
import os
import signal
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from emulator import Screen
from terminal import Run

from filbert.chat.history import History

GREEDY = ("--seed", "1", "--temperature", "0", "--max-tokens", "40")
PARIS = "What is the capital of France? Answer in one sentence."

pytestmark = pytest.mark.usefixtures("stocked")
Open = Callable[..., Screen]


@pytest.fixture
def history() -> Iterator[History]:
    with History() as opened:
        yield opened


def leave(talk: Screen) -> str:
    talk.wait_until(talk.waits)
    talk.type("\x04")
    assert talk.wait() == 0
    return talk.emulator.text()


def test_what_was_asked_may_be_edited_and_branches_stay(screen: Open) -> None:
    talk = screen("chat", *GREEDY, columns=100, rows=30)
    talk.ask("/edit Too early", "There is no question to edit.")
    talk.ask("/edit", "/edit needs something more. Type /edit [N] TEXT.")
    talk.ask("/edit 1", "/edit 1 needs the new text. Type /edit 1 TEXT.")
    talk.ask(PARIS, "Paris")
    talk.ask("/edit 1 What is 2+2?", "4")
    talk.ask("/branch", "* /branch 1 2  What is 2+2?")
    talk.ask("/branch 1 1", "> What is the capital", "Paris")
    talk.ask("/branch 7", "There is no message 7.")
    talk.ask("/branch x", "x is no number of a message.")
    left = leave(talk)
    assert "`filbert chat --resume " in left and "or `--continue` goes on with this chat." in left


@pytest.mark.slow
def test_a_chat_is_resumed_where_it_stood(screen: Open, history: History) -> None:
    first = screen("chat", *GREEDY)
    first.ask("My dog is called Rex.")
    first.ask("/save Dogs", "Kept as ")
    assert "Kept on this machine; nothing leaves it." in leave(first)
    (chat,) = history.chats()
    assert (chat.title, chat.messages) == ("Dogs", 2)
    again = screen("chat", *GREEDY, "--resume", chat.id[:8])
    again.wait_for("> My dog is called Rex.")
    again.ask("What is my dog called?", "dog")
    again.ask("/history Rex", chat.id, "[Rex]")
    again.ask("/load", "Dogs")
    again.ask("/reset", "A new chat.")
    again.ask(f"/load {chat.id}", "Dogs", "> What is my dog called?")
    again.ask("/load 1zzz", "There is no chat 1zzz.")
    leave(again)
    first_prompt, second_prompt = prompts(history)
    assert second_prompt > first_prompt + 20


def prompts(history: History) -> list[int]:
    """How many tokens the model read for each answer of the latest chat."""
    chat = history.latest()
    assert chat
    return [said.usage["prompt_tokens"] for said in chat.said.values() if said.message.role == "assistant"]


@pytest.mark.slow
def test_a_single_question_goes_on_with_the_last_chat(filbert: Run, history: History) -> None:
    assert filbert("chat", "-q", *GREEDY, "My dog is called Rex.").returncode == 0
    assert filbert("chat", "-q", *GREEDY, "-c", "What is my dog called?").returncode == 0
    first, second = prompts(history)
    assert second > first + 20


def test_no_history_keeps_nothing(screen: Open, filbert: Run, home: Path) -> None:
    before = {path for path in home.rglob("*") if "log" not in path.parts}
    talk = screen("chat", *GREEDY, "--no-history")
    talk.wait_for("Nothing of this chat is kept.")
    talk.ask(PARIS, "Paris")
    talk.ask("/save", "No history is kept.")
    talk.ask("/history", "No history is kept.")
    assert "--resume" not in leave(talk)
    assert {path for path in home.rglob("*") if "log" not in path.parts} - before == set()
    refused = filbert("chat", "--no-history", "--continue", "hi")
    assert (refused.returncode, "no history to go on from" in refused.stderr) == (2, True)


def test_there_may_be_nothing_to_resume(filbert: Run) -> None:
    assert "There is no chat to go on with." in filbert("chat", "--continue", "hi").stderr
    assert "There is no chat 1m86y737." in filbert("chat", "--resume", "1m86y737", "hi").stderr
    both = filbert("chat", "--resume", "1m86y737", "-c", "hi")
    assert (both.returncode, "cannot go on from two" in both.stderr) == (2, True)


@pytest.mark.slow
def test_another_model_goes_on_with_the_conversation(
    screen: Open, starter: Path, tmp_path: Path, history: History
) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    talk = screen("chat", *GREEDY, columns=200)
    talk.ask("My dog is called Rex.")
    talk.ask("/model smolm2:135m", "There is no model smolm2:135m.")
    talk.ask(f"/model {broken}", "error: ")
    talk.ask("What is my dog called?", "dog")
    talk.ask(f"/model {starter}", f"{starter}: context")
    talk.ask("What did I ask?")
    leave(talk)
    first, second, third = prompts(history)
    assert first + 20 < second < third - 20


def test_a_model_to_download_is_asked_for_with_its_size(screen: Open) -> None:
    talk = screen("chat", *GREEDY, columns=200, FILBERT_OFFLINE="0")
    talk.wait_until(talk.waits)
    talk.type("/model gemma3:1b\r")
    talk.wait_for("gemma3:1b is not here. Download about ")
    talk.type("n\r")
    talk.wait_for("Nothing was downloaded. smollm2:135m-q4_1 goes on answering.")
    talk.type("/model gemma3:1b\r")
    talk.wait_until(lambda: talk.emulator.text().count("[y/N]:") == 2)
    talk.wait_for("Stopped. smollm2:135m-q4_1 goes on answering.", pressing="\x03")
    leave(talk)


def test_what_was_typed_is_found_again_and_for_nobody_else(screen: Open, home: Path) -> None:
    talk = screen("chat", *GREEDY)
    talk.ask("/system You are a nut.", "You are a nut.")
    leave(talk)
    typed = home / "typed.jsonl"
    assert stat.S_IMODE(typed.stat().st_mode) == 0o600
    again = screen("chat", *GREEDY)
    again.wait_until(again.waits)
    again.type("\x1b[A")
    again.wait_for("> /system You are a nut.")


@pytest.mark.slow
def test_commands_models_and_files_are_completed(screen: Open, tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("a nut")
    talk = screen("chat", *GREEDY, "--no-history", columns=200, rows=30)
    talk.wait_until(talk.waits)
    talk.type("/sta")
    talk.wait_for("tokens and speed")
    talk.type("\t\x15/model smollm2:135m-")
    talk.wait_for("installed")
    talk.type("\t")
    talk.wait_for("> /model smollm2:135m-q4_1")
    talk.type(f"\x15/export {tmp_path}/no")
    talk.wait_until(lambda: "/no" in talk.emulator.text())
    talk.type("\t")
    talk.wait_until(lambda: "notes.md" in talk.emulator.text().replace("\n", ""))


def test_a_damaged_history_offers_nothing_and_keeps_the_prompt_whole(screen: Open, home: Path) -> None:
    talk = screen("chat", *GREEDY)
    talk.wait_until(talk.waits)
    (home / "chats.db").write_bytes(b"nonsense" * 1000)
    talk.type("/load 1")
    talk.wait_for("> /load 1")
    talk.type("\x15")
    talk.ask("/history", "is damaged")
    assert "Traceback" not in talk.emulator.text()


@pytest.mark.slow
def test_what_is_attached_goes_with_the_next_question(screen: Open, history: History, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("Filberts are hazelnuts.")
    talk = screen("chat", *GREEDY, "--attach", str(tmp_path / "notes.txt"), columns=120)
    talk.wait_for("[notes.txt (23 bytes of text)]")
    talk.ask("What are filberts?", "ilbert")
    talk.ask(f"/attach {tmp_path}/notes.txt", "[notes.txt (23 bytes of text)]")
    talk.ask("And now?")
    leave(talk)
    chat = history.latest()
    assert chat
    questions = [said.message.content for said in chat.said.values() if said.message.role == "user"]
    assert [len(parts) for parts in questions] == [2, 2]


def test_a_command_that_is_spelled_wrong_offers_the_nearest(screen: Open) -> None:
    talk = screen("chat", *GREEDY, "--no-history", columns=120)
    talk.ask("/stast", "There is no /stast. Did you mean /stats?")
    talk.ask("/", "There is no /. /help lists what there is.")
    talk.ask("/export", "/export needs something more. Type /export FILE.")
    talk.ask("/think hard", "Choose one of")
    talk.ask("/think on", "cannot think before it answers")
    talk.ask("/think off", "think: off")
    talk.ask("/attach nowhere.txt", "nowhere.txt")


def test_several_lines_are_typed_with_alt_enter(screen: Open) -> None:
    talk = screen("chat", "-q", "--no-history")
    talk.wait_until(talk.waits)
    talk.type("/system one\x1b\rtwo")
    talk.wait_for("… two")
    talk.type("\\\r")
    talk.type("three")
    talk.wait_for("… three")
    talk.type("\r")
    talk.wait_for("one\ntwo\nthree\n")


@pytest.mark.slow
def test_a_chat_is_exported_as_it_stands(screen: Open, tmp_path: Path) -> None:
    talk = screen("chat", *GREEDY, "--no-history", columns=200)
    talk.ask(PARIS, "Paris")
    talk.ask("/history x", "No history is kept.")
    talk.ask(f"/export {tmp_path}/chat.md", "Written")
    talk.ask(f"/export {tmp_path}/chat.json", "Written")
    talk.ask(f"/export {tmp_path}/chat.doc", "End its name in .md or .json.")
    talk.ask(f"/export {tmp_path}/nodir/chat.md", f"There is no folder {tmp_path}/nodir.")
    (tmp_path / "mine.md").write_text("mine")
    talk.type(f"/export {tmp_path}/mine.md\r")
    talk.wait_for("mine.md is there already. Overwrite it? [y/N]")
    talk.type("\r")
    talk.wait_for("Nothing was written.")
    assert (tmp_path / "mine.md").read_text() == "mine"
    talk.ask(f"/export --force {tmp_path}/mine.md", "Written")
    assert "What is the capital" in (tmp_path / "mine.md").read_text("utf-8")
    assert "## User\n\nWhat is the capital" in (tmp_path / "chat.md").read_text("utf-8")
    (chat,) = json.loads((tmp_path / "chat.json").read_text("utf-8"))["chats"]
    assert [message["role"] for message in chat["messages"]] == ["user", "assistant"]


@pytest.mark.slow
def test_ctrl_c_stops_the_answer_and_what_is_typed_meanwhile_waits(screen: Open) -> None:
    talk = screen("chat", "--seed", "1", "--temperature", "0", "--max-tokens", "200")
    talk.wait_until(talk.waits)
    talk.type("Write a very long story about the sea.\r")
    talk.wait_until(lambda: len(talk.emulator.lines()) > 6)
    talk.type("\x03")
    talk.wait_for("(stopped)")
    talk.ask("/stats", "ended by cancelled")
    talk.type("What is 2+2?\r")
    talk.type("/system\r")  # while the answer comes
    talk.wait_for("> /system\nThere is no system message.")
    leave(talk)


@pytest.mark.slow
def test_kill_9_in_the_middle_of_an_answer_keeps_what_was_said(screen: Open, history: History) -> None:
    talk = screen("chat", "--seed", "1", "--temperature", "0")
    talk.wait_until(talk.waits)
    talk.type("Write a very long story about the sea.\r")
    talk.wait_until(lambda: len(talk.emulator.lines()) > 12)
    os.kill(talk.process.pid, signal.SIGKILL)
    talk.wait()
    (chat,) = history.chats()
    question, answer = history.chat(chat.id).path(history.chat(chat.id).leaf)
    assert question.message.content == "Write a very long story about the sea."
    assert answer.was_cut and len(str(answer.message.content)) > 50
    again = screen("chat", *GREEDY, "--continue")
    again.wait_for("> Write a very long story about the sea.")
    again.ask(PARIS, "Paris")
    leave(again)


@pytest.mark.slow
def test_two_terminals_on_one_chat_lose_nothing(screen: Open, history: History) -> None:
    first = screen("chat", *GREEDY)
    first.ask("My dog is called Rex.")
    second = screen("chat", *GREEDY, "--continue")
    second.wait_for("> My dog is called Rex.")
    first.ask("It is brown.")
    second.ask("It is old.")
    leave(first)
    leave(second)
    (chat,) = history.chats()
    asked = {said.message.content for said in history.chat(chat.id).said.values() if said.message.role == "user"}
    assert asked == {"My dog is called Rex.", "It is brown.", "It is old."}
    assert len(history.chat(chat.id).said) == 6


@pytest.mark.slow
@pytest.mark.root
def test_a_full_disk_keeps_the_answer_on_the_screen(screen: Open, small_disk: Path) -> None:
    (small_disk / "models").symlink_to(Path(os.environ["FILBERT_HOME"]) / "models")
    talk = screen("chat", *GREEDY, columns=200, FILBERT_HOME=str(small_disk))
    talk.ask("My dog is called Rex.")
    with suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as filler:
        while filler.write(bytes(4096)):
            pass
    talk.ask(PARIS, "Paris", "What is said from here on is not kept")
    talk.ask("What is my dog called?", "dog")
    leave(talk)
    with History(f"sqlite:///{small_disk}/chats.db") as kept:
        (small_disk / "filler").unlink()
        assert kept.chats()[0].title == "My dog is called Rex."


@pytest.mark.slow
def test_plain_and_no_color_show_the_text_as_it_came(screen: Open) -> None:
    question = "Repeat exactly: **bold**"
    for options, environment in (((), {"NO_COLOR": "1"}), (("--plain",), {})):
        talk = screen("chat", "-q", *GREEDY, *options, question, **environment)
        assert talk.wait() == 0
        assert "**" in talk.emulator.text()
        assert "\x1b" not in "".join(text for _, text in talk.recording)


@pytest.mark.slow
def test_one_answer_on_a_terminal_is_rendered(screen: Open) -> None:
    talk = screen("chat", "-q", *GREEDY, "Repeat exactly: **bold**")
    assert talk.wait() == 0
    assert "\x1b[?2026h" in "".join(text for _, text in talk.recording)
    assert "bold" in talk.emulator.text() and "**" not in talk.emulator.text()
