from __future__ import annotations

import json
import struct
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from write_gpt4all import Entry, chat

from filbert.chat.record import Chat
from filbert.chat.transfer.gpt4all import is_gpt4all, read_chat
from filbert.core.errors import BadInput

SOURCE = {
    "collection": "my documents",
    "path": "/d/a.pdf",
    "file": "a.pdf",
    "title": "A",
    "text": "It is so.",
    "page": 3,
}
TALK = [
    Entry("Prompt: ", "Wie heißt die Hauptstadt? 🗺", sources=[SOURCE]),
    Entry("Response: ", "Berlin.", thumbs_up=True),
    Entry("Prompt: ", "And of Italy?"),
    Entry("Response: ", "Ro", stopped=True),
]
WITH_TOOLS = [
    Entry(
        "Prompt: ", "2 * 21?", attachments=[("file:///d/my%20notes.txt", b"a note"), ("file:///d/t.xlsx", b"PK\3\4")]
    ),
    Entry(
        "Response: ",
        "It is 42.",
        children=[
            Entry(
                "Response: ",
                children=[
                    Entry("Text: ", "Let me see. "),
                    Entry("Think: ", "<think>Multiply.</think>"),
                    Entry(
                        "ToolCall: ",
                        "<javascript_interpret>```javascript\nconsole.log(42)\n```</javascript_interpret>",
                        tool={
                            "name": "javascript_interpret",
                            "params": [("code", "console.log(42)"), ("n", 1), ("x", [True, None, 0.5])],
                            "result": "42",
                        },
                    ),
                ],
            ),
            Entry("ToolResponse: ", "42"),
        ],
    ),
]


def read(data: bytes, folder: Path) -> tuple[Chat, bool]:
    path = folder / "gpt4all-1.chat"
    path.write_bytes(data)
    with path.open("rb") as file:
        assert is_gpt4all(file, path.name)
        return read_chat(file)


@pytest.mark.parametrize("version", range(13))
def test_every_version_is_read(tmp_path: Path, version: int) -> None:
    found, whole = read(chat(TALK, version), tmp_path)
    assert whole
    path = found.path(found.leaf)
    assert [(said.message.role, said.message.content) for said in path] == [
        ("user", TALK[0].value),
        ("assistant", "Berlin."),
        ("user", "And of Italy?"),
        ("assistant", "Ro"),
    ]
    assert [said.finish for said in path] == ["", "stop", "", "cancelled"]
    assert path[1].notes == {"thumbs_up": True}
    assert (found.model, found.source, found.created.year) == ("Llama 3 8B Instruct", "gpt4all:c0ffee", 2023)
    assert found.title == TALK[0].value
    if version >= 3:
        assert path[0].notes["sources"][0]["text"] == "It is so."


def test_thoughts_calls_and_files_of_the_newest_version_become_ours(tmp_path: Path) -> None:
    found, whole = read(chat(WITH_TOOLS, 12, name="Sums"), tmp_path)
    question, asking, result, answer = (said.message for said in found.path(found.leaf))
    assert whole and found.title == "Sums"
    assert question.content == "## Attached: my notes.txt\n\na note\n\n## Attached: t.xlsx\n\n\n\n2 * 21?"
    assert (asking.content, asking.reasoning) == ("Let me see. ", "Multiply.")
    call = asking.tool_calls[0]
    assert call["function"]["name"] == "javascript_interpret"
    assert json.loads(call["function"]["arguments"]) == {"code": "console.log(42)", "n": 1, "x": [True, None, 0.5]}
    assert (result.role, result.content, result.tool_call_id) == ("tool", "42", call["id"])
    assert (answer.role, answer.content) == ("assistant", "It is 42.")


def test_a_thought_that_an_older_version_left_in_the_answer_is_set_apart(tmp_path: Path) -> None:
    found, _ = read(chat([Entry("Prompt: ", "?"), Entry("Response: ", "<think>\nHm.\n</think>\n\nYes.")], 11), tmp_path)
    assert (found.said[2].message.reasoning, found.said[2].message.content) == ("Hm.", "Yes.")


def test_a_file_cut_in_half_gives_what_is_whole_before_the_cut(tmp_path: Path) -> None:
    data = chat(TALK, 12)
    found, whole = read(data[: data.index("And of Italy".encode("utf-16-be")) + 6], tmp_path)
    assert not whole
    assert [said.message.content for said in found.path(found.leaf)] == [TALK[0].value, "Berlin."]


def test_a_file_cut_before_its_first_message_is_refused(tmp_path: Path) -> None:
    data = chat(TALK, 9, state=5000)
    with pytest.raises(BadInput, match="cut before its first message"):
        read(data[:3000], tmp_path)


def test_a_version_of_tomorrow_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="version 13"):
        read(chat(TALK, 13), tmp_path)


def test_a_models_state_of_a_gigabyte_is_skipped_and_not_read(tmp_path: Path) -> None:
    whole = chat(TALK, 9, state=0)
    hole = 1 << 30
    before = whole.index(b"\x05\x06\x07\x08" * 5) + 20
    path = tmp_path / "gpt4all-big.chat"
    with path.open("wb") as file:
        file.write(whole[:before] + struct.pack(">I", hole))
        file.seek(hole, 1)
        file.write(whole[before + 4 :])
    tracemalloc.start()
    with path.open("rb") as file:
        found, is_whole = read_chat(file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert is_whole and len(found.said) == 4
    assert peak < 1 << 20


@pytest.mark.parametrize("length", [0x7FFFFFFE, 0xFFFFFFFE, 1 << 20])
def test_a_length_beyond_the_file_is_never_believed(tmp_path: Path, length: int) -> None:
    data = bytearray(chat(TALK, 12))
    at = data.index("Berlin.".encode("utf-16-be")) - 4
    data[at : at + 4] = struct.pack(">I", length)
    found, whole = read(bytes(data), tmp_path)
    assert not whole
    assert len(found.said) == 1


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_no_mutation_does_more_than_be_refused(tmp_path: Path, data: st.DataObject) -> None:
    version = data.draw(st.integers(0, 12))
    whole = bytearray(chat(WITH_TOOLS + TALK if version == 12 else TALK, version))
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(8 if version else 0, len(whole) - 1))
        whole[at] = data.draw(st.sampled_from([0, 1, 2, 0x7F, 0x80, 0xFF, *range(3, 20)]))
    cut = data.draw(st.integers(8, len(whole)))
    path = tmp_path / "gpt4all-1.chat"
    path.write_bytes(whole[:cut])
    tracemalloc.start()
    try:
        with path.open("rb") as file:
            found, _ = read_chat(file)
        assert [found.path(number) for number in found.said]
    except BadInput as exc:
        assert str(exc)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 4 << 20
