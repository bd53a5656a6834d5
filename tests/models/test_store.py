from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from model_servers import Origin, finish, pulling, sha256, wait_for

from filbert.core.errors import (
    BadInput,
    BadModelFile,
    DownloadFailed,
    FilbertError,
    HashMismatch,
    OfflineRefused,
    StoreBusy,
    StoreReadOnly,
    UnknownModel,
)
from filbert.core.files import locked
from filbert.models import catalogue, store
from filbert.models.download import download
from filbert.models.gguf import check_split
from filbert.models.manifest import files_folder, manifest_file, names_folder
from filbert.models.name import parse
from filbert.models.pull import as_promised
from filbert.models.sources.https import Web


@pytest.fixture
def pulled(origin: Origin, tiny: bytes) -> store.StoredModel:
    return finish(store.pull(origin.add("/tiny.gguf", tiny)))


def manifest_of(model: store.StoredModel) -> Path:
    return next(path for path in names_folder().iterdir() if json.loads(path.read_bytes())["name"] == model.name)


def test_a_path_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("hi")
    with pytest.raises(BadModelFile, match=r"note\.txt is not a GGUF file"):
        finish(store.pull(str(tmp_path / "note.txt")))


def test_a_pulled_model_is_listed_shown_and_removed(pulled, tiny) -> None:
    assert store.list_models() == [pulled]
    assert store.resolve(pulled.name) == store.installed(pulled.name) == store.find(pulled.name) == pulled
    facts = store.describe(pulled, check_split(pulled.parts))
    assert (facts["architecture"], facts["bytes"], facts["sha256"]) == ("llama", len(tiny), sha256(tiny))
    assert sum(size for _, size in facts["tensor types"].values()) < len(tiny)
    assert store.remove(pulled.name) == len(tiny)
    assert store.list_models() == []
    assert store.find(pulled.name) is None


def test_pulling_what_is_installed_asks_nobody(pulled, origin) -> None:
    before = origin.requests
    assert finish(store.pull(pulled.name)) == pulled
    assert origin.requests == before


def test_offline_everything_installed_works_and_a_pull_is_refused(pulled, origin, monkeypatch) -> None:
    monkeypatch.setenv("FILBERT_OFFLINE", "1")
    before = origin.requests
    assert finish(store.pull(pulled.name)) == pulled == store.resolve_or_pull(pulled.name)
    with pytest.raises(OfflineRefused, match="FILBERT_OFFLINE"):
        store.resolve_or_pull(f"{origin.url}/other.gguf")
    assert origin.requests == before


def test_a_split_model_behind_an_address_is_one_model(origin, split_model) -> None:
    names = sorted(split_model)
    for name in names:
        origin.add(f"/models/{name}", split_model[name])
    model = finish(store.pull(f"{origin.url}/models/{names[1]}"))
    assert [part.name for part in model.parts] == names
    assert model.size_bytes == sum(map(len, split_model.values()))


@pytest.mark.parametrize("body", [b"", b"<!DOCTYPE html>", b"GGUF", b"GGUF\x03\0\0\0" + b"\xff" * 64])
def test_what_is_no_model_never_gets_a_name_and_leaves_nothing(origin, body: bytes) -> None:
    with pytest.raises(FilbertError):
        finish(store.pull(origin.add("/page.gguf", body)))
    assert store.list_models() == []
    assert not list(files_folder().glob("*/*.gguf"))


# --- the process dies, the disk fails ---


def test_a_pull_that_is_killed_goes_on_where_it_stopped(origin, bulky) -> None:
    url = origin.add("/big.gguf", bulky)
    origin.pause_s = 0.05
    with pulling(url) as process:
        wait_for(
            lambda: any(
                json.loads(state.read_bytes())["segments"][0][1] > 500_000 for state in files_folder().glob("*/*.json")
            )
        )
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert store.list_models() == []
    before, origin.pause_s = origin.served, 0.0
    model = finish(store.pull(url))
    assert model.path.read_bytes() == bulky
    assert origin.served - before < len(bulky) - 500_000


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_pull_that_is_stopped_leaves_a_part_that_goes_on(origin, bulky, sign: signal.Signals) -> None:
    url = origin.add("/big.gguf", bulky)
    origin.pause_s = 0.05
    with pulling(url) as process:
        wait_for(lambda: origin.served > 2_000_000)
        process.send_signal(sign)
        assert process.wait(20) != 0
    before, origin.pause_s = origin.served, 0.0
    assert finish(store.pull(url)).path.read_bytes() == bulky
    assert origin.served - before < len(bulky) - 1_000_000


def test_two_processes_that_pull_one_model_fetch_it_once(origin, bulky) -> None:
    url = origin.add("/big.gguf", bulky)
    origin.pause_s = 0.01
    with pulling(url) as first, pulling(url) as second:
        said = [process.communicate(timeout=60)[0] for process in (first, second)]
    assert [text.splitlines()[-1] for text in said] == [f"pulled {sha256(bulky)}"] * 2
    assert origin.served == len(bulky) + 1


@pytest.mark.parametrize("kept", ["part", "file"])
def test_a_store_that_was_left_half_written_is_finished_by_the_next_pull(origin, tiny, kept: str) -> None:
    """As after a kill before the rename, or between the rename and the manifest."""
    model = finish(store.pull(origin.add("/tiny.gguf", tiny)))
    manifest_of(model).unlink()
    if kept == "part":
        model.path.rename(model.path.with_name("tiny.gguf.part"))
    assert store.list_models() == []
    assert finish(store.pull(model.name)).path.read_bytes() == tiny


def test_a_manifest_cut_in_half_is_told_and_mended_and_loses_nothing(pulled, origin, tiny) -> None:
    manifest = manifest_of(pulled)
    manifest.write_bytes(manifest.read_bytes()[:80])
    assert store.list_models() == []
    assert "damaged" in str(store.damaged()[0])
    with pytest.raises(BadModelFile, match="Pull the model again"):
        store.resolve(pulled.name)
    before = origin.served
    assert finish(store.pull(pulled.name)).path.read_bytes() == tiny
    assert origin.served == before
    assert store.damaged() == []


@pytest.mark.parametrize("harm", ["gone", "short"])
def test_a_manifest_whose_file_is_not_whole_is_told_and_mended(pulled, tiny, harm: str) -> None:
    if harm == "gone":
        pulled.path.unlink()
    else:
        pulled.path.write_bytes(tiny[:-1])
    with pytest.raises(BadModelFile, match="filbert pull"):
        store.resolve(pulled.name)
    assert finish(store.pull(pulled.name)) == store.resolve(pulled.name)
    assert pulled.path.read_bytes() == tiny


def test_the_hash_of_a_first_download_is_pinned(pulled, origin, bulky) -> None:
    pulled.path.unlink()
    origin.add("/tiny.gguf", bulky)
    with pytest.raises(HashMismatch):
        finish(store.pull(pulled.name))
    store.remove(pulled.name)
    assert finish(store.pull(pulled.name)).sha256 == sha256(bulky)


def test_a_name_whose_manifest_is_damaged_can_be_removed_and_its_files_cleaned(pulled, tiny) -> None:
    manifest_of(pulled).write_bytes(b"{")
    store.remove(pulled.name)
    assert pulled.path.exists()
    assert store.clean() == len(tiny)
    assert not pulled.path.exists()


def test_cleaning_keeps_models_and_what_is_being_pulled(pulled, origin, tiny) -> None:
    busy, given_up = "a" * 64, "b" * 64
    for folder in (busy, given_up):
        (files_folder() / folder).mkdir()
        (files_folder() / folder / "x.gguf.part").write_bytes(b"12345")
        os.utime(files_folder() / folder / "x.gguf.part", (0, 0))
    with locked(files_folder() / f"{busy}.lock"):
        assert store.clean() == 5
    assert (files_folder() / busy).exists()
    assert store.resolve(pulled.name).path.read_bytes() == tiny


def test_cleaning_keeps_the_part_of_a_pull_that_stopped_lately(pulled) -> None:
    part = files_folder() / ("a" * 64) / "x.gguf.part"
    part.parent.mkdir()
    part.write_bytes(b"12345")
    assert store.clean() == 0
    assert part.exists()


def test_cleaning_keeps_every_file_while_a_damaged_manifest_may_need_it(pulled, tiny) -> None:
    manifest_of(pulled).write_bytes(b"{")
    assert store.clean() == 0
    assert finish(store.pull(pulled.name)).path.read_bytes() == tiny


def test_cleaning_at_a_word_takes_a_part_of_the_future_too(pulled) -> None:
    part = files_folder() / ("a" * 64) / "x.gguf.part"
    part.parent.mkdir()
    part.write_bytes(b"12345")
    os.utime(part, (2**32, 2**32))
    assert store.clean(0) == 5


def test_links_among_the_folders_go_and_what_they_lead_to_stays(pulled, tmp_path, tiny) -> None:
    folder, elsewhere = pulled.path.parent, tmp_path / "elsewhere"
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)
    (files_folder() / ("a" * 64)).symlink_to(tmp_path)
    (files_folder() / ("b" * 64)).symlink_to(tmp_path / "nowhere")
    (names_folder() / "x.json").mkdir()
    store.remove(pulled.name)
    assert store.clean(0) == 0
    assert [path for path in files_folder().iterdir() if path.is_symlink()] == []
    assert (elsewhere / pulled.path.name).read_bytes() == tiny


@pytest.mark.skipif(os.name == "nt", reason="links need a right on Windows")
def test_a_link_for_a_lock_is_told_and_the_name_stays(pulled, tmp_path) -> None:
    lock = files_folder() / f"{pulled.path.parent.name}.lock"
    lock.unlink(missing_ok=True)
    lock.symlink_to(tmp_path / "lock")
    with pytest.raises(StoreReadOnly, match="Something else is where"):
        store.remove(pulled.name)
    assert store.installed(pulled.name) == pulled


def test_names_removed_at_the_same_time_are_gone_or_unknown_or_busy(origin, tiny) -> None:
    names = [finish(store.pull(origin.add(f"/{letter}.gguf", tiny + letter.encode()))).name for letter in "abc"]
    said: list[int] = []
    refused: list[FilbertError] = []

    def remove(name: str) -> None:
        try:
            said.append(store.remove(name))
        except (UnknownModel, StoreBusy) as exc:
            refused.append(exc)

    threads = [threading.Thread(target=remove, args=(name,)) for name in names * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == [len(tiny) + 1] * 3
    assert len(refused) == 9
    assert store.list_models() == []


def test_cleaning_takes_the_locks_of_emptied_folders(pulled) -> None:
    store.remove(pulled.name)
    assert list(files_folder().glob("*.lock"))
    assert store.clean() == 0
    assert list(files_folder().iterdir()) == []


def test_who_waits_for_a_lock_that_cleaning_takes_away_does_not_hold_it_beside_another(pulled) -> None:
    """Waiters sit on the file that is unlinked; the next comer makes a new one."""
    lock = files_folder() / f"{pulled.path.parent.name}.lock"
    store.remove(pulled.name)
    most, inside, guard = 0, 0, threading.Lock()

    def work() -> None:
        nonlocal most, inside
        for _ in range(30):
            with locked(lock):
                with guard:
                    inside += 1
                    most = max(most, inside)
                time.sleep(0.001)
                with guard:
                    inside -= 1

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        store.clean()
    assert most == 1


def test_a_name_whose_folder_is_gone_can_be_removed(pulled) -> None:
    shutil.rmtree(pulled.path.parent)
    assert store.remove(pulled.name) == 0
    assert store.list_models() == []


def test_a_model_that_is_being_pulled_is_not_removed_under_it(pulled, tiny) -> None:
    with locked(files_folder() / f"{pulled.path.parent.name}.lock"), pytest.raises(StoreBusy):
        store.remove(pulled.name)
    assert store.resolve(pulled.name).path.read_bytes() == tiny


@pytest.fixture
def read_only_home(pulled, home):
    """The store on a disk that takes no writes. Root may write where modes forbid it, so it gets a real read-only mount."""
    if os.geteuid() == 0:
        subprocess.run(["mount", "--bind", home, home], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", home], check=True)
        yield home
        subprocess.run(["umount", "-l", home], check=True)
        return
    folders = [home, *(path for path in home.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    yield home
    for folder in folders:
        folder.chmod(0o755)


def test_a_read_only_store_is_read(read_only_home, pulled) -> None:
    assert store.list_models() == [pulled]
    assert store.resolve(pulled.name) == store.resolve_or_pull(pulled.name) == pulled
    assert finish(store.pull(pulled.name)) == pulled


@pytest.mark.parametrize("act", [lambda name: finish(store.pull(f"{name}?new=.gguf")), store.remove])
def test_a_read_only_store_says_so_when_it_is_written(read_only_home, pulled, tiny, act) -> None:
    with pytest.raises(StoreReadOnly, match="FILBERT_HOME"):
        act(pulled.name)
    assert store.resolve(pulled.name).path.read_bytes() == tiny


# --- files where they lie ---


def test_a_file_is_used_where_it_lies(tmp_path, tiny) -> None:
    path = tmp_path / "mine.gguf"
    path.write_bytes(tiny)
    model = store.resolve(str(path))
    assert (model.path, model.size_bytes, model.sha256, model.projector) == (path, len(tiny), sha256(tiny), None)
    assert finish(store.pull(str(path))) == model
    assert store.list_models() == []


def test_any_part_of_a_split_file_means_the_whole_model(tmp_path, split_model) -> None:
    for name, body in split_model.items():
        (tmp_path / name).write_bytes(body)
    names = sorted(split_model)
    model = store.resolve(str(tmp_path / names[-1]))
    assert [part.name for part in model.parts] == names
    assert model.path.name == names[0]
    (tmp_path / names[0]).unlink()
    with pytest.raises(BadModelFile, match=names[0]):
        store.resolve(str(tmp_path / names[-1]))


def test_a_projector_beside_the_only_model_belongs_to_it(tmp_path, vision_model, tiny) -> None:
    (tmp_path / "eyes.gguf").write_bytes(vision_model[0])
    projector = tmp_path / "mmproj-F16.gguf"
    projector.write_bytes(vision_model[1])
    assert store.resolve(str(tmp_path / "eyes.gguf")).projector == projector
    (tmp_path / "other.gguf").write_bytes(tiny)
    assert store.resolve(str(tmp_path / "eyes.gguf")).projector is None
    named = projector.rename(tmp_path / "mmproj-eyes.gguf")
    assert store.resolve(str(tmp_path / "eyes.gguf")).projector == named
    assert store.resolve(str(tmp_path / "other.gguf")).projector is None


def test_a_file_whose_name_might_be_a_models_is_told_with_how_to_mean_it(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "README.md").write_text("hi")
    for act in (store.resolve, lambda text: finish(store.pull(text))):
        with pytest.raises(UnknownModel, match=r"`\./README\.md` means it"):
            act("README.md")
    with pytest.raises(UnknownModel, match="no model README") as error:
        store.installed("README.md")  # what a server asks tells of no files
    assert "./" not in str(error.value)


def test_removing_a_path_touches_no_file_outside_the_store(tmp_path, tiny) -> None:
    path = tmp_path / "mine.gguf"
    path.write_bytes(tiny)
    with pytest.raises(BadInput, match="yourself"):
        store.remove(str(path))
    assert path.exists()


def test_ollama_cve_2024_39722_missing_forbidden_and_device_give_the_same_error(tmp_path) -> None:
    folder = tmp_path / "folder.gguf"
    folder.mkdir()
    os.mkfifo(tmp_path / "pipe.gguf")
    messages = set()
    for path in (
        tmp_path / "missing.gguf",
        folder,
        tmp_path / "pipe.gguf",
        Path("/dev/zero"),
        tmp_path / "folder.gguf/under.gguf",
    ):
        with pytest.raises(UnknownModel) as error:
            store.resolve(str(path))
        messages.add(str(error.value).replace(str(path), "PATH"))
    assert len(messages) == 1


def test_ollama_cve_2024_39719_a_servers_name_is_never_a_path(tmp_path, tiny) -> None:
    path = tmp_path / "mine.gguf"
    path.write_bytes(tiny)
    errors = set()
    for text in (path, tmp_path / "missing.gguf"):
        with pytest.raises(UnknownModel) as error:
            store.installed(str(text))
        errors.add(str(error.value).replace(str(text), "PATH"))
    assert len(errors) == 1


# --- hostile stores, unknown names, silence ---


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sha256", "../../../../etc/passwd"), ("sha256", "A" * 64), ("sha256", "a" * 63), ("folder", "../outside"), ("folder", "/etc"),
        ("folder", "a" * 64 + "\n"), ("name", "../x.gguf"), ("name", "/etc/passwd"), ("name", "a/b.gguf"), ("size_bytes", -1),
    ],
)  # fmt: skip
def test_ollama_cve_2024_37032_probllama_a_digest_in_a_manifest_is_never_a_path(
    pulled, tmp_path, field: str, value: object
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "tiny.gguf").write_bytes(b"precious")
    manifest = manifest_of(pulled)
    record = json.loads(manifest.read_bytes())
    record["files"][0][field] = value
    manifest.write_text(json.dumps(record))
    with pytest.raises(BadModelFile):
        store.resolve(pulled.name)
    assert store.list_models() == []
    store.remove(pulled.name)
    store.clean()
    assert (outside / "tiny.gguf").read_bytes() == b"precious"


def test_ollama_cve_2024_37032_a_link_out_of_the_store_is_not_followed(pulled, tmp_path, tiny) -> None:
    secret = tmp_path / "secret.gguf"
    secret.write_bytes(tiny)
    pulled.path.unlink()
    pulled.path.symlink_to(secret)
    with pytest.raises(BadModelFile):
        store.resolve(pulled.name)
    store.remove(pulled.name)
    assert secret.read_bytes() == tiny


def test_a_manifest_under_another_models_name_is_refused(pulled, origin, tiny) -> None:
    other = finish(store.pull(origin.add("/other.gguf", tiny)))
    manifest_of(pulled).write_bytes(manifest_of(other).read_bytes())
    with pytest.raises(BadModelFile):
        store.resolve(pulled.name)


def test_gpt4all_unknown_name_is_answered_with_the_nearest_and_the_command() -> None:
    with pytest.raises(UnknownModel, match=r"no model smolm2:135m.*filbert pull smollm2:135m"):
        store.resolve("smolm2:135m")
    with pytest.raises(UnknownModel, match="not installed"):
        store.remove("smollm2:135m")


def test_a_name_that_nobody_knows_is_answered_with_the_nearest_that_is_here_before_a_pull(pulled) -> None:
    record = json.loads(manifest_of(pulled).read_bytes())
    manifest_file("smollm:9b-q4_0").write_text(json.dumps({**record, "name": "smollm:9b-q4_0"}))
    with pytest.raises(UnknownModel, match=r"The nearest installed: smollm:9b-q4_0\..*filbert pull smollm2:135m"):
        store.resolve_or_pull("smolm2")


def test_pulling_a_family_of_which_one_model_is_here_asks_nobody(pulled) -> None:
    record = json.loads(manifest_of(pulled).read_bytes())
    manifest_file("foo:9b-q4_0").write_text(json.dumps({**record, "name": "foo:9b-q4_0"}))
    assert finish(store.pull("foo")).name == "foo:9b-q4_0"


def test_a_name_without_its_quantisation_means_the_one_that_is_here(pulled) -> None:
    record = json.loads(manifest_of(pulled).read_bytes())
    for name in ("llama3.2:1b-q8_0", "llama3.2:3b-q4_k_m", "llama3.2:3b-q8_0", "foo:1b-q4_0", "foo:1b-q8_0"):
        manifest_file(name).write_text(json.dumps({**record, "name": name}))
    assert store.resolve("llama3.2:1b").name == "llama3.2:1b-q8_0"
    assert store.resolve("llama3.2:3b").name == "llama3.2:3b-q4_k_m"
    with pytest.raises(UnknownModel, match=r"foo:1b-q4_0, foo:1b-q8_0|foo:1b-q8_0, foo:1b-q4_0"):
        store.resolve("foo:1b")


def test_a_source_that_left_the_catalogues_file_behind_says_so(hub, tiny) -> None:
    hub.repos["Qwen/Qwen3-Embedding-0.6B-GGUF"] = {"Qwen3-Embedding-0.6B-Q8_0.gguf": tiny}
    with pytest.raises(UnknownModel, match="no longer has"):
        finish(store.pull("qwen3-embedding:0.6b"))
    assert hub.served == 0


def test_gpt4all_file_name_without_such_a_file_means_its_entry(hub, tiny, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    file, name = "qwen2.5-0.5b-instruct-q4_k_m.gguf", "qwen2.5:0.5b-q4_k_m"
    hub.repos["Qwen/Qwen2.5-0.5B-Instruct-GGUF"] = {file: tiny}
    with pytest.raises(UnknownModel, match=r"filbert pull qwen2\.5:0\.5b"):
        store.resolve(file)
    with pytest.raises(UnknownModel, match=f"The source of {name} no longer has"):
        finish(store.pull(file))
    pulled = finish(store.pull(f"hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF/{file}"))
    record = json.loads(manifest_of(pulled).read_bytes())
    manifest_file(name).write_text(json.dumps({**record, "name": name}))
    assert store.resolve(file).name == name
    (tmp_path / file).write_bytes(tiny)
    assert store.resolve(file).path == tmp_path / file
    (tmp_path / file).unlink()
    with pytest.raises(UnknownModel, match="no model file"):
        store.resolve(f"./{file}")
    store.remove(file)
    assert [model.name for model in store.list_models()] == [pulled.name]


def test_a_file_without_a_known_hash_is_held_against_its_size(hub, tiny) -> None:
    hub.repos["bartowski/Llama-3.2-1B-Instruct-GGUF"] = {"Llama-3.2-1B-Instruct-Q4_0.gguf": tiny}
    with pytest.raises(UnknownModel, match="no longer has"):
        finish(store.pull("llama3.2:1b-q4_0"))
    assert hub.served == 0


def test_an_entry_on_the_web_without_a_hash_is_held_against_its_size(origin, options, tiny, tmp_path) -> None:
    origin.files["/tiny.gguf"] = tiny
    entry = catalogue.by_file("Meta-Llama-3-8B-Instruct.Q4_0.gguf")
    offered = Web().locate(parse(f"{origin.url}/tiny.gguf"), options)
    (file,) = as_promised(entry, offered, None).files
    assert (file.name, file.sha256, file.size_bytes) == (entry.files[0].name, "", 4_661_724_384)
    assert file.md5 == "c87ad09e1e4c8f9c35a5fcef52b6f1c9"
    with pytest.raises(DownloadFailed, match="were promised"):
        finish(download(file, tmp_path / file.name, options))
    assert not (tmp_path / file.name).exists()


SILENT = """
import sys
calls = []
sys.addaudithook(lambda event, args: calls.append((event, args)) if event.startswith("socket.") else None)
from filbert.core.errors import FilbertError
from filbert.models import store
from filbert.models.gguf import check_split
store.list_models(); store.damaged(); store.clean()
for name in sys.argv[1:]:
    try: store.describe(model := store.resolve(name), check_split(model.parts))
    except FilbertError: pass
assert not calls, calls
assert "httpx" not in sys.modules and "huggingface_hub" not in sys.modules
print("silent")
"""


def test_gpt4all_telemetry_a_fresh_install_contacts_nothing(pulled) -> None:
    """Listing, showing and resolving open no socket at all, nor load what could."""
    names = [pulled.name, str(pulled.path), "smollm2:135m", "hf:a/b:Q4_0", "nonsense:1b"]
    done = subprocess.run([sys.executable, "-c", SILENT, *names], capture_output=True, text=True)
    assert done.stdout.strip() == "silent", done.stderr


def test_a_server_that_fails_leaves_the_models_that_are_there(pulled, origin, tiny) -> None:
    origin.refusals["/other.gguf"] = 500
    with pytest.raises(DownloadFailed):
        finish(store.pull(f"{origin.url}/other.gguf"))
    assert store.list_models() == [pulled]
    assert pulled.path.read_bytes() == tiny
