from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_chatgpt import BRANCHED, conversation, node
from test_gpt4all_chats import TALK
from write_gpt4all import chat

from filbert.chat.history import History
from filbert.chat.transfer.bring_in import Imported, bring_in
from filbert.core.errors import BadInput
from filbert.core.jobs import Job


@pytest.fixture
def history(home: Path) -> Iterator[History]:
    with History() as opened:
        yield opened


def done(job: Job[Imported]) -> Imported:
    while True:
        try:
            next(job)
        except StopIteration as end:
            imported: Imported = end.value
            return imported


def export(path: Path, count: int) -> Path:
    told = (json.dumps(conversation(*BRANCHED, current="q2", conversation_id=f"c{n}")) for n in range(count))
    path.write_text(f"[{','.join(told)}]", "utf-8")
    return path


def test_importing_twice_adds_nothing_and_a_longer_export_adds_what_is_new(tmp_path: Path, history: History) -> None:
    file = export(tmp_path / "conversations.json", 120)
    assert (done(bring_in(file, history)).messages, done(bring_in(file, history)).messages) == (480, 0)
    longer = conversation(*BRANCHED, node("a3", "q2", "assistant", "Bye!"), current="a3", conversation_id="c0")
    file.write_text(json.dumps([longer]), "utf-8")
    assert done(bring_in(file, history)).messages == 1
    assert len(history.ids()) == 120
    kept = history.chat(history.search("Bye")[0].chat)
    assert [said.message.content for said in kept.path(kept.leaf)] == ["Hi", "Hello", "Bye", "Bye!"]


def test_the_zip_is_read_as_it_comes_with_its_images(tmp_path: Path, history: History) -> None:
    part = {"content_type": "image_asset_pointer", "asset_pointer": "sediment://file_12"}
    told = conversation(node("q", None, "user", {"content_type": "multimodal_text", "parts": [part]}), current="q")
    with zipfile.ZipFile(tmp_path / "export.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("chat.html", "<html>")
        archive.writestr("conversations-000.json", json.dumps([told]))
        archive.writestr("file_12-photo.png", b"\x89PNG")
    assert done(bring_in(tmp_path / "export.zip", history)).chats == 1
    message = history.chat(history.ids()[0]).said[1].message
    assert message.content == ({"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}},)


def with_pictures(path: Path, *ids: str, kind: int = zipfile.ZIP_DEFLATED) -> Path:
    """A zip with 20 MB of black to each id, told of once an id."""
    parts = [{"content_type": "image_asset_pointer", "asset_pointer": f"sediment://{id}"} for id in ids]
    told = conversation(node("q", None, "user", {"content_type": "multimodal_text", "parts": parts}), current="q")
    with zipfile.ZipFile(path, "w", kind) as archive:
        archive.writestr("conversations.json", json.dumps([told, conversation(*BRANCHED, conversation_id="c")]))
        for id in dict.fromkeys(ids):
            archive.writestr(f"{id}-a.png", bytes(20 << 20))
    return path


@pytest.mark.slow
def test_a_picture_that_is_pointed_to_300_times_is_held_once(tmp_path: Path, history: History) -> None:
    file = with_pictures(tmp_path / "a.zip", *["file_1"] * 300)
    command = [sys.executable, "-c", IMPORT + PEAK, str(file)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert int(said.splitlines()[-1]) < 400_000_000
    assert len(history.ids()) == 2


def test_pictures_beyond_what_a_chat_may_hold_are_left_out(tmp_path: Path, history: History) -> None:
    assert done(bring_in(with_pictures(tmp_path / "a.zip", *(f"file_{n}" for n in range(6))), history)).chats == 2
    first = [chat.said[min(chat.said)].message.content for chat in map(history.chat, history.ids())]
    (parts,) = (content for content in first if isinstance(content, tuple))
    assert [part["type"] for part in parts] == ["image_url"] * 3 + ["text"] * 3


def test_a_damaged_picture_costs_no_chat(tmp_path: Path, history: History) -> None:
    file = with_pictures(tmp_path / "a.zip", "file_1")
    data = bytearray(file.read_bytes())
    at = data.index(b"file_1-a.png") + 5000
    data[at : at + 100] = b"\xff" * 100
    file.write_bytes(data)
    assert done(bring_in(file, history)).chats == 2


@pytest.mark.parametrize("kind", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_damaged_zip_of_any_kind_is_told(tmp_path: Path, history: History, kind: int) -> None:
    file = with_pictures(tmp_path / "a.zip", kind=kind)
    data = bytearray(file.read_bytes())
    data[60:160] = b"\xff" * 100
    file.write_bytes(data)
    with pytest.raises(BadInput, match="cannot be read"):
        done(bring_in(file, history))


def test_a_folder_of_the_apps_chats_is_read_and_a_damaged_one_told(tmp_path: Path, history: History) -> None:
    folder = tmp_path / "nomic.ai"
    folder.mkdir()
    for number in range(3):
        (folder / f"gpt4all-{number}.chat").write_bytes(chat(TALK, 12, id=str(number)))
    (folder / "gpt4all-3.chat").write_bytes(chat(TALK, 12, id="3")[:-40])
    (folder / "gpt4all-4.chat").write_bytes(chat(TALK, 12)[:20])
    (folder / "gpt4all-5.chat").mkdir()
    imported = done(bring_in(folder, history))
    assert imported.chats == 4
    assert [problem.split(" ")[0].rstrip(":") for problem in imported.problems] == [
        "gpt4all-3.chat",
        "gpt4all-4.chat",
        "gpt4all-5.chat",
    ]
    assert done(bring_in(folder, history)).messages == 0


def test_an_export_cut_in_half_gives_the_chats_before_the_cut(tmp_path: Path, history: History) -> None:
    file = export(tmp_path / "conversations.json", 10)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    imported = done(bring_in(file, history))
    assert imported.chats in (4, 5)
    assert "cut or damaged" in imported.problems[0]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "no file of chats"),
        (b"hello", "no file of chats"),
        (b'{"format": "filbert-chats", "version": 99, "chats": []}', "newer Filbert"),
        (b"[1, 2]", "has no messages"),
        (b"[" * 100_000, "nested too deep"),
        (b"PK\x03\x04 no zip", "no whole zip"),
        (bytes.fromhex("f5d553cc") + b"\0\0\0\x63", "version 99"),
    ],
)
def test_what_holds_no_chats_is_refused(tmp_path: Path, history: History, content: bytes, told: str) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(BadInput, match=told):
        done(bring_in(tmp_path / "file", history))
    assert history.ids() == []


def test_a_pipe_a_missing_file_and_an_empty_folder_are_refused(tmp_path: Path, history: History) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").mkdir()
    for name in ("pipe", "nothing", "empty"):
        with pytest.raises(BadInput, match=name):
            done(bring_in(tmp_path / name, history))


def test_one_conversation_of_100_mb_is_refused_rather_than_held(tmp_path: Path, history: History) -> None:
    (tmp_path / "conversations.json").write_bytes(b'[{"title": "' + b"x" * 100_000_000 + b'"}]')
    with pytest.raises(BadInput, match="more than 64 MiB"):
        done(bring_in(tmp_path / "conversations.json", history))


IMPORT = """
import sys
import psutil
from pathlib import Path
from filbert.chat.history import History
from filbert.chat.transfer.bring_in import bring_in
peak = 0
with History() as history:
    for step in bring_in(Path(sys.argv[1]), history):
        print(step.done, flush=True)
        peak = max(peak, psutil.Process().memory_info().rss)
"""
PEAK = "print(peak)"


def test_an_import_that_was_killed_goes_on_where_it_was(tmp_path: Path, history: History) -> None:
    file = export(tmp_path / "conversations.json", 400)
    process = subprocess.Popen([sys.executable, "-c", IMPORT, str(file)], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    for _ in range(150):
        assert process.stdout.readline()
    process.kill()
    process.wait()
    before = len(history.ids())
    assert 100 <= before < 400
    assert done(bring_in(file, history)).messages == 4 * (400 - before)
    assert len(history.ids()) == 400


@pytest.mark.slow
def test_an_export_of_200_mb_is_streamed_in_little_memory(tmp_path: Path, history: History) -> None:
    """Most of an export is what tools and pages gave, which is not kept."""
    waste = {"aggregate_result": "x" * 200_000}
    file = tmp_path / "conversations.json"
    with file.open("w", encoding="utf-8") as out:
        for number in range(1000):
            told = conversation(*BRANCHED, current="q2", conversation_id=f"c{number}", waste=waste)
            out.write(("," if number else "[") + json.dumps(told))
        out.write("]")
    assert file.stat().st_size > 200_000_000
    command = [sys.executable, "-c", IMPORT + PEAK, str(file)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert len(history.ids()) == 1000
    assert int(said.splitlines()[-1]) < 160_000_000
