from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filbert.core.errors import BadInput
from filbert.core.messages import Message, flatten, turns

messages = st.lists(st.builds(Message, st.sampled_from(["system", "user", "assistant", "tool"]), st.text(max_size=3)))


@given(messages)
def test_splitting_into_turns_loses_nothing(conversation: list[Message]) -> None:
    head, rest = turns(conversation)
    assert flatten(head, rest) == conversation
    assert all(message.role == "system" for message in head)


@given(messages)
def test_a_tools_result_stays_with_the_question_that_led_to_it(conversation: list[Message]) -> None:
    _, rest = turns(conversation)
    assert all(turn[0].role == "user" for turn in rest[1:])
    assert all(message.role != "user" for turn in rest for message in turn[1:])


def test_a_call_with_its_result_and_answer_is_one_turn() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    conversation = [
        Message("system", "Be brief."),
        Message("user", "Weather?"),
        Message("assistant", tool_calls=(call,)),
        Message("tool", "sunny", tool_call_id="1", name="weather"),
        Message("assistant", "It is sunny."),
        Message("user", "Thanks."),
    ]
    head, rest = turns(conversation)
    assert [len(head), *(len(turn) for turn in rest)] == [1, 4, 1]
    assert conversation[2].to_json() == {"role": "assistant", "content": "", "tool_calls": [call]}
    assert conversation[3].to_json() == {"role": "tool", "content": "sunny", "tool_call_id": "1", "name": "weather"}


@pytest.mark.parametrize("content", [None, 3, b"bytes", ["list"], {"text": "x"}])
def test_content_that_is_no_text_is_refused(content: Any) -> None:
    with pytest.raises(BadInput, match="A message holds text"):
        Message("user", content)


def test_the_texts_of_a_message_are_paragraphs_of_one() -> None:
    parts = ({"type": "text", "text": "```\na file\n```"}, {"type": "text", "text": "What?"})
    message = Message("user", parts)
    assert message.text == "```\na file\n```\n\nWhat?"
    assert message.to_json()["content"] == message.text
