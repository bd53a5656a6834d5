from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from filbert.chat.history import History, set_aside
from filbert.chat.record import UNFINISHED, Chat, Said, new_id
from filbert.core.errors import BadInput, DiskFull, HistoryDamaged, StoreReadOnly
from filbert.core.messages import Message, Role

PIXEL = "data:image/png;base64,iVBORw0KGgo="


@pytest.fixture
def history(home: Path) -> Iterator[History]:
    with History() as opened:
        yield opened


def tell(history: History, *texts: str, chat: Chat | None = None, parent: int | None = None) -> Chat:
    """A chat in which these texts are said in turn."""
    if chat is None:
        chat = Chat(title=texts[0], model="m")
        history.begin(chat)
    for place, text in enumerate(texts):
        role: Role = "assistant" if place % 2 else "user"
        parent = history.add(chat.id, Said(Message(role, text), parent)).number
    return chat


def test_what_was_kept_is_read_again_as_it_was(history: History) -> None:
    chat = Chat(title="A title", model="m", system="Be kind.")
    history.begin(chat)
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    told = [
        Said(Message("user", ({"type": "image_url", "image_url": {"url": PIXEL}}, {"type": "text", "text": "What?"}))),
        Said(Message("assistant", "", "I wonder.", (call,)), model="m", model_sha256="0" * 64, sampling={"seed": 1}),
        Said(Message("tool", "sunny", tool_call_id="1", name="weather"), notes={"a": [1, None]}),
        Said(Message("assistant", "Sun ☀."), usage={"prompt_tokens": 3}, timings={"prompt_s": 0.5}, finish="stop"),
    ]
    parent = None
    for place, said in enumerate(told):
        told[place] = history.add(chat.id, Said(**{**_fields(said), "parent": parent}))
        parent = told[place].number
    kept = history.chat(chat.id)
    assert kept.path(kept.leaf) == told
    assert (kept.title, kept.model, kept.system) == ("A title", "m", "Be kind.")


def _fields(said: Said) -> dict[str, object]:
    return {name: getattr(said, name) for name in Said.__dataclass_fields__}


def test_an_image_is_kept_once_however_often_it_is_sent(history: History) -> None:
    chat = Chat()
    history.begin(chat)
    big = "data:image/png;base64," + "A" * 100_000
    for _ in range(50):
        history.add(chat.id, Said(Message("user", ({"type": "image_url", "image_url": {"url": big}},))))
    assert history.file and history.file.stat().st_size < 1_000_000
    said = history.chat(chat.id).said.values()
    assert {part["image_url"]["url"] for one in said for part in one.message.content} == {big}  # type: ignore[index]


def test_the_latest_chat_comes_first_and_pages_follow(history: History) -> None:
    made = [tell(history, f"question {number}", "answer") for number in range(5)]
    tell(history, "more", chat=made[1])
    assert [chat.title for chat in history.chats(2)] == ["question 1", "question 4"]
    assert [chat.title for chat in history.chats(9, 2)] == ["question 3", "question 2", "question 0"]
    assert (history.chats(1)[0].messages, history.chats(1)[0].model) == (3, "m")
    latest = history.latest()
    assert latest and latest.id == made[1].id


def test_ids_are_short_and_told_apart_by_their_beginnings() -> None:
    ids = [new_id() for _ in range(100)]
    assert {len(id) for id in ids} == {8}
    assert len({id[:4] for id in ids}) > 95


def test_a_chat_with_an_id_of_before_is_found_by_it(history: History) -> None:
    chat = Chat(id="1m86y7371k9qzb")
    history.begin(chat)
    assert history.chat("1m86y7371k9qzb").id == history.chat("1m86y737").id == "1m86y7371k9qzb"


def test_a_chat_is_found_by_the_beginning_of_its_id(history: History) -> None:
    chat = Chat(id="4kq7m2xd")
    history.begin(chat)
    assert history.chat("4kq7").id == history.chat("4KQ7M2XD").id == chat.id
    history.begin(Chat(id="4kv30tbe"))
    with pytest.raises(BadInput, match="More than one"):
        history.chat("4k")
    for wrong in ("", "zzz", "%", "_" * 14):
        with pytest.raises(BadInput, match="There is no chat"):
            history.chat(wrong)


def test_an_id_that_nobody_has_names_the_nearest(history: History) -> None:
    chat = tell(history, "hi")
    mistyped = f"{chat.id[:5]}!{chat.id[6:9]}"
    with pytest.raises(BadInput, match=f"no chat {mistyped}. Did you mean {chat.id}\\? `filbert chats` lists them."):
        history.chat(mistyped)


def test_a_chat_of_a_thousand_messages_is_kept_and_read_whole(history: History) -> None:
    chat = Chat(source="long")
    for number in range(1, 1501):
        chat.said[number] = Said(Message("user", str(number)), number - 1 or None, number, key=str(number))
    chat.leaf = 1500
    history.merge_all([chat])
    kept = history.chat(history.chats(1)[0].id)
    assert kept.leaf
    assert [said.message.content for said in kept.path(kept.leaf)] == [str(number) for number in range(1, 1501)]
    assert history.delete(kept.id) == kept.id
    assert history.chats() == []


def test_two_imported_chats_that_happen_to_have_one_id_stay_two(history: History) -> None:
    for source in ("one", "two"):
        chat = Chat("00000000000000", source=source, leaf=1)
        chat.said[1] = Said(Message("user", source), None, 1, key="1")
        assert history.merge_all([chat]) == 1
    told = [said for id in history.ids() for said in history.chat(id).said.values()]
    assert sorted(str(said.message.content) for said in told) == ["one", "two"]
    assert len(history.ids()) == 2


def test_a_chat_is_renamed_and_forgotten_with_its_words(history: History) -> None:
    chat = tell(history, "the red fox", "indeed")
    history.rename(chat.id, "  Of   foxes ")
    assert history.chats()[0].title == "Of foxes"
    with pytest.raises(BadInput, match="title"):
        history.rename(chat.id, " ")
    history.delete(chat.id)
    assert history.chats() == history.search("fox") == []
    with pytest.raises(BadInput, match="no chat"):
        history.delete(chat.id)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("The capital of France is Paris.", "capital paris"),
        ("The capital of France is Paris.", "cap fran"),
        ("Où est le café ?", "cafe"),
        ("今天天气很好", "天气"),
        ("วันนี้อากาศดี", "อากาศ"),
        ("Сегодня хорошая погода", "погода"),
        ("東京タワーに行きました", "タワー"),
    ],
)
def test_words_of_any_language_are_found(history: History, said: str, words: str) -> None:
    tell(history, said)
    tell(history, "something else")
    assert [hit.title for hit in history.search(words)] == [said]


def test_what_is_found_is_marked(history: History) -> None:
    tell(history, "x " * 200 + "Où est le café à la gare ?" + " y" * 200)
    hit = history.search("cafe gar")[0]
    assert "[café]" in hit.snippet or "le [caf" in hit.snippet
    assert "[gar]e" in hit.snippet
    assert len(hit.snippet) < 250
    assert hit.snippet.startswith("…") and hit.snippet.endswith("…")


def test_the_better_chat_comes_first_and_each_but_once(history: History) -> None:
    tell(history, "a fox among many other animals of the wood and the field, and so on and on")
    often = tell(history, "fox fox", "fox")
    assert history.search("fox")[0].chat == often.id
    assert len(history.search("fox")) == 2
    assert len(history.search("fox", 1)) == 1


@pytest.mark.parametrize("typed", ['fox"', "fox*", "fox' OR 1=1 --", "NEAR(fox)", "text: fox", "(fox", "-fox", "^fox"])
def test_quotes_and_operators_do_no_harm(history: History, typed: str) -> None:
    tell(history, "The fox is near; 1 or 1, text.")
    assert history.search(typed)


def test_signs_alone_are_nothing_to_look_for(history: History) -> None:
    for typed in ("", " ", '"', "***"):
        with pytest.raises(BadInput, match="nothing to look for"):
            history.search(typed)


def test_the_index_follows_what_a_message_becomes(history: History) -> None:
    chat = tell(history, "question")
    answer = history.add(chat.id, Said(Message("assistant", "Once"), finish=UNFINISHED))
    history.update(chat.id, Said(Message("assistant", "Twice"), number=answer.number))
    assert history.search("once") == []
    assert len(history.search("twice")) == 1


def test_what_a_database_cannot_hold_is_replaced(history: History) -> None:
    tell(history, "half \ud83d and zero \0.")
    assert history.latest().said[1].message.content == "half ? and zero \ufffd."  # type: ignore[union-attr]


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_only_its_owner_may_read_the_history(history: History) -> None:
    tell(history, "secret")
    assert history.file
    for ending in ("", "-wal", "-shm"):
        file = history.file.with_name(history.file.name + ending)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, ending


WRITER = """
import sys
from filbert.chat.history import History
from filbert.chat.record import Chat, Said
from filbert.core.messages import Message
with History() as history:
    for number in range(60):
        if sys.argv[1] == "own":
            chat = Chat(title=sys.argv[2])
            history.begin(chat)
            history.add(chat.id, Said(Message("user", f"{sys.argv[2]} {number}")))
        else:
            history.add(sys.argv[1], Said(Message("user", f"{sys.argv[2]} {number}"), 1))
"""


@pytest.mark.parametrize("shared", [False, True], ids=["a history", "a chat"])
def test_two_processes_write_at_the_same_time_and_nothing_is_lost(history: History, shared: bool) -> None:
    chat = tell(history, "the first")
    where = chat.id if shared else "own"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, where, name]) for name in ("one", "two")]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    chats = [history.chat(found.id) for found in history.chats(1000)]
    texts = [str(said.message.content) for chat in chats for said in chat.said.values()]
    assert sorted(texts) == sorted(["the first", *(f"{name} {n}" for name in ("one", "two") for n in range(60))])
    if shared:
        assert len(history.chat(chat.id).siblings(2)) == 120


@pytest.mark.parametrize("kind", ["not a database", "pages overwritten", "tables gone"])
def test_a_damaged_file_is_told_and_set_aside_when_the_person_says_so(history: History, kind: str) -> None:
    for number in range(200):
        tell(history, f"question {number}", "answer " * 20)
    history.close()
    file = history.file
    assert file
    if kind == "not a database":
        file.write_bytes(b"nonsense" * 2000)
    elif kind == "pages overwritten":
        with file.open("r+b") as broken:
            broken.seek(4096)
            broken.write(b"\xff" * (file.stat().st_size - 4096))
    else:
        with sqlite3.connect(file) as connection:
            connection.execute("DROP TABLE chats")
    before = file.read_bytes()
    with pytest.raises(HistoryDamaged, match="set-aside"), History() as opened:
        opened.chats()
    assert file.read_bytes() == before
    aside = set_aside(History())
    assert aside.read_bytes() == before
    with History() as new:
        assert new.chats() == []


def test_the_history_of_a_newer_filbert_is_refused_and_left_alone(history: History) -> None:
    tell(history, "hi")
    history.close()
    assert history.file
    with sqlite3.connect(history.file) as connection:
        connection.execute("UPDATE history_schema SET version = 99")
    with pytest.raises(StoreReadOnly, match="newer Filbert"), History() as opened:
        opened.chats()


def test_a_folder_in_the_way_and_an_address_that_is_none_are_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "chats.db").mkdir(parents=True)
    with pytest.raises(StoreReadOnly, match="Something else"), History() as opened:
        opened.chats()
    monkeypatch.setenv("FILBERT_DATABASE_URL", "no address")
    with pytest.raises(BadInput, match="no address of a database"), History() as opened:
        opened.chats()


@pytest.mark.parametrize(
    "change",
    [
        "messages SET tool_calls = '{'",
        "messages SET tool_calls = 'null'",
        "messages SET notes = CAST(x'ff' AS TEXT)",
        "messages SET parts = '3'",
        "messages SET created = 'x'",
    ],
)
def test_a_damaged_cell_is_a_damaged_history(history: History, change: str) -> None:
    chat = tell(history, "hi", "ho")
    history.close()
    spoil(history, change)
    with pytest.raises(HistoryDamaged, match="set-aside"):
        history.chat(chat.id)
    assert len(history.chats()) == 1


@pytest.mark.parametrize(
    ("change", "left"),
    [
        ("messages SET parent = 77 WHERE parent = 1", 1),
        ("messages SET parent = 2 WHERE number = 1", 2),
        ("chats SET leaf = 99", 0),
    ],
)
def test_a_path_that_leads_nowhere_or_in_a_ring_ends(history: History, change: str, left: int) -> None:
    tell(history, "hi", "ho")
    history.close()
    spoil(history, change)
    kept = history.latest()
    assert kept
    assert len(kept.path(kept.leaf)) == left
    assert kept.newest_leaf(1)


def spoil(history: History, change: str) -> None:
    assert history.file
    with closing(sqlite3.connect(history.file)) as connection, connection:
        connection.execute(f"UPDATE {change}")


def test_a_history_that_another_program_writes_to_is_read(history: History) -> None:
    tell(history, "hi")
    history.close()
    assert history.file
    with closing(sqlite3.connect(history.file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert len(history.chats()) == 1


@pytest.mark.root
def test_a_full_disk_and_a_read_only_one_are_told_and_what_is_stored_is_unharmed(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FILBERT_HOME", str(small_disk))
    with History() as history:
        chat = tell(history, "hi", "ho")
        with pytest.raises(DiskFull):
            for _ in range(100):
                tell(history, "x" * 200_000, chat=chat)
        told = len(history.chat(chat.id).said)
        assert told >= 2
        with suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as filler:
            while filler.write(bytes(4096)):
                pass
        with pytest.raises(DiskFull, match="free it elsewhere"):
            history.delete(chat.id)
        (small_disk / "filler").unlink()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with History() as history:
        assert len(history.chat(chat.id).said) >= told
    with pytest.raises(StoreReadOnly), History() as history:
        tell(history, "more", chat=chat)
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    with History() as history:
        assert len(history.chat(chat.id).said) == told
