from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

import pytest

from filbert import ChatSession, Message, Model, Reply
from filbert.core.errors import BadInput, ContextOverflow, EngineCrashed
from running import busy_slots, until, worker_pid

Babbler = Callable[..., Model]
BRIEF = {"max_tokens": 4, "grammar": 'root ::= "x" root'}  # four tokens, always


def roles(session: ChatSession) -> str:
    return "".join(message.role[0] for message in session.messages)


def test_a_session_remembers_what_was_said(starter_model: Model) -> None:
    session = starter_model.chat(temperature=0, max_tokens=8)
    first = session.send("The capital of France is Paris.").reply()
    second = session.send("What did I say?").reply()
    assert [message.content for message in session.messages[1::2]] == [first.text, second.text]
    assert second.usage.prompt_tokens == starter_model.count_tokens(session.messages[:3])


def test_the_second_turn_finds_its_prompt_in_the_cache(starter_model: Model) -> None:
    session = starter_model.chat("You are brief.", temperature=0, max_tokens=8)
    first = session.send("Tell me about the river Loire and its castles.").reply()
    second = session.send("And the Rhine?").reply()
    assert second.usage.cached_tokens >= first.usage.prompt_tokens


def test_the_system_message_comes_first_and_can_be_changed(babbler: Babbler) -> None:
    session = babbler().chat("Be kind.", **BRIEF)
    session.send("hi").reply()
    assert (session.system, roles(session)) == ("Be kind.", "sua")
    session.system = "Be brief."
    assert (session.messages[0], roles(session)) == (Message("system", "Be brief."), "sua")
    session.system = ""
    assert (session.system, roles(session)) == ("", "ua")


def test_reset_forgets_all_but_the_system_message(babbler: Babbler) -> None:
    session = babbler().chat("Be kind.", **BRIEF)
    session.send("hi").reply()
    session.reset()
    assert roles(session) == "s"
    assert session.send("hi").forgotten_turns == 0


def test_regenerate_answers_the_last_question_anew(babbler: Babbler) -> None:
    session = babbler().chat(**BRIEF)
    session.send("one").reply()
    session.send("two").reply()
    session.regenerate().reply()
    assert roles(session) == "uaua"
    assert session.messages[2].content == "two"


def test_there_is_nothing_to_regenerate_before_anything_was_said(babbler: Babbler) -> None:
    with pytest.raises(BadInput, match="nothing to answer again"):
        babbler().chat("Be kind.").regenerate()


def test_a_full_context_forgets_the_oldest_turns_and_tells_how_many(babbler: Babbler) -> None:
    session = babbler(context=512).chat("SYSTEM", **BRIEF)
    told = []
    for number in range(20):
        turn = session.send(f"question {number:02} " + "y" * 40)
        reply = turn.reply()
        told.append(turn.forgotten_turns)
        assert reply.text == "xxxx"
        assert reply.usage.prompt_tokens + 4 <= 512
    assert told == sorted(told)
    assert told[0] == 0
    assert 10 < told[-1] < 19
    assert len(session.messages) == 41, "the session itself forgets nothing"


def test_what_is_left_out_is_whole_turns_and_never_the_system_message_or_the_question(babbler: Babbler) -> None:
    model = babbler(context=512)
    session = model.chat("S" * 100, **BRIEF)
    for number in range(8):
        session.send(f"{number}" * 60).reply()
    turn = session.send("Q" * 100)
    reply = turn.reply()
    kept = [session.messages[0], *session.messages[1 + 2 * turn.forgotten_turns : -1]]
    assert reply.usage.prompt_tokens == model.count_tokens(kept)
    assert kept[1].role == "user"
    assert kept[-1].content == "Q" * 100


def test_forgetting_leaves_room_so_that_the_next_turns_find_the_cache(babbler: Babbler) -> None:
    session = babbler(context=512).chat("SYSTEM", **BRIEF)
    forgotten, cached = [], []
    for number in range(20):
        turn = session.send(f"question {number:02} " + "y" * 40)
        cached.append(turn.reply().usage.cached_tokens)
        forgotten.append(turn.forgotten_turns)
    unchanged = [cached[at] for at in range(1, 20) if forgotten[at] == forgotten[at - 1]]
    assert len(unchanged) >= 10
    assert min(unchanged) > 60


def test_a_tools_result_is_forgotten_with_its_call(babbler: Babbler) -> None:
    session = babbler(context=512).chat(**BRIEF)
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    session.messages = [
        Message("user", "w" * 200),
        Message("assistant", tool_calls=(call,)),
        Message("tool", "sunny " * 20, tool_call_id="1"),
        Message("assistant", "Sunny."),
        Message("user", "u" * 100),
        Message("assistant", "Yes."),
    ]
    turn = session.send("v" * 60)
    turn.reply()
    assert turn.forgotten_turns == 1


def test_a_question_too_long_by_itself_is_refused_and_nothing_is_forgotten_for_it(babbler: Babbler) -> None:
    session = babbler(context=256).chat("Be kind.", **BRIEF)
    session.send("hi").reply()
    with pytest.raises(ContextOverflow, match="context holds 256"):
        session.send("z" * 300)
    assert roles(session) == "sua"
    turn = session.send("hi again")
    assert turn.forgotten_turns == 0
    assert turn.text == "xxxx"


def test_overflow_error_refuses_rather_than_forgets(babbler: Babbler) -> None:
    session = babbler(context=256).chat(overflow="error", **BRIEF)
    session.send("y" * 100).reply()
    with pytest.raises(ContextOverflow):
        session.send("y" * 200)
    assert roles(session) == "ua"
    assert session.send("short").text == "xxxx"


def test_a_cancelled_answer_is_kept_as_far_as_it_went(starter_model: Model) -> None:
    session = starter_model.chat(temperature=0)
    turn = session.send("Write a long story.")
    for chunk in turn:
        if chunk.text:
            turn.cancel()
    assert session.messages[-1].role == "assistant"
    assert session.messages[-1].content == turn.reply().text != ""
    assert session.last_finish
    assert session.last_finish.reason == "cancelled"
    assert until(lambda: busy_slots(starter_model) == 0)


def test_an_answer_cancelled_before_its_first_word_leaves_no_trace(babbler: Babbler) -> None:
    session = babbler().chat("Be kind.", **BRIEF)
    session.send("hi").cancel()
    assert roles(session) == "s"
    session.send("hi").reply()
    before = list(session.messages)
    session.regenerate().cancel()
    assert session.messages == before
    assert session.send("more").text == "xxxx"


def test_one_answer_at_a_time(babbler: Babbler) -> None:
    session = babbler().chat(**BRIEF)
    turn = session.send("hi")
    for again in (lambda: session.send("ho"), session.regenerate, session.reset):
        with pytest.raises(BadInput, match="still under way"):
            again()
    turn.reply()
    assert session.send("ho").text == "xxxx"


@pytest.mark.parametrize("after", [0, 5], ids=["before the first word", "in mid-answer"])
def test_a_crash_leaves_the_session_usable(babbler: Babbler, after: int) -> None:
    model = babbler(context=2048, parallel=1)
    session = model.chat("Be kind.", grammar='root ::= "x" root', max_tokens=1500)
    turn = session.send("hi")
    if not after:
        os.kill(worker_pid(model), signal.SIGSTOP)
        os.kill(worker_pid(model), signal.SIGKILL)
        assert until(lambda: not model.children.workers["text"].running)
        for number, _ in enumerate(turn):
            if number == 3:
                break
    else:
        with pytest.raises(EngineCrashed):
            for number, _ in enumerate(turn):
                if number == after:
                    os.kill(worker_pid(model), signal.SIGKILL)
    assert roles(session) == "sua"
    assert str(session.messages[-1].content).startswith("x")
    for number, _ in enumerate(session.send("go on")):
        if number == 3:
            break
    assert roles(session) == "suaua"


def test_a_session_can_be_awaited_and_streamed(babbler: Babbler) -> None:
    async def talk() -> tuple[ChatSession, Reply]:
        session = babbler().chat(**BRIEF)
        reply = await session.asend("hi")
        async for _ in session.asend("ho"):
            pass
        return session, reply

    session, reply = asyncio.run(talk())
    assert reply.text == "xxxx"
    assert roles(session) == "uaua"


def test_an_async_loop_left_early_makes_way_for_the_next_question(babbler: Babbler) -> None:
    async def talk() -> tuple[ChatSession, Reply]:
        session = babbler(context=2048).chat(grammar='root ::= "x" root', max_tokens=500)
        async for chunk in session.asend("hi"):
            if chunk.text:
                break
        return session, await session.asend("ho")

    session, reply = asyncio.run(talk())
    assert reply.usage.completion_tokens == 500
    assert roles(session) == "uaua"


def test_a_history_longer_than_the_engine_could_count_is_forgotten_down_to_what_fits(babbler: Babbler) -> None:
    session = babbler().chat("Be kind.", **BRIEF)
    session.messages += [Message(role, "nuts " * 20_000) for role in ("user", "assistant") * 4]
    turn = session.send("hi")
    assert (turn.reply().text, turn.forgotten_turns) == ("xxxx", 4)
    with pytest.raises(ContextOverflow):
        session.send("nuts " * 20_000)


def test_an_answer_that_may_be_as_long_as_the_context_forgets_nothing_while_there_is_room(babbler: Babbler) -> None:
    session = babbler(context=2048).chat(**{**BRIEF, "grammar": 'root ::= "xxxx"', "max_tokens": 2048})
    forgotten = []
    for _ in range(4):
        turn = session.send("hi")
        turn.reply()
        forgotten.append(turn.forgotten_turns)
    assert forgotten == [0, 0, 0, 0]


def test_an_answer_that_was_cut_says_whether_its_limit_or_the_context_cut_it(babbler: Babbler) -> None:
    free = {"grammar": 'root ::= "x" root'}
    model = babbler(context=200)
    turns = [model.chat(**free, max_tokens=limit).send("hi") for limit in (3, 400)]
    for turn in turns:
        turn.reply()
    limit, context = turns
    assert limit.cut_short == "The answer was cut at its token limit."
    assert context.cut_short == "The answer was cut: the context of 200 tokens is full; a larger --context holds more."
