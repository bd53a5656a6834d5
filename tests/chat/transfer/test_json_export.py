from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from filbert.chat.history import History
from filbert.chat.record import Chat, Said
from filbert.chat.transfer.bring_in import bring_in
from filbert.chat.transfer.json_export import as_json, body, chat_of
from filbert.core.errors import BadInput
from filbert.core.messages import Message

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
TIMES = st.integers(0, 10**15).map(lambda us: datetime(1990, 1, 1, tzinfo=UTC) + timedelta(microseconds=us))
VALUES = st.dictionaries(
    TEXT, st.none() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT, max_size=3
)
TEXT_PART = st.builds(lambda text: {"type": "text", "text": text}, TEXT)
IMAGE = st.sampled_from(["data:image/png;base64,AAAA", "data:image/png;base64,BBBB", "data:image/webp;base64,CCCC"])
IMAGE_PART = st.builds(lambda url: {"type": "image_url", "image_url": {"url": url}}, IMAGE)
PARTS = st.lists(TEXT_PART | IMAGE_PART, min_size=1, max_size=4).map(tuple)
CALLS = st.lists(
    st.builds(lambda name: {"id": name, "type": "function", "function": {"name": name, "arguments": "{}"}}, TEXT),
    max_size=2,
).map(tuple)
IDS = st.text("0123456789abcdefghjkmnpqrstvwxyz", min_size=14, max_size=14)
ROLES = st.sampled_from(["system", "user", "assistant", "tool"])
MESSAGES = st.builds(Message, ROLES, TEXT | PARTS, TEXT, CALLS, TEXT, TEXT)


@st.composite
def chats(draw: st.DrawFn) -> Chat:
    texts = [draw(TEXT) for _ in range(3)]
    chat = Chat(draw(IDS), " ".join(texts[0].split()) or "Untitled", *texts[1:], draw(TIMES), draw(TIMES))
    for number in range(1, draw(st.integers(0, 8)) + 1):
        parent = draw(st.none() | st.integers(1, number - 1)) if number > 1 else None
        said = Said(draw(MESSAGES), parent, number, draw(TEXT), "a" * 64, draw(VALUES), draw(VALUES), draw(VALUES))
        own: dict[str, Any] = {"finish": "stop", "created": draw(TIMES), "notes": draw(VALUES), "key": str(number)}
        chat.said[number] = Said(**{**{name: getattr(said, name) for name in Said.__dataclass_fields__}, **own})
    chat.leaf = draw(st.sampled_from(sorted(chat.said))) if chat.said else None
    return chat


@pytest.mark.slow
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(told=st.lists(chats(), min_size=1, max_size=3, unique_by=lambda chat: chat.id))
def test_what_was_exported_is_imported_again_with_nothing_lost(tmp_path: Path, told: list[Chat]) -> None:
    file = tmp_path / "chats.json"
    file.write_text("".join(as_json(told)), "utf-8")
    for old in tmp_path.glob("chats.db*"):
        old.unlink()
    with History(f"sqlite:///{tmp_path / 'chats.db'}") as history:
        for _ in bring_in(file, history):
            pass
        kept = {id: body(history.chat(id)) for id in history.ids()}
        before = json.dumps(kept, sort_keys=True)
        for _ in bring_in(file, history):
            pass
        again = json.dumps({id: body(history.chat(id)) for id in history.ids()}, sort_keys=True)
    assert again == before
    for chat in told:
        given_body, kept_body = body(chat), kept[chat.id]
        latest = max([chat.updated, *(said.created for said in chat.said.values())])
        if chat.said:
            given_body["updated"] = latest.isoformat()
        assert kept_body == given_body


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"id": "../../etc"}, "id"),
        ({"messages": [{"number": 1}]}, "role"),
        ({"created": "yesterday"}, "created"),
        ({"messages": 3}, "messages"),
        ({"leaf": "x"}, "leaf"),
    ],
)
def test_a_chat_with_a_wrong_value_is_refused_and_the_value_named(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInput, match=f"cannot be read. .*{told}"):
        chat_of({**body(Chat()), **wrong})


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"tool_calls": [{}]}, "tool_calls.0.id"),
        ({"tool_calls": [{"id": "1", "function": "x"}]}, "tool_calls.0.function"),
        ({"tool_calls": [{"id": "1", "function": {"name": "x", "arguments": {}}}]}, "arguments"),
        ({"content": [{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}]}, "image_url"),
        ({"content": [{"type": "image_url", "image_url": 3}]}, "image_url"),
        ({"content": [{"text": "no type"}]}, "type"),
    ],
)
def test_a_call_or_a_part_that_no_model_could_be_told_is_refused(wrong: dict[str, Any], told: str) -> None:
    chat = Chat(said={1: Said(Message("assistant", "a"), None, 1)})
    given = body(chat)
    given["messages"][0].update(wrong)
    with pytest.raises(BadInput, match=f"cannot be read. .*{told}"):
        chat_of(given)


def test_a_chat_that_stands_nowhere_stands_at_its_end_and_its_title_is_one_line() -> None:
    chat = Chat(said={1: Said(Message("user", "a"), None, 1)})
    read = chat_of({**body(chat), "leaf": None, "title": "a\nb"})
    assert (read.leaf, read.title) == (1, "a b")


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59Z", "2024-01-01T00:00:00"])
def test_every_time_can_be_told_in_every_zone(tmp_path: Path, moment: str) -> None:
    chat = Chat(said={1: Said(Message("user", "a"), None, 1)})
    given = body(chat) | {"created": moment}
    given["messages"][0]["created"] = moment
    with History(f"sqlite:///{tmp_path / 'chats.db'}") as history:
        history.merge_all([chat_of(given)])
        assert history.chat(chat.id).created.astimezone(timezone(timedelta(hours=14))).year in (1970, 2024, 9000)


def test_a_message_before_the_one_it_answers_is_refused() -> None:
    chat = Chat()
    chat.said = {1: Said(Message("user", "a"), None, 1), 2: Said(Message("user", "b"), 1, 2)}
    told = body(chat)
    told["messages"].reverse()
    with pytest.raises(BadInput, match="before the one it answers"):
        chat_of(told)
    with pytest.raises(BadInput, match="cannot be read"):
        chat_of(7)
