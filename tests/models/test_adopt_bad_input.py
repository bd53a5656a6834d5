"""What lies in other programs' folders is not to be trusted: what is bad is told, and the rest is imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from model_servers import finish, sha256
from other_programs import REGISTRY, blob, gpt4all_python, imported, ollama, put, tree

import make_tiny
from filbert.core.errors import BadInput, BadModelFile, DiskFull, StoreReadOnly, UnknownModel
from filbert.models import catalogue, preset, store
from filbert.models.adopt.importing import search, take
from filbert.models.catalogue import entries
from filbert.models.manifest import names_folder


def reasons() -> dict[str, str]:
    return {each.what: each.why for each in finish(search()) if each.state == "refused"}


@pytest.mark.parametrize(
    "digest",
    ["sha256:../../../../etc/passwd", "../secret", "/dev/zero", "sha256:/dev/zero", "sha256:" + "a" * 63, "sha256:" + "A" * 64,
     "sha256:" + "a" * 64 + "\n", "sha256:" + "a" * 64 + "/..", "sha512:" + "a" * 64, "a" * 64, ""],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["model", "projector", "params", "system"])
def test_ollama_cve_2024_37032_probllama_a_digest_is_64_hex_digits_or_refused(
    person: Path,
    tiny: bytes,
    digest: str,
    kind: str,
) -> None:
    models = person / ".ollama/models"
    put(models / "secret", tiny)
    ollama(models, f"{REGISTRY}/good/1b", model=tiny)
    layers = [{"mediaType": "application/vnd.ollama.image.model", **blob(models, tiny)}] if kind != "model" else []
    layers += [{"mediaType": f"application/vnd.ollama.image.{kind}", "digest": digest, "size": len(tiny)}]
    put(models / f"manifests/{REGISTRY}/evil/1b", json.dumps({"layers": layers}))
    before = tree(person)
    assert [each.name for each in imported()] == ["good:1b"]
    assert reasons() == {"evil:1b": "A digest in its manifest is not 64 hex digits."}
    store.remove("good:1b")
    assert tree(person) == before


def test_ollama_a_device_in_place_of_a_blob_is_not_opened(person, tiny) -> None:
    ollama(person / ".ollama/models", f"{REGISTRY}/tiny/1b", model=tiny)
    path = person / f".ollama/models/blobs/sha256-{sha256(tiny)}"
    path.unlink()
    path.symlink_to("/dev/zero")
    assert list(reasons().values()) == ["A blob of it is missing."]
    path.unlink()
    os.mkfifo(path)
    assert list(reasons().values()) == ["A blob of it is missing."]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "Its manifest is damaged."), ("[]", "Its manifest is damaged."), ("\xff\xfe", "Its manifest is damaged."), ("", "Its manifest is damaged."),
        ("[" * 100_000, "Its manifest is damaged."), ('{"layers": []}', "It has no GGUF file."), ('{"layers": [{"mediaType": 1}]}', "Its manifest is damaged."),
        ('{"layers": [{"mediaType": "x", "digest": "sha256:%s", "size": -1}]}' % ("a" * 64), "Its manifest is damaged."),
    ],
)  # fmt: skip
def test_ollama_a_manifest_that_is_none_is_told(person, tiny, text: str, why: str) -> None:
    ollama(person / ".ollama/models", f"{REGISTRY}/good/1b", model=tiny)
    put(person / f".ollama/models/manifests/{REGISTRY}/bad/1b", text.encode("latin-1"))
    put(person / f".ollama/models/manifests/{REGISTRY}/.DS_Store", b"\0\0")
    assert [each.name for each in imported()] == ["good:1b"]
    assert reasons() == {"bad:1b": why}


def test_ollama_a_manifest_of_100_mb_or_a_pipe_is_not_read(person, tiny) -> None:
    folder = person / f".ollama/models/manifests/{REGISTRY}/bad"
    with put(folder / "huge", b"").open("wb") as file:
        file.truncate(100 << 20)
    os.mkfifo(folder / "pipe")
    ollama(person / ".ollama/models", f"{REGISTRY}/good/1b", model=tiny)
    began = time.monotonic()
    assert [each.name for each in imported()] == ["good:1b"]
    assert set(reasons().values()) == {"Its manifest is damaged."}
    assert time.monotonic() - began < 20


def test_ollama_a_blob_smaller_than_said_or_missing_is_told(person, tiny) -> None:
    models = person / ".ollama/models"
    ollama(models, f"{REGISTRY}/cut/1b", model=tiny)
    (models / f"blobs/sha256-{sha256(tiny)}").write_bytes(tiny[:-1])
    (why,) = reasons().values()
    assert why == f"A blob of it has {len(tiny) - 1:,} bytes and {len(tiny):,} are said."
    (models / f"blobs/sha256-{sha256(tiny)}").unlink()
    assert list(reasons().values()) == ["A blob of it is missing."]


def test_jan_a_record_that_leads_out_of_its_folder_is_refused(person, tiny) -> None:
    data = person / ".local/share/Jan/data"
    put(person / "secret.gguf", tiny)
    put(data / "llamacpp/models/evil/model.yml", "model_path: ../../../../secret.gguf\nname: evil\n")
    put(data / "llamacpp/models/device/model.yml", "model_path: /dev/zero\nname: device\n")
    put(data / "llamacpp/models/good/good.gguf", tiny)
    assert [each.name for each in imported()] == ["good"]
    assert sorted(reasons().values()) == [
        "Its model_path leads out of Jan's folder.",
        "zero is not a regular file. Name a GGUF file.",
    ]


@pytest.mark.skipif(os.name == "nt", reason="links need a right on Windows")
def test_links_that_lead_to_themselves_end(person, tiny) -> None:
    folder = gpt4all_python(person, tiny).parent
    (folder / "itself").symlink_to(folder / "itself")
    (folder / "itself.gguf").symlink_to(folder / "itself.gguf")
    (folder / "up").symlink_to(person)
    (folder / "a").mkdir()
    (folder / "a/b").symlink_to(folder)
    (person / ".lmstudio").symlink_to(person / ".lmstudio")
    assert [each.name for each in imported()] == ["tiny-chat:1b-q4_0"]
    assert set(reasons()) == {str(folder / "itself.gguf")}


@pytest.mark.slow
def test_a_folder_of_100_000_files_is_searched(person, tiny) -> None:
    folder = gpt4all_python(person, tiny).parent
    first = put(folder / "0.txt", "")
    for number in range(1, 100_000):
        os.link(first, folder / f"{number}.txt") if number % 30_000 else put(first := folder / f"{number}.txt", "")
    began = time.monotonic()
    assert [each.name for each in imported()] == ["tiny-chat:1b-q4_0"]
    assert time.monotonic() - began < 20


def test_a_folder_that_may_not_be_read_is_told(person, tiny) -> None:
    """In a process without root's rights, which would read it all the same."""
    folders = (gpt4all_python(person, tiny).parent / "secret", person / ".ollama", person / ".cache/huggingface/hub")
    for folder in folders:
        folder.mkdir(parents=True)
        folder.chmod(0)
    program = (
        "import os; from filbert.models.adopt import gpt4all, hub_cache, ollama\n"
        "os.chdir(os.environ['HOME']); os.environ['HOME'] = '.'; os.geteuid() or os.setuid(65534)\n"
        "finds = [*gpt4all.finds(), *ollama.finds(), *hub_cache.finds()]\n"
        "print(*(getattr(find, 'why', 'found') for find in finds), sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    for folder in folders:
        folder.chmod(0o755)
    refused = "The folder cannot be read: Permission denied."
    assert done.stdout.splitlines() == [refused, "found", refused, refused], done.stderr


def test_devices_pipes_and_folders_called_like_models_are_told_and_not_opened(person, tiny) -> None:
    folder = gpt4all_python(person, tiny).parent
    os.mkfifo(folder / "pipe.gguf")
    (folder / "device.gguf").symlink_to("/dev/zero")
    (folder / "gone.gguf").symlink_to(folder / "nowhere")
    (folder / "folder.gguf").mkdir()
    assert [each.name for each in imported()] == ["tiny-chat:1b-q4_0"]
    assert {Path(what).name for what in reasons()} == {"pipe.gguf", "device.gguf", "gone.gguf"}


def test_what_the_engine_cannot_load_is_told_with_the_reason(person, tiny) -> None:
    folder = gpt4all_python(person, tiny).parent
    put(folder / "cut.gguf", tiny[: len(tiny) // 2])
    put(folder / "empty.gguf", b"")
    put(folder / "ggml-gpt4all-j-v1.3-groovy.bin", b"lmgg" + bytes(4096))
    put(folder / "ggml-ggjt.gguf", b"tjgg" + bytes(4096))
    put(folder / "page.gguf", b"<!DOCTYPE html>")
    parts = make_tiny.dense_parts()
    parts.architecture = "nobodys"
    parts.metadata = {key.replace("llama.", "nobodys."): value for key, value in parts.metadata.items()}
    make_tiny.write(folder / "unknown.gguf", parts)
    assert [each.name for each in imported()] == ["tiny-chat:1b-q4_0"]
    said = {Path(what).name: why for what, why in reasons().items()}
    assert "is cut short" in said["cut.gguf"]
    assert "It is empty." in said["empty.gguf"]
    assert "old GGML format" in said["ggml-gpt4all-j-v1.3-groovy.bin"]
    assert "Download the model again as GGUF: `filbert pull NAME`" in said["ggml-gpt4all-j-v1.3-groovy.bin"]
    assert "old GGJT format" in said["ggml-ggjt.gguf"]
    assert "web page" in said["page.gguf"]
    assert said["unknown.gguf"] == "The engine does not know the architecture 'nobodys'. Choose another model."


@pytest.mark.parametrize(
    ("file", "name"),
    [ ("x" * 250 + ".gguf", "x" * 80), ("Моя модель.gguf", "model"),
        ("hf-7b.gguf", "hf-7b"), ("con.gguf", "con"), ("-.gguf", "model"), ("a.gguf.gguf", "a"), ("model:7b.gguf", "gpt4all:7b"),
        ("Meta-Llama-3-8B-Instruct.Q4_0 (2).gguf", "meta-llama-3:8b-instruct.q4_0-2"), ("read me.md.gguf", "read-me.md"),
    ],
)  # fmt: skip
def test_any_file_name_becomes_a_name_that_can_be_typed(person, tiny, file: str, name: str) -> None:
    put(person / ".cache/gpt4all" / file, tiny)
    assert [each.name for each in imported()] == [name]
    assert store.resolve(name).path.name == file


@pytest.mark.parametrize(
    "file", [b"\x1b]0;owned\x07evil.gguf", b"two\nlines.gguf", b"caf\xe9.gguf", "a\u2028b.gguf".encode()]
)
def test_a_path_that_no_line_can_show_is_refused_and_told_without_it(person, tiny, file: bytes) -> None:
    folder = gpt4all_python(person, tiny).parent
    (Path(os.fsdecode(os.fsencode(folder) + b"/" + file))).write_bytes(tiny)
    assert [each.name for each in imported()] == ["tiny-chat:1b-q4_0"]
    ((what, why),) = reasons().items()
    assert why == "Its path holds control characters or broken text. Rename the file."
    assert "\N{REPLACEMENT CHARACTER}" in what and not set("\x1b\x07\n\u2028") & set(what)


def test_a_file_of_the_catalogues_name_and_another_size_is_not_taken_for_it(person, tiny) -> None:
    put(person / ".cache/gpt4all/Meta-Llama-3-8B-Instruct.Q4_0.gguf", tiny)
    put(person / ".cache/gpt4all/Qwen3-4B-Q4_K_M.gguf", tiny)
    names = {each.name for each in imported()}
    assert len(names) == 2
    assert not names & {entry.name for entry in entries()}


def test_a_file_that_changes_while_it_is_read_is_told(person, tiny) -> None:
    path = put(person / ".cache/gpt4all/growing.gguf", tiny)
    stop = threading.Event()

    def grow() -> None:
        while not stop.is_set():
            with path.open("ab") as file:
                file.write(b"\0")

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        until, said = time.monotonic() + 30, set[str]()
        while not any("changed while it was read" in why for why in said) and time.monotonic() < until:
            said |= set(reasons().values())
    finally:
        stop.set()
        writer.join()
    assert any("changed while it was read" in why for why in said)


@pytest.mark.root
def test_a_full_disk_is_told_and_leaves_no_half_name(person, tiny, small_disk, monkeypatch) -> None:
    gpt4all_python(person, tiny)
    monkeypatch.setenv("FILBERT_HOME", str(small_disk))
    candidates = finish(search())
    with pytest.raises(OSError), (small_disk / "full").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 16))
    with pytest.raises(DiskFull):
        take(candidates)
    (small_disk / "full").unlink()
    assert store.list_models() == store.damaged() == []
    assert len(take(candidates)) == 1


def test_a_read_only_store_is_told_and_what_was_imported_stays(person, tiny, home) -> None:
    path = gpt4all_python(person, tiny)
    candidates = finish(search())
    (home / "models").mkdir(parents=True)
    (home / "models/names").write_text("in the way")
    with pytest.raises(StoreReadOnly):
        take(candidates)
    (home / "models/names").unlink()
    assert [each.name for each in take(candidates)] == ["tiny-chat:1b-q4_0"]
    assert path.read_bytes() == tiny
    assert names_folder().is_dir()


def test_a_record_of_ours_that_was_tampered_with_opens_no_device(person, tiny) -> None:
    gpt4all_python(person, tiny)
    imported()
    (record,) = names_folder().glob("*.json")
    told = json.loads(record.read_bytes())
    for path in ("/dev/zero", "relative.gguf", "/etc/pass\0wd", "", "../x.gguf"):
        told["files"][0]["path"] = path
        record.write_text(json.dumps(told))
        assert store.list_models() == []
        with pytest.raises(BadModelFile):
            store.resolve("tiny-chat:1b-q4_0")


# --- names and hashes that others only claim ---

STOPPED_AT = """
import os, sys
from filbert.models import store
from filbert.models.adopt.importing import search, take
def stop(event, args):
    if event == sys.argv[1] and any(f"{os.sep}names{os.sep}" in str(each) for each in args):
        os.kill(os.getpid(), 9)
def finish(job):
    try:
        while True: next(job)
    except StopIteration as end:
        return end.value
sys.addaudithook(stop)
take(finish(search())) if sys.argv[1] == "os.rename" else store.remove(sys.argv[2])
"""


def killed_at(event: str, *words: str) -> None:
    """A real process that is killed the moment it would do this to a record of a name."""
    assert subprocess.run([sys.executable, "-c", STOPPED_AT, event, *words]).returncode == -9


@pytest.mark.parametrize("file", ["smollm2-135m.gguf", "smollm2-135m-q4_1.gguf", "qwen3-4b.gguf"])
def test_a_file_called_like_a_model_of_the_catalogue_does_not_get_its_name(person, tiny, file: str) -> None:
    put(person / ".cache/gpt4all" / file, tiny)
    (taken,) = imported()
    assert taken.name.endswith("-gpt4all")
    assert taken.name not in catalogue.names()


@pytest.mark.parametrize("name", ["smollm2:135m", "smollm2:135m-q4_1"])
def test_a_person_cannot_give_a_file_a_name_of_the_catalogue(tmp_path, tiny, name: str) -> None:
    with pytest.raises(BadInput, match="is a model of the catalogue"):
        imported(put(tmp_path / "mine.gguf", tiny), name=name)


def test_the_file_of_a_model_of_the_catalogue_may_have_its_name(starter) -> None:
    assert [each.name for each in imported(starter, name="smollm2:135m-q4_1")] == ["smollm2:135m-q4_1"]


def test_a_hash_that_a_program_only_claims_is_no_fact(person, tiny) -> None:
    entry = next(entry for entry in entries() if entry.files[0].sha256)
    repository = person / ".cache/huggingface/hub/models--Maker--Tiny-GGUF"
    path = put(repository / "blobs" / entry.files[0].sha256, tiny)
    (repository / "snapshots" / ("a" * 40)).mkdir(parents=True)
    (repository / "snapshots" / ("a" * 40) / "tiny.gguf").symlink_to(path)
    (taken,) = imported()
    assert taken.name == "hf:Maker/Tiny-GGUF/tiny.gguf"
    model = store.resolve(taken.name)
    assert (model.known_sha256, model.sha256) == (None, sha256(tiny))
    assert store.resolve(taken.name).known_sha256 == sha256(tiny)


def test_an_import_killed_before_the_name_is_written_keeps_the_system_message(person, tiny) -> None:
    ollama(person / ".ollama/models", f"{REGISTRY}/tiny/1b", model=tiny, system=b"Be brief.")
    killed_at("os.rename")
    assert store.list_models() == []
    assert [each.name for each in imported()] == ["tiny:1b"]
    assert store.resolve("tiny:1b").preset.system == "Be brief."


def test_a_removal_killed_halfway_leaves_no_preset_to_the_next_model_of_the_name(person, tiny) -> None:
    folder = person / ".ollama/models"
    ollama(folder, f"{REGISTRY}/tiny/1b", model=tiny, system=b"Be brief.")
    imported()
    killed_at("os.remove", "tiny:1b")
    assert preset.kept("tiny:1b") is None
    store.remove("tiny:1b")
    with preset.changing("tiny:1b") as write:
        write(preset.Preset(name="tiny:1b", of="tiny:1b", system="Be brief."))
    ollama(folder, f"{REGISTRY}/tiny/1b", model=tiny)
    imported()
    assert store.resolve("tiny:1b").preset is None


def test_ollama_half_a_character_in_a_parameter_is_left_out(person, tiny) -> None:
    params = rb'{"temperature": 0.5, "stop": ["\ud800"]}'
    ollama(person / ".ollama/models", f"{REGISTRY}/tiny/1b", model=tiny, params=params)
    imported()
    assert store.resolve("tiny:1b").preset.sampling == {"temperature": 0.5}


def test_jan_a_record_of_spaces_or_of_one_endless_name_is_read_at_once(person, tiny) -> None:
    data = person / ".local/share/Jan/data/llamacpp/models"
    sha256_line = f"model_sha256: a{' ' * 500_000}b"
    put(data / "x/model.yml", f"model_path: llamacpp/models/x/model.gguf\nname: {'.bin' * 100_000}x\n{sha256_line}\n")
    put(data / "x/model.gguf", tiny)
    (taken,) = imported()
    assert len(taken.name) <= 80


# --- folders and names that no disk should have ---


def test_a_blob_that_may_not_be_read_and_a_home_that_nobody_knows_stop_nothing(person, tiny) -> None:
    """In a process without root's rights and without a home."""
    ollama(person / ".ollama/models", f"{REGISTRY}/secret/1b", model=tiny)
    put(person / "split/x-00001-of-00002.gguf", tiny)
    (person / ".ollama/models/blobs").chmod(0)
    (person / "split").chmod(0o644)
    program = (
        "import encodings.utf_8_sig, os; from pathlib import Path\n"
        "from filbert.models.adopt import found, importing, ollama\n"
        "os.chdir(os.environ.pop('HOME')); os.geteuid() or os.setuid(54321)\n"
        "finds = [*ollama.finds_in(Path('.ollama/models'))]\n"
        "finds += [*found.models_in(Path('split'), 'any', of_one_model=True)]\n"
        "print(*(find.why for find in finds), *(find for each in importing.PROGRAMS.values() for find in each()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    (person / ".ollama/models/blobs").chmod(0o755)
    (person / "split").chmod(0o755)
    assert done.stdout == "A blob of it cannot be read: Permission denied. Permission denied.\n", done.stderr


@pytest.mark.parametrize("path", ["/", f"llamacpp/models/x/{'x' * 300}-00001-of-00002.gguf", "llamacpp/models/x"])
def test_jan_a_path_that_no_file_has_is_told(person, tiny, path: str) -> None:
    put(person / ".local/share/Jan/data/llamacpp/models/x/model.yml", f"model_path: {path}\n")
    gpt4all_python(person, tiny)
    assert [each.name for each in imported()] == ["tiny-chat:1b-q4_0"]
    assert len(reasons()) == 1


def test_ollama_a_name_that_no_line_can_show_is_refused(person, tiny) -> None:
    models = person / ".ollama/models"
    for name in (b"\xffd", b"\x1b[2J"):
        ollama(models, f"{REGISTRY}/{os.fsdecode(name)}/1b", model=tiny)
    ollama(models, f"{REGISTRY}/good/1b", model=tiny)
    assert [each.name for each in imported()] == ["good:1b"]
    assert set(reasons().values()) == {"Its path holds control characters or broken text. Rename the file."}


@pytest.mark.parametrize("path", ["x" * 300 + ".gguf", "~nobodyhere/x.gguf", "a\0b.gguf"])
def test_a_path_that_cannot_be_is_told(path: str) -> None:
    with pytest.raises(UnknownModel, match="There is no model file at"):
        imported(Path(path))
