from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filbert.chat.record import Chat
from filbert.chat.transfer.chatgpt import chat_of
from filbert.core.errors import BadInput


def node(id: str, parent: str | None, role: str = "", content: Any = None, **more: Any) -> dict[str, Any]:
    """A node as the export has it; without a role it says nothing."""
    if role:
        content = {"content_type": "text", "parts": [content]} if isinstance(content, str) else content
        author = {"role": role, "name": more.pop("name", None), "metadata": {}}
        message = {"id": id, "author": author, "content": content, "create_time": 1_700_000_000.5, **more}
    return {"id": id, "parent": parent, "message": message if role else None, "children": more.pop("children", [])}


def conversation(*nodes: dict[str, Any], current: str = "", **more: Any) -> dict[str, Any]:
    mapping = {told["id"]: {**told, "children": []} for told in nodes}
    for told in nodes:
        if told["parent"] in mapping:
            mapping[told["parent"]]["children"].append(told["id"])
    return {
        "title": "A talk",
        "create_time": 1_700_000_000.0,
        "update_time": 1_700_000_100.0,
        "mapping": mapping,
        "current_node": current,
        "conversation_id": "abc-1",
        "default_model_slug": "gpt-4o",
        **more,
    }


def spoken(chat: Chat) -> list[tuple[str, object]]:
    return [(said.message.role, said.message.content) for said in chat.path(chat.leaf)]


BRANCHED = (
    node("root", None),
    node("system", "root", "system", ""),
    node("q1", "system", "user", "Hi"),
    node("a1", "q1", "assistant", "Hello", metadata={"model_slug": "gpt-4o"}),
    node("a2", "q1", "assistant", "Good day"),
    node("q2", "a1", "user", "Bye"),
)


def test_a_conversation_keeps_its_branches_and_stands_where_it_stood() -> None:
    chat = chat_of(conversation(*BRANCHED, current="a2"))
    assert spoken(chat) == [("user", "Hi"), ("assistant", "Good day")]
    assert len(chat.said) == 4
    assert [said.message.content for said in chat.siblings(chat.path(chat.leaf)[1].number)] == ["Hello", "Good day"]
    assert (chat.title, chat.model, chat.source) == ("A talk", "gpt-4o", "chatgpt:abc-1")
    assert (chat.created.year, chat.said[2].model) == (2023, "gpt-4o")


def test_a_thought_goes_with_the_answer_that_follows_it() -> None:
    thoughts = {"content_type": "thoughts", "thoughts": [{"summary": "Counting", "content": "One, two."}]}
    recap = {"content_type": "reasoning_recap", "content": "Thought for 2s"}
    chat = chat_of(
        conversation(
            node("q", None, "user", "How many?"),
            node("t", "q", "assistant", thoughts),
            node("r", "t", "assistant", recap),
            node("a", "r", "assistant", "Two."),
            current="a",
        )
    )
    assert spoken(chat) == [("user", "How many?"), ("assistant", "Two.")]
    assert chat.said[2].message.reasoning == "Counting\n\nOne, two."


def test_a_call_of_a_tool_and_what_it_gave_are_kept() -> None:
    chat = chat_of(
        conversation(
            node("q", None, "user", "2 * 21?"),
            node("c", "q", "assistant", {"content_type": "code", "text": "print(2 * 21)"}, recipient="python"),
            node("o", "c", "tool", {"content_type": "execution_output", "text": "42"}, name="python"),
            node("a", "o", "assistant", "42."),
            current="a",
        )
    )
    asking, result = (said.message for said in chat.path(chat.leaf)[1:3])
    assert asking.tool_calls[0]["function"] == {"name": "python", "arguments": '{"input": "print(2 * 21)"}'}
    assert (result.role, result.content, result.tool_call_id, result.name) == ("tool", "42", "c", "python")


def test_images_come_from_the_archive_and_one_that_is_not_there_is_said() -> None:
    content = {
        "content_type": "multimodal_text",
        "parts": [{"content_type": "image_asset_pointer", "asset_pointer": "file-service://file-7"}, "What is it?"],
    }
    told = conversation(node("q", None, "user", content, metadata={"attachments": [{"name": "a.png"}]}), current="q")
    seen = chat_of(told, lambda id: "data:image/png;base64,AA==" if id == "file-7" else "").said[1]
    assert seen.message.content == (
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
        {"type": "text", "text": "What is it?"},
    )
    assert seen.notes == {"attachments": ["a.png"]}
    assert "not in the export" in str(chat_of(told).said[1].message.content)


def test_a_persons_instructions_become_the_system_message() -> None:
    content = {"content_type": "user_editable_context", "user_profile": "I sail.", "user_instructions": "Be brief."}
    chat = chat_of(conversation(node("i", None, "user", content), node("q", "i", "user", "Hi"), current="q"))
    assert (chat.system, spoken(chat)) == ("I sail.\n\nBe brief.", [("user", "Hi")])


def test_a_ring_of_nodes_is_left_out_and_a_lost_parent_is_a_beginning() -> None:
    nodes = [node("a", "b", "user", "a"), node("b", "a", "user", "b"), node("c", "gone", "user", "c")]
    assert spoken(chat_of(conversation(*nodes, current="a"))) == [("user", "c")]


@pytest.mark.slow
def test_a_chain_of_fifty_thousand_nodes_is_read() -> None:
    nodes = [node(str(place), str(place - 1), "user", "x") for place in range(50_000)]
    assert len(chat_of(conversation(*nodes, current="49999")).said) == 50_000


@pytest.mark.parametrize("told", [None, [], {}, {"mapping": 3}, {"mapping": {}}, "text"])
def test_what_is_no_conversation_is_refused(told: object) -> None:
    with pytest.raises(BadInput, match="A conversation in the file"):
        chat_of(told)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=8) | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_no_value_in_the_wrong_place_does_more_than_be_refused(data: st.DataObject) -> None:
    told = json.loads(json.dumps(conversation(*BRANCHED, current="q2")))
    for _ in range(data.draw(st.integers(1, 4))):
        place: Any = told
        while isinstance(place, dict) and place:
            key = data.draw(st.sampled_from(sorted(place)))
            if not isinstance(place[key], dict) or data.draw(st.integers(0, 2)) == 0:
                place[key] = data.draw(JSON)
                break
            place = place[key]
    try:
        chat = chat_of(told)
    except BadInput:
        return
    assert all(chat.path(number)[-1].number == number for number in chat.said)
