"""Functions that a model calls. A model of random weights calls as well as any where it must."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Annotated, Any, Literal

import pytest
from pydantic import AfterValidator

import filbert
from filbert import Chunk, Message, Model, Tool
from filbert.chat.conversation import Conversation
from filbert.chat.history import History
from filbert.chat.tool_loop import LEAST_RESULT_CHARS, with_short_results
from filbert.core.errors import BadInput

Babbler = Callable[..., Model]
WISH: dict[str, Any] = {"max_tokens": 120, "seed": 1}


def clock() -> str:
    """The time now."""
    return "noon"


def colour(name: Literal["red", "blue"]) -> dict[str, str]:
    """What a colour is called elsewhere."""
    return {"name": name}


@pytest.fixture
def one_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it has to answer, for random weights would call for ever."""
    monkeypatch.setenv("FILBERT_TOOLS_MAX_ROUNDS", "1")


def roles(session: filbert.ChatSession) -> str:
    return "".join(message.role[0] for message in session.messages)


def results(session: filbert.ChatSession) -> list[str]:
    return [message.text for message in session.messages if message.role == "tool"]


def first_result(model: Model, function: Callable[..., Any], **more: Any) -> str:
    session = model.chat(tools=[function], tool_choice="required", **{**WISH, **more})
    session.send("x").reply()
    return results(session)[0]


def test_a_call_its_result_and_the_answer_are_seen_and_kept(starter_model: Model, one_round: None) -> None:
    session = starter_model.chat(tools=[colour], tool_choice="required", temperature=0, max_tokens=60)
    chunks = list(session.send("What is red?"))
    assert roles(session) == "uata"
    call, result, answer = session.messages[1:]
    (called,) = call.tool_calls
    assert called["function"]["name"] == "colour"
    assert json.loads(result.text) == json.loads(called["function"]["arguments"])
    assert (result.tool_call_id, result.name) == (called["id"], "colour")
    assert [message for chunk in chunks for message in chunk.tool_results] == [result]
    assert "".join(chunk.text for chunk in chunks) == answer.text != ""
    assert [chunk.finish is not None for chunk in chunks].count(True) == 1 and chunks[-1].finish
    assert session.last_finish == chunks[-1].finish
    named_first = next(i for i, chunk in enumerate(chunks) if chunk.tool_calls)
    assert named_first < next(i for i, chunk in enumerate(chunks) if chunk.tool_results)


def test_a_reply_is_the_last_answer(babbler: Babbler, one_round: None) -> None:
    session = babbler(context=1024).chat(tools=[clock], tool_choice="clock", **WISH)
    turn = session.send("x")
    reply = turn.reply()
    assert (reply.text, reply.tool_calls) == (session.messages[-1].text, ())
    assert results(session) == ["noon"]


def test_a_turn_sums_what_its_rounds_took(babbler: Babbler, one_round: None) -> None:
    session = babbler(context=1024).chat(tools=[clock], tool_choice="clock", **WISH)
    turn = session.send("x")
    finish = turn.reply().finish
    assert turn.usage.prompt_tokens > finish.usage.prompt_tokens > 0
    assert turn.usage.completion_tokens > finish.usage.completion_tokens


def test_rounds_are_bounded(babbler: Babbler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FILBERT_TOOLS_MAX_ROUNDS", "3")
    schema = {"type": "object", "properties": {"name": {"const": "clock"}, "arguments": {"const": {}}}}
    wish = {**WISH, "json_schema": {**schema, "required": ["name", "arguments"]}}  # it can say nothing else
    session = babbler(context=1024).chat(tools=[clock], **wish)
    session.send("x").reply()
    assert results(session) == ["noon"] * 3


def fails() -> None:
    """Fails."""
    raise KeyError("no such thing")


def leaves() -> None:
    """Leaves."""
    raise SystemExit(3)


async def waits() -> str:
    """Waits a moment."""
    await asyncio.sleep(0.01)
    return "waited"


def gives_bytes() -> bytes:
    """Bytes."""
    return b"\xff\x00"


def gives_half_a_pair() -> str:
    """Half."""
    return "half \ud83d"


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise ValueError


def fails_unspeakably() -> None:
    """Fails."""
    raise Unspeakable


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (gives_half_a_pair, "half ?"),
        (fails_unspeakably, '{"error": "Unspeakable"}'),
        (fails, '{"error": "KeyError: \'no such thing\'"}'),
        (leaves, '{"error": "SystemExit: 3"}'),
        (waits, "waited"),
        (gives_bytes, "(2 bytes that are no text)"),
    ],
)
def test_whatever_a_tool_does_the_model_hears_it(
    babbler: Babbler, one_round: None, function: Callable[..., Any], text: str
) -> None:
    assert first_result(babbler(context=1024), function) == text


def test_a_flood_is_cut_and_says_so(babbler: Babbler, one_round: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def flood() -> str:
        """Much."""
        return "x" * 50_000_000

    monkeypatch.setenv("FILBERT_TOOLS_MAX_RESULT_CHARS", "100")
    assert first_result(babbler(context=1024), flood) == "x" * 100 + "\n(The first 100 of 50000000 characters.)"


@pytest.mark.slow
@pytest.mark.parametrize("flood", ["one two three ", "0123456789 ", "漢字仮名", "🜁🜂"])
def test_a_flood_never_overflows_the_context(starter_model: Model, one_round: None, flood: str) -> None:
    """A character may have several tokens."""

    def much() -> str:
        """Much."""
        return flood * 100_000

    session = starter_model.chat(tools=[much], tool_choice="required", **WISH)
    session.send("x").reply()
    assert roles(session) == "uata"
    assert len(results(session)[0]) > 8000  # kept whole as far as a result is, shown as far as it fits


def test_the_longest_results_are_cut_until_the_turn_fits_and_none_below_its_least() -> None:
    said = [Message("user", "x" * 500), *(Message("tool", "y" * size) for size in (100, 6000, 900))]
    short = with_short_results(said, lambda messages: sum(len(message.text) for message in messages) < 2000)
    assert [len(message.text.partition("\n")[0]) for message in short] == [500, 100, 750, 450]
    least = with_short_results(said, lambda messages: False)
    assert all(len(message.text.partition("\n")[0]) <= LEAST_RESULT_CHARS for message in least[1:])
    assert said[2].text == "y" * 6000


def test_a_tool_that_hangs_is_left_to_itself(
    babbler: Babbler, one_round: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FILBERT_TOOLS_TIMEOUT_S", "0.2")
    let_go, ended = threading.Event(), threading.Event()

    def hangs() -> None:
        """Hangs."""
        let_go.wait(60)
        ended.set()

    assert first_result(babbler(context=1024), hangs) == '{"error": "There was no result within 0.2 s."}'
    assert not ended.is_set()
    let_go.set()
    assert ended.wait(60)


def known(name: str) -> str:
    if name != "Ulm":
        raise ValueError("no town")
    return name


def weather(town: Annotated[Literal["Bonn", "Rome"], AfterValidator(known)]) -> str:
    """The weather. The schema does not say which towns the check knows."""
    return town


def test_arguments_that_are_wrong_go_back_to_the_model(babbler: Babbler, one_round: None) -> None:
    assert first_result(babbler(context=1024), weather) == '{"error": "ValueError: town: Value error, no town"}'


def test_cancelling_while_a_tool_runs_ends_the_turn(babbler: Babbler) -> None:
    begun, let_go = threading.Event(), threading.Event()

    def slow() -> None:
        """Slow."""
        begun.set()
        let_go.wait(60)

    session = babbler(context=1024).chat(tools=[slow], tool_choice="required", **WISH)
    turn = session.send("x")
    threading.Thread(target=lambda: (begun.wait(60), turn.cancel())).start()
    chunks = list(turn)
    let_go.set()
    assert chunks[-1].finish and chunks[-1].finish.reason == "cancelled"
    assert roles(session) == "uat"
    assert results(session) == ['{"error": "It was stopped before it had a result."}']


def test_ctrl_c_while_a_tool_runs_leaves_the_conversation_whole(babbler: Babbler) -> None:
    let_go = threading.Event()

    def interrupted() -> None:
        """Ctrl-C comes in the midst of it."""
        os.kill(os.getpid(), signal.SIGINT)
        let_go.wait(60)

    session = babbler(context=1024).chat(tools=[interrupted], tool_choice="required", **WISH)
    with pytest.raises(KeyboardInterrupt):
        session.send("x").reply()
    let_go.set()
    assert results(session) == ['{"error": "It was stopped before it had a result."}']
    session.tool_choice = "none"
    session.send("y").reply()
    assert roles(session) == "uatua"


def test_leaving_the_loop_at_a_call_keeps_a_result_for_it(babbler: Babbler) -> None:
    session = babbler(context=1024).chat(tools=[clock], tool_choice="required", **WISH)
    for chunk in session.send("x"):
        if chunk.tool_results:
            break
    assert roles(session) == "uat"
    session.tool_choice = "none"
    session.send("y").reply()
    assert roles(session) == "uatua"


def test_a_turn_that_calls_can_be_awaited_and_streamed(babbler: Babbler, one_round: None) -> None:
    session = babbler(context=1024).chat(tools=[clock], tool_choice="required", **WISH)

    async def talk() -> list[Chunk]:
        return [chunk async for chunk in session.asend("x")]

    chunks = asyncio.run(talk())
    assert [message.text for chunk in chunks for message in chunk.tool_results] == ["noon"]
    assert roles(session) == "uata"


def test_a_tool_without_a_function_is_answered_by_the_caller(babbler: Babbler) -> None:
    session = babbler(context=1024).chat(tools=[Tool("radio", "A radio.")], tool_choice="required", **WISH)
    reply = session.send("x").reply()
    (call,) = reply.tool_calls
    assert (reply.finish.reason, roles(session)) == ("tool_calls", "ua")
    for wrong, says in (({}, "has no result"), ({"nix": 1}, "There is no call nix")):
        with pytest.raises(BadInput, match=says):
            session.answer_calls(wrong)
    session.tool_choice = "none"
    session.answer_calls({call["id"]: {"song": "la"}}).reply()
    assert results(session) == ['{"song":"la"}']
    assert roles(session).startswith("uat")


def test_there_is_nothing_to_answer_where_nothing_was_called(babbler: Babbler) -> None:
    session = babbler(context=1024).chat(tools=[clock], **WISH)
    with pytest.raises(BadInput, match="calls nothing"):
        session.answer_calls({"1": 2})


def test_generate_tells_calls_and_calls_nothing(babbler: Babbler) -> None:
    def never() -> None:
        """Never called."""
        raise AssertionError

    reply = babbler(context=1024).generate("x", tools=[never], tool_choice="never", **WISH).reply()
    assert [call["function"]["name"] for call in reply.tool_calls] == ["never"]


def test_a_call_that_is_cut_is_not_made(babbler: Babbler) -> None:
    session = babbler(context=1024).chat(tools=[clock], tool_choice="required", max_tokens=6)
    reply = session.send("x").reply()
    assert reply.finish.reason == "length"
    assert roles(session) == ""


def test_old_turns_are_forgotten_for_tools_and_results_too(babbler: Babbler, one_round: None) -> None:
    model = babbler(context=700)
    session = model.chat(tools=[clock], tool_choice="required", max_tokens=60)
    session.messages += [Message(role, "y" * 60) for role in ("user", "assistant") * 4]
    turn = session.send("x")
    turn.reply()
    assert turn.forgotten_turns > 0
    assert results(session) == ["noon"]


def test_a_conversation_keeps_calls_and_results_in_its_history(babbler: Babbler, one_round: None) -> None:
    model = babbler(context=1024)
    with History() as history:
        talk = Conversation(model, history, sampling=filbert.Sampling.model_validate(WISH), tools=[clock])
        talk.tool_choice = "required"
        talk.send("x").reply()
        kept = history.chat(talk.chat_id)
        messages = [said.message for said in kept.path(kept.leaf)]
    assert [message.role for message in messages] == ["user", "assistant", "tool", "assistant"]
    assert messages == talk.messages
    assert [said.finish for said in kept.path(kept.leaf)] == ["", "tool_calls", "", kept.path(kept.leaf)[-1].finish]


def test_a_tool_that_comes_late_does_not_answer_the_next_call(
    babbler: Babbler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FILBERT_TOOLS_TIMEOUT_S", "0.3")
    monkeypatch.setenv("FILBERT_TOOLS_MAX_ROUNDS", "2")
    calls: list[int] = []

    def drowsy() -> str:
        """Slow the first time."""
        calls.append(1)
        if len(calls) == 1:
            time.sleep(0.5)
            return "late"
        time.sleep(0.25)
        return "in time"

    schema = {"type": "object", "properties": {"name": {"const": "drowsy"}, "arguments": {"const": {}}}}
    wish = {**WISH, "json_schema": {**schema, "required": ["name", "arguments"]}}
    session = babbler(context=1024).chat(tools=[drowsy], **wish)
    session.send("x").reply()
    assert results(session) == ['{"error": "There was no result within 0.3 s."}', "in time"]
