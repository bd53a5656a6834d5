from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import make_tiny
from filbert import Message, Model, Sampling
from filbert.chat.conversation import Conversation
from filbert.chat.history import History
from filbert.chat.record import Chat, Said
from filbert.core.errors import BadInput, ContextOverflow, EngineCrashed
from running import worker_pid

Babbler = Callable[..., Model]
BRIEF = Sampling(max_tokens=4, grammar='root ::= "x" root')
LONG = Sampling(max_tokens=1500, grammar='root ::= "x" root')


@pytest.fixture
def history(home: Path) -> Iterator[History]:
    with History() as opened:
        yield opened


@pytest.fixture
def talk(babbler: Babbler, history: History) -> Callable[..., Conversation]:
    model = babbler(context=2048)

    def begin(*questions: str, kept: bool = True, **options: Any) -> Conversation:
        conversation = Conversation(model, history if kept else None, sampling=BRIEF, **options)
        for question in questions:
            conversation.send(question).reply()
        return conversation

    return begin


Talk = Callable[..., Conversation]


def said(conversation: Conversation) -> str:
    return " ".join(str(message.content) for message in conversation.messages)


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "without a history"])
def test_a_question_can_be_asked_otherwise_in_a_branch_of_its_own(talk: Talk, kept: bool) -> None:
    conversation = talk("one", "two", kept=kept, system="S")
    conversation.edit(3, "three").reply()
    assert said(conversation) == "S one xxxx three xxxx"
    assert [str(branch.message.content) for branch in conversation.branches(3)] == ["two", "three"]
    conversation.branch(3, 1)
    assert said(conversation) == "S one xxxx two xxxx"
    conversation.branch(2)
    conversation.send("four").reply()
    assert said(conversation) == "S one xxxx four xxxx"
    assert len(conversation.branches(3)) == 3
    conversation.branch(3, 2)
    assert said(conversation) == "S one xxxx three xxxx"


def test_a_new_answer_stands_beside_the_old_one(talk: Talk) -> None:
    conversation = talk("one")
    conversation.regenerate().reply()
    assert [branch.finish for branch in conversation.branches(2)] == ["length", "length"]
    assert said(conversation) == "one xxxx"


def test_what_is_no_question_cannot_be_edited_and_what_is_not_there_neither(talk: Talk) -> None:
    conversation = talk("one")
    with pytest.raises(BadInput, match="no question"):
        conversation.edit(2, "two")
    for number in (0, 3, -1):
        with pytest.raises(BadInput, match=f"no message {number}"):
            conversation.edit(number, "two")
    with pytest.raises(BadInput, match="has 1 branches"):
        conversation.branch(1, 2)


def test_a_resumed_chat_goes_on_where_it_stood_with_all_its_branches(talk: Talk, history: History) -> None:
    first = talk("one", "two", system="S")
    first.edit(3, "three").reply()
    again = talk(chat=first.chat_id[:-2])
    assert again.messages == first.messages
    assert (again.path, again.title, again.system) == (first.path, "one", "S")
    again.send("four").reply()
    assert said(again) == "S one xxxx three xxxx four xxxx"
    assert len(history.chats()) == 1
    again.branch(3, 1)
    assert said(talk(chat=first.chat_id)) == "S one xxxx two xxxx"


def test_an_answer_is_kept_with_its_model_its_sampling_and_its_figures(talk: Talk, history: History) -> None:
    conversation = talk("one")
    answer = history.chat(conversation.chat_id).said[2]
    assert (answer.model, answer.finish) == (conversation.model.name, "length")
    assert answer.sampling["max_tokens"] == 4
    assert answer.usage["completion_tokens"] == 4
    assert answer.timings["generation_tps"] > 0


def test_another_model_goes_on_with_the_conversation(talk: Talk, babbler: Babbler, history: History) -> None:
    conversation = talk("one")
    other = babbler(context=1024)
    conversation.use(other)
    conversation.send("two").reply()
    assert said(conversation) == "one xxxx two xxxx"
    assert conversation.last_finish and conversation.last_finish.usage.prompt_tokens > 10
    assert history.chats()[0].model == other.name


def test_the_title_is_the_first_question_until_a_person_sets_it(talk: Talk, history: History) -> None:
    conversation = talk("Why is   the sky\nblue " + "and the sea green " * 9)
    assert conversation.title.startswith("Why is the sky blue and the sea green") and conversation.title.endswith("…")
    assert len(conversation.title) <= 61
    conversation.title = "Colours"
    conversation.send("more").reply()
    assert history.chats()[0].title == "Colours"
    assert (talk().title, talk().chat_id) == ("Untitled", "")


def test_the_system_message_is_kept_and_can_be_changed(talk: Talk, history: History) -> None:
    conversation = talk("one", system="S")
    conversation.system = "T"
    assert (said(conversation), history.chat(conversation.chat_id).system) == ("T one xxxx", "T")
    conversation.system = ""
    conversation.send("two").reply()
    assert said(talk(chat=conversation.chat_id)) == "one xxxx two xxxx"


def test_reset_begins_a_new_chat_and_the_old_one_stays(talk: Talk, history: History) -> None:
    conversation = talk("one", system="S")
    old = conversation.chat_id
    conversation.reset()
    conversation.send("two").reply()
    assert said(conversation) == "S two xxxx"
    assert [chat.title for chat in history.chats()] == ["two", "one"]
    assert conversation.chat_id != old


def test_the_question_is_stored_before_it_is_answered(talk: Talk, history: History) -> None:
    conversation = talk()
    turn = conversation.send("one")
    assert [str(kept.message.content) for kept in history.chat(conversation.chat_id).said.values()] == ["one"]
    turn.reply()


def test_an_answer_stopped_before_its_first_word_leads_back_to_where_it_was(talk: Talk, history: History) -> None:
    conversation = talk("one")
    conversation.edit(1, "two").cancel()
    assert said(conversation) == "one xxxx"
    kept = history.chat(conversation.chat_id)
    assert [str(step.message.content) for step in kept.path(kept.leaf)] == ["one", "xxxx"]
    assert len(kept.said) == 3
    conversation.send("three").reply()
    assert said(conversation) == "one xxxx three xxxx"


def test_a_question_too_long_is_refused_and_not_kept(talk: Talk, history: History) -> None:
    conversation = talk()
    with pytest.raises(ContextOverflow):
        conversation.send("z" * 9000)
    assert history.chats() == []


def test_a_crash_of_the_engine_leaves_what_was_said(babbler: Babbler, history: History) -> None:
    conversation = Conversation(babbler(context=2048), history, sampling=LONG)
    with pytest.raises(EngineCrashed):
        for number, _ in enumerate(conversation.send("one")):
            if number == 5:
                os.kill(worker_pid(conversation.model), signal.SIGKILL)
    kept = history.chat(conversation.chat_id).said
    assert str(kept[2].message.content).startswith("xxx")
    assert kept[2].finish == "cancelled"


SPEAKER = """
import sys
from filbert import Sampling, load
from filbert.chat.conversation import Conversation
from filbert.chat.history import History
model = load(sys.argv[1], context=8192)
conversation = Conversation(model, History(), sampling=Sampling(max_tokens=8000, grammar='root ::= "x" root'))
for chunk in conversation.send("Say x again and again."):
    print(chunk.text, flush=True)
"""


def test_what_was_said_so_far_is_there_after_kill_9_in_mid_answer(tmp_path: Path, history: History) -> None:
    tiny = make_tiny.dense(tmp_path / "tiny.gguf")
    process = subprocess.Popen([sys.executable, "-c", SPEAKER, str(tiny)], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    for _ in range(1200):
        assert process.stdout.readline()
    process.kill()
    process.wait()
    chat = history.latest()
    assert chat
    question, answer = chat.path(chat.leaf)
    assert question.message == Message("user", "Say x again and again.")
    assert answer.was_cut
    assert set(str(answer.message.content)) == {"x"}


def test_a_question_that_was_never_answered_gives_way_to_the_next(talk: Talk, history: History) -> None:
    chat = Chat()
    history.begin(chat)
    history.add(chat.id, Said(Message("user", "lost in a crash")))
    conversation = talk("asked again", chat=chat.id)
    assert said(conversation) == "asked again xxxx"
    again = talk(chat=chat.id)
    again.branch(1, 1)
    again.regenerate().reply()
    assert said(again) == "lost in a crash xxxx"


def test_two_conversations_in_one_chat_lose_nothing_of_each_other(talk: Talk, history: History) -> None:
    first = talk("one")
    second = talk(chat=first.chat_id)
    first.send("from the first").reply()
    second.send("from the second").reply()
    both = talk(chat=first.chat_id)
    assert said(both) == "one xxxx from the second xxxx"
    assert len(both.branches(3)) == 2


def test_a_chat_that_another_process_deletes_goes_on_and_is_not_kept(talk: Talk, history: History) -> None:
    conversation = talk("one")
    history.delete(conversation.chat_id)
    conversation.send("two").reply()
    assert said(conversation) == "one xxxx two xxxx"
    assert "Another Filbert deleted it" in conversation.unkept
    conversation.use(conversation.model)
    assert history.chats() == []


def test_attachments_stay_with_a_question_that_is_edited(talk: Talk, history: History) -> None:
    file = {"type": "text", "text": "of the file"}
    conversation = talk()
    conversation.send("one", attachments=(file,)).reply()
    conversation.edit(1, "two").reply()
    assert conversation.path[0].message.content == (file, {"type": "text", "text": "two"})
    assert talk(chat=conversation.chat_id).messages == conversation.messages


@pytest.mark.root
def test_a_full_disk_stops_the_keeping_and_not_the_conversation(
    babbler: Babbler, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FILBERT_HOME", str(small_disk))
    with History() as history:
        conversation = Conversation(babbler(context=2048), history, sampling=BRIEF)
        conversation.send("one").reply()
        filler = small_disk / "filler"
        with pytest.raises(OSError, match="No space"), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        conversation.send("two " * 100).reply()
        conversation.send("three").reply()
        assert len(conversation.messages) == 6
        assert "not kept" in conversation.unkept
        filler.unlink()
        kept = history.chat(history.chats()[0].id)
        assert [str(step.message.content) for step in kept.path(kept.leaf)][:2] == ["one", "xxxx"]
